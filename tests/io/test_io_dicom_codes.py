"""Codes of structures: each one stands in the standard's own dictionary."""

from __future__ import annotations

import pytest

from medseg.core.structures import Structure, from_labels
from medseg.data.cards import load_card
from medseg.io.dicom.codes import (
    ABNORMAL,
    ANATOMY,
    LONGEST_TEXT,
    PRIVATE_SCHEME,
    SIDES,
    SUBSTANCE,
    TABLES,
    TISSUE,
    Code,
    concept_of,
    text,
)
from medseg.io.dicom.write_sr import DEVICE, IMAGING, PROCEDURES, VOLUME, VOXELS_SUMMED

EVERY_CODE = [
    *(code for _, table in TABLES for code in table.values()),
    *(ANATOMY, SUBSTANCE, ABNORMAL, TISSUE, VOLUME, VOXELS_SUMMED, DEVICE, IMAGING),
    *SIDES.values(),
    *PROCEDURES.values(),
]


@pytest.mark.parametrize("code", EVERY_CODE, ids=lambda code: code.meaning)
def test_every_code_has_its_meaning_in_the_dictionary_of_pydicom(code: Code) -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts
    meanings = {
        meaning
        for entry in concepts[code.scheme].values()
        for value, (meaning, _) in entry.items()
        if value == code.value
    }
    assert code.meaning in meanings


@pytest.mark.parametrize("name", ["brain", "brats", "brats2013", "promise12", "prostatex"])
def test_the_structures_of_these_data_have_public_codes(name: str) -> None:
    concepts = {s.name: concept_of(s) for s in load_card(name).structures}
    assert not [called for called, concept in concepts.items() if concept.is_private]


def test_a_name_gives_type_and_side() -> None:
    left, right = (
        concept_of(s) for s in from_labels({1: "Left-Cerebral-Cortex", 2: "right cerebral cortex"})
    )
    assert left.type == right.type == Code("40146001", "SCT", "Cerebral cortex")
    assert left.side is not None
    assert right.side is not None
    assert (left.side.meaning, right.side.meaning) == ("Left", "Right")
    assert concept_of(Structure(1, "Tumor")).category == ABNORMAL


def test_what_is_not_known_has_a_code_of_our_own() -> None:
    one, again, other = (concept_of(Structure(v, n)) for v, n in ((1, "lobe"), (9, "lobe"), (1, "hull")))
    assert one == again
    assert one.is_private
    assert one.type.scheme == PRIVATE_SCHEME
    assert one.type.value != other.type.value
    assert len(one.type.value) <= 16  # a short string (SH)
    assert one.type.meaning == "lobe"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\\b", "a/b"), ("a\nb\x1b", "a b/x1b"), ("x" * 100, "x" * LONGEST_TEXT), ("\\", "/"), ("  ", "")],
)
def test_text_is_one_value_on_one_line(name: str, expected: str) -> None:
    assert text(name) == expected
