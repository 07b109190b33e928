"""Every recipe that is shipped trains for an epoch, on made-up data in the layout of its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.cli.phantom import CARDS
from medseg.core.volume import LabelMap
from medseg.data.cards import Card, available, load_card
from medseg.data.phantom import write_phantoms
from medseg.io import read_labels, write_labels
from medseg.model.file import load_model
from medseg.networks import registry
from medseg.training.options import TrainOptions
from medseg.training.recipe import Recipe, load_recipe
from medseg.training.train import train

CASES = 4
SEED = 3
"""By which no made-up scan is without lesions."""
STEPS = 6
"""After fewer, averages of batch norm are so far off that logits of a deep network are in the thousands."""


def as_the_card_says(card: Card, folder: Path) -> None:
    """Phantoms of the Decathlon's layout with the structures and channels of another card."""
    path = folder / "dataset.json"
    data = json.loads(path.read_text())
    data["labels"] = {"0": "background"} | {str(s.value): s.name for s in card.structures}
    data["modality"] = {str(n): name for n, name in enumerate(card.channels)}
    data.pop("channel_names", None)
    path.write_text(json.dumps(data))
    values = np.array([0, *(s.value for s in card.structures)])
    for entry in data["training"]:
        labels = read_labels(folder / entry["label"])
        changed = values[labels.array % len(values)].astype(np.uint8)
        write_labels(folder / entry["label"], LabelMap(changed, labels.grid, labels.form), overwrite=True)


def shortened(recipe: Recipe, card: Card) -> Recipe:
    """A few steps, of small patches."""
    network = registry.build(recipe.fitted_to(card).network)
    sizes = zip(recipe.training.patch, (*network.stride, 1), strict=False)
    i, j, k = (p if p == 1 else min(p, max(2 * s, 32)) for p, s in sizes)
    training = replace(recipe.training, patch=(i, j, k), batch=2, epochs=1, steps_per_epoch=STEPS)
    return replace(recipe, training=training)


@pytest.mark.slow
@pytest.mark.parametrize("name", available("pipelines"))
def test_a_recipe_trains_on_data_of_its_layout(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    card = load_card(recipe.card)
    layout = next((made for made, named in CARDS.items() if named == recipe.card), card.layout)
    write_phantoms(tmp_path / "data", layout, CASES, SEED)
    if layout == "decathlon":
        as_the_card_says(card, tmp_path / "data")
    options = TrainOptions(folds=2, threads=1)
    done = train(
        shortened(recipe, card), tmp_path / "data", tmp_path / "run", options,
        say=lambda _: None, on_epoch=lambda _: None,
    )  # fmt: skip
    spec = load_model(done.model_path).spec
    assert (spec.name, spec.training.steps) == (name, STEPS)
    assert spec.channels == (recipe.channels or card.channels)
    assert {row.structure for row in spec.evidence.validation} == {s.name for s in card.structures}
