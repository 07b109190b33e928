"""Instance-wise metrics: which connected components were found, and how well (panoptic quality).

Reference and prediction of one structure fall into instances: connected components, or those that a map of
numbers tells apart. An instance of each match when their IoU is above a threshold; at 0.5 and above none can
have two matches. Below, the pairs are taken by descending IoU, and each instance is matched once.

- Recognition quality RQ = TP / (TP + FP / 2 + FN / 2), the F1 of the components;
- segmentation quality SQ = the mean IoU of the matches;
- panoptic quality PQ = SQ RQ = (sum of their IoU) / (TP + FP / 2 + FN / 2).

References:
    Kirillov et al. 2019, Panoptic Segmentation, arXiv:1801.00868, section 4.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import union
from medseg.core.components import Neighbours, components
from medseg.core.errors import UsageError, unknown_name
from medseg.metrics import surface as sd
from medseg.metrics.borders import Labels
from medseg.metrics.masks import require_same_shape
from medseg.metrics.value import Status, Value, measured

Kind = Literal["components", "values", "maps"]

UNITS = {
    "pq": "1",
    "sq": "1",
    "rq": "1",
    "instances_matched": "1",
    "instances_missed": "1",
    "instances_extra": "1",
}
"""Names of the values, with their units."""


@dataclass(frozen=True)
class InstanceRule:
    """The constants of instance matching.

    Attributes:
        least_iou: components match when their IoU is above this.
        connectivity: neighbours that belong to the same component: 6 across faces, 18 also across
            edges, 26 also across corners. In an image of one slice 26 are the 8 of the plane.
        of: what an instance is: a connected component, all voxels of one label value, or what has one number
            in a map of instances.

    Raises:
        UsageError: a constant makes no sense.

    >>> InstanceRule(least_iou=0.1).connectivity
    26
    """

    least_iou: float = 0.5
    connectivity: Neighbours = 26
    of: Kind = "components"

    def __post_init__(self) -> None:
        if self.of not in get_args(Kind):
            raise unknown_name("kind of instances", self.of, get_args(Kind))
        if self.connectivity not in get_args(Neighbours):
            raise UsageError(f"connectivity must be 6, 18 or 26, not {self.connectivity}")
        if not 0 <= self.least_iou < 1:
            raise UsageError(f"least_iou must be in [0, 1), not {self.least_iou}")


@dataclass(frozen=True)
class InstanceMatch:
    """The instances of one structure.

    Attributes:
        iou: of each matched pair, descending.
        missed: components of the reference without a match.
        extra: components of the prediction without a match.
    """

    iou: tuple[float, ...]
    missed: int
    extra: int

    @property
    def recognition_quality(self) -> float:
        """RQ, in [0, 1]; NaN when neither side has a component."""
        whole = len(self.iou) + (self.missed + self.extra) / 2
        return len(self.iou) / whole if whole else math.nan

    @property
    def segmentation_quality(self) -> float:
        """SQ, in [0, 1]; NaN when nothing matches."""
        return math.fsum(self.iou) / len(self.iou) if self.iou else math.nan

    @property
    def panoptic_quality(self) -> float:
        """PQ, in [0, 1]; 0 when nothing matches, NaN when neither side has a component."""
        whole = len(self.iou) + (self.missed + self.extra) / 2
        return math.fsum(self.iou) / whole if whole else math.nan

    @property
    def status(self) -> Status:
        """Which side has no component."""
        reference, predicted = (bool(self.iou or alone) for alone in (self.missed, self.extra))
        if reference:
            return "ok" if predicted else "pred_empty"
        return "ref_empty" if predicted else "both_empty"


def match_instances(
    reference: Labels,
    predicted: Labels,
    count: int,
    rule: InstanceRule | None = None,
    numbers: tuple[Labels, Labels] | None = None,
) -> tuple[InstanceMatch, ...]:
    """Find the instances of a reference in a prediction, for every label in one pass.

    Args:
        reference: labels (I, J, K) from 0, the background, to `count`.
        predicted: labels of the same shape.
        count: the largest label.
        rule: the constants; by default those of `InstanceRule`.
        numbers: of the instances of reference and prediction, of the same shape, 0 for none; what has one
            number in two labels are two instances. None takes connected components.

    Returns:
        For each label from 1 to `count`.

    Raises:
        GridMismatchError: the shapes differ.
    """
    rule = rule or InstanceRule()
    require_same_shape(reference, predicted)
    boxes = [box for box in map(sd.solid_box, (reference, predicted)) if box is not None]
    if not boxes:
        return (InstanceMatch((), 0, 0),) * count
    box = union(boxes)
    if numbers is None:
        here, there = (_Pieces.of(labels[box], rule) for labels in (reference, predicted))
    else:
        sides = zip((reference, predicted), numbers, strict=True)
        here, there = (_Pieces.given(labels[box], known[box]) for labels, known in sides)
    iou = _matched(here, there, rule.least_iou)
    missed, extra = (np.bincount(side.labels[1:], minlength=count + 1) for side in (here, there))
    return tuple(
        InstanceMatch(tuple(iou[n]), int(missed[n]) - len(iou[n]), int(extra[n]) - len(iou[n]))
        for n in range(1, count + 1)
    )


def instance_values(match: InstanceMatch) -> dict[str, Value]:
    """The values of one structure, by the names of `UNITS`."""
    numbers = {
        "pq": match.panoptic_quality,
        "sq": match.segmentation_quality,
        "rq": match.recognition_quality,
        "instances_matched": len(match.iou),
        "instances_missed": match.missed,
        "instances_extra": match.extra,
    }
    return {name: measured(numbers[name], unit, match.status) for name, unit in UNITS.items()}


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The connected components of one map, numbered from 1.

    Attributes:
        numbers: of each voxel's component, 0 in the background.
        sizes: voxels of each component.
        labels: of each component.
    """

    numbers: NDArray[np.unsignedinteger]
    sizes: NDArray[np.intp]
    labels: NDArray[np.integer]

    @classmethod
    def of(cls, labels: Labels, rule: InstanceRule) -> _Pieces:
        labels = np.ascontiguousarray(labels)
        numbers = components(labels, rule.connectivity)
        sizes = np.bincount(numbers.reshape(-1))
        own = np.zeros(sizes.size, labels.dtype)
        own[numbers] = labels
        return cls(numbers, sizes, own)

    @classmethod
    def given(cls, labels: Labels, numbers: Labels) -> _Pieces:
        inside = (labels > 0) & (numbers > 0)
        pairs = np.stack((labels[inside], numbers[inside]), axis=1).astype(np.int64)
        found, places, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        renumbered = np.zeros(labels.shape, np.uint32)
        renumbered[inside] = places.reshape(-1) + 1
        sizes = np.concatenate(([labels.size - len(pairs)], counts)).astype(np.intp)
        return cls(renumbered, sizes, np.concatenate(([0], found[:, 0])))


def _matched(here: _Pieces, there: _Pieces, least_iou: float) -> defaultdict[int, list[float]]:
    """IoU of the pairs that match, descending, by label."""
    both = (here.numbers > 0) & (there.numbers > 0)
    joined = here.numbers[both].astype(np.int64) * there.sizes.size + there.numbers[both]
    pairs, shared = np.unique(joined, return_counts=True)
    first, second = np.divmod(pairs, there.sizes.size)
    iou = shared / (here.sizes[first] + there.sizes[second] - shared)
    possible = np.flatnonzero((iou > least_iou) & (here.labels[first] == there.labels[second]))
    taken: tuple[set[int], set[int]] = (set(), set())
    out: defaultdict[int, list[float]] = defaultdict(list)
    for n in possible[np.argsort(-iou[possible], kind="stable")].tolist():
        pair = int(first[n]), int(second[n])
        if pair[0] not in taken[0] and pair[1] not in taken[1]:
            taken[0].add(pair[0])
            taken[1].add(pair[1])
            out[int(here.labels[pair[0]])].append(float(iou[n]))
    return out
