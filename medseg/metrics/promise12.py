"""The measures of the PROMISE12 challenge: a gland whole, at its base and at its apex, and a score.

Base and apex are the cranial and the caudal third of the slices in which the reference has the
gland. Both masks are cut there, and each part is measured as a structure of its own: Dice, 95 %
Hausdorff distance (the larger of the two directed percentiles), average boundary distance (all
distances of both surfaces in one mean) and absolute relative volume difference. Surfaces are those
of the voxel mode (see `metrics.surface`).

A score maps each measure linearly, so that a perfect one gets 100 points and one as good as a
second observer's 85. The observer's results are not constants of this module: see `Anchors`.

References:
    Litjens et al. 2014, doi:10.1016/j.media.2013.12.002. Which parts of this its text confirmed,
    and which are from memory or chosen here, is listed in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine
from medseg.core.errors import UsageError
from medseg.core.volume import Grid
from medseg.metrics import surface as sd
from medseg.metrics.counts import Counts, joint_histogram
from medseg.metrics.masks import require_same_shape
from medseg.metrics.overlap import dice, relative_volume_difference_percent
from medseg.metrics.value import Status, Value, measured, not_evaluated

Mask = NDArray[np.bool_]

REGIONS = {"whole": "", "base": "base_", "apex": "apex_"}
"""Parts of a gland, with what their measures' names start with."""

MEASURES = {"dice": "1", "hd95_mm": "mm", "assd_mm": "mm", "abs_rvd_percent": "%"}
"""What each part is measured by, with units; `assd_mm` is the average boundary distance."""

SURFACE_METRICS = frozenset(
    [f"{start}{measure}" for start in REGIONS.values() for measure in ("hd95_mm", "assd_mm")]
    + [f"{region}_{part}score" for region in REGIONS for part in ("hd95_", "assd_", "")]
    + ["score"]
)
"""Names of the values that depend on what a surface is."""

HAUSDORFF_PERCENT = 95.0
PERFECT_POINTS = 100.0
OBSERVER_POINTS = 85.0
POINTS = "points"

SUPERIOR = 2
"""The world axis that grows from feet to head."""


@dataclass(frozen=True)
class RegionAnchors:
    """The mean results of a second observer in one part of the gland.

    Attributes:
        dice: in [0, 1).
        hd95_mm: 95 % Hausdorff distance, positive.
        assd_mm: average boundary distance, positive.
        abs_rvd_percent: absolute relative volume difference, positive.

    Raises:
        UsageError: a number is outside its range.
    """

    dice: float
    hd95_mm: float
    assd_mm: float
    abs_rvd_percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.dice < 1:
            raise UsageError(f"the observer's Dice must be in [0, 1), not {self.dice}")
        for name in ("hd95_mm", "assd_mm", "abs_rvd_percent"):
            number = getattr(self, name)
            if not (math.isfinite(number) and number > 0):
                raise UsageError(f"the observer's {name} must be a positive number, not {number}")


@dataclass(frozen=True)
class Anchors:
    """The results of a second observer, which score 85 points.

    They have no default. Those of the challenge were measured on its own cases by its own readers
    and belong in a file, with their source.

    Attributes:
        whole, base, apex: of each part of the gland.
        source: where the numbers come from, for the record.
    """

    whole: RegionAnchors
    base: RegionAnchors
    apex: RegionAnchors
    source: str = ""


def thirds(reference: Mask, grid: Grid) -> dict[str, Mask]:
    """The slices of base and apex, each to be combined with a mask of the grid's shape by `&`.

    Slices are counted along the array axis nearest to superior, whichever that is. Of the n slices
    from the first to the last with a voxel of the reference, `(n + 1) // 3` at the cranial end are
    base and as many at the caudal end are apex: 14 slices are 5 base, 4 between and 5 apex; 13 are
    4, 5 and 4. What lies beyond the reference belongs to the end it lies beyond, so that a
    prediction that goes on too far is not overlooked.

    Args:
        reference: bool (I, J, K); a box cut out of the grid will do.
        grid: says where superior is.

    Returns:
        `base` and `apex`, bool, one voxel long along the other two axes; empty where the reference is.

    >>> mask = np.ones((1, 1, 14), bool)
    >>> {name: int(part.sum()) for name, part in thirds(mask, Grid(mask.shape, np.eye(4))).items()}
    {'base': 5, 'apex': 5}
    """
    world, signs = affine.axis_order(grid.affine)
    axis = world.index(SUPERIOR)
    others = tuple(n for n in range(3) if n != axis)
    present = np.flatnonzero(reference.any(axis=others))
    if not present.size:
        return {}
    first, last = int(present[0]), int(present[-1])
    each = (last - first + 2) // 3
    slices = np.expand_dims(np.arange(reference.shape[axis]), others)
    low, high = slices < first + each, slices > last - each
    return {"base": high, "apex": low} if signs[axis] > 0 else {"base": low, "apex": high}


def promise12_values(
    reference: Mask, predicted: Mask, grid: Grid, *, anchors: Anchors | None = None, threads: int = 1
) -> dict[str, Value]:
    """Every measure of one structure, by name; with anchors, also the scores.

    The names are those of `MEASURES`, alone for the whole gland and after `base_` and `apex_`.
    Scores, in points: `whole_dice_score`, `whole_hd95_score`, `whole_assd_score`, `whole_rvd_score`
    and so on for base and apex; `whole_score`, `base_score` and `apex_score`, the mean of each
    part's four; `score`, the mean of all twelve.

    Args:
        reference: bool (I, J, K).
        predicted: bool, the same shape.
        grid: of both.
        anchors: what is worth 85 points; without them there is no score.
        threads: for the nearest-point search.

    Raises:
        GridMismatchError: the shapes differ.
    """
    require_same_shape(reference, predicted)
    box = sd.solid_box(reference | predicted)
    if box is not None:
        reference, predicted = reference[box], predicted[box]
    counts = _counts(reference, predicted)
    parts = {"whole": _measured(reference, predicted, counts, grid, threads)}
    cuts = thirds(reference, grid)
    for region in ("base", "apex"):
        if region in cuts:
            cut = reference & cuts[region], predicted & cuts[region]
            parts[region] = _measured(*cut, _counts(*cut), grid, threads)
        else:
            parts[region] = {name: not_evaluated(unit) for name, unit in MEASURES.items()}
    out = {f"{REGIONS[region]}{name}": v for region, part in parts.items() for name, v in part.items()}
    return out if anchors is None else out | _scores(parts, anchors, counts.status)


def points(value: float, observer: float, perfect: float) -> float:
    """max(0, a value + b) with a and b such that `perfect` gets 100 and `observer` 85.

    >>> points(0.9, observer=0.9, perfect=1.0), points(6.0, observer=3.0, perfect=0.0)
    (85.0, 70.0)
    """
    lost = (PERFECT_POINTS - OBSERVER_POINTS) * ((value - perfect) / (observer - perfect))
    return max(0.0, PERFECT_POINTS - lost)


def _counts(reference: Mask, predicted: Mask) -> Counts:
    return joint_histogram(reference.view(np.uint8), predicted.view(np.uint8), (1,)).counts([1])


def _measured(reference: Mask, predicted: Mask, counts: Counts, grid: Grid, threads: int) -> dict[str, Value]:
    distances = sd.voxel_distances(reference, predicted, grid.spacing_mm, threads=threads)
    numbers = {
        "dice": dice(counts),
        "hd95_mm": sd.voxel_hausdorff_mm(distances, HAUSDORFF_PERCENT),
        "assd_mm": sd.average_mm(distances),
        "abs_rvd_percent": abs(relative_volume_difference_percent(counts)),
    }
    return {name: measured(numbers[name], unit, counts.status) for name, unit in MEASURES.items()}


def _scores(parts: Mapping[str, Mapping[str, Value]], anchors: Anchors, status: Status) -> dict[str, Value]:
    """All scores; a gland the prediction lacks fails as a whole and gets 0, whatever its volume would."""
    out: dict[str, Value] = {}
    every: list[float] = []
    for region, part in parts.items():
        found = {name: _score(name, part[name], getattr(anchors, region), status) for name in MEASURES}
        for name, number in found.items():
            out[f"{region}_{_short(name)}_score"] = measured(number, POINTS, part[name].status)
        known = [number for number in found.values() if not math.isnan(number)]
        out[f"{region}_score"] = measured(_mean(known), POINTS, status)
        every += known
    return out | {"score": measured(_mean(every), POINTS, status)}


def _score(name: str, value: Value, anchors: RegionAnchors, status: Status) -> float:
    if status == "pred_empty":
        return 0.0
    if value.value is None or status != "ok":
        return math.nan
    return points(value.value, getattr(anchors, name), perfect=1.0 if name == "dice" else 0.0)


def _short(measure: str) -> str:
    """The word for a measure in the name of its score.

    >>> [_short(name) for name in MEASURES]
    ['dice', 'hd95', 'assd', 'rvd']
    """
    return measure.removeprefix("abs_").partition("_")[0]


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan
