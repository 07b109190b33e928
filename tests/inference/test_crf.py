"""Random fields on probabilities, as a model's post-processing asks for them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import done
from models import tiny_model

import medseg
from medseg.classical.dense_crf import dense_crf
from medseg.classical.spec import DenseCrfSpec, GridCrfSpec
from medseg.core import specs
from medseg.core.errors import ResourceError, UsageError
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, Volume
from medseg.data.cards import load_card
from medseg.data.phantom import phantom_case, write_phantom_scan
from medseg.inference import crf, planner
from medseg.inference.predictor import Predictor
from medseg.model.file import Model, load_model
from medseg.model.spec import ModelSpec, PostprocessSpec
from medseg.preparation.preparation import Preparation, PreparationSpec, Prepared
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter
from medseg.training.recipe import Recipe, load_recipe

KEEP = SegmenterOptions(threads=1, keep_probabilities=True)
DENSE = PostprocessSpec(dense_crf=DenseCrfSpec(bilateral_mm=6.0, intensity=0.3))
GRID = PostprocessSpec(grid_crf=GridCrfSpec(weight=2.0, intensity=0.3))
REGIONS = StructureSet((Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,))))


def asking(model: Model, postprocess: PostprocessSpec, **changes: Any) -> Model:
    return replace(model, spec=replace(model.spec, postprocess=postprocess, **changes))


def scan() -> Volume:
    return phantom_case(np.random.default_rng(0), (20, 24, 18))[0]


def prepared_scan(model: Model) -> Prepared:
    return Preparation(model.spec.preparation).apply(scan())


def rows_of(probabilities: np.ndarray, step: int = 5) -> Any:
    for start in range(0, probabilities.shape[1], step):
        part = probabilities[:, start : start + step]
        yield slice(start, start + part.shape[1]), part


def noise(outputs: int, shape: tuple[int, ...], *, exclusive: bool) -> np.ndarray:
    found = np.random.default_rng(0).random((outputs, *shape), np.float32)
    return found / found.sum(axis=0) if exclusive else found


def all_of(rows: Any) -> np.ndarray:
    return np.concatenate([part for _, part in rows], axis=1)


def test_a_model_that_asks_for_none_streams_its_rows(model: Model) -> None:
    rows = rows_of(np.zeros((4, 20, 24, 18), np.float32))
    assert crf.smoothed(rows, prepared_scan(model), model.spec) is rows
    assert crf.bytes_held(model.spec, (64, 64, 64)) == 0


@pytest.mark.parametrize("postprocess", [DENSE, GRID], ids=["dense", "grid"])
def test_labels_are_those_of_the_smoothed_probabilities(model: Model, postprocess: PostprocessSpec) -> None:
    plain, smooth = (Segmenter([m], KEEP)(scan()) for m in (model, asking(model, postprocess)))
    changed = plain.labels.array != smooth.labels.array
    assert 0.005 < changed.mean() < 0.5
    kept = np.stack(list(smooth.probabilities.values()))
    every = np.concatenate([1 - kept.sum(axis=0, keepdims=True), kept])
    assert (every.argmax(axis=0) == smooth.labels.array).mean() > 0.999
    streamed = Segmenter([asking(model, postprocess)], SegmenterOptions(threads=1))(scan())
    np.testing.assert_array_equal(streamed.labels.array, smooth.labels.array)
    assert streamed.verdict.confidence == plain.verdict.confidence, "the network's own"


def test_the_dense_field_sees_the_prepared_scan(model: Model) -> None:
    prepared = prepared_scan(model)
    given = noise(4, prepared.grid.shape, exclusive=True)
    spec = asking(model, DENSE).spec
    found = all_of(crf.smoothed(rows_of(given), prepared, spec))
    assert DENSE.dense_crf is not None
    expected = dense_crf(given, prepared.array, prepared.grid.spacing_mm, DENSE.dense_crf)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_cut_trades_probabilities_and_leaves_others(model: Model) -> None:
    prepared = prepared_scan(model)
    given = noise(4, prepared.grid.shape, exclusive=True)
    found = all_of(crf.smoothed(rows_of(given), prepared, asking(model, GRID).spec))
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(given, axis=0))
    same = found.argmax(axis=0) == given.argmax(axis=0)
    np.testing.assert_array_equal(found[:, same], given[:, same])
    assert 0.1 < same.mean() < 0.9
    none = replace(GRID, grid_crf=GridCrfSpec(weight=0.0))
    found = all_of(crf.smoothed(rows_of(given), prepared, asking(model, none).spec))
    np.testing.assert_allclose(found, given, atol=1e-3)  # ties of costs in thousandths


@pytest.mark.parametrize("postprocess", [DENSE, GRID], ids=["dense", "grid"])
def test_each_region_is_a_problem_of_its_own(postprocess: PostprocessSpec) -> None:
    model = tiny_model(structures=REGIONS)
    prepared = prepared_scan(model)
    given = noise(2, prepared.grid.shape, exclusive=False)
    spec = asking(model, postprocess).spec
    found = all_of(crf.smoothed(rows_of(given), prepared, spec))
    swapped = all_of(crf.smoothed(rows_of(given[::-1]), prepared, spec))
    np.testing.assert_array_equal(found, swapped[::-1])
    assert ((found > 0.5) != (given > 0.5)).mean() > 0.05
    assert Segmenter([asking(model, postprocess)], KEEP)(scan()).labels.array.max() <= 2


def test_what_is_background_for_certain_is_left_alone(model: Model) -> None:
    prepared = prepared_scan(model)
    given = np.zeros((4, *prepared.grid.shape), np.float32)
    given[0] = 1
    for postprocess in (DENSE, GRID):
        found = all_of(crf.smoothed(rows_of(given), prepared, asking(model, postprocess).spec))
        np.testing.assert_array_equal(found, given)
    given[:, 3:5, 3:5, 3:5] = 0.25
    found = all_of(crf.smoothed(rows_of(given), prepared, asking(model, GRID).spec))
    np.testing.assert_array_equal(found[:, 6:], given[:, 6:])


def test_models_are_averaged_after_their_fields(model: Model) -> None:
    coarse = tiny_model(1, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 2.0)))
    asked = [asking(m, DENSE) for m in (model, coarse)]
    alone = [Segmenter([m], KEEP)(scan()).probabilities["core"] for m in asked]
    together = Segmenter(asked, KEEP)(scan()).probabilities["core"]
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize(
    "postprocess",
    [
        PostprocessSpec(dense_crf=DenseCrfSpec(bilateral_mm=80.0, intensity=5.0, iterations=2)),
        PostprocessSpec(dense_crf=DenseCrfSpec(bilateral_mm=3.0, intensity=0.2, iterations=1)),
        GRID,
        PostprocessSpec(grid_crf=GridCrfSpec(neighbours=26, moves="swap")),
    ],
    ids=["wide", "narrow", "grid", "neighbours"],
)
def test_no_field_holds_more_than_planning_counts(postprocess: PostprocessSpec, outputs: int) -> None:
    structures = StructureSet(tuple(Structure(n, f"s{n}") for n in range(1, outputs)))
    model = tiny_model(structures=structures)
    spec, shape = asking(model, postprocess).spec, (24, 22, 20)
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    prepared = Preparation(spec.preparation).apply(Volume(image, Grid(shape, np.eye(4)), ("image",)))
    given = noise(outputs, shape, exclusive=True)
    all_of(crf.smoothed(rows_of(given[:, :4]), _cut(prepared, 4), spec))  # what it imports is held by nobody
    tracemalloc.start()
    for _ in crf.smoothed(rows_of(given), prepared, spec):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= crf.bytes_held(spec, shape)


def _cut(prepared: Prepared, rows: int) -> Prepared:
    grid = Grid((rows, *prepared.grid.shape[1:]), prepared.grid.affine)
    return replace(prepared, array=prepared.array[:, :rows], grid=grid)


def test_planning_of_memory_counts_the_field(model: Model) -> None:
    spec = asking(model, GRID).spec
    (member,) = Segmenter([model], SegmenterOptions(threads=1)).members
    predictor, shape = member.predictor, (64, 64, 64)
    loads = [planner.load_with(predictor, s, shape, shape).total for s in (model.spec, spec)]
    assert loads[1] - loads[0] == crf.bytes_held(spec, shape) > 600 * 64**3
    with pytest.raises(ResourceError, match="needs"):
        planner.with_tiles_that_fit(_tight(predictor), spec, shape, shape, loads[0])


def _tight(predictor: Predictor) -> Predictor:
    return replace(predictor, strategy="sliding_window", tile=(16, 16, 16))


# Settings


def test_a_field_is_written_into_a_model_only_where_one_is_asked_for(model: Model, tmp_path: Path) -> None:
    assert not {"dense_crf", "grid_crf"} & specs.to_mapping(model.spec)["postprocess"].keys()
    both = PostprocessSpec(dense_crf=DenseCrfSpec(), grid_crf=GridCrfSpec(neighbours=26, moves="swap"))
    asking(model, both).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").spec.postprocess == both
    spec = specs.from_mapping(ModelSpec, specs.to_mapping(asking(model, both).spec), source="x")
    assert spec.postprocess == both


def test_a_recipe_asks_for_fields_and_for_channels_that_it_has() -> None:
    plain = specs.to_mapping(load_recipe("phantom_unet3d"))
    plain["postprocess"] = {"dense_crf": {"bilateral_mm": 5.0}, "grid_crf": {}}
    recipe = specs.from_mapping(Recipe, plain, source="x")
    assert recipe.postprocess.dense_crf == DenseCrfSpec(bilateral_mm=5.0)
    assert recipe.postprocess.grid_crf == GridCrfSpec()
    card = load_card(recipe.card)
    assert recipe.fitted_to(card).postprocess == recipe.postprocess
    for section, settings in (("dense_crf", {"channels": ["t9"]}), ("grid_crf", {"channel": "t9"})):
        plain["postprocess"] = {section: settings}
        with pytest.raises(UsageError, match="channel 't9' does not exist"):
            specs.from_mapping(Recipe, plain, source="x").fitted_to(card)


def test_a_model_that_names_a_channel_it_has_not_is_refused(model: Model) -> None:
    spec = PostprocessSpec(grid_crf=GridCrfSpec(channel="t9"))
    with pytest.raises(UsageError, match="channel 't9' does not exist"):
        Segmenter([asking(model, spec)], KEEP)(scan())


def test_predict_follows_the_model(model: Model, tmp_path: Path) -> None:
    asking(model, GRID).save(tmp_path / "m.safetensors")
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(20, 24, 18))
    done("predict", tmp_path / "scan.nii.gz", "-m", tmp_path / "m.safetensors", "-q")
    found = medseg.read(tmp_path / "scan_seg.nii.gz").array[0]
    loaded = medseg.load(tmp_path / "m.safetensors", threads=1)(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(found, loaded.labels.array)
