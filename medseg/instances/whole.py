"""Objects of a whole volume, from patches that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg import metrics
from medseg.instances.choice import Choice, suppressed
from medseg.instances.detecting import Detecting
from medseg.instances.painting import Located

OVERLAP = 0.5
"""Share of a patch that the next one shows again: an object no larger than it lies whole in one of them."""


@torch.no_grad()
def objects_in(
    network: nn.Module, image: NDArray[np.float32], patch: Sequence[int], choice: Choice | None = None
) -> list[Located]:
    """The objects of a prepared scan, the highest score first.

    An object is taken from the patch in whose core its middle lies, which is nearer to that patch's middle
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
    starts = [_starts(n, p) for n, p in zip(shape, patch, strict=True)]
    found: list[Located] = []
    for place in product(*map(range, map(len, starts))):
        at = [axis[n] for axis, n in zip(starts, place, strict=True)]
        core = [_core(axis, n, p) for axis, n, p in zip(starts, place, patch, strict=True)]
        found += _in_core(network, _cut(image, at, patch), at, core, choice)
    return _apart(found, choice)


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


def _starts(size: int, patch: int) -> list[int]:
    """Where patches begin along an axis: evenly, overlapping by `OVERLAP` or more."""
    if size <= patch:
        return [0]
    steps = -(-(size - patch) // max(1, int(patch * (1 - OVERLAP))))
    return [round(n * (size - patch) / steps) for n in range(steps + 1)]


def _core(starts: Sequence[int], n: int, patch: int) -> tuple[float, float]:
    """The places along an axis that are nearer to the middle of patch n than to that of another."""
    low = -np.inf if n == 0 else (starts[n - 1] + starts[n] + patch) / 2
    high = np.inf if n + 1 == len(starts) else (starts[n] + starts[n + 1] + patch) / 2
    return low, high


def _cut(image: NDArray[np.float32], at: Sequence[int], patch: Sequence[int]) -> Tensor:
    """A patch (1, C, *patch); beyond the image its edge goes on."""
    where = tuple(slice(a, a + p) for a, p in zip(at, patch, strict=True))
    cut = image[(slice(None), *where)]
    lacking = [(0, p - n) for p, n in zip(patch, cut.shape[1:], strict=True)]
    return torch.from_numpy(np.ascontiguousarray(np.pad(cut, [(0, 0), *lacking], mode="edge")))[None]


def _in_core(
    network: Detecting, cut: Tensor, at: Sequence[int], core: Sequence[tuple[float, float]], choice: Choice
) -> list[Located]:
    """What a patch shows whose middle lies in its core, at its place in the volume."""
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
