"""Every metric of every structure of one case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg import affine
from medseg.errors import UsageError
from medseg.metrics import surface as sd
from medseg.metrics.counts import (
    Counts,
    histogram_of_indices,
    index_map,
    label_values,
    members_of,
    present_values,
)
from medseg.metrics.overlap import overlap_values, volume_ml
from medseg.metrics.value import Status, Value, measured, not_evaluated
from medseg.structures import Side, Structure, StructureSet
from medseg.volume import Grid, LabelMap

SurfaceMode = Literal["surfel", "voxel"]
Tolerance = Mapping[str, float] | float | None

HAUSDORFF_PERCENT = 95.0

SHEAR_WARNING_DEGREES = 0.1

LISTED_VALUES = 5

SURFACE_UNITS: dict[SurfaceMode, dict[str, str]] = {
    "surfel": {"hd95_mm": "mm", "hd100_mm": "mm", "assd_mm": "mm", "nsd": "1"},
    "voxel": {
        "hd95_mm": "mm",
        "hd100_mm": "mm",
        "hd95_pooled_mm": "mm",
        "assd_mm": "mm",
        "masd_mm": "mm",
    },
}
"""Surface metrics of each mode, in table order, with their units."""


@dataclass(frozen=True)
class StructureResult:
    """What was measured of one structure.

    Attributes:
        name: of the structure.
        label: its value.
        members: label values a region unites; empty for a plain label.
        side: left, right or none.
        status: whether both masks have voxels, or which has none.
        counts: voxels.
        volume_ref_ml: of the reference.
        volume_pred_ml: of the prediction.
        touches_fov: one of the masks reaches the edge of the image, so the structure may be cut.
        tau_mm: tolerance of the NSD; None where it was not evaluated.
        metrics: by name: dice, jaccard, recall, precision, volume_diff_ml, rvd_percent, and those
            of `SURFACE_UNITS`.
    """

    name: str
    label: int
    members: tuple[int, ...]
    side: Side
    status: Status
    counts: Counts
    volume_ref_ml: float
    volume_pred_ml: float
    touches_fov: bool
    tau_mm: float | None
    metrics: Mapping[str, Value]


@dataclass(frozen=True)
class CaseResult:
    """The structures of one case, in the order of the structure set.

    Attributes:
        case_id: what the case is called; text from a file name.
        rows: one a structure.
        grid: of reference and prediction.
        failure: why there was nothing to measure; every structure the reference holds is then
            counted as missed. None for a case that was measured.
        warnings: sentences a report must repeat.
    """

    case_id: str
    rows: tuple[StructureResult, ...]
    grid: Grid
    failure: str | None = None
    warnings: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> StructureResult:
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"case {self.case_id!r} has no structure named {name!r}")


def evaluate_case(
    predicted: LabelMap,
    reference: LabelMap,
    structures: StructureSet,
    *,
    tolerance_mm: Tolerance = None,
    surface: bool = True,
    mode: SurfaceMode = "surfel",
    case_id: str = "",
    threads: int = 1,
) -> CaseResult:
    """Measure a prediction against a reference, structure by structure.

    Args:
        predicted: the prediction, in the same label values as the reference.
        reference: the reference segmentation.
        structures: what to measure; other label values count as background.
        tolerance_mm: of the NSD, for all structures or by structure name; without one the NSD is
            `not_evaluated`.
        surface: False leaves the surface metrics `not_evaluated`.
        mode: the definition of a surface, see `metrics.surface`.
        case_id: what to call the case.
        threads: for the nearest-point search.

    Raises:
        GridMismatchError: the grids differ; nothing is ever resampled silently.
        UsageError: a tolerance is no positive number or names no structure, or the mode is unknown.
    """
    taus = tolerances_mm(structures, tolerance_mm)
    if mode not in get_args(SurfaceMode):
        raise UsageError(f"the surface mode is one of {', '.join(get_args(SurfaceMode))}, not {mode!r}")
    reference.grid.require(predicted.grid, "prediction and reference", case_id or None)
    pair = _Pair(reference, predicted, label_values(structures))
    rows = []
    for structure in structures:
        counts = pair.histogram.counts(members_of(structure))
        box = pair.box(structure)
        distances = pair.distances(structure, box, mode, threads) if surface and box else None
        tau = taus.get(structure.name)
        metrics = overlap_values(counts, reference.grid.voxel_volume_mm3)
        metrics |= _surface_values(distances, mode, tau, counts.status, surface)
        rows.append(_row(structure, counts, reference.grid, _touches(box, reference.grid), tau, metrics))
    return CaseResult(
        case_id, tuple(rows), reference.grid, warnings=_warnings(predicted, reference, structures)
    )


def missed_case(
    reference: LabelMap, structures: StructureSet, failure: str, *, tolerance_mm: Tolerance = None,
    surface: bool = True, mode: SurfaceMode = "surfel", case_id: str = "",
) -> CaseResult:  # fmt: skip
    """A case without a prediction, scored as if the prediction were empty.

    Every structure the reference holds is missed: Dice 0, distances +inf, status `pred_empty`.
    The case stays in the denominator of every mean, and `failure` says why.
    """
    nothing = np.broadcast_to(np.uint8(0), reference.grid.shape)
    empty = LabelMap(nothing, reference.grid, reference.form)
    case = evaluate_case(
        empty, reference, structures, tolerance_mm=tolerance_mm, surface=surface, mode=mode, case_id=case_id
    )
    return CaseResult(case.case_id, case.rows, case.grid, failure, case.warnings)


def tolerances_mm(structures: StructureSet, tolerance_mm: Tolerance) -> dict[str, float]:
    """The tolerance of each structure that has one.

    Raises:
        UsageError: a tolerance is no positive number or names no structure.
    """
    if tolerance_mm is None:
        return {}
    if isinstance(tolerance_mm, Mapping):
        taus = {name: float(tau) for name, tau in tolerance_mm.items()}
    else:
        taus = dict.fromkeys(structures.names, float(tolerance_mm))
    for name, tau in taus.items():
        if name not in structures.names:
            raise UsageError(f"a tolerance is given for {name!r}; there are {', '.join(structures.names)}")
        if not (math.isfinite(tau) and tau > 0):
            raise UsageError(f"the tolerance of {name!r} must be a positive number of mm, not {tau}")
    return taus


class _Pair:
    """Two label maps renumbered once, with the box of every label value in each."""

    def __init__(self, reference: LabelMap, predicted: LabelMap, values: Sequence[int]) -> None:
        self.index = {value: n + 1 for n, value in enumerate(values)}
        self.maps = index_map(reference.array, values), index_map(predicted.array, values)
        self.histogram = histogram_of_indices(*self.maps, values)
        self.boxes = [ndimage.find_objects(m, max_label=len(values)) for m in self.maps]
        self.spacing_mm = reference.grid.spacing_mm

    def box(self, structure: Structure) -> sd.Box | None:
        """The smallest box around the structure in both maps; None where it is in neither."""
        at = [self.index[v] - 1 for v in members_of(structure)]
        found = [boxes[n] for boxes in self.boxes for n in at if boxes[n] is not None]
        return sd.union(found) if found else None

    def distances(
        self, structure: Structure, box: sd.Box, mode: SurfaceMode, threads: int
    ) -> sd.SurfaceDistances:
        box = sd.solid(box, self.maps[0].shape)
        reference, predicted = (self._mask(m[box], structure) for m in self.maps)
        measure = sd.surfel_distances if mode == "surfel" else sd.voxel_distances
        return measure(reference, predicted, self.spacing_mm, threads=threads)

    def _mask(self, indices: NDArray[np.integer], structure: Structure) -> NDArray[np.bool_]:
        wanted = np.zeros(len(self.index) + 1, dtype=bool)
        wanted[[self.index[v] for v in members_of(structure)]] = True
        return np.asarray(wanted[indices])


def _surface_values(
    distances: sd.SurfaceDistances | None, mode: SurfaceMode, tau: float | None, status: Status, wanted: bool
) -> dict[str, Value]:
    units = SURFACE_UNITS[mode]
    if not wanted:
        return {name: not_evaluated(unit) for name, unit in units.items()}
    if distances is None:
        numbers = dict.fromkeys(units, math.nan)
    elif mode == "surfel":
        numbers = _surfel_numbers(distances, tau)
    else:
        numbers = _voxel_numbers(distances)
    values = {name: measured(numbers[name], unit, status) for name, unit in units.items()}
    if "nsd" in values and tau is None:
        values["nsd"] = not_evaluated("1")
    return values


def _surfel_numbers(distances: sd.SurfaceDistances, tau: float | None) -> dict[str, float]:
    return {
        "hd95_mm": sd.hausdorff_mm(distances, HAUSDORFF_PERCENT),
        "hd100_mm": sd.hausdorff_mm(distances),
        "assd_mm": sd.average_mm(distances),
        "nsd": math.nan if tau is None else sd.normalised_surface_dice(distances, tau),
    }


def _voxel_numbers(distances: sd.SurfaceDistances) -> dict[str, float]:
    return {
        "hd95_mm": sd.voxel_hausdorff_mm(distances, HAUSDORFF_PERCENT),
        "hd100_mm": sd.voxel_hausdorff_mm(distances),
        "hd95_pooled_mm": sd.pooled_hausdorff_mm(distances, HAUSDORFF_PERCENT),
        "assd_mm": sd.average_mm(distances),
        "masd_mm": sd.mean_of_means_mm(distances),
    }


def _row(
    structure: Structure,
    counts: Counts,
    grid: Grid,
    touches_fov: bool,
    tau_mm: float | None,
    metrics: Mapping[str, Value],
) -> StructureResult:
    voxel = grid.voxel_volume_mm3
    return StructureResult(
        name=structure.name,
        label=structure.value,
        members=structure.members,
        side=structure.side,
        status=counts.status,
        counts=counts,
        volume_ref_ml=volume_ml(counts.reference, voxel),
        volume_pred_ml=volume_ml(counts.predicted, voxel),
        touches_fov=touches_fov,
        tau_mm=tau_mm,
        metrics=metrics,
    )


def _touches(box: sd.Box | None, grid: Grid) -> bool:
    """Whether the box reaches the image's edge along an axis of more than one voxel."""
    if box is None:
        return False
    return any(n > 1 and (s.start == 0 or s.stop == n) for s, n in zip(box, grid.shape, strict=True))


def _warnings(predicted: LabelMap, reference: LabelMap, structures: StructureSet) -> tuple[str, ...]:
    """What the files warned of, labels of no structure, and axes skew enough to bend distances."""
    own = []
    for who, labels in (("prediction", predicted), ("reference", reference)):
        unknown = {v: n for v, n in present_values(labels.array).items() if v not in structures.known_values}
        if unknown:
            listed = ", ".join(f"{v} ({n} voxels)" for v, n in list(unknown.items())[:LISTED_VALUES])
            more = f" and {len(unknown) - LISTED_VALUES} more" if len(unknown) > LISTED_VALUES else ""
            own.append(f"values of the {who} that no structure has count as background: {listed}{more}")
    shear = affine.shear_degrees(reference.grid.affine)
    if shear > SHEAR_WARNING_DEGREES:
        own.append(f"the axes are {shear:.1f} degrees from right angles: distances take them as orthogonal")
    return tuple(dict.fromkeys((*reference.warnings, *predicted.warnings, *own)))
