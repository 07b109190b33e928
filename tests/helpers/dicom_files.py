"""DICOM files for tests, made of test files of pydicom and nibabel, never by the code under test."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

Change = Callable[[Any, int], None]


def ct_slices(folder: Path, count: int = 6, change: Change = lambda header, n: None) -> list[Path]:
    """Copies of pydicom's CT slice, 5 mm apart, each changed as told before it is written."""
    folder.mkdir(exist_ok=True)
    paths = []
    for n in range(count):
        header = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        header.ImagePositionPatient = [0, 0, 5 * n]
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        change(header, n)
        paths.append(folder / f"{n:03d}.dcm")
        save(header, paths[-1])
    return paths


def ct_values() -> np.ndarray:
    """The Hounsfield units (I, J) of that slice."""
    header = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    stored: np.ndarray = header.pixel_array
    return (stored.astype(float) * header.RescaleSlope + header.RescaleIntercept).T


def save(header: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.save_as(path)
    return path


def scanned(name: str) -> Any:
    """The header of a file from a scanner that nibabel holds for its own tests; its pixels were zeroed."""
    content = (Path(nib.__file__).parent / "nicom" / "tests" / "data" / name).read_bytes()
    return pydicom.dcmread(BytesIO(gzip.decompress(content) if name.endswith(".gz") else content))


def repainted(header: Any, shape: Sequence[int]) -> np.ndarray:
    """Give a header pixels that all differ, ([frames,] rows, columns); what they are."""
    stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    header.Rows, header.Columns = shape[-2:]
    header.PixelData = stored.tobytes()
    return stored


class Frame:
    """One frame of an enhanced file: where it lies, what it is, and its numbers."""

    def __init__(
        self,
        z: float,
        frame_type: str = "M",
        *,
        rescale: tuple[float, float] = (1.0, 0.0),
        dimensions: Sequence[int] = (),
        time: int | None = None,
        **fields: Any,
    ) -> None:
        self.z, self.frame_type, self.rescale = z, frame_type, rescale
        self.dimensions, self.time, self.fields = dimensions, time, fields


def enhanced(
    path: Path, frames: Sequence[Frame], *, pointers: Sequence[int] = (), **fields: Any
) -> np.ndarray:
    """Write an enhanced MR file; its stored values (frames, rows, columns).

    Args:
        path: of the file.
        frames: in the order of the file.
        pointers: attributes that the dimensions of the frames index.
        fields: attributes of the file.
    """
    stored = np.arange(len(frames) * 6 * 5, dtype=np.uint16).reshape(len(frames), 6, 5)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.PatientName, header.PatientID = "Canary^Patient", "canary-id"
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
    header.FrameOfReferenceUID, header.Modality = "1.2.3.6", "MR"
    header.Rows, header.Columns, header.NumberOfFrames = 6, 5, len(frames)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelData = stored.tobytes()
    header.DimensionIndexSequence = [item(DimensionIndexPointer=pointer) for pointer in pointers]
    measures = item(PixelSpacing=[0.8, 0.7], SliceThickness=9.0, SpacingBetweenSlices=2.0)
    orientation = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    header.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    ]
    header.PerFrameFunctionalGroupsSequence = [_groups(frame) for frame in frames]
    for keyword, value in fields.items():
        setattr(header, keyword, value)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.save_as(path, enforce_file_format=True)
    return stored


def _groups(frame: Frame) -> Dataset:
    content = item(DimensionIndexValues=list(frame.dimensions) or None)
    if frame.time is not None:
        content.TemporalPositionIndex = frame.time
    return item(
        FrameContentSequence=[content],
        PlanePositionSequence=[item(ImagePositionPatient=[-20.0, -30.0, frame.z])],
        MRImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", frame.frame_type, "NONE"])],
        PixelValueTransformationSequence=[
            item(RescaleSlope=frame.rescale[0], RescaleIntercept=frame.rescale[1], RescaleType="US")
        ],
        **frame.fields,
    )


def item(**fields: Any) -> Dataset:
    found = Dataset()
    for keyword, value in fields.items():
        setattr(found, keyword, value)
    return found


def structure_set(
    path: Path,
    series: Path,
    rois: Mapping[str, Sequence[np.ndarray]],
    *,
    kind: str = "CLOSED_PLANAR",
    **fields: Any,
) -> Path:
    """Write a structure set that refers to the series of a slice.

    Args:
        path: of the file.
        series: one of its slices.
        rois: contours (n, 3) of each structure by name, LPS mm.
        kind: of the contours.
        fields: attributes of the file.
    """
    of = pydicom.dcmread(series, stop_before_pixels=True, force=True)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.PatientName, header.PatientID = of.PatientName, of.get("PatientID", "")
    header.StudyInstanceUID, header.SeriesInstanceUID = of.StudyInstanceUID, generate_uid()
    header.Modality, header.StructureSetLabel = "RTSTRUCT", "test"
    space = of.get("FrameOfReferenceUID", "1.2.3")
    referenced = item(
        ReferencedSOPInstanceUID="1.2",
        RTReferencedSeriesSequence=[item(SeriesInstanceUID=of.SeriesInstanceUID)],
    )
    header.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=space, RTReferencedStudySequence=[referenced])
    ]
    header.StructureSetROISequence = [
        item(ROINumber=n + 7, ROIName=name, ReferencedFrameOfReferenceUID=space)
        for n, name in enumerate(rois)
    ]
    header.ROIContourSequence = [
        item(
            ReferencedROINumber=n + 7,
            ROIDisplayColor=[255, 16 * n, 0],
            ContourSequence=[
                item(
                    ContourGeometricType=kind,
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{v:.8g}" for v in points.ravel()],
                )
                for points in contours
            ],
        )
        for n, contours in reversed(list(enumerate(rois.values())))
    ]
    for keyword, value in fields.items():
        setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
    return path


def contour(slice_file: Path, corners: Sequence[tuple[float, float]]) -> np.ndarray:
    """A contour (n, 3) through pixels (i, j) of a slice, LPS mm, by the equation of PS3.3, C.7.6.2.1.1."""
    header = pydicom.dcmread(slice_file, stop_before_pixels=True, force=True)
    position = np.array(header.ImagePositionPatient, dtype=float)
    rows, columns = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_mm, column_mm = map(float, header.PixelSpacing)
    return np.array([position + i * column_mm * rows + j * row_mm * columns for i, j in corners])
