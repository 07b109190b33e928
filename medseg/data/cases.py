"""Cases of a dataset, read and prepared in the same way for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.digest import hexdigest
from medseg.core.errors import InputError, MedsegError
from medseg.core.structures import IGNORED, StructureSet, value_counts
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.cards import Card
from medseg.data.layouts import CaseFiles
from medseg.data.objects import Told, with_objects
from medseg.findings.finding import who
from medseg.io import read_label_file, read_labels, read_volume, stem_and_suffix
from medseg.preparation.orient import canonical
from medseg.preparation.preparation import Preparation, Prepared

MOST_IGNORED = 0.5
"""Share of a case's voxels beyond which it is named as one of which most is to be ignored."""

Reader = Callable[[CaseFiles], tuple[Volume, LabelMap]]
"""From the files of a case to its scan and labels, on one grid."""


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case ready for the network: label indices (i, j, k) uint8 beside the prepared scan.

    Attributes:
        case_id: its name.
        prepared: the scan.
        indices: of the labels, see `StructureSet.encode`.
        numbers: of the objects, (i, j, k); None where nobody told them apart.
        volumes_ml: of each structure that is there, as far as it is labelled.
        unlabelled: names of structures that are not labelled.
        whole: every voxel is labelled, and every structure.
        spacing_mm: of the scan's own voxels.
        digest: of the scan's voxels, see `voxel_digest`.
        digests: of what was read, voxels and their place: `image` and `labels`.
    """

    case_id: str
    prepared: Prepared
    indices: NDArray[np.uint8]
    numbers: NDArray[np.integer] | None
    volumes_ml: dict[str, float]
    unlabelled: tuple[str, ...]
    whole: bool
    spacing_mm: tuple[float, float, float]
    digest: str
    digests: dict[str, str]


@dataclass(frozen=True, eq=False)
class CaseCheck:
    """The result of reading and preparing a case.

    Attributes:
        faults: for which no training takes it, each with the file that has it.
        volume, labels: as they were read; None where they cannot be.
        prepared: for the network; None where there is a fault.
    """

    faults: tuple[MedsegError, ...]
    volume: Volume | None = None
    labels: LabelMap | None = None
    prepared: PreparedCase | None = None


def read_case(files: CaseFiles, card: Card, channels: Sequence[str] = ()) -> tuple[Volume, LabelMap]:
    """Image and labels of one case, on one grid.

    Args:
        files: of the case.
        card: of the dataset.
        channels: which of the card's are wanted, in what order; () for all.

    Raises:
        InputError: it has no labels, or lacks a channel.
        GridMismatchError: image and labels have different grids.
    """
    return read_on_grid(files, card.structure_set, card.channels, channels, card.instances)


def read_on_grid(
    files: CaseFiles,
    structures: StructureSet,
    there: Sequence[str],
    wanted: Sequence[str] = (),
    told: Told = "",
) -> tuple[Volume, LabelMap]:
    """As `read_case`, of a dataset that may have no card; `told` is how objects are told apart."""
    volume = read_image(files, there, wanted)
    labels = read_reference(files, structures, volume.grid)
    volume.grid.require(labels.grid, "image and labels", source=str(files.label))
    return volume, with_objects(labels, told, files.label)


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
                hint=f"name the channels that every case has in the recipe: channels = [{_quoted(files)}]",
            )
        chosen = {name: files.channels[name] for name in wanted}
        return read_volume(chosen, channels=wanted, options=files.reading)
    volume = read_volume(files.image, channels=there, options=files.reading)
    if wanted == tuple(there):
        return volume
    selected = volume.array[[there.index(name) for name in wanted]]
    return Volume(selected, volume.grid, wanted, volume.form, volume.warnings)


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
        InputError: it has none, or they contain a value that would merge with another.
    """
    if files.label is None:
        raise InputError("has no labels", source=files.image)
    if files.drawn is None:
        labels = read_label_file(files.label, files.reading, structures, like)
    else:
        labels = files.drawn()
    if structures is not None:
        labels = replace(labels, ignore=structures.ignore)
    return relabelled(labels, files.relabel, files.label)


def relabelled(labels: LabelMap, relabel: Mapping[int, int], source: Path) -> LabelMap:
    """Labels in the values they stand for, see `CaseFiles.relabel`.

    Raises:
        InputError: they contain a value that would merge with another.
    """
    if not relabel:
        return labels
    found = value_counts(labels.array)
    taken = [value for value in relabel.values() if value in found and value not in relabel]
    if taken:
        raise InputError(
            f"contains the label {taken[0]}, which its layout does not define",
            source=source,
            hint="correct the label file, or choose the layout (of BRATS the year) that it has",
        )
    array = labels.array.copy()
    for value, becomes in relabel.items():
        array[labels.array == value] = becomes
    return replace(labels, array=array)


def check_case(
    files: CaseFiles, read: Reader, structures: StructureSet, preparation: Preparation
) -> CaseCheck:
    """Read and prepare one case as a training does, and collect its faults.

    `check` and `train` both come through here, so that neither takes what the other refuses.
    """
    try:
        volume, labels = read(files)
    except MedsegError as fault:
        return CaseCheck((of_file(fault, files.image),))
    faults, prepared = [], None
    try:
        prepared = preparation.apply(volume)
    except MedsegError as fault:
        faults.append(of_file(fault, files.image))
    try:
        if not set(structures.require_known(labels.array)) - {labels.ignore}:
            raise InputError("no voxel is labelled: every voxel has the ignored label")
        indices = None if prepared is None else _indices(labels, prepared, structures, preparation)
    except MedsegError as fault:
        faults.append(of_file(fault, files.label or files.image))
    if faults or prepared is None or indices is None:
        return CaseCheck(tuple(faults), volume, labels)
    case = PreparedCase(
        files.case_id,
        prepared,
        indices,
        _numbers(labels, prepared, preparation),
        structure_volumes_ml(labels, structures),
        tuple(s.name for s in structures if {*s.label_values} & {*labels.unlabelled}),
        is_whole(labels),
        volume.grid.spacing_mm,
        *_digests(files, volume, labels),
    )
    return CaseCheck((), volume, labels, case)


def _indices(
    labels: LabelMap, prepared: Prepared, structures: StructureSet, preparation: Preparation
) -> NDArray[np.uint8]:
    """Label indices on the prepared grid; what may be of a structure that nobody labelled is ignored."""
    indices = structures.encode(preparation.apply_labels(labels, prepared))
    if labels.unlabelled:
        indices[indices == structures.index_values.index(0)] = IGNORED
    if (indices == IGNORED).all():
        raise InputError("no voxel is labelled in the part that a training uses")
    return indices


def _numbers(labels: LabelMap, prepared: Prepared, preparation: Preparation) -> NDArray[np.integer] | None:
    """Numbers of the objects on the prepared grid."""
    if labels.numbers is None:
        return None
    return preparation.apply_labels(replace(labels, array=labels.numbers), prepared)


def is_whole(labels: LabelMap) -> bool:
    """Whether every voxel and every structure was labelled."""
    return labels.labelled is None and not labels.unlabelled


def ignored_share(labels: LabelMap) -> float:
    """Share of the unlabelled voxels, which are ignored, in [0, 1]."""
    return 0.0 if labels.labelled is None else 1.0 - float(labels.labelled.mean())


def much_ignored(shares: Mapping[str, float], value: int | None) -> str:
    """How much of a dataset is ignored, and in which cases most voxels are, as a sentence; empty if none is.

    Args:
        shares: of each case, see `ignored_share`.
        value: of the label that says so.
    """
    if not any(shares.values()):
        return ""
    mean = sum(shares.values()) / len(shares)
    text = f"on average {100 * mean:.2g} % of the voxels of a case are ignored (label {value})"
    most = [f"{name}: {100 * share:.2g} %" for name, share in shares.items() if share > MOST_IGNORED]
    return f"{text}; more than half in {who(most, len(shares))}" if most else text


def of_file(fault: MedsegError, path: Path) -> MedsegError:
    """The fault with the file that has it, where it names none."""
    if fault.source is None:
        fault.source = str(path)
    return fault


def prepare_cases(
    cases: Iterable[CaseFiles], read: Reader, structures: StructureSet, preparation: Preparation
) -> Iterator[PreparedCase]:
    """Cases one after the other; the same voxels under two names are refused.

    Raises:
        MedsegError: the first fault of a case, see `check_case`.
        InputError: two cases contain the same scan, which could end up on both sides of a split.
    """
    seen: dict[str, str] = {}
    for files in cases:
        found = check_case(files, read, structures, preparation)
        if found.prepared is None:
            raise found.faults[0]
        require_new(found.prepared.digest, files, seen)
        yield found.prepared


def swapped_labels(cases: Sequence[CaseFiles]) -> Iterator[InputError]:
    """Cases that are listed with the label file of another, by its name."""
    names = {case.case_id for case in cases}
    for case in cases:
        label = "" if case.label is None else stem_and_suffix(case.label)[0]
        if label != case.case_id and label in names:
            yield InputError(
                f"is listed with the labels of {label}",
                source=case.image,
                hint="list each image with its own labels",
            )


def channels_of(cases: Iterable[CaseFiles], known: Sequence[str]) -> tuple[str, ...]:
    """The channels that any case of a dataset has, in the order of those known."""
    there: set[str] = set()
    for case in cases:
        there |= set(case.channels or known)
    return tuple(name for name in known if name in there)


def without_voxels(
    present: Iterable[Iterable[str]], structures: StructureSet, of: str
) -> tuple[InputError | None, tuple[str, ...]]:
    """The faults of structures without a voxel in any case, which cannot be learned.

    Args:
        present: names of the structures that each case has.
        structures: that there should be.
        of: what the cases are called together.

    Returns:
        The fault, where no case has a single one; and a sentence for each that none has.
    """
    found = {name for names in present for name in names}
    lacking = [name for name in structures.names if name not in found]
    if len(lacking) == len(structures):
        named = f" ({', '.join(lacking)})" if lacking else ": every voxel of the labels is background, 0"
        fault = f"no {of} has a voxel of any structure{named}"
        return InputError(fault, hint="check the label files and the label values of the card"), ()
    return None, tuple(f"no {of} has a voxel of {name}, so it cannot be learned" for name in lacking)


def _digests(files: CaseFiles, volume: Volume, labels: LabelMap) -> tuple[str, dict[str, str]]:
    """Of the scan's voxels; and of image and labels with their place.

    Where the scan was made from a map they are the map's, for the scan differs by the case's name.
    """
    if files.label == files.image:
        of_map = read_labels(files.image, options=files.reading.of_labels())
        digest = voxel_digest(of_map)
        placed = _placed(digest, of_map.grid)
        return digest, {"image": placed, "labels": placed}
    digest = voxel_digest(volume)
    of_labels = _placed(voxel_digest(labels), labels.grid)
    return digest, {"image": _placed(digest, volume.grid), "labels": of_labels}


def _placed(digest: str, grid: Grid) -> str:
    """Digest of voxels and of where they lie, to a ten-thousandth of a mm."""
    affine = np.round(canonical(grid).grid(grid).affine, 4) + 0.0
    return hexdigest(digest, affine.tobytes())


def require_new(digest: str, files: CaseFiles, seen: dict[str, str]) -> None:
    """Refuse a case whose scan was seen before, and note it.

    Args:
        digest: of its scan, see `voxel_digest`.
        files: of the case.
        seen: cases by digest.

    Raises:
        InputError: another case has the same voxels.
    """
    if digest in seen:
        raise InputError(
            same_voxels(seen[digest]),
            source=files.image,
            hint=f"remove one of the two cases, {seen[digest]} or {files.case_id}",
        )
    seen[digest] = files.case_id


def same_voxels(other: str) -> str:
    """The fault of a case that is a copy of another."""
    return f"contains the same voxels as {other}"


def structure_volumes_ml(labels: LabelMap, structures: StructureSet) -> dict[str, float]:
    """Volume of each structure that is there."""
    volumes = structures.volumes_ml(value_counts(labels.array), labels.grid)
    return {name: ml for name, ml in volumes.items() if ml}


def voxel_digest(volume: Volume | LabelMap) -> str:
    """SHA-256 of the voxels: equal for the same scan under another name, axis order or number type."""
    voxels = np.ascontiguousarray(canonical(volume.grid).forward(volume.array), dtype=np.float32)
    return hexdigest(repr(voxels.shape), voxels.tobytes())
