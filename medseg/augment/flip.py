"""Flips along canonical axes that keep left and right labels correct."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.augment.spec import FlipSpec
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet

LEFT_RIGHT = 0
"""Axis of canonical (RAS+) volumes that a left-right flip reverses."""


def sample(spec: FlipSpec, generator: torch.Generator) -> tuple[int, ...]:
    """Axes to flip."""
    draws = torch.rand(len(spec.axes), generator=generator, dtype=torch.float64).tolist()
    return tuple(sorted(a for a, d in zip(spec.axes, draws, strict=True) if d < spec.probability))


def require_twins(axes: Sequence[int], structures: StructureSet) -> None:
    """Refuse a left-right flip that would exchange sides without exchanging labels.

    Raises:
        UsageError: axis 0 is among the axes and a structure with a side has no twin.
    """
    lone = [s.name for s in structures if s.side != "none" and s.twin is None]
    if lone and LEFT_RIGHT in axes:
        raise UsageError(
            f"flipping left and right would mislabel {', '.join(lone)}, which have a side but no twin",
            hint="declare the twins, or leave axis 0 out of the flip's axes",
        )


def swapped_indices(structures: StructureSet) -> tuple[int, ...]:
    """For each label index, the index it becomes when left and right are exchanged.

    Twin regions trade their members in the order listed.

    Raises:
        UsageError: twin regions have different numbers of members, or claim a member twice.
    """
    values = structures.index_values
    table = {value: value for value in values}
    for left, right in _twin_labels(structures):
        if table[left] not in (left, right) or table[right] not in (left, right):
            raise UsageError(f"label {left} or {right} belongs to more than one pair of twins")
        table[left], table[right] = right, left
    return tuple(values.index(table[v]) for v in values)


def flip_image(image: Tensor, axes: Sequence[int]) -> Tensor:
    """Reverse spatial axes of (C, I, J, K)."""
    return torch.flip(image, [a + 1 for a in axes]) if axes else image


def flip_labels(labels: Tensor, axes: Sequence[int], swapped: Sequence[int]) -> Tensor:
    """Reverse axes of an index tensor (I, J, K); axis 0 also exchanges the indices of twins.

    Args:
        labels: (I, J, K): indices, or codes of objects, whose remainder by 256 they are.
        axes: spatial axes, 0 to 2.
        swapped: for each index its twin's, or itself (see `swapped_indices`).
    """
    flipped = torch.flip(labels, list(axes)) if axes else labels
    if LEFT_RIGHT not in axes or list(swapped) == list(range(len(swapped))):
        return flipped
    table = torch.arange(256, dtype=labels.dtype, device=labels.device)
    table[: len(swapped)] = torch.tensor(swapped, dtype=labels.dtype)
    index = flipped.int() % 256
    return flipped - index.to(labels.dtype) + table[index]


def _twin_labels(structures: StructureSet) -> list[tuple[int, int]]:
    members = {s.value: s.label_values for s in structures}
    pairs: list[tuple[int, int]] = []
    for left, right in structures.twins():
        if len(members[left]) != len(members[right]):
            raise UsageError(
                f"the twin regions {members[left]} and {members[right]} must list the same number of "
                "members, in the same order"
            )
        pairs.extend(zip(members[left], members[right], strict=True))
    return pairs
