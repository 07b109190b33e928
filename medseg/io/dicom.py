"""A folder with a DICOM series: its slices found, sorted along their normal, and stacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import InputError
from medseg.io.dicom_geometry import SlicePlace, stack
from medseg.io.itk import simple_itk
from medseg.io.memory import require_memory
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.volume import FileForm

MAGIC_AT, MAGIC = 128, b"DICM"
OUR_IMPLEMENTATION = "2.25.194411524594002913822187401268556170234"
"""Implementation class UID in the head of the objects that we write, see `dicom_source`."""
HEAD = 1024
INDEX = "DICOMDIR"
MODALITIES = ("CT", "MR", "PT", "NM", "US", "XA", "CR", "DX", "SC", "SEG", "RTDOSE")

SERIES, POSITION, ORIENTATION = "0020|000e", "0020|0032", "0020|0037"
PIXEL_SPACING, THICKNESS, BETWEEN = "0028|0030", "0018|0050", "0018|0088"
MODALITY = "0008|0060"


@dataclass(frozen=True)
class Slice:
    """One file's header: which series, how large, and where."""

    path: Path
    uid: str
    modality: str
    columns: int
    rows: int
    place: SlicePlace


@dataclass(frozen=True)
class Series:
    """Slices of one series, in the order of their file names.

    Attributes:
        number: its place in the folder's list, from 1; what `--series` takes.
        uid: the SeriesInstanceUID; identifies the examination, so it is never shown.
        slices: of this series.
    """

    number: int
    uid: str
    slices: tuple[Slice, ...]

    @property
    def summary(self) -> str:
        """Number, modality, slices and sizes: nothing that names anyone."""
        sizes = sorted({(s.columns, s.rows) for s in self.slices})
        kinds = sorted({s.modality if s.modality in MODALITIES else "other" for s in self.slices})
        shapes = ", ".join(f"{c}x{r}" for c, r in sizes)
        return f"{self.number} ({'/'.join(kinds)}, {len(self.slices)} slices of {shapes})"


def is_dicom_folder(path: Path) -> bool:
    """Whether `path` is a folder and a file directly in it is DICOM by its magic bytes."""
    path = Path(path)
    return path.is_dir() and any(_is_dicom(p) for p in _files(path))


def list_series(folder: Path) -> tuple[Series, ...]:
    """The series in a folder, sorted by UID; headers only.

    Raises:
        InputError: a file among the slices is cut, not DICOM, or holds no plain 2D slice.
    """
    folder = Path(folder)
    files = _files(folder)
    if not any(_is_dicom(p) for p in files):
        raise InputError(
            "there are no DICOM files in this folder", source=folder, mend="name the series' folder"
        )
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    slices = [_header(reader, path) for path in files]
    uids = sorted({s.uid for s in slices})
    return tuple(
        Series(n, uid, tuple(s for s in slices if s.uid == uid)) for n, uid in enumerate(uids, start=1)
    )


def files(folder: Path) -> tuple[Path, ...]:
    """The files a folder's series are read from, sorted by name."""
    return tuple(_files(folder))


def describe(folder: Path, options: ReadOptions) -> ImageInfo:
    """What the headers of the chosen series say, checked; reads no voxels.

    Raises:
        InputError: several series and no choice, or a file that is no slice.
        GeometryError: the slices are no regular stack.
    """
    return ordered_slices(folder, options)[0]


def ordered_slices(folder: Path, options: ReadOptions) -> tuple[ImageInfo, Sequence[Slice]]:
    """What `describe` says, and the slices of the chosen series in the order of the grid's last axis.

    Raises:
        InputError: as `describe`.
        GeometryError: as `describe`.
    """
    return _describe(folder, _chosen(folder, options), options)


def read(folder: Path, options: ReadOptions) -> Stored:
    """The chosen series as voxels (1, I, J, K), each slice rescaled as its own header says.

    Raises:
        InputError: several series and no choice, or a file that is no slice.
        GeometryError: the slices are no regular stack.
        ResourceError: the voxels cannot fit in memory.
    """
    info, ordered = ordered_slices(folder, options)
    require_memory(8 * info.grid.voxels, folder)
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    planes = [_pixels(reader, s) for s in ordered]
    out = np.empty(info.shape, dtype=_common_dtype({p.dtype for p in planes}), order="F")
    for k, plane in enumerate(planes):
        out[:, :, k] = plane
    return Stored(info, out[None])


def _describe(folder: Path, series: Series, options: ReadOptions) -> tuple[ImageInfo, Sequence[Slice]]:
    first = series.slices[0]
    if len({(s.columns, s.rows) for s in series.slices}) > 1:
        raise InputError(
            f"slices of one series differ in size: {series.summary}", source=folder, mend="separate them"
        )
    order, grid, warnings = stack(
        [s.place for s in series.slices],
        (first.columns, first.rows),
        [s.path.name for s in series.slices],
        folder,
    )
    info = ImageInfo(
        path=folder,
        format="DICOM series",
        grid=grid,
        channels=1,
        dtype="",
        slope=1.0,
        inter=0.0,
        form=FileForm(suffix=".nii.gz"),
        warnings=warnings,
    )
    return info, [series.slices[n] for n in order]


def _chosen(folder: Path, options: ReadOptions) -> Series:
    found = list_series(folder)
    if options.series is not None:
        for series in found:
            if options.series in (str(series.number), series.uid):
                return series
    elif len(found) == 1:
        return found[0]
    listed = "; ".join(series.summary for series in found)
    what = f"no series {options.series!r}" if options.series is not None else f"{len(found)} series"
    raise InputError(
        f"the folder holds {what}; there are: {listed}", source=folder, mend="choose one with --series NUMBER"
    )


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as fault:
        raise InputError("the folder cannot be read", source=folder, mend="check its rights") from fault
    return [p for p in names if p.name.upper() != INDEX and p.is_file() and not _is_ours(p)]


def _is_dicom(path: Path) -> bool:
    return _head(path)[MAGIC_AT:].startswith(MAGIC)


def _is_ours(path: Path) -> bool:
    """Whether it is an object that we wrote beside a scan, which is never taken for a slice of one."""
    return path.suffix == ".dcm" and OUR_IMPLEMENTATION.encode() in _head(path)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _header(reader: Any, path: Path) -> Slice:
    if not _is_dicom(path):
        raise InputError("the file among the slices is not DICOM", source=path, mend="move it elsewhere")
    try:
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
        tags = {key: reader.GetMetaData(key) for key in _TAGS if reader.HasMetaDataKey(key)}
    except (RuntimeError, UnicodeError, ValueError, TypeError, OverflowError):
        raise InputError("the DICOM file is cut or damaged", source=path, mend="export it again") from None
    if components != 1 or len(size) not in (2, 3) or (len(size) == 3 and size[2] != 1):
        raise InputError(
            "the DICOM file holds colours or several frames, not one slice",
            source=path,
            mend="convert it with dcm2niix",
        )
    return Slice(
        path=path,
        uid=tags.get(SERIES, "").strip(" \0"),
        modality=tags.get(MODALITY, "").strip(" \0"),
        columns=size[0],
        rows=size[1],
        place=_place(tags),
    )


_TAGS = (SERIES, POSITION, ORIENTATION, PIXEL_SPACING, THICKNESS, BETWEEN, MODALITY)


def _place(tags: dict[str, str]) -> SlicePlace:
    return SlicePlace(
        position=_decimals(tags.get(POSITION, ""), 3),
        orientation=_decimals(tags.get(ORIENTATION, ""), 6),
        pixel_spacing=_decimals(tags.get(PIXEL_SPACING, ""), 2),
        thickness=_decimals(tags.get(BETWEEN, "") or tags.get(THICKNESS, ""), 1),
    )


def _decimals(text: str, count: int) -> tuple[float, ...]:
    """The numbers of a decimal string; empty unless there are exactly `count` finite ones."""
    try:
        values = tuple(float(word) for word in text.strip(" \0").split("\\"))
    except ValueError:
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()


def _pixels(reader: Any, header: Slice) -> NDArray[Any]:
    """One slice (I, J), rescaled by GDCM with this file's slope and intercept."""
    try:
        reader.SetFileName(os.fspath(header.path))
        plane = simple_itk().GetArrayFromImage(reader.Execute())
    except (RuntimeError, UnicodeError, MemoryError):
        raise InputError(
            "the DICOM file is cut or damaged", source=header.path, mend="export it again"
        ) from None
    plane = plane.reshape(plane.shape[-2:]).T
    if plane.shape != (header.columns, header.rows) or plane.dtype.kind not in "iuf":
        raise InputError("the DICOM file holds no plain slice", source=header.path, mend="export it again")
    return np.asarray(plane)


def _common_dtype(dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    """A type that holds every slice: GDCM rescales some slices of a series to other types."""
    return np.dtype(np.result_type(*dtypes))
