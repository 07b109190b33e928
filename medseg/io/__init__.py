"""Scans and label maps from and to files: NIfTI, MetaImage, NRRD, DICOM series."""

from medseg.io.dicom import Series, is_dicom_folder, list_series
from medseg.io.names import SUFFIXES, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions
from medseg.io.read import files_of, inspect, read_labels, read_volume
from medseg.io.write import write_image, write_labels

__all__ = [
    "SUFFIXES",
    "ImageInfo",
    "ReadOptions",
    "Series",
    "files_of",
    "inspect",
    "is_dicom_folder",
    "list_series",
    "read_labels",
    "read_volume",
    "stem_and_suffix",
    "write_image",
    "write_labels",
]
