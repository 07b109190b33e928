"""`medseg next`: of scans without labels, the one of which models are least sure.

Labels are worth most where the model does not know (uncertainty sampling, Lewis and Gale 1994,
doi:10.1007/978-1-4471-2099-5_1) and where models that learnt from the same cases disagree (query by
committee, Seung et al. 1992, doi:10.1145/130385.130417).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from medseg.core.errors import InputError, UsageError
from medseg.core.structures import StructureSet
from medseg.data.layouts.case import require_folder
from medseg.data.layouts.monailabel import ORIGINAL, SUFFIXES
from medseg.data.store import Store
from medseg.io import ReadOptions, read_label_file
from medseg.metrics.functions import dice
from medseg.prediction.job import Job, Outcome, PredictOptions
from medseg.prediction.requests import InputCase
from medseg.segmentation.prediction import PredictionSummary
from medseg.segmentation.segmenter import Segmenter

MEMBERS = Path("labels/members")
"""Where the labels of further models lie, in a folder for each."""


@dataclass(frozen=True)
class Sureness:
    """How sure models are of their labels of one scan.

    Attributes:
        case: what the scan is called.
        expected_dice: mean of what is to be expected of the structures; None where the first model was not
            calibrated or doubts its result.
        confidence: of the first model, mean probability of what it labelled; None where it labelled nothing.
        agreement: mean Dice of the labels of each two models, over structures; None of one model.
        doubtful: whether the result is.
    """

    case: str
    expected_dice: float | None = None
    confidence: float | None = None
    agreement: float | None = None
    doubtful: bool = False

    @property
    def least(self) -> float | None:
        """The least of what is known, of expected Dice or else confidence, and agreement."""
        own = self.confidence if self.expected_dice is None else self.expected_dice
        return min((x for x in (own, self.agreement) if x is not None), default=None)

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sorts the least sure first: those in doubt, then those that say less of themselves."""
        return not self.doubtful, 0.0 if self.least is None else self.least, self.case

    def content(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def sureness(case: str, summary: PredictionSummary, agreement: float | None = None) -> Sureness:
    """What a sidecar says of how sure a model is of a case."""
    known = [row.expected_dice for row in summary.structures if row.expected_dice is not None]
    complete = bool(known) and len(known) == sum(row.voxels > 0 for row in summary.structures)
    quality = summary.quality
    return Sureness(
        case,
        round(mean(known), 4) if complete else None,
        None if quality is None else quality.confidence,
        None if agreement is None else round(agreement, 4),
        summary.is_doubtful,
    )


def least_sure(
    folder: Path,
    segmenters: Sequence[Callable[[], Segmenter]],
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
) -> tuple[list[Sureness], list[Outcome]]:
    """The scans of a folder that nobody labelled, the least sure first; and those that cannot be predicted.

    Predictions are kept in `labels/original` and `labels/members`, and made only where they are not there.

    Args:
        folder: of scans, see `data.store`.
        segmenters: each makes a model ready to run; all write the same structures.
        on_case: called after each prediction with the outcome, its number and how many there are.

    Raises:
        InputError: there is no such folder, or no scan without labels in it.
        UsageError: the models write other structures.
    """
    require_folder(folder)
    store = Store(folder)
    if not store.scans():
        kinds = ", ".join(SUFFIXES)
        raise InputError("contains no scans", source=folder, hint=f"put files into it that end with {kinds}")
    scans = store.unlabelled()
    if not scans:
        raise InputError("has no scan without labels", source=folder, hint="add scans to it")
    ready = [make() for make in segmenters]
    _require_alike(ready)
    failed: dict[str, Outcome] = {}
    told: dict[str, list[Outcome]] = {case: [] for case in scans}
    for number, segmenter in enumerate(ready):
        place = folder / (MEMBERS / segmenter.models[0].sha256[:16] if number else ORIGINAL)
        for done, (case, scan) in enumerate(scans.items(), start=1 + number * len(scans)):
            if case in failed:
                continue
            outcome = _predicted(case, scan, place, segmenter)
            on_case(outcome, done, len(scans) * len(ready))
            if outcome.summary is None:
                failed[case] = outcome
            told[case].append(outcome)
    rows = [
        sureness(case, outcomes[0].summary, _agreement([o.target for o in outcomes], ready[0].structures))
        for case, outcomes in told.items()
        if case not in failed and outcomes[0].summary is not None
    ]
    return sorted(rows, key=lambda row: row.order), [*failed.values()]


def _require_alike(segmenters: Sequence[Segmenter]) -> None:
    """Refuse models that do not label the same."""
    first = segmenters[0].structures
    for other in segmenters[1:]:
        if {s.value: s.name for s in other.structures} != {s.value: s.name for s in first}:
            raise UsageError(
                f"the models label {', '.join(first.names)} and {', '.join(other.structures.names)}",
                hint="give models of the same structures",
            )


def _predicted(case: str, scan: Path, place: Path, segmenter: Segmenter) -> Outcome:
    """A prediction, or the one that is there if it is the same."""
    channels = segmenter.channels if len(segmenter.channels) > 1 else ()
    options = PredictOptions(channels=channels, overwrite=True)
    source = InputCase(scan, case, scan.parent)
    job = Job(source, place / f"{case}{source.suffix}", segmenter, options, batch=True)
    if job.look() is not None:
        job.read()
        job.segment()
    return job.write()


def _agreement(labels: Sequence[Path], structures: StructureSet) -> float | None:
    """Mean Dice of each two label files over structures that either has; None of one."""
    arrays = [read_label_file(path, ReadOptions()).array for path in labels]
    pairs = [pair for two in combinations(arrays, 2) for pair in _masks(*two, structures)]
    if len(arrays) < 2:
        return None
    return mean(dice(one, other) for one, other in pairs) if pairs else 1.0


def _masks(one: Any, other: Any, structures: StructureSet) -> Iterable[tuple[Any, Any]]:
    """The masks of each structure that either label map has."""
    for structure in structures:
        masks = np.isin(one, structure.label_values), np.isin(other, structure.label_values)
        if masks[0].any() or masks[1].any():
            yield masks
