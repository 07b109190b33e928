"""A label map as DICOM RT structure set: closed contours on the series' slices, for treatment planning.

Source: DICOM PS3.3, A.19 (RT Structure Set), C.8.8.5 and C.8.8.6 (ROI Contour; keyholes join inner contours).

Own code over pydicom: rt-utils traces the centres of the outermost pixels, which takes half a pixel away all
around, and needs OpenCV; platipy brings a stack of its own, and its reader filled holes (its issue 244);
highdicom has no RT structure set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.core import affine as aff
from medseg.core.colours import rgb
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import LabelMap
from medseg.findings.finding import TITLES, about
from medseg.io.dicom.codes import text
from medseg.io.dicom.rings import rings
from medseg.io.dicom.series import STRUCTURE_SET
from medseg.io.dicom.source import RESEARCH_ONLY, UTF_8, Maker, Source, content_time, finish, highdicom
from medseg.io.dicom.write_seg import LONGEST_DESCRIPTION, numbered

SERIES_NUMBER = 9005
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""What the standard, though it is retired, has a structure set name its study by."""
LABEL, DOUBTFUL_LABEL = "medseg", "medseg DOUBTFUL"
"""Of 16 characters at most."""
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
DECIMALS = 4
"""Of a coordinate in mm: a number has 16 characters at most."""


def structure_set(source: Source, labels: LabelMap, structures: StructureSet, maker: Maker) -> Any:
    """The structure set of a label map on the series' grid; a structure without voxels has no contour.

    Args:
        source: the series.
        labels: on its grid.
        structures: of the labels.
        maker: of the object.
    """
    from pydicom.uid import ImplicitVRLittleEndian

    made = highdicom().base.SOPClass(
        study_instance_uid=source.headers[0].StudyInstanceUID,
        series_instance_uid=maker.uid("RTSTRUCT series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid("RTSTRUCT"),
        sop_class_uid=STRUCTURE_SET,
        instance_number=1,
        modality="RTSTRUCT",
        transfer_syntax_uid=ImplicitVRLittleEndian,  # the contours of a large slice exceed 64 KB
        series_description=maker.described("medseg contours"),
        specific_character_set=UTF_8,
        **maker.equipment,
    )
    made.OperatorsName = made.PositionReferenceIndicator = None
    made.FrameOfReferenceUID = source.headers[0].FrameOfReferenceUID
    made.StructureSetLabel = DOUBTFUL_LABEL if maker.is_doubtful else LABEL
    made.StructureSetDescription = maker.described(RESEARCH_ONLY)
    when = content_time(maker)
    made.StructureSetDate, made.StructureSetTime = when["content_date"], when["content_time"]
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    made.StructureSetROISequence = [_roi(n, s, source, maker) for n, s in numbered(structures)]
    made.ROIContourSequence = [_contours(n, s, source, labels, structures) for n, s in numbered(structures)]
    made.RTROIObservationsSequence = [_observation(n) for n, _ in numbered(structures)]
    return finish(made, source, maker)


def _item(**content: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for keyword, value in content.items():
        setattr(item, keyword, value)
    return item


def _frame_of_reference(source: Source) -> Any:
    first = source.headers[0]
    series = _item(SeriesInstanceUID=source.series, ContourImageSequence=[_slice(h) for h in source.headers])
    study = _item(
        ReferencedSOPClassUID=STUDY_COMPONENT,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _slice(header: Any) -> Any:
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _roi(number: int, structure: Structure, source: Source, maker: Maker) -> Any:
    """What a structure is called, how it was made, and what was found about it."""
    item = _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=source.headers[0].FrameOfReferenceUID,
        ROIName=text(structure.name) or f"structure {number}",
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=maker.algorithm,
    )
    if said := about(maker.findings, structure.name):
        listed = "; ".join(TITLES.get(f.code, f.code) for f in said)
        item.ROIDescription = text(listed, LONGEST_DESCRIPTION)
    return item


def _contours(
    number: int, structure: Structure, source: Source, labels: LabelMap, structures: StructureSet
) -> Any:
    """The rings of a structure on every slice that shows it."""
    item = _item(ROIDisplayColor=list(rgb(structure.colour)), ReferencedROINumber=number)
    mask = structures.mask(labels.array, structure)
    found = [
        _contour(ring, k, source)
        for k in np.flatnonzero(mask.any(axis=(0, 1))).tolist()
        for ring in rings(mask[..., k])
    ]
    if found:
        item.ContourSequence = found
    return item


def _contour(ring: Any, k: int, source: Source) -> Any:
    """One ring, in the patient's coordinates."""
    points = np.column_stack([ring, np.full(len(ring), k)])
    places = np.round(aff.apply(source.grid.affine, points) * RAS_TO_LPS, DECIMALS) + 0.0
    return _item(
        ContourImageSequence=[_slice(source.headers[k])],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(ring),
        ContourData=[f"{x:.{DECIMALS}f}" for x in places.ravel().tolist()],
    )


def _observation(number: int) -> Any:
    return _item(
        ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType=None, ROIInterpreter=None
    )
