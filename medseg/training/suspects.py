"""Cases that a model which did not see them segments far worse than the others: hard, or wrongly labelled."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.io.atomic import write_text
from medseg.reporting.case.content import ReportCase

FEWEST = 5
"""Cases from which one can stand out."""

SPREADS = 3.0
"""A case stands out by so many spreads, each 1.4826 times the median distance from the median."""

LEAST_BELOW = 0.1
"""By how much less Dice than the median at least, so that no case of a close field stands out."""


@dataclass(frozen=True)
class Suspect:
    """A case that stands out.

    Attributes:
        case_id: its name.
        dice: mean over the structures, of the model that did not see it.
        median: of all cases.
        learnt: the same of a model that trained on it; NaN where there is none.
    """

    case_id: str
    dice: float
    median: float
    learnt: float = math.nan

    @property
    def sentence(self) -> str:
        """What stands out, and what it may be."""
        compared = f"a mean Dice of {self.dice:.3f} (median {self.median:.3f})"
        return f"{self.case_id} has {compared}: {self.reading}"

    @property
    def reading(self) -> str:
        """What it may be."""
        if math.isnan(self.learnt):
            return "its labels may be wrong, or it is unlike the others"
        if self.learnt - self.dice >= (self.median - self.dice) / 2:
            return "it is unlike the others: a model that trained on it agrees with its labels"
        return "its labels are likely wrong: a model that trained on it does not agree with them either"


def suspects(cases: Sequence[ReportCase], learnt: Callable[[str], float] | None = None) -> list[Suspect]:
    """Cases with a far lower mean Dice than the others, the lowest first.

    Args:
        cases: that the model had not seen, measured.
        learnt: the mean Dice of a case with a model that trained on it.
    """
    means = {case.case_id: case.mean_dice for case in cases if case.mean_dice is not None}
    if len(means) < FEWEST:
        return []
    values = np.array([*means.values()])
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    limit = median - max(LEAST_BELOW, SPREADS * spread)
    found = [Suspect(name, mean, median) for name, mean in means.items() if mean < limit]
    if learnt is not None:
        found = [replace(case, learnt=learnt(case.case_id)) for case in found]
    return sorted(found, key=lambda case: case.dice)


def write_suspects(path: Path, found: Sequence[Suspect]) -> None:
    """Write them as a table; one without rows says that no case stands out."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("case_id", "mean_dice", "median_of_all", "mean_dice_when_learnt", "reading"))
    for case in found:
        when = "" if math.isnan(case.learnt) else f"{case.learnt:.4f}"
        rows.writerow((case.case_id, f"{case.dice:.4f}", f"{case.median:.4f}", when, case.reading))
    write_text(path, text.getvalue(), overwrite=True)
