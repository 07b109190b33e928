"""The volumes as DICOM structured report: a measurement report on the segments, and what to doubt of them.

Source: DICOM PS3.16, TID 1500 (Measurement Report) and TID 1411 (Volumetric ROI Measurements).
"""

from __future__ import annotations

from typing import Any

from medseg import __version__
from medseg.io.dicom_codes import Code, concept_of, text
from medseg.io.dicom_seg import coded, numbered, schemes, tracking_uid
from medseg.io.dicom_source import (
    MANUFACTURER,
    RESEARCH_ONLY,
    UTF_8,
    Maker,
    Source,
    content_time,
    finish,
    highdicom,
)
from medseg.structures import Structure, StructureSet
from medseg.volume import LabelMap

SERIES_NUMBER = 9002
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("ml", "UCUM", "ml")
VOXELS_SUMMED = Code("126030", "DCM", "Sum of segmented voxel method for volume")
EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Code("121106", "DCM", "Comment")
LONGEST_COMMENT = 1024
DEVICE = Code("121007", "DCM", "Device")
IMAGING = Code("363679005", "SCT", "Imaging procedure")
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}  # fmt: skip
"""Context group 100; by modality, as no more is known."""


def measurements(
    source: Source, segments: Any, labels: LabelMap, structures: StructureSet, maker: Maker
) -> Any:
    """The report of the volume of every structure, 0 ml included, and of every doubt.

    Args:
        source: the series.
        segments: the segmentation object made of the labels.
        labels: on the series' grid.
        structures: of the labels.
        maker: of both objects.
    """
    hd = highdicom()
    report = hd.sr.MeasurementReport(
        observation_context=_observer(maker),
        procedure_reported=coded(PROCEDURES.get(str(source.headers[0].get("Modality", "")), IMAGING)),
        imaging_measurements=[
            _group(number, structure, source, segments, labels, structures, maker)
            for number, structure in numbered(structures)
        ],
    )
    report[0].ContentSequence.append(_comments(maker))
    made = hd.sr.ComprehensiveSR(
        evidence=[*source.headers, segments],
        content=report,
        series_instance_uid=maker.uid("SR series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid("SR"),
        instance_number=1,
        is_complete=True,
        series_description=maker.described("medseg measurements"),
        specific_character_set=UTF_8,
        coding_schemes=schemes(structures),
        **maker.equipment,
        **content_time(maker),
    )
    return finish(made, source, maker)


def _observer(maker: Maker) -> Any:
    """A program measured, no person."""
    sr = highdicom().sr
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=maker.uid("device"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=maker.equipment["manufacturer_model_name"],
        serial_number=maker.equipment["device_serial_number"],
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(coded(DEVICE), device))


def _comments(maker: Maker) -> Any:
    """What holds for the whole report: TID 1500, qualitative evaluations, which follow the measurements."""
    sr = highdicom().sr
    found = sr.ContainerContentItem(coded(EVALUATIONS), relationship_type="CONTAINS")
    doubts = [f"Doubtful result: {text(doubt, LONGEST_COMMENT)}" for doubt in maker.doubts]
    found.ContentSequence = sr.ContentSequence(
        [sr.TextContentItem(coded(COMMENT), said, "CONTAINS") for said in (RESEARCH_ONLY, *doubts)]
    )
    return found


def _group(
    number: int,
    structure: Structure,
    source: Source,
    segments: Any,
    labels: LabelMap,
    structures: StructureSet,
    maker: Maker,
) -> Any:
    """One structure: what it is, which segment, how large."""
    sr, concept = highdicom().sr, concept_of(structure)
    voxels = int(structures.mask(labels.array, structure).sum())
    volume = sr.Measurement(
        name=coded(VOLUME),
        value=round(voxels * labels.grid.voxel_volume_mm3 / 1000, 6),
        unit=coded(MILLILITRE),
        method=coded(VOXELS_SUMMED),
    )
    site = sr.FindingSite(coded(concept.type), None if concept.side is None else coded(concept.side))
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            tracking_uid(structure, maker), text(structure.name) or f"structure {number}"
        ),
        referenced_segment=sr.ReferencedSegment(
            segments.SOPClassUID,
            segments.SOPInstanceUID,
            number,
            source_series=sr.SourceSeriesForSegmentation(source.series),
        ),
        finding_category=coded(concept.category),
        finding_type=coded(concept.type),
        finding_sites=None if concept.side is None else [site],
        algorithm_id=sr.AlgorithmIdentification(maker.algorithm, __version__),
        measurements=[volume],
    )
