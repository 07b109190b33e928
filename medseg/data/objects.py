"""Which object of its structure a voxel of a case belongs to, as the dataset's card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from medseg.core.components import components
from medseg.core.errors import InputError, counted
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding
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
    numbers = numbers_beside(path or Path(), labels)
    every = () if numbers.array.any() else np.unique(labels.array)
    odds = tuple(found.sentence for found in at_odds(numbers, labels, every))
    return replace(labels, numbers=numbers.array, warnings=(*labels.warnings, *odds))


def numbers_beside(path: Path, labels: LabelMap) -> LabelMap:
    """The map of numbers beside a label file; of one without labels, the file may be missing.

    Args:
        path: of the label file.
        labels: that it holds.

    Raises:
        InputError: there is none, or it holds a negative number.
        MedsegError: it cannot be read, or lies on another grid.
    """
    beside = instances_beside(path)
    if beside.is_file():
        return read_numbers(beside, labels.grid)
    if labels.array.any():
        raise InputError(
            f"has no map of instances beside it ({beside.name})",
            source=path,
            hint="write a number for each object to that file, or take their components",
        )
    return LabelMap(np.zeros(labels.grid.shape, np.uint8), labels.grid, labels.form)


def read_numbers(path: Path, grid: Grid) -> LabelMap:
    """A map of numbers; see `numbers_beside`."""
    numbers = read_labels(path)
    grid.require(numbers.grid, "segmentation and instances", str(path))
    if (least := int(numbers.array.min())) < 0:
        raise InputError(f"contains the number {least}", source=path, hint="number objects from 1 on")
    return numbers


def at_odds(numbers: LabelMap, labels: LabelMap, told_apart: ArrayLike = ()) -> tuple[Finding, ...]:
    """Doubts where numbers and labels contradict each other; a structure none of whose voxels has a number
    is one that is not told apart.

    Args:
        numbers: of the objects.
        labels: on the same grid.
        told_apart: values of structures that are told apart, even if no voxel here has a number.
    """
    numbered, labelled = numbers.array > 0, labels.array > 0
    if labels.ignore is not None:
        labelled &= labels.array != labels.ignore
        numbered &= labels.array != labels.ignore
    wanted = np.union1d(labels.array[numbered & labelled], np.asarray(told_apart, labels.array.dtype))
    outside = int((numbered & ~labelled).sum())
    lacking = int((labelled & ~numbered & np.isin(labels.array, wanted)).sum())
    if not outside and not lacking:
        return ()
    said = [f"{counted(outside, 'numbered voxel')} without a label"] if outside else []
    said += [f"{counted(lacking, 'labelled voxel')} without a number"] if lacking else []
    text = f"The map of instances does not fit the labels: it has {' and '.join(said)}."
    return (Finding("instances", "doubt", text, evidence={"outside": outside, "lacking": lacking}),)
