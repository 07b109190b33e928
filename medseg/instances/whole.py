"""Objects of a whole volume, from patches that overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg import metrics
from medseg.instances.choice import Choice, suppressed
from medseg.instances.detecting import Detecting
from medseg.instances.painting import Located

SHOWN_AGAIN = 0.5
"""Share of a patch, in voxels of which two tiles overlap: an object no larger lies whole in one of them."""

MOST_VOXELS = 2**21
"""Of a tile; those of larger tiles are seen fewer times, and their maps take more memory."""


@torch.no_grad()
def objects_in(
    network: nn.Module, image: NDArray[np.float32], patch: Sequence[int], choice: Choice | None = None
) -> list[Located]:
    """The objects of a prepared scan, the highest score first.

    An object is taken from the tile in whose core its middle lies, which is nearer to that tile's middle
    than to any other's; of objects that overlap too much the surer is left.

    Args:
        network: that finds objects, in eval mode.
        image: (C, *S).
        patch: of the training.
        choice: which boxes are objects.
    """
    if not isinstance(network, Detecting):
        raise TypeError(f"{type(network).__name__} finds no objects")
    choice = choice or Choice()
    shape = image.shape[1:]
    tile = tile_of(shape, patch)
    grown = math.prod(tile) // math.prod(patch)
    choice = replace(choice, candidates=grown * choice.candidates, most=grown * choice.most)
    starts = [_starts(n, t, int(SHOWN_AGAIN * p)) for n, t, p in zip(shape, tile, patch, strict=True)]
    found: list[Located] = []
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    for place in product(*map(range, map(len, starts))):
        at = [axis[n] for axis, n in zip(starts, place, strict=True)]
        core = [_core(axis, n, t) for axis, n, t in zip(starts, place, tile, strict=True)]
        found += _in_core(network, _cut(image, at, tile).to(device), at, core, choice)
    return _apart(found, choice)


def tile_of(shape: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels of a tile: a patch, twice as long along axes where the scan is longer, up to `MOST_VOXELS`.

    >>> tile_of((40, 60, 200), (48, 48, 48))
    (48, 96, 96)
    >>> tile_of((200, 200, 300), (128, 128, 96))
    (128, 128, 96)
    """
    tile = list(patch)
    for axis in sorted(range(len(tile)), key=lambda n: patch[n] / shape[n]):
        if shape[axis] > tile[axis] and 2 * math.prod(tile) <= MOST_VOXELS:
            tile[axis] *= 2
    return tuple(tile)


def joined(found: Sequence[Sequence[Located]]) -> list[Located]:
    """The objects that several models found, those of one place and structure as one.

    Boxes, scores and masks are means, see `metrics.weighted_box_clustering`; an object that a model did not
    find has a lower score for it.

    Args:
        found: by each model.
    """
    if len(found) == 1:
        return list(found[0])
    every = [one for own in found for one in own]
    out: list[Located] = []
    for label in sorted({one.label for one in every}):
        own = [one for one in every if one.label == label]
        boxes, scores, members = metrics.weighted_box_clustering(
            [one.box for one in own], [one.score for one in own], expected=len(found)
        )
        for box, score, cluster in zip(boxes, scores.tolist(), members, strict=True):
            weights = [own[n].score for n in cluster]
            mask = np.average([own[n].mask for n in cluster], axis=0, weights=weights)
            out.append(Located(box, label, score, mask.astype(np.float32)))
    return sorted(out, key=lambda one: -one.score)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis: evenly, overlapping by as many voxels or more."""
    if size <= tile:
        return [0]
    steps = -(-(size - tile) // max(1, tile - overlap))
    return [round(n * (size - tile) / steps) for n in range(steps + 1)]


def _core(starts: Sequence[int], n: int, tile: int) -> tuple[float, float]:
    """The places along an axis that are nearer to the middle of tile n than to that of another."""
    low = -np.inf if n == 0 else (starts[n - 1] + starts[n] + tile) / 2
    high = np.inf if n + 1 == len(starts) else (starts[n] + starts[n + 1] + tile) / 2
    return low, high


def _cut(image: NDArray[np.float32], at: Sequence[int], tile: Sequence[int]) -> Tensor:
    """A tile (1, C, *tile); beyond the image its edge goes on."""
    where = tuple(slice(a, a + t) for a, t in zip(at, tile, strict=True))
    cut = image[(slice(None), *where)]
    lacking = [(0, t - n) for t, n in zip(tile, cut.shape[1:], strict=True)]
    return torch.from_numpy(np.ascontiguousarray(np.pad(cut, [(0, 0), *lacking], mode="edge")))[None]


def _in_core(
    network: Detecting, cut: Tensor, at: Sequence[int], core: Sequence[tuple[float, float]], choice: Choice
) -> list[Located]:
    """What a tile shows whose middle lies in its core, at its place in the volume."""
    shift = np.array([*at, *at], np.float64)
    found = []
    for one in network.found(cut, choice)[0]:
        box = one.box.double().cpu().numpy() + shift
        middle = box.reshape(2, -1).mean(axis=0)
        if all(low <= m < high for m, (low, high) in zip(middle, core, strict=True)):
            found.append(Located(box, one.label, one.score, one.mask.float().cpu().numpy()))
    return found


def _apart(found: Sequence[Located], choice: Choice) -> list[Located]:
    """Without objects that overlap a surer one of their structure too much."""
    if not found:
        return []
    boxes, scores = np.array([one.box for one in found]), np.array([one.score for one in found])
    labels = np.array([one.label for one in found])
    kept = suppressed(boxes, scores, labels, choice.most_iou)
    return [found[n] for n in kept.tolist()]
