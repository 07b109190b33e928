"""`medseg networks`, and what is said of networks that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import done, refused

from medseg.core.errors import UsageError
from medseg.networks.registry import available, create

RECIPE = """
name = "odd"
base = "phantom_unet3d"

[network]
{network}
"""


def test_all_networks_are_listed() -> None:
    found = json.loads(done("networks", "--json").out)
    assert set(found) == set(available())
    assert found["segnet"] == "SegNet (arXiv:1511.00561)"
    assert "\nsegnet  " in done("networks").out


def test_the_options_of_a_network_are_those_it_takes() -> None:
    options = json.loads(done("networks", "deeplabv3plus", "--json").out)["options"]
    assert options["stem"] == "paper or volume"
    assert "resnet50" in options["encoder"]
    for name, told in options.items():
        if told == "a whole number":
            with pytest.raises(UsageError, match=name):
                create("deeplabv3plus", options={name: "many"})
    told = done("networks", "unet3d").out
    assert "activation" in told
    assert "in_channels" not in told
    assert "did you mean 'segnet'?" in refused(2, "networks", "segnett")


@pytest.mark.parametrize("option", [{"crf_rnn": 2}, {"scales": (0.5, 1.0)}])
def test_what_goes_on_top_of_label_maps_goes_on_no_network_that_finds_objects(option: dict) -> None:
    with pytest.raises(UsageError, match="cannot be put on top of fcos, which finds objects"):
        create("fcos", options=option)


@pytest.mark.parametrize(
    ("network", "code", "said"),
    [
        ('name = "vnet"\nwidths = [100000, 200000]', 6, "the weights of vnet with widths [100000, 200000]"),
        ('name = "vnett"', 2, "recipe odd: the network 'vnett' does not exist"),
        ('encoder = "resnet18"', 2, "network.encoder is not a setting; write it in options = { ... }, or"),
    ],
)
def test_a_network_that_cannot_be_is_one_line(network: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(RECIPE.format(network=network))
    done("phantom", tmp_path / "data", "--cases", 3)
    words = ("train", tmp_path / "odd.toml", "--data", tmp_path / "data", "-o", tmp_path / "run")
    assert said in refused(code, *words)


def test_a_recipe_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(RECIPE.format(network=""))
    done("phantom", tmp_path / "data", "--cases", 3)
    scan = next((tmp_path / "data" / "imagesTr").iterdir())
    assert "odd.toml: is a recipe, not a model" in refused(5, "predict", scan, "-m", tmp_path / "odd.toml")
    assert "--scales must be numbers" in refused(2, "predict", scan, "--scales", ",")
