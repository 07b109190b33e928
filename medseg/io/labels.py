"""Label maps of any format, and the structures that some of their files name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.structures import StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.io.contents import require_true_suffix
from medseg.io.dicom import read_rtstruct as rtstruct
from medseg.io.dicom import read_seg as dicom_labels
from medseg.io.dicom.series import holds_labels, is_dicom_folder, is_segmentation, is_structure_set
from medseg.io.itk import seg_nrrd
from medseg.io.masks import read_mask_folder
from medseg.io.memory import out_of_memory_named
from medseg.io.name_matching import renamed
from medseg.io.names import format_of
from medseg.io.options import DEFAULT, ReadOptions
from medseg.io.placement import on_grid
from medseg.io.read import inspect, read_label_values


def read_labels(
    path: str | Path,
    *,
    structures: StructureSet | None = None,
    like: Grid | None = None,
    options: ReadOptions = DEFAULT,
) -> LabelMap:
    """Read a label map (I, J, K); labels stored as numbers within 1e-3 of integers are rounded.

    Args:
        path: a file, a folder with a DICOM series, or with `structures` a folder of one mask a
            structure (see `read_mask_folder`). A DICOM structure set (RTSTRUCT) or segmentation (SEG) is
            painted on the series that it refers to, which lies beside it or in `options.series_in` (see
            `read_rtstruct.read_labels`).
        structures: whose names give masks, the named segments of a `.seg.nrrd` and the structures of an
            RTSTRUCT their values.
        like: the grid wanted: a `.seg.nrrd`, which may be cropped to its segments, is placed on it.
            Other formats keep their own.
        options: decisions the file leaves open.

    Raises:
        InputError: a value is no integer, a name is unknown, or the file is damaged or not 3D.
        GeometryError: the grid is impossible, contradictory or absent.
        GridMismatchError: a `.seg.nrrd` is no part of the grid wanted, or masks lie on several grids.
        ResourceError: the labels cannot fit in memory.
    """
    path = Path(path)
    with out_of_memory_named(path):
        if structures is not None and path.is_dir() and not is_dicom_folder(path):
            return read_mask_folder(path, {s.name: s.value for s in structures}, others=True)[0]
        if holds_labels(path):
            reader = rtstruct if is_structure_set(path) else dicom_labels
            drawn = reader.read_labels(path, structures, options.series_in)
            return drawn if like is None else on_grid(drawn, like, path)
        found = read_label_values(path, options)
        if format_of(path).holds_labels_only:
            return _segmentation(path, found, structures, like)
        return found


def read_label_file(
    path: Path, reading: ReadOptions, structures: StructureSet | None = None, like: Grid | None = None
) -> LabelMap:
    """`read_labels` by decisions taken for several files; a volume is chosen where a file has several.

    Args:
        path: a file or folder, as `read_labels` takes it.
        reading: the decisions.
        structures: as `read_labels` takes them.
        like: the grid wanted, as `read_labels` takes it.

    Raises:
        MedsegError: it cannot be read as labels.
    """
    volumes = 1 if reading.volume is None or path.is_dir() else inspect(path, options=reading).channels
    return read_labels(path, structures=structures, like=like, options=reading.of_labels(volumes))


def states_segments(path: str | Path) -> bool:
    """Whether a file names its structures, and may be placed on the grid of its scan.

    Such are segmentations of 3D Slicer, DICOM structure sets and DICOM segmentations.
    """
    path = Path(path)
    return format_of(path).holds_labels_only or holds_labels(path)


def read_segments(path: str | Path) -> StructureSet:
    """The structures of a file that names them: names, colours, and values as `read_labels` gives them.

    Raises:
        InputError: the file is damaged, or its segments contradict each other.
        GeometryError: there is no orientation, or an impossible one.
    """
    path = Path(path)
    if is_structure_set(path):
        return rtstruct.read_segments(path)
    if is_segmentation(path):
        return dicom_labels.read_segments(path)
    require_true_suffix(path)
    return seg_nrrd.read_segments(path)


def _segmentation(
    path: Path, labels: LabelMap, structures: StructureSet | None, like: Grid | None
) -> LabelMap:
    """A segmentation of 3D Slicer in the values of the structures it names, on the grid wanted."""
    if structures is not None:
        labels = renamed(labels, seg_nrrd.read_segments(path), structures, path)
    if like is None:
        return labels
    if labels.grid.voxels == 1 and not labels.array.any():
        return replace(labels, array=np.zeros(like.shape, dtype=labels.array.dtype), grid=like)
    return on_grid(labels, like, path)
