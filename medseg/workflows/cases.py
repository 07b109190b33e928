"""Cases of a dataset, read and prepared the one way training and validation share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.cards import Card
from medseg.errors import InputError, MedsegError
from medseg.geometry.orient import canonical
from medseg.io import read_labels, read_volume
from medseg.layouts import CaseFiles
from medseg.preparation import Preparation, Prepared
from medseg.structures import StructureSet, value_counts
from medseg.volume import Grid, LabelMap, Volume

Reader = Callable[[CaseFiles], tuple[Volume, LabelMap]]
"""From the files of a case to its scan and labels, on one grid."""


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case ready for the network: label indices (i, j, k) uint8 beside the prepared scan."""

    case_id: str
    prepared: Prepared
    indices: NDArray[np.uint8]
    volumes_ml: dict[str, float]
    spacing_mm: tuple[float, float, float]
    digest: str


def read_case(files: CaseFiles, card: Card, channels: Sequence[str] = ()) -> tuple[Volume, LabelMap]:
    """Image and labels of one case, on one grid.

    Args:
        files: of the case.
        card: of the dataset.
        channels: which of the card's are wanted, in what order; () for all.

    Raises:
        InputError: it has no labels, or lacks a channel.
        GridMismatchError: image and labels lie on different grids.
    """
    volume = read_image(files, card.channels, channels)
    labels = read_reference(files, card.structure_set, volume.grid)
    volume.grid.require(labels.grid, "image and labels", source=str(files.label))
    return volume, labels


def read_image(files: CaseFiles, there: Sequence[str], wanted: Sequence[str] = ()) -> Volume:
    """The scan of a case: of the channels that are `there`, those `wanted`, or all.

    Raises:
        InputError: a channel wanted has no file.
    """
    wanted = tuple(wanted or there)
    if files.channels:
        missing = [name for name in wanted if name not in files.channels]
        if missing:
            raise InputError(
                f"has no {', '.join(missing)} (it has {', '.join(files.channels)})",
                source=files.image.parent,
                mend=f"name the channels that every case has in the recipe: channels = [{_quoted(files)}]",
            )
        return read_volume({name: files.channels[name] for name in wanted}, channels=wanted)
    volume = read_volume(files.image, channels=there)
    if wanted == tuple(there):
        return volume
    chosen = volume.array[[there.index(name) for name in wanted]]
    return Volume(chosen, volume.grid, wanted, volume.form, volume.warnings)


def _quoted(files: CaseFiles) -> str:
    return ", ".join(f'"{name}"' for name in files.channels)


def read_reference(
    files: CaseFiles, structures: StructureSet | None = None, like: Grid | None = None
) -> LabelMap:
    """The labels of a case, in the card's values.

    Args:
        files: of the case.
        structures: of the card, where labels are known by names (see `read_labels`).
        like: the scan's grid, on which labels that were cropped are placed.

    Raises:
        InputError: it has none, or they hold a value that would become one with another.
    """
    if files.label is None:
        raise InputError("has no labels", source=files.image)
    return relabelled(read_labels(files.label, structures=structures, like=like), files.relabel, files.label)


def relabelled(labels: LabelMap, relabel: Mapping[int, int], source: Path) -> LabelMap:
    """Labels in the values they stand for, see `CaseFiles.relabel`.

    Raises:
        InputError: they hold a value that would become one with another.
    """
    if not relabel:
        return labels
    found = value_counts(labels.array)
    taken = [value for value in relabel.values() if value in found and value not in relabel]
    if taken:
        raise InputError(
            f"holds the label {taken[0]}, which none of its year has", source=source, mend="check the labels"
        )
    array = labels.array.copy()
    for value, becomes in relabel.items():
        array[labels.array == value] = becomes
    return LabelMap(array, labels.grid, labels.form, labels.warnings)


def prepare_case(
    files: CaseFiles, read: Reader, structures: StructureSet, preparation: Preparation
) -> PreparedCase:
    """Read and prepare one case; errors name its file."""
    volume, labels = read(files)
    try:
        prepared = preparation.apply(volume)
        indices = structures.encode(preparation.apply_labels(labels, prepared))
    except MedsegError as fault:
        if fault.source is None:
            fault.source = str(files.image)
        raise
    return PreparedCase(
        files.case_id,
        prepared,
        indices,
        structure_volumes_ml(labels, structures),
        volume.grid.spacing_mm,
        _digest(files, volume),
    )


def prepare_cases(
    cases: Iterable[CaseFiles], read: Reader, structures: StructureSet, preparation: Preparation
) -> Iterator[PreparedCase]:
    """Cases one after the other; the same voxels under two names are refused.

    Raises:
        InputError: two cases hold the same scan, which could end up on both sides of a split.
    """
    seen: dict[str, str] = {}
    for files in cases:
        case = prepare_case(files, read, structures, preparation)
        _note(case.digest, files, seen)
        yield case


def require_unseen(held: Iterable[CaseFiles], read: Reader, trained: Iterable[PreparedCase]) -> None:
    """Read the cases that are measured at the end, and refuse any that was trained on under another name.

    Raises:
        MedsegError: a case cannot be read, or holds the same scan as another.
    """
    seen = {case.digest: case.case_id for case in trained}
    for files in held:
        volume, _ = read(files)
        _note(_digest(files, volume), files, seen)


def _digest(files: CaseFiles, volume: Volume) -> str:
    """Of the scan; of the map where the scan was made from one, and differs by the case's name."""
    return voxel_digest(read_labels(files.image) if files.label == files.image else volume)


def _note(digest: str, files: CaseFiles, seen: dict[str, str]) -> None:
    if digest in seen:
        raise InputError(
            f"holds the same voxels as {seen[digest]}", source=files.image, mend="remove one of them"
        )
    seen[digest] = files.case_id


def structure_volumes_ml(labels: LabelMap, structures: StructureSet) -> dict[str, float]:
    """Volume of each structure that is there."""
    table = value_counts(labels.array)
    voxel_ml = labels.grid.voxel_volume_mm3 / 1000
    volumes = {s.name: sum(table.get(v, 0) for v in s.members or (s.value,)) for s in structures}
    return {name: count * voxel_ml for name, count in volumes.items() if count}


def voxel_digest(volume: Volume | LabelMap) -> str:
    """SHA-256 of the voxels: equal for the same scan under another name, axis order or number type."""
    voxels = np.ascontiguousarray(canonical(volume.grid).forward(volume.array), dtype=np.float32)
    return hashlib.sha256(repr(voxels.shape).encode() + voxels.tobytes()).hexdigest()
