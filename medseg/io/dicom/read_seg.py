"""DICOM segmentations (SEG) as label maps on the grid of the series that they refer to.

Source: DICOM PS3.3, C.8.20 (Segmentation). Frames are placed by their own positions, by highdicom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import LPS_TO_RAS
from medseg.core.errors import InputError, counted
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid, LabelMap, Lacking
from medseg.io.dicom.elements import outline
from medseg.io.dicom.library import damage_named
from medseg.io.dicom.read_rtstruct import Roi, require_same_place, series_beside, structure_of, wanted
from medseg.io.dicom.source import highdicom, stated_doubt
from medseg.io.itk.seg_nrrd import distinct_names, tidy_name
from medseg.io.memory import require_memory
from medseg.io.painting import Painting
from medseg.io.placement import on_grid
from medseg.io.values import smallest_dtype

KINDS = ("BINARY", "LABELMAP")
WHAT = "a DICOM segmentation"

Masks = list[tuple[Roi, NDArray[np.bool_]]]


def read_segments(path: Path) -> StructureSet:
    """The structures of a segmentation: names, colours, and the numbers of their segments as values.

    Raises:
        InputError: the file is damaged, holds fractions or no segment.
        UsageError: highdicom is not installed.
    """
    return StructureSet(tuple(structure_of(roi) for roi in _rois(_opened(path), path)))


def read_labels(
    path: Path, structures: StructureSet | None = None, series_in: Path | None = None
) -> LabelMap:
    """The segments of a file on the grid of the series that it refers to, which lies beside it.

    Of a segment inside another one the inner counts, and a warning says so.

    Args:
        path: of the segmentation; its series is looked for as `read_rtstruct.read_labels` does.
        structures: whose names give segments their values; capitals, blanks and signs do not count, and
            others are left out. None takes the numbers of the segments.
        series_in: see `read_rtstruct.read_labels`.

    Raises:
        InputError: the file is damaged, has none of the structures, two segments overlap and neither is
            inside the other, or the series is not beside it.
        GeometryError: the series is another patient's, or the voxels are not the series'.
        ResourceError: the labels cannot fit in memory.
        UsageError: highdicom is not installed.
    """
    opened = _opened(path)
    rois = _rois(opened, path)
    said = stated_doubt(opened)
    lacking: Lacking = ()
    info, slices = series_beside([_referenced(opened, path)], path, WHAT, series_in)
    require_same_place(opened, rois, slices, path, WHAT)
    require_memory((4 + len(rois)) * info.grid.voxels, path)
    if structures is not None:
        rois, more, lacking = wanted(rois, structures, path, WHAT)
        said += more
    masks = [(roi, _mask(opened, roi, info.grid, path)) for roi in rois]
    masks.sort(key=lambda pair: -int(np.count_nonzero(pair[1])))
    painting = Painting(info.shape, smallest_dtype(np.array([0, *(roi.value for roi in rois)]), path))
    for number, (roi, mask) in enumerate(masks):
        _require_inside(roi, mask, masks[:number], painting, path)
        painting.add(roi.name, roi.value, mask)
    said = info.warnings + said + painting.warnings
    return LabelMap(painting.array, info.grid, info.form, said, lacking=lacking + painting.lacking)


def _opened(path: Path) -> Any:
    """The object, its lengths checked first."""
    hd = highdicom()
    outline(path)
    with damage_named(path, f"{WHAT} that is damaged"):
        opened = hd.seg.segread(path)
        kind = str(opened.SegmentationType)
    if kind not in KINDS:
        raise InputError(
            f"{WHAT} of the type {kind.lower()}", source=path, hint="export it as BINARY or LABELMAP"
        )
    return opened


def _rois(opened: Any, path: Path) -> tuple[Roi, ...]:
    """The segments in the order of their numbers; 0, the background of a label map, is none."""
    with damage_named(path, f"{WHAT} that is damaged"):
        stated = {int(s.SegmentNumber): s for s in opened.SegmentSequence}
        numbers = sorted(n for n in stated if n)
        names = distinct_names([tidy_name(str(stated[n].SegmentLabel or "")) or "segment" for n in numbers])
        frame = str(opened.get("FrameOfReferenceUID") or "")
        found = tuple(
            Roi(name, n, _colour(stated[n]), (), frame, n) for n, name in zip(numbers, names, strict=True)
        )
    if not found:
        raise InputError(f"{WHAT} without segments", source=path, hint="export it again")
    return found


def _colour(stated: Any) -> str:
    """The colour of a segment as `#rrggbb`; empty where none is stated."""
    value = stated.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return ""
    from skimage.color import lab2rgb

    lab = np.array([int(v) for v in value]) / 65535 * [100, 255, 255] - [0, 128, 128]
    return "#" + "".join(f"{round(255 * float(share)):02x}" for share in lab2rgb(lab))


def _referenced(opened: Any, path: Path) -> str:
    with damage_named(path, f"{WHAT} that does not name the one series that it belongs to"):
        (series,) = opened.ReferencedSeriesSequence
        return str(series.SeriesInstanceUID)


def _mask(opened: Any, roi: Roi, grid: Grid, path: Path) -> NDArray[np.bool_]:
    """The voxels (I, J, K) of a segment on the series' grid."""
    with damage_named(path, f"{WHAT} whose frames are damaged or not a regular stack"):
        volume = opened.get_volume(segment_numbers=[roi.number], combine_segments=False)
        array = np.asarray(volume.array)[..., 0].astype(np.uint8)
        affine = LPS_TO_RAS @ np.asarray(volume.affine, dtype=np.float64)
    return on_grid(LabelMap(array, Grid(array.shape, affine)), grid, path).array.astype(np.bool_)


def _require_inside(roi: Roi, mask: NDArray[np.bool_], larger: Masks, painting: Painting, path: Path) -> None:
    """Refuse a segment that shares voxels with a larger one and reaches beyond it."""
    touched = set(np.unique(painting.array[mask]).tolist())
    for other, whole in larger:
        if other.value not in touched:
            continue
        shared = int(np.count_nonzero(whole & mask))
        if shared < np.count_nonzero(mask):
            raise InputError(
                f"{WHAT} whose segments {other.name!r} and {roi.name!r} share {counted(shared, 'voxel')}, "
                "and neither lies inside the other",
                source=path,
                hint="leave one out, or draw one inside the other",
            )
