"""Objects of slices become objects of a volume: what overlaps from slice to slice is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medseg import metrics
from medseg.instances.painting import Located
from medseg.instances.pooling import paste

LEAST_IOU = 0.5
"""Of the boxes in two slices that follow one another, from which they show one object."""


FINER = 2
"""Bins of an object's box along each axis, over those of its slices, whose boxes differ from it."""


def linked(slices: Sequence[Sequence[Located]]) -> list[Located]:
    """The objects of a volume (I, J, K) whose slices along the last axis were looked at one by one.

    An object goes on with that of its structure in the next slice that it overlaps most, each taken once, the
    surest first. Its score is the mean over its slices.

    Args:
        slices: the objects of each slice, of two axes.

    Returns:
        Objects of three axes, the highest score first.
    """
    done: list[Located] = []
    going: list[list[Located]] = []
    for k, found in enumerate(slices):
        ahead, free = [], list(found)
        for chain in sorted(going, key=lambda one: -one[-1].score):
            best = _nearest(chain[-1], free)
            if best is None:
                done.append(_stacked(chain, k))
            else:
                free.remove(best)
                ahead.append([*chain, best])
        going = ahead + [[one] for one in free]
    done += [_stacked(chain, len(slices)) for chain in going]
    return sorted(done, key=lambda one: -one.score)


def _nearest(one: Located, others: Sequence[Located]) -> Located | None:
    """Of these, that of its structure which it overlaps most; None where none is near."""
    own = [other for other in others if other.label == one.label]
    if not own:
        return None
    overlap = metrics.box_iou([one.box], [other.box for other in own])[0]
    best = int(overlap.argmax())
    return own[best] if overlap[best] >= LEAST_IOU else None


def _stacked(chain: Sequence[Located], stop: int) -> Located:
    """The slices of one object, the last of which lies before slice `stop`, in one box."""
    boxes = np.array([one.box for one in chain])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    bins = tuple(FINER * n for n in chain[0].mask.shape)
    step = np.tile((high - low) / bins, 2)
    within = torch.from_numpy((boxes - np.tile(low, 2)) / step)
    masks = torch.from_numpy(np.stack([one.mask for one in chain])).double()
    mask = paste(masks, within, bins).permute(1, 2, 0).float().numpy()
    box = np.array([*low, stop - len(chain), *high, stop], np.float64)
    return Located(box, chain[0].label, float(np.mean([one.score for one in chain])), mask)
