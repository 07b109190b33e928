"""What a layout is: how it is told, read and written, and what its files cannot say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medseg.core.structures import StructureSet
from medseg.data.layouts.case import CaseFiles, DatasetFiles
from medseg.data.layouts.writing import Writer


class Reader(Protocol):
    """Reads a folder; with `complete`, it refuses a data set that lacks a file."""

    def __call__(self, folder: Path, *, complete: bool = True) -> DatasetFiles: ...


def _unchanged(_structures: StructureSet) -> Mapping[int, int]:
    return {}


def _as_named(names: Mapping[str, str]) -> Mapping[str, str]:
    return names


@dataclass(frozen=True)
class Target:
    """A layout as `medseg convert` writes it.

    Attributes:
        write: writes the cases.
        offered: whether `convert` writes it; phantoms are written either way.
        holds_ignored: whether it can state which label value is ignored.
        tells_groups: whether its names tell which cases are of one person.
        require: refuses structures that it cannot store.
        values: what becomes of the label values of these structures; {} where all stay.
        names: what cases are called, from what they would be called otherwise, by their old names.
        along: the writer that cuts volumes along an axis of the patient; None where nothing is cut.
    """

    write: Writer
    offered: bool = True
    holds_ignored: bool = False
    tells_groups: bool = True
    require: Callable[[StructureSet], object] = _unchanged
    values: Callable[[StructureSet], Mapping[int, int]] = _unchanged
    names: Callable[[Mapping[str, str]], Mapping[str, str]] = _as_named
    along: Callable[[str], Writer] | None = None


@dataclass(frozen=True)
class Layout:
    """One way that datasets are stored on disk.

    Attributes:
        read: a folder's cases.
        sign: in words, what it is told by.
        fits: whether a folder has this layout, by the names of its files alone; None where they do not tell.
        targets: how it is written, by the name that `convert --to` takes: the layout's own, or one per year.
        card: of the one data set that has this layout; empty where many have it.
        mask_names: names of the structures, where each has a file of its own; of other label files none.
        of_file: whether it is a file that lists the cases, and not a folder.
    """

    read: Reader
    sign: str = ""
    fits: Callable[[Path], bool] | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    card: str = ""
    mask_names: Callable[[Sequence[CaseFiles]], tuple[str, ...]] | None = None
    of_file: bool = False
