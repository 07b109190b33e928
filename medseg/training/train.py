"""`medseg train`: train the network of a recipe on a folder of cases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from medseg.core.errors import UsageError, counted
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet
from medseg.data.cards import Card, load_card
from medseg.data.cases import PreparedCase, Reader, read_case, swapped_labels
from medseg.data.layouts import CaseFiles, DatasetFiles
from medseg.data.layouts.case import OF_TEST
from medseg.data.synthetic import SyntheticCases
from medseg.findings.prediction import check_scores
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult
from medseg.metrics.export import cases_csv
from medseg.model.file import Model
from medseg.model.provenance import BeganFrom
from medseg.model.spec import ModelSpec
from medseg.networks.layers import Segmenter
from medseg.segmentation.member import SegmenterOptions, preparation_of
from medseg.training.ending import FINDING, Ending
from medseg.training.largest import Gains
from medseg.training.length import fix_length
from medseg.training.loop import Epoch, Trainer
from medseg.training.material import patch_maker, training_material
from medseg.training.options import TrainOptions
from medseg.training.package import Measured, measure, package, provenance
from medseg.training.page import write_page
from medseg.training.reading import learnable
from medseg.training.recipe import MetricsSpec, Recipe
from medseg.training.run import FollowedRun, Run
from medseg.training.setup import (
    build_network,
    build_trainer,
    check_trainable,
    facts_of,
)
from medseg.training.split import Split, fewer_folds, make_split
from medseg.training.transfer import Wanted, start_from

Say = Callable[[str], None]

COMPONENTS = (
    "note: the card does not say how objects are told apart (instances), so each connected piece of a "
    "structure is one"
)
UNKNOWN_DATA = (
    "the version that started this run did not record its data; it resumes with the files as they are"
)


@dataclass(frozen=True)
class TrainResult:
    """The result of a training; measured by the process that leads, where several train together.

    Attributes:
        model_path: of the model, in the folder of the run.
        epochs: how many there were.
        seconds: what they took, over all sittings.
        structures: that the model labels.
        validation: the cases that did not train, measured.
        thumbnails: a picture of each of those, by case.
        gains: what it would do to each to keep the largest component of a structure alone.
    """

    model_path: Path
    epochs: int
    seconds: float
    structures: StructureSet
    validation: tuple[CaseResult, ...] = ()
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    gains: tuple[Gains, ...] = ()

    def measured(self, seen: Measured) -> TrainResult:
        """The result with what a measurement showed."""
        return replace(self, validation=seen.results, thumbnails=seen.thumbnails, gains=seen.gains)


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    options: TrainOptions,
    *,
    say: Say,
    on_epoch: Callable[[Epoch], None],
) -> TrainResult:
    """Train the network of a recipe on a folder of cases.

    The same call resumes a stopped run. A KeyboardInterrupt leaves a run that can be resumed, and a
    model made of the best weights so far.

    Raises:
        MedsegError: bad data, a folder that contains another run, a loss that is not finite.
    """
    started = time.monotonic() - options.spent_s
    team = options.team
    card = load_card(recipe.card)
    recipe = _resolved(recipe, card, options)
    team.require_shares(recipe.training.batch)
    maps = _label_maps(recipe, card)
    network, notes = _network(recipe, card, maps, options)
    found = card.read(data, reading=options.reading).for_training()
    card = card.adopting(found)
    split = _split(found, recipe, options)
    run = Run(out) if team.leads else FollowedRun(out)
    begun = run.begin(recipe, card, split, _command(options), anew=options.overwrite)
    with _interruption_told(run, options, say), run.locked(), run.begun():
        fewer = fewer_folds(options.folds, split.fold, split.folds)
        for text in (_describe(split, recipe, found), *(f"note: {text}" for text in fewer), *notes):
            say(text)
        by_id = {case.case_id: case for case in found.cases}
        read = maps.read if maps else partial(read_case, card=card, channels=recipe.channels)
        preparation = preparation_of(recipe.preparation, options.coarse, _running(options))
        cases, digests = learnable(by_id, split, read, preparation, card, say)
        begun, unknown = run.fix_data(begun, digests)
        if unknown:
            say(f"warning: {UNKNOWN_DATA}")
        spec = _model_spec(recipe, card, split, network, options.init)
        material = training_material(recipe, card.structure_set, cases, maps, by_id, split, network)
        trainer = build_trainer(
            network,
            spec,
            loss=recipe.loss,
            augmenter=material.augmenter,
            training=recipe.training,
            cases=material.training,
            selection=material.selection,
            folder=run.folder,
            spacing_mm=material.spacing_mm,
            team=team,
        )
        left = options.time_budget_s and options.time_budget_s - (time.monotonic() - started)
        fix_length(trainer, begun, run, left, _ending(cases, split, recipe), say)
        _resume(trainer, say)
        make = partial(_packaged, trainer, spec, cases, recipe, options, maps, say)
        model = _trained(trainer, make, run, say, on_epoch)
        epochs, seconds = trainer.progress.epoch, trainer.progress.seconds
        done = TrainResult(run.model_path, epochs, seconds, card.structure_set)
        if model is None:
            return done
        held = [by_id[name] for name in split.validation]
        if held:
            done = done.measured(measured(model, held, read, recipe.metrics, options.measuring, run, say))
        _tell_page(run, recipe, done, say)
        return done


def require_trainable(recipe: Recipe, options: TrainOptions) -> None:
    """Refuse a recipe with which no training is possible, before anything is done.

    Raises:
        MedsegError: see `train`.
    """
    card = load_card(recipe.card)
    recipe = _resolved(recipe, card, options)
    _network(recipe, card, _label_maps(recipe, card), options)


def rehearsed(recipe: Recipe, data: Path, options: TrainOptions) -> tuple[str, ...]:
    """What a training would be, in sentences; nothing is written, and no voxel is read.

    Raises:
        MedsegError: the recipe makes no network that can be trained, or there are no cases.
    """
    card = load_card(recipe.card)
    recipe = _resolved(recipe, card, options)
    network, notes = _network(recipe, card, _label_maps(recipe, card), options)
    found = card.read(data, reading=options.reading).for_training()
    millions, spec = sum(p.numel() for p in network.parameters()) / 1e6, recipe.training
    epochs = "as many epochs as fit" if options.time_budget_s else counted(spec.epochs, "epoch")
    patch, sees = (" x ".join(map(str, n)) for n in (spec.patch, network.receptive_radius))
    known = f"sees {sees} voxels each way" if any(network.receptive_radius) else "may see the whole patch"
    return (
        _describe(_split(found, recipe, options), recipe, found),
        *notes,
        f"{recipe.network.name}: {millions:.2f} million parameters; an output voxel {known}",
        f"patches of {patch} voxels, {spec.batch} at a step; {epochs} of "
        f"{counted(spec.steps_per_epoch, 'step')}",
    )


def _packaged(
    trainer: Trainer,
    spec: ModelSpec,
    cases: Mapping[str, PreparedCase],
    recipe: Recipe,
    options: TrainOptions,
    maps: SyntheticCases | None,
    say: Say,
) -> Model:
    """The model of a training, with its coarse stage where it is a cascade."""
    kept = (recipe.weights, maps.spacing_range if maps else None, options.coarse)
    return package(trainer, spec, [*cases.values()], options.threads, *kept, say)


def _ending(cases: Mapping[str, PreparedCase], split: Split, recipe: Recipe) -> Ending:
    """What is done after the last step; objects are found in the selection cases too, for a least score."""
    voxels = median(math.prod(case.prepared.grid.shape) for case in cases.values())
    measured = len(split.validation)
    found = measured + len(split.selection) if recipe.network.finds_objects else 0
    return Ending(voxels, len(split.train), measured + FINDING * found)


def _tell_page(run: Run, recipe: Recipe, done: TrainResult, say: Say) -> None:
    """Write the page of a training; say which cases stand out."""
    where = {"training": run.folder}
    results = done.validation, done.thumbnails
    for case in write_page(run.folder, recipe, done.structures, where, *results, done.seconds):
        say(f"warning: {case.sentence}")


def _split(found: DatasetFiles, recipe: Recipe, options: TrainOptions) -> Split:
    """Who trains, of cases that each have their own labels."""
    for fault in swapped_labels(found.cases):
        raise fault
    return make_split(
        {case.case_id: case.group for case in found.cases},
        folds=options.folds,
        fold=options.fold,
        selection_share=recipe.training.selection_share,
        seed=recipe.training.seed,
    )


def _command(options: TrainOptions) -> dict[str, Any]:
    """What a run depends on beside its recipe and its split."""
    length = {"epochs": options.epochs, "time_budget_s": options.time_budget_s}
    return length if options.init is None else length | {"init": options.init.sha256}


def _running(options: TrainOptions) -> SegmenterOptions:
    """How the coarse stage of a cascade looks at the cases."""
    return SegmenterOptions(device=options.team.device(options.device), threads=options.threads)


def _resume(trainer: Trainer, say: Say) -> None:
    """Go on from the last checkpoint, and say so."""
    warning = trainer.resume()
    if warning:
        say(f"warning: {warning}")
    if trainer.progress.epoch:
        say(f"resuming after epoch {trainer.progress.epoch} of {trainer.epochs}")


@contextmanager
def _interruption_told(run: Run, options: TrainOptions, say: Say) -> Iterator[None]:
    """Say what a training that is interrupted leaves, and how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if options.team.leads:
            again = f"repeat the command{' without --overwrite' if options.overwrite else ''}"
            say(f"stopped; {_left(run)}: {again} to {'resume' if run.has_checkpoints else 'begin again'}")
        raise


def _left(run: Run) -> str:
    """What there is of a training."""
    if run.model_path.exists():
        return f"the best weights so far are in {run.model_path}"
    if run.has_checkpoints:
        return f"there is no model yet, but a checkpoint in {run.checkpoints_path}"
    return f"the first epoch had not ended, so neither a model nor a checkpoint is left in {run.folder}"


def _trained(
    trainer: Trainer, make: Callable[[], Model], run: Run, say: Say, on_epoch: Callable[[Epoch], None]
) -> Model | None:
    """Train to the end, or to the interruption; either way the best weights become a model, of who leads."""
    if not trainer.team.leads:
        trainer.run(on_epoch)
        return None
    try:
        trainer.run(on_epoch)
    except KeyboardInterrupt:
        if trainer.progress.epoch:
            make().save(run.model_path, overwrite=True)
        raise
    if trainer.progress.epoch < trainer.epochs:
        idle = counted(trainer.spec.patience, "epoch")
        say(f"ended after epoch {trainer.progress.epoch} of {trainer.epochs}: no better for {idle}")
    say("packaging the model, and comparing the engines that can run it")
    model = make()
    model.save(run.model_path, overwrite=True)
    return model


def measured(
    model: Model,
    held: Sequence[CaseFiles],
    read: Reader,
    metrics: MetricsSpec,
    running: SegmenterOptions,
    run: Run,
    say: Say,
) -> Measured:
    """Measure the model on the fold's own cases, and store the scores in it and beside it."""
    found = measure(model, held, read, metrics, running, say)
    found.model.save(run.model_path, overwrite=True)
    for doubt in check_scores(found.model.spec):
        say(f"warning: {doubt.sentence}")
    table = cases_csv(found.results, surface="surfel", software=SOFTWARE, model=model.spec.name)
    write_text(run.scores_path, table, overwrite=True)
    return found


def _resolved(recipe: Recipe, card: Card, options: TrainOptions) -> Recipe:
    seed = recipe.training.seed if options.seed is None else options.seed
    epochs = options.epochs or recipe.training.epochs
    frozen = tuple(dict.fromkeys((*recipe.training.frozen, *options.frozen)))
    training = replace(recipe.training, seed=seed, epochs=epochs, frozen=frozen)
    return replace(recipe.fitted_to(card), training=training)


def _label_maps(recipe: Recipe, card: Card) -> SyntheticCases | None:
    """How scans are made, where the card has only label maps."""
    return SyntheticCases(card, recipe.synthesis, recipe.training.seed) if recipe.synthesis else None


def _network(
    recipe: Recipe, card: Card, maps: SyntheticCases | None, options: TrainOptions
) -> tuple[Segmenter, tuple[str, ...]]:
    """The network with the weights it begins from, and what is to be said of them.

    A recipe at fault is refused before data is read.
    """
    structures = card.structure_set
    notes = (COMPONENTS,) if recipe.network.finds_objects and not card.instances else ()
    try:
        network = build_network(
            recipe.network,
            seed=recipe.training.seed,
            device=options.team.device(options.device),
            threads=options.threads,
        )
        check_trainable(network, structures, recipe.loss, recipe.training)
        patch_maker(recipe, structures, maps, (1.0, 1.0, 1.0))
    except UsageError as fault:
        fault.source = fault.source or f"recipe {recipe.name}"
        raise
    if options.init is None:
        return network, notes
    said = start_from(
        network,
        Wanted(recipe.network, structures, recipe.channels, cascade=recipe.cascade is not None),
        options.init,
    )
    return network, (*notes, *(f"warning: {options.init.spec.name}: {text}" for text in said))


def _model_spec(
    recipe: Recipe, card: Card, split: Split, network: Segmenter, init: Model | None
) -> ModelSpec:
    """The model in the making."""
    return ModelSpec(
        name=recipe.name,
        network=recipe.network,
        facts=facts_of(network),
        channels=recipe.channels,
        structures=card.structure_set.items,
        preparation=recipe.preparation,
        slices=recipe.slices,
        refinement=recipe.refinement,
        inference=replace(recipe.inference, tile=recipe.inference.tile or recipe.training.patch),
        postprocess=recipe.postprocess,
        training=replace(provenance(recipe, card, split), began_from=None if init is None else _origin(init)),
        totals=card.totals,
        cascade=recipe.cascade is not None,
    )


def _origin(model: Model) -> BeganFrom:
    """What a model was that another began from: its own training, and the file."""
    own = model.spec.training
    return BeganFrom(
        model.sha256, own.recipe, own.dataset, own.fold, own.folds, own.seed, own.steps, own.seconds
    )


def _describe(split: Split, recipe: Recipe, found: DatasetFiles) -> str:
    tests = sum(why == OF_TEST for _, why in found.aside)
    fold = "all cases are used for training" if split.fold is None else f"fold {split.fold} of {split.folds}"
    return (
        f"{recipe.name}: {fold} (seed {split.seed}): {counted(len(split.train), 'case')} to "
        f"train, {len(split.selection)} to choose the checkpoint, "
        f"{len(split.validation)} to measure at the end"
        + (f"; {counted(tests, 'test case')} by folder or name left out" if tests else "")
    )
