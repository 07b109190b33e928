"""Training of every fold, one after the other, and their cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.core.errors import UsageError
from medseg.core.software import SOFTWARE
from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult
from medseg.metrics.export import cases_csv
from medseg.model.file import FOLD, load_model
from medseg.reporting.case.content import case_from_result
from medseg.training.loop import Epoch
from medseg.training.package import measure
from medseg.training.page import write_page
from medseg.training.recipe import Recipe
from medseg.training.run import CARD, PAGE, REASONS, RECIPE, SUSPECTS
from medseg.training.train import Say, TrainOptions, TrainResult, train

SCORES = "cross_validation.csv"


@dataclass(frozen=True)
class FoldsResult:
    """The result of training every fold.

    Attributes:
        folder: of the run, which predicts with the models of all folds.
        folds: the result of each.
        validation: every case, measured with the model that did not see it.
    """

    folder: Path
    folds: tuple[TrainResult, ...]
    validation: tuple[CaseResult, ...]


def train_folds(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: TrainOptions,
    *,
    say: Say,
    on_epoch: Callable[[Epoch], None],
) -> FoldsResult:
    """Train a network for every fold, each in a folder of its own, and measure every case once.

    The time budget is divided among the folds. The same call goes on where it stopped.

    Raises:
        UsageError: the folder holds something else.
        MedsegError: see `train`.
    """
    require_folds_folder(out)
    budget = options.time_budget_s
    done = []
    for fold in range(options.folds):
        say(f"fold {fold} of {options.folds}")
        own = replace(
            options,
            fold=fold,
            time_budget_s=None if budget is None else budget / options.folds,
            spent_s=options.spent_s / options.folds,
        )
        done.append(train(recipe, data, out / f"{FOLD}{fold}", own, say=say, on_epoch=on_epoch))
    cases = tuple(sorted((c for fold in done for c in fold.validation), key=lambda case: case.case_id))
    table = cases_csv(cases, surface="surfel", software=SOFTWARE, model=recipe.name)
    write_text(out / SCORES, table, overwrite=True)
    found = write_page(
        out,
        recipe,
        done[0].structures,
        {f"fold {n}": fold.model_path.parent for n, fold in enumerate(done)},
        cases,
        {name: picture for fold in done for name, picture in fold.thumbnails.items()},
        sum(fold.seconds for fold in done),
        lambda case: _learnt(case, recipe, data, done, options),
    )
    for case in found:
        say(f"warning: {case.sentence}")
    return FoldsResult(out, tuple(done), cases)


def _learnt(
    case_id: str, recipe: Recipe, data: Path, folds: Sequence[TrainResult], options: TrainOptions
) -> float:
    """The mean Dice of a case with the model of a fold that did not hold it out."""
    trained = next(fold for fold in folds if case_id not in {c.case_id for c in fold.validation})
    card = load_card(recipe.card)
    found = card.read(data, reading=options.reading)
    files = next(case for case in found.cases if case.case_id == case_id)
    model = load_model(trained.model_path)
    read = partial(read_case, card=card.adopting(found), channels=model.spec.channels)
    seen = measure(model, [files], read, recipe.metrics, options.threads, _unsaid)
    mean = case_from_result(seen.results[0], model.spec.structure_set).mean_dice
    return math.nan if mean is None else mean


def _unsaid(_: str) -> None:
    """For what is measured once more."""


def require_folds_folder(out: Path) -> None:
    """Refuse a folder that holds something else than folds.

    Raises:
        UsageError: it does, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError("is a file, not a folder", source=out, hint="choose another -o")
    others = [
        path.name
        for path in (out.iterdir() if out.is_dir() else ())
        if not path.name.startswith(FOLD) and path.name not in (CARD, RECIPE, REASONS, SCORES, PAGE, SUSPECTS)
    ]
    if others:
        raise UsageError(
            f"contains {sorted(others)[0]}, which does not belong to a training of several folds",
            source=out,
            hint="choose another folder with -o",
        )
