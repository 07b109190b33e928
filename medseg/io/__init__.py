"""Scans and label maps from and to files: NIfTI, MetaImage, NRRD, 3D Slicer, DICOM series, pictures."""

from medseg.io.dicom.series import Series, is_dicom_folder, list_series
from medseg.io.digest import digest_of, digest_of_files
from medseg.io.formats import SUFFIXES
from medseg.io.labels import read_label_file, read_labels, read_segments, states_segments
from medseg.io.masks import read_mask_folder
from medseg.io.names import format_of, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions
from medseg.io.pictures.overlay import write_overlay
from medseg.io.read import files_of, grey, inspect, inspect_channels, read_scan, read_volume
from medseg.io.write import lost_in, require_holds, write_image, write_labels

__all__ = [
    "SUFFIXES",
    "ImageInfo",
    "ReadOptions",
    "Series",
    "digest_of",
    "digest_of_files",
    "files_of",
    "format_of",
    "grey",
    "inspect",
    "inspect_channels",
    "is_dicom_folder",
    "list_series",
    "lost_in",
    "read_label_file",
    "read_labels",
    "read_mask_folder",
    "read_scan",
    "read_segments",
    "read_volume",
    "require_holds",
    "states_segments",
    "stem_and_suffix",
    "write_image",
    "write_labels",
    "write_overlay",
]
