"""Calibration of a model's volumes and confidence on cases with a reference.

What is learnt is stored in the model file and comes with every prediction: an interval for each volume, the
Dice to expect, and what scans and results of the usual kind look like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.findings.labels import component_counts
from medseg.findings.prediction import LIKENESS_SLACK
from medseg.metrics.conformal import COVERAGE, calibrated_line, conformal_interval, least_cases
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.model.evidence import Calibration, Coverage, Evidence, StructureCalibration, Usual
from medseg.segmentation.result import Segmentation

LEAST_SPREAD = 0.02
"""Of a feature: logarithms, probabilities, mm and normalised intensities all vary by more."""

SHIFTED_COVERAGE = 0.85
"""Share of shifted cases that the Dice interval must hold for the expected Dice to be shown on a page."""


@dataclass(frozen=True)
class Observation:
    """One case with a reference, as predicted by a model.

    Attributes:
        predicted_ml, reference_ml: volume of each structure, 0 if absent.
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
        interval_ml: contains the volume of a reference segmentation with the calibrated probability; None
            where too few cases were there to tell.
        dice: with a reference segmentation.
        dice_interval: contains it with that probability.
    """

    interval_ml: tuple[float, float] | None = None
    dice: float | None = None
    dice_interval: tuple[float, float] | None = None


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
    """What the cases teach: the `calibration`, `usual` and `pieces` of a model's evidence.

    Args:
        cases: that the model was not trained on.
        structures: of the model.
    """
    found = {s.name: _of_structure(s.name, cases) for s in structures}
    calibration = Calibration(COVERAGE, len(cases), found)
    if len(cases) < least_cases():
        return Evidence(calibration=calibration)
    pieces = {s.name: max(1, *(case.pieces.get(s.name, 0) for case in cases)) for s in structures}
    return Evidence(calibration=calibration, usual=_usual([case.features for case in cases]), pieces=pieces)


def expectations(
    volumes_ml: Mapping[str, float], estimated_dice: Mapping[str, float], evidence: Evidence
) -> dict[str, Expected]:
    """Expected accuracy of each structure in a new case, by name.

    Args:
        volumes_ml: predicted.
        estimated_dice: see `Observation`.
        evidence: of the model; without a calibration nothing is expected.
    """
    known = {} if evidence.calibration is None else evidence.calibration.structures
    return {
        name: _expected(ml, estimated_dice.get(name), known.get(name, StructureCalibration()))
        for name, ml in volumes_ml.items()
    }


def may_show_dice(evidence: Evidence) -> bool:
    """Whether the Dice to expect was also right on scans made unlike those it was learnt from."""
    shifted = None if evidence.calibration is None else evidence.calibration.shifted
    held = None if shifted is None else shifted.dice_coverage
    return held is not None and held >= SHIFTED_COVERAGE


def coverage(cases: Sequence[Observation], evidence: Evidence) -> Coverage:
    """Share of the structures of new cases whose value is within the intervals."""
    volumes, scores = [], []
    for case in cases:
        for name, expected in expectations(case.predicted_ml, case.estimated_dice, evidence).items():
            if expected.interval_ml is not None:
                low, high = expected.interval_ml
                volumes.append(low <= case.reference_ml[name] <= high)
            if expected.dice_interval is not None and name in case.dice:
                low, high = expected.dice_interval
                scores.append(low <= case.dice[name] <= high)
    return Coverage(_share(volumes), len(volumes), _share(scores), len(scores))


def _share(held: Sequence[bool]) -> float | None:
    return float(np.mean(held)) if held else None


def _of_structure(name: str, cases: Sequence[Observation]) -> StructureCalibration:
    """Ends of log(reference / prediction), and the line from the estimated Dice to the true one."""
    seen = [c for c in cases if c.predicted_ml[name] > 0]  # so that no ratio is +inf
    with np.errstate(divide="ignore"):
        ratios = np.log([c.reference_ml[name] / c.predicted_ml[name] for c in seen])
    promised = [c for c in seen if name in c.estimated_dice and name in c.dice]
    line = calibrated_line(
        np.array([c.estimated_dice[name] for c in promised]), np.array([c.dice[name] for c in promised])
    )
    found = conformal_interval(ratios)
    ends = None if found is None else (_finite(found[0]), _finite(found[1]))
    return StructureCalibration(len(seen), ends, line)


def _finite(end: float) -> float | None:
    return None if math.isinf(end) else end


def _expected(ml: float, estimate: float | None, known: StructureCalibration) -> Expected:
    if not ml:
        return Expected()
    interval = None
    if known.volume_log_ratio is not None:
        low, high = (0.0 if end is None else ml * math.exp(end) for end in known.volume_log_ratio)
        interval = (low, high)
    if estimate is None or known.dice is None:
        return Expected(interval)
    middle, low, high = (min(1.0, max(0.0, v)) for v in known.dice.at(estimate))
    return Expected(interval, middle, (low, high))


def _usual(cases: Sequence[Mapping[str, float]]) -> Usual:
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
    limit = round(LIKENESS_SLACK * furthest, 2)
    return Usual(len(cases), limit, dict(zip(names, pairs, strict=True)))


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each feature, (n, features) to (features,)."""
    return np.asarray(np.maximum(values.std(axis=0), LEAST_SPREAD))
