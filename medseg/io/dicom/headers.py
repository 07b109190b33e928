"""Slices from the headers of DICOM files: the volume they belong to, and their positions."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import GeometryError, InputError, counted, printable
from medseg.io import payload
from medseg.io.dicom.elements import MEND, Outline
from medseg.io.dicom.geometry import SlicePlace
from medseg.io.itk.images import simple_itk

MODALITIES = ("CT", "MR", "PT", "NM", "US", "XA", "CR", "DX", "SC", "SEG", "RTDOSE")

SERIES, MODALITY, IMAGE_TYPE = "0020|000e", "0008|0060", "0008|0008"
IMAGES = "0020|1002"
"""How many images the acquisition has."""
POSITION, ORIENTATION = "0020|0032", "0020|0037"
PIXEL_SPACING, THICKNESS, BETWEEN = "0028|0030", "0018|0050", "0018|0088"
PHOTOMETRIC, SLOPE, INTERCEPT = "0028|0004", "0028|1053", "0028|1052"

IDENTIFYING = {
    "PatientID": "0010|0020", "PatientName": "0010|0010", "IssuerOfPatientID": "0010|0021",
    "PatientBirthDate": "0010|0030", "PatientSex": "0010|0040",
    "StudyInstanceUID": "0020|000d", "FrameOfReferenceUID": "0020|0052",
}  # fmt: skip
"""Whose the slices are, and the space of their positions; no value differs from a value."""
PATIENT = tuple(IDENTIFYING)[:5]
"""Whose they are, alone."""
STATED = {
    "SOPClassUID": "0008|0016", "Modality": MODALITY, "PatientPosition": "0018|5100",
    "RescaleType": "0028|1054", "Units": "0054|1001",
}  # fmt: skip
"""What the slices are, how the patient lay and the unit of the values; two stated values must not differ."""
NUMBER = {"SeriesNumber": "0020|0011"}
"""Compared too where no SeriesInstanceUID says which slices are one series."""
VOLUME = {**IDENTIFYING, **STATED, **NUMBER}
BURNED_IN = "0028|0301"
HEADER_TAGS = (
    SERIES, IMAGE_TYPE, IMAGES, POSITION, ORIENTATION, PIXEL_SPACING, THICKNESS, BETWEEN, PHOTOMETRIC, SLOPE,
    INTERCEPT, BURNED_IN, *VOLUME.values(),
)  # fmt: skip

PLAUSIBLE_BYTES = 2**26
"""Images of more bytes than these are compared with the size of their file before they are read."""
COLOURS = "colours, not grey values"
FRAMES = "several frames without positions"
TABLE = "values that a table (Modality LUT) turns into units, which is not applied"


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or a frame or tile of one.

    Attributes:
        path: its file.
        uid: the SeriesInstanceUID; identifies the examination, so it is never shown.
        modality: as its header has it.
        columns: of its pixels.
        rows: of its pixels.
        place: where it lies.
        volume: values of `VOLUME`; they identify the patient, so they are never shown.
        slope: stored values times this,
        inter: plus this, are the image's values.
        frame: which of its file's frames; None for a file of one slice.
        kind: what its frame is, in words that differ between frames of different volumes.
        inverted: whether its header wants it displayed inverted (MONOCHROME1), which its values are not.
        mosaic: whether it is a tile of its file's only frame.
        annotated: whether its header states that its pixels show what identifies the patient.
        holds: why it is not a slice of a scan; empty if it is one.
        images: of its acquisition, as its header counts them; 0 where it does not.
    """

    path: Path
    uid: str = field(repr=False)
    modality: str
    columns: int
    rows: int
    place: SlicePlace
    volume: Mapping[str, str] = field(repr=False)
    slope: float = 1.0
    inter: float = 0.0
    frame: int | None = None
    kind: tuple[str, ...] = ()
    inverted: bool = False
    mosaic: bool = False
    annotated: bool = False
    holds: str = ""
    images: int = 0


def plain_slice(path: Path, found: Outline) -> Slice | None:
    """The slice of a file that holds one picture; None where the picture is tiled with several (a mosaic).

    Raises:
        InputError: the header is damaged, or claims more pixels than the file can hold.
    """
    tags, size, components = _by_gdcm(path)
    frames = size[2] if len(size) == 3 else 1
    require_plausible(path, *size, components)
    if components == 1 and found.values is not None and found.values < math.prod(size):
        raise InputError(
            f"the DICOM file is cut: its pixels are {found.values} values, and its header states "
            f"{math.prod(size)}",
            source=path,
            hint=MEND,
        )
    if components == 1 and _is_mosaic(tags, found):
        return None
    slope, inter = (_decimals(tags.get(key, ""), 1) for key in (SLOPE, INTERCEPT))
    return Slice(
        path=path,
        uid=_text(tags, SERIES),
        modality=_text(tags, MODALITY),
        columns=size[0],
        rows=size[1],
        place=_place(tags),
        volume={name: _text(tags, key) for name, key in VOLUME.items()},
        slope=slope[0] if slope else 1.0,
        inter=inter[0] if inter else 0.0,
        inverted=_text(tags, PHOTOMETRIC) == "MONOCHROME1",
        images=int(max((0.0, *_decimals(tags.get(IMAGES, ""), 1)))),
        annotated=is_annotated(_text(tags, BURNED_IN)),
        holds=COLOURS if components != 1 else FRAMES if frames != 1 else TABLE if found.has_lut else "",
    )


def is_annotated(burned_in: str) -> bool:
    """Whether a BurnedInAnnotation says that pixels show what identifies the patient (PS3.3, C.7.6.1).

    >>> is_annotated("YES"), is_annotated("NO"), is_annotated("")
    (True, False, False)
    """
    return burned_in.strip(" \0").upper() == "YES"


def require_plausible(path: Path, *sizes: int) -> None:
    """Refuse a header that claims far more pixels than its file can hold.

    Raises:
        InputError: with both sizes.
        ResourceError: it could hold them, as nothing but a bomb does.
    """
    claimed = 2 * math.prod(sizes)
    if claimed > PLAUSIBLE_BYTES:
        payload.require_plausible(path.stat().st_size, claimed, path)


def require_one_volume(slices: Sequence[Slice], source: Path) -> None:
    """Refuse slices of two patients, studies, frames of reference or kinds under one series.

    Raises:
        GeometryError: naming the attribute that differs and two files; no value that identifies anyone.
    """
    names = {**IDENTIFYING, **STATED, **({} if slices[0].uid else NUMBER)}
    for name in names:
        first = next((s for s in slices if s.volume.get(name) or name in IDENTIFYING), slices[0])
        value = _compared(first.volume.get(name, ""))
        for other in slices:
            text = _compared(other.volume.get(name, ""))
            if text == value or (not text and name not in IDENTIFYING):
                continue
            values = "" if name in IDENTIFYING else f" ({_shown(value)} and {_shown(text)})"
            raise GeometryError(
                f"slices of one series differ in {name}{values}: {first.path.name} and {other.path.name}",
                source=source,
                hint="separate the slices into their series, or export the original series",
            )


def lacking(slices: Sequence[Slice], every: Sequence[Slice]) -> tuple[str, ...]:
    """What is said of a series whose headers count more images than there are.

    An acquisition can fill several series, so all that lie there count; a series of which one slice lacks the
    number, or states another, is not held to it.

    Args:
        slices: of the series.
        every: slice that lies there, of any series.
    """
    stated = {one.images for one in slices}
    images = max(stated)
    there = sum(one.images == images for one in every)
    if len(stated) > 1 or there >= images:
        return ()
    return (
        f"The headers state {counted(images, 'image')} in the acquisition, and {there} are there: "
        "the series may lack slices at an end.",
    )


def require_same(stated: Mapping[str, str], one: Slice, what: str, source: Path) -> None:
    """Refuse a file that states another patient than a slice; missing attributes are not compared.

    Raises:
        GeometryError: naming the attribute that differs, without its values.
    """
    for name, value in stated.items():
        text, other = _compared(value), _compared(one.volume[name])
        if text and other and text != other:
            raise GeometryError(f"{what} differ in {name}", source=source, hint="give files of one patient")


def _compared(text: str) -> str:
    """A value without what may differ between two spellings of it."""
    return " ".join(text.casefold().rstrip("^ ").split())


def _shown(text: str) -> str:
    return printable(text[:64])


def _by_gdcm(path: Path) -> tuple[dict[str, str], tuple[int, ...], int]:
    """Attributes, size (columns, rows and frames) and number of colours, as GDCM reads them."""
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
        size, components = tuple(reader.GetSize()), int(reader.GetNumberOfComponents())
        tags = {key: reader.GetMetaData(key) for key in HEADER_TAGS if reader.HasMetaDataKey(key)}
    except (RuntimeError, UnicodeError, ValueError, TypeError, OverflowError):
        raise damaged(path) from None
    if len(size) not in (2, 3):
        raise no_plain_slice(path)
    return tags, size, components


def damaged(path: Path) -> InputError:
    """The fault of a file that the reader of DICOM cannot read."""
    return InputError("the DICOM file is cut or damaged", source=path, hint=MEND)


def no_plain_slice(path: Path) -> InputError:
    """The fault of a file whose pixels are not one slice of the size that its header states."""
    return InputError("the DICOM file does not contain a plain slice", source=path, hint=MEND)


def _is_mosaic(tags: Mapping[str, str], found: Outline) -> bool:
    """Whether the one picture is tiled with the slices of a volume (Siemens)."""
    return "MOSAIC" in re.split(r"[\\ ]+", _text(tags, IMAGE_TYPE)) or found.tiles > 1


def _text(tags: Mapping[str, str], key: str) -> str:
    return tags.get(key, "").strip(" \0")


def _place(tags: Mapping[str, str]) -> SlicePlace:
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


def numbers(value: Any, count: int) -> tuple[float, ...]:
    """The numbers of an attribute as pydicom gives it; empty unless there are exactly `count` finite ones."""
    try:
        values = tuple(float(v) for v in (value if isinstance(value, Sequence | np.ndarray) else [value]))
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()
