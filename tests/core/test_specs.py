"""Settings: unknown names and wrong types are told apart from typing errors; everything round-trips."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

import pytest

from medseg.augment.spec import (
    AffineSpec,
    AugmentSpec,
    BiasFieldSpec,
    BlurSpec,
    ContrastSpec,
    ElasticSpec,
    FlipSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
    SynthesisSpec,
)
from medseg.core import specs
from medseg.core.errors import InputError, UsageError
from medseg.core.structures import Structure
from medseg.core.structuring import Misfit, structured
from medseg.data.cards import Card
from medseg.losses.spec import LossSpec
from medseg.model.evidence import Evidence, Score
from medseg.model.provenance import CaseCounts, Provenance
from medseg.model.refinement import RefinementSpec
from medseg.model.spec import InferenceSpec, ModelSpec, NetworkFacts, NetworkSpec, PostprocessSpec
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.training.recipe import MetricsSpec, Recipe
from medseg.training.spec import TrainingSpec

EVERY_AUGMENTATION = AugmentSpec(
    ElasticSpec(sigma_mm=(1.0, 2.0)),
    AffineSpec(scale=(0.5, 1.5)),
    FlipSpec(axes=(1, 2)),
    ContrastSpec(
        BlurSpec(), LowResolutionSpec(axes="all"), BiasFieldSpec(), GammaSpec(), LinearSpec(), NoiseSpec()
    ),
)
PREPARATION = PreparationSpec(
    (1.0, 1.5, 2.0), "nonzero", NormalisationSpec("window", percentiles=None, window=(-160.0, 240.0))
)
NETWORK = NetworkSpec(
    "unet3d",
    2,
    3,
    widths=(8, 16),
    norm="instance",
    kernels=((3, 3, 1), (3, 3, 3)),
    strides=((2, 2, 1),),
    options={"bias": False, "depth": 2, "slope": 0.1, "activation": "relu"},
)
POSTPROCESS = PostprocessSpec(("a",), {"b": 20.0}, ("a", "b"))
INFERENCE = InferenceSpec("sliding_window", (32, 32, 16), 0.25, "constant", ((0,), (0, 1)))
STRUCTURES = (Structure(1, "a", "left", "b", "#010203"), Structure(2, "b", "right", "a", "#040506"))
SPECS: tuple[Any, ...] = (
    EVERY_AUGMENTATION,
    PREPARATION,
    NETWORK,
    POSTPROCESS,
    INFERENCE,
    LossSpec("bce_dice", "squared", class_weights=(1.0, 2.0)),
    TrainingSpec(patch=(8, 16, 32), optimizer="sgd", precision="bf16"),
    MetricsSpec(1.5, "a paper"),
    Card("c", "a card", "decathlon", ("flair", "t1"), STRUCTURES, weights_may_be_shared=True),
    SynthesisSpec(affine=AffineSpec(scale=(0.9, 1.0)), realistic=0.75, voxel_mm=(1.0, 2.0)),
    Recipe(
        "r",
        "c",
        NETWORK,
        description="a recipe",
        weights="float16",
        preparation=PREPARATION,
        augmentation=EVERY_AUGMENTATION,
        postprocess=POSTPROCESS,
    ),
    ModelSpec(
        "m",
        NETWORK,
        NetworkFacts((4, 4, 2), (20, 20, 10), True),
        ("flair", "t1"),
        STRUCTURES,
        PREPARATION,
        INFERENCE,
        postprocess=POSTPROCESS,
        training=Provenance(cases=CaseCounts(3)),
        evidence=Evidence(validation=(Score("liver", "dice", mean=0.5, ci95=(0.4, 0.6)),)),
    ),
)


def plain_recipe() -> dict[str, Any]:
    return json.loads(json.dumps(specs.to_mapping(SPECS[-2])))


def read(data: dict[str, Any]) -> Recipe:
    return specs.from_mapping(Recipe, data, source="r.toml")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_every_spec_comes_back_from_json(spec: Any) -> None:
    text = json.dumps(specs.to_mapping(spec), allow_nan=False)
    assert specs.from_mapping(type(spec), json.loads(text), source="x") == spec


def test_defaults_fill_what_is_left_out() -> None:
    small = {"name": "r", "card": "c", "network": {"name": "vnet"}}
    assert read(small) == Recipe("r", "c", NetworkSpec("vnet"), description="")


def test_options_of_a_network_keep_their_types_and_lists() -> None:
    options = {
        "filters": (4, 6), "strides": ((1, 2, 2), (2, 2, 2)), "rates": (0.5, 1.0), "norm": ("instance", 1),
        "bias": True, "depth": 1, "slope": 1.0, "act": "1", "none": (),
    }  # fmt: skip
    spec = NetworkSpec("monai:DynUNet", options=options)  # type: ignore[arg-type]
    data = json.loads(json.dumps(specs.to_mapping(spec)))
    found = specs.from_mapping(NetworkSpec, data, source="x")
    assert found == spec
    assert [type(found.options[key]) for key in ("bias", "depth", "slope", "act")] == [bool, int, float, str]


def test_a_whole_number_serves_as_a_float_and_a_list_as_a_tuple() -> None:
    data = plain_recipe() | {"training": {"learning_rate": 1, "patch": [8, 8, 8]}}
    assert read(data).training.learning_rate == 1.0
    assert read(data).training.patch == (8, 8, 8)


@pytest.mark.parametrize(
    ("place", "name", "hint"),
    [
        ((), "trainig", "'training'"),
        (("training",), "epoch", "'epochs'"),
        (("preparation", "normalisation"), "percentile", "'percentiles'"),
        (("augmentation", "contrast", "gamma"), "probabilty", "'probability'"),
        (("augmentation", "elastic"), "sigma", "'sigma_mm'"),
        (("postprocess",), "xyz", "largest_component, min_volume_mm3, fill_holes"),
    ],
)
def test_an_unknown_name_is_refused_at_every_depth(place: tuple[str, ...], name: str, hint: str) -> None:
    data = plain_recipe()
    inner = data
    for part in place:
        inner = inner[part]
    inner[name] = 1
    with pytest.raises(UsageError) as fault:
        read(data)
    assert ".".join([*place, name]) + " is not a setting" in str(fault.value)
    assert hint in str(fault.value)
    assert str(fault.value).startswith("r.toml: ")


def test_an_unknown_name_in_a_list_is_refused() -> None:
    card = json.loads(json.dumps(specs.to_mapping(SPECS[-4])))
    card["structures"][1]["color"] = "#000000"
    with pytest.raises(UsageError, match=r"structures\.1\.color is not a setting; did you mean 'colour'"):
        specs.from_mapping(Card, card, source="c.toml")


@pytest.mark.parametrize(
    ("section", "name", "value", "told"),
    [
        ("training", "epochs", "ten", "training.epochs must be a whole number, not 'ten'"),
        ("training", "epochs", "10", "training.epochs must be a whole number, not '10'"),
        ("training", "epochs", 2.5, "training.epochs must be a whole number, not 2.5"),
        ("training", "epochs", True, "training.epochs must be a whole number, not True"),
        ("training", "patch", [8, 8], "training.patch must be a list of 3, not [8, 8]"),
        ("training", "patch", [8, 8, 8, 8], "training.patch must be a list of 3, not [8, 8, 8, 8]"),
        ("training", "patch", [8, 8, "x"], "training.patch.2 must be a whole number, not 'x'"),
        ("training", "patch", 8, "training.patch must be a list of 3, not 8"),
        ("training", "learning_rate", "1", "training.learning_rate must be a number, not '1'"),
        ("training", "learning_rate", 10**400, "training.learning_rate must be a number, not 1000"),
        ("training", "learning_rate", None, "training.learning_rate must be a number, not None"),
        ("loss", "batch", 1, "loss.batch must be true or false, not 1"),
        ("loss", "alpha", "low", "loss.alpha must be a number, not 'low'"),
        ("network", "name", 3, "network.name must be text, not 3"),
        ("network", "name", "\ud800", "network.name must be text, not '\\ud800'"),
        (
            "network",
            "norm",
            3,
            "network.norm must be 'batch', 'instance', 'group', 'layer', 'none' or '', not 3",
        ),
        (
            "training",
            "optimizer",
            "adam",
            "training.optimizer = 'adam' is not an allowed value; did you mean 'adamw'?",
        ),
        (
            "training",
            "optimizer",
            "lion",
            "training.optimizer = 'lion' is not an allowed value; choose from adamw, sgd, rmsprop",
        ),
        ("loss", "name", "tverski", "loss: the loss 'tverski' does not exist; did you mean 'tversky'?"),
        ("network", "spatial_dims", 4, "network.spatial_dims must be 2 or 3, not 4"),
        ("augmentation", "elastic", "unet2051", "'unet2051' does not exist; did you mean 'unet2015'?"),
        ("training", "batch", 0, "training: batch must be at least 1, not 0"),
        ("network", "norm", "bach", "network.norm = 'bach' is not an allowed value; did you mean 'batch'?"),
        ("network", "options", {"bias": {"a": 1}}, "network.options.bias must be true or false, a "),
        ("network", "options", {"bias": None}, "text or a list, not None"),
        ("network", "options", {"strides": [[[1]]]}, "text or a list, not [[[1]]]"),
        ("augmentation", "elastic", 3, "augmentation.elastic must be a table or text, not 3"),
        (
            "augmentation",
            "elastic",
            {"probability": 2},
            "augmentation.elastic: a probability must be in [0, 1]",
        ),
        (
            "postprocess",
            "min_volume_mm3",
            {"a": "b"},
            "postprocess.min_volume_mm3.a must be a number, not 'b'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_place(section: str, name: str, value: object, told: str) -> None:
    data = plain_recipe()
    data[section][name] = value
    with pytest.raises(UsageError) as fault:
        read(data)
    assert told in str(fault.value)
    assert len(str(fault.value)) < 200


def test_what_is_missing_is_named_without_repeating_the_rest() -> None:
    data = plain_recipe()
    del data["network"]["name"]
    with pytest.raises(UsageError) as fault:
        read(data)
    assert str(fault.value) == "r.toml: network.name is missing"


@pytest.mark.parametrize("data", [[], "text", 3, None])
def test_something_that_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(UsageError, match=r"r\.toml: everything must be a table, not "):
        read(data)


def test_the_kind_of_fault_is_the_callers() -> None:
    with pytest.raises(InputError, match="x: a is not a setting"):
        specs.from_mapping(NetworkFacts, {"a": 1}, source="x", error=InputError)
    with pytest.raises(InputError, match=r"x: stride is missing"):
        specs.from_mapping(NetworkFacts, {}, source="x", error=InputError)


def test_a_misspelt_setting_of_a_named_structure_is_refused() -> None:
    """Once only the names of the structures were looked at, and the setting was passed over."""
    with pytest.raises(UsageError, match=r"structures\.vessel\.liklihood is not a setting"):
        specs.from_mapping(
            RefinementSpec, {"structures": {"vessel": {"liklihood": 0.5}}}, source="recipe.toml"
        )


# Of any hint


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One of the things that a hint can ask for."""

    size: float = 0.5


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        (dict[int, float], {"1": 2, "-3": 0.5}, {1: 2.0, -3: 0.5}),
        (Mapping[str, Any], {"a": [1, None]}, {"a": [1, None]}),
        (list[int | None], (1, None), [1, None]),
        (tuple[()], [], ()),
        (float | int, 1, 1),
        (float | int, 1.0, 1.0),
        (float, 1, 1.0),
        (Literal["a", 2] | Literal["b"] | None, "b", "b"),
        (Literal["a", 2] | Literal["b"] | None, None, None),
        (Leaf | str, {"size": 1}, Leaf(1.0)),
        (Leaf | str, "size", "size"),
        (tuple[int, ...] | tuple[str, ...], ["a"], ("a",)),
        (str, date(2026, 11, 30), "2026-11-30"),
    ],
)
def test_a_value_becomes_what_its_hint_says(hint: Any, value: Any, found: Any) -> None:
    made = structured(hint, value)
    assert (made, type(made)) == (found, type(found))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_numbers(value: float) -> None:
    assert structured(float, value) is value


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (dict[int, float], {"one": 2}, "one must be a whole number, not 'one'"),
        (dict[str, Leaf], {"a": {"size": "b"}}, "a.size must be a number, not 'b'"),
        (tuple[Leaf, ...], [{}, {"sice": 1}], "1.sice is not a setting; did you mean 'size'?"),
        (tuple[int, ...] | tuple[str, ...], ["a", 1], "everything must be a list, not ['a', 1]"),
        (tuple[()], [1], "everything must be a list of 0, not [1]"),
        (Literal[1, 2], True, "everything must be 1 or 2, not True"),
        (Literal[1, 2], [1], "everything must be 1 or 2, not [1]"),
        (int, 1.0, "everything must be a whole number, not 1.0"),
        (list[int], {"a": 1}, "everything must be a list, not {'a': 1}"),
        (tuple[int, ...], "12", "everything must be a list, not '12'"),
    ],
)
def test_a_value_that_its_hint_does_not_take_is_refused(hint: Any, value: Any, told: str) -> None:
    with pytest.raises(Misfit) as fault:
        structured(hint, value)
    assert str(fault.value) == told


def test_names_that_are_passed_over_are_at_every_depth() -> None:
    data = {"a": [{"size": 1, "colour": "red"}]}
    hint = dict[str, tuple[Leaf, ...]]
    assert structured(hint, data, passing_over=True) == {"a": (Leaf(1.0),)}
    with pytest.raises(Misfit, match=r"a\.0\.colour is not a setting"):
        structured(hint, data)


def test_a_hint_of_something_else_is_the_programmers_fault() -> None:
    with pytest.raises(TypeError, match="no plain value is made into"):
        structured(set[int], [1])
