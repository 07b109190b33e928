"""The source of a dataset: its cases and label names, by its layout or by a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from medseg.augment.spec import Tissue
from medseg.core.errors import UsageError, did_you_mean
from medseg.core.structures import Structure, StructureSet, from_labels, value_counts
from medseg.data.cards import Card, available, load_card
from medseg.data.layouts import LAYOUTS, DatasetFiles, LayoutName, masks, read_layout
from medseg.io import ReadOptions, inspect, read_labels
from medseg.io.names import COLOURS

CARDS = {
    "brats": "brats",
    "brats2020": "brats",
    "brats2023": "brats",
    "promise12": "promise12",
    "prostatex": "prostatex",
}
"""Cards of the layouts of one dataset each; BRATS by year too, where 2013 has a card of its own."""

SOURCES = tuple(dict.fromkeys((*LAYOUTS, "brats2013", *CARDS)))


@dataclass(frozen=True)
class Origin:
    """A dataset.

    Attributes:
        files: its cases, and what the folder states.
        channels: that every case has, in order.
        known_channels: that the cases may have, in order.
        structures: what label values mean.
        tissues: of a dataset of label maps alone, what each value is painted like.
        name, description, licence: as its card says, or its folder.
    """

    files: DatasetFiles
    channels: tuple[str, ...]
    known_channels: tuple[str, ...]
    structures: StructureSet
    tissues: tuple[Tissue, ...]
    name: str
    description: str
    licence: str


def origin(folder: Path, layout: str, *, complete: bool, reading: ReadOptions | None = None) -> Origin:
    """The dataset in a folder.

    Args:
        folder: of the dataset.
        layout: one of `SOURCES`, or the name or path of a card.
        complete: refuse missing files, rather than leave them to the reader.
        reading: decisions that the files leave open.

    Raises:
        UsageError: there is neither a layout nor a card of that name.
        InputError: the folder is not as its layout or card says.
    """
    if layout not in LAYOUTS or layout in CARDS:
        return described(folder, _card(CARDS.get(layout, layout)), complete=complete, reading=reading)
    files = read_layout(folder, cast(LayoutName, layout), complete=complete).read_with(
        reading or ReadOptions()
    )
    about = folder.resolve().name, f"Converted from {layout}", files.licence
    channels = _channels(files)
    return Origin(files, channels, channels, _structures(files, layout), (), *about)


def described(folder: Path, card: Card, *, complete: bool, reading: ReadOptions | None = None) -> Origin:
    """The dataset in a folder, with the channels of its card that every case has.

    Raises:
        InputError: the folder contradicts the card.
    """
    files = card.read(folder, complete=complete, reading=reading)
    card = card.adopting(files)
    there = tuple(n for n in card.channels if all(n in (c.channels or card.channels) for c in files.cases))
    about = card.name, card.description, card.licence
    return Origin(files, there, card.channels, card.structure_set, card.tissues, *about)


def _card(name: str) -> Card:
    known = available("datasets")
    if Path(name).suffix != ".toml" and name not in known:
        hint = did_you_mean(name, dict.fromkeys((*SOURCES, *known)))
        raise UsageError(f"there is neither a layout nor a card named {name!r}", hint=hint)
    return load_card(name)


def _channels(files: DatasetFiles) -> tuple[str, ...]:
    """Channels that a folder states, or else as many as its first scan has."""
    first = files.cases[0]
    if files.channels or first.image == first.label:
        return files.channels
    count = inspect(first.image).channels
    usual: dict[int, Sequence[str]] = {1: ("image",), len(COLOURS): COLOURS}
    return tuple(usual.get(count, [f"channel {n}" for n in range(count)]))


def _structures(files: DatasetFiles, layout: str) -> StructureSet:
    """Structures that a folder states, or that its masks are named for, or else its label values."""
    if files.regions:
        return StructureSet(files.regions, files.ignore)
    if layout == "masks":
        names = masks.mask_names(files.cases)
        return from_labels([Structure(n, name.replace("_", " ")) for n, name in enumerate(names, start=1)])
    if files.labels:
        return from_labels(files.labels, files.ignore)
    found = {v for case in files.cases if case.label for v in value_counts(read_labels(case.label).array)}
    return from_labels({value: f"label {value}" for value in sorted(found - {0})})
