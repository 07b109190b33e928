"""Real heads with labels: how they are read, and what a label map of one is worth.

They are measured on and settings are chosen with them; no network is trained on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import medseg
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.io import read_labels
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice

SCAN, LABELS = "_t1.nii.gz", "_labels.nii.gz"

UNLABELLED = "cerebrospinal fluid"
"""Fluid outside the ventricles has no label in these heads and is not scored."""


@dataclass(frozen=True)
class Head:
    """One head: its name, its scan and its labels."""

    name: str
    volume: Volume
    labels: LabelMap


def names(folder: Path) -> list[str]:
    """The heads of a folder."""
    return sorted(path.name.removesuffix(SCAN) for path in folder.glob(f"*{SCAN}"))


def read(folder: Path, chosen: Sequence[str] = ()) -> Iterator[Head]:
    """Heads one by one; all by default."""
    for name in chosen or names(folder):
        yield Head(name, medseg.read(folder / f"{name}{SCAN}"), read_labels(folder / f"{name}{LABELS}"))


def halves(folder: Path) -> tuple[list[str], list[str]]:
    """Every second head, and the others: both halves hold both sources."""
    found = names(folder)
    return found[::2], found[1::2]


def dices(labels: np.ndarray, head: Head, structures: StructureSet) -> dict[str, float]:
    """Dice of every structure that is labelled."""
    counts = joint_counts(head.labels.array, labels, structures)
    return {name: dice(count) for name, count in counts.items() if name != UNLABELLED}


def mean(row: Mapping[str, float]) -> float:
    """Of the 31 structures of a head."""
    return float(np.nanmean(list(row.values())))


def by_structure(rows: Sequence[Mapping[str, float]], structures: StructureSet) -> dict[str, float]:
    """Mean over heads and both sides."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(structures.unsided(name), []).append(value)
    return {name: float(np.nanmean(values)) for name, values in found.items()}
