"""The functions of `medseg.metrics` say what a `CaseResult` says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medseg import evaluate, metrics
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


DISTANCES = (metrics.hd95, metrics.hd100, metrics.assd, metrics.masd, metrics.nsd)
NO_SPACING = [(1, -1, 3), (1, 0, 1), (1, math.inf, 1), (1, math.nan, 1), 2, None, (1, 1), "1,1", (1, "a", 1)]
NO_SPACING += [(1e200,) * 3, (1e-200,) * 3]


@pytest.mark.parametrize("spacing", NO_SPACING, ids=str)
def test_a_spacing_that_is_none_is_refused(spacing: Any) -> None:
    predicted, reference = np.zeros((2, 8, 8, 8), bool)
    predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    for of in DISTANCES:
        more = {"tolerance_mm": 1.0} if of is metrics.nsd else {}
        with pytest.raises(UsageError, match=r"spacing_mm is .*lengths? must be|spacing_mm is .*3 lengths"):
            of(predicted, reference, spacing_mm=spacing, **more)
    if spacing is not None:
        with pytest.raises(UsageError, match="spacing_mm is"):
            evaluate(predicted, reference, spacing_mm=spacing)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("odd", [0.7, -2.3, math.nan, math.inf])
def test_probabilities_logits_and_nan_are_no_mask(odd: float, label: int | None, side: int) -> None:
    mask = maps((12, 13, 9), 1, values=1)[0]
    both = [mask.astype(np.float32), mask]
    both[0][both[0] > 0] = odd
    for function, keywords in FUNCTIONS.values():
        with pytest.raises(UsageError, match=r"which is not an integer; .*threshold"):
            function(*(both if side == 0 else both[::-1]), label=label, **keywords)
    with pytest.raises(UsageError, match="holds complex"):
        metrics.dice(mask + 0j, mask)


def test_whole_numbers_of_any_type_are_labels() -> None:
    predicted, reference = maps((12, 13, 9), 1, values=1)
    for function, keywords in FUNCTIONS.values():
        wanted = function(predicted, reference, **keywords)
        for kind in (bool, np.int64, np.float16, np.float64):
            same(function(predicted.astype(kind), reference, **keywords), wanted)
