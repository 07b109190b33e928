"""Scores: what was measured, by structure and metric. Private: the names are those of `medseg.metrics`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import UsageError, counted, did_you_mean, listed
from medseg.core.extras import optional_packages
from medseg.core.numbers import number
from medseg.metrics.case import CaseResult, StructureResult
from medseg.metrics.cohort import CohortRow, summarise
from medseg.metrics.export import cases_csv


@dataclass(frozen=True)
class StructureScores:
    """The metrics of one structure: each an attribute, such as `dice`, `hd95_mm`, `nsd`.

    Of one case an attribute is its value, of several the mean over those that have a finite one. None stands
    for what is undefined or was not evaluated; of one case inf is a distance to a surface that is not there.

    Attributes:
        name: of the structure.
        rows: what was measured of it, one a case.
        cohort: each metric over all cases, with its n.

    >>> import medseg, numpy as np
    >>> mask = np.ones((4, 4, 4), bool)
    >>> liver = medseg.evaluate(mask, mask, spacing_mm=(1.0, 1.0, 1.0), structures={1: "liver"})["liver"]
    >>> liver.dice, liver["jaccard"], liver.nsd is None
    (1.0, 1.0, True)
    """

    name: str
    rows: tuple[StructureResult, ...]
    cohort: Mapping[str, CohortRow]

    def __repr__(self) -> str:
        names = dict.fromkeys(name for row in self.rows for name in row.metrics)
        values = (f"{name} {'n/a' if (v := self[name]) is None else f'{v:.4g}'}" for name in names)
        return f"StructureScores({', '.join((self.name, counted(len(self.rows), 'case'), *values))})"

    def __getitem__(self, metric: str) -> float | None:
        """A metric by name.

        Raises:
            UsageError: there is none of that name.
        """
        known = list(dict.fromkeys(name for row in self.rows for name in row.metrics))
        if metric not in known:
            raise UsageError(f"no metric {metric!r} was measured", hint=did_you_mean(metric, known))
        if len(self.rows) == 1:
            return self.rows[0].metrics[metric].value
        return self.cohort[metric].mean if metric in self.cohort else None

    def __getattr__(self, metric: str) -> float | None:
        if metric.startswith("_"):
            raise AttributeError(metric)
        try:
            return self[metric]
        except UsageError as fault:
            raise AttributeError(str(fault)) from None

    @property
    def dice(self) -> float | None:
        """Dice, in [0, 1]."""
        return self["dice"]

    @property
    def hd95_mm(self) -> float | None:
        """95th percentile of the Hausdorff distance, in mm."""
        return self["hd95_mm"]

    @property
    def volume_ref_ml(self) -> float:
        """Volume of the reference, in ml; of several cases the mean."""
        return sum(row.volume_ref_ml for row in self.rows) / len(self.rows)

    @property
    def volume_pred_ml(self) -> float:
        """Volume of the prediction, in ml; of several cases the mean."""
        return sum(row.volume_pred_ml for row in self.rows) / len(self.rows)


class Scores(Mapping[str, StructureScores]):
    """What was measured of cases, by the name of the structure.

    Args:
        cases: what was measured.

    >>> import numpy as np
    >>> from medseg.core.structures import from_labels
    >>> from medseg.core.volume import Grid, LabelMap
    >>> from medseg.metrics import Scores, evaluate_case
    >>> a, b = np.zeros((2, 8, 8, 8), np.uint8)
    >>> a[2:6, 2:6, 2:6], b[2:6, 2:6, 3:7] = 1, 1
    >>> maps = [LabelMap(array, Grid((8, 8, 8), np.eye(4))) for array in (a, b)]
    >>> scores = Scores([evaluate_case(*maps, from_labels({1: "liver"}))])
    >>> scores["liver"].dice, list(scores)
    (0.75, ['liver'])
    """

    def __init__(self, cases: Sequence[CaseResult]) -> None:
        self.cases = tuple(cases)
        self.cohort = summarise(self.cases)

    def __getitem__(self, name: str) -> StructureScores:
        """The scores of one structure.

        Raises:
            KeyError: there is none of that name; the message names the nearest.
        """
        rows = tuple(row for case in self.cases for row in case.rows if row.name == name)
        if not rows:
            raise KeyError(f"no structure {name!r} was measured; {did_you_mean(name, list(self))}")
        return StructureScores(name, rows, {row.metric: row for row in self.cohort if row.structure == name})

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(row.name for case in self.cases for row in case.rows))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"Scores({self.shown})"

    @property
    def shown(self) -> str:
        """How many cases there are, and the mean Dice of the structures, in a line."""
        means = listed([f"{name} {number(self[name].dice, 3)}" for name in self])
        return f"{counted(len(self.cases), 'case')}, mean Dice: {means}"

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row a case, structure and metric, in the columns of `evaluate --csv`.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        with optional_packages():
            import pandas
        mode = self.cases[0].mode if self.cases else "surfel"
        return pandas.read_csv(io.StringIO(cases_csv(self.cases, surface=mode, software="")))
