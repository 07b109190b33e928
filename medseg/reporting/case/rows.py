"""Rows of a page that follow from volumes and names: lesions, left and right, shares of the head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from medseg.core.structures import StructureSet
from medseg.reporting.case.content import AsymmetryRow, StructureRow
from medseg.reporting.drawing.style import sideless

INTRACRANIAL = re.compile(r"(?i)\bintracranial\b")


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
