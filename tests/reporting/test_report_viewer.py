"""What the viewer carries is what the slices hold; what it is given as text stays text."""

from __future__ import annotations

import base64
import json
import re
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.errors import GeometryError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.reporting.drawing.planes import planes
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.viewer import layers
from medseg.reporting.viewer.layers import blocks, image_layer, label_layer, middles
from medseg.reporting.viewer.viewer import Viewer, viewer

EVIL = "</template><script>alert(1)</script>&lt;"
WORLDS = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS": np.diag([-0.5, -0.5, 3.0, 1.0]),
    "permuted": np.array([[0, 0, -2.0, 4], [1.0, 0, 0, 5], [0, -1.5, 0, 6], [0, 0, 0, 1]]),
}


def settings_of(made: Viewer) -> dict[str, Any]:
    found = re.search(r'<template class="viewer-settings">(.*?)</template>', made.html, re.DOTALL)
    assert found is not None
    settings: dict[str, Any] = json.loads(found[1])
    return settings


def unpacked(made: Viewer, name: str) -> NDArray[np.int64]:
    """A layer as the script reads it, each element repeated over the voxels it covers."""
    said = settings_of(made)
    layer, whole = said[name], np.zeros(said["shape"], np.int64)
    found = re.search(rf'<template class="viewer-{name}-data">(.*?)</template>', made.html)
    assert found is not None
    raw = zlib.decompress(base64.b64decode(found[1], validate=True))
    array = np.frombuffer(raw, np.uint8 if layer["bytes"] == 1 else "<u2").reshape(layer["shape"])
    if layer["differences"]:
        array = np.cumsum(array, axis=2, dtype=np.int64) % 256
    for axis, factor in enumerate(layer["factors"]):
        array = np.repeat(array, factor, axis=axis)
    box = tuple(slice(s, s + n) for s, n in zip(layer["start"], array.shape, strict=True))
    into = whole[box]
    into[...] = array[tuple(slice(0, n) for n in into.shape)]
    return whole


def case(
    seed: int = 0, shape: tuple[int, int, int] = (11, 13, 7)
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 3:11, 1:6] = rng.integers(0, 3, (7, 8, 5))
    return rng.normal(100, 40, shape).astype(np.float32), labels


TWO = from_labels({1: "left", 2: "right"})


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("known", [True, False])
def test_every_slice_comes_out_as_it_went_in(world: str, known: bool) -> None:
    image, labels = case()
    reference = np.roll(labels, 1, axis=0)
    grid = Grid(image.shape, WORLDS[world])
    made = viewer(image, labels, grid, TWO, reference=reference, window=(60, 140), orientation_known=known)
    said, shown = settings_of(made), planes(grid, orientation_known=known)
    assert [p["name"] for p in said["planes"]] == [p.name for p in shown]
    low, high, levels = (said["image"][key] for key in ("low", "high", "levels"))
    step = (high - low) / (levels - 1)
    assert (low, high) == (pytest.approx(max(20, image.min())), pytest.approx(min(180, image.max())))
    greys = low + unpacked(made, "image") * step
    for plane, told in zip(shown, said["planes"], strict=True):
        assert told["letters"] == (list(plane.letters) if plane.letters else None)
        for index in range(grid.shape[plane.axis]):
            cut = plane.cut(image, index).clip(low, high)
            np.testing.assert_allclose(plane.cut(greys, index), cut, atol=step / 2 + 1e-4)
            for name, array in (("labels", labels), ("reference", reference)):
                np.testing.assert_array_equal(plane.cut(unpacked(made, name), index), plane.cut(array, index))


def test_a_region_has_the_indices_of_its_members() -> None:
    regions = StructureSet((Structure(10, "whole", members=(1, 2, 4)), Structure(11, "core", members=(1, 4))))
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 2, 4, 9], (6, 7, 8))  # 9 is nobody's
    made = viewer(labels.astype(float), labels, Grid(labels.shape, np.eye(4)), regions)
    found = unpacked(made, "labels")
    for told, region in zip(settings_of(made)["structures"], regions, strict=True):
        np.testing.assert_array_equal(np.isin(found, told["indices"]), regions.mask(labels, region))


def test_more_structures_than_a_byte_can_tell() -> None:
    values = np.arange(1, 301)
    many = from_labels({int(v) * 7: f"s{v}" for v in values})
    labels = np.zeros((8, 8, 8), np.int32)
    labels.flat[:300] = values * 7
    made = viewer(labels, labels, Grid(labels.shape, np.eye(4)), many)
    assert settings_of(made)["labels"]["bytes"] == 2
    np.testing.assert_array_equal(unpacked(made, "labels") * 7, labels)


def test_text_stays_text() -> None:
    image, labels = case()
    structures = StructureSet(
        (Structure(1, EVIL, colour="#ff0000"), Structure(2, "a\nb\u2028", colour="red;}"))
    )
    made = viewer(image, labels, Grid(image.shape, np.eye(4)), structures, places=[(EVIL, (1, 2, 3))])
    plain = viewer(image, labels, Grid(image.shape, np.eye(4)), TWO)
    assert "<script" not in made.html
    assert "alert(1)</" not in made.html
    said = settings_of(made)
    assert [s["name"] for s in said["structures"]] == [EVIL, "a\\nb\\u2028"]
    assert said["places"] == [{"name": EVIL, "at": [1, 2, 3]}]
    assert all(
        re.fullmatch("#[0-9a-f]{6}", s[key]) for s in said["structures"] for key in ("colour", "paler")
    )
    assert (made.script, made.style) == (plain.script, plain.style)


def test_markup_and_script_keep_to_the_policy() -> None:
    image, labels = case()
    made = viewer(image, labels, Grid(image.shape, np.eye(4)), TWO)
    assert not re.search(r"<[^>]*\s(style|on\w+|src|href)\s*=", made.html)
    assert "</" not in made.script
    assert "<!--" not in made.script
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|fetch|XMLHttp|import\("
    )
    assert not re.search(forbidden, made.script)
    assert "url(" not in made.style
    assert "@import" not in made.style
    assert settings_of(made)["banner"] == BANNER


def test_the_same_input_gives_the_same_text() -> None:
    image, labels = case()
    grid = Grid(image.shape, np.eye(4))
    assert viewer(image, labels, grid, TWO) == viewer(image.copy("F"), labels.copy(), grid, TWO)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (2.0, 0.7, 0.7)])
def test_a_large_scan_is_averaged_until_it_fits(spacing: tuple[float, float, float]) -> None:
    shape, budget = (45, 38, 41), 9_000
    image = np.random.default_rng(2).normal(0, 1, shape)
    image[3, 4, 5] = np.nan
    image[6, 7, 8] = np.inf
    layer = image_layer(image, Grid(shape, np.diag([*spacing, 1.0])), (-2, 2), budget)
    assert budget / 4 < len(layer.data) <= budget
    assert layer.greys is not None
    low, high, levels = layer.greys
    filled = np.nan_to_num(image, nan=low, posinf=high, neginf=low)
    sides = np.array(layer.factors) * spacing
    assert sides.max() <= max(*spacing, 2.5 * sides.min())
    step = (high - low) / (levels - 1)
    for place in [(0, 0, 0), (2, 1, 3), tuple(n - 1 for n in layer.array.shape)]:
        block = tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, layer.factors, strict=True))
        mean = float(np.clip(filled[block].mean(), low, high))
        assert low + float(layer.array[place]) * step == pytest.approx(mean, abs=step / 2 + 1e-9)


def test_the_page_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (40, 40, 40)
    rng = np.random.default_rng(3)
    image, noise = rng.normal(0, 1, shape), rng.integers(0, 3, shape)
    box = np.zeros(shape, np.uint8)
    box[10:30, 10:30, 10:30] = 1
    grid = Grid(shape, np.eye(4))
    assert "resolution" not in viewer(image, noise, grid, TWO).html
    monkeypatch.setattr(layers, "BUDGET_BYTES", 16_000)
    monkeypatch.setattr("medseg.reporting.viewer.viewer.BUDGET_BYTES", 16_000)
    for labels, words in ((box, "Outlines show every voxel."), (noise, "Outlines are coarser")):
        made = viewer(image, labels, grid, TWO)
        assert "lower resolution" in made.html or "half its resolution" in made.html
        assert words in made.html
        packed = sum(len(text) for text in re.findall(r'-data">(.*?)</template>', made.html)) * 3 / 4
        assert packed <= 16_000 + 8


def test_a_map_that_is_all_noise_is_read_at_the_middle_of_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "BUDGET_BYTES", 8_000)
    labels = np.random.default_rng(4).integers(0, 3, (30, 31, 32))
    layer = label_layer(labels, Grid(labels.shape, np.eye(4)), TWO)
    assert len(layer.data) <= 2_000
    middle = tuple(slice(s + f // 2, None, f) for s, f in zip(layer.start, layer.factors, strict=True))
    np.testing.assert_array_equal(layer.array, labels[middle])


def test_blocks_grow_until_they_hold_everything() -> None:
    found = list(blocks((1.0, 2.0, 0.3), (4, 1, 9)))
    assert found[0] == (1, 1, 1)
    assert found[-1] == (4, 1, 9)
    assert all(sum(b) == sum(a) + 1 for a, b in pairwise(found))


def test_go_to_leads_into_the_structure() -> None:
    labels = np.zeros((20, 21, 9), np.uint8)
    labels[2:6, 3:6, 4] = 1
    i, j = np.ogrid[:20, :21]
    ring = (i - 12) ** 2 + (j - 12) ** 2
    labels[(ring < 40) & (ring > 20), 6] = 2
    layer = label_layer(labels, Grid(labels.shape, np.eye(4)), TWO)
    at = middles(TWO, layer, Grid(labels.shape, np.eye(4)))
    assert at["left"] == (4, 4, 4)  # halves are rounded to even: rows 2 to 5
    assert labels[at["right"]] == 2
    assert all(type(n) is int for point in at.values() for n in point)


def test_go_to_leads_to_the_reference_where_the_model_labelled_nothing() -> None:
    image, labels = case()
    labels = np.where(labels == 2, 0, labels).astype(np.uint8)
    reference = np.zeros_like(labels)
    reference[5, 6, 2] = 2
    three = from_labels({1: "left", 2: "right", 3: "absent"})
    grid = Grid(image.shape, np.eye(4))
    left, right, absent = settings_of(viewer(image, labels, grid, three, reference=reference))["structures"]
    assert labels[tuple(left["at"])] == 1
    assert right["at"] == [5, 6, 2]
    assert absent["at"] is None


def test_nothing_labelled_begins_in_the_middle_of_the_scan() -> None:
    image, labels = case()
    said = settings_of(viewer(image, np.zeros_like(labels), Grid(image.shape, np.eye(4)), TWO))
    assert said["begin"] == [5, 6, 3]
    assert said["labels"]["shape"] == [1, 1, 1]


def test_one_slice_has_one_plane() -> None:
    image, labels = case(shape=(12, 14, 8))
    said = settings_of(viewer(image[:, :, 3:4], labels[:, :, 3:4], Grid((12, 14, 1), np.eye(4)), TWO))
    assert [p["name"] for p in said["planes"]] == ["axial"]


@pytest.mark.parametrize("image", [np.full((4, 5, 6), 7, np.int16), np.full((4, 5, 6), np.nan)])
def test_a_scan_of_one_value_has_greys(image: NDArray[Any]) -> None:
    said = settings_of(viewer(image, np.zeros((4, 5, 6), np.uint8), Grid((4, 5, 6), np.eye(4)), TWO))
    assert said["image"]["low"] < said["image"]["high"]
    assert said["window"][0] < said["window"][1]


def test_arrays_of_another_shape_are_refused() -> None:
    image, labels = case()
    with pytest.raises(GeometryError, match="reference array of shape"):
        viewer(image, labels, Grid(image.shape, np.eye(4)), TWO, reference=labels[1:])
