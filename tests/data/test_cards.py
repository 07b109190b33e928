"""Cards and recipes: what is shipped works together; what is misspelt or contradicts is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.augment.compose import Augmenter
from medseg.augment.spec import SynthesisSpec, Tissue
from medseg.augment.synthesis import Synthesiser, TissueTable
from medseg.core.errors import InputError, UsageError
from medseg.core.structures import Structure
from medseg.data import cards
from medseg.data.cards import Card, available, load_card
from medseg.data.phantom import write_phantom_dataset
from medseg.losses import registry as losses
from medseg.model.spec import NetworkSpec, PostprocessSpec
from medseg.networks import registry as networks
from medseg.preparation.preparation import PreparationSpec
from medseg.training.recipe import Recipe, load_recipe

CARD = Card(
    "tumours",
    "made up",
    "decathlon",
    ("FLAIR", "T1w"),
    (Structure(1, "Edema"), Structure(2, "tumour core"), Structure(3, "left eye"), Structure(4, "right eye")),
)


def folder_of(folder: Path, channels: dict[str, str], labels: dict[str, str]) -> Path:
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
        (folder / sub / "a.nii.gz").touch()
    data = {
        "modality": channels,
        "labels": labels,
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("name", available("datasets"))
def test_a_shipped_card_is_whole(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert all((card.description, card.licence, card.source, card.channels))
    assert len(card.structure_set) >= 1


@pytest.mark.parametrize("name", available("pipelines"))
def test_a_shipped_recipe_builds_what_it_describes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    card = load_card(recipe.card)
    recipe = recipe.fitted_to(card)
    structures = card.structure_set
    network = networks.build(recipe.network)
    losses.build(recipe.loss, regions=structures.are_regions)
    Augmenter(recipe.augmentation, structures, (1.0, 1.0, 1.0))
    if recipe.synthesis is not None:
        Synthesiser(recipe.synthesis, TissueTable(card.tissues, structures), (1.0, 1.0, 1.0))
    assert all(p % s == 0 for p, s in zip(recipe.training.patch, network.stride, strict=False))
    size = [2 * s for s in network.stride]
    with torch.no_grad():
        logits = network(torch.zeros(2, recipe.network.in_channels, *size))
    assert logits.shape == (2, structures.output_channels, *size)


def test_cards_and_recipes_are_found_by_path_too() -> None:
    path = available("datasets")["phantom"]
    assert load_card(path) == load_card(str(path)) == load_card("phantom")


@pytest.mark.parametrize(("load", "known"), [(load_card, "hippocampus"), (load_recipe, "phantom_unet3d")])
def test_an_unknown_name_is_answered_with_the_known_ones(load: Any, known: str) -> None:
    with pytest.raises(UsageError, match=rf"'nothing' does not exist; choose from .*{known}"):
        load("nothing")


@pytest.mark.parametrize(
    ("load", "given", "meant"),
    [(load_card, "hipocampus", "hippocampus"), (load_recipe, "Phantom-UNet3D", "phantom_unet3d")],
)
def test_a_near_miss_is_answered_with_the_name_that_was_meant(load: Any, given: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"'{given}' does not exist; did you mean '{meant}'\?"):
        load(given)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_card(tmp_path / "missing.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_card(tmp_path / "folder.toml")


@pytest.mark.parametrize("text", [b"name = ", b"\xff\xfe", b"name = 'a'\nname = 'b'"])
def test_a_file_that_is_not_toml_is_a_usage_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(text)
    with pytest.raises(UsageError, match="not TOML"):
        load_card(tmp_path / "c.toml")


def test_a_misspelt_setting_is_refused_with_the_files_name(tmp_path: Path) -> None:
    text = available("pipelines")["phantom_unet3d"].read_text().replace("batch = 2", "bach = 2")
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=r"r.toml: training.bach is not a setting; did you mean 'batch'"):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.fault("reliability 71")
def test_text_that_would_run_elsewhere_is_only_text(tmp_path: Path) -> None:
    text = available("datasets")["phantom"].read_text()
    strange = "!!python/object/apply:os.system ['true']"
    (tmp_path / "c.toml").write_text(text.replace('source = "medseg phantom"', f'source = "{strange}"'))
    assert load_card(tmp_path / "c.toml").source == strange


def test_sides_and_twins_are_found_in_a_cards_names() -> None:
    assert CARD.structure_set.twins() == ((3, 4),)
    assert load_card("phantom").structure_set.twins() == ((1, 2),)


def test_a_region_that_could_not_be_found_in_what_it_writes_is_refused() -> None:
    whole, core = Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,))
    assert replace(CARD, structures=(whole, core)).structure_set.are_regions
    with pytest.raises(UsageError, match="'whole' writes 9"):
        _ = replace(CARD, structures=(replace(whole, value=9), core)).structure_set


def test_a_folder_that_agrees_is_read_whatever_its_spelling(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, {"0": "flair", "1": "T1W"}, {"0": "background", "1": "edema", "2": "Tumour-Core"}
    )
    assert len(CARD.read(folder).cases) == 1


@pytest.mark.parametrize(
    ("channels", "labels", "fault"),
    [
        ({"0": "FLAIR"}, {"1": "edema"}, "has the channels FLAIR; the card tumours has FLAIR, T1w"),
        ({"0": "T1w", "1": "FLAIR"}, {"1": "edema"}, "has the channels T1w, FLAIR"),
        ({"0": "FLAIR", "1": "T1w"}, {"1": "tumour core", "2": "edema"}, "label 1 is 'tumour core' here"),
        ({"0": "FLAIR", "1": "T1w"}, {"1": "edema", "9": "clot"}, r"label 9 \('clot'\) is not in the card"),
    ],
)
def test_a_folder_that_contradicts_its_card_is_refused(
    tmp_path: Path, channels: dict[str, str], labels: dict[str, str], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        CARD.read(folder_of(tmp_path, channels, labels))


def test_the_members_of_regions_are_known_labels(tmp_path: Path) -> None:
    regions = (Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,)))
    folder = folder_of(tmp_path, {"0": "FLAIR", "1": "T1w"}, {"1": "edema", "2": "necrosis"})
    assert replace(CARD, structures=regions).read(folder).labels == {1: "edema", 2: "necrosis"}
    with pytest.raises(InputError, match="label 2"):
        replace(CARD, structures=(Structure(1, "whole", members=(1,)),)).read(folder)


def test_the_phantoms_are_what_their_card_says(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path, cases=2, shape=(16, 16, 16))
    assert len(load_card("phantom").read(tmp_path).cases) == 2


def test_a_recipe_takes_channels_and_outputs_from_the_card() -> None:
    recipe = load_recipe("phantom_unet3d").fitted_to(CARD)
    assert (recipe.network.in_channels, recipe.network.out_channels) == (2, 5)
    plain = load_recipe("phantom_unet3d")
    assert recipe.channels == CARD.channels
    assert replace(recipe, network=plain.network, channels=()) == plain


def test_a_recipe_may_take_some_of_the_cards_channels() -> None:
    recipe = replace(load_recipe("phantom_unet3d"), channels=("T1w",))
    assert recipe.fitted_to(CARD).network.in_channels == 1
    for wrong in (("T1w", "T1w"), ("CT",)):
        with pytest.raises(UsageError, match=r"takes the channels .*, but the card .* has FLAIR, T1w"):
            replace(recipe, channels=wrong).fitted_to(CARD)


def test_post_processing_of_what_is_not_there_is_refused_before_any_training() -> None:
    recipe: Recipe = replace(load_recipe("phantom_unet3d"), postprocess=PostprocessSpec(("edema",)))
    with pytest.raises(UsageError, match="the structure 'edema' does not exist; choose from left lobe"):
        recipe.fitted_to(load_card("phantom"))


def test_cards_beside_a_package_that_is_no_checkout_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wheel installation another package's `datasets` may lie there."""
    package = tmp_path / "medseg"
    (tmp_path / "datasets").mkdir()
    package.mkdir()
    (tmp_path / "datasets" / "other.toml").touch()
    monkeypatch.setattr(cards.resources, "files", lambda _: package)
    with pytest.raises(InputError, match="without its cards"):
        available("datasets")
    (tmp_path / "pyproject.toml").touch()
    assert set(available("datasets")) == {"other"}
    (package / "_cards" / "datasets").mkdir(parents=True)
    assert set(available("datasets")) == set()


MAPS = replace(CARD, layout="label_maps", channels=("MR",), tissues=(Tissue(1, 1, 1), Tissue(9, 2)))


def synthetic(**changes: Any) -> Recipe:
    recipe = replace(
        load_recipe("phantom_unet3d"),
        synthesis=SynthesisSpec(),
        preparation=PreparationSpec(spacing_mm=(1.0, 1.0, 1.0)),
    )
    return replace(recipe, **changes)


def test_label_maps_go_with_a_recipe_that_makes_scans() -> None:
    assert synthetic().fitted_to(MAPS).network.out_channels == 5


@pytest.mark.parametrize(
    ("card", "changes", "fault"),
    [
        (MAPS, {"synthesis": None}, r"tumours has tissues .* phantom_unet3d has no \[synthesis\] section"),
        (CARD, {}, r"tumours has no tissues .* phantom_unet3d has \[synthesis\] section"),
        (MAPS, {"preparation": PreparationSpec()}, "need their voxel size, preparation.spacing_mm"),
        (MAPS, {"network": NetworkSpec("unet", spatial_dims=2)}, "its network has 2 spatial_dims"),
    ],
)
def test_a_card_and_a_recipe_that_disagree_on_label_maps_are_refused(
    card: Card, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        synthetic(**changes).fitted_to(card)


def test_every_tissue_of_the_brain_has_a_twin_of_its_class() -> None:
    """What lies left and what lies right is painted alike, or a network could tell them by brightness."""
    card = load_card("brain")
    table = TissueTable(card.tissues, card.structure_set)
    assert len(table.structures) == 32
    assert len(table.structures.twins()) == 14
    sides = {s.value: s.side for s in table.structures}
    by_class: dict[int, list[str]] = {}
    for tissue in card.tissues:
        by_class.setdefault(tissue.intensity_class, []).append(sides.get(tissue.target, "none"))
    for number, found in by_class.items():
        assert found.count("left") == found.count("right"), number
    assert {t.like for t in table.tissues if t.outer_fluid} == {"fluid"}
