"""From a training of `brain` to the model that is packaged: what follows the network, and the evidence.

    medseg train brain --data FOLDER -o RUN --folds 10 --fold 5 [--init MODEL]
    python benchmarks/brain_model.py RUN/model.safetensors -o medseg/weights/brain.safetensors

The model gets the refinement, post-processing and tiles that the recipe has now, and as evidence: scores on
the label maps kept out of training, real heads per structure and per head, what a repeated scan changes, and
what computing in bf16 changes beside that. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import heads
from brain_refinement import DEFAULT_DATA, with_recipe

from medseg.core import specs
from medseg.data.cards import load_card
from medseg.data.synthetic import SyntheticCases
from medseg.inference.engines.rounding import harmless
from medseg.model.evidence import Evidence, RealHeads
from medseg.model.file import Model, load_model
from medseg.segmentation.segmenter import Segmenter
from medseg.training.calibrate import held_out, with_evidence
from medseg.training.package import measure
from medseg.training.recipe import load_recipe
from medseg.training.repeatability import repeatability
from medseg.training.rounding import rounding

REPEATED = 6
"""Heads that are predicted again and again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    began = time.perf_counter()
    model = validated(with_recipe(load_model(args.trained)), data / "brain_labels")
    model = with_evidence(model, Evidence(real_heads=on_heads(model, data / "heads")))
    chosen = heads.halves(data / "heads")[0][:REPEATED]
    scans = (head.volume for head in heads.read(data / "heads", chosen))
    model = with_evidence(model, Evidence(repeatability=repeatability(model, scans)))
    cases = ((head.volume, head.labels) for head in heads.read(data / "heads"))
    model = with_evidence(model, Evidence(rounding=rounding(model, cases)))
    model.save(args.output, overwrite=True)
    stored = load_model(args.output)
    evidence = specs.to_mapping(stored.spec.evidence)
    line = {
        "benchmark": "brain_model",
        "model": {"name": stored.spec.name, "sha256": stored.sha256},
        "steps": stored.spec.training.steps,
        "mean_dice_of_real_heads": evidence["real_heads"]["mean"],
        "rounding": evidence["rounding"],
        "bf16_by_default": harmless(stored.spec.evidence, "openvino bf16"),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))


def validated(model: Model, folder: Path) -> Model:
    """Measured on the maps that its training kept out, as the model now is."""
    card, recipe = load_card("brain"), load_recipe("brain")
    if recipe.synthesis is None:
        raise SystemExit("the recipe makes no scans")
    maps = SyntheticCases(card, recipe.synthesis, recipe.training.seed)
    measured, _ = measure(
        model, held_out(model, card, folder), maps.read, recipe.metrics, 0, partial(print, flush=True)
    )
    return measured


def on_heads(model: Model, folder: Path) -> RealHeads:
    """Dice per structure and per head; no head is named."""
    segmenter = Segmenter([model])
    rows = [
        heads.dices(segmenter(head.volume).labels.array, head, segmenter.structures)
        for head in heads.read(folder)
    ]
    return RealHeads(
        what="T1, skull-stripped, 1 mm; labelled by hand (OASIS) or by FreeSurfer (HCP)",
        n=len(rows),
        mean=mean_of(map(heads.mean, rows)),
        by_head=tuple(round(heads.mean(row), 4) for row in rows),
        by_structure={
            name: round(value, 4) for name, value in heads.by_structure(rows, segmenter.structures).items()
        },
    )


def mean_of(values: Iterable[float]) -> float:
    found = list(values)
    return round(sum(found) / len(found), 4)


if __name__ == "__main__":
    main()
