"""Protocols of challenges: additional measures and tables of `medseg evaluate --protocol`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core import numbers, specs
from medseg.core.errors import InputError, UsageError, did_you_mean, printable
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.metrics import lesions, promise12
from medseg.metrics.case import CaseResult, SurfaceMode, Tolerance
from medseg.metrics.cohort import CohortRow
from medseg.metrics.value import Value
from medseg.reporting.tables import measure

Measure = Callable[..., dict[str, Value]]

WITHOUT_ANCHORS = "the PROMISE12 score needs the results of a second observer: give them with --anchors FILE"

LESION_RULES = {
    "brats2023": lesions.GLIOMA,
    "brats2023-men": lesions.MENINGIOMA,
    "brats2023-met": lesions.METASTASES,
}
NAMES = ("promise12", *LESION_RULES)

PROMISE12_COLUMNS = {"Dice": 3, "HD95 mm": 1, "Boundary mm": 2, "Volume off %": 1, "Score": 1}
LESION_COLUMNS = {
    "Lesion Dice": 3, "Lesion HD95 mm": 1, "F1": 3, "Recall": 3, "Found": 0, "Missed": 0, "Extra": 0,
    "Ignored": 0,
}  # fmt: skip
"""Columns of the terminal's tables, with their decimals."""


@dataclass(frozen=True)
class Protocol:
    """What a challenge measures.

    Attributes:
        name: as on the command line.
        mode: the definition of a surface it uses.
        measure: from masks of reference and prediction, their grid and `threads` to named values.
        columns: titles of the terminal's table, with decimals.
        lines: parts of a structure, one a line of that table, with the metric of each column; "" leaves
            a cell blank.
        regions: structures to measure where none are given; None takes every value found.
        settings: the constants, for the record.
        warnings: sentences about the whole.
    """

    name: str
    mode: SurfaceMode
    measure: Measure
    columns: Mapping[str, int]
    lines: Mapping[str, tuple[str, ...]]
    regions: StructureSet | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def extended(
        self,
        case: CaseResult,
        predicted: LabelMap | None,
        reference: LabelMap,
        structures: StructureSet,
        threads: int,
    ) -> CaseResult:
        """The case with this protocol's values beside the usual ones; None predicts nothing."""
        rows = []
        for row, structure in zip(case.rows, structures, strict=True):
            here = structures.mask(reference.array, structure)
            there = np.zeros_like(here) if predicted is None else structures.mask(predicted.array, structure)
            values = self.measure(here, there, reference.grid, threads=threads)
            rows.append(replace(row, metrics={**row.metrics, **values}))
        return replace(case, rows=tuple(rows))

    def case_table(self, case: CaseResult) -> tuple[tuple[str, ...], ...]:
        """The table of one case, header first."""
        rows = [
            (printable(row.name), part, *(self._cell(row.metrics, *cell) for cell in self._cells(metrics)))
            for row in case.rows
            for part, metrics in self.lines.items()
        ]
        return ("Structure", "Part", *self.columns), *rows

    def cohort_table(self, rows: Sequence[CohortRow]) -> tuple[tuple[str, ...], ...]:
        """The table of many cases, header first: means, beside how many and how many infinite."""
        found = {(row.structure, row.metric): row for row in rows}
        names = dict.fromkeys(row.structure for row in rows)
        head = ("Structure", "Part", "n", "Missed", *(f"Mean {title}" for title in self.columns), "Infinite")
        lines = [
            (printable(name), part, *self._cohort_cells(name, metrics, found))
            for name in names
            for part, metrics in self.lines.items()
        ]
        return head, *lines

    def _cells(self, metrics: Sequence[str]) -> list[tuple[str, int]]:
        return list(zip(metrics, self.columns.values(), strict=True))

    def _cell(self, values: Mapping[str, Value], metric: str, digits: int) -> str:
        return measure(values[metric], digits) if metric else ""

    def _cohort_cells(
        self, name: str, metrics: Sequence[str], rows: Mapping[tuple[str, str], CohortRow]
    ) -> tuple[str, ...]:
        found = [rows.get((name, metric)) for metric in metrics if metric]
        first = found[0]
        means = (
            numbers.number(row.mean if (row := rows.get((name, metric))) else None, digits) if metric else ""
            for metric, digits in zip(metrics, self._mean_digits(), strict=True)
        )
        return (
            str(first.n if first else 0),
            str(first.n_missed if first else 0),
            *means,
            str(max(row.n_inf if row else 0 for row in found)),
        )

    def _mean_digits(self) -> tuple[int, ...]:
        """Decimals of means: a mean of whole numbers has one."""
        return tuple(max(digits, 1) for digits in self.columns.values())


def protocol(name: str, *, anchors: promise12.Anchors | None = None) -> Protocol:
    """The protocol of a name.

    Args:
        name: one of `NAMES`.
        anchors: what a second observer reached, for `promise12` alone.

    Raises:
        UsageError: there is no such protocol, or it takes no anchors.
    """
    if name not in NAMES:
        raise UsageError(f"there is no protocol named {name!r}", hint=did_you_mean(name, NAMES))
    if name == "promise12":
        return _promise12(anchors)
    if anchors is not None:
        raise UsageError(f"the protocol {name} has no score, and takes no anchors")
    rule = LESION_RULES[name]
    return Protocol(
        name,
        mode="surfel",
        measure=partial(lesions.lesion_values, rule=rule),
        columns=LESION_COLUMNS,
        lines={"lesions": tuple(lesions.UNITS)},
        regions=lesions.BRATS2023_REGIONS,
        settings=specs.to_mapping(rule),
    )


def _promise12(anchors: promise12.Anchors | None) -> Protocol:
    scores = 0 if anchors is None else 1
    lines = {
        region: (*(start + measure for measure in promise12.MEASURES), *[f"{region}_score"] * scores)
        for region, start in promise12.REGIONS.items()
    }
    if anchors is not None:
        lines["all"] = (*[""] * len(promise12.MEASURES), "score")
    return Protocol(
        "promise12",
        mode="voxel",
        measure=partial(promise12.promise12_values, anchors=anchors),
        columns=dict(list(PROMISE12_COLUMNS.items())[: len(promise12.MEASURES) + scores]),
        lines=lines,
        settings={"anchors": None if anchors is None else specs.to_mapping(anchors)},
        warnings=() if anchors else (WITHOUT_ANCHORS,),
    )


def read_anchors(path: Path) -> promise12.Anchors:
    """What a second observer reached, from a TOML or JSON file of the fields of `Anchors`.

    Raises:
        InputError: the file cannot be read, or says something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as fault:
        raise InputError.unreadable(fault, path) from None
    except (ValueError, RecursionError) as fault:
        raise InputError(f"is neither TOML nor JSON ({fault})", source=path) from None
    if not isinstance(data, dict):
        raise InputError("contains no anchors", source=path, hint="give the parts whole, base and apex")
    return specs.from_mapping(promise12.Anchors, data, source=str(path), error=InputError)


def require_surface(tolerance_mm: Tolerance, surface: bool, mode: SurfaceMode = "surfel") -> None:
    """Refuse a tolerance where no surface Dice is measured.

    Raises:
        UsageError: distances are left out, or measured between border voxels.
    """
    if tolerance_mm is None or (surface and mode == "surfel"):
        return
    why = f"and the mode {mode} has no surface Dice" if surface else "and no distances are measured"
    hint = "drop --tolerance" + (", or measure in the mode surfel" if surface else " or --no-surface")
    raise UsageError(f"a tolerance is given for the surface Dice, {why}", hint=hint)
