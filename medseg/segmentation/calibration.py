"""Calibration of a model's volumes and confidence on cases with a reference.

What is learnt is stored in the model file and comes with every prediction: an interval for each volume, the
Dice to expect, and what scans and results of the usual kind look like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.findings.answer import LIKENESS_SLACK
from medseg.findings.labels import component_counts
from medseg.metrics.conformal import COVERAGE, Line, calibrated_line, conformal_interval, least_cases
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.segmentation.segmenter import Segmentation

LEAST_SPREAD = 0.02
"""Of a feature: logarithms, probabilities, mm and normalised intensities all vary by more."""

SHIFTED_COVERAGE = 0.85
"""Share of shifted cases that the Dice interval must hold for the expected Dice to be shown on a page."""

Evidence = dict[str, Any]


@dataclass(frozen=True)
class Observation:
    """One case with a reference, as predicted by a model.

    Attributes:
        predicted_ml, reference_ml: volume of each structure, 0 where there is none.
        dice: of each structure that prediction or reference has.
        estimated_dice: what the model's probabilities promised for each structure it labelled.
        features: of scan and result.
        pieces: number of components of each labelled structure, specks left out.
    """

    predicted_ml: Mapping[str, float]
    reference_ml: Mapping[str, float]
    dice: Mapping[str, float]
    estimated_dice: Mapping[str, float]
    features: Mapping[str, float]
    pieces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """Expected accuracy of one structure in a new case.

    Attributes:
        interval_ml: that holds the volume of a reference segmentation with the calibrated probability; None
            where too few cases were there to tell.
        dice: with a reference segmentation.
        dice_interval: that holds it.
    """

    interval_ml: tuple[float, float] | None = None
    dice: float | None = None
    dice_interval: tuple[float, float] | None = None

    def content(self) -> dict[str, Any]:
        """What `scan_seg.json` says of it: only what is known."""
        out: dict[str, Any] = {}
        if self.interval_ml is not None:
            out["interval_ml"] = [round(end, 6) for end in self.interval_ml]
        if self.dice is not None and self.dice_interval is not None:
            out |= {"expected_dice": round(self.dice, 4)}
            out |= {"expected_dice_interval": [round(end, 4) for end in self.dice_interval]}
        return out


def observed(found: Segmentation, reference: LabelMap) -> Observation:
    """A prediction beside the reference on the same grid."""
    found.labels.grid.require(reference.grid, "prediction and reference")
    counts = joint_counts(reference.array, found.labels.array, found.structures)
    grid = reference.grid
    scores = {name: dice(c) for name, c in counts.items()}
    return Observation(
        {name: grid.volume_ml(c.predicted) for name, c in counts.items()},
        {name: grid.volume_ml(c.reference) for name, c in counts.items()},
        {name: score for name, score in scores.items() if not math.isnan(score)},
        found.estimated_dice,
        found.features,
        component_counts(found.labels.array, found.structures),
    )


def calibrated(cases: Sequence[Observation], structures: StructureSet) -> Evidence:
    """Calibration by the cases, as entries of `ModelSpec.evidence`: `calibration`, `usual` and `pieces`.

    Args:
        cases: that the model was not trained on.
        structures: of the model.
    """
    found = {s.name: _of_structure(s.name, cases) for s in structures}
    out: Evidence = {"calibration": {"coverage": COVERAGE, "n": len(cases), "structures": found}}
    if len(cases) >= least_cases():
        out["usual"] = _usual([case.features for case in cases])
        out["pieces"] = {s.name: max(1, *(case.pieces.get(s.name, 0) for case in cases)) for s in structures}
    return out


def expectations(
    volumes_ml: Mapping[str, float], estimated_dice: Mapping[str, float], evidence: Mapping[str, Any]
) -> dict[str, Expected]:
    """Expected accuracy of each structure in a new case, by name.

    Args:
        volumes_ml: predicted.
        estimated_dice: see `Observation`.
        evidence: of the model; without a calibration nothing is expected.
    """
    known = evidence.get("calibration", {}).get("structures", {})
    return {
        name: _expected(ml, estimated_dice.get(name), known.get(name, {})) for name, ml in volumes_ml.items()
    }


def may_show_dice(evidence: Mapping[str, Any]) -> bool:
    """Whether the Dice to expect was also right on scans made unlike those it was learnt from."""
    shifted = evidence.get("calibration", {}).get("shifted")
    return bool(shifted) and shifted["dice_coverage"] >= SHIFTED_COVERAGE


def coverage(cases: Sequence[Observation], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Share of the structures of new cases that the intervals hold.

    Returns:
        `volume_coverage` and `dice_coverage`, in [0, 1], with the number of structures `volumes` and `dices`
        that have an interval; a share of none is None.
    """
    volumes, scores = [], []
    for case in cases:
        for name, expected in expectations(case.predicted_ml, case.estimated_dice, evidence).items():
            if expected.interval_ml is not None:
                low, high = expected.interval_ml
                volumes.append(low <= case.reference_ml[name] <= high)
            if expected.dice_interval is not None and name in case.dice:
                low, high = expected.dice_interval
                scores.append(low <= case.dice[name] <= high)
    return {
        "volume_coverage": float(np.mean(volumes)) if volumes else None,
        "volumes": len(volumes),
        "dice_coverage": float(np.mean(scores)) if scores else None,
        "dices": len(scores),
    }


def _of_structure(name: str, cases: Sequence[Observation]) -> Evidence:
    """Ends of log(reference / prediction), and the line from the estimated Dice to the true one."""
    seen = [c for c in cases if c.predicted_ml[name] > 0]  # so that no ratio is +inf
    with np.errstate(divide="ignore"):
        ratios = np.log([c.reference_ml[name] / c.predicted_ml[name] for c in seen])
    promised = [c for c in seen if name in c.estimated_dice and name in c.dice]
    line = calibrated_line(
        np.array([c.estimated_dice[name] for c in promised]), np.array([c.dice[name] for c in promised])
    )
    out: Evidence = {"n": len(seen)}
    ends = conformal_interval(ratios)
    if ends is not None:
        out["volume_log_ratio"] = [None if math.isinf(end) else end for end in ends]
    if line is not None:
        out["dice"] = asdict(line)
    return out


def _expected(ml: float, estimate: float | None, known: Mapping[str, Any]) -> Expected:
    if not ml:
        return Expected()
    interval = None
    if "volume_log_ratio" in known:
        low, high = known["volume_log_ratio"]
        interval = (0.0 if low is None else ml * math.exp(low), ml * math.exp(high))
    if estimate is None or "dice" not in known:
        return Expected(interval)
    middle, low, high = (min(1.0, max(0.0, v)) for v in Line(**known["dice"]).at(estimate))
    return Expected(interval, middle, (low, high))


def _usual(cases: Sequence[Mapping[str, float]]) -> Evidence:
    """Mean and standard deviation of every feature that all cases have, and how far a case may be from them.

    The limit comes from the case that is furthest from all the others.
    """
    names = [name for name in cases[0] if all(name in case for case in cases)]
    values = np.array([[case[name] for name in names] for case in cases])
    furthest = 0.0
    for n in range(len(cases)):
        others = np.delete(values, n, axis=0)
        furthest = max(furthest, float((np.abs(values[n] - others.mean(axis=0)) / _spread(others)).max()))
    pairs = zip(values.mean(axis=0).round(4).tolist(), _spread(values).round(4).tolist(), strict=True)
    return {
        "n": len(cases),
        "limit": round(LIKENESS_SLACK * furthest, 2),
        "features": {name: list(pair) for name, pair in zip(names, pairs, strict=True)},
    }


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each feature, (n, features) to (features,)."""
    return np.asarray(np.maximum(values.std(axis=0), LEAST_SPREAD))
