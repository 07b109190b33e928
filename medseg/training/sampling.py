"""Foreground-aware sampling of training patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from medseg.core.errors import UsageError
from medseg.core.structures import IGNORED

MAX_POSITIONS = 20_000
"""Foreground positions kept a case and structure; more would only cost memory."""


@dataclass(frozen=True)
class Patch:
    """A patch position: the case's number and the patch's centre in its voxels."""

    case: int
    centre: tuple[float, float, float]


class PatchSampler:
    """Draws patches; a share of them is centred on a voxel of a structure drawn first.

    Drawing the structure before the voxel gives small structures as many patches as large ones
    (the rule of nnU-Net, Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    Of a case that is labelled in part, every patch is centred near a voxel that is.

    Args:
        labels: per case, label indices (I, J, K), 0 the background, `IGNORED` what is not labelled.
        patch: patch size in voxels.
        foreground_share: share of the patches centred near foreground (a quarter of the patch away
            at most), in [0, 1].

    Raises:
        UsageError: there is no case, or nothing is labelled in one.
    """

    def __init__(self, labels: Sequence[Tensor], patch: Sequence[int], foreground_share: float) -> None:
        if not labels:
            raise UsageError("patches cannot be sampled without a case")
        self.shapes = [tuple(int(n) for n in lab.shape) for lab in labels]
        self.patch = tuple(int(n) for n in patch)
        self.foreground_share = foreground_share
        self.positions = [_positions(lab) for lab in labels]
        self.labelled = [_labelled(lab) for lab in labels]

    def order(self, count: int, generator: Generator) -> list[int]:
        """`count` case numbers: every case once before any comes twice."""
        numbers: list[int] = []
        while len(numbers) < count:
            numbers += torch.randperm(len(self.shapes), generator=generator).tolist()
        return numbers[:count]

    def draw(self, case: int, generator: Generator) -> Patch:
        """A patch of one case."""
        around_foreground, which, voxel, *where = torch.rand(6, generator=generator).tolist()
        found = self.positions[case]
        if found and around_foreground < self.foreground_share:
            voxels = found[int(which * len(found))]
            jitter = [(w - 0.5) * n / 2 for w, n in zip(where, self.patch, strict=True)]
            foreground = voxels[int(voxel * len(voxels))].tolist()
            centre = [f + j for f, j in zip(foreground, jitter, strict=True)]
        elif (known := self.labelled[case]) is not None:
            jitter = [(w - 0.5) * n / 2 for w, n in zip(where, self.patch, strict=True)]
            centre = [v + j for v, j in zip(known[int(voxel * len(known))].tolist(), jitter, strict=True)]
        else:
            centre = [w * (n - 1) for w, n in zip(where, self.shapes[case], strict=True)]
        return Patch(case, self._inside(case, centre))

    def _inside(self, case: int, centre: Sequence[float]) -> tuple[float, float, float]:
        """The nearest centre whose patch leaves the volume no more than it must."""
        held = []
        for c, n, p in zip(centre, self.shapes[case], self.patch, strict=True):
            middle = (n - 1) / 2
            reach = max(0.0, (n - p) / 2)
            held.append(min(max(c, middle - reach), middle + reach))
        return held[0], held[1], held[2]


def _positions(labels: Tensor) -> list[Tensor]:
    """Voxels (N, 3) of each label index present, thinned evenly where there are many."""
    found = []
    for index in torch.unique(labels).tolist():
        if index not in (0, IGNORED):
            found.append(_thinned(labels == index))
    return found


def _labelled(labels: Tensor) -> Tensor | None:
    """Voxels (N, 3) that are labelled, thinned likewise; None where all are."""
    known = labels != IGNORED
    if bool(known.all()):
        return None
    if not bool(known.any()):
        raise UsageError("patches cannot be sampled from a case without a labelled voxel")
    return _thinned(known)


def _thinned(mask: Tensor) -> Tensor:
    voxels = torch.nonzero(mask)
    return voxels[:: math.ceil(len(voxels) / MAX_POSITIONS)].int()
