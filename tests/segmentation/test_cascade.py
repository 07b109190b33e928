"""Prediction by a cascade: what the fine stage is given, and that it is treated as any model is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from models import tiny_model

from medseg.core.volume import Volume
from medseg.data.phantom import phantom_case
from medseg.inference import engines
from medseg.inference.predictor import Predictor, labels_from_probabilities
from medseg.model.file import Model
from medseg.model.spec import InferenceSpec
from medseg.preparation.preparation import Preparation, PreparationSpec
from medseg.preparation.resample import resample
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

KEEP = SegmenterOptions(threads=1, keep_probabilities=True, engine="torch", precision="f32")


@pytest.fixture(scope="module")
def cascade() -> Model:
    coarse = tiny_model(1, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 3.0), crop="nonzero"))
    return tiny_model(2, coarse=coarse, preparation=PreparationSpec(crop="nonzero"))


def scan() -> Volume:
    return phantom_case(np.random.default_rng(0), (24, 20, 18))[0]


def predictor_of(model: Model) -> Predictor:
    return Predictor.of(model.spec, [engines.load(model, "torch", threads=1)])


def test_the_answer_is_that_of_both_stages_one_after_the_other(cascade: Model) -> None:
    assert cascade.coarse is not None
    volume = scan()
    structures = cascade.spec.structure_set
    seen = Preparation(cascade.coarse.spec.preparation).apply(volume)
    prepared = Preparation(cascade.spec.preparation).apply(volume)
    found = resample(predictor_of(cascade.coarse).probabilities(seen.array)[1:], prepared.grid.shape)
    probabilities = predictor_of(cascade).probabilities(np.concatenate([prepared.array, found]))
    restored = prepared.restore(probabilities, background=True)
    expected = prepared.to_input(labels_from_probabilities(restored, structures))

    result = Segmenter([cascade], KEEP)(volume)
    np.testing.assert_array_equal(result.labels.array, expected)
    for name, channel in zip(structures.names, restored[1:], strict=True):
        np.testing.assert_allclose(result.probabilities[name], prepared.to_input(channel), atol=1e-6)
    assert found.min() < 0.1
    assert found.max() > 0.9


def test_the_fine_stage_listens_to_the_coarse_one(cascade: Model) -> None:
    other = replace(cascade, coarse=tiny_model(7, preparation=PreparationSpec(crop="nonzero")))
    one, two = (Segmenter([model], KEEP)(scan()).labels.array for model in (cascade, other))
    assert (one != two).any()


def test_engines_agree_on_a_cascade(cascade: Model) -> None:
    one, two = (
        Segmenter([cascade], replace(KEEP, engine=engine))(scan()).labels.array
        for engine in ("torch", "openvino")
    )
    np.testing.assert_array_equal(one, two)


def test_a_mirrored_head_gets_mirrored_labels_with_its_sides_exchanged(cascade: Model) -> None:
    """With a flip averaged in, both stages are blind to it, if their channels trade places as they should."""
    assert cascade.coarse is not None
    flips = InferenceSpec(flips=((0,),))

    def averaged(model: Model) -> Model:
        return replace(model, spec=replace(model.spec, inference=flips))

    model = replace(averaged(cascade), coarse=averaged(cascade.coarse))
    volume = scan()
    mirrored = Volume(volume.array[:, ::-1].copy(), volume.grid, volume.channels)
    segmenter = Segmenter([model], KEEP)
    plain, flipped = segmenter(volume), segmenter(mirrored)
    for name in segmenter.structures.names:
        twin = segmenter.structures[name].twin or name
        np.testing.assert_allclose(
            flipped.probabilities[twin][::-1], plain.probabilities[name], atol=2e-5, err_msg=name
        )
    assert {s.twin for s in segmenter.structures} != {None}


def test_the_coarse_stage_sees_the_mirrored_scan_when_sides_are_checked(cascade: Model) -> None:
    segmenter = Segmenter([cascade], KEEP)
    volume = scan()
    (member,) = segmenter.members
    prepared = member.preparation.apply(volume)
    found = member.preparation.mirrored(volume, prepared)
    turned = Volume(volume.array[:, ::-1].copy(), volume.grid, volume.channels)
    np.testing.assert_allclose(found, member.preparation.apply(turned).array, atol=1e-5)


def test_memory_of_both_stages_is_forecast(cascade: Model) -> None:
    alone = tiny_model(2)
    grid = scan().grid
    one, both = (Segmenter([model], KEEP).forecast(grid, 4).bytes for model in (alone, cascade))
    assert both > one


def test_features_are_those_of_the_images(cascade: Model) -> None:
    found = Segmenter([cascade], replace(KEEP, observe=True))(scan())
    assert "median" in found.features
    assert not [name for name in found.features if "coarse" in name]
