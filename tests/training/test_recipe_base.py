"""Recipes that leave out what their base says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medseg.core.errors import UsageError
from medseg.model.spec import NetworkSpec
from medseg.training.recipe import load_recipe


def recipe(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(f'name = "{name}"\n{text}')
    return path


def test_what_is_left_out_is_the_bases(tmp_path: Path) -> None:
    base = load_recipe("hippocampus_unet3d")
    path = recipe(tmp_path, "mine", 'base = "hippocampus_unet3d"\n[training]\nepochs = 7\n')
    expected = replace(base, name="mine", description="", training=replace(base.training, epochs=7))
    assert load_recipe(path) == expected


def test_another_network_is_taken_alone_and_the_same_is_changed(tmp_path: Path) -> None:
    other = recipe(tmp_path, "other", 'base = "hippocampus_unet3d"\n[network]\nname = "linknet"\n')
    assert load_recipe(other).network == NetworkSpec("linknet")
    wider = recipe(tmp_path, "wider", 'base = "hippocampus_unet3d"\n[network]\nwidths = [8, 16]\n')
    base = load_recipe("hippocampus_unet3d").network
    assert load_recipe(wider).network == replace(base, widths=(8, 16))


def test_bases_of_bases_and_cards_lie_beside_the_recipe_that_names_them(tmp_path: Path) -> None:
    recipe(tmp_path / "a", "first", 'card = "own.toml"\n[network]\nname = "unet3d"\n[training]\nepochs = 3\n')
    recipe(tmp_path / "b", "second", 'base = "../a/first.toml"\n[training]\nbatch = 5\n')
    found = load_recipe(recipe(tmp_path, "third", 'base = "b/second.toml"\n[training]\nbatch = 6\n'))
    assert Path(found.card).resolve() == tmp_path / "a" / "own.toml"
    assert (found.name, found.training.epochs, found.training.batch) == ("third", 3, 6)


def test_a_base_that_leads_back_is_refused(tmp_path: Path) -> None:
    first = recipe(tmp_path, "first", 'base = "second.toml"\n')
    recipe(tmp_path, "second", 'base = "first.toml"\n')
    with pytest.raises(UsageError, match=r"is its own base, by way of second\.toml"):
        load_recipe(first)


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("3", "base must be the name or path of a recipe, not 3"),
        ('"hippocampus_unet"', "mine.toml: base: the recipe .* does not exist; did you"),
    ],
)
def test_a_base_that_is_none_is_refused(tmp_path: Path, base: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_recipe(recipe(tmp_path, "mine", f"base = {base}\n"))


def test_a_recipe_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "hippocampus_unet3d"\n')
    with pytest.raises(UsageError, match="name"):
        load_recipe(path)
