"""DICOM series: the slices of a folder or a multi-frame file, sorted along their normal and stacked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, MedsegError, counted
from medseg.core.volume import FileForm
from medseg.io.contents import require_true_suffix
from medseg.io.dicom import frames as dicom_frames
from medseg.io.dicom.elements import SEGMENTATIONS, Outline, looks_like_dicom, outline
from medseg.io.dicom.geometry import stack
from medseg.io.dicom.headers import (
    MODALITIES,
    PATIENT,
    Slice,
    damaged,
    lacking,
    no_plain_slice,
    require_one_volume,
    require_same,
)
from medseg.io.dicom.slices import read_slices
from medseg.io.itk.images import simple_itk
from medseg.io.memory import require_memory
from medseg.io.names import format_of, is_no_scan, lists_file, require_file, require_regular
from medseg.io.options import ImageInfo, ReadOptions, Stored

OUR_IMPLEMENTATION = "2.25.194411524594002913822187401268556170234"
"""Implementation class UID in the head of the objects that we write, see `source.finish`."""
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
HEAD = 1024
INDEX = "DICOMDIR"
SINGLE_FRAMES = "DICOM series"
"""The format of a series with a file a slice."""
MOSAIC = "DICOM mosaic"
"""The format of a file whose one picture is tiled with slices (Siemens)."""
ANNOTATED = (
    "The scan's pixels may show the patient's name, as its header states (BurnedInAnnotation); so may every "
    "picture made of them."
)
MOST_LISTED = 20
"""Series named in a message; of more, only their number."""


@dataclass(frozen=True)
class Series:
    """Slices of one volume, in the order of their file names: a series, or one kind of its frames.

    Attributes:
        number: its place in the list, from 1; what `--series` takes.
        uid: the SeriesInstanceUID; identifies the examination, so it is never shown.
        slices: of this series.
        kind: which of its series' frames they are, in words; empty where they are all.
    """

    number: int
    uid: str = field(repr=False)
    slices: tuple[Slice, ...]
    kind: str = ""

    @property
    def summary(self) -> str:
        """Number, modality, slices, sizes and kind: nothing that names anyone."""
        sizes = sorted({(s.columns, s.rows) for s in self.slices})
        modalities = sorted({s.modality if s.modality in MODALITIES else "other" for s in self.slices})
        shapes = ", ".join(f"{c}x{r}" for c, r in sizes)
        kind = f", {self.kind}" if self.kind else ""
        return (
            f"{self.number} ({'/'.join(modalities)}, {counted(len(self.slices), 'slice')} of {shapes}{kind})"
        )


def is_dicom_folder(path: Path) -> bool:
    """Whether `path` is a folder and a file directly in it is a DICOM image, by its bytes."""
    path = Path(path)
    return path.is_dir() and any(_may_hold_a_scan(p) for p in _files(path))


def is_dicom_file(path: Path) -> bool:
    """Whether `path` is a DICOM file, by its bytes."""
    return path.is_file() and looks_like_dicom(_head(path))


def is_structure_set(path: Path) -> bool:
    """Whether a file is a DICOM radiotherapy structure set, by its bytes."""
    return _sop_class(path) == STRUCTURE_SET


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation of frames (SEG), by its bytes."""
    return _sop_class(path) in SEGMENTATIONS


def holds_labels(path: Path) -> bool:
    """Whether a file is DICOM and names structures: a structure set or a segmentation."""
    return _sop_class(path) in (STRUCTURE_SET, *SEGMENTATIONS)


def _sop_class(path: Path) -> str:
    """What kind of DICOM a file is; empty where it is none or damaged."""
    if not is_dicom_file(path):
        return ""
    try:
        return outline(path).sop_class
    except MedsegError:
        return ""


def list_series(source: Path) -> tuple[Series, ...]:
    """The series in a folder or file, sorted by UID, each kind of frames by itself; headers only.

    Raises:
        InputError: a file among the slices is cut or damaged, or there is none.
    """
    return _listed(_slices(Path(source))[0])


def require_one_patient(sources: Mapping[str, Path], options: ReadOptions) -> tuple[str, ...]:
    """Refuse channels of two patients; a sentence about channels in different frames of reference.

    Raises:
        GeometryError: naming the channels and the attribute that differs, without its values.
        InputError: as `describe`.
    """
    firsts = {name: ordered_slices(path, options)[1][0] for name, path in sources.items()}
    (head, first), *others = firsts.items()
    apart = []
    for name, other in others:
        patient = {key: value for key, value in other.volume.items() if key in PATIENT}
        require_same(patient, first, f"the channels {head} and {name}", sources[name])
        space, another = (s.volume["FrameOfReferenceUID"] for s in (first, other))
        if space and another and space != another:
            apart.append(name)
    if not apart:
        return ()
    return (
        f"The channels {head} and {', '.join(apart)} state different frames of reference: it is unknown "
        "whether they are aligned.",
    )


def files(source: Path) -> tuple[Path, ...]:
    """The files a folder's series are read from, sorted by name; a file itself."""
    return tuple(p for p in _files(source) if p.is_file()) if source.is_dir() else (source,)


def describe(source: Path, options: ReadOptions) -> ImageInfo:
    """What the headers of the chosen series say, checked; reads no voxels.

    Raises:
        InputError: several series and no choice, or a file that is no slice.
        GeometryError: the slices are no regular stack, or of two patients, studies or frames of reference.
    """
    return ordered_slices(source, options)[0]


def ordered_slices(source: Path, options: ReadOptions) -> tuple[ImageInfo, Sequence[Slice]]:
    """What `describe` says, and the slices of the chosen series in the order of the grid's last axis.

    Raises:
        InputError: as `describe`.
        GeometryError: as `describe`.
        UsageError: as `describe`.
    """
    slices, said = _slices(source)
    series = _chosen(source, _listed(slices), options)
    return _describe(source, series, said + lacking(series.slices, slices))


def read(source: Path, options: ReadOptions) -> Stored:
    """The chosen series as voxels (1, I, J, K), each slice rescaled as its own header says.

    Raises:
        InputError: several series and no choice, or a file that is no slice.
        GeometryError: the slices are no regular stack, or of two patients, studies or frames of reference.
        ResourceError: the voxels cannot fit in memory.
    """
    info, ordered = ordered_slices(source, options)
    require_memory(8 * info.grid.voxels, source)
    planes = _planes(ordered)
    out = np.empty(info.shape, dtype=_common_dtype({p.dtype for p in planes}), order="F")
    for k, plane in enumerate(planes):
        out[:, :, k] = plane
    return Stored(info, out[None])


def _describe(source: Path, series: Series, said: tuple[str, ...]) -> tuple[ImageInfo, Sequence[Slice]]:
    first = series.slices[0]
    strange = next((s for s in series.slices if s.holds), None)
    if strange is not None:
        raise InputError(
            f"the DICOM file holds {strange.holds}", source=strange.path, hint="convert it to NIfTI"
        )
    if source.is_file() and first.frame is None:
        raise InputError("this is one slice of a series", source=source, hint="name the folder of its series")
    if len({(s.columns, s.rows) for s in series.slices}) > 1:
        raise InputError(
            f"slices of one series differ in size: {series.summary}", source=source, hint="separate them"
        )
    require_one_volume(series.slices, source)
    order, grid, warnings = stack(
        [s.place for s in series.slices],
        (first.columns, first.rows),
        [s.path.name if s.frame is None else f"{s.path.name}, frame {s.frame + 1}" for s in series.slices],
        source,
    )
    info = ImageInfo(
        path=source,
        format=_format(first),
        grid=grid,
        channels=1,
        dtype="",
        slope=1.0,
        inter=0.0,
        form=FileForm(suffix=".nii.gz"),
        warnings=said + warnings + (ANNOTATED,) * any(s.annotated for s in series.slices),
        modality=first.modality,
    )
    return info, [series.slices[n] for n in order]


def _format(one: Slice) -> str:
    return SINGLE_FRAMES if one.frame is None else MOSAIC if one.mosaic else "Enhanced DICOM"


def _listed(slices: Sequence[Slice]) -> tuple[Series, ...]:
    uids = sorted({s.uid for s in slices})
    groups = [
        (uid, kind, group)
        for uid in uids
        for kind, group in dicom_frames.kinds([s for s in slices if s.uid == uid])
    ]
    return tuple(Series(n, uid, group, kind) for n, (uid, kind, group) in enumerate(groups, start=1))


def _chosen(source: Path, found: Sequence[Series], options: ReadOptions) -> Series:
    wanted = options.series
    if wanted is None:
        fitting = list(found)
    else:
        fitting = [s for s in found if wanted == str(s.number)] or [s for s in found if wanted == s.uid]
    if len(fitting) == 1:
        return fitting[0]
    listed = "; ".join(series.summary for series in found[:MOST_LISTED])
    more = f"; and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    what = f"{len(fitting)} series" if fitting else f"no series {wanted!r}"
    place = "folder" if source.is_dir() else "file"
    raise InputError(
        f"the {place} holds {what}; there are: {listed}{more}",
        source=source,
        hint="choose one with --series NUMBER",
    )


def _slices(source: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices in a file or folder, and a sentence about files that were left aside, if there are any."""
    if not source.is_dir():
        require_file(source)
        found = outline(source)
        if not found.is_scan:
            what = "a segmentation or dose, not a scan" if found.has_pixels else "no image"
            raise InputError(
                f"the DICOM file holds {what}",
                source=source,
                hint="name the scan; labels are read as NIfTI, SEG or RTSTRUCT",
            )
        return list(read_slices(source, found)), ()
    slices: list[Slice] = []
    classes: set[str] = set()
    without: dict[Path, Outline] = {}
    others = 0
    for path in _files(source):
        if not is_dicom_file(path):
            if not is_no_scan(path):
                _require_no_slice(path)
                others += 1
            continue
        found = outline(path)
        if found.is_scan:
            slices += read_slices(path, found)
            classes.add(found.sop_class)
        else:
            without[path] = found
    if not slices:
        raise InputError(
            "there are no DICOM images in this folder", source=source, hint="name the series' folder"
        )
    for path, found in without.items():
        if not found.has_pixels and (found.has_rows or found.sop_class in classes):
            raise InputError("the DICOM file is cut: it has no pixels", source=path, hint="export it again")
    return slices, _left_aside(len(without), others)


def _require_no_slice(path: Path) -> None:
    """Refuse a file that is not DICOM where it may be what is left of a slice, or leads to none."""
    require_regular(path)
    empty = not any(_head(path))
    if format_of(path).kind == "DICOM":
        require_true_suffix(path)
    if empty or format_of(path).kind == "DICOM":
        raise InputError(
            f"the file among the slices is {'empty' if empty else 'not DICOM'}",
            source=path,
            hint="copy it again, or move it elsewhere",
        )


def _left_aside(dicom: int, others: int) -> tuple[str, ...]:
    """What is said of files that hold no scan; not their names, which may be the patient's."""
    if not dicom + others:
        return ()
    parts = [f"{dicom} DICOM without a scan"] * bool(dicom) + [f"{others} not DICOM"] * bool(others)
    return (f"Left aside in the folder: {counted(dicom + others, 'file')} ({', '.join(parts)}).",)


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as fault:
        raise InputError.unreadable(fault, folder) from None
    return [p for p in names if p.name.upper() != INDEX and lists_file(p) and not _is_ours(p)]


def _may_hold_a_scan(path: Path) -> bool:
    """Whether a file is DICOM with a scan in it, or damaged so that it may have been."""
    if not is_dicom_file(path):
        return False
    try:
        return outline(path).is_scan
    except InputError:
        return True


def _is_ours(path: Path) -> bool:
    """Whether it is an object that we wrote beside a scan, which is never taken for a slice of one."""
    return path.suffix == ".dcm" and path.is_file() and OUR_IMPLEMENTATION.encode() in _head(path)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _planes(slices: Sequence[Slice]) -> list[NDArray[Any]]:
    """The values (I, J) of each slice, each file read once."""
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    by_file: dict[Path, list[int]] = {}
    for n, one in enumerate(slices):
        by_file.setdefault(one.path, []).append(n)
    planes: dict[int, NDArray[Any]] = {}
    for places in by_file.values():
        first = slices[places[0]]
        plain = first.frame is None and not first.inverted
        read = [_pixels(reader, first)] if plain else dicom_frames.read_planes([slices[n] for n in places])
        planes.update(zip(places, read, strict=True))
    return [planes[n] for n in range(len(slices))]


def _pixels(reader: Any, header: Slice) -> NDArray[Any]:
    """One slice (I, J), rescaled by GDCM with this file's slope and intercept."""
    try:
        reader.SetFileName(os.fspath(header.path))
        plane = simple_itk().GetArrayFromImage(reader.Execute())
    except (RuntimeError, UnicodeError, MemoryError):
        raise damaged(header.path) from None
    plane = plane.reshape(plane.shape[-2:]).T
    if plane.shape != (header.columns, header.rows) or plane.dtype.kind not in "iuf":
        raise no_plain_slice(header.path)
    return np.asarray(plane)


def _common_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """A type that holds every slice: GDCM rescales some slices of a series to other types."""
    return np.dtype(np.result_type(*dtypes))
