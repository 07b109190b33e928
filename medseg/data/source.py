"""The source of a dataset: its cases and label names, by its layout or by a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.augment.spec import Tissue
from medseg.core.errors import InputError, counted, plural, unknown_name
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.data.cards import Card, available, load_card
from medseg.data.label_files import label_values
from medseg.data.layouts import LAYOUTS, DatasetFiles, layout_of, read_layout
from medseg.io import ReadOptions, inspect, read_label_file
from medseg.io.names import COLOURS

GREATEST = (255, 65535)
"""Values of white in pictures, which masks have that were saved as such."""


def cards() -> dict[str, str]:
    """Cards of the layouts of one data set each, by layout; BRATS by year too, where 2013 has its own."""
    named = {
        name: layout.card for own, layout in LAYOUTS.items() for name in (own, *layout.targets) if layout.card
    }
    return named | {name: name for name in named if name in available("datasets")}


def sources() -> tuple[str, ...]:
    """What a data set can be read as without the name of a card."""
    return tuple(dict.fromkeys((*LAYOUTS.names(), *cards())))


@dataclass(frozen=True)
class Origin:
    """A dataset.

    Attributes:
        files: its cases, and what the folder states.
        channels: that every case has, in order.
        known_channels: that the cases may have, in order.
        structures: what label values mean.
        tissues: of a dataset that contains only label maps: what each value is painted like.
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

    def for_training(self) -> Origin:
        """The dataset without its test cases, see `DatasetFiles.for_training`."""
        return replace(self, files=self.files.for_training())


def found_in(source: Path, *, complete: bool, reading: ReadOptions | None = None) -> Origin:
    """The dataset in a folder or a table, whose layout nobody named.

    Raises:
        InputError: see `layout_of` and `origin`.
    """
    return origin(source, layout_of(source), complete=complete, reading=reading)


def origin(folder: Path, layout: str, *, complete: bool, reading: ReadOptions | None = None) -> Origin:
    """The dataset in a folder.

    Args:
        folder: of the data set.
        layout: one of `sources`, or the name or path of a card.
        complete: refuse missing files, rather than leave them to the reader.
        reading: decisions that the files leave open.

    Raises:
        UsageError: neither a layout nor a card has this name.
        InputError: the folder is not as its layout or card requires.
    """
    described_by = cards().get(layout)
    if described_by or not LAYOUTS.knows(layout):
        return described(folder, _card(described_by or layout), complete=complete, reading=reading)
    files = read_layout(folder, layout, complete=complete).read_with(reading or ReadOptions())
    name = folder.resolve().stem if folder.is_file() else folder.resolve().name
    about = name, f"Converted from {layout}", files.licence
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
        raise unknown_name("layout or card", name, dict.fromkeys((*sources(), *known)))
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
    of_masks = LAYOUTS.find(layout).mask_names
    if of_masks and not files.labels and (names := of_masks(files.cases)):
        return from_labels([Structure(n, name.replace("_", " ")) for n, name in enumerate(names, start=1)])
    if files.labels:
        return from_labels(files.labels, files.ignore)
    held = {case.label: _values(case.label, case.reading) for case in files.cases if case.label}
    _require_one_convention(held)
    return from_labels({value: f"label {value}" for value in sorted(frozenset().union(*held.values()))})


def _values(label: Path, reading: ReadOptions) -> frozenset[int]:
    """The values of a label file that stand for structures.

    Raises:
        InputError: it is a scan, by the looks of it, or a value is below 0.
    """
    array = read_label_file(label, reading).array
    try:
        counts = label_values(array, label)
    except InputError as fault:
        fault.hint = "exchange it with the scan where the two are exchanged"
        raise
    if below := {value: n for value, n in counts.items() if value < 0}:
        least = min(below)
        raise InputError(
            f"contains the label value {least} ({counted(below[least], 'voxel')}), and the values of "
            "structures are 1 and more",
            source=label,
            hint="write 0 or another value there",
        )
    return frozenset(counts) - {0}


def _require_one_convention(held: Mapping[Path, frozenset[int]]) -> None:
    """Refuse masks of which some mark their structure with 1 and others with the greatest value there is.

    Args:
        held: values of each label file.

    Raises:
        InputError: naming one file of each kind.
    """
    marks = frozenset().union(*held.values())
    if len(marks) != 2 or 1 not in marks or max(marks) not in GREATEST or max(map(len, held.values())) > 1:
        return
    ones, others = ([path for path, values in held.items() if mark in values] for mark in sorted(marks))
    raise InputError(
        f"marks its structure with {max(marks)}, as {counted(len(others), 'label file')} of {len(held)} "
        f"{plural(len(others), 'does', 'do')}, and {ones[0]} with 1, as {len(ones)} do: they would count as "
        "two structures",
        source=others[0],
        hint="write 1 in all of them; two structures are named in a dataset.json, "
        f'{{"labels": {{"1": "NAME", "{max(marks)}": "OTHER"}}}}',
    )
