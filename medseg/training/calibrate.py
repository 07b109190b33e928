"""`medseg calibrate`: calibrate a model on cases that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from medseg.core import numbers
from medseg.core.errors import UsageError, counted, printable
from medseg.data.cards import Card, available, load_card
from medseg.data.cases import Reader, is_whole, read_case
from medseg.data.layouts import CaseFiles, layout_of
from medseg.io import ReadOptions
from medseg.metrics.conformal import least_cases
from medseg.model.evidence import Evidence, SmallestChange, StructureCalibration
from medseg.model.file import Model
from medseg.segmentation.calibration import Observation, calibrated, coverage, observed
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter
from medseg.training.repeatability import repeatability
from medseg.training.rounding import rounding
from medseg.training.shifts import ShiftSpec, shifted
from medseg.training.split import make_split

Say = Callable[[str], None]

REPEATED_CASES = 10
"""Scans that are predicted several times over, to learn what change is noise."""


@dataclass(frozen=True)
class CalibrateOptions:
    """How a model is calibrated.

    Attributes:
        every: take every case of the folder, not only those held out of the model's training.
        seed: of the shifts and of the repeated predictions.
        threads: of the processor; 0 takes what there is.
        shifts: how unlike the originals the scans are on which the calibration is checked.
        reading: decisions that the files of the dataset leave open.
    """

    every: bool = False
    seed: int = 0
    threads: int = 0
    shifts: ShiftSpec = field(default_factory=ShiftSpec)
    reading: ReadOptions = ReadOptions()


def calibrate(
    model: Model, card: Card, data: Path, options: CalibrateOptions, *, say: Say
) -> tuple[Model, Evidence]:
    """The model with new calibration evidence; nothing else changes.

    Args:
        model: trained.
        card: of the folder's layout; its structures must be the model's.
        data: a folder of cases with references.
        options: how.
        say: called with each step.

    Raises:
        UsageError: the model writes other structures, the cases it was not trained on cannot be told from
            the others, or are too few.
        MedsegError: a case cannot be read.
    """
    if card.structure_set.names != model.spec.structure_set.names:
        raise UsageError(
            f"{model.spec.name} writes {', '.join(model.spec.structure_set.names)}, but the card {card.name} "
            f"has {', '.join(card.structure_set.names)}",
            hint="give the card of the model's structures with --card",
        )
    found = card.read(data, reading=options.reading)
    card = card.adopting(found)
    files = found.cases if options.every else held_out(model, card, data, options.reading)
    if len(files) < least_cases():
        raise UsageError(
            f"an interval needs at least {least_cases()} cases with a reference, not {len(files)}",
            source=data,
            hint="give more cases that the model was not trained on",
        )
    read: Reader = partial(read_case, card=card, channels=model.spec.channels)
    segmenter = Segmenter([model], SegmenterOptions(threads=options.threads, observe=True))
    say(
        f"predicting {counted(len(files), 'case')}, unchanged and as another scanner might have acquired them"
    )
    plain, other = _observations(segmenter, files, read, options)
    evidence = _with_shifted(calibrated(plain, segmenter.structures), other, options.shifts)
    say(f"predicting {min(len(files), REPEATED_CASES)} of them repeatedly, each time moved slightly")
    scans = [read(case)[0] for case in files[:REPEATED_CASES]]
    repeated = repeatability(model, scans, seed=options.seed, threads=options.threads)
    say("comparing bf16 with f32")
    rounded = rounding(model, map(read, files), threads=options.threads)
    evidence = replace(evidence, repeatability=repeated, rounding=rounded)
    return with_evidence(model, evidence), evidence


def with_evidence(model: Model, found: Evidence) -> Model:
    """The model with what was measured in the place of what it knew of that before."""
    return replace(model, spec=replace(model.spec, evidence=model.spec.evidence.updated(found)))


def _with_shifted(evidence: Evidence, other: Sequence[Observation], shifts: ShiftSpec) -> Evidence:
    """What was learnt, and how much of it holds for shifted cases."""
    held = replace(coverage(other, evidence), shifts=shifts.content())
    calibration = evidence.calibration and replace(evidence.calibration, shifted=held)
    return replace(evidence, calibration=calibration)


def held_out(model: Model, card: Card, data: Path, reading: ReadOptions | None = None) -> Sequence[CaseFiles]:
    """The cases of the dataset a model was trained on that its training did not see.

    Raises:
        UsageError: it was trained on another dataset, or on every case.
    """
    training = model.spec.training
    found = card.read(data, reading=reading).for_training().cases
    fold, folds, seed, cases = training.fold, training.folds, training.seed, training.cases
    same = training.dataset == card.description
    if not same or fold is None or folds is None or seed is None or cases is None:
        raise UsageError(
            f"it is unknown which of these cases {model.spec.name} was trained on",
            source=data,
            hint="if it was trained on none of them, add --every",
        )
    split = make_split(
        {case.case_id: case.group for case in found},
        folds=folds,
        fold=fold,
        selection_share=0.0,
        seed=seed,
    )
    measured = cases.measured
    if len(split.validation) != measured:
        raise UsageError(
            f"the fold holds out {len(split.validation)} of these cases, but "
            f"held out {measured} in the training",
            source=data,
            hint="give the folder with the cases of the training, unchanged",
        )
    by_id = {case.case_id: case for case in found}
    return [by_id[name] for name in split.validation]


def card_of(model: Model, data: Path) -> Card:
    """The card of a folder with cases for a model.

    It is the packaged one that describes what the model was trained on, else one by the names of the folder's
    files, whose channels and structures are the model's.

    Raises:
        InputError: there is neither.
    """
    dataset = model.spec.training.dataset
    for name in available("datasets"):
        card = load_card(name)
        if card.description == dataset:
            return card
    spec = model.spec
    return Card(spec.name, dataset or "", layout_of(data), spec.channels, spec.structures, totals=spec.totals)


def table_rows(evidence: Evidence) -> tuple[tuple[str, ...], ...]:
    """The calibration as a table, header first."""
    head = ("Structure", "n", "Volume, 90 % interval", "Dice, 90 % interval", "Smallest change ml", "%")
    repeated = {} if evidence.repeatability is None else evidence.repeatability.structures
    found = {} if evidence.calibration is None else evidence.calibration.structures
    return head, *(_cells(name, row, repeated.get(name, SmallestChange())) for name, row in found.items())


def _cells(name: str, found: StructureCalibration, repeated: SmallestChange) -> tuple[str, ...]:
    volume, score = "n/a", "n/a"
    if found.volume_log_ratio is not None:
        low, high = (-100 if e is None else 100 * math.expm1(e) for e in found.volume_log_ratio)
        volume = f"{low:+.0f} % to {high:+.0f} %"
    if found.dice is not None:
        score = f"{found.dice.low:+.3f} to {found.dice.high:+.3f}"
    return (
        printable(name),
        str(found.n),
        volume,
        score,
        numbers.millilitres(repeated.smallest_change_ml),
        numbers.number(repeated.smallest_change_percent, 1),
    )


def _observations(
    segmenter: Segmenter, files: Sequence[CaseFiles], read: Reader, options: CalibrateOptions
) -> tuple[list[Observation], list[Observation]]:
    """Of every case as it is, and shifted; of one that is labelled in part, no volume is known."""
    generator = np.random.default_rng(options.seed)
    plain, other = [], []
    for case in files:
        volume, reference = read(case)
        if not is_whole(reference):
            continue
        plain.append(observed(segmenter(volume), reference))
        other.append(observed(segmenter(shifted(volume, generator, options.shifts)), reference))
    return plain, other
