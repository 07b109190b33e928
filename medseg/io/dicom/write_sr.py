"""The result as DICOM structured report: volumes, intervals and totals, and every finding as an evaluation.

Source: DICOM PS3.16, TID 1500 (Measurement Report), TID 1411 (Volumetric ROI Measurements) and TID 1501
(Measurement Group, of the totals).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg import __version__
from medseg.core.structures import Structure, StructureSet, Total
from medseg.core.volume import LabelMap
from medseg.findings.finding import TITLES, Finding, about
from medseg.io.dicom.codes import PRIVATE_SCHEME, Code, concept_of, text
from medseg.io.dicom.source import (
    MANUFACTURER,
    RESEARCH_ONLY,
    UTF_8,
    Maker,
    Source,
    content_time,
    finish,
    highdicom,
)
from medseg.io.dicom.write_seg import coded, kind_of, numbered, own_scheme, tracking_uid

SERIES_NUMBER = 9002
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("ml", "UCUM", "ml")
VOXELS_SUMMED = Code("126030", "DCM", "Sum of segmented voxel method for volume")
EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Code("121106", "DCM", "Comment")
LONGEST_COMMENT = 1024
RAISED = Code("RAISED", PRIVATE_SCHEME, "Raised by an automatic check")
VERDICT = Code("VERDICT", PRIVATE_SCHEME, "Verdict on the result")
DOUBTFUL = Code("DOUBTFUL", PRIVATE_SCHEME, "Doubtful")
NO_DOUBT = Code("NO_DOUBT", PRIVATE_SCHEME, "No automatic check raised a doubt")
DEVICE = Code("121007", "DCM", "Device")
IMAGING = Code("363679005", "SCT", "Imaging procedure")
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}  # fmt: skip
"""Context group 100; by modality, as no more is known."""


@dataclass(frozen=True)
class Volumes:
    """What is stated beside the volumes of the structures.

    Attributes:
        intervals_ml: within which the volumes by a reference are expected, by structure; a doubtful result
            is told none.
        coverage: share of the volumes that such intervals are to hold.
        totals: volumes that several structures make up together.
    """

    intervals_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float = 0.9
    totals: tuple[Total, ...] = ()


NOTHING_MORE = Volumes()


def measurements(
    source: Source,
    segments: Any,
    labels: LabelMap,
    structures: StructureSet,
    maker: Maker,
    volumes: Volumes = NOTHING_MORE,
) -> Any:
    """The report of the volume of every structure, 0 ml included, and of every finding.

    Args:
        source: the series.
        segments: the segmentation object made of the labels.
        labels: on the series' grid.
        structures: of the labels.
        maker: of both objects.
        volumes: what is stated beside the volumes of the structures.
    """
    hd = highdicom()
    report = hd.sr.MeasurementReport(
        observation_context=_observer(maker),
        procedure_reported=coded(PROCEDURES.get(str(source.headers[0].get("Modality", "")), IMAGING)),
        imaging_measurements=[
            *(
                _group(number, structure, source, segments, labels, structures, maker, volumes)
                for number, structure in numbered(structures, kind_of(segments))
            ),
            *(_total(total, labels, maker) for total in volumes.totals),
        ],
    )
    report[0].ContentSequence.append(_evaluations(maker))
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
        coding_schemes=own_scheme(),
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


def _evaluations(maker: Maker) -> Any:
    """What holds for the whole report: TID 1500, qualitative evaluations, which follow the measurements."""
    sr = highdicom().sr
    found = sr.ContainerContentItem(coded(EVALUATIONS), relationship_type="CONTAINS")
    verdict = sr.CodeContentItem(
        coded(VERDICT), coded(DOUBTFUL if maker.is_doubtful else NO_DOUBT), "CONTAINS"
    )
    said = [f"{f.word}: {text(f.sentence, LONGEST_COMMENT)}" for f in maker.findings]
    found.ContentSequence = sr.ContentSequence(
        [verdict, *(sr.TextContentItem(coded(COMMENT), line, "CONTAINS") for line in (RESEARCH_ONLY, *said))]
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
    volumes: Volumes,
) -> Any:
    """One structure: what it is, which segment, how large, and what was found about it."""
    sr, concept = highdicom().sr, concept_of(structure)
    found = [_volume(labels.grid.volume_ml(int(structures.mask(labels.array, structure).sum())))]
    if structure.name in volumes.intervals_ml and not maker.is_doubtful:
        share = f"{100 * volumes.coverage:.0f} % interval of the reference volume"
        found += [
            _volume(ml, Code(f"INTERVAL_{end.upper()}", PRIVATE_SCHEME, f"{end.title()} end of the {share}"))
            for end, ml in zip(("lower", "upper"), volumes.intervals_ml[structure.name], strict=True)
        ]
    evaluations = [
        sr.QualitativeEvaluation(coded(RAISED), coded(_finding_code(f)))
        for f in about(maker.findings, structure.name)
    ]
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
        measurements=found,
        qualitative_evaluations=evaluations or None,
    )


def _total(total: Total, labels: LabelMap, maker: Maker) -> Any:
    """A volume that structures make up together, which has no segment of its own."""
    sr = highdicom().sr
    ml = labels.grid.volume_ml(total.voxels(labels.array))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            maker.uid(f"tracking total {total.name}"), text(total.name) or "total"
        ),
        finding_type=coded(concept_of(Structure(1, total.name)).type),
        algorithm_id=sr.AlgorithmIdentification(maker.algorithm, __version__),
        measurements=[_volume(ml)],
    )


def _volume(ml: float, name: Code = VOLUME) -> Any:
    """A volume; of the voxels summed, unless it is called otherwise."""
    summed = coded(VOXELS_SUMMED) if name is VOLUME else None
    return highdicom().sr.Measurement(
        name=coded(name), value=round(ml, 6), unit=coded(MILLILITRE), method=summed
    )


def _finding_code(finding: Finding) -> Code:
    return Code(finding.code.upper()[:16], PRIVATE_SCHEME, TITLES.get(finding.code, finding.code))
