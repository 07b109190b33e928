"""Phantoms whose structures are named by what is far away: two nodes that look alike, and a mark.

A long body has a node on each side of its middle, and a mark in one of its ends. The node on the side of the
mark is the marked one. No patch of 32 voxels holds a node and the end of the body, so that a network of such
patches can outline the nodes and cannot name them; in voxels long enough for a patch to hold the whole body,
their borders are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.layouts import About, NewCase, targets
from medseg.data.phantom.making import Triple, smooth_noise

SHAPE: Triple = (160, 64, 64)
"""Of 1 mm; the body is as long as the box."""

STRUCTURES: StructureSet = from_labels({1: "marked node", 2: "other node"})
ABOUT = About("Marked phantom", "Made-up bodies with two nodes and a mark", ("image",), STRUCTURES, "CC0-1.0")
AIR, BODY, NODE, MARK = 0.2, 1.0, 1.6, 2.2
NOISE = 0.15
MARK_MM, NODE_MM, UNREST, EDGE_MM = 6.0, (7.0, 10.0), 0.25, 1.5
"""Radii of mark and nodes; how much a node's surface varies (share of its radius), and over what length."""

MARK_FROM_END_MM, NODE_FROM_MIDDLE_MM = 10.0, 14.0


def marked_case(rng: np.random.Generator) -> tuple[Volume, LabelMap]:
    """A body.

    Args:
        rng: where all randomness comes from.

    Returns:
        The scan (1, I, J, K) float32, and labels uint8: 1 the node on the side of the mark, 2 the other.
    """
    points = np.moveaxis(np.indices(SHAPE, dtype=np.float32), 0, -1)
    middle = (np.array(SHAPE) - 1) / 2
    inside = (((points - middle) / (middle + 0.5 - np.array([1.5, 3.0, 3.0]))) ** 4).sum(-1) < 1
    image = np.where(inside, BODY, AIR)
    labels = np.zeros(SHAPE, np.uint8)
    side = int(rng.choice([-1, 1]))
    end = middle[0] - side * (middle[0] - MARK_FROM_END_MM)
    mark = np.array([end, *rng.uniform(24, 40, 2)])
    image[((points - mark) ** 2).sum(-1) < MARK_MM**2] = MARK
    for sign in (-1, 1):
        centre = np.array(
            [middle[0] - sign * (NODE_FROM_MIDDLE_MM + rng.uniform(0, 4)), *rng.uniform(20, 43, 2)]
        )
        radii = rng.uniform(*NODE_MM, 3)
        distance = np.sqrt((((points - centre) / radii) ** 2).sum(-1))
        node = (distance + UNREST * smooth_noise(rng, SHAPE, EDGE_MM) < 1) & (distance < 1.3)
        image[node] = NODE
        labels[node] = 1 if sign == side else 2
    image += NOISE * rng.standard_normal(SHAPE)
    grid = Grid(SHAPE, np.eye(4))
    return Volume(image[None].astype(np.float32), grid, ABOUT.channels), LabelMap(labels, grid)


def write_marked_phantoms(folder: Path, cases: int, seed: int = 0) -> None:
    """A dataset of such bodies in the layout of the Decathlon; case n depends on the seed and n only."""

    def made() -> Iterator[NewCase]:
        for number in range(cases):
            yield NewCase(f"body_{number:03d}", *marked_case(np.random.default_rng([seed, number])))

    targets()["decathlon"].write(folder, made(), ABOUT, overwrite=False)
