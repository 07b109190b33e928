"""What the suffix of a file name means: one table for all who read, write or list files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

Kind = Literal["NIfTI", "MGH", "ITK", "segmentation", "picture", "DICOM", "page", ""]


@dataclass(frozen=True)
class Format:
    """What files of one suffix are.

    Attributes:
        kind: family of formats; empty for a suffix that means nothing here.
        content: what such a file holds, in words; `io/contents.py` knows it by its first bytes.
        reader: name of the module that reads it, with `describe`, `read` and `files`; empty where none does.
        writer: name of the module that writes it, with `write` and `targets`; empty where none does.
        part: which file of a pair it is: the header, whose voxels lie in another file, or the voxels of an
            Analyze or NIfTI pair, which lie beside their header.
        labels_as: suffix of labels on the grid of such a scan, where it is another one.
        fractions_as: suffix of fractions beside labels in this format, where it is another one.
    """

    kind: Kind = ""
    content: str = ""
    reader: str = ""
    writer: str = ""
    part: Literal["header", "voxels", ""] = ""
    labels_as: str = ""
    fractions_as: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is the suffix of an image; DICOM files have one or none."""
        return bool(self.writer)

    @property
    def is_picture(self) -> bool:
        """Whether it holds a 2D image, which has neither orientation nor size in mm."""
        return self.kind == "picture"

    @property
    def holds_labels_only(self) -> bool:
        """Whether it holds labels and no other image."""
        return self.kind == "segmentation"

    @property
    def is_lossy(self) -> bool:
        """Whether writing in it changes values, so that labels are not."""
        return self.is_picture and bool(self.labels_as)

    def reading(self) -> ModuleType:
        """The module that reads it."""
        return import_module(self.reader)

    def writing(self) -> ModuleType:
        """The module that writes it."""
        return import_module(self.writer)


def _of(kind: Kind, content: str, module: str, **more: str) -> Format:
    """A format that one module reads and writes."""
    return Format(kind, content, f"medseg.io.{module}", f"medseg.io.{module}", **more)  # type: ignore[arg-type]


def _dicom() -> Format:
    return Format("DICOM", "DICOM", "medseg.io.dicom.series", labels_as=".nii.gz")


FORMATS: dict[str, Format] = {
    ".nii.gz": _of("NIfTI", "compressed NIfTI", "nifti.file"),
    ".nii": _of("NIfTI", "NIfTI", "nifti.file"),
    ".hdr": _of("NIfTI", "the header of a NIfTI pair", "nifti.file", part="header"),
    ".img": _of("NIfTI", "the header of a NIfTI pair", "nifti.file", part="voxels"),
    ".seg.nrrd": _of("segmentation", "NRRD", "itk.seg_nrrd", fractions_as=".nrrd"),
    ".mha": _of("ITK", "MetaImage", "itk.images"),
    ".mhd": _of("ITK", "MetaImage", "itk.images", part="header"),
    ".nrrd": _of("ITK", "NRRD", "itk.images"),
    ".nhdr": _of("ITK", "NRRD", "itk.images", part="header"),
    ".mgz": _of("MGH", "compressed MGH", "nifti.mgh"),
    ".mgh": _of("MGH", "MGH", "nifti.mgh"),
    ".png": _of("picture", "PNG", "pictures.slices", fractions_as=".tif"),
    ".tif": _of("picture", "TIFF", "pictures.slices"),
    ".tiff": _of("picture", "TIFF", "pictures.slices"),
    ".jpg": _of("picture", "JPEG", "pictures.slices", labels_as=".png"),
    ".jpeg": _of("picture", "JPEG", "pictures.slices", labels_as=".png"),
    ".dcm": _dicom(),
    ".dicom": _dicom(),
    ".ima": _dicom(),
    ".html": Format("page"),
    ".htm": Format("page"),
    ".pdf": Format("page"),
}
"""A name is matched against them in this order: `.seg.nrrd` before `.nrrd`."""

UNKNOWN = Format()
SUFFIXES = tuple(suffix for suffix, found in FORMATS.items() if found.is_image)
"""Of images."""
NIFTI_SUFFIXES = tuple(s for s, found in FORMATS.items() if found.kind == "NIfTI" and not found.part)
"""Of NIfTI in one file, as data sets hold it."""
PICTURE_SUFFIXES = tuple(s for s, found in FORMATS.items() if found.is_picture and not found.is_lossy)
"""Of pictures that hold labels as they are."""
HTML_SUFFIXES = tuple(s for s, found in FORMATS.items() if found.kind == "page" and s != ".pdf")
