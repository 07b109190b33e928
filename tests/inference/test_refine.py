"""Borders from the scan itself: a blunt, shifted prior and a sharp scan give sharp labels."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, Volume
from medseg.inference import refine
from medseg.inference.refine import Refined, refined_labels
from medseg.inference.restore import restored_labels
from medseg.model.refinement import IntensityClass, RefinementSpec, Trust
from medseg.preparation.preparation import Preparation, PreparationSpec, Prepared

STRUCTURES = StructureSet(
    (
        Structure(2, "left white", "left", "right white"),
        Structure(41, "right white", "right", "left white"),
        Structure(3, "cortex"),
        Structure(4, "ventricle"),
    )
)
CLASSES = (
    IntensityClass("white", ("white",)),
    IntensityClass("grey", ("cortex",)),
    IntensityClass("fluid", ("ventricle",)),
)
SPEC = RefinementSpec(CLASSES)
SHAPE = (48, 44, 40)
BRIGHTNESS = {0: 5.0, 2: 100.0, 41: 100.0, 3: 70.0, 4: 30.0}


def truth() -> NDArray[np.uint8]:
    """A head of balls: fluid, white matter of two sides, a folded cortex, air."""
    i, j, k = np.indices(SHAPE)
    places = np.stack([i - 23.5, j - 21.5, k - 19.5])
    radius = np.sqrt((places**2).sum(axis=0))
    folds = 1.2 * np.sin(i / 2.0) * np.sin(j / 2.3) * np.sin(k / 2.1)
    labels = np.zeros(SHAPE, np.uint8)
    labels[radius < 18] = 3
    inner = radius + folds < 14
    labels[inner] = np.where(i < 24, 2, 41)[inner]
    labels[radius < 5] = 4
    return labels


def scan(
    labels: NDArray[np.uint8], *, noise: float = 3.0, brightness: dict[int, float] = BRIGHTNESS
) -> Volume:
    image = np.zeros(SHAPE, np.float32)
    for value, level in brightness.items():
        image[labels == value] = level
    image = ndimage.gaussian_filter(image, 0.4) + np.random.default_rng(0).normal(0, noise, SHAPE)
    return Volume(image[None].astype(np.float32), Grid(SHAPE, np.eye(4)), ("MR",))


def prepared(volume: Volume, mm: float = 2.0) -> Prepared:
    return Preparation(PreparationSpec((mm, mm, mm))).apply(volume)


def prior(labels: NDArray[np.uint8], way: Prepared) -> NDArray[np.float32]:
    """What a blunt network says on a coarse grid: every mask blurred, and a little askew."""
    outputs = []
    for value in (0, *STRUCTURES.values):
        mask = ndimage.gaussian_filter((labels == value).astype(np.float32), 2.0)
        mask = ndimage.shift(mask, (0.8, -0.6, 0.5), order=1, mode="nearest")
        outputs.append(mask[:: SHAPE[0] // way.grid.shape[0], ::2, ::2])
    found = np.stack(outputs) + 1e-4
    return (found / found.sum(axis=0)).astype(np.float32)


def rows(found: NDArray[np.float32], height: int = 5) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    for start in range(0, found.shape[1], height):
        part = found[:, start : start + height]
        yield slice(start, start + part.shape[1]), part


def refined(volume: Volume, found: NDArray[np.float32], spec: RefinementSpec = SPEC) -> Refined:
    return refined_labels(prepared(volume), volume.array[0], rows(found), spec, STRUCTURES)


def dice(one: NDArray[np.integer], other: NDArray[np.integer]) -> dict[int, float]:
    return {
        v: 2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum())
        for v in STRUCTURES.values
    }


@pytest.mark.parametrize(
    "brightness",
    [
        BRIGHTNESS,
        {0: 5.0, 2: 40.0, 41: 40.0, 3: 60.0, 4: 110.0},
        {0: 90.0, 2: 5.0, 41: 5.0, 3: 40.0, 4: 70.0},
    ],
    ids=["as T1", "as T2", "inverted"],
)
def test_borders_are_the_scans_in_any_contrast(brightness: dict[int, float]) -> None:
    labels = truth()
    volume = scan(labels, brightness=brightness)
    found = prior(labels, prepared(volume))
    before = dice(restored_labels([prepared(volume)], [rows(found)], STRUCTURES), labels)
    after = dice(refined(volume, found).labels, labels)
    assert min(before.values()) < 0.82
    assert min(after.values()) > 0.9, (before, after)
    assert all(after[v] > before[v] + 0.05 for v in STRUCTURES.values)


def test_a_scan_that_shows_nothing_leaves_the_networks_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STRIDE", 1)
    labels = truth()
    volume = scan(labels, brightness=dict.fromkeys(BRIGHTNESS, 50.0), noise=10.0)
    found = prior(labels, prepared(volume))
    before = dice(restored_labels([prepared(volume)], [rows(found)], STRUCTURES), labels)
    after = refined(volume, found)
    assert max(after.contrast.values()) < 0.3
    assert all(value > before[v] - 0.05 for v, value in dice(after.labels, labels).items())


def test_without_trust_and_width_the_answer_is_the_networks() -> None:
    labels = truth()
    volume = scan(labels)
    found = prior(labels, prepared(volume))
    expected = restored_labels([prepared(volume)], [rows(found)], STRUCTURES)
    kept = refined(volume, found, RefinementSpec(CLASSES, Trust(likelihood=0.0, width_mm=0.0))).labels
    background = refine.BACKGROUND
    assert (kept != expected).mean() < 1 - background
    inside = ndimage.binary_erosion(expected > 0, iterations=2)
    np.testing.assert_array_equal(kept[inside], expected[inside])


def test_one_structure_alone_can_keep_the_networks_answer() -> None:
    labels = truth()
    volume = scan(labels)
    found = prior(labels, prepared(volume))
    held = RefinementSpec(CLASSES, structures={"cortex": Trust(likelihood=0.0)})
    free, kept = (
        dice(refined(volume, found).labels, labels),
        dice(refined(volume, found, held).labels, labels),
    )
    assert kept[3] < free[3]
    assert abs(kept[4] - free[4]) < 0.03


def test_a_smaller_scale_makes_a_structure_smaller() -> None:
    labels = truth()
    volume = scan(labels, noise=20.0)
    found = prior(labels, prepared(volume))
    less = RefinementSpec(CLASSES, structures={"ventricle": Trust(scale=0.3)})
    assert (refined(volume, found, less).labels == 4).sum() < (refined(volume, found).labels == 4).sum()


def test_runs_of_any_height_give_the_same_labels() -> None:
    labels = truth()
    volume = scan(labels)
    way, found = prepared(volume), prior(labels, prepared(volume))
    whole = refined(volume, found).labels
    for height in (1, 7, 24):
        again = refined_labels(way, volume.array[0], rows(found, height), SPEC, STRUCTURES).labels
        np.testing.assert_array_equal(again, whole)


def test_slabs_join_to_the_same_labels_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = truth()
    volume = scan(labels)
    found = prior(labels, prepared(volume))
    whole = refined(volume, found).labels
    monkeypatch.setattr(refine, "SLAB_VOXELS", 4000)
    assert (refined(volume, found).labels != whole).mean() < 1e-4


def test_what_the_network_finds_nowhere_is_nowhere() -> None:
    labels = truth()
    volume = scan(labels)
    found = prior(labels, prepared(volume))
    found[4] = 0
    assert 4 not in refined(volume, found).labels
    found[:] = 0
    found[0] = 1
    assert not refined(volume, found).labels.any()


def test_the_contrast_is_named_by_kinds_of_tissue() -> None:
    labels = truth()
    volume = scan(labels)
    contrast = refined(volume, prior(labels, prepared(volume))).contrast
    assert set(contrast) == {"white and grey", "white and fluid", "grey and fluid"}
    assert contrast["white and fluid"] > contrast["white and grey"] > 1


def test_a_prior_is_held_in_no_more_than_is_planned_for() -> None:
    """Memory of the process, traced: the scan and the network's answer are there before."""
    labels = truth()
    volume = scan(labels)
    way, found = prepared(volume), prior(labels, prepared(volume))
    tracemalloc.start()
    try:
        refined_labels(way, volume.array[0], rows(found), SPEC, STRUCTURES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sample = 20_000_000  # the fit's, whatever the size of the scan
    assert peak <= refine.bytes_held(way.grid.shape, volume.grid.shape) + sample


def test_structures_of_one_kind_are_told_from_the_background() -> None:
    labels = truth()
    volume = scan(labels)
    found = prior(labels, prepared(volume))
    alike = (IntensityClass("grey", ("white", "cortex")), IntensityClass("grey", ("ventricle",)))
    after = refined(volume, found, RefinementSpec(alike))
    assert after.contrast == {}
    before = restored_labels([prepared(volume)], [rows(found)], STRUCTURES)
    assert ((after.labels > 0) != (labels > 0)).mean() < 0.5 * ((before > 0) != (labels > 0)).mean()


def test_what_the_network_is_sure_lies_outside_stays_outside() -> None:
    """A rim around the head, like fat, has the brightness of white matter, and the network a last doubt."""
    labels = truth()
    image = scan(labels).array[0].copy()
    far = ndimage.distance_transform_edt(labels == 0) > 6
    image[far] = BRIGHTNESS[2]
    volume = Volume(image[None], Grid(SHAPE, np.eye(4)), ("MR",))
    found = prior(labels, prepared(volume))
    coarse = far[::2, ::2, ::2]
    found[:, coarse] = np.array([0.994, 0.006, 0, 0, 0], np.float32)[:, None]
    farther = ndimage.distance_transform_edt(labels == 0) > 8
    assert farther.any()
    assert not refined(volume, found).labels[farther].any()
