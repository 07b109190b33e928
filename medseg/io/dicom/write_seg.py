"""A label map as DICOM segmentation: frames where the series' slices lie, in their order and orientation.

Source: DICOM PS3.3, C.8.20 (Segmentation). BINARY segments are what every archive shows; a LABELMAP, younger
and smaller, is made of labels on request, and never of regions, which overlap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg import __version__
from medseg.core.errors import InputError, SelfCheckError
from medseg.core.structures import Structure, StructureSet, value_counts
from medseg.core.volume import LabelMap
from medseg.findings.finding import TITLES, about
from medseg.io.dicom.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_NAME, Code, concept_of, text
from medseg.io.dicom.source import UTF_8, Maker, Source, content_time, finish, highdicom

SegmentationKind = Literal["binary", "labelmap"]

SERIES_NUMBER = 9001
LONGEST_DESCRIPTION = 1024
"""Characters of a DICOM short text (ST)."""
LARGEST_NUMBER = 65535
DESCRIPTION = "Research use only, not a medical device; made by a program"
DOUBTFUL = "DOUBTFUL result: see report. Research use only"


def segmentation(
    source: Source,
    labels: LabelMap,
    structures: StructureSet,
    maker: Maker,
    kind: SegmentationKind = "binary",
) -> Any:
    """The segmentation object of a label map on the series' grid, of one kind or the other.

    Raises:
        InputError: a label has no structure, or a value that no segment can be numbered by.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    hd = highdicom()
    made = hd.seg.Segmentation(
        source_images=source.headers,
        pixel_array=frames(labels, structures, kind),
        segmentation_type=kind.upper(),
        segment_descriptions=[
            _description(structure, number, maker) for number, structure in numbered(structures, kind)
        ],
        series_instance_uid=maker.uid("SEG series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid("SEG"),
        instance_number=1,
        content_label="SEGMENTATION",
        content_description=DOUBTFUL if maker.is_doubtful else DESCRIPTION,
        series_description=maker.described("medseg segmentation"),
        omit_empty_frames=kind == "binary" and bool(labels.array.any()),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=UTF_8,
        coding_schemes=schemes(structures),
        **maker.equipment,
        **content_time(maker),
    )
    _same_dimensions(made, maker.uid("SEG dimensions"))
    return finish(made, source, maker)


def numbered(structures: StructureSet, kind: SegmentationKind = "binary") -> list[tuple[int, Structure]]:
    """Structures by the number of their segment: their place from 1, or the label's value in a label map."""
    if kind == "labelmap":
        return [(s.value, s) for s in structures]
    return list(enumerate(structures, start=1))


def frames(labels: LabelMap, structures: StructureSet, kind: SegmentationKind = "binary") -> NDArray[Any]:
    """Numbers of segments as (slice, row, column), or regions as (slice, row, column, region).

    Raises:
        InputError: a label has no structure, or a value that no segment can be numbered by.
    """
    array = labels.array.transpose(2, 1, 0)
    if structures.are_regions:
        return np.stack([structures.mask(array, s) for s in structures], axis=-1).astype(np.uint8)
    numbers = {s.value: number for number, s in numbered(structures, kind)}
    wrong = [s for s in structures if not 1 <= numbers[s.value] <= LARGEST_NUMBER]
    if wrong:
        raise InputError(
            f"the structure {wrong[0].name!r} has the value {wrong[0].value}; "
            f"a DICOM segment has a number from 1 to {LARGEST_NUMBER}"
        )
    found = list(value_counts(array))
    unknown = [value for value in found if value and value not in numbers]
    if unknown:
        raise InputError(f"the label {unknown[0]} has no structure")
    small = max(numbers.values()) <= np.iinfo(np.uint8).max
    table = np.array([numbers.get(value, 0) for value in found], dtype=np.uint8 if small else np.uint16)
    return np.ascontiguousarray(table[np.searchsorted(found, array)])


def require_same(path: Path, source: Source, labels: LabelMap, structures: StructureSet) -> None:
    """Read a segmentation back, slice by slice of its series, and compare.

    Raises:
        SelfCheckError: it holds other voxels.
    """
    read = highdicom().seg.segread(path)
    kind = kind_of(read)
    found = read.get_pixels_by_source_instance(
        source.instances,
        segment_numbers=[number for number, _ in numbered(structures, kind)],
        combine_segments=not structures.are_regions,
        assert_missing_frames_are_empty=True,
    )
    if not np.array_equal(found, frames(labels, structures, kind)):
        raise SelfCheckError("the DICOM segmentation read back differs from the labels", source=path)


def kind_of(segments: Any) -> SegmentationKind:
    """Of which kind a segmentation object is."""
    return "labelmap" if segments.SegmentationType == "LABELMAP" else "binary"


def coded(code: Code) -> Any:
    """A code as the library has it."""
    return highdicom().sr.CodedConcept(code.value, code.scheme, code.meaning)


def schemes(structures: StructureSet) -> list[Any] | None:
    """Our own coding scheme, where a structure is coded in it."""
    return own_scheme() if any(concept_of(s).is_private for s in structures) else None


def own_scheme() -> list[Any]:
    """The description of the private coding scheme."""
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
    if said := about(maker.findings, structure.name):
        described.SegmentDescription = text(
            "; ".join(TITLES.get(f.code, f.code) for f in said), LONGEST_DESCRIPTION
        )
    if concept.side is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(concept.side)]
    return described


def tracking_uid(structure: Structure, maker: Maker) -> str:
    """The tracking UID of a structure, shared by segmentation and report."""
    return maker.uid(f"tracking {structure.value} {structure.name}")


def _same_dimensions(made: Any, uid: str) -> None:
    """Our UID in the place of a random one."""
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
