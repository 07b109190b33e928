"""DICOM radiotherapy structure sets (RTSTRUCT) as label maps on the grid of the series they were drawn on.

Source: DICOM PS3.3, C.8.8.5 (Structure Set) and C.8.8.6 (ROI Contour).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import GeometryError, InputError, counted, listed, plural
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, LabelMap, Lacking
from medseg.io.dicom import series as dicom
from medseg.io.dicom.contours import Points, filled
from medseg.io.dicom.elements import outline
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.io.dicom.headers import PATIENT, Slice, require_same
from medseg.io.dicom.library import damage_named, dataset
from medseg.io.dicom.source import stated_doubt
from medseg.io.itk.seg_nrrd import distinct_names, tidy_name
from medseg.io.memory import require_memory
from medseg.io.name_matching import name_key, names_by_key
from medseg.io.options import ImageInfo, ReadOptions
from medseg.io.painting import Painting
from medseg.io.values import smallest_dtype

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OTHER_TYPES = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSED_NONPLANAR")
"""Types of contours that bound no pixels of a slice; C.8.8.6.3."""
OFF_SLICE = 0.25
"""Share of the step by which a contour's points may lie off a slice's plane."""
WIDEST = 2**14
"""Pixels along a side of the area that the contours of one slice may reach over."""
SEARCHED_BYTES = 2**16
"""Of each file beside the structure set, in which the UID of its series is looked for."""
CONTOUR_DATA = 0x30060050
WHAT = "a radiotherapy structure set"


@dataclass(frozen=True)
class Roi:
    """A structure as its file states it.

    Attributes:
        name: what people call it.
        value: its label.
        colour: `#rrggbb`; empty where none is stated.
        contours: closed polygons (n, 3), LPS mm.
        frame_of_reference: of their positions; identifies the examination, so it is never shown.
        number: of its segment, in a DICOM segmentation, which has no contours.
        left_out: the type of each contour that is no closed polygon of three points or more.
    """

    name: str
    value: int
    colour: str
    contours: tuple[Points, ...]
    frame_of_reference: str
    number: int = 0
    left_out: tuple[str, ...] = ()


def read_segments(path: Path) -> StructureSet:
    """The structures of a structure set: names, colours, and values as `read_labels` gives them.

    Raises:
        InputError: the file is damaged, or holds no closed contour.
    """
    rois, _ = _rois(_header(path), path)
    return StructureSet(tuple(structure_of(roi) for roi in rois))


def read_labels(
    path: Path, structures: StructureSet | None = None, series_in: Path | None = None
) -> LabelMap:
    """The structures of a file painted on the grid of the series that it refers to, which lies beside it.

    Holes are kept (see `contours.filled`). Where structures overlap, the smaller one counts, or with
    `structures` the later one, and a warning says how many voxels they share.

    Args:
        path: of the structure set; its series is looked for in its folder, the folders in that, and those
            beside it.
        structures: whose names give structures their values; capitals, blanks and signs do not count, and
            others are left out. None numbers the structures in the file's order, from 1.
        series_in: a folder in which, and in whose folders, the series is looked for first.

    Raises:
        InputError: the file is damaged, has none of the structures, or its series is not beside it.
        GeometryError: the series is another patient's, a contour lies between its slices, or a structure
            outside its image.
        ResourceError: the labels cannot fit in memory.
    """
    header = _header(path)
    rois, said = _rois(header, path)
    info, slices = series_beside(_uids(header, path), path, WHAT, series_in)
    require_same_place(header, rois, slices, path, WHAT)
    require_memory(4 * info.grid.voxels, path)
    said += stated_doubt(header)
    lacking: Lacking = ()
    if structures is not None:
        rois, more, lacking = wanted(rois, structures, path, WHAT)
        said += more
    left_out = tuple((roi.value, text) for roi in rois for text in _left_out(roi))
    masks = [(roi, _mask(roi, info.grid, path)) for roi in rois]
    if structures is None:
        masks.sort(key=lambda pair: -int(np.count_nonzero(pair[1])))
    painting = Painting(info.shape, smallest_dtype(np.array([0, *(roi.value for roi, _ in masks)]), path))
    for roi, mask in masks:
        painting.add(roi.name, roi.value, mask)
    gaps = tuple((roi.value, text) for roi, mask in masks for text in _gaps(roi, mask))
    own = left_out + gaps
    said = info.warnings + said + tuple(text for _, text in own) + painting.warnings
    return LabelMap(painting.array, info.grid, info.form, said, lacking=lacking + own + painting.lacking)


def _header(path: Path) -> Any:
    outline(path)
    return dataset(path)


def structure_of(roi: Roi) -> Structure:
    """What a file states of a structure."""
    return Structure(roi.value, roi.name, colour=roi.colour) if roi.colour else Structure(roi.value, roi.name)


def _rois(header: Any, path: Path) -> tuple[tuple[Roi, ...], tuple[str, ...]]:
    """The structures with closed contours, numbered in their order, and what is said of the others."""
    with damage_named(path, f"{WHAT} that is damaged"):
        stated = list(header.StructureSetROISequence)
        contours = {int(c.ReferencedROINumber): c for c in header.get("ROIContourSequence") or ()}
        names = distinct_names([tidy_name(str(r.get("ROIName") or "")) or "structure" for r in stated])
        found = [_roi(r, contours.get(int(r.ROINumber)), name) for r, name in zip(stated, names, strict=True)]
    kept = [roi for roi in found if roi.contours]
    if not kept:
        raise InputError(f"{WHAT} without closed contours", source=path, hint="draw the structures")
    said: tuple[str, ...] = ()
    if len(kept) < len(found):
        said = (f"Left out: {counted(len(found) - len(kept), 'structure')} without closed contours.",)
    return tuple(replace(roi, value=n) for n, roi in enumerate(kept, start=1)), said


def wanted(
    rois: Sequence[Roi], structures: StructureSet, path: Path, what: str
) -> tuple[tuple[Roi, ...], tuple[str, ...], Lacking]:
    """The structures that have a name which is wanted, in the order and with the values of these.

    With them comes what is said of the others, and that of it which is `LabelMap.lacking`.

    Raises:
        InputError: there is none, or two are one; `what` says what the file is.
    """
    names = names_by_key({s.name: s.value for s in structures})
    by_key: dict[str, Roi] = {}
    for roi in rois:
        other = by_key.setdefault(name_key(roi.name), roi)
        if other is not roi and name_key(roi.name) in names:
            raise InputError(
                f"{what} in which {other.name!r} and {roi.name!r} are the same structure",
                source=path,
                hint="rename one",
            )
    chosen = tuple(
        replace(by_key[key], value=structures[name].value) for key, name in names.items() if key in by_key
    )
    if not chosen:
        raise InputError(
            f"{what} with none of the structures wanted ({listed(structures.names)}); it has "
            f"{listed([roi.name for roi in rois])}",
            source=path,
            hint="give their names with --labels",
        )
    missing = [s for s in structures if name_key(s.name) not in by_key]
    said: tuple[str, ...] = ()
    if missing:
        said = (f"The file lacks {listed([s.name for s in missing])}; taken as absent.",)
    lacking = tuple((s.value, said[0]) for s in missing)
    left = len(rois) - len(chosen)
    if left:
        said += (f"Left out: {counted(left, 'structure')} of the file, because not requested.",)
    return chosen, said, lacking


def _roi(stated: Any, drawn: Any, name: str) -> Roi:
    items = [] if drawn is None else drawn.get("ContourSequence") or ()
    types = [str(c.get("ContourGeometricType") or "") for c in items]
    drawn_points = [_points(c) if kind in CLOSED else None for c, kind in zip(items, types, strict=True)]
    shares = [] if drawn is None else list(drawn.get("ROIDisplayColor") or ())
    good = len(shares) == 3 and all(0 <= int(s) <= 255 for s in shares)
    return Roi(
        name=name,
        value=0,
        colour="#" + "".join(f"{int(s):02x}" for s in shares) if good else "",
        contours=tuple(points for points in drawn_points if points is not None and len(points) > 2),
        frame_of_reference=str(stated.get("ReferencedFrameOfReferenceUID") or ""),
        left_out=tuple(
            kind
            for kind, points in zip(types, drawn_points, strict=True)
            if points is None or len(points) < 3
        ),
    )


def _points(contour: Any) -> Points:
    """The points (n, 3) of a contour, LPS mm; its text is read at once, which can be megabytes.

    Raises:
        ValueError: they are no finite triples.
    """
    value = contour.get_item(CONTOUR_DATA).value
    words = value.decode("ascii").strip(" \0").split("\\") if isinstance(value, bytes) else value
    points = np.array([float(word) for word in words]).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("not finite")
    return points


def _uids(header: Any, path: Path) -> list[str]:
    """The series that a structure set refers to."""
    with damage_named(path, f"{WHAT} that is damaged"):
        return list(dict.fromkeys(_referenced(header)))


def series_beside(
    uids: Sequence[str], path: Path, what: str, series_in: Path | None = None
) -> tuple[ImageInfo, Sequence[Slice]]:
    """The series that a file refers to, in a folder that is named, or beside it.

    Raises:
        InputError: it refers to none or several, or the series is not there; `what` says what the file is.
    """
    found = [(folder, uid) for uid in uids for folder in _folders(path, series_in) if _holds(folder, uid)]
    if not found:
        raise InputError(
            f"{what} whose series is not beside it (in its folder, or a folder in or beside that)"
            + (f", nor in {series_in.name}" if series_in else ""),
            source=path,
            hint="name the folder of the series on which it was drawn with --series-in, or put it there",
        )
    if len({uid for _, uid in found}) > 1:
        raise InputError(
            f"{what} that refers to {len(uids)} series", source=path, hint="keep beside it the one it is for"
        )
    folder, uid = found[0]
    return dicom.ordered_slices(folder, ReadOptions(series=uid))


def _referenced(header: Any) -> Iterator[str]:
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.SeriesInstanceUID)


def _folders(path: Path, series_in: Path | None) -> Iterator[Path]:
    """Where the series may be, the likeliest first."""
    if series_in is not None:
        if not series_in.is_dir():
            raise InputError("there is no such folder", source=series_in, hint="check --series-in")
        yield series_in
        yield from sorted(p for p in series_in.iterdir() if p.is_dir())
    here = path.resolve().parent
    yield here
    for parent in (here, here.parent):
        yield from sorted(p for p in parent.iterdir() if p.is_dir() and p != here and p.name[:1] != ".")


def _holds(folder: Path, uid: str) -> bool:
    """Whether an image in a folder is of a series."""
    for path in dicom.files(folder):
        if not dicom.is_dicom_file(path):
            continue
        with path.open("rb") as stream:
            if uid.encode() not in stream.read(SEARCHED_BYTES):
                continue
        if outline(path).is_scan:
            return True
    return False


def require_same_place(
    header: Any, rois: Sequence[Roi], slices: Sequence[Slice], path: Path, what: str
) -> None:
    """Refuse a file of another patient than the series it refers to, or in another space.

    Raises:
        GeometryError: `what` says what the file is.
    """
    patient = {name: str(header.get(name) or "") for name in PATIENT}
    require_same(patient, slices[0], f"{what.removeprefix('a ')} and its series", path)
    space = slices[0].volume["FrameOfReferenceUID"]
    if any(space and roi.frame_of_reference not in ("", space) for roi in rois):
        raise GeometryError(
            f"{what} in another FrameOfReferenceUID than the series that it refers to",
            source=path,
            hint="export both again",
        )


def _mask(roi: Roi, grid: Grid, path: Path) -> NDArray[np.bool_]:
    """The voxels (I, J, K) of a structure."""
    planes: dict[int, list[Points]] = {}
    to_index = np.linalg.inv(grid.affine)
    for contour in roi.contours:
        ras = contour @ LPS_TO_RAS
        index = ras @ to_index[:3, :3].T + to_index[:3, 3]
        k = int(np.rint(np.median(index[:, 2])))
        off = float(np.abs(index[:, 2] - k).max())
        if off > OFF_SLICE:
            raise GeometryError(
                f"a contour of {roi.name!r} lies {off:.2f} slices off the slice {k} of its series "
                f"(limit {OFF_SLICE})",
                source=path,
                hint="draw it on the slices of the series",
            )
        planes.setdefault(k, []).append(index[:, :2])
    outside = [k for k in planes if not 0 <= k < grid.shape[2]]
    if outside:
        raise GeometryError(
            f"{counted(len(outside), 'contoured slice')} of {roi.name!r} "
            f"{plural(len(outside), 'lies', 'lie')} outside the series, such as "
            f"number {outside[0]} of 0 to {grid.shape[2] - 1}",
            source=path,
            hint="give the whole series",
        )
    mask = np.zeros(grid.shape, dtype=np.bool_)
    lost = 0
    for k, contours in planes.items():
        mask[:, :, k] = filled(contours, grid.shape[:2])
        lost += _pixels(roi, contours, path) - int(np.count_nonzero(mask[:, :, k]))
    if lost:
        raise GeometryError(
            f"{counted(lost, 'voxel')} of {roi.name!r} {plural(lost, 'lies', 'lie')} outside the series",
            source=path,
            hint="give the series on which it was drawn",
        )
    return mask


def _pixels(roi: Roi, contours: Sequence[Points], path: Path) -> int:
    """The pixels of a slice that contours (n, 2) surround, in the image or beyond it."""
    every = np.concatenate(contours)
    low = np.floor(every.min(axis=0))
    columns, rows = (int(n) for n in np.ceil(every.max(axis=0)) - low + 1)
    if max(columns, rows) > WIDEST:
        raise GeometryError(
            f"the contours of {roi.name!r} in a slice reach over {columns} x {rows} pixels",
            source=path,
            hint="export it again",
        )
    return int(np.count_nonzero(filled([points - low for points in contours], (columns, rows))))


def _left_out(roi: Roi) -> tuple[str, ...]:
    """What is said of contours that were not read, beside others that were."""
    if not roi.left_out:
        return ()
    count = len(roi.left_out)
    kinds = sorted({kind for kind in roi.left_out if kind in OTHER_TYPES})
    return (
        f"Left out: {counted(count, 'contour')} of {roi.name} that {plural(count, 'is', 'are')} not a closed "
        f"polygon{f' ({listed(kinds)})' if kinds else ''}.",
    )


def _gaps(roi: Roi, mask: NDArray[np.bool_]) -> tuple[str, ...]:
    """What is said of a structure without voxels, and of slices without any between two that have some."""
    there = np.flatnonzero(mask.any(axis=(0, 1)))
    if not there.size:
        return (f"The contours of {roi.name} surround the centre of no voxel; taken as absent.",)
    missing = int(there[-1] - there[0] + 1 - there.size)
    if not missing:
        return ()
    return (f"{roi.name} has no contour on {counted(missing, 'slice')} between its first and last.",)
