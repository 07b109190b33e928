"""Tiles as large as there is room for; what there is no room for is refused with the figure."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from models import tiny_model

from medseg.classical.spec import InstancesSpec
from medseg.core.errors import ResourceError
from medseg.core.volume import Grid
from medseg.inference import engines, planner
from medseg.inference.predictor import Predictor
from medseg.model.file import Model
from medseg.model.spec import InferenceSpec, NetworkFacts
from medseg.preparation.preparation import PreparationSpec

SHAPE = (96, 80, 64)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def predictor(model: Model) -> Predictor:
    return Predictor.of(model.spec, [engines.load(model, threads=1)])


def need(predictor: Predictor, model: Model) -> int:
    return planner.load_with(predictor, model.spec, SHAPE, SHAPE).total


def test_with_room_everything_is_one_tile(predictor: Predictor, model: Model) -> None:
    chosen = planner.with_tiles_that_fit(predictor, model.spec, SHAPE, SHAPE, planner.UNLIMITED)
    assert len(chosen.plan(SHAPE).tiles) == 1


@pytest.mark.fault("reliability 40")
def test_with_less_room_the_tiles_are_smaller_and_the_answer_is_the_same(
    predictor: Predictor, model: Model
) -> None:
    whole = planner.with_tiles_that_fit(predictor, model.spec, SHAPE, SHAPE, planner.UNLIMITED)
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    expected = whole.probabilities(image)
    sizes = []
    for share in (0.9, 0.7, 0.6):
        room = planner.ENGINE_BYTES + int(share * (need(whole, model) - planner.ENGINE_BYTES))
        chosen = planner.with_tiles_that_fit(predictor, model.spec, SHAPE, SHAPE, room)
        plan = chosen.plan(SHAPE)
        assert planner.load_with(chosen, model.spec, SHAPE, SHAPE).total <= room
        sizes.append(np.prod(plan.tile_shape))
        np.testing.assert_allclose(chosen.probabilities(image), expected, atol=1e-5)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] < np.prod(whole.plan(SHAPE).tile_shape)


@pytest.mark.fault("reliability 40")
@pytest.mark.fault("reliability 88")
def test_too_little_room_is_refused_with_what_is_needed(predictor: Predictor, model: Model) -> None:
    with pytest.raises(
        ResourceError, match=r"needs 0\.\d\d GiB in addition to the scan, but only 0\.01 GiB are left"
    ) as e:
        planner.with_tiles_that_fit(predictor, model.spec, SHAPE, SHAPE, 10_000_000)
    assert "--max-memory" in str(e.value)


def test_a_sliding_window_keeps_its_tile_or_refuses(predictor: Predictor, model: Model) -> None:
    facts = NetworkFacts(model.spec.facts.stride, model.spec.facts.receptive_radius, False)
    spec = replace(model.spec, facts=facts, inference=InferenceSpec(tile=(32, 32, 32)))
    sliding = Predictor.of(spec, predictor.engines)
    room = planner.load_with(sliding, spec, SHAPE, SHAPE).total
    assert planner.with_tiles_that_fit(sliding, spec, SHAPE, SHAPE, room).plan(SHAPE) == sliding.plan(SHAPE)
    with pytest.raises(ResourceError):
        planner.with_tiles_that_fit(sliding, spec, SHAPE, SHAPE, room - 1)


def test_a_forecast_counts_what_is_held_already(
    predictor: Predictor, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(model.spec, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 2.0)))
    monkeypatch.setattr(planner, "held_bytes", lambda: 300 * 2**20)
    forecast = planner.forecast([(spec, predictor)], GRID, 2, 2**30)
    (plan,) = forecast.plans
    assert plan.shape == (48, 40, 32)
    voxels, prepared = 96 * 80 * 64, 48 * 40 * 32
    kept, load = 2 * voxels + 4 * prepared, planner.load_with(predictor, spec, (48, 40, 32), SHAPE).total
    assert forecast.bytes == 300 * 2**20 + max(2 * kept, kept + load)
    with pytest.raises(ResourceError):
        planner.forecast([(spec, predictor)], GRID, 2, 301 * 2**20)


def test_room_is_the_limit_less_what_is_held_or_a_share_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "held_bytes", lambda: 100)
    monkeypatch.setattr(planner, "available_bytes", lambda: 1000)
    assert (planner.room(250), planner.room(None)) == (150, 800)
    monkeypatch.setattr(planner, "available_bytes", lambda: None)
    assert planner.room(None) == planner.UNLIMITED


def test_the_limit_that_suffices_is_named_and_suffices(predictor: Predictor, model: Model) -> None:
    spec = replace(model.spec, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 2.0)))
    with pytest.raises(ResourceError) as caught:
        planner.forecast([(spec, predictor)], GRID, 2, planner.held_bytes() + 2**20)
    (megabytes,) = re.findall(r"--max-memory (\d+)M", str(caught.value))
    assert planner.forecast([(spec, predictor)], GRID, 2, int(megabytes) * 2**20 + 2**20).plans


def test_numbering_objects_is_part_of_the_forecast(predictor: Predictor, model: Model) -> None:
    without = planner.load_with(predictor, model.spec, SHAPE, (500, 500, 500))
    assert without.objects == 0
    for method, bytes_each in (("components", 32), ("watershed", 96)):
        told = replace(model.spec.postprocess, instances=InstancesSpec(method=method))
        spec = replace(model.spec, postprocess=told)
        load = planner.load_with(predictor, spec, SHAPE, (500, 500, 500))
        assert load.objects == bytes_each * 500**3
        assert load.total > without.total
        with pytest.raises(ResourceError, match="GiB are left"):
            planner.with_tiles_that_fit(predictor, spec, SHAPE, (500, 500, 500), 3 * planner.GIB)
    finding = replace(model.spec, network=replace(model.spec.network, name="blendmask"))
    most = planner.load_with(predictor, finding, SHAPE, SHAPE).objects
    assert most > 32 * np.prod(SHAPE)
