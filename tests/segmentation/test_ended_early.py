"""A segmentation within a time budget, by a clock that only the network moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from models import tiny_model

import medseg
from medseg.core.errors import UsageError
from medseg.core.stopwatch import Stopwatch
from medseg.core.structures import from_labels
from medseg.core.volume import Volume
from medseg.data.phantom import phantom_case
from medseg.findings.prediction import check_budget
from medseg.inference.engines.base import Engine
from medseg.inference.tiles import FloatArray
from medseg.metrics.functions import dice
from medseg.model.file import Model
from medseg.model.spec import InferenceSpec, SliceSpec
from medseg.segmentation import budget as stopping
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.result import Segmentation
from medseg.segmentation.segmenter import Segmenter

WINDOW = InferenceSpec(strategy="sliding_window", tile=(16, 16, 16), overlap=0.5)
SECONDS_A_TILE = 1.0
GENEROUS = 1e6
NO_SIDES = from_labels({1: "shell", 2: "body", 3: "core"})
"""So that the mirrored scan is never looked at, which nothing is reserved for."""


class Slow:
    """An engine that moves a clock by the tiles of 16^3 voxels that it computes."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.now = engine, 0.0
        self.name, self.precision = engine.name, engine.precision

    def __call__(self, tiles: FloatArray) -> FloatArray:
        self.now += SECONDS_A_TILE * tiles.size / 16**3
        return self.engine(tiles)


@dataclass
class Timed:
    """A result and the seconds it took by its own clock."""

    found: Segmentation
    seconds: float


def scan(shape: tuple[int, int, int] = (40, 36, 32)) -> Volume:
    return phantom_case(np.random.default_rng(4), shape)[0]


def timed(model: Model, budget: float | None, **options: Any) -> Timed:
    segmenter = Segmenter([model], SegmenterOptions(threads=1, time_budget=budget, **options))
    member = segmenter.members[0]
    slow = Slow(member.engine)
    member.predictor = replace(member.predictor, engines=[slow])
    watch = Stopwatch(lambda: slow.now)
    return Timed(segmenter(scan(), watch=watch), watch.elapsed)


@pytest.fixture(scope="module")
def window() -> Model:
    return tiny_model(0, inference=WINDOW, structures=NO_SIDES)


@pytest.fixture(scope="module")
def full(window: Model) -> Timed:
    return timed(window, None)


def mean_dice(one: Segmentation, other: Segmentation) -> float:
    return float(np.mean([dice(one.labels.array, other.labels.array, label=s.value) for s in NO_SIDES]))


@pytest.mark.parametrize("flips", [(), ((0,), (1, 2))])
def test_with_enough_time_the_labels_are_those_without_a_budget(flips: tuple[tuple[int, ...], ...]) -> None:
    model = tiny_model(0, inference=replace(WINDOW, flips=flips), structures=NO_SIDES)
    found, plain = timed(model, GENEROUS).found, timed(model, None).found
    np.testing.assert_array_equal(found.labels.array, plain.labels.array)
    assert found.budget is not None
    assert found.budget.is_complete
    assert [f.code for f in found.findings] == [f.code for f in plain.findings]
    assert plain.budget is None


def test_overlap_tile_has_the_mirrored_view_to_leave_out() -> None:
    model = tiny_model(0, inference=InferenceSpec(flips=((0,),)))
    found, plain = timed(model, GENEROUS).found, timed(model, None).found
    np.testing.assert_array_equal(found.labels.array, plain.labels.array)
    short = timed(model, 0.1).found
    assert short.budget is not None
    assert (len(short.budget.tiles), short.budget.of) == (1, 2)
    unmirrored = timed(model, None, tta=False).found
    np.testing.assert_array_equal(short.labels.array, unmirrored.labels.array)


def test_more_time_is_used_kept_and_brings_the_labels_nearer(window: Model, full: Timed) -> None:
    quick = timed(window, 0.1).seconds
    budgets = [quick * 1.01 + n * full.seconds / 4 for n in range(7)]
    rows = [timed(window, budget) for budget in budgets]
    computed = [len(row.found.budget.tiles) for row in rows if row.found.budget]
    assert all(row.seconds <= budget for row, budget in zip(rows, budgets, strict=True))
    assert computed == sorted(computed)
    assert computed[0] == 0 < computed[2] < computed[-1] == rows[-1].found.budget.of  # type: ignore[union-attr]
    scores = [mean_dice(row.found, full.found) for row in rows]
    assert scores == sorted(scores)
    assert scores[0] < scores[2] < scores[-1] == 1


def test_what_is_too_little_for_the_quick_look_leaves_a_whole_result(window: Model, full: Timed) -> None:
    row = timed(window, 0.1)
    assert row.seconds > 0.1
    assert row.found.labels.grid.matches(scan().grid)
    assert mean_dice(row.found, full.found) > 0.5
    notes = [f.sentence for f in row.found.findings if f.code == "time_budget"]
    (text,) = notes
    assert text.startswith("The time budget of 0.1 s ended the prediction early: 0 of ")


def test_tiles_by_number_are_computed_whatever_the_time(window: Model) -> None:
    short = timed(window, 50.0).found
    assert short.budget is not None
    assert 0 < len(short.budget.tiles) < short.budget.of
    again = timed(window, 0.1, budget_tiles=short.budget.tiles).found
    np.testing.assert_array_equal(again.labels.array, short.labels.array)
    none = timed(window, GENEROUS, budget_tiles=()).found
    assert none.budget is not None
    assert none.budget.tiles == ()


@pytest.mark.parametrize(
    ("unsure", "codes"),
    [({}, ["time_budget"]), ({"a": 0.05}, ["time_budget"]), ({"a": 0.2}, ["time_budget", "unsure_in_haste"])],
)
def test_an_early_end_is_a_doubt_where_structures_are_unsure(
    unsure: Mapping[str, float], codes: list[str]
) -> None:
    findings = list(check_budget(3.0, 2, 8, unsure))
    assert [f.code for f in findings] == codes
    assert [f.severity for f in findings] == ["note", "doubt"][: len(codes)]
    assert list(check_budget(3.0, 8, 8, unsure)) == []


def test_unsure_voxels_count_only_where_no_tile_was_computed(window: Model) -> None:
    weights = {
        key: value * np.float32(0.02) if key.startswith("head") else value
        for key, value in window.weights.items()
    }

    def codes(inference: InferenceSpec) -> set[str]:
        spec = replace(window.spec, inference=inference)
        vague = replace(window, spec=spec, weights=weights, graph=None)
        return {f.code for f in timed(vague, 0.1).found.findings}

    assert {"time_budget", "unsure_in_haste"} <= codes(WINDOW)
    plain_view_done = codes(InferenceSpec(flips=((0,),)))
    assert "time_budget" in plain_view_done
    assert "unsure_in_haste" not in plain_view_done


def test_time_is_kept_for_a_look_at_the_mirrored_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "END", 0.0)  # by this clock nothing else takes time
    model = tiny_model(0, inference=WINDOW)
    quick = timed(model, 0.1)
    assert quick.found.verdict.sides is not None
    for budget in (31.0, 40.0, 60.0):
        row = timed(model, budget)
        assert row.found.budget is not None
        assert row.found.budget.tiles
        assert row.seconds <= budget


def test_what_is_not_one_image_in_tiles_is_refused_before_anything_is_computed(window: Model) -> None:
    options = SegmenterOptions(threads=1, time_budget=5.0)
    with pytest.raises(UsageError, match="not possible with several models or scales"):
        Segmenter([window, tiny_model(1)], options)
    with pytest.raises(UsageError, match="not possible with several models or scales"):
        Segmenter([window], replace(options, scales=(0.9, 1.1)))
    slices = replace(window.spec, network=replace(window.spec.network, spatial_dims=2), slices=SliceSpec())
    with pytest.raises(UsageError, match="a network of slices"):
        Segmenter([replace(window, spec=slices)], options)
    finder = replace(window.spec, network=replace(window.spec.network, name="retinanet"))
    with pytest.raises(UsageError, match="finds objects in the whole scan"):
        Segmenter([replace(window, spec=finder)], options)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        medseg.load("hippocampus", time_budget=seconds)
