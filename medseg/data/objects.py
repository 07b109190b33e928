"""Which object of its structure a voxel of a case belongs to, as the dataset's card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.core.components import components
from medseg.core.errors import InputError
from medseg.core.volume import Grid, LabelMap
from medseg.io import read_labels
from medseg.io.names import instances_beside

Told = Literal["", "components", "values", "file"]
"""How objects are told apart: not at all; as connected pieces of a structure; by the values of the labels,
each of which is an object of the card's one structure; or by the map of numbers beside a label file."""


def with_objects(labels: LabelMap, told: Told, path: Path | None) -> LabelMap:
    """The labels with the numbers of their objects.

    Args:
        labels: of a case.
        told: how its objects are told apart.
        path: of the label file.

    Raises:
        InputError: there is no map of numbers.
        GridMismatchError: it lies on another grid.
    """
    if not told:
        return labels
    if told == "components":
        known = labels.array if labels.ignore is None else labels.array * (labels.array != labels.ignore)
        return replace(labels, numbers=components(known))
    if told == "values":
        known = labels.array > 0
        return replace(labels, array=known.astype(np.uint8), numbers=np.where(known, labels.array, 0))
    numbers = numbers_beside(path or Path(), labels.grid)
    return replace(labels, numbers=numbers.array)


def numbers_beside(labels: Path, grid: Grid) -> LabelMap:
    """The map of numbers beside a label file.

    Raises:
        InputError: there is none, or it holds a negative number.
        MedsegError: it cannot be read, or lies on another grid.
    """
    path = instances_beside(labels)
    if not path.is_file():
        raise InputError(
            f"has no map of instances beside it ({path.name})",
            source=labels,
            hint="write a number for each object to that file, or take their components",
        )
    return read_numbers(path, grid)


def read_numbers(path: Path, grid: Grid) -> LabelMap:
    """A map of numbers; see `numbers_beside`."""
    numbers = read_labels(path)
    grid.require(numbers.grid, "segmentation and instances", str(path))
    if (least := int(numbers.array.min())) < 0:
        raise InputError(f"contains the number {least}", source=path, hint="number objects from 1 on")
    return numbers
