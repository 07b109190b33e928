"""Train with `medseg.train`, by a recipe like one that `medseg train` plans. A process of its own.

python peers/medseg_train.py JOB [f32]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from _pace import LEARNING_RATE, WEIGHT_DECAY, WIDTHS, Job, Pace, read_job

import medseg
from medseg.losses.spec import LossSpec
from medseg.model.spec import NetworkSpec
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.training.loop import Trainer
from medseg.training.planning.augmenting import usual_augmentation
from medseg.training.recipe import Recipe
from medseg.training.spec import TrainingSpec

CARD = 'name = "speed"\ndescription = "speed"\nlayout = "nnunet"\nchannels = {}\n'
STRUCTURE = '[[structures]]\nvalue = {}\nname = "{}"\n'
MANY = 100_000
"""Steps of an epoch, so that none ends."""


def main() -> None:
    job = read_job()
    pace = Pace(job)
    plain = Trainer.step
    Trainer.step = lambda trainer, batch: pace.step(plain, trainer, batch)
    precision = "f32" if "f32" in sys.argv[2:] else "auto"
    medseg.train(
        job.data,
        output=Path(job.folder) / f"medseg_{precision}",
        recipe=recipe(job, precision),
        fold=None,
        device=job.device,
        threads=job.threads,
        overwrite=True,
        say=lambda text: print(text, file=sys.stderr),
    )


def recipe(job: Job, precision: str) -> Recipe:
    """What a plan sets for scans of MR with structures that have sides."""
    card = Path(job.folder) / "card.toml"
    about = json.loads((Path(job.data) / "dataset.json").read_text("utf-8"))
    structures = [STRUCTURE.format(n, name) for name, n in about["labels"].items() if n]
    card.write_text(CARD.format([*about["channel_names"].values()]) + "".join(structures), "utf-8")
    i, j, k = job.patch
    return Recipe(
        name="speed",
        card=str(card),
        network=NetworkSpec("unet3d", widths=WIDTHS, norm="batch", options={"bias": False}),
        preparation=PreparationSpec(normalisation=NormalisationSpec("zscore", "all")),
        augmentation=usual_augmentation(job.patch, job.spacing_mm, flips=(1, 2)),
        loss=LossSpec("dice_ce"),
        training=TrainingSpec(
            patch=(i, j, k),
            batch=job.batch,
            epochs=1,
            steps_per_epoch=MANY,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            foreground_share=0.7,
            ema_decay=0.995,
            precision=precision,
            selection_share=0.0,
        ),
    )


if __name__ == "__main__":
    main()
