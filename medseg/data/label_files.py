"""Names of label values, read from the label files themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.data.layouts.description import read_json, stated_labels
from medseg.io import ReadOptions, read_label_file, read_segments, states_segments
from medseg.io.names import format_of
from medseg.metrics.counts import present_values

MOST_VALUES = 200
"""More label values than a segmentation has whose values have no name: what holds them is a scan."""

FEW_VALUES, LEAST_EQUAL = 50, 0.5
"""More values than the first, named or not, are those of a scan where a smaller share of neighbours is equal.

Beside the background, at least 0.85 of the neighbours are equal in label maps of brains, hearts and bodies,
of up to 54 values, and at most 0.23 in scans of 68 to 256 values."""


def read_structures(path: Path) -> StructureSet:
    """Structures from a JSON file: a `dataset.json`, or `{value: name}` alone.

    See `stated_labels`. The background, value 0, is left out; "ignore" is the value that is to be ignored.

    Raises:
        InputError: the file is not such a JSON file.
        UsageError: names or values repeat.
    """
    try:
        content = read_json(path)
        stated = stated_labels(content if "labels" in content else {"labels": content}, numbered=True)
    except OSError as fault:
        raise InputError.unreadable(fault, path) from None
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as fault:
        raise InputError(
            f"does not define the labels ({fault})",
            source=path,
            hint='write {"labels": {"1": "name", ...}}',
        ) from None
    if stated.regions:
        return StructureSet(stated.regions, stated.ignore)
    if not stated.labels:
        raise InputError("defines no label besides the background", source=path, hint="add the labels")
    return from_labels(stated.labels, stated.ignore)


def held_structures(paths: Sequence[Path], reading: ReadOptions | None = None) -> StructureSet:
    """Every structure that a file of the list holds, each by the name that a file gives it, else its value.

    Segments of the same name (`.seg.nrrd`, RTSTRUCT) are one structure, with the value that the first file
    gives it.

    Raises:
        InputError: a file cannot be read as labels.
    """
    values: set[int] = set()
    segments: dict[str, Structure] = {}
    for path in paths:
        if states_segments(path):
            for segment in read_segments(path):
                taken = {s.value for s in segments.values()}
                free = segment.value if segment.value not in taken else max(taken | values) + 1
                segments.setdefault(segment.name, replace(segment, value=free))
            continue
        held = label_values(read_label_file(path, reading or ReadOptions()).array, path)
        values |= held.keys() - {0}
    named = {s.value: s for s in segments.values()}
    unnamed = {value: Structure(value, f"label {value}") for value in values - named.keys()}
    return from_labels([s for _, s in sorted((unnamed | named).items())])


def segment_names(paths: Iterable[Path]) -> dict[int, str]:
    """The names that segmentations of 3D Slicer among the files give label values.

    Raises:
        InputError: a value has two names, or a name two values; the file is damaged.
    """
    names: dict[int, str] = {}
    values: dict[str, int] = {}
    for path in paths:
        if not format_of(path).holds_labels_only:
            continue
        for s in read_segments(path):
            if names.setdefault(s.value, s.name) != s.name or values.setdefault(s.name, s.value) != s.value:
                raise InputError(
                    f"gives the label {s.value} the name {s.name!r}, which contradicts another file",
                    source=path,
                    hint="define the values with --labels",
                )
    return names


def label_values(
    labels: NDArray[Any], path: Path, structures: StructureSet | None = None
) -> Mapping[int, int]:
    """The values of a label map, and how many voxels have each; a scan is refused.

    What holds many values without a name is one, and so is what holds fewer, even named ones, where hardly
    any voxel is equal to its neighbour.

    Args:
        labels: (I, J, K).
        path: of its file.
        structures: that have names.

    Raises:
        InputError: it is a scan, by the looks of it.
    """
    found = present_values(labels)
    unknown = set(found) - set(structures.known_values if structures else ())
    many, some = len(unknown) > MOST_VALUES, len(found) > FEW_VALUES
    if many or (some and _equal_neighbours(labels, max(found, key=found.__getitem__)) < LEAST_EQUAL):
        raise InputError(
            f"contains {len(found)} different values, so it looks like a scan, not like labels",
            source=path,
            hint="give label files" + (", or define each value with --labels" if many else ""),
        )
    return found


def _equal_neighbours(labels: NDArray[Any], background: int) -> float:
    """Share of the pairs of neighbours beside the background that have the same value; 1 where none are."""
    pairs = equal = 0
    for axis in range(labels.ndim):
        along = np.moveaxis(labels, axis, 0)
        one, other = along[1:], along[:-1]
        both = (one != background) & (other != background)
        pairs += int(np.count_nonzero(both))
        equal += int(np.count_nonzero(both & (one == other)))
    return equal / pairs if pairs else 1.0
