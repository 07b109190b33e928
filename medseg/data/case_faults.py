"""Every fault of a case that cannot be read: its files are looked at one by one, as far as each can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from medseg.core.errors import GridMismatchError, MedsegError
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.data.cases import read_image, read_reference, relabelled
from medseg.data.layouts import CaseFiles
from medseg.io import inspect, read_volume, states_segments
from medseg.preparation.preparation import Preparation

T = TypeVar("T")
LARGEST = 2.0**31
"""Labels are below it."""


@dataclass
class Faults:
    """Faults in the order in which they were met, each once."""

    met: list[MedsegError] = field(default_factory=list)

    def attempt(self, path: Path, work: Callable[[], T]) -> T | None:
        """What the work returns, or None and a fault more; `path` has it, where it names no file."""
        try:
            return work()
        except MedsegError as fault:
            fault.source = fault.source or str(path)
            if (fault.source, fault.fault) not in [(f.source, f.fault) for f in self.met]:
                self.met.append(fault)
            return None


def every_fault(
    files: CaseFiles,
    first: Sequence[MedsegError],
    structures: StructureSet,
    there: Sequence[str],
    wanted: Sequence[str],
    preparation: Preparation,
) -> tuple[MedsegError, ...]:
    """All that stands against a case that cannot be read: in its files, between them, in the labels' values.

    Args:
        files: of the case.
        first: for which it could not be read.
        structures: of the dataset.
        there: channels that its images have, see `read_image`.
        wanted: those of the training.
        preparation: of the training.
    """
    faults = Faults(list(first))
    volume = faults.attempt(files.image, lambda: read_image(files, there, wanted))
    if volume is not None:
        faults.attempt(files.image, lambda: preparation.apply(volume))
        grid: Grid | None = volume.grid
    else:
        for path in (files.channels[name] for name in wanted if name in files.channels):
            faults.attempt(path, partial(read_volume, path, options=files.reading))
        grid = Faults().attempt(files.image, lambda: inspect(files.image, options=files.reading).grid)
    _look_at_labels(files, structures, grid, faults)
    return tuple(faults.met)


def _look_at_labels(files: CaseFiles, structures: StructureSet, grid: Grid | None, faults: Faults) -> None:
    """The labels' own faults, whether they lie where the image does, and what values they have."""
    label = files.label or files.image
    labels = faults.attempt(label, lambda: read_reference(files, structures, grid))
    if files.label is None:
        return
    if labels is not None:
        placed: Grid | None = labels.grid
        faults.attempt(label, lambda: structures.require_known(labels.array))
    else:
        options = files.reading.of_labels()
        placed = Faults().attempt(label, lambda: inspect(label, options=options).grid)
        whole = Faults().attempt(label, lambda: _whole_numbers(files, label))
        if whole is not None:
            faults.attempt(label, lambda: _require_known(whole, files, label, structures))
    is_told = any(isinstance(fault, GridMismatchError) and fault.source == str(label) for fault in faults.met)
    if grid is not None and placed is not None and not is_told:
        faults.attempt(label, lambda: grid.require(placed, "image and labels", source=str(label)))


def _require_known(labels: LabelMap, files: CaseFiles, label: Path, structures: StructureSet) -> None:
    structures.require_known(relabelled(labels, files.relabel, label).array)


def _whole_numbers(files: CaseFiles, label: Path) -> LabelMap | None:
    """Of a file that is no label map, the values that are whole numbers, and 0 for others.

    Returns:
        Labels (I, J, K); None where the file names its structures, whose values are not the dataset's.

    Raises:
        MedsegError: it cannot be read as an image either.
    """
    if states_segments(label):
        return None
    stored = read_volume(label, options=replace(files.reading.of_labels(), fill_nan=0.0))
    values = stored.array[0]
    whole = (values == np.rint(values)) & (np.abs(values) < LARGEST)
    return LabelMap(np.where(whole, values, 0).astype(np.int32), stored.grid)
