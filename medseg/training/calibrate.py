"""`medseg calibrate`: calibrate a model on cases that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core import numbers
from medseg.core.errors import UsageError, counted, printable
from medseg.data.cards import Card, available, load_card
from medseg.data.cases import Reader, is_whole, read_case
from medseg.data.layouts import CaseFiles
from medseg.io import ReadOptions
from medseg.metrics.conformal import least_cases
from medseg.model.file import Model
from medseg.segmentation.calibration import Evidence, Observation, calibrated, coverage, observed
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
        say: told what is done.

    Raises:
        UsageError: the model writes other structures, the cases it was not trained on cannot be told from
            the others, or are too few.
        MedsegError: a case cannot be read.
    """
    if card.structure_set.names != model.spec.structure_set.names:
        raise UsageError(
            f"{model.spec.name} writes {', '.join(model.spec.structure_set.names)}; the card {card.name} has "
            f"{', '.join(card.structure_set.names)}"
        )
    found = card.read(data, reading=options.reading)
    card = card.adopting(found)
    files = found.cases if options.every else held_out(model, card, data, options.reading)
    if len(files) < least_cases():
        raise UsageError(
            f"too few cases with a reference: {len(files)}; an interval needs {least_cases()}",
            source=data,
            hint="give more cases that the model was not trained on",
        )
    read: Reader = partial(read_case, card=card, channels=model.spec.channels)
    segmenter = Segmenter([model], SegmenterOptions(threads=options.threads, observe=True))
    say(
        f"predicting {counted(len(files), 'case')}, unchanged and as another scanner might have acquired them"
    )
    plain, other = _observations(segmenter, files, read, options)
    evidence = calibrated(plain, segmenter.structures)
    evidence["calibration"]["shifted"] = coverage(other, evidence) | {"shifts": options.shifts.content()}
    say(f"predicting {min(len(files), REPEATED_CASES)} of them repeatedly, slightly moved")
    scans = [read(case)[0] for case in files[:REPEATED_CASES]]
    evidence["repeatability"] = repeatability(model, scans, seed=options.seed, threads=options.threads)
    say("comparing bf16 with f32")
    evidence["rounding"] = rounding(model, map(read, files), threads=options.threads)
    spec = replace(model.spec, evidence=model.spec.evidence | evidence)
    return replace(model, spec=spec), evidence


def held_out(model: Model, card: Card, data: Path, reading: ReadOptions | None = None) -> Sequence[CaseFiles]:
    """The cases of the dataset a model was trained on that its training did not see.

    Raises:
        UsageError: it was trained on another dataset, or on every case.
    """
    training: dict[str, Any] = model.spec.training
    found = card.read(data, reading=reading).cases
    if training.get("dataset") != card.description or training.get("fold") is None:
        raise UsageError(
            f"it is unknown which of these cases {model.spec.name} was trained on",
            source=data,
            hint="give --every, if it was trained on none of them",
        )
    split = make_split(
        {case.case_id: case.group for case in found},
        folds=training["folds"],
        fold=training["fold"],
        selection_share=0.0,
        seed=training["seed"],
    )
    measured = training["cases"]["measured"]
    if len(split.validation) != measured:
        raise UsageError(
            f"the fold holds out {len(split.validation)} of these cases, and {measured} when it was trained",
            source=data,
            hint="give the folder as it was at the training",
        )
    by_id = {case.case_id: case for case in found}
    return [by_id[name] for name in split.validation]


def card_of(model: Model) -> Card:
    """The card that comes with the package and describes what a model was trained on.

    Raises:
        UsageError: there is none.
    """
    dataset = model.spec.training.get("dataset")
    for name in available("datasets"):
        card = load_card(name)
        if card.description == dataset:
            return card
    raise UsageError(f"no packaged card describes the training data of {model.spec.name}", hint="give --card")


def table_rows(evidence: Evidence) -> tuple[tuple[str, ...], ...]:
    """The calibration as a table, header first."""
    head = ("Structure", "n", "Volume, 90 % interval", "Dice, 90 % interval", "Smallest change ml", "%")
    return head, *(
        _cells(name, found, evidence["repeatability"]["structures"].get(name, {}))
        for name, found in evidence["calibration"]["structures"].items()
    )


def _cells(name: str, found: Mapping[str, Any], repeated: Mapping[str, Any]) -> tuple[str, ...]:
    volume, score = "n/a", "n/a"
    if "volume_log_ratio" in found:
        low, high = (None if e is None else 100 * math.expm1(e) for e in found["volume_log_ratio"])
        volume = f"{-100 if low is None else low:+.0f} % to {high:+.0f} %"
    if "dice" in found:
        score = f"{found['dice']['low']:+.3f} to {found['dice']['high']:+.3f}"
    change = repeated.get("smallest_change_ml"), repeated.get("smallest_change_percent")
    return (
        printable(name),
        str(found["n"]),
        volume,
        score,
        numbers.millilitres(change[0]),
        numbers.number(change[1], 1),
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
