"""Slices that are frames of one file (enhanced multi-frame DICOM), or tiles of one picture (Siemens mosaic).

Source: DICOM PS3.3, C.7.6.16 (multi-frame functional groups) and C.7.6.17 (dimensions); for the mosaic,
nibabel's reader of the vendor's private header.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.io.dicom.geometry import SlicePlace
from medseg.io.dicom.headers import COLOURS, VOLUME, Slice, is_annotated, numbers, require_plausible
from medseg.io.dicom.library import damage_named, dataset
from medseg.io.dicom.pixels import stored_pixels

ENHANCED, MOSAIC = "an enhanced multi-frame file", "a mosaic"
NOWHERE = SlicePlace((), (), (), ())
IN_STACK, POSITIONS = 0x00209057, (0x00200032, 0x00209113, 0x00201041)
"""Dimensions that count the slices of a stack."""
DCM2NIIX = "convert the original with dcm2niix"


def read_slices(path: Path, *, mosaic: bool) -> tuple[Slice, ...]:
    """The slices of a file with functional groups, or of a mosaic.

    Raises:
        InputError: the header is damaged, or does not say where they lie.
    """
    header = dataset(path)
    fault = f"{MOSAIC if mosaic else ENHANCED} whose header does not state the positions of its slices"
    with damage_named(path, fault, DCM2NIIX):
        return _tiles(header, path) if mosaic else _frames(header, path)


def read_planes(slices: Sequence[Slice]) -> list[NDArray[Any]]:
    """The values (I, J) of slices of one file: stored, then rescaled with each one's numbers.

    Raises:
        InputError: the pixels are damaged, or of an encoding that is not read.
    """
    first = slices[0]
    stored = stored_pixels(first.path)
    if first.mosaic:
        stored = _cut(stored[0], first)
    count = len(stored)
    if any((s.frame or 0) >= count or stored.shape[1:] != (s.rows, s.columns) for s in slices):
        raise InputError(
            "the pixel data do not have the stated size", source=first.path, hint="export it again"
        )
    return [_rescaled(stored[s.frame or 0].T, s.slope, s.inter) for s in slices]


def kinds(slices: Sequence[Slice]) -> list[tuple[str, tuple[Slice, ...]]]:
    """Slices of one series by kind, in the order in which the kinds appear, and what each is, in words.

    Files of frames of one kind that lie at the same places, such as points in time, are kinds of their own.
    """
    found: dict[tuple[str, ...], list[Slice]] = {}
    for one in slices:
        found.setdefault(one.kind, []).append(one)
    groups = [(kind, group) for kind, each in found.items() for group in _by_file(each)]
    varying = {part for kind, _ in groups for part in kind if any(part not in other for other, _ in groups)}
    return [
        (", ".join([*(part for part in kind if part in varying), *([name] if name else [])]), tuple(group))
        for kind, (name, group) in groups
    ]


def _by_file(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """One group without a name; or one a file, where several files of frames share a place."""
    files: dict[Path, list[Slice]] = {}
    for one in slices:
        files.setdefault(one.path, []).append(one)
    places = {one.place.position for one in slices}
    if len(files) < 2 or slices[0].frame is None or len(places) == len(slices):
        return [("", list(slices))]
    return [(f"file {n}", each) for n, each in enumerate(files.values(), start=1)]


def _rescaled(stored: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """Values of integers as integers where the numbers are whole, else as float64."""
    if (slope, inter) == (1.0, 0.0):
        return stored
    values = stored.astype(np.float64) * slope + inter
    whole = stored.dtype.kind in "iu" and float(slope).is_integer() and float(inter).is_integer()
    return values.astype(np.int32) if whole and np.abs(values).max(initial=0) < 2**31 else values


def _frames(header: Any, path: Path) -> tuple[Slice, ...]:
    """The frames of an enhanced file, told apart by kind."""
    require_plausible(path, int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1))
    if int(header.get("SamplesPerPixel") or 1) != 1:
        return (replace(_slice(header, path, NOWHERE), holds=COLOURS),)
    shared = _first(header, "SharedFunctionalGroupsSequence")
    frames = list(header.PerFrameFunctionalGroupsSequence)
    groups = [_Groups(frame, shared) for frame in frames]
    places = [_place(g) for g in groups]
    names = _kinds(header, groups, places)
    return tuple(
        _frame(_slice(header, path, place), n, name, g)
        for n, (g, place, name) in enumerate(zip(groups, places, names, strict=True))
    )


class _Groups:
    """Functional groups of a frame: its own, else those all frames share."""

    def __init__(self, own: Any, shared: Any) -> None:
        self.own, self.shared = own, shared

    def get(self, sequence: str, keyword: str) -> Any:
        """An attribute of the one item of a functional group; None where there is none."""
        for groups in (self.own, self.shared):
            if (item := _first(groups, sequence)) is not None:
                return item.get(keyword)
        return None


def _first(item: Any, sequence: str) -> Any:
    found = None if item is None else item.get(sequence)
    return found[0] if found else None


def _place(groups: _Groups) -> SlicePlace:
    between = groups.get("PixelMeasuresSequence", "SpacingBetweenSlices")
    return SlicePlace(
        position=numbers(groups.get("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=numbers(groups.get("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        pixel_spacing=numbers(groups.get("PixelMeasuresSequence", "PixelSpacing"), 2),
        thickness=numbers(between or groups.get("PixelMeasuresSequence", "SliceThickness"), 1),
    )


def _frame(one: Slice, number: int, kind: tuple[str, ...], groups: _Groups) -> Slice:
    slope = numbers(groups.get("PixelValueTransformationSequence", "RescaleSlope"), 1)
    inter = numbers(groups.get("PixelValueTransformationSequence", "RescaleIntercept"), 1)
    return replace(
        one, frame=number, kind=kind, slope=slope[0] if slope else 1.0, inter=inter[0] if inter else 0.0
    )


def _slice(header: Any, path: Path, place: SlicePlace) -> Slice:
    """What all slices of a file share."""
    return Slice(
        path=path,
        uid=str(header.get("SeriesInstanceUID") or ""),
        modality=str(header.get("Modality") or ""),
        columns=int(header.Columns),
        rows=int(header.Rows),
        place=place,
        volume={name: _text(header.get(name)) for name in VOLUME},
        annotated=is_annotated(_text(header.get("BurnedInAnnotation"))),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip(" \0")


def _kinds(header: Any, groups: Sequence[_Groups], places: Sequence[SlicePlace]) -> list[tuple[str, ...]]:
    """What each frame is, in words that differ wherever two frames are of different volumes.

    Frame type, echo time, diffusion, time and stack always tell kinds apart; of the other dimensions, those
    without which two frames of one kind would lie at the same place.
    """
    parts = [[name(g) for g in groups] for name in NAMED]
    dimensions = _dimensions(header, groups)
    chosen = list(dimensions)
    for dimension in dimensions:
        fewer = [d for d in chosen if d is not dimension]
        if not _share_a_place([*parts, *fewer], places):
            chosen = fewer
    return [tuple(filter(None, words)) for words in zip(*parts, *chosen, strict=True)]


def _share_a_place(columns: Sequence[Sequence[str]], places: Sequence[SlicePlace]) -> bool:
    keys = [place.position for place in places]
    return len(set(zip(keys, *columns, strict=True))) < len(keys)


def _dimensions(header: Any, groups: Sequence[_Groups]) -> list[list[str]]:
    """The index of each frame in each dimension that varies and does not count the slices."""
    pointers = [int(item.DimensionIndexPointer) for item in header.get("DimensionIndexSequence") or ()]
    rows = [g.get("FrameContentSequence", "DimensionIndexValues") for g in groups]
    values = [list(r) if isinstance(r, Sequence) else [r] for r in rows]
    if any(len(row) != len(pointers) for row in values):
        return []
    columns = [
        [f"dimension {n}: {row[n - 1]}" for row in values]
        for n, pointer in enumerate(pointers, start=1)
        if pointer not in (IN_STACK, *POSITIONS)
    ]
    return [column for column in columns if len(set(column)) > 1]


def _frame_type(groups: _Groups) -> str:
    """The words of the frame type, which the standard or the vendor defines."""
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
        words = groups.get(sequence, "FrameType")
        if words:
            return "/".join(w for w in map(str, words) if w.replace("_", "").isalnum() and len(w) <= 16)
    return ""


def _number(sequence: str, keyword: str, text: str) -> Callable[[_Groups], str]:
    def name(groups: _Groups) -> str:
        found = numbers(groups.get(sequence, keyword), 1)
        return text.format(found[0]) if found else ""

    return name


def _orientation(groups: _Groups) -> str:
    """The orientation to three digits, which differs between the planes of a localiser."""
    found = numbers(groups.get("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    return "orientation " + "\\".join(f"{v:.3f}" for v in found) if found else ""


NAMED: tuple[Callable[[_Groups], str], ...] = (
    _frame_type,
    _number("MREchoSequence", "EffectiveEchoTime", "echo time {:g} ms"),
    _number("MRDiffusionSequence", "DiffusionBValue", "b-value {:g}"),
    _number("FrameContentSequence", "TemporalPositionIndex", "time {:g}"),
    _number("FrameContentSequence", "StackID", "stack {:g}"),
    _orientation,
)


def _tiles(header: Any, path: Path) -> tuple[Slice, ...]:
    """The slices of a mosaic, placed by the vendor's header as nibabel understands it."""
    from nibabel.nicom.dicomwrappers import MosaicWrapper, wrapper_from_data

    mosaic = wrapper_from_data(header)
    if not isinstance(mosaic, MosaicWrapper):
        raise InputError(
            "is a mosaic (many slices tiled in one picture) without the vendor header that describes it",
            source=path,
            hint=DCM2NIIX,
        )
    rows, columns, count = _tiling(header, mosaic, path)
    affine = np.asarray(mosaic.affine, dtype=np.float64)  # LPS, of (row, column, slice)
    row_mm, column_mm, step_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    slope, inter = numbers(header.get("RescaleSlope"), 1), numbers(header.get("RescaleIntercept"), 1)
    place = SlicePlace(
        position=(),
        orientation=(*affine[:3, 1] / column_mm, *affine[:3, 0] / row_mm),
        pixel_spacing=(float(row_mm), float(column_mm)),
        thickness=(float(step_mm),),
    )
    whole = replace(
        _slice(header, path, place),
        rows=rows,
        columns=columns,
        mosaic=True,
        slope=slope[0] if slope else 1.0,
        inter=inter[0] if inter else 0.0,
    )
    positions = [affine[:3, 3] + n * affine[:3, 2] for n in range(count)]
    return tuple(
        replace(whole, frame=n, place=replace(place, position=tuple(map(float, position))))
        for n, position in enumerate(positions)
    )


def _tiling(header: Any, mosaic: Any, path: Path) -> tuple[int, int, int]:
    """Rows and columns of a tile, and the number of slices; the tiles lie in as many rows as columns."""
    rows, columns, count = (int(n) for n in mosaic.image_shape)
    side = math.isqrt(max(count - 1, 0)) + 1
    if (rows * side, columns * side) != (int(header.Rows), int(header.Columns)):
        raise InputError(
            f"{MOSAIC} of {int(header.Columns)}x{int(header.Rows)} pixels, which are not the tiles of "
            f"{count} slices ({side}x{side})",
            source=path,
            hint=DCM2NIIX,
        )
    return rows, columns, count


def _cut(picture: NDArray[Any], tile: Slice) -> NDArray[Any]:
    """The tiles (tile, rows, columns) of a picture, row by row."""
    down, across = picture.shape[0] // tile.rows, picture.shape[1] // tile.columns
    tiles = picture[: down * tile.rows, : across * tile.columns]
    tiles = tiles.reshape(down, tile.rows, across, tile.columns).transpose(0, 2, 1, 3)
    return tiles.reshape(down * across, tile.rows, tile.columns)
