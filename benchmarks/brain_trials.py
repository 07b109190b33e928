"""Short trainings that decided how the model `brain` is trained, each from the same weights.

    python benchmarks/brain_trials.py -o RUNS               # every trial, one after the other
    python benchmarks/brain_trials.py -o RUNS --only wider

Each begins from `--init` (the packaged model of the time) and takes about as long as any other on one core;
the steps are in the table below. It is measured on four real heads, by the mean Dice of 31 structures, of the
network alone and after refinement, in tiles like the patches the network learnt from. One line of JSON a
trial; a trial that has ended is only measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import heads
import numpy as np
import torch
from brain_refinement import DEFAULT_DATA, with_recipe
from torch import Tensor, nn
from torch.nn import functional

from medseg.data.cards import load_card
from medseg.data.synthetic import SyntheticCases
from medseg.inference.engines.torch import torch_engine
from medseg.inference.postprocess import postprocess
from medseg.inference.predictor import Predictor
from medseg.inference.refine import refined_labels
from medseg.inference.restore import restored_labels
from medseg.losses import registry as losses
from medseg.model.file import Model, load_model
from medseg.networks.fast_unet import FastUNet
from medseg.preparation.preparation import Preparation
from medseg.training.loop import Trainer
from medseg.training.processor import keep_memory
from medseg.training.recipe import Recipe, load_recipe
from medseg.training.setup import map_case
from medseg.training.spec import TrainingSpec

HEADS = ("hcp_100307", "oasis_1001", "oasis_1007", "oasis_1010")
KEPT_OUT = ("training_seg_17", "training_seg_18")
"""Label maps that no trial trains on."""

WIDTHS, DETAIL = (32, 64, 96, 128), 16


@dataclass(frozen=True)
class Trial:
    """What is changed, how many steps it is trained, and how many lie between checkpoints."""

    steps: int
    epoch: int = 200
    patch: int = 64
    batch: int = 2
    widths: tuple[int, ...] = WIDTHS
    one_side_output: bool = False
    synthesis: Mapping[str, Any] = field(default_factory=lambda: {"realistic": 0.5})


TRIALS = {
    "as_it_was": Trial(1200),
    "one_output_for_the_side": Trial(1200, one_side_output=True),
    "one_output_for_the_side_patch_80": Trial(1200, patch=80, batch=1, one_side_output=True),
    "more_scans_like_real_ones": Trial(900, 150, synthesis={"realistic": 0.8}),
    "wider": Trial(640, 80, widths=(48, 96, 144, 192)),
    "patch_96": Trial(900, 100, patch=96, batch=1),
}


class Sided(nn.Module):
    """A head in which twins share an output, and one more says the side; logits of all outputs.

    With z the shared logit and s the side, left gets z + log sigmoid(-s) and right z + log sigmoid(s).
    """

    def __init__(self, channels: int, pairs: Sequence[tuple[int, int]], outputs: int) -> None:
        super().__init__()
        left_of = {right: left for left, right in pairs}
        self.kept = [n for n in range(outputs) if n not in left_of]
        self.pairs = pairs
        self.index = torch.tensor([self.kept.index(left_of.get(n, n)) for n in range(outputs)])
        self.left, self.right = torch.zeros(2, 1, outputs, 1, 1, 1)
        for left, right in pairs:
            self.left[0, left] = self.right[0, right] = 1
        self.head, self.side = nn.Conv3d(channels, len(self.kept), 1), nn.Conv3d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        shared = functional.conv3d(x, self.head.weight[self.index], self.head.bias[self.index]).float()
        side = self.side(x).float()
        return shared - functional.softplus(side) * self.left - functional.softplus(-side) * self.right

    @torch.no_grad()
    def begin_from(self, head: nn.Conv3d) -> None:
        """The means of twins, and for the side the mean of their differences."""
        for n, output in enumerate(self.kept):
            members = [output, *(right for left, right in self.pairs if left == output)]
            self.head.weight[n] = head.weight[members].mean(0)
            self.head.bias[n] = head.bias[members].mean(0)
        lefts, rights = ([pair[n] for pair in self.pairs] for n in (0, 1))
        self.side.weight[0] = (head.weight[rights] - head.weight[lefts]).mean(0)
        self.side.bias[0] = (head.bias[rights] - head.bias[lefts]).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="the folder of label maps")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--init", default="brain", help="a model file or a packaged model")
    parser.add_argument("--only", choices=TRIALS, action="append")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    torch.set_num_threads(args.threads)
    keep_memory()
    model = with_recipe(load_model(args.init))
    for name in args.only or TRIALS:
        trial = TRIALS[name]
        trainer = trainer_of(trial, model, args.data or data / "brain_labels", args.output / name)
        trainer.resume()
        trainer.run(lambda epoch, name=name: print(f"{name}: epoch {epoch.number}", flush=True))
        began = time.perf_counter()
        found = measured(trainer.network, trainer.averaged.tensors, model, trial, data / "heads")
        line = {
            "benchmark": "brain_trials",
            "trial": name,
            "began_from": model.sha256,
            "steps": trial.steps,
            "patch": trial.patch,
            "batch": trial.batch,
            "threads": args.threads,
            "training_s": round(trainer.progress.seconds),
            "mean_dice_of_four_heads": found,
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(line), flush=True)


def trainer_of(trial: Trial, model: Model, folder: Path, run: Path) -> Trainer:
    """A training of a trial, before its first step."""
    card = load_card("brain")
    recipe: Recipe = load_recipe("brain").fitted_to(card)
    torch.manual_seed(0)
    network = network_of(trial, model)
    synthesis = replace(recipe.synthesis, **STOCK, **trial.synthesis)
    maps = SyntheticCases(card, synthesis)
    files = [case for case in card.read(folder).cases if case.case_id not in KEPT_OUT]
    cases = [map_case(case.case_id, maps.generation_map(case), len(card.channels)) for case in files]
    spec = TrainingSpec(
        patch=(trial.patch,) * 3,
        batch=trial.batch,
        steps_per_epoch=trial.epoch,
        learning_rate=2e-3,
        warmup_steps=50,
        foreground_share=0.7,
        ema_decay=0.995,
        sampled_loss=True,
    )
    return Trainer(
        network=network,
        loss=losses.build(recipe.loss, regions=False),
        target=Tensor.long,
        augmenter=maps.synthesiser((1.5, 1.5, 1.5)),
        cases=cases,
        validate=lambda _: {},
        spec=spec,
        epochs=trial.steps // spec.steps_per_epoch,
        folder=run,
    )


STOCK = {"contrasts": ("t1", "t2", "flair", "pd"), "stripped": 0.2, "coarse": 0.6}
"""Of the recipe as it was when the trials were made."""


def network_of(trial: Trial, model: Model) -> FastUNet:
    """The network of a trial with the weights it begins from."""
    outputs = model.spec.network.out_channels
    network = FastUNet(3, 1, outputs, widths=trial.widths, norm="instance", detail=DETAIL)
    weights = {name: torch.from_numpy(np.array(value)).float() for name, value in model.weights.items()}
    if trial.widths != WIDTHS:
        weights = widened(weights, WIDTHS, trial.widths)
    network.load_state_dict(weights)
    if trial.one_side_output:
        swapped = model.spec.structure_set.twin_channels()
        pairs = [(n, twin) for n, twin in enumerate(swapped) if n < twin]
        sided = Sided(trial.widths[0], pairs, outputs)
        sided.begin_from(network.head)
        network.head = sided
    return network.to(memory_format=torch.channels_last_3d)


def widened(weights: Mapping[str, Tensor], old: Sequence[int], new: Sequence[int]) -> dict[str, Tensor]:
    """The same function with more channels, each a copy of one there was, a little disturbed.

    Chen et al. 2016, Net2Net (arXiv:1511.05641), section 2.2; with instance norm a copy normalises as its
    original does.
    """
    rng = np.random.default_rng(0)
    maps = [
        torch.cat([torch.arange(o), torch.from_numpy(rng.choice(o, n - o, replace=n > 2 * o))])
        for o, n in zip(old, new, strict=True)
    ]
    shares = [torch.bincount(m, minlength=o)[m].float() for m, o in zip(maps, old, strict=True)]

    def carried(value: Tensor, level: int | None, below: int | None, transposed: bool = False) -> Tensor:
        out, into = (1, 0) if transposed else (0, 1)
        if value.ndim == 1:
            return value if level is None else value[maps[level]]
        if level is not None:
            value = value.index_select(out, maps[level])
        if below is not None:
            shape = [1] * value.ndim
            shape[into] = -1
            value = value.index_select(into, maps[below]) / shares[below].view(shape)
        return value * (1 + 0.02 * torch.randn_like(value))

    found = {}
    for name, value in weights.items():
        room, *rest = name.split(".")
        number = int(rest[0]) if rest[0].isdigit() else 0
        levels: dict[str, tuple[int | None, int | None, bool]] = {
            "down": (number, number - 1 if number else None, False),
            "encoder": (number, number, False),
            "decoder": (number, number, False),
            "up": (number, number + 1, True),
            "fine": (0, 0, True),
            "head": (None, 0, False),
            "mix": (0, None, False),
        }
        found[name] = carried(value, *levels[room]) if room in levels else value
    return found


def measured(
    network: nn.Module, weights: Mapping[str, Tensor], model: Model, trial: Trial, folder: Path
) -> dict[str, float]:
    """Mean Dice of four heads, of the network alone and refined."""
    network.load_state_dict(dict(weights))
    edge = max(80, trial.patch)
    inference = replace(model.spec.inference, tile=(edge,) * 3)
    spec = replace(model.spec, inference=inference)
    predictor = Predictor.of(spec, [torch_engine(network.eval(), "cpu", spatial_dims=3)])
    structures = spec.structure_set
    rows: dict[str, list[float]] = {"network": [], "refined": []}
    for head in heads.read(folder, HEADS):
        prepared = Preparation(spec.preparation).apply(head.volume)
        answer = predictor.probabilities(prepared.array)
        image = prepared.reorientation.forward(head.volume.array)[0]
        whole = slice(0, answer.shape[1])
        plain = restored_labels([prepared], [iter([(whole, answer)])], structures)
        refined = refined_labels(prepared, image, iter([(whole, answer)]), spec.refinement, structures).labels
        refined = postprocess(refined, structures, spec.postprocess, prepared.oriented_grid)
        for name, labels in (("network", plain), ("refined", refined)):
            rows[name].append(heads.mean(heads.dices(prepared.to_input(labels), head, structures)))
    return {name: round(float(np.mean(values)), 4) for name, values in rows.items()}


if __name__ == "__main__":
    main()
