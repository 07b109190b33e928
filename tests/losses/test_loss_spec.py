"""What a recipe can say of a loss, and what is refused."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import fields
from typing import Any

import pytest
from loss_cases import VARIANTS, Variant, case, loss

from medseg.core.errors import UsageError
from medseg.core.specs import from_mapping, to_mapping
from medseg.losses.spec import LOSSES, LossSettings, LossSpec, LossTerm

RECIPE = """
[loss]
name = "sum"
[[loss.terms]]
name = "dice"
denominator = "squared"
weight = 1
weight_end = 0.5
[[loss.terms]]
name = "boundary"
weight = 0.01
[[loss.terms]]
name = "focal_tversky"
gamma = 2
"""


def test_a_recipe_lists_the_terms_of_a_sum() -> None:
    spec = from_mapping(LossSpec, tomllib.loads(RECIPE)["loss"], source="r.toml")
    assert spec == LossSpec(
        "sum",
        terms=(
            LossTerm("dice", "squared", weight=1.0, weight_end=0.5),
            LossTerm("boundary", weight=0.01),
            LossTerm("focal_tversky", gamma=2.0),
        ),
    )
    assert from_mapping(LossSpec, json.loads(json.dumps(to_mapping(spec))), source="run") == spec


def test_a_misspelt_setting_of_a_term_is_refused_with_its_place() -> None:
    data = tomllib.loads(RECIPE.replace("gamma", "gama"))["loss"]
    with pytest.raises(UsageError, match=r"r.toml: terms\.2\.gama is not a setting; did you mean 'gamma'"):
        from_mapping(LossSpec, data, source="r.toml")


def test_the_defaults_are_dice_and_cross_entropy() -> None:
    assert LossSpec().name == "dice_ce"


def test_every_setting_is_used_by_a_loss() -> None:
    known = {setting.name for setting in fields(LossSettings)[1:]}
    assert set().union(*(row.settings for row in LOSSES.values())) == known


OTHER: dict[str, Any] = {
    "denominator": "squared",
    "include_background": True,
    "batch": False,
    "class_weights": (2.0, 0.5, 3.0),
    "form": "log",
    "w0": 10.0,
}


def _has_no_say(variant: Variant, setting: str) -> bool:
    """Regions have no background, labels no focal alpha, and without a border map it has no width."""
    return (
        (setting == "include_background" and variant.regions)
        or (setting == "alpha" and variant.name == "focal" and not variant.regions)
        or (setting == "sigma_mm" and "w0" not in variant.settings)
        or (setting == "batch" and variant.settings.get("form") == "unetpp")
    )


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.name != "sum"], ids=str)
def test_every_setting_that_a_loss_uses_changes_its_value(variant: Variant) -> None:
    logits, target = case(variant.regions, size=(5, 6))
    value = float(variant.build()(logits, target))
    for setting in set(LOSSES[variant.name].settings) - set(variant.settings):
        if not _has_no_say(variant, setting):
            changed = variant.build(**{setting: OTHER.get(setting, 0.125)})
            assert float(changed(logits, target)) != value, setting


@pytest.mark.parametrize(
    "settings",
    [
        {"denominator": "cubed"},
        {"smooth": 0.0},
        {"dice_weight": -1.0},
        {"class_weights": (1.0, math.inf)},
        {"name": "cross_entropy", "sigma_mm": 0.0},
        {"name": "cross_entropy", "w0": -1.0},
        {"name": "focal", "gamma": 0.0},
        {"name": "focal", "alpha": 1.5},
        {"name": "top_k", "share": 0.0},
        {"name": "top_k", "share": 1.5},
        {"name": "tversky", "beta": math.nan},
        {"name": "bce_dice", "form": "cubic"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LossSpec(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "x"}, "the loss 'x' does not exist; choose from dice, jaccard, tversky, .*, sum"),
        (
            {"name": "lovasz", "smooth": 2.0},
            "does not use smooth; it uses include_background, batch",
        ),
        ({"name": "sum", "smooth": 2.0}, "the loss 'sum' does not use smooth; it uses only terms"),
        ({"name": "sum"}, r"a sum of losses needs terms; add \[\[loss.terms\]\]"),
        (
            {"name": "dice", "terms": (LossTerm("dice"),)},
            "the loss 'dice' does not take terms; set name = \"sum\"",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LossSpec(**settings)


@pytest.mark.parametrize("settings", [{"name": "sum"}, {"weight": -1.0}, {"weight_end": math.inf}])
def test_a_term_is_a_loss_with_a_weight(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LossTerm(**settings)


@pytest.mark.parametrize(
    ("name", "regions", "says"),
    [
        (
            "dice_ce",
            True,
            "the loss 'dice_ce' does not take regions; choose one of dice, .*, boundary, bce_dice",
        ),
        (
            "bce_dice",
            False,
            "the loss 'bce_dice' does not take labels; choose one of dice, .*, boundary, dice_ce",
        ),
    ],
)
def test_unfitting_outputs_are_refused(name: str, regions: bool, says: str) -> None:
    with pytest.raises(UsageError, match=f"{says}$"):
        loss(name, regions)
