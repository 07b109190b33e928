"""Lesion-wise metrics by the rule of the BraTS 2023 challenges.

The reference is dilated a few steps, and its voxels within one connected component of the result are
one lesion: small satellites belong to what they lie beside. The prediction falls into connected
components, not dilated. All components that touch the dilated lesion are its prediction, and Dice and HD95
compare them whole with the lesion as the reference has it. A lesion that no component touches is missed;
a component that touches no lesion is extra. Missed and extra ones enter the means with the penalty.
Lesions up to the smallest volume are left out, but a component that touches one is not extra. Extra
components count whatever their size.

Distances are those of the surfel mode (see `metrics.surface`).

References:
    The challenge's published implementation, https://github.com/rachitsaluja/BraTS-2023-Metrics;
    its description, https://www.synapse.org/Synapse:syn51156910/discussion/threadId=10357; the
    challenge, arXiv:2305.17033.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Slices, label_boxes, union
from medseg.core.components import Neighbours, components
from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid
from medseg.metrics import surface as sd
from medseg.metrics.counts import Counts
from medseg.metrics.masks import require_same_shape
from medseg.metrics.overlap import dice
from medseg.metrics.value import Status, Value, measured

Mask = NDArray[np.bool_]
Pieces = NDArray[np.unsignedinteger]

HAUSDORFF_PERCENT = 95.0

SAME_VOLUME = 1e-6
"""Volumes this close, relatively, are equal: headers hold spacings as float32."""

BRATS2023_REGIONS = StructureSet(
    (
        Structure(2, "whole tumour", colour="#56b4e9", members=(1, 2, 3)),
        Structure(1, "tumour core", colour="#f0e442", members=(1, 3)),
        Structure(3, "enhancing tumour", colour="#d55e00", members=(3,)),
    )
)
"""The regions in the label values of 2023: 1 core that does not enhance, 2 oedema, 3 enhancing."""

UNITS = {
    "lesion_dice": "1",
    "lesion_hd95_mm": "mm",
    "lesion_f1": "1",
    "lesion_recall": "1",
    "lesions_found": "1",
    "lesions_missed": "1",
    "lesions_extra": "1",
    "lesions_ignored": "1",
}
"""Names of the lesion-wise values, with their units."""

SURFACE_METRICS = frozenset({"lesion_hd95_mm"})
"""Names of the values that depend on what a surface is."""


@dataclass(frozen=True)
class LesionRule:
    """The constants of lesion-wise measurement; the defaults are those for gliomas in 2023.

    Attributes:
        dilation_steps: how often the reference is dilated; 0 leaves it as it is.
        dilation_neighbours: voxels that one step adds around a voxel: 6 across faces, 18 also across
            edges, 26 also across corners.
        connectivity: neighbours that belong to the same component, likewise.
        smallest_volume_mm3: a lesion of this volume or less is left out.
        penalty_dice: of a missed lesion or an extra component.
        penalty_hd95_mm: of a missed lesion or an extra component.

    Raises:
        UsageError: a constant makes no sense.
    """

    dilation_steps: int = 3
    dilation_neighbours: Neighbours = 18
    connectivity: Neighbours = 26
    smallest_volume_mm3: float = 50.0
    penalty_dice: float = 0.0
    penalty_hd95_mm: float = 374.0

    def __post_init__(self) -> None:
        for name in ("dilation_neighbours", "connectivity"):
            if getattr(self, name) not in get_args(Neighbours):
                raise UsageError(f"{name} must be 6, 18 or 26, not {getattr(self, name)}")
        for name in ("dilation_steps", "smallest_volume_mm3", "penalty_dice", "penalty_hd95_mm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be finite and not negative, not {getattr(self, name)}")


GLIOMA = LesionRule()
MENINGIOMA = LesionRule(dilation_steps=1)
METASTASES = LesionRule(dilation_steps=1, smallest_volume_mm3=2.0)
"""The rules of the challenges on gliomas (adult, paediatric, of Sub-Saharan Africa), meningiomas and
metastases; published implementation, version of 2023."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference, with what the prediction has of it.

    Attributes:
        volume_ml: in the reference.
        predicted_ml: of all components that touch it, dilated.
        pieces: number of those components; 0 for a missed lesion.
        dice: of the lesion and its components, in [0, 1]; the penalty when missed.
        hd95_mm: of the lesion and its components; the penalty when missed.
        counted: it is larger than the smallest volume.
    """

    volume_ml: float
    predicted_ml: float
    pieces: int
    dice: float
    hd95_mm: float
    counted: bool


LesionOutcome = Literal["found", "missed", "extra", "left out", "labelled"]


@dataclass(frozen=True)
class LesionRow:
    """One lesion of the reference, or one component of the prediction that belongs to none.

    Attributes:
        structure: it is one of.
        outcome: found or missed; extra for a component that touches no lesion; left out for a lesion too
            small to count; labelled for a component where there is no reference.
        reference_ml: of the lesion; None for a component.
        predicted_ml: of the component, or of all components that touch the lesion.
        dice: of the lesion and its components; None where there are not both.
        hd95_mm: likewise.
    """

    structure: str
    outcome: LesionOutcome
    reference_ml: float | None = None
    predicted_ml: float | None = None
    dice: float | None = None
    hd95_mm: float | None = None


@dataclass(frozen=True)
class LesionMatch:
    """The lesions of one structure of one case.

    Attributes:
        lesions: of the reference, the largest first, left-out ones included.
        extra_ml: volumes of the components that touch no lesion, the largest first.
        rule: the constants.
    """

    lesions: tuple[Lesion, ...]
    extra_ml: tuple[float, ...]
    rule: LesionRule

    @property
    def counted(self) -> tuple[Lesion, ...]:
        return tuple(lesion for lesion in self.lesions if lesion.counted)

    @property
    def found(self) -> int:
        """Counted lesions that a component touches: true positives."""
        return sum(lesion.pieces > 0 for lesion in self.counted)

    @property
    def missed(self) -> int:
        """Counted lesions that none touches: false negatives."""
        return len(self.counted) - self.found

    @property
    def extra(self) -> int:
        """Components that touch no lesion: false positives."""
        return len(self.extra_ml)

    @property
    def dice(self) -> float:
        """Mean over counted lesions and extra components; 1 when there are none."""
        return self._mean((lesion.dice for lesion in self.counted), self.rule.penalty_dice, 1.0)

    @property
    def hd95_mm(self) -> float:
        """Mean over counted lesions and extra components; 0 when there are none."""
        return self._mean((lesion.hd95_mm for lesion in self.counted), self.rule.penalty_hd95_mm, 0.0)

    @property
    def recall(self) -> float:
        """Found / (found + missed); NaN when no lesion counts."""
        return self.found / len(self.counted) if self.counted else math.nan

    @property
    def f1(self) -> float:
        """2 found / (2 found + extra + missed); NaN when there is nothing to find and nothing extra."""
        whole = 2 * self.found + self.extra + self.missed
        return 2 * self.found / whole if whole else math.nan

    @property
    def status(self) -> Status:
        """Which side has nothing that counts: lesions of the reference, or components found or extra."""
        if not self.counted:
            return "ref_empty" if self.extra else "both_empty"
        return "ok" if self.found or self.extra else "pred_empty"

    def _mean(self, numbers: Iterable[float], penalty: float, of_nothing: float) -> float:
        n = len(self.counted) + self.extra
        return math.fsum((*numbers, self.extra * penalty)) / n if n else of_nothing


def match_lesions(
    reference: Mask, predicted: Mask, grid: Grid, rule: LesionRule = GLIOMA, *, threads: int = 1
) -> LesionMatch:
    """Find the lesions of a reference in a prediction.

    Args:
        reference: bool (I, J, K), one structure.
        predicted: bool, the same shape.
        grid: of both.
        rule: the constants.
        threads: for the nearest-point search.

    Raises:
        GridMismatchError: the shapes differ.
    """
    require_same_shape(reference, predicted)
    # Dilated lesions that meet outside this box meet inside it too, at the voxels nearest to there.
    box = sd.solid_box(reference | predicted)
    if box is None:
        return LesionMatch((), (), rule)
    pair = _Pair(reference[box], predicted[box], grid, rule)
    lesions = [pair.lesion(n, threads) for n in range(1, len(pair.zone_boxes) + 1)]
    return LesionMatch(
        tuple(sorted(lesions, key=lambda lesion: (-lesion.volume_ml, -lesion.dice))),
        tuple(sorted(pair.extra_ml(), reverse=True)),
        rule,
    )


def lesion_values(
    reference: Mask, predicted: Mask, grid: Grid, rule: LesionRule = GLIOMA, *, threads: int = 1
) -> dict[str, Value]:
    """The lesion-wise values of one structure, by the names of `UNITS`; arguments as `match_lesions`."""
    match = match_lesions(reference, predicted, grid, rule, threads=threads)
    numbers = {
        "lesion_dice": match.dice,
        "lesion_hd95_mm": match.hd95_mm,
        "lesion_f1": match.f1,
        "lesion_recall": match.recall,
        "lesions_found": match.found,
        "lesions_missed": match.missed,
        "lesions_extra": match.extra,
        "lesions_ignored": len(match.lesions) - len(match.counted),
    }
    return {name: measured(numbers[name], unit, match.status) for name, unit in UNITS.items()}


def lesion_rows(
    labels: NDArray[np.integer],
    reference: NDArray[np.integer] | None,
    grid: Grid,
    structures: StructureSet,
    names: Sequence[str],
    rule: LesionRule = GLIOMA,
) -> tuple[LesionRow, ...]:
    """The lesions of the structures named; without a reference, the labelled components.

    Args:
        labels: label values of the prediction, (I, J, K).
        reference: label values of the reference, (I, J, K).
        grid: of both.
        structures: what the values mean.
        names: of the structures.
        rule: when a lesion is found; see the module.

    Raises:
        UsageError: there is no structure of that name.
    """
    rows: list[LesionRow] = []
    for name in dict.fromkeys(names):
        structure = structures[name]
        predicted = structures.mask(labels, structure)
        true = np.zeros_like(predicted) if reference is None else structures.mask(reference, structure)
        match = match_lesions(true, predicted, grid, rule)
        for lesion in match.lesions:
            both = lesion.pieces > 0
            row = LesionRow(name, _outcome(lesion), lesion.volume_ml, lesion.predicted_ml)
            rows.append(replace(row, dice=lesion.dice, hd95_mm=lesion.hd95_mm) if both else row)
        alone: LesionOutcome = "labelled" if reference is None else "extra"
        rows += [LesionRow(name, alone, None, ml) for ml in match.extra_ml]
    return tuple(rows)


def _outcome(lesion: Lesion) -> LesionOutcome:
    if not lesion.counted:
        return "left out"
    return "found" if lesion.pieces else "missed"


class _Pair:
    """Zones (the dilated lesions) and components of one structure, numbered from 1, and who touches whom."""

    def __init__(self, reference: Mask, predicted: Mask, grid: Grid, rule: LesionRule) -> None:
        zones = _connected(_dilated(reference, rule), rule)
        self.pieces = _connected(predicted, rule)
        self.lesions = np.where(reference, zones, 0)
        self.zone_boxes = _boxes(zones)
        self.piece_boxes = _boxes(self.pieces)
        self.lesion_voxels = _sizes(self.lesions, len(self.zone_boxes))
        self.piece_voxels = _sizes(self.pieces, len(self.piece_boxes))
        self.touching = _touching(zones, self.pieces)
        self.grid, self.rule = grid, rule

    def lesion(self, number: int, threads: int) -> Lesion:
        """One lesion. Its zone is what its own dilation covers: zones of two lesions never meet."""
        numbers = self.touching[self.touching[:, 0] == number, 1]
        voxels, predicted = int(self.lesion_voxels[number]), int(self.piece_voxels[numbers].sum())
        overlap, hd95_mm = self.rule.penalty_dice, self.rule.penalty_hd95_mm
        if numbers.size:
            overlap, hd95_mm = self._compared(number, numbers, threads)
        return Lesion(
            volume_ml=self.grid.volume_ml(voxels),
            predicted_ml=self.grid.volume_ml(predicted),
            pieces=int(numbers.size),
            dice=overlap,
            hd95_mm=hd95_mm,
            counted=voxels * self.grid.voxel_volume_mm3 > self.rule.smallest_volume_mm3 * (1 + SAME_VOLUME),
        )

    def extra_ml(self) -> list[float]:
        known = set(self.touching[:, 1].tolist())
        extra = [n for n in range(1, len(self.piece_boxes) + 1) if n not in known]
        return [self.grid.volume_ml(int(self.piece_voxels[n])) for n in extra]

    def _compared(self, number: int, numbers: NDArray[np.integer], threads: int) -> tuple[float, float]:
        """Dice and HD95 of a lesion and its components, within the box around them."""
        boxes = [self.zone_boxes[number], *(self.piece_boxes[n] for n in numbers.tolist())]
        box = sd.solid(union(boxes), self.pieces.shape)
        lesion, pieces = self.lesions[box] == number, np.isin(self.pieces[box], numbers)
        tp = int(np.count_nonzero(lesion & pieces))
        counts = Counts(tp, int(pieces.sum()) - tp, int(lesion.sum()) - tp, tn=0)
        distances = sd.surfel_distances(lesion, pieces, self.grid.spacing_mm, threads=threads)
        return dice(counts), sd.hausdorff_mm(distances, HAUSDORFF_PERCENT)


def _dilated(mask: Mask, rule: LesionRule) -> Mask:
    if not rule.dilation_steps:  # to SciPy, 0 steps means as many as change something
        return mask
    from scipy import ndimage  # slow to import

    step = ndimage.generate_binary_structure(3, (6, 18, 26).index(rule.dilation_neighbours) + 1)
    return np.asarray(ndimage.binary_dilation(mask, step, iterations=rule.dilation_steps))


def _connected(mask: Mask, rule: LesionRule) -> Pieces:
    return components(mask, rule.connectivity)


def _boxes(components: NDArray[np.integer]) -> dict[int, Slices]:
    """The box of each component, of which there is one for every number."""
    return label_boxes(components, range(1, int(components.max(initial=0)) + 1))


def _sizes(numbered: Pieces, count: int) -> NDArray[np.int64]:
    return np.bincount(numbered.ravel(), minlength=count + 1)


def _touching(zones: Pieces, pieces: Pieces) -> NDArray[np.int64]:
    """Pairs (zone, component) that share a voxel, (N, 2)."""
    both = (zones > 0) & (pieces > 0)
    pairs = np.stack((zones[both], pieces[both]), axis=1).astype(np.int64)
    return np.unique(pairs, axis=0)
