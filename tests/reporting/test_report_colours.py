"""Outlines differ for people with any kind of colour vision, and a structure keeps its colour.

The eyes are those of Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, at full severity:
what a dichromat sees of a colour is a matrix of its linear light. Differences are distances in CIELAB.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from commands import done
from io_files import save
from PIL import Image
from skimage.color import rgb2lab

from medseg.core.colours import PALETTE
from medseg.core.structures import StructureSet, from_labels
from medseg.data.cards import available, load_card
from medseg.evaluation.pairs import pair_files
from medseg.metrics.lesions import BRATS2023_REGIONS
from medseg.model.file import load_model
from medseg.reporting.drawing.palette import PALETTE_GREYS, indexed
from medseg.reporting.drawing.style import readable_colour
from medseg.segmentation.label_sources import known_structures

EYES = {
    "normal": np.eye(3),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanope": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
LEAST_OF_SOME, LEAST_OF_ALL = 20.0, 12.0
FEW = 4
OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}


def least_difference(colours: list[str], eyes: str) -> float:
    """Of any two colours, as they are drawn on a dark image and as these eyes see them."""
    shown = [readable_colour(colour) for colour in dict.fromkeys(colours)]
    rgb = np.array([[int(c[n : n + 2], 16) / 255 for n in (1, 3, 5)] for c in shown])
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(light @ EYES[eyes].T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    return min((float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)), default=np.inf)


def test_the_model_sees_what_the_report_saw() -> None:
    """Red and green as they were: 130 apart, and 9 for a deuteranope."""
    assert least_difference(["#e6194b", "#3cb44b"], "normal") == pytest.approx(130, abs=1)
    assert least_difference(["#e6194b", "#3cb44b"], "deuteranope") == pytest.approx(9, abs=1)


@pytest.mark.fault("reports 35")
@pytest.mark.parametrize("eyes", EYES)
def test_the_palette_holds_for_every_kind_of_colour_vision(eyes: str) -> None:
    assert set(PALETTE[:7]) == OKABE_ITO
    assert least_difference(list(PALETTE[:2]), eyes) > 80
    assert least_difference(list(PALETTE[:FEW]), eyes) > LEAST_OF_SOME
    assert least_difference(list(PALETTE), eyes) > LEAST_OF_ALL


@pytest.mark.fault("reports 35")
@pytest.mark.parametrize("eyes", EYES)
def test_the_colours_that_cards_state_hold_too(eyes: str) -> None:
    """But of the brain, whose 32 structures have the colours that its field knows."""
    named = {name: load_card(name).structure_set for name in available("datasets")}
    sets = [s for s in named.values() if len(s) <= len(PALETTE)]
    assert len(sets) >= 5
    for structures in (*sets, BRATS2023_REGIONS, load_model("hippocampus").spec.structure_set):
        least = LEAST_OF_SOME if len(structures) <= FEW else LEAST_OF_ALL
        assert least_difference([s.colour for s in structures], eyes) > least, structures.names


@pytest.mark.fault("reports 35")
def test_a_value_has_its_colour_whatever_else_is_in_the_set() -> None:
    whole = from_labels({n: f"label {n}" for n in range(1, 17)})
    for some in ((1, 3), (3,), (16, 3, 40)):
        part = from_labels({n: f"label {n}" for n in some})
        assert part["label 3"].colour == whole["label 3"].colour
    assert len({s.colour for s in whole}) == 16
    far = from_labels({1: "a", 17: "b", 33: "c"})
    assert len({s.colour for s in far}) == 3


@pytest.mark.fault("reports 35")
def test_every_page_has_the_colours_of_the_prediction(tmp_path: Path) -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:4, 2:6, 2:6], labels[5:7, 2:6, 2:6] = 1, 3
    names = {1: ("liver", "#b3b3b3"), 3: ("spleen", "#8080ff")}
    (tmp_path / "pred").mkdir()
    (tmp_path / "ref").mkdir()
    seg = save(tmp_path / "pred" / "x_seg.nii.gz", labels)
    save(tmp_path / "ref" / "x.nii.gz", labels)
    rows = [{"value": v, "name": n, "colour": c} for v, (n, c) in names.items()]
    (tmp_path / "pred" / "x_seg.json").write_text(
        json.dumps({"schema": "medseg.prediction/1", "structures": rows})
    )
    told = dict(names.values())
    assert {s.name: s.colour for s in known_structures(seg).structures} == told
    done("evaluate", tmp_path / "pred", tmp_path / "ref", "--report", tmp_path / "cohort.html")
    for colour in told.values():
        assert f"background:{colour}" in (tmp_path / "cohort.html").read_text()
    assert len(pair_files(tmp_path / "pred", tmp_path / "ref")[0]) == 1


@pytest.mark.parametrize("colour", ["red; } *{}", "#12345", "", "javascript:"])
def test_a_colour_of_a_summary_that_is_none_is_not_believed(tmp_path: Path, colour: str) -> None:
    seg = save(tmp_path / "x_seg.nii.gz", np.ones((4, 4, 4), np.uint8))
    rows = [{"value": 1, "name": "liver", "colour": colour}]
    (tmp_path / "x_seg.json").write_text(json.dumps({"schema": "medseg.prediction/1", "structures": rows}))
    found: StructureSet = known_structures(seg).structures
    assert found["liver"].colour == PALETTE[0]


def test_a_picture_with_a_palette_keeps_greys_and_the_colours_of_thin_outlines() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(64, axis=0)
    picture = greys.copy()
    colours = np.array([[int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in PALETTE], np.uint8)
    for row, colour in enumerate(colours[:30]):
        picture[2 * row + 1, 10 * row % 256] = colour  # a pixel of each
    shown = np.asarray(indexed(Image.fromarray(picture)).convert("RGB")).astype(int)
    away = np.abs(shown - picture.astype(int)).max(axis=2)
    assert away[::2].max() <= 255 / (PALETTE_GREYS - 1) / 2 + 1
    assert away.max() <= 10
