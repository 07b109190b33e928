"""Invariants of numbers: measures, losses, augmentation, determinism, and any bytes at all."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import medseg
from drawn import ORDERS, SEEDS, SIGNS, SPACINGS, examples, labels
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_model

from medseg.augment.compose import Augmenter
from medseg.augment.spec import AffineSpec, AugmentSpec, ElasticSpec, FlipSpec
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.phantom import phantom_case
from medseg.losses.registry import build
from medseg.losses.spec import LOSSES, LossSpec
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.preparation.orient import Reorientation
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

STRUCTURES = from_labels({1: "one", 2: "two"})
SIDED = from_labels({1: "left kidney", 2: "right kidney", 3: "liver"})
PAIRS = st.tuples(*[st.integers(2, 9)] * 3).flatmap(
    lambda shape: st.tuples(labels(st.just(shape), 2), labels(st.just(shape), 2))
)
SAME_BOTH_WAYS = ("dice", "jaccard", "hd_mm", "hd95_mm", "assd_mm", "nsd")

# 9: determinism


@pytest.fixture(scope="module")
def segmenters() -> list[Segmenter]:
    """Two with one thread, and one with two."""
    model = tiny_model()
    return [Segmenter([model], SegmenterOptions(threads=n)) for n in (1, 1, 2)]


@examples(4)
@given(seed=SEEDS)
def test_one_seed_has_one_answer_whatever_the_threads(segmenters: list[Segmenter], seed: int) -> None:
    volume = phantom_case(np.random.default_rng(seed), (24, 22, 20))[0]
    runs = [segmenter(volume).labels.array for segmenter in segmenters]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] == runs[2]).mean() >= 0.9999


# 10: measures


def measured(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Any = (1.0, 1.0, 1.0),
    structures: StructureSet = STRUCTURES,
) -> CaseResult:
    grid = Grid(prediction.shape, np.diag([*spacing, 1.0]))
    return evaluate_case(
        LabelMap(prediction, grid), LabelMap(reference, grid), structures, tolerance_mm=1.0, case_id="a"
    )


def numbers(case: CaseResult) -> dict[tuple[str, str], float]:
    """By structure and metric; what has no value is NaN."""
    found = {(row.name, name): value.value for row in case.rows for name, value in row.metrics.items()}
    return {key: math.nan if value is None else value for key, value in found.items()}


def assert_close(first: dict[Any, float], second: dict[Any, float]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), key


@examples(30)
@given(maps=PAIRS, spacing=SPACINGS)
def test_measures_lie_in_their_ranges_agree_with_each_other_and_with_counting(
    maps: tuple[np.ndarray, np.ndarray], spacing: Any
) -> None:
    prediction, reference = maps
    found = numbers(measured(prediction, reference, spacing))
    back = numbers(measured(reference, prediction, spacing))
    for structure in STRUCTURES:
        p, r = prediction == structure.value, reference == structure.value
        dice, jaccard = (found[structure.name, name] for name in ("dice", "jaccard"))
        if not (p.any() or r.any()):
            assert math.isnan(dice)
            continue
        assert dice == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()))
        assert jaccard == pytest.approx((p & r).sum() / (p | r).sum())
        assert jaccard == pytest.approx(dice / (2 - dice))
        for name in SAME_BOTH_WAYS:
            if (structure.name, name) in found:
                assert back[structure.name, name] == pytest.approx(found[structure.name, name], nan_ok=True)


@examples(30)
@given(maps=PAIRS, spacing=SPACINGS, order=ORDERS, signs=SIGNS, pad=st.integers(0, 3))
def test_measures_do_not_depend_on_storage_padding_or_values(
    maps: tuple[np.ndarray, np.ndarray], spacing: Any, order: Any, signs: Any, pad: int
) -> None:
    prediction, reference = maps
    expected = numbers(measured(prediction, reference, spacing))
    turn = Reorientation(tuple(order), tuple(signs))
    turned = [np.ascontiguousarray(turn.forward(array)) for array in maps]
    grid = turn.grid(Grid(prediction.shape, np.diag([*spacing, 1.0])))
    case = evaluate_case(*(LabelMap(a, grid) for a in turned), STRUCTURES, tolerance_mm=1.0, case_id="a")
    assert_close(expected, numbers(case))
    other = from_labels({7: "one", 3: "two"})
    table = np.array([0, 7, 3], np.uint8)
    assert_close(expected, numbers(measured(table[prediction], table[reference], spacing, other)))
    padded = numbers(measured(np.pad(prediction, pad), np.pad(reference, pad), spacing))
    of_background = {name for _, name in expected if "specificity" in name}
    assert_close(*({k: v for k, v in d.items() if k[1] not in of_background} for d in (expected, padded)))


@examples(20)
@given(maps=PAIRS, spacing=SPACINGS, factor=st.sampled_from((0.5, 2.0, 3.0)))
def test_distances_grow_with_the_voxels(
    maps: tuple[np.ndarray, np.ndarray], spacing: Any, factor: float
) -> None:
    small = numbers(measured(*maps, spacing))
    large = numbers(measured(*maps, tuple(s * factor for s in spacing)))
    lengths = [key for key in small if key[1].endswith("_mm")]
    assert lengths
    for key in lengths:
        assert large[key] == pytest.approx(factor * small[key], rel=1e-6, nan_ok=True), key


# 11: losses


@examples(8)
@given(
    seed=SEEDS, scale=st.sampled_from((0.0, 1.0, 50.0, 1e4)), fill=st.sampled_from(("empty", "full", "mixed"))
)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_finite_and_does_not_depend_on_the_order_of_its_batch(
    name: str, seed: int, scale: float, fill: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    for regions in (outputs == "regions" for outputs in LOSSES[name].outputs):
        logits = (torch.randn(3, 3, 4, 3, 5, generator=generator) * scale).requires_grad_()
        shape = logits.shape if regions else (3, 4, 3, 5)
        high = 2 if regions else 3
        target = {
            "empty": torch.zeros(shape, dtype=torch.long),
            "full": torch.ones(shape, dtype=torch.long),
            "mixed": torch.randint(0, high, shape, generator=generator),
        }[fill]
        loss = build(LossSpec(name), regions=regions, spacing_mm=(1.0, 1.0, 1.0))  # type: ignore[arg-type]
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(value)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        order = torch.randperm(3, generator=generator)
        torch.testing.assert_close(loss(logits[order], target[order]), value, rtol=1e-4, atol=1e-5)


# 12: augmentation


@examples(10)
@given(seed=SEEDS, magnitude=st.sampled_from((0.0, 1.0)))
def test_image_and_labels_share_one_deformation_and_no_label_is_new(seed: int, magnitude: float) -> None:
    """The image shows the structures themselves: moved apart from its labels it would not fit them."""
    spec = AugmentSpec(
        ElasticSpec(1.0, spacing_mm=8.0, sigma_mm=(0.0, 1.5 * magnitude)),
        AffineSpec(1.0, (20.0 * magnitude,) * 3, (1 - 0.2 * magnitude, 1 + 0.2 * magnitude)),
        FlipSpec((1, 2), probability=0.5 * magnitude),
    )
    shape, patch = (30, 32, 28), (20, 24, 18)
    field = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    ball = (field**2).sum(0) < 8**2
    maps = torch.from_numpy(
        np.where(ball, 1 + (field[1] > 0) + (field[2] > 3) * (field[1] > 0), 0).astype(np.uint8)
    )
    image = torch.stack([(maps == n).float() for n in range(1, 4)])
    augmenter = Augmenter(spec, SIDED, (1.0, 1.0, 1.0))
    generator = torch.Generator().manual_seed(seed)
    seen, cut = augmenter.draw(generator, image, maps, (14.5, 15.5, 13.5), patch)
    assert set(cut.unique().tolist()) <= set(maps.unique().tolist())
    for n in range(1, 4):
        assert (((seen[n - 1] > 0.5) == (cut == n)).float().mean()) > 0.97
    if magnitude == 0:
        assert torch.equal(cut, maps[5:25, 4:28, 5:23])
        assert torch.equal(seen, image[:, 5:25, 4:28, 5:23])


# 13: totality

SUFFIXES = (
    ".nii", ".nii.gz", ".hdr", ".img", ".mha", ".mhd", ".nrrd", ".seg.nrrd", ".tif", ".png", ".jpg", ".dcm",
    ".safetensors", ".json", ".toml", ".txt", "",
)  # fmt: skip
STARTS = (
    b"",
    b"\x5c\x01\0\0",
    b"\x1f\x8b\x08",
    b"NRRD0004\n",
    b"NDims = 3\n",
    b"II*\0",
    b"\x89PNG\r\n\x1a\n",
    b"{",
)


@examples(25)
@given(
    start=st.sampled_from(STARTS),
    data=st.binary(max_size=600),
    suffix=st.sampled_from(SUFFIXES),
    verb=st.sampled_from(("info", "evaluate", "report", "check", "convert")),
)
def test_any_bytes_end_in_a_documented_exit_code_and_one_line(
    start: bytes, data: bytes, suffix: str, verb: str
) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"scan{suffix}"
        path.write_bytes(start + data)
        more: dict[str, tuple[object, ...]] = {
            "evaluate": (path,), "report": (path, "-o", Path(place) / "x.html"),
            "convert": (Path(place) / "out", "--from", "decathlon", "--to", "nnunet"),
        }  # fmt: skip
        ran = medseg(verb, path, *more.get(verb, ()))
        assert ran.code in (2, 3, 4, 5, 6), ran
        assert ran.out == ""
        (line,) = [line for line in ran.err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("medseg: error: ")
