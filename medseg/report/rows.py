"""Rows of a page that come from label maps alone: lesions, left and right, shares of the head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.lesions import GLIOMA, Lesion, LesionRule, match_lesions
from medseg.report.content import AsymmetryRow, LesionOutcome, LesionRow, StructureRow
from medseg.report.drawing import sideless
from medseg.structures import StructureSet
from medseg.volume import Grid

Labels = NDArray[np.integer[Any]]

INTRACRANIAL = re.compile(r"(?i)\bintracranial\b")


def lesion_rows(
    labels: Labels,
    reference: Labels | None,
    grid: Grid,
    structures: StructureSet,
    names: Sequence[str],
    rule: LesionRule = GLIOMA,
) -> tuple[LesionRow, ...]:
    """The lesions of the structures named; without a reference, the pieces that are labelled.

    Args:
        labels: label values of the prediction, (I, J, K).
        reference: label values of the reference, (I, J, K).
        grid: of both.
        structures: what the values mean.
        names: of the structures.
        rule: when a lesion is found; see `metrics.lesions`.

    Raises:
        UsageError: there is no structure of that name.
    """
    rows: list[LesionRow] = []
    for name in dict.fromkeys(names):
        structure = structures[name]
        predicted = structures.mask(labels, structure)
        true = np.zeros_like(predicted) if reference is None else structures.mask(reference, structure)
        match = match_lesions(true, predicted, grid, rule)
        for lesion in match.lesions:
            both = lesion.pieces > 0
            row = LesionRow(name, _outcome(lesion), lesion.volume_ml, lesion.predicted_ml)
            rows.append(replace(row, dice=lesion.dice, hd95_mm=lesion.hd95_mm) if both else row)
        alone: LesionOutcome = "labelled" if reference is None else "extra"
        rows += [LesionRow(name, alone, None, ml) for ml in match.extra_ml]
    return tuple(rows)


def _outcome(lesion: Lesion) -> LesionOutcome:
    if not lesion.counted:
        return "left out"
    return "found" if lesion.pieces else "missed"


def asymmetry_rows(rows: Sequence[StructureRow], structures: StructureSet) -> tuple[AsymmetryRow, ...]:
    """One row a pair of twins of which at least one is labelled."""
    volumes = {row.name: row.volume_ml for row in rows}
    pairs = [(s, s.twin) for s in structures if s.side == "left" and s.twin in volumes]
    return tuple(
        AsymmetryRow(sideless(left.name), volumes[left.name], volumes[right])
        for left, right in pairs
        if right is not None and (volumes[left.name] or volumes[right])
    )


def with_intracranial(
    rows: Sequence[StructureRow], totals: Sequence[tuple[str, float]]
) -> tuple[StructureRow, ...]:
    """The rows with their share of the intracranial volume, where a total or a structure is that."""
    volumes = [*totals, *((row.name, row.volume_ml) for row in rows)]
    whole = next((ml for name, ml in volumes if INTRACRANIAL.search(name)), 0.0)
    if not whole:
        return tuple(rows)
    return tuple(replace(row, icv_percent=100 * row.volume_ml / whole) for row in rows)
