"""The slices of a DICOM file of any kind: one picture, the frames of several, or the tiles of a mosaic."""

from __future__ import annotations

from pathlib import Path

from medseg.io.dicom import frames as dicom_frames
from medseg.io.dicom.elements import Outline
from medseg.io.dicom.headers import Slice, plain_slice


def read_slices(path: Path, found: Outline) -> tuple[Slice, ...]:
    """The slices of a file that holds pixels.

    Raises:
        InputError: the header is damaged, or claims more pixels than the file can hold.
    """
    if found.has_frames:
        return dicom_frames.read_slices(path, mosaic=False)
    one = plain_slice(path, found)
    return dicom_frames.read_slices(path, mosaic=True) if one is None else (one,)
