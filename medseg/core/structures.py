"""Structures: names, sides and colours of label values."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import Slices, cut_at, label_boxes, outer_faces, union
from medseg.core.colours import PALETTE
from medseg.core.errors import InputError, UsageError, counted, unknown_name
from medseg.core.sides import Side, side_of, without_side
from medseg.core.volume import Grid

COUNTED_AT_ONCE = 2**20
"""Labels widened to 64 bits at a time while they are counted."""
VALUES_NAMED = 10
"""Unknown label values named in a message before the rest is counted."""

IGNORED = 255
"""The index of unlabelled voxels; label indices are bytes."""

MAX_INDICES = IGNORED

LESIONS = re.compile(r"(?i)\b(tumou?r|lesion|metastas[ei]s|infarct|ha?emorrhage|microbleed)s?\b")
"""Names of what comes in any number of pieces, none of which may be missed."""


@dataclass(frozen=True)
class Structure:
    """One label value, or a region made of several.

    Attributes:
        value: the label written for it.
        name: what people call it.
        side: left, right or none.
        twin: name of the same structure on the other side.
        colour: `#rrggbb`; chosen by the value when empty.
        members: label values a region unites; empty for a plain label.
    """

    value: int
    name: str
    side: Side = "none"
    twin: str | None = None
    colour: str = ""
    members: tuple[int, ...] = ()

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label values it consists of: the members of a region, or its own."""
        return self.members or (self.value,)


@dataclass(frozen=True)
class Total:
    """A volume that structures make up together, such as the intracranial one.

    Attributes:
        name: what people call it.
        values: label values of the structures; empty for all.
    """

    name: str
    values: tuple[int, ...] = ()

    def voxels(self, labels: NDArray[np.integer]) -> int:
        """How many voxels of a label array it has."""
        return int(np.isin(labels, self.values).sum() if self.values else np.count_nonzero(labels))


@dataclass(frozen=True)
class StructureSet:
    """The structures of a dataset or model, without the background.

    Either all are plain labels (softmax outputs, plus background) or all are regions
    (overlapping sigmoid outputs, painted in the order listed).

    Attributes:
        items: the structures.
        ignore: label value of unlabelled voxels, which may be anything: no training learns from
            them, and no measure counts them. None where there is no such value.

    Raises:
        UsageError: names or values repeat, a twin is unknown, not mutual or not on the other side,
            labels and regions are mixed, the background is in a region, or a structure has the value that is
            to be ignored.
    """

    items: tuple[Structure, ...] = field(default=())
    ignore: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", _coloured(self.items))
        _check(self)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, name: str) -> Structure:
        for structure in self.items:
            if structure.name == name:
                return structure
        raise unknown_name("structure", name, self.names)

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
        """Every label value that a reference may contain, background 0 included."""
        return (0, *self.label_values)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Every label value that the structures consist of, sorted."""
        return tuple(sorted({v for s in self.items for v in s.label_values}))

    @property
    def index_values(self) -> tuple[int, ...]:
        """The label value each index of `encode` stands for; for labels, the network's outputs."""
        return self.known_values if self.are_regions else (0, *self.values)

    @property
    def values_by_index(self) -> NDArray[np.int64]:
        """A table (256,) that undoes `encode`; what is ignored becomes background."""
        table = np.zeros(IGNORED + 1, np.int64)
        table[: len(self.index_values)] = self.index_values
        return table

    def encode(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Label values as indices into `index_values`, same shape; `IGNORED` where they are to be ignored.

        Raises:
            InputError: a value that no structure has, with the number of its voxels.
            UsageError: there are more than 254 structures.
        """
        if len(self.index_values) > MAX_INDICES:
            raise UsageError(
                f"a training takes at most {MAX_INDICES} label values, not {len(self.index_values)}"
            )
        index = {value: n for n, value in enumerate(self.index_values)}
        index |= {} if self.ignore is None else {self.ignore: IGNORED}
        found = np.array(list(self.require_known(labels)), dtype=labels.dtype)
        indices = np.array([index[int(v)] for v in found], dtype=np.uint8)
        encoded: NDArray[np.uint8] = indices[np.searchsorted(found, labels)]
        return encoded

    def require_known(self, labels: NDArray[np.integer]) -> dict[int, int]:
        """Voxels of each value of a label array.

        Raises:
            InputError: a value that no structure has, with the number of its voxels.
        """
        counts = value_counts(labels)
        unknown = {value: n for value, n in counts.items() if value not in (*self.index_values, self.ignore)}
        if unknown:
            raise InputError(
                unknown_values(unknown),
                hint=f"declare them in the card, which declares {', '.join(map(str, self.known_values))}",
            )
        return counts

    def region_table(self) -> NDArray[np.bool_]:
        """Whether region r (rows) contains the label of index n (columns) of `index_values`."""
        rows = [[v in s.members for v in self.index_values] for s in self.items]
        return np.array(rows, dtype=bool)

    @property
    def output_channels(self) -> int:
        """Network outputs: one per region, or one per label plus the background."""
        return len(self) if self.are_regions else len(self) + 1

    def twins(self) -> tuple[tuple[int, int], ...]:
        """Pairs of label values that are swapped when left and right are."""
        by_name = {s.name: s for s in self.items}
        return tuple((s.value, by_name[s.twin].value) for s in self.items if s.twin and s.side == "left")

    def twin_channels(self) -> tuple[int, ...]:
        """For each network output, the output it becomes under a left-right flip."""
        offset = 0 if self.are_regions else 1
        index = {s.name: n + offset for n, s in enumerate(self.items)}
        return (*range(offset), *(index[s.twin or s.name] for s in self.items))

    def unsided(self, name: str) -> str:
        """The name of a structure without its side: see `without_side`."""
        return without_side(name, self[name].side)

    def meant(self, name: str) -> tuple[Structure, ...]:
        """The structures that a name stands for: the one of that name, or both sides of a name without side.

        Raises:
            UsageError: no structure has this name.

        >>> eyes = StructureSet((Structure(1, "left eye", "left"), Structure(2, "right eye", "right")))
        >>> [s.value for s in eyes.meant("eye")], [s.value for s in eyes.meant("left eye")]
        ([1, 2], [1])
        """
        found = tuple(s for s in self.items if name in (s.name, self.unsided(s.name)))
        if not found:
            known = dict.fromkeys((*self.names, *map(self.unsided, self.names)))
            raise unknown_name("structure", name, known)
        return found

    def voxels(self, count: Mapping[int, int]) -> dict[str, int]:
        """Voxels of each structure by name, 0 if absent.

        Args:
            count: voxels of each label value, as `value_counts` gives them.
        """
        return {s.name: sum(count.get(v, 0) for v in s.label_values) for s in self.items}

    def volumes_ml(self, count: Mapping[int, int], grid: Grid) -> dict[str, float]:
        """Volume of each structure by name, 0 if absent.

        Args:
            count: voxels of each label value, as `value_counts` gives them.
            grid: where the voxels are.
        """
        return {name: grid.volume_ml(n) for name, n in self.voxels(count).items()}

    def at_edge(self, labels: NDArray[np.integer]) -> frozenset[str]:
        """Names of the structures that reach the edge of a label array (I, J, K): see `edge_values`."""
        outer = edge_values(labels)
        return frozenset(s.name for s in self.items if not outer.isdisjoint(s.label_values))

    def boxes(self, labels: NDArray[np.integer]) -> dict[str, Slices]:
        """The smallest box around each structure of a label array, by name."""
        found = label_boxes(labels, self.label_values)
        inside = {s.name: [found[v] for v in s.label_values if v in found] for s in self.items}
        return {name: union(boxes) for name, boxes in inside.items() if boxes}

    @property
    def lesions(self) -> tuple[str, ...]:
        """Names of the structures whose name marks them as lesions.

        >>> from_labels({1: "prostate", 2: "enhancing tumour"}).lesions
        ('enhancing tumour',)
        """
        return tuple(name for name in self.names if LESIONS.search(name))

    def mask(self, labels: NDArray[np.integer], structure: Structure) -> NDArray[np.bool_]:
        """Voxels of one structure or region in a label array."""
        if structure.members:
            return np.isin(labels, structure.members)
        return np.asarray(labels == structure.value)


def from_labels(labels: dict[int, str] | Sequence[Structure], ignore: int | None = None) -> StructureSet:
    """A set from `{value: name}`, or from structures; with the value to be ignored, if there is one.

    Where neither side nor twin is given, both are what the name states (see `side_of`).

    >>> from_labels({1: "left kidney", 2: "right kidney"}).twins()
    ((1, 2),)
    """
    if isinstance(labels, dict):
        labels = [Structure(value, name) for value, name in labels.items()]
    open_names = {s.name for s in labels if _is_open(s)}
    return StructureSet(tuple(_completed(s, open_names) if _is_open(s) else s for s in labels), ignore)


def _coloured(structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """The structures with colours: by their values, whatever else is in the set, while the palette lasts."""
    colours = {s.value: s.colour for s in structures if s.colour}
    for value in sorted(s.value for s in structures if not s.colour):
        turned = [PALETTE[(value - 1 + n) % len(PALETTE)] for n in range(len(PALETTE))]
        free = (colour for colour in turned if colour not in colours.values())
        colours[value] = turned[0] if value <= len(PALETTE) else next(free, turned[0])
    return tuple(replace(s, colour=s.colour or colours[s.value]) for s in structures)


def _is_open(structure: Structure) -> bool:
    return structure.side == "none" and structure.twin is None


def _completed(structure: Structure, names: Container[str]) -> Structure:
    side, twin = side_of(structure.name)
    return replace(structure, side=side, twin=twin if twin in names else None)


def _check(structures: StructureSet) -> None:
    names, values = structures.names, structures.values
    if len(set(names)) != len(names) or len(set(values)) != len(values):
        raise UsageError(
            f"two structures have the same name or the same value: {list(zip(values, names, strict=True))}"
        )
    if 0 in values:
        raise UsageError("value 0 is the background and cannot be a structure")
    if structures.ignore is not None and structures.ignore in structures.known_values:
        raise UsageError(f"the value {structures.ignore} is both the ignored label and a structure")
    if structures.are_regions and not all(s.members for s in structures):
        raise UsageError("labels and regions are mixed", hint="give every region its members")
    for s in structures:
        if 0 in s.members:
            raise UsageError(f"the region {s.name!r} contains 0, the background")
        if s.twin is not None:
            _check_twin(s, {other.name: other for other in structures}.get(s.twin))


def _check_twin(structure: Structure, twin: Structure | None) -> None:
    if twin is None or twin.twin != structure.name:
        raise UsageError(
            f"{structure.name!r} has the twin {structure.twin!r}, but {structure.twin!r} does not have "
            f"the twin {structure.name!r}"
        )
    if {structure.side, twin.side} != {"left", "right"}:
        raise UsageError(
            f"the twins {structure.name!r} and {twin.name!r} have the sides {structure.side} and {twin.side}",
            hint="set the side of one to left and of the other to right",
        )


def edge_values(labels: NDArray[np.integer]) -> frozenset[int]:
    """Values found in the outermost voxels, in the faces of `outer_faces`.

    >>> sorted(edge_values(np.pad([[5, 5]], 1)[:, :3]))
    [0, 5]
    """
    faces = [cut_at(labels, end, axis).ravel() for axis, end in outer_faces(labels.shape)]
    return frozenset(value_counts(np.concatenate(faces)) if faces else ())


def unknown_values(counts: Mapping[int, int]) -> str:
    """The fault of label values that are not declared; of many, as an image has them, the rest is counted.

    >>> unknown_values({5: 1, 7: 3})
    'unknown label values 5 (1 voxel), 7 (3 voxels)'
    >>> unknown_values(dict.fromkeys(range(100, 115), 1)).partition("109 (1 voxel)")[2]
    ' and 5 more'
    """
    named = [f"{value} ({counted(n, 'voxel')})" for value, n in list(counts.items())[:VALUES_NAMED]]
    more = len(counts) - len(named)
    return f"unknown label values {', '.join(named)}" + (f" and {more} more" if more else "")


def value_counts(labels: NDArray[np.integer]) -> dict[int, int]:
    """Voxels of each value that there is, smallest value first.

    >>> value_counts(np.array([[3, 0], [3, 3]], np.uint8))
    {0: 1, 3: 3}
    """
    if labels.dtype not in (np.uint8, np.uint16):
        values, counts = np.unique(labels, return_counts=True)
        return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    flat = labels.ravel(order="K")
    total = np.zeros(np.iinfo(labels.dtype).max + 1, np.int64)
    for start in range(0, flat.size, COUNTED_AT_ONCE):
        total += np.bincount(flat[start : start + COUNTED_AT_ONCE], minlength=total.size)
    return {int(v): int(total[v]) for v in np.flatnonzero(total)}
