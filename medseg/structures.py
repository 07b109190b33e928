"""Structures: what the labels mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import InputError, UsageError

Side = Literal["left", "right", "none"]

PALETTE = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c",
    "#fabebe", "#008080", "#e6beff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000",
)  # fmt: skip


@dataclass(frozen=True)
class Structure:
    """One label value, or a region made of several.

    Attributes:
        value: the label written for it.
        name: what people call it.
        side: left, right or none.
        twin: name of the same structure on the other side.
        colour: `#rrggbb`; chosen by position when empty.
        members: label values a region unites; empty for a plain label.
    """

    value: int
    name: str
    side: Side = "none"
    twin: str | None = None
    colour: str = ""
    members: tuple[int, ...] = ()


@dataclass(frozen=True)
class StructureSet:
    """The structures of a dataset or model, without the background.

    Either all are plain labels (softmax outputs, plus background) or all are regions
    (overlapping sigmoid outputs, painted in the order listed).

    Raises:
        UsageError: names or values repeat, a twin is unknown or not mutual, or labels and
            regions are mixed.
    """

    items: tuple[Structure, ...] = field(default=())

    def __post_init__(self) -> None:
        coloured = tuple(
            s if s.colour else _with_colour(s, PALETTE[n % len(PALETTE)]) for n, s in enumerate(self.items)
        )
        object.__setattr__(self, "items", coloured)
        _check(self)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, name: str) -> Structure:
        for structure in self.items:
            if structure.name == name:
                return structure
        raise UsageError(f"no structure named {name!r}; there are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.items)

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(s.value for s in self.items)

    @property
    def are_regions(self) -> bool:
        return any(s.members for s in self.items)

    @property
    def known_values(self) -> tuple[int, ...]:
        """Every label value a reference may hold, background 0 included."""
        inner = {v for s in self.items for v in (s.members or (s.value,))}
        return tuple(sorted({0} | inner))

    @property
    def index_values(self) -> tuple[int, ...]:
        """The label value each index of `encode` stands for; for labels, the network's outputs."""
        return self.known_values if self.are_regions else (0, *self.values)

    def encode(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Label values as indices into `index_values`, same shape.

        Raises:
            InputError: a value that no structure has, with the number of its voxels.
        """
        found, counts = np.unique(labels, return_counts=True)
        unknown = {int(v): int(n) for v, n in zip(found, counts, strict=True) if v not in self.index_values}
        if unknown:
            raise InputError(
                "unknown label values " + ", ".join(f"{v} ({n} voxels)" for v, n in unknown.items()),
                mend=f"declare them in the card; it has {', '.join(map(str, self.known_values))}",
            )
        order = np.argsort(self.index_values)
        at = np.searchsorted(np.asarray(self.index_values)[order], found)
        indices = order[at].astype(np.uint8)
        encoded: NDArray[np.uint8] = indices[np.searchsorted(found, labels)]
        return encoded

    def region_table(self) -> NDArray[np.bool_]:
        """Whether region r (rows) holds the label of index n (columns) of `index_values`."""
        rows = [[v in s.members for v in self.index_values] for s in self.items]
        return np.array(rows, dtype=bool)

    @property
    def output_channels(self) -> int:
        """Network outputs: one a region, or one a label plus the background."""
        return len(self) if self.are_regions else len(self) + 1

    def twins(self) -> tuple[tuple[int, int], ...]:
        """Pairs of label values that trade places when left and right do."""
        by_name = {s.name: s for s in self.items}
        return tuple((s.value, by_name[s.twin].value) for s in self.items if s.twin and s.side == "left")

    def twin_channels(self) -> tuple[int, ...]:
        """For each network output, the output it becomes under a left-right flip."""
        offset = 0 if self.are_regions else 1
        index = {s.name: n + offset for n, s in enumerate(self.items)}
        return (*range(offset), *(index[s.twin or s.name] for s in self.items))

    def mask(self, labels: NDArray[np.integer], structure: Structure) -> NDArray[np.bool_]:
        """Voxels of one structure or region in a label array."""
        if structure.members:
            return np.isin(labels, structure.members)
        return np.asarray(labels == structure.value)


def from_labels(labels: dict[int, str] | Sequence[Structure]) -> StructureSet:
    """A set from `{value: name}`; sides and twins are found in the names (see `side_of`).

    >>> from_labels({1: "left kidney", 2: "right kidney"}).twins()
    ((1, 2),)
    """
    if not isinstance(labels, dict):
        return StructureSet(tuple(labels))
    names = set(labels.values())
    items = []
    for value, name in labels.items():
        side, other = side_of(name)
        twin = other if other in names else None
        items.append(Structure(value, name, side=side, twin=twin))
    return StructureSet(tuple(items))


def side_of(name: str) -> tuple[Side, str | None]:
    """Side a name states, and the name of its twin.

    >>> side_of("Left-Thalamus")
    ('left', 'Right-Thalamus')
    >>> side_of("brain-stem")
    ('none', None)
    """
    for here, there, side in (("left", "right", "left"), ("right", "left", "right")):
        for style in (str.lower, str.capitalize, str.upper):
            words = _words(name)
            if style(here) in words:
                at = words.index(style(here))
                words[at] = style(there)
                return side, "".join(words)  # type: ignore[return-value]
    return "none", None


def _words(name: str) -> list[str]:
    out: list[str] = [""]
    for char in name:
        if char.isalnum() == (out[-1][-1:].isalnum() if out[-1] else char.isalnum()):
            out[-1] += char
        else:
            out.append(char)
    return out


def _with_colour(s: Structure, colour: str) -> Structure:
    return Structure(s.value, s.name, s.side, s.twin, colour, s.members)


def _check(structures: StructureSet) -> None:
    names, values = structures.names, structures.values
    if len(set(names)) != len(names) or len(set(values)) != len(values):
        raise UsageError(f"structure names and values must differ: {list(zip(values, names, strict=True))}")
    if 0 in values:
        raise UsageError("value 0 is the background and cannot be a structure")
    if structures.are_regions and not all(s.members for s in structures):
        raise UsageError("labels and regions cannot be mixed: give every region its members")
    by_name = {s.name: s for s in structures}
    for s in structures:
        if s.twin is not None and (s.twin not in by_name or by_name[s.twin].twin != s.name):
            raise UsageError(f"{s.name!r} names the twin {s.twin!r}, which does not name it back")
