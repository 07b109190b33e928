"""What the cases of a dataset are like: voxels, extents, intensities, structures. A plan is made from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.boxes import bounding_box
from medseg.core.errors import InputError, MedsegError, counted
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.data.cases import (
    Reader,
    of_file,
    read_on_grid,
    require_new,
    structure_volumes_ml,
    voxel_digest,
    without_voxels,
)
from medseg.data.layouts import CaseFiles
from medseg.data.source import Origin
from medseg.data.symmetry import Place, Thumbnail, mirror_axes, one_sided, place, thumbnail
from medseg.data.thickness import thicknesses_mm
from medseg.findings.finding import who
from medseg.inference.postprocess import postprocess
from medseg.io import inspect
from medseg.io.pictures.slices import states_no_size
from medseg.model.spec import PostprocessSpec
from medseg.preparation.crop import corner_values, foreground_box
from medseg.preparation.orient import canonical

Sizes = tuple[int, int, int]
Lengths = tuple[float, float, float]

FEWEST = 5
"""Cases that show what a structure is like."""

HOUNSFIELD_AIR = -500.0
"""A scan of whole numbers that reaches below it is one of CT: nothing else has such values of air."""

LEAST_RANGE = 50.0
"""Hounsfield units that a scan of CT spans at least; one of other numbers was rescaled."""

MODALITIES = {
    **dict.fromkeys(("ct", "cta", "cbct"), "CT"),
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "dwi", "adc"), "MR"),
    **dict.fromkeys(("pt", "pet"), "PT"),
    **dict.fromkeys(("us", "ultrasound"), "US"),
}
"""What words in the name of a channel state, as DICOM calls it."""

EMPTY_SHARE = 0.25
"""Share of a scan from which voxels of the value of its corners are background that is cut off."""

ONE_PIECE = 0.999
"""Share of a structure's voxels in its largest component, from which the rest are slips of the annotation."""

INNER = 0.5
"""Share of a structure's voxels whose six neighbours belong to it too."""

MOST_SAMPLES = 200_000
"""Voxels of a scan, evenly spread, that percentiles are taken of."""


@dataclass(frozen=True)
class Intensities:
    """Values of one channel of a case.

    Attributes:
        low, high: the percentiles 0.5 and 99.5 of all voxels.
        least: the smallest value.
        whole: every value is a whole number.
        inside_low, inside_high: the same percentiles of the voxels of structures; NaN without any.
        modality: that the file states, or the name of the channel; empty where neither does.
    """

    low: float
    high: float
    least: float
    whole: bool
    inside_low: float
    inside_high: float
    modality: str = ""

    @property
    def is_ct(self) -> bool:
        """Whether they are Hounsfield units, as is stated or else by the numbers."""
        if self.modality:
            return self.modality == "CT" and self.high - self.low >= LEAST_RANGE
        return self.whole and self.least <= HOUNSFIELD_AIR


@dataclass(frozen=True)
class CasePrint:
    """One case, its axes to the right, anterior and superior.

    Attributes:
        case_id: its name.
        group: whose it is.
        shape: voxels along the axes.
        spacing_mm: of the voxels.
        kept: voxels along the axes of the box without background.
        empty: share of the voxels that have the value of all corners.
        intensities: of each channel.
        volumes_ml: of each structure that is there.
        voxels: of each structure that is there.
        thickness_mm: of each structure that is there, see `thicknesses_mm`.
        places: of each structure that is there, in the box without background.
        said: of the files of its labels, sentences that a report must repeat.
        thumbnail: of the first channel, without background.
        compact: structures in one piece (`ONE_PIECE`) that are no mere shells or threads (`INNER`).
        sized: whether the file states a size in mm, as pictures do not.
        lacking: names of structures that may lack voxels, each with one of those sentences, which says why.
    """

    case_id: str
    group: str
    shape: Sizes
    spacing_mm: Lengths
    kept: Sizes
    empty: float
    intensities: tuple[Intensities, ...]
    volumes_ml: Mapping[str, float]
    voxels: Mapping[str, int]
    thickness_mm: Mapping[str, float]
    places: Mapping[str, Place]
    said: tuple[str, ...]
    thumbnail: Thumbnail = field(repr=False, compare=False)
    compact: tuple[str, ...] = ()
    sized: bool = True
    lacking: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fingerprint:
    """A dataset: its cases, its channels and its structures."""

    cases: tuple[CasePrint, ...]
    channels: tuple[str, ...]
    structures: StructureSet

    @property
    def spacing_mm(self) -> Lengths:
        """The median voxel size along each axis."""
        return _triple(np.median([case.spacing_mm for case in self.cases], axis=0))

    @property
    def extent_mm(self) -> Lengths:
        """The median extent along each axis of what is not background, or of the scan where all is kept."""
        sizes = [case.kept if self.has_background else case.shape for case in self.cases]
        sides = [case.spacing_mm for case in self.cases]
        return _triple(np.median(np.multiply(sizes, sides), axis=0))

    @property
    def is_sized(self) -> bool:
        """Whether any file states a size in mm."""
        return any(case.sized for case in self.cases)

    @property
    def has_background(self) -> bool:
        """Whether scans were cut out of their surroundings, so that these have one value."""
        return bool(np.median([case.empty for case in self.cases]) >= EMPTY_SHARE)

    def is_ct(self, channel: int) -> bool:
        """Whether a channel holds Hounsfield units: as is stated of every case, or else by its numbers."""
        values = [case.intensities[channel] for case in self.cases]
        if any(v.modality for v in values):
            return all(v.is_ct for v in values)
        return all(v.whole for v in values) and float(np.median([v.least for v in values])) <= HOUNSFIELD_AIR

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences on channels of which only some are CT, and on structures that are in no case."""
        told = []
        for number, name in enumerate(self.channels):
            others = [case.case_id for case in self.cases if not case.intensities[number].is_ct]
            if 0 < len(others) < len(self.cases):
                some = counted(len(self.cases) - len(others), "case")
                told.append(
                    f"{name} is CT in {some}, and not in {who(others, len(self.cases))}: separate them"
                )
        present = {name for case in self.cases for name in case.voxels}
        told += without_voxels([present], self.structures, "case")[1]
        for name in self.structures.names:
            why = [
                f"{case.case_id}: {text}" for case in self.cases for of, text in case.lacking if of == name
            ]
            told += why[:1] if name not in present else []
        return tuple(told)

    def window(self) -> tuple[float, float]:
        """The range of intensities inside structures: the medians of both ends over cases and channels."""
        values = [v for case in self.cases for v in case.intensities if math.isfinite(v.inside_low)]
        low, high = (
            float(np.median([getattr(v, end) for v in values])) for end in ("inside_low", "inside_high")
        )
        return low, high

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes along which scans look like their mirror images; none is of one voxel."""
        found = mirror_axes([case.thumbnail for case in self._of_patients])
        return tuple(axis for axis in found if axis not in self.flat_axes)

    def one_sided(self, axis: int) -> tuple[str, str] | None:
        """A structure that no mirror image has on the side where it lies: see `symmetry.one_sided`."""
        return one_sided([case.places for case in self._of_patients], axis)

    @property
    def flat_axes(self) -> tuple[int, ...]:
        """Axes along which no scan has more than one voxel."""
        return tuple(n for n in range(3) if all(case.shape[n] == 1 for case in self.cases))

    @property
    def _of_patients(self) -> tuple[CasePrint, ...]:
        """One case of each patient."""
        return tuple({case.group: case for case in self.cases}.values())

    @property
    def compact(self) -> tuple[str, ...]:
        """Structures that are compact in every case which has them, and `FEWEST` have them."""
        counts = Counter(name for case in self.cases for name in case.voxels)
        compact = Counter(name for case in self.cases for name in case.compact)
        return tuple(n for n in self.structures.names if FEWEST <= counts[n] == compact[n])

    @property
    def thinnest_mm(self) -> float:
        """What the thinnest structure usually measures."""
        every: dict[str, list[float]] = {}
        for case in self.cases:
            for name, mm in case.thickness_mm.items():
                every.setdefault(name, []).append(mm)
        return min(float(np.median(found)) for found in every.values())

    @property
    def largest_mm(self) -> tuple[str, float]:
        """The largest structure, and the diameter of a ball of its usual volume."""
        every: dict[str, list[float]] = {}
        for case in self.cases:
            for name, ml in case.volumes_ml.items():
                every.setdefault(name, []).append(ml)
        ml, name = max((float(np.median(found)), name) for name, found in every.items())
        return name, float(np.cbrt(6000.0 * ml / math.pi))


def fingerprint(found: Origin, on_case: Callable[[int, int], None] = lambda *_: None) -> Fingerprint:
    """Read every case of a dataset once.

    Args:
        found: the dataset.
        on_case: called after each case with its number and how many there are.

    Raises:
        MedsegError: a case cannot be read, or its image and labels do not belong together.
        InputError: no case has a voxel of any structure, or two cases contain the same scan.
    """
    read = partial(
        read_on_grid, structures=found.structures, there=found.known_channels, wanted=found.channels
    )
    cases = []
    seen: dict[str, str] = {}
    for number, files in enumerate(found.files.cases, start=1):
        cases.append(_print(files, read, found.structures, seen))
        on_case(number, len(found.files.cases))
    fault, _ = without_voxels([case.voxels for case in cases], found.structures, "case")
    if fault:
        raise fault
    return Fingerprint(tuple(cases), found.channels, found.structures)


def _print(files: CaseFiles, read: Reader, structures: StructureSet, seen: dict[str, str]) -> CasePrint:
    volume, labels = read(files)
    try:
        structures.require_known(labels.array)
    except MedsegError as fault:
        raise of_file(fault, files.label or files.image) from None
    turn = canonical(volume.grid)
    grid = turn.grid(volume.grid)
    corners = corner_values(volume.array)
    same = [float((channel == value).mean()) for channel, value in zip(volume.array, corners, strict=True)]
    if min(same) == 1.0:
        raise InputError(
            f"every voxel has the value {corners[0]:g}",
            source=files.image,
            hint="replace the file by the scan, or leave the case out",
        )
    require_new(voxel_digest(volume), files, seen)
    turned = turn.forward(volume.array)
    box = foreground_box(turned, background=corners)
    volumes = structure_volumes_ml(labels, structures)
    marks = turn.forward(labels.array)[box.slices]
    boxes = structures.boxes(marks).items()
    return CasePrint(
        files.case_id,
        files.group,
        grid.shape,
        _triple(grid.spacing_mm),
        box.shape,
        min(same),
        tuple(
            _intensities(channel, labels, modality)
            for channel, modality in zip(volume.array, _modalities(files, volume.channels), strict=True)
        ),
        volumes,
        {name: round(1000.0 * ml / grid.voxel_volume_mm3) for name, ml in volumes.items()},
        thicknesses_mm(labels, structures, volumes),
        {
            name: place(structures.mask(marks[where], structures[name]), [w.start for w in where], box.shape)
            for name, where in boxes
        },
        labels.warnings,
        thumbnail(turned[0][box.slices]),
        _compact(labels, structures, tuple(volumes)),
        not states_no_size(volume.warnings),
        tuple(
            (s.name, text) for value, text in labels.lacking for s in structures if value in s.label_values
        ),
    )


def _compact(labels: LabelMap, structures: StructureSet, there: Sequence[str]) -> tuple[str, ...]:
    """Those of the structures that are there; none where labels are missing or overlap."""
    if labels.ignore is not None or structures.are_regions:
        return ()
    kept = postprocess(labels.array, structures, PostprocessSpec(largest_component=tuple(there)), labels.grid)
    found = []
    for structure in structures:
        if structure.name not in there:
            continue
        mask = structures.mask(labels.array, structure)
        box, count = bounding_box(mask), int(mask.sum())
        whole = int(structures.mask(kept, structure).sum()) >= ONE_PIECE * count
        if whole and box is not None and int(ndimage.binary_erosion(mask[box]).sum()) >= INNER * count:
            found.append(structure.name)
    return tuple(found)


def _modalities(files: CaseFiles, channels: Sequence[str]) -> list[str]:
    """What a case's files state of each channel, or else its name."""
    paths = [files.channels.get(name, files.image) for name in channels]
    stated = {path: inspect(path, options=files.reading).modality for path in dict.fromkeys(paths)}
    words = [re.findall(r"[^\W_]+", name.lower()) for name in channels]
    named = [next((MODALITIES[w] for w in found if w in MODALITIES), "") for found in words]
    return [stated[path] or name for path, name in zip(paths, named, strict=True)]


def _intensities(channel: NDArray[Any], labels: LabelMap, modality: str) -> Intensities:
    every = max(1, channel.size // MOST_SAMPLES)
    sample = channel.ravel()[::every].astype(np.float64)
    inside = channel[labels.array > 0]
    inside = inside[:: max(1, inside.size // MOST_SAMPLES)].astype(np.float64)
    low, high = np.percentile(sample, [0.5, 99.5])
    ends = np.percentile(inside, [0.5, 99.5]) if inside.size else (math.nan, math.nan)
    return Intensities(
        float(low),
        float(high),
        float(channel.min()),
        bool((sample == np.rint(sample)).all()),
        float(ends[0]),
        float(ends[1]),
        modality,
    )


def _triple(values: Sequence[float] | NDArray[np.float64]) -> Lengths:
    i, j, k = (round(float(v), 4) for v in values)
    return i, j, k
