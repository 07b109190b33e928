"""Files that name their structures: segmentations of 3D Slicer, DICOM structure sets and segmentations."""

from __future__ import annotations

from pathlib import Path

from medseg.core.structures import StructureSet
from medseg.io.dicom.series import holds_labels, is_segmentation, is_structure_set
from medseg.io.itk import seg_nrrd
from medseg.io.names import format_of


def states_segments(path: str | Path) -> bool:
    """Whether a file names its structures, and may be placed on the grid of its scan."""
    path = Path(path)
    return format_of(path).holds_labels_only or holds_labels(path)


def read_segments(path: str | Path) -> StructureSet:
    """The structures of such a file: names, colours, and values as `read_labels` gives them.

    Raises:
        InputError: the file is damaged, or its segments contradict each other.
        GeometryError: there is no orientation, or an impossible one.
    """
    path = Path(path)
    if is_structure_set(path):
        from medseg.io.dicom import read_rtstruct as rtstruct

        return rtstruct.read_segments(path)
    if is_segmentation(path):
        from medseg.io.dicom import read_seg as dicom_labels

        return dicom_labels.read_segments(path)
    return seg_nrrd.read_segments(path)
