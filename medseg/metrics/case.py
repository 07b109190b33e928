"""Every metric of every structure of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medseg.core import affine
from medseg.core.errors import UsageError, counted, listed, plural
from medseg.core.sides import Side
from medseg.core.structures import Structure, StructureSet, edge_values
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding, from_warnings, sentence
from medseg.findings.labels import NOTHING_FOUND, exchanged_sides
from medseg.findings.scan import SHEARED_DEGREES
from medseg.metrics import surface as sd
from medseg.metrics.borders import Labels
from medseg.metrics.counts import (
    Counts,
    JointHistogram,
    histogram_of_indices,
    index_map,
    present_values,
)
from medseg.metrics.instances import InstanceMatch, InstanceRule, instance_values, match_instances
from medseg.metrics.overlap import overall_values
from medseg.metrics.table import overlap_values, surface_values
from medseg.metrics.value import Status, Value, not_evaluated

SurfaceMode = sd.Mode
Tolerance = Mapping[str, float] | float | None
_Distances = Callable[[Structure], sd.SurfaceDistances]
_Matches = Callable[[Structure], InstanceMatch]

UNLABELLED = "unlabelled in the reference"
"""What is said of voxels and structures that nobody labelled."""

UNKNOWN = "values of the {} that no structure has count as background"
LISTED_VALUES = 5


@dataclass(frozen=True)
class StructureResult:
    """The metrics of one structure.

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
        metrics: by name: those of `table.METRICS`, and where they were asked for those of
            `instances.UNITS`.
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
        overall: of all structures together, by the names of `overlap.overall_values`.
        mode: the definition of a surface that the distances have.
        ignored: voxels of the reference that count in no number.
        doubts: that the labels of the prediction raise by themselves.
        reference_doubts: likewise of the reference.
    """

    case_id: str
    rows: tuple[StructureResult, ...]
    grid: Grid
    failure: str | None = None
    warnings: tuple[str, ...] = field(default=())
    overall: Mapping[str, Value] = field(default_factory=dict)
    mode: SurfaceMode = "surfel"
    ignored: int = 0
    doubts: tuple[Finding, ...] = ()
    reference_doubts: tuple[Finding, ...] = ()

    @property
    def has_distances(self) -> bool:
        """Whether distances between surfaces were measured."""
        return any(row.metrics["hd100_mm"].status != "not_evaluated" for row in self.rows)

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
    instances: InstanceRule | None = None,
    numbers: tuple[Labels, Labels] | None = None,
) -> CaseResult:
    """Measure a prediction against a reference, structure by structure.

    Voxels that the reference says to ignore count in no number: both maps are taken for background there, and
    neither has such a voxel. A structure that nobody labelled in the reference is `not_evaluated`.

    Args:
        predicted: the prediction, in the same label values as the reference.
        reference: the reference segmentation.
        structures: what to measure; other label values count as background.
        tolerance_mm: of the NSD, for all structures or by structure name; without one the NSD is
            `not_evaluated`.
        surface: False leaves the surface metrics `not_evaluated`.
        mode: the definition of a surface, see `metrics.surface`.
        case_id: what to call the case.
        threads: that work on the surfaces; 0 for all processors.
        instances: count and match the instances of each structure by this rule, and add the values of
            `metrics.instances`.
        numbers: of the instances in prediction and reference, (I, J, K), where the rule wants maps of them.

    Raises:
        GridMismatchError: the grids differ; nothing is ever resampled silently.
        UsageError: a tolerance is negative, infinite or names no structure, or the mode is unknown.
    """
    taus = tolerances_mm(structures, tolerance_mm)
    sd.require_mode(mode)
    reference.grid.require(predicted.grid, "prediction and reference", case_id or None)
    pair = _Pair(reference, predicted, structures.label_values)
    distances_of = pair.distances(structures, mode, threads) if surface else None
    if instances and instances.of == "values":
        numbers = predicted.array, reference.array
    matches_of = pair.instances(structures, instances, numbers) if instances else None
    rows = []
    for structure in structures:
        counts = pair.histogram.counts(structure.label_values)
        distances = distances_of(structure) if distances_of else None
        tau = taus.get(structure.name)
        metrics = overlap_values(counts, reference.grid)
        metrics |= surface_values(distances, mode, tau, counts.status)
        if matches_of:
            metrics |= instance_values(matches_of(structure))
        row = _row(structure, counts, reference.grid, pair.touches_fov(structure), tau, metrics)
        rows.append(_unlabelled(row) if set(structure.label_values) & set(reference.unlabelled) else row)
    warnings = _warnings(predicted, reference, structures, pair)
    overall = overall_values(pair.histogram)
    return CaseResult(
        case_id,
        tuple(rows),
        reference.grid,
        None,
        warnings,
        overall,
        mode,
        pair.ignored,
        (*pair.nothing_found(), *_sides(predicted, structures)),
        _sides(reference, structures),
    )


def tolerances_mm(structures: StructureSet, tolerance_mm: Tolerance) -> dict[str, float]:
    """The tolerance of each structure that has one; at 0, surfaces must coincide.

    Raises:
        UsageError: a tolerance is negative, infinite or names no structure.
    """
    if tolerance_mm is None:
        return {}
    if isinstance(tolerance_mm, Mapping):
        taus = {name: float(tau) for name, tau in tolerance_mm.items()}
    else:
        taus = dict.fromkeys(structures.names, float(tolerance_mm))
    for name, tau in taus.items():
        if name not in structures.names:
            raise UsageError(f"a tolerance is given for {name!r}; choose from {', '.join(structures.names)}")
        sd.require_tolerance(tau, name)
    return taus


class _Pair:
    """Two label maps renumbered once, with what all structures share."""

    def __init__(self, reference: LabelMap, predicted: LabelMap, values: Sequence[int]) -> None:
        self.labelled, self.ignored = reference.labelled, 0
        self.index = {value: n + 1 for n, value in enumerate(values)}
        self.maps = index_map(reference.array, values), index_map(predicted.array, values)
        if self.labelled is not None:
            self.maps = self.maps[0] * self.labelled, self.maps[1] * self.labelled
            self.ignored = int(np.count_nonzero(~self.labelled))
        self.histogram = histogram_of_indices(*self.maps, values)
        self.histogram.table[0, 0] -= self.ignored
        self.grid = reference.grid
        self.at_edge = frozenset().union(*map(edge_values, self.maps))

    def nothing_found(self) -> tuple[Finding, ...]:
        """A doubt where the prediction has no structure, and the reference has one."""
        of_reference, of_prediction = (self.histogram.table[1:].any(), self.histogram.table[:, 1:].any())
        return (NOTHING_FOUND,) if of_reference and not of_prediction else ()

    def touches_fov(self, structure: Structure) -> bool:
        """Whether the structure reaches the image's edge along an axis of more than one voxel."""
        return any(self.index[v] in self.at_edge for v in structure.label_values)

    def distances(self, structures: StructureSet, mode: SurfaceMode, threads: int) -> _Distances:
        """Those of each structure: labels share one pass, every region has its own."""
        if structures.are_regions:
            return lambda region: self._measured(self._masks(region), 1, mode, threads).of(1)
        every = self._measured(self.maps, len(self.index), mode, threads)
        return lambda structure: every.of(self.index[structure.value])

    def instances(
        self, structures: StructureSet, rule: InstanceRule, numbers: tuple[Labels, Labels] | None
    ) -> _Matches:
        """Those of each structure, likewise; the numbers are those of prediction and reference."""
        known = None if numbers is None else numbers[::-1]
        if structures.are_regions:
            return lambda region: match_instances(*self._masks(region), 1, rule, known)[0]
        every = match_instances(*self.maps, len(self.index), rule, known)
        return lambda structure: every[self.index[structure.value] - 1]

    def _masks(self, region: Structure) -> tuple[Labels, Labels]:
        """A region in reference and prediction, 1 inside and 0 elsewhere."""
        inside = np.zeros(len(self.index) + 1, np.uint8)
        inside[[self.index[v] for v in region.label_values]] = 1
        return inside[self.maps[0]], inside[self.maps[1]]

    def _measured(
        self, maps: tuple[Labels, Labels], count: int, mode: SurfaceMode, threads: int
    ) -> sd.LabelDistances:
        box = sd.box_around_both(*maps)
        reference, predicted = (m[box] for m in maps)
        return sd.label_distances(reference, predicted, count, self.grid.spacing_mm, mode, threads=threads)


def _sides(labels: LabelMap, structures: StructureSet) -> tuple[Finding, ...]:
    """A doubt where left and right may be exchanged, as far as the file says where they are."""
    known = labels.form.orientation_known
    return exchanged_sides(labels.array, labels.grid, structures) if known else ()


def _row(
    structure: Structure,
    counts: Counts,
    grid: Grid,
    touches_fov: bool,
    tau_mm: float | None,
    metrics: Mapping[str, Value],
) -> StructureResult:
    return StructureResult(
        name=structure.name,
        label=structure.value,
        members=structure.members,
        side=structure.side,
        status=counts.status,
        counts=counts,
        volume_ref_ml=grid.volume_ml(counts.reference),
        volume_pred_ml=grid.volume_ml(counts.predicted),
        touches_fov=touches_fov,
        tau_mm=tau_mm,
        metrics=metrics,
    )


def _unlabelled(row: StructureResult) -> StructureResult:
    """The row of a structure that nobody labelled: nothing is known of how it should be."""
    return replace(
        row,
        status="not_evaluated",
        tau_mm=None,
        metrics={name: not_evaluated(value.unit) for name, value in row.metrics.items()},
    )


def without_ignored(predicted: LabelMap, reference: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Both maps, as background where the reference says that voxels are to be ignored."""
    labelled = reference.labelled
    if labelled is None:
        return predicted, reference
    first, second = (np.where(labelled, m.array, 0).astype(m.array.dtype) for m in (predicted, reference))
    return replace(predicted, array=first), replace(reference, array=second, ignore=None)


def ignored_nowhere(ignore: int | None, cases: Iterable[CaseResult]) -> tuple[str, ...]:
    """A warning where the value to be ignored occurs in the reference of no case."""
    if ignore is None or any(case.ignored for case in cases):
        return ()
    return (f"the value to ignore, {ignore}, occurs in no reference: nothing is ignored",)


def findings_of(result: CaseResult) -> tuple[Finding, ...]:
    """What a reader must know of a case: that nothing was measured, doubts of the labels, and warnings.

    What the reference leaves unlabelled is a note: it is no fault of a file.
    """
    found = [
        replace(f, severity="note") if UNLABELLED in text else f
        for text in result.warnings
        for f in from_warnings([text], "measurement")
    ]
    if result.failure is not None:
        text = sentence(f"{result.failure}; its structures count as missed")
        found.insert(0, Finding("not_measured", "doubt", text))
    of_reference = (replace(f, sentence=f"In the reference: {f.sentence}") for f in result.reference_doubts)
    return (*found, *result.doubts, *of_reference)


def _warnings(
    predicted: LabelMap,
    reference: LabelMap,
    structures: StructureSet,
    pair: _Pair,
) -> tuple[str, ...]:
    """What files say, what is ignored, labels of no structure, no shared value, axes too skew."""
    own = []
    histogram = pair.histogram
    seen = dict(zip(("prediction", "reference"), _seen_values(histogram), strict=True))
    if pair.ignored:
        share = f"{100 * pair.ignored / reference.array.size:.3g} %"
        own.append(
            f"{counted(pair.ignored, 'voxel')} ({share}) {plural(pair.ignored, 'is', 'are')} ignored, "
            f"because {plural(pair.ignored, 'it is', 'they are')} {UNLABELLED}"
        )
    names = [s.name for s in structures if set(s.label_values) & set(reference.unlabelled)]
    if names:
        own.append(f"{UNLABELLED} and not measured: {', '.join(names)}")
    known = {"prediction": histogram.table[:, 1:].sum(), "reference": histogram.table[1:].sum()}
    for who, labels in (("prediction", predicted), ("reference", reference)):
        held = labels.array if pair.labelled is None else labels.array[pair.labelled]
        if np.count_nonzero(held) > known[who]:
            unknown = {v: n for v, n in present_values(held).items() if v not in structures.known_values}
            seen[who] |= unknown.keys()
            told = [f"{v} ({counted(n, 'voxel')})" for v, n in unknown.items()]
            own.append(f"{UNKNOWN.format(who)}: {listed(told, most=LISTED_VALUES)}")
    own += _without_shared_values(seen["reference"], seen["prediction"])
    if (shear := affine.shear_degrees(reference.grid.affine)) > SHEARED_DEGREES:
        own.append(f"the axes are {shear:.1f} degrees from right angles: distances assume orthogonal axes")
    return tuple(dict.fromkeys((*reference.warnings, *predicted.warnings, *own)))


def _seen_values(histogram: JointHistogram) -> tuple[set[int], set[int]]:
    """The values of structures that the prediction holds, and those that the reference holds."""
    of_prediction, of_reference = histogram.table[:, 1:].sum(axis=0), histogram.table[1:].sum(axis=1)
    held = [
        {v for v, n in zip(histogram.values, counts.tolist(), strict=True) if n}
        for counts in (of_prediction, of_reference)
    ]
    return held[0], held[1]


def _without_shared_values(of_reference: set[int], of_prediction: set[int]) -> list[str]:
    """That two maps with labels have no value in common: a mask of 0 and 255 against one of 0 and 1."""
    if not (of_reference and of_prediction) or of_reference & of_prediction:
        return []
    listed = [", ".join(map(str, sorted(v)[:LISTED_VALUES])) for v in (of_reference, of_prediction)]
    alone = max(len(of_reference), len(of_prediction)) == 1
    what = "each file has one value and they differ" if alone else "the two files share no value"
    return [
        f"{what}: {listed[0]} in the reference, {listed[1]} in the prediction; values are compared "
        "unchanged, so nothing overlaps: write both in the same values"
    ]
