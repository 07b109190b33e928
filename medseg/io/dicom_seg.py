"""A label map as DICOM segmentation: frames where the series' slices lie, in their order and orientation.

Source: DICOM PS3.3, C.8.20 (Segmentation); labels make a LABELMAP, regions, which overlap, BINARY segments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import __version__
from medseg.errors import InputError, SelfCheckError
from medseg.io.dicom_codes import (
    PRIVATE_SCHEME,
    PRIVATE_SCHEME_NAME,
    Code,
    concept_of,
    text,
)
from medseg.io.dicom_source import UTF_8, Maker, Source, content_time, finish, highdicom
from medseg.structures import Structure, StructureSet, value_counts
from medseg.volume import LabelMap

SERIES_NUMBER = 9001
LARGEST_NUMBER = 65535
DESCRIPTION = "Research use only, not a medical device; made by a program"
DOUBTFUL = "DOUBTFUL result: see report. Research use only"


def segmentation(source: Source, labels: LabelMap, structures: StructureSet, maker: Maker) -> Any:
    """The segmentation object of a label map on the series' grid.

    Raises:
        InputError: a label has no structure, or a value that no segment can be numbered by.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    hd = highdicom()
    made = hd.seg.Segmentation(
        source_images=source.headers,
        pixel_array=frames(labels, structures),
        segmentation_type="BINARY" if structures.are_regions else "LABELMAP",
        segment_descriptions=[
            _description(structure, number, maker) for number, structure in numbered(structures)
        ],
        series_instance_uid=maker.uid("SEG series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid("SEG"),
        instance_number=1,
        content_label="SEGMENTATION",
        content_description=DOUBTFUL if maker.doubts else DESCRIPTION,
        series_description=maker.described("medseg segmentation"),
        omit_empty_frames=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=UTF_8,
        coding_schemes=schemes(structures),
        **maker.equipment,
        **content_time(maker),
    )
    _same_dimensions(made, maker.uid("SEG dimensions"))
    return finish(made, source, maker)


def numbered(structures: StructureSet) -> list[tuple[int, Structure]]:
    """Structures by the number of their segment: the label's value, or a region's place from 1."""
    if structures.are_regions:
        return list(enumerate(structures, start=1))
    return [(s.value, s) for s in structures]


def frames(labels: LabelMap, structures: StructureSet) -> NDArray[Any]:
    """Labels as (slice, row, column), or regions as (slice, row, column, region).

    Raises:
        InputError: a label has no structure, or a value that no segment can be numbered by.
    """
    wrong = [s for number, s in numbered(structures) if not 1 <= number <= LARGEST_NUMBER]
    if wrong:
        raise InputError(
            f"the structure {wrong[0].name!r} has the value {wrong[0].value}; "
            f"a DICOM segment has a number from 1 to {LARGEST_NUMBER}"
        )
    unknown = [v for v in value_counts(labels.array) if v not in structures.known_values]
    if unknown and not structures.are_regions:
        raise InputError(f"the label {unknown[0]} has no structure")
    array = labels.array.transpose(2, 1, 0)
    if not structures.are_regions:
        small = max(structures.values) <= np.iinfo(np.uint8).max
        return np.ascontiguousarray(array, dtype=np.uint8 if small else np.uint16)
    return np.stack([structures.mask(array, s) for s in structures], axis=-1).astype(np.uint8)


def require_same(path: Path, source: Source, labels: LabelMap, structures: StructureSet) -> None:
    """Read a segmentation back, slice by slice of its series, and compare.

    Raises:
        SelfCheckError: it holds other voxels.
    """
    read = highdicom().seg.segread(path)
    found = read.get_pixels_by_source_instance(
        source.instances,
        segment_numbers=[number for number, _ in numbered(structures)],
        combine_segments=not structures.are_regions,
    )
    if not np.array_equal(found, frames(labels, structures)):
        raise SelfCheckError("the DICOM segmentation read back differs from the labels", source=path)


def coded(code: Code) -> Any:
    """A code as the library has it."""
    return highdicom().sr.CodedConcept(code.value, code.scheme, code.meaning)


def schemes(structures: StructureSet) -> list[Any] | None:
    """Our own coding scheme, where a structure is coded in it."""
    if not any(concept_of(s).is_private for s in structures):
        return None
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [CodingSchemeIdentificationItem(PRIVATE_SCHEME, PRIVATE_SCHEME_NAME)]


def _description(structure: Structure, number: int, maker: Maker) -> Any:
    """What is said of one segment."""
    hd, concept = highdicom(), concept_of(structure)
    label = text(structure.name) or f"structure {number}"
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=coded(concept.category),
        segmented_property_type=coded(concept.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=maker.algorithm,
            family=coded(Code("123110", "DCM", "Artificial Intelligence")),
            version=__version__,
            source=maker.equipment["manufacturer"],
        ),
        tracking_id=label,
        tracking_uid=tracking_uid(structure, maker),
        display_color=hd.color.CIELabColor.from_string(structure.colour),
    )
    if concept.side is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(concept.side)]
    return described


def tracking_uid(structure: Structure, maker: Maker) -> str:
    """What segmentation and report call one structure's segment by."""
    return maker.uid(f"tracking {structure.value} {structure.name}")


def _same_dimensions(made: Any, uid: str) -> None:
    """Our UID in the place of a random one."""
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
