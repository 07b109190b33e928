"""The functions of `medseg.metrics` say what a `CaseResult` says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medseg import metrics
from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import InstanceRule, evaluate_case

SPACING = (0.7, 1.1, 2.5)
AFFINE = np.diag([*SPACING, 1.0])


def maps(shape: tuple[int, ...], seed: int, values: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of several labels that overlap in part."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, values + 1, [max(1, n // 3 + 1) for n in shape])
    first = np.kron(coarse, np.ones([3 if n > 1 else 1 for n in shape]))[tuple(slice(n) for n in shape)]
    second = np.where(rng.random(shape) < 0.1, 0, np.roll(first, 1, 0))
    return first.astype(np.uint8), second.astype(np.uint8)


def same(found: float, value: float | None) -> None:
    assert (math.isnan(found) and value is None) or found == value


FUNCTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dice": (metrics.dice, {}),
    "jaccard": (metrics.jaccard, {}),
    "recall": (metrics.recall, {}),
    "precision": (metrics.precision, {}),
    "volume_similarity": (metrics.volume_similarity, {}),
    "hd95_mm": (metrics.hd95, {"spacing_mm": SPACING}),
    "hd100_mm": (metrics.hd100, {"spacing_mm": SPACING}),
    "assd_mm": (metrics.assd, {"spacing_mm": SPACING}),
    "nsd": (metrics.nsd, {"spacing_mm": SPACING, "tolerance_mm": 1.0}),
    "pq": (metrics.panoptic_quality, {}),
    "rq": (metrics.recognition_quality, {}),
    "sq": (metrics.segmentation_quality, {}),
}


@pytest.mark.parametrize("shape", [(12, 13, 9), (12, 11, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_they_are_the_numbers_of_the_case(shape: tuple[int, int, int], seed: int) -> None:
    predicted, reference = maps(shape, seed)
    if seed == 3:
        predicted[predicted == 2], reference[reference == 3] = 0, 0
    grid = Grid(shape, AFFINE)
    structures = from_labels({1: "one", 2: "two", 3: "three", 4: "none"})
    case = evaluate_case(
        LabelMap(predicted, grid),
        LabelMap(reference, grid),
        structures,
        tolerance_mm=1.0,
        instances=InstanceRule(),
    )
    for structure in structures:
        for name, (function, keywords) in FUNCTIONS.items():
            value = case[structure.name].metrics[name].value
            same(function(predicted, reference, label=structure.value, **keywords), value)
            masks = predicted == structure.value, reference == structure.value
            same(function(*masks, **keywords), value)


def test_the_voxel_mode_too() -> None:
    predicted, reference = maps((12, 13, 9), 1, values=1)
    grid = Grid(predicted.shape, AFFINE)
    structures = from_labels({1: "one"})
    case = evaluate_case(LabelMap(predicted, grid), LabelMap(reference, grid), structures, mode="voxel")
    found = case["one"].metrics
    more = {"spacing_mm": SPACING, "mode": "voxel"}
    same(metrics.hd95(predicted, reference, **more), found["hd95_mm"].value)
    same(metrics.hd100(predicted, reference, **more), found["hd100_mm"].value)
    same(metrics.assd(predicted, reference, **more), found["assd_mm"].value)
    same(metrics.masd(predicted, reference, spacing_mm=SPACING), found["masd_mm"].value)


def test_images_of_two_axes() -> None:
    predicted, reference = maps((12, 11, 1), 2, values=1)
    flat = predicted[..., 0], reference[..., 0]
    wanted = metrics.hd95(predicted, reference, spacing_mm=SPACING)
    assert metrics.hd95(*flat, spacing_mm=SPACING[:2]) == wanted
    assert metrics.panoptic_quality(*flat) == metrics.panoptic_quality(predicted, reference)


def test_what_makes_no_sense_is_refused() -> None:
    one = np.ones((4, 4, 4), bool)
    with pytest.raises(GridMismatchError, match=r"\(4, 4, 2\), prediction \(4, 4, 4\)"):
        metrics.dice(one, one[..., :2])
    with pytest.raises(UsageError, match="labels 1, 2; choose one with label="):
        metrics.dice(one.astype(int) + (np.arange(4) > 1), one.astype(int))
    with pytest.raises(TypeError, match="did you mean 'spacing_mm'"):
        metrics.hd95(one, one, spacing=(1, 1, 1))
    with pytest.raises(UsageError, match="0 mm or more"):
        metrics.nsd(one, one, spacing_mm=(1, 1, 1), tolerance_mm=-1)
    assert metrics.surface_dice is metrics.nsd
    for of in (metrics.hd95, metrics.hd100, metrics.assd):
        with pytest.raises(UsageError, match="one of surfel, voxel, not 'surfels'"):
            of(one, one, spacing_mm=(1, 1, 1), mode="surfels")
