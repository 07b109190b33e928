"""`medseg.train`: from a recipe and a folder to a model, from Python. Private: the name is `medseg.train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from medseg.api.options import silent
from medseg.core.keywords import hinted
from medseg.data.label_files import read_structures
from medseg.io import ReadOptions
from medseg.metrics.scores import Scores
from medseg.model.file import load_model
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader, Segmenter
from medseg.training.cascade import train_stages
from medseg.training.loop import Epoch
from medseg.training.options import TrainOptions
from medseg.training.planning.dataset import PlanOptions, plan_of_run
from medseg.training.recipe import Recipe, load_recipe
from medseg.training.team import started


@dataclass(frozen=True)
class TrainingRun:
    """What a training left behind.

    Attributes:
        folder: the run: recipe, split, log, checkpoints, model.
        model_path: the model file.
        epochs: how many there were.
        seconds: what they took, over all sittings.
        scores: of the fold's own cases, which did not train; empty where every case trained.
    """

    folder: Path
    model_path: Path
    epochs: int
    seconds: float
    scores: Scores

    @cached_property
    def model(self) -> Segmenter:
        """The model, ready to segment, as `medseg.load` makes it."""
        return Loader((str(self.model_path),), SegmenterOptions())()


@hinted
def train(
    data: str | Path,
    *,
    output: str | Path,
    recipe: str | Path | Recipe | None = None,
    names: Mapping[int, str] | str | Path | None = None,
    profile: Literal["fast", "standard", "large"] | None = None,
    max_memory: int | None = None,
    epochs: int | None = None,
    time_budget_s: float | None = None,
    seed: int | None = None,
    folds: int | None = None,
    fold: int | None = 0,
    device: str = "auto",
    threads: int = 0,
    init: str | Path | None = None,
    overwrite: bool = False,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    say: Callable[[str], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainingRun:
    """Train a network on a folder of cases, by a recipe or as planned for them, as `medseg train` does.

    The same call goes on where it stopped.

    Args:
        data: folder of the dataset; without a recipe, scans and labels in any usual arrangement, or a table.
        output: folder of the run.
        recipe: the name of a recipe ("hippocampus_unet3d"), a `.toml` file, or a `Recipe`; None plans one.
        names: of label values, for a plan, or a JSON file of them; None for those that the files state.
        profile: of a plan, where neither `epochs` nor `time_budget_s` is given: 10 minutes, an
            hour (None), 8 hours.
        max_memory: bytes that the process may use, by a plan; None for half of what is free.
        epochs: number of epochs; None for the recipe's.
        time_budget_s: as many epochs as fit into so many seconds, measured first.
        seed: None for the recipe's.
        folds: number of folds; None for 5, or for one of each patient where there are 3 or 4.
        fold: the fold that is measured at the end; None trains on every case.
        device: "cpu", "cuda", "cuda:N", "mps" or "auto".
        threads: of the processor; 0 takes what there is.
        init: a model of the same network, whose weights are where the training begins.
        overwrite: begin anew in a folder that holds a run.
        use_form, assume_ras, fill_nan: see `medseg.read`.
        say: called with what happens, in sentences.
        on_epoch: called after each epoch.

    Returns:
        The run, with `model`, ready to segment, and `scores` of the held-out cases.

    Raises:
        UsageError: settings make no sense together, or the folder holds another run.
        InputError: there is no such data set, or a case cannot be used.
        MedsegError: the loss is not finite, or memory or disk do not suffice.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg
    >>> medseg.train("my_data/", recipe="hippocampus_unet3d", output="run/", epoch=3)
    Traceback (most recent call last):
    TypeError: train() has no keyword 'epoch'; did you mean 'epochs'?
    """
    began = time.monotonic()
    reading = ReadOptions(use_form, assume_ras, fill_nan)
    start = None if init is None else load_model(str(init))
    with started() as team:
        if recipe is None:
            named = read_structures(Path(names)) if isinstance(names, str | Path) else names
            spec = None if start is None else start.spec
            limits = profile, time_budget_s, 1, max_memory
            plan = PlanOptions(*limits, named, device, threads, team, reading, spec, folds, fold, epochs)
            recipe, plan = plan_of_run(Path(data), Path(output), plan, overwrite=overwrite, say=say or silent)
            time_budget_s = None if epochs else plan.seconds
        options = TrainOptions(
            epochs=epochs,
            time_budget_s=time_budget_s,
            seed=seed,
            folds=folds,
            fold=fold,
            device=device,
            threads=threads,
            max_memory=max_memory,
            init=start,
            overwrite=overwrite,
            reading=reading,
            spent_s=time.monotonic() - began,
            team=team,
        )
        loaded = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
        done = train_stages(
            loaded, Path(data), Path(output), options, say=say or silent, on_epoch=on_epoch or silent
        )
    return TrainingRun(Path(output), done.model_path, done.epochs, done.seconds, Scores(done.validation))
