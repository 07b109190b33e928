"""Training of every fold, one after the other, and their cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.core.errors import listed
from medseg.core.software import SOFTWARE
from medseg.data.cards import load_card
from medseg.data.cases import Reader, read_case
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult
from medseg.metrics.export import cases_csv
from medseg.model.file import FOLD, Model, load_model
from medseg.reporting.case.content import case_from_result
from medseg.training.cascade import train_stages
from medseg.training.largest import improved_by_largest
from medseg.training.loop import Epoch
from medseg.training.options import TrainOptions
from medseg.training.package import measure
from medseg.training.page import write_page
from medseg.training.recipe import Recipe
from medseg.training.run import FOLDS_SCORES, Run, require_folds_folder
from medseg.training.split import USUAL_FOLDS
from medseg.training.train import Say, TrainResult, measured


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
    budget, folds = options.time_budget_s, options.folds or USUAL_FOLDS
    share = replace(
        options,
        folds=folds,
        time_budget_s=None if budget is None else budget / folds,
        spent_s=options.spent_s / folds,
    )
    done = []
    try:
        for fold in range(folds):
            say(f"fold {fold} of {folds}")
            own = replace(share, fold=fold)
            done.append(train_stages(recipe, data, out / f"{FOLD}{fold}", own, say=say, on_epoch=on_epoch))
    finally:
        if out.is_dir() and not any(out.iterdir()):  # a fold that failed at once leaves nothing
            out.rmdir()
    if not options.team.leads:
        return FoldsResult(out, tuple(done), ())
    own_cases = _Cases(recipe, data, options)
    done, told = _postprocessed(done, own_cases, say)
    cases = tuple(sorted((c for fold in done for c in fold.validation), key=lambda case: case.case_id))
    table = cases_csv(cases, surface="surfel", software=SOFTWARE, model=recipe.name)
    write_text(out / FOLDS_SCORES, table, overwrite=True)
    found = write_page(
        out,
        recipe,
        done[0].structures,
        {f"fold {n}": fold.model_path.parent for n, fold in enumerate(done)},
        cases,
        {name: picture for fold in done for name, picture in fold.thumbnails.items()},
        sum(fold.seconds for fold in done),
        lambda case: own_cases.learnt(case, done),
        told,
    )
    for case in found:
        say(f"warning: {case.sentence}")
    return FoldsResult(out, tuple(done), cases)


class _Cases:
    """The cases of a dataset by name, and how they are read and measured."""

    def __init__(self, recipe: Recipe, data: Path, options: TrainOptions) -> None:
        card = load_card(recipe.card)
        found = card.read(data, reading=options.reading).for_training()
        self.recipe, self.options = recipe, options
        self.files = {case.case_id: case for case in found.cases}
        self.card = card.adopting(found)

    def reader(self, model: Model) -> Reader:
        return partial(read_case, card=self.card, channels=model.spec.channels)

    def learnt(self, case_id: str, folds: Sequence[TrainResult]) -> float:
        """The mean Dice of a case with the model of a fold that did not hold it out."""
        trained = next(fold for fold in folds if case_id not in {c.case_id for c in fold.validation})
        model = load_model(trained.model_path)
        files, read = [self.files[case_id]], self.reader(model)
        seen = measure(model, files, read, self.recipe.metrics, self.options.measuring, _unsaid)
        mean = case_from_result(seen.results[0], model.spec.structure_set).mean_dice
        return math.nan if mean is None else mean


def _postprocessed(
    folds: Sequence[TrainResult], cases: _Cases, say: Say
) -> tuple[list[TrainResult], tuple[tuple[str, str], ...]]:
    """The folds, their models with the post-processing that helps over all cases; and what was decided."""
    chosen = improved_by_largest([case for fold in folds for case in fold.gains])
    texts = [f"{name} (mean Dice {a:.4f}, then {b:.4f})" for name, (a, b) in chosen.items()]
    if not chosen:
        return list(folds), (("Post-processing", "none helps over all cases"),)
    told = f"the largest component alone of {listed(texts)}"
    say(f"post-processing: {told}")
    done = []
    for fold in folds:
        model = load_model(fold.model_path)
        kept = tuple(dict.fromkeys((*model.spec.postprocess.largest_component, *chosen)))
        spec = replace(model.spec, postprocess=replace(model.spec.postprocess, largest_component=kept))
        held = [cases.files[case.case_id] for case in fold.validation]
        seen = measured(
            replace(model, spec=spec),
            held,
            cases.reader(model),
            cases.recipe.metrics,
            cases.options.measuring,
            Run(fold.model_path.parent),
            _unsaid,
        )
        done.append(fold.measured(seen))
    return done, (("Post-processing", told),)


def _unsaid(_: str) -> None:
    """For what is measured once more."""
