"""How far each structure of `brain` follows the scan, chosen on real heads by two-fold cross-validation.

    python benchmarks/brain_refinement.py --model FILE     # prints the recipe's table, then one JSON line

Every setting of a grid is tried for all structures at once, and each structure keeps the one with which its
mean Dice is best on one half of the heads; the other half measures. Then the other way round, and, for the
recipe, on all. A structure keeps the usual setting unless another one gains `WORTH` or more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import heads
import numpy as np
from heads import Head

from medseg.data.cards import load_card
from medseg.inference.postprocess import postprocess
from medseg.inference.refine import refined_labels
from medseg.model.file import Model, load_model
from medseg.model.refinement import RefinementSpec, Trust
from medseg.preparation.preparation import Preparation, Prepared
from medseg.segmentation.segmenter import Segmenter
from medseg.training.recipe import load_recipe

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WORTH = 0.003
"""Dice that another setting must gain to be taken."""

USUAL = Trust(likelihood=1.0, width_mm=1.0, scale=1.0)
GRID = [
    *(Trust(*both) for both in itertools.product((0.25, 0.5, 1.0), (0.5, 1.0, 1.5))),
    *(Trust(*both, scale=0.5) for both in itertools.product((0.5, 1.0), (0.5, 1.0))),
]


@dataclass(frozen=True)
class Predicted:
    """A head with the network's answer, in half precision."""

    head: Head
    prepared: Prepared
    image: np.ndarray
    probabilities: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="brain", help="a model file or a packaged model")
    args = parser.parse_args()
    folder = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)) / "heads"
    began = time.perf_counter()
    model = with_recipe(load_model(args.model))
    predicted = predictions(model, folder)
    structures = model.spec.structure_set
    tables = {trust: rows(predicted, model, RefinementSpec(base(model).classes, trust)) for trust in GRID}
    first, second = heads.halves(folder)
    found = {}
    for chosen, measured in ((first, second), (second, first)):
        spec = best(tables, chosen, model)
        found |= {name: row for name, row in rows(predicted, model, spec).items() if name in measured}
    final = best(tables, [*first, *second], model)
    in_sample = rows(predicted, model, final)
    for name, trust in final.structures.items():
        settings = ", ".join(f"{key} = {value}" for key, value in asdict(trust).items())
        print(f'"{name}" = {{ {settings} }}')
    line = {
        "benchmark": "brain_refinement",
        "model": {"name": model.spec.name, "sha256": model.sha256},
        "heads": len(found),
        "mean_dice_usual": round(mean_of(tables[USUAL]), 4),
        "mean_dice_measured_on_the_other_half": round(mean_of(found), 4),
        "mean_dice_chosen_on_all": round(mean_of(in_sample), 4),
        "by_structure_measured_on_the_other_half": {
            name: round(value, 4) for name, value in heads.by_structure([*found.values()], structures).items()
        },
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))


def with_recipe(model: Model) -> Model:
    """The model with what the recipe says of everything after the network."""
    recipe = load_recipe("brain").fitted_to(load_card("brain"))
    spec = replace(
        model.spec,
        preparation=recipe.preparation,
        refinement=recipe.refinement,
        postprocess=recipe.postprocess,
        inference=recipe.inference,
    )
    return replace(model, spec=spec)


def base(model: Model) -> RefinementSpec:
    assert model.spec.refinement is not None
    return model.spec.refinement


def predictions(model: Model, folder: Path) -> list[Predicted]:
    """Every head with the network's answer to it."""
    (member,) = Segmenter([model]).members
    found = []
    for head in heads.read(folder):
        prepared = Preparation(model.spec.preparation).apply(head.volume)
        image = prepared.reorientation.forward(head.volume.array)[0]
        answer = member.predictor.probabilities(prepared.array).astype(np.float16)
        found.append(Predicted(head, prepared, image, answer))
    return found


def rows(predicted: Sequence[Predicted], model: Model, spec: RefinementSpec) -> dict[str, dict[str, float]]:
    """Dice of every structure of every head with a refinement."""
    structures = model.spec.structure_set
    found = {}
    for one in predicted:
        runs = iter([(slice(0, one.probabilities.shape[1]), one.probabilities.astype(np.float32))])
        labels = refined_labels(one.prepared, one.image, runs, spec, structures).labels
        labels = postprocess(labels, structures, model.spec.postprocess, one.prepared.oriented_grid)
        found[one.head.name] = heads.dices(one.prepared.to_input(labels), one.head, structures)
    return found


def best(
    tables: Mapping[Trust, Mapping[str, Mapping[str, float]]], chosen: Sequence[str], model: Model
) -> RefinementSpec:
    """The refinement whose structures have each the setting that is best on the heads `chosen`."""
    structures = model.spec.structure_set
    means = {
        trust: heads.by_structure([table[name] for name in chosen], structures)
        for trust, table in tables.items()
    }
    found = {}
    for name in means[USUAL]:
        trust = max(means, key=lambda t: means[t][name])
        if means[trust][name] >= means[USUAL][name] + WORTH:
            found[name] = trust
    return replace(base(model), usual=USUAL, structures=found)


def mean_of(table: Mapping[str, Mapping[str, float]]) -> float:
    return float(np.mean([heads.mean(row) for row in table.values()]))


if __name__ == "__main__":
    main()
