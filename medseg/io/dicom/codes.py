"""Coded terms of structures: SNOMED CT, DICOM, NCIt, or a private scheme where these have none.

Source: DICOM PS3.16, context groups 7150 (categories), 7151 (types), 7140 (brain), 7159 (lesions) and
244 (sides).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg.core.digest import hexdigest
from medseg.core.errors import printable
from medseg.core.sides import side_of, without_side
from medseg.core.structures import Structure

PRIVATE_SCHEME = "99MEDSEG"
PRIVATE_SCHEME_NAME = "medseg: structures by a hash of their name; findings"
LONGEST_TEXT = 64
"""Characters of a DICOM long string (LO)."""


@dataclass(frozen=True)
class Code:
    """A coded term.

    Attributes:
        value: the code.
        scheme: designator of the coding scheme, as DICOM has it.
        meaning: the term in words.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Concept:
    """What a structure is.

    Attributes:
        category: kind of thing.
        type: the thing.
        side: left or right, where it has one.
    """

    category: Code
    type: Code
    side: Code | None = None

    @property
    def is_private(self) -> bool:
        """Whether its type is a code of our own."""
        return self.type.scheme == PRIVATE_SCHEME


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
SUBSTANCE = Code("91720002", "SCT", "Body Substance")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}

ANATOMICAL = {
    "accumbens area": Code("427667007", "SCT", "Nucleus Accumbens"),
    "adrenal gland": Code("23451007", "SCT", "Adrenal gland"),
    "amygdala": Code("4958002", "SCT", "Amygdala"),
    "aorta": Code("15825003", "SCT", "Aorta"),
    "brain": Code("12738006", "SCT", "Brain"),
    "brain stem": Code("119238007", "SCT", "Brain Stem"),
    "caudate": Code("11000004", "SCT", "Caudate Nucleus"),
    "cerebellum": Code("113305005", "SCT", "Cerebellum"),
    "cerebellum cortex": Code("25991003", "SCT", "Cerebellar Cortex"),
    "cerebellum white matter": Code("33060004", "SCT", "Cerebellar White Matter"),
    "cerebral cortex": Code("40146001", "SCT", "Cerebral cortex"),
    "cerebral white matter": Code("68523003", "SCT", "Cerebral White Matter"),
    "colon": Code("71854001", "SCT", "Colon"),
    "duodenum": Code("38848004", "SCT", "Duodenum"),
    "femur": Code("71341001", "SCT", "Femur"),
    "fourth ventricle": Code("35918002", "SCT", "Fourth Ventricle"),
    "gallbladder": Code("28231008", "SCT", "Gallbladder"),
    "grey matter": Code("389081007", "SCT", "Gray Matter"),
    "heart": Code("80891009", "SCT", "Heart"),
    "hippocampus": Code("5366008", "SCT", "Hippocampus"),
    "inferior lateral ventricle": Code("53118009", "SCT", "Inferior Horn of Lateral Ventricle"),
    "inferior vena cava": Code("64131007", "SCT", "Inferior vena cava"),
    "kidney": Code("64033007", "SCT", "Kidney"),
    "lateral ventricle": Code("66720007", "SCT", "Lateral Ventricle"),
    "liver": Code("10200004", "SCT", "Liver"),
    "lung": Code("39607008", "SCT", "Lung"),
    "oesophagus": Code("32849002", "SCT", "Esophagus"),
    "pallidum": Code("14738005", "SCT", "Globus Pallidus"),
    "pancreas": Code("15776009", "SCT", "Pancreas"),
    "portal vein": Code("32764006", "SCT", "Portal vein"),
    "prostate": Code("41216001", "SCT", "Prostate"),
    "putamen": Code("89278009", "SCT", "Putamen"),
    "rectum": Code("34402009", "SCT", "Rectum"),
    "spinal cord": Code("2748008", "SCT", "Spinal cord"),
    "spleen": Code("78961009", "SCT", "Spleen"),
    "stomach": Code("69695003", "SCT", "Stomach"),
    "thalamus": Code("42695009", "SCT", "Thalamus"),
    "third ventricle": Code("49841001", "SCT", "Third ventricle"),
    "thyroid": Code("69748006", "SCT", "Thyroid"),
    "trachea": Code("44567001", "SCT", "Trachea"),
    "urinary bladder": Code("89837001", "SCT", "Bladder"),
    "ventral diencephalon": Code("110700", "DCM", "Ventral Diencephalon"),
    "vertebra": Code("51282000", "SCT", "Vertebra"),
    "white matter": Code("389080008", "SCT", "White Matter"),
}  # fmt: skip

PATHOLOGICAL = {
    "cyst": Code("367643001", "SCT", "Cyst"),
    "enhancing tumour": Code("C113842", "NCIt", "Enhancing Lesion"),
    "haemorrhage": Code("50960005", "SCT", "Hemorrhage"),
    "lesion": Code("52988006", "SCT", "Lesion"),
    "necrosis": Code("6574001", "SCT", "Necrosis"),
    "non enhancing tumour": Code("C81175", "NCIt", "Non-Enhancing Lesion"),
    "oedema": Code("79654002", "SCT", "Edema"),
    "tumour": Code("108369006", "SCT", "Neoplasm"),
    "tumour core": Code("108369006", "SCT", "Neoplasm"),
    "whole tumour": Code("52988006", "SCT", "Lesion"),
}  # fmt: skip

SUBSTANCES = {"cerebrospinal fluid": Code("65216001", "SCT", "Cerebrospinal Fluid")}

OTHER_NAMES = {
    "3rd": "third", "4th": "fourth", "brainstem": "brain stem", "csf": "cerebrospinal fluid",
    "dc": "diencephalon", "edema": "oedema", "esophagus": "oesophagus", "gray": "grey",
    "hemorrhage": "haemorrhage", "tumor": "tumour",
}  # fmt: skip
"""Words as others write them, and as the tables above do."""

TABLES = ((ANATOMY, ANATOMICAL), (ABNORMAL, PATHOLOGICAL), (SUBSTANCE, SUBSTANCES))


def concept_of(structure: Structure) -> Concept:
    """The coded concept of a structure by its name; in the private scheme if the name is unknown.

    >>> concept_of(Structure(17, "left hippocampus", side="left")).type.meaning
    'Hippocampus'
    """
    side = SIDES.get(structure.side)
    plain = _plain(structure.name)
    for category, table in TABLES:
        if plain in table:
            return Concept(category, table[plain], side)
    return Concept(TISSUE, _private(structure.name), side)


def text(name: str, longest: int = LONGEST_TEXT) -> str:
    """Free text as a DICOM string: one line, no backslash, which parts values, and not too long.

    >>> text("a\\\\b")
    'a/b'
    """
    return printable(" ".join(name.split()).replace("\\", "/")).replace("\\", "/")[:longest].strip()


def _plain(name: str) -> str:
    """A name in lower case, without its side, in the words of the tables.

    >>> _plain("Left-Cerebral-White-Matter"), _plain("brain-stem"), _plain("3rd ventricle")
    ('cerebral white matter', 'brain stem', 'third ventricle')
    """
    words = re.findall(r"[^\W_]+", without_side(name, side_of(name)[0]).lower())
    return " ".join(OTHER_NAMES.get(word, word) for word in words)


def _private(name: str) -> Code:
    """A code of our own: the same for the same name, wherever it is made."""
    short = hexdigest(name)[:15]
    return Code(f"S{short}", PRIVATE_SCHEME, text(name) or "structure")
