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


def test_defaults_are_those_that_are_built() -> None:
    told = json.loads(done("networks", "deeplabv3plus", "--json").out)["defaults"]
    assert (told["encoder"], told["decoder"]) == ("resnet50", "low_level")
    assert "(default resnet50)" in " ".join(done("networks", "deeplabv3plus").out.split())


def test_several_networks_and_parts_are_told() -> None:
    told = json.loads(done("networks", "unet3d", "vnet", "--json").out)
    assert [one["name"] for one in told] == ["unet3d", "vnet"]
    out = done("networks", "resnet50", "monai:UNet").out
    assert (
        'resnet50: encoder of a composed network, such as deeplabv3plus: options = { encoder = "resnet50"'
        in out
    )
    assert "monai:UNet: network of MONAI" in out


def test_a_decoder_that_takes_the_last_map_needs_one_of_as_many_channels() -> None:
    with pytest.raises(UsageError, match="which has 256 channels, and 2 are needed"):
        create("deeplabv3plus", out_channels=2, widths=(4, 8, 8, 8), encoder="resnet18", decoder="last_map")


@pytest.mark.parametrize("option", [{"bins": 0}, {"bases": 0}, {"levels": 0}, {"depth": -2}])
def test_sizes_of_networks_that_find_objects_are_no_less_than_they_can_be(option: dict) -> None:
    with pytest.raises(UsageError, match=rf"{next(iter(option))} must be at least"):
        create("blendmask", width=16, encoder="resnet18", **option)


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
