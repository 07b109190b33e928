"""The stored values of a DICOM file's pixels: neither rescaled nor inverted for display.

ITK's reader inverts MONOCHROME1 before it rescales, and rescales every frame of a file with the first one's
numbers, so where either matters the values are taken from here.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.io.dicom.library import damage_named, dataset
from medseg.io.itk.images import simple_itk

IMAGE = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation",
)  # fmt: skip
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MULTIFRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
"""Multi-frame Grayscale Word Secondary Capture: an image that says nothing but its pixels."""


def stored_pixels(path: Path) -> NDArray[Any]:
    """The stored values (frames, rows, columns) of a file in grey.

    Args:
        path: the file, whose lengths have been checked.

    Raises:
        InputError: the pixels are damaged, in colour, or of an encoding that is not read.
    """
    image = dataset(path, tags=(*IMAGE, *PIXELS), pixels=True)
    with damage_named(path, "the pixels are damaged"):
        _require_encoding(image)
        array = _decoded(image)
        frames = int(image.get("NumberOfFrames") or 1)
        shape = (frames, int(image.Rows), int(image.Columns))
    if array.size != np.prod(shape) or array.dtype.kind not in "iuf":
        raise InputError(
            "the DICOM file does not contain grey pixels of the size that its header states",
            source=path,
            hint="export it again",
        )
    return array.reshape(shape)


def _require_encoding(image: Any) -> None:
    """State the encoding of a file without file meta information."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" in getattr(image, "file_meta", {}):
        return
    implicit, little = image.original_encoding
    image.file_meta = FileMetaDataset()
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _decoded(image: Any) -> NDArray[Any]:
    """Decoded by pydicom, or by GDCM what pydicom has no decoder for."""
    try:
        return np.asarray(image.pixel_array)
    except (RuntimeError, NotImplementedError):
        if not image.file_meta.TransferSyntaxUID.is_compressed:
            raise
        return _by_gdcm(image)


def _by_gdcm(image: Any) -> NDArray[Any]:
    """Decoded by GDCM from a file that holds the pixels and nothing else: no patient, nothing to rescale."""
    from pydicom.dataset import Dataset, FileMetaDataset

    bare = Dataset()
    for keyword in (*IMAGE, "PixelData"):
        if keyword in image:
            bare[keyword] = image[keyword]
    bare.PhotometricInterpretation = "MONOCHROME2"
    bare.SOPClassUID, bare.SOPInstanceUID = MULTIFRAME_WORD, "2.25.1"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = image.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    sitk = simple_itk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with TemporaryDirectory(prefix="medseg-") as folder:
        name = os.path.join(folder, "pixels.dcm")
        bare.save_as(name, enforce_file_format=True)
        reader.SetFileName(name)
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
