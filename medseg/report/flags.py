"""What a reader must know before the numbers: cut structures, pieces, sides, nothing found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg import affine as aff
from medseg.report.planes import tilt_degrees
from medseg.structures import StructureSet, value_counts
from medseg.volume import Grid

TILTED_DEGREES = 10.0
SHEARED_DEGREES = 1.0

PIECE_SHARE = 0.05
"""A piece that holds less of its structure does not count as one: a speck."""
NAMED = 3
"""Structures that get a sentence each; more of one kind share one."""
VOLUME_SLACK = 1.25
"""How many times beyond the volumes met in training a structure is pointed out; the training data are few."""
LISTED = 8
"""Structures that a shared sentence names."""

NO_ORIENTATION = (
    "The file does not say where the patient's right and left are. Slices are shown as stored, "
    "without letters and positions."
)


@dataclass(frozen=True)
class Flag:
    """A sentence a reader must see before the numbers.

    Attributes:
        text: the sentence.
        structure: the structure it is about; None for the whole scan.
    """

    text: str
    structure: str | None = None


def find(
    labels: NDArray[np.integer[Any]],
    grid: Grid,
    structures: StructureSet,
    *,
    orientation_known: bool = True,
    warnings: Sequence[str] = (),
    expected_ml: Mapping[str, tuple[float, float]] | None = None,
    expected_pieces: Mapping[str, float] | None = None,
) -> tuple[Flag, ...]:
    """Everything about one segmentation that a reader must see first.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: what the values mean.
        orientation_known: False leaves out the check of left and right, and says so.
        warnings: sentences of the reader of the files, repeated as they are.
        expected_ml: smallest and largest volume met in training, by structure name.
        expected_pieces: most pieces to expect, specks left out, by structure name; 1 where not said.
    """
    flags = [Flag(sentence(w)) for w in dict.fromkeys(warnings)]
    pieces_at_most = expected_pieces or {}
    flags += _about_the_grid(grid, orientation_known)
    count = value_counts(labels)
    flags += _unknown_values(count, structures)
    found = {s.name: sum(count.get(v, 0) for v in s.members or (s.value,)) for s in structures}
    if not any(found.values()):
        return (*flags, Flag("The model labelled no voxels in this scan."))
    boxes = _boxes(labels, structures)
    centres: dict[str, NDArray[np.float64]] = {}
    doubts = _Doubts()
    for structure in structures:
        if not found[structure.name]:
            doubts.absent[structure.name] = ""
            continue
        box = _union([boxes[v] for v in structure.members or (structure.value,) if v in boxes])
        mask = structures.mask(labels[box], structure)
        if _is_cut(box, grid):
            doubts.cut[structure.name] = ""
        if said := _in_pieces(mask, pieces_at_most.get(structure.name, 1)):
            doubts.pieces[structure.name] = said
        middle = [m + s.start for m, s in zip(ndimage.center_of_mass(mask), box, strict=True)]
        centres[structure.name] = aff.apply(grid.affine, middle)
    if orientation_known:
        flags += _about_the_sides(structures, centres)
    volumes = {name: n * grid.voxel_volume_mm3 / 1000 for name, n in found.items()}
    doubts.compare(volumes, expected_ml or {})
    return (*flags, *doubts.flags())


def sentence(text: str) -> str:
    """The text with a capital and a full stop.

    >>> sentence("both forms disagree")
    'Both forms disagree.'
    """
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _about_the_grid(grid: Grid, orientation_known: bool) -> Iterator[Flag]:
    if not orientation_known:
        yield Flag(NO_ORIENTATION)
    elif (tilt := tilt_degrees(grid)) > TILTED_DEGREES:
        yield Flag(
            f"The scan is tilted by up to {tilt:.0f}° against the patient's axes. Slices follow the "
            "scan; letters name the nearest direction."
        )
    if (shear := aff.shear_degrees(grid.affine)) > SHEARED_DEGREES:
        yield Flag(f"The scan's axes are {shear:.1f}° off a right angle. The slices are shown as if square.")


def _unknown_values(count: Mapping[int, int], structures: StructureSet) -> Iterator[Flag]:
    known = set(structures.known_values) | set(structures.values)
    strange = {value: n for value, n in count.items() if value not in known}
    if strange:
        listed = ", ".join(f"{value} ({n} voxels)" for value, n in list(strange.items())[:8])
        yield Flag(f"The label map holds values that no structure has, left out here: {listed}.")


def _boxes(labels: NDArray[np.integer[Any]], structures: StructureSet) -> dict[int, tuple[slice, ...]]:
    """Bounding box of each label value the structures have; other values are passed over."""
    found = ndimage.find_objects(labels, max_label=max(0, *structures.known_values))
    return {n + 1: box for n, box in enumerate(found) if box is not None}


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(
        slice(min(s.start for s in side), max(s.stop for s in side)) for side in zip(*boxes, strict=True)
    )


@dataclass(frozen=True)
class _Doubts:
    """What is doubtful about structures, by kind: name of the structure, and what to say of it."""

    absent: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    pieces: dict[str, str] = field(default_factory=dict)
    smaller: dict[str, str] = field(default_factory=dict)
    larger: dict[str, str] = field(default_factory=dict)

    def compare(self, volumes: Mapping[str, float], expected_ml: Mapping[str, tuple[float, float]]) -> None:
        """Volumes beyond those of the training data by more than `VOLUME_SLACK`."""
        for name, volume in volumes.items():
            low, high = expected_ml.get(name, (0.0, np.inf))
            if volume and not low / VOLUME_SLACK <= volume <= high * VOLUME_SLACK:
                kind = self.smaller if volume < low else self.larger
                kind[name] = f"{volume:.3g} ml against {low:.3g} to {high:.3g} ml"

    def flags(self) -> Iterator[Flag]:
        """A sentence a structure, or one for many."""
        none = "The model labelled no voxels as"
        yield from _told(self.absent, f"{none} {{0}}.", none)
        cut = "{0} reaches the edge of the scan; part of it may lie outside."
        yield from _told(self.cut, cut, "These reach the edge of the scan, and parts may lie outside:")
        yield from _told(self.pieces, "{0} is in {1}.", "These are in separate pieces:")
        for kind, side in ((self.smaller, "smaller"), (self.larger, "larger")):
            one = f"{{0}} is {side} than any in the training data: {{1}}."
            yield from _told(kind, one, f"These are {side} than any in the training data:")


def _told(kind: Mapping[str, str], one: str, many: str) -> Iterator[Flag]:
    if len(kind) <= NAMED:
        yield from (Flag(one.format(name, said), name) for name, said in kind.items())
        return
    listed = [f"{name} ({said})" if said else name for name, said in list(kind.items())[:LISTED]]
    more = f" and {len(kind) - LISTED} more" if len(kind) > LISTED else ""
    yield Flag(f"{many} {', '.join(listed)}{more}.")


def _is_cut(box: Sequence[slice], grid: Grid) -> bool:
    """Whether a structure reaches the edge of the scan along an axis of more than one voxel."""
    return any(n > 1 and (s.start == 0 or s.stop == n) for s, n in zip(box, grid.shape, strict=True))


def count_pieces(mask: NDArray[np.bool_]) -> int:
    """How many pieces of a mask (I, J, K) are more than specks.

    >>> count_pieces(np.array([1, 0, 1, 1], dtype=bool)[:, None, None])
    2
    """
    return _counted(_piece_sizes(mask))


def _piece_sizes(mask: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    """Voxels of each 26-connected piece."""
    found = cc3d.connected_components(mask.astype(np.uint8, order="C"), connectivity=26)  # bool may fail
    return np.bincount(found.ravel())[1:]


def _counted(sizes: NDArray[np.integer[Any]]) -> int:
    return int(np.count_nonzero(sizes >= PIECE_SHARE * sizes.sum()))


def _in_pieces(mask: NDArray[np.bool_], at_most: float) -> str:
    """How many pieces there are, when too many of them are more than specks."""
    sizes = _piece_sizes(mask)
    if _counted(sizes) <= at_most:
        return ""
    share = min(100 * sizes.max() / sizes.sum(), 99.9)
    return f"{len(sizes)} separate pieces; the largest holds {share:.1f} % of it"


def _about_the_sides(structures: StructureSet, centres: Mapping[str, NDArray[np.float64]]) -> Iterator[Flag]:
    """World x grows to the patient's right, so a left structure's centre has the smaller x."""
    for structure in structures:
        twin = structure.twin
        if structure.side != "left" or twin is None or not {structure.name, twin} <= centres.keys():
            continue
        if centres[structure.name][0] >= centres[twin][0]:
            yield Flag(
                f"The centre of {structure.name} lies to the right of the centre of {twin}. "
                "Left and right may be exchanged.",
                structure.name,
            )
