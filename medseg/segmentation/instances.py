"""The single objects of a segmentation: each structure's, numbered together in one map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.classical.instances import separated
from medseg.classical.spec import InstancesSpec
from medseg.core.errors import InputError, counted
from medseg.core.instances import InstanceMap, instance_map
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import LabelMap
from medseg.data.objects import read_numbers
from medseg.io.names import instances_beside
from medseg.segmentation.prediction import summary_path, usable_summary


def instances_of(labels: LabelMap, structures: StructureSet, spec: InstancesSpec) -> InstanceMap:
    """Tell the objects apart: numbers from 1, structure by structure, the largest of each first.

    Raises:
        UsageError: see `InstancesSpec.chosen`.
    """
    numbers = np.zeros(labels.grid.shape, np.uint32)
    owners: dict[int, Structure] = {}
    depth_mm = spec.depth_mm if spec.method == "watershed" else None
    for structure in spec.chosen(structures):
        found = separated(structures.mask(labels.array, structure), labels.grid.spacing_mm, depth_mm)
        inside = found > 0
        numbers[inside] = found[inside] + np.uint32(len(owners))
        first = len(owners) + 1
        owners |= dict.fromkeys(range(first, first + int(found.max(initial=0))), structure)
    return instance_map(numbers, owners, labels.grid, labels.form)


def read_instances(path: Path, labels: LabelMap, structures: StructureSet) -> InstanceMap:
    """Numbered instances from a file; each belongs to the structure that most of its labelled voxels have.

    Args:
        path: a map of numbers, 0 where there is no instance.
        labels: the segmentation, on the same grid.
        structures: what its values mean.

    Raises:
        MedsegError: the file cannot be read, or lies on another grid.
        InputError: an instance has no voxel of a structure.
    """
    return instances_in(read_numbers(path, labels.grid), labels, structures, path)


def instances_in(
    numbers: LabelMap, labels: LabelMap, structures: StructureSet, path: Path | None = None
) -> InstanceMap:
    """As `read_instances`, of a map that is read already, from `path` if from a file."""
    return instance_map(numbers.array, owners_of(numbers, labels, structures, path), labels.grid, labels.form)


def owners_of(
    numbers: LabelMap, labels: LabelMap, structures: StructureSet, path: Path | None = None
) -> dict[int, Structure]:
    """The structure of each number.

    Raises:
        InputError: an instance has no voxel of a structure.
    """
    owner_of_value = {value: s for s in structures for value in s.label_values}
    inside = numbers.array > 0
    pairs = np.stack((numbers.array[inside], labels.array[inside]), axis=1).astype(np.int64)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    owners: dict[int, Structure] = {}
    for n in np.argsort(counts, kind="stable").tolist():  # what has most voxels comes last
        number, value = found[n].tolist()
        if value in owner_of_value:
            owners[number] = owner_of_value[value]
    if lost := sorted(set(found[:, 0].tolist()) - owners.keys()):
        raise InputError(
            f"has {counted(len(lost), 'instance')} outside every structure, such as {lost[0]}",
            source=path,
            hint="give the map of instances that belongs to the segmentation",
        )
    return owners


def stored_instances(seg: Path, labels: LabelMap, structures: StructureSet) -> InstanceMap | None:
    """The instances that a prediction left beside its labels; None where it told none apart.

    Nothing is taken where the labels were changed since.

    Raises:
        MedsegError: as `read_instances`.
        InputError: the map of instances was changed since.
    """
    beside = instances_beside(seg)
    summary = usable_summary(summary_path(seg))
    if summary is None or summary.instances is None or not beside.is_file() or not summary.fits(seg):
        return None
    found = read_instances(beside, labels, structures)
    stated, there = ({row.number: row.voxels for row in rows} for rows in (summary.instances, found.items))
    if changed := sorted(n for n in stated.keys() | there.keys() if stated.get(n) != there.get(n)):
        n = changed[0]
        raise InputError(
            f"was changed since the prediction: instance {n} has {there.get(n, 0)} voxels, "
            f"and had {stated.get(n, 0)}",
            source=beside,
            hint="predict again, or remove the file, so that instances are left out",
        )
    scores = {row.number: row.score for row in summary.instances}
    return replace(found, items=tuple(replace(one, score=scores.get(one.number)) for one in found.items))
