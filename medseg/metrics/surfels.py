"""Surfels: the surface of a mask as small facets, one per 2x2x2 cell of voxel centres.

A surface crosses a cell whose eight corners (voxel centres) are not all inside or all outside.
Its facets in the cell are those of marching cubes with vertices at the middles of the cell's
edges. The area a pattern of corners has does not change when inside and outside trade places,
so the corners in the minority describe it, and corners not joined by an edge of the cell are cut
off separately. That leaves six shapes:

| corners joined by edges | facets, as area vectors of the unit cell in eighths |
|---|---|
| one | triangle (1, 1, 1) |
| two | rectangle 4 (0, 1, 1), the zero along the edge |
| three, an L | 4 (1, 0, 0) along the L's normal, 3 (1, 1, 1) |
| four, a face | square 8 (1, 0, 0) along the face's normal |
| four, a corner and its neighbours | hexagon 6 (1, 1, 1) |
| four, a path along three axes | 2 (1, 1, 0) for both pairs with the middle axis, 4 (1, 1, 1) |

Only the absolute components of an area vector matter for its length under a diagonal scaling, so
neither do signs here. In 2D the same is done with the four corners of a pixel cell.

References:
    Nikolov et al. 2018, "Deep learning to achieve clinically applicable segmentation of head and
    neck anatomy for radiotherapy", arXiv:1809.04430 (surface DSC; its published implementation
    weighs each cell by the same areas); Lorensen and Cline 1987, doi:10.1145/37402.37422.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, ...]
Facets = Counter[tuple[int, ...]]


def corners(dimensions: int) -> tuple[Corner, ...]:
    """The corners of a cell; the position in this list is the corner's bit in a code."""
    return tuple(itertools.product((0, 1), repeat=dimensions))


def codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """For each cell, which of its corners are inside; one cell more than voxels on each axis.

    Args:
        mask: bool, 2D or 3D; what lies outside the array counts as outside the mask.
    """
    out = np.zeros(tuple(n + 1 for n in mask.shape), np.uint8)
    inside = np.ascontiguousarray(mask).view(np.uint8)
    for bit, corner in enumerate(corners(mask.ndim)):
        cells = tuple(slice(1 - c, 1 - c + n) for c, n in zip(corner, mask.shape, strict=True))
        out[cells] |= inside << bit
    return out


def areas_mm2(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Facet area of every code: (256,) in mm^2 for three spacings, (16,) lengths in mm for two.

    >>> float(areas_mm2((1.0, 2.0, 3.0))[0b00001111])  # a face across the first axis: 2 x 3
    6.0
    """
    return _areas(tuple(float(s) for s in spacing_mm)).copy()


@lru_cache(maxsize=16)
def _areas(spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    # Products of sides, not volume / side: exact ties between areas then stay ties.
    others = [[s for n, s in enumerate(spacing_mm) if n != axis] for axis in range(len(spacing_mm))]
    scale = np.array([math.prod(sides) for sides in others])
    return np.array([_area(facets, scale) for facets in _facets_of_codes(len(spacing_mm))])


def _area(facets: Facets, scale: NDArray[np.float64]) -> float:
    parts = 8 if len(scale) == 3 else 2
    return float(sum(n * np.linalg.norm(np.asarray(vector) / parts * scale) for vector, n in facets.items()))


@cache
def _facets_of_codes(dimensions: int) -> tuple[Facets, ...]:
    every = corners(dimensions)
    out = []
    for code in range(1 << len(every)):
        inside = {c for bit, c in enumerate(every) if code >> bit & 1}
        minority = inside if 2 * len(inside) <= len(every) else set(every) - inside
        out.append(sum((_facets_of_part(part) for part in _joined(minority)), Counter()))
    return tuple(out)


def _joined(points: set[Corner]) -> list[set[Corner]]:
    """Groups of corners connected by edges of the cell."""
    groups: list[set[Corner]] = []
    for point in sorted(points):
        near = [g for g in groups if any(_axis_between(point, other) is not None for other in g)]
        groups = [g for g in groups if g not in near] + [set().union({point}, *near)]
    return groups


def _axis_between(a: Corner, b: Corner) -> int | None:
    """The axis of the edge that joins two corners, if one does."""
    differing = [n for n, (p, q) in enumerate(zip(a, b, strict=True)) if p != q]
    return differing[0] if len(differing) == 1 else None


def _facets_of_part(part: set[Corner]) -> Facets:
    """Facets that cut off corners joined by edges, by the number of edges along each axis."""
    dimensions = len(next(iter(part)))
    axes = [_axis_between(a, b) for a, b in itertools.combinations(sorted(part), 2)]
    edges = [axes.count(n) for n in range(dimensions)]
    if dimensions == 2:
        return Counter({tuple(1 - n for n in edges): 1 if len(part) == 1 else 2})
    return _solid_facets(part, edges)


def _solid_facets(part: set[Corner], edges: list[int]) -> Facets:
    diagonal = (1, 1, 1)
    if len(part) == 1:
        return Counter({diagonal: 1})
    flat = tuple(int(n == 0) for n in edges)
    if len(part) == 2:
        return Counter({flat: 4})
    if len(part) == 3:
        return Counter({flat: 4, diagonal: 3})
    if max(edges) == 2:
        return Counter({flat: 8})
    middle = _middle_axis(part)
    if middle is None:
        return Counter({diagonal: 6})
    pairs = [tuple(int(n in (middle, other)) for n in range(3)) for other in range(3) if other != middle]
    return Counter({pairs[0]: 2, pairs[1]: 2, diagonal: 4})


def _middle_axis(part: set[Corner]) -> int | None:
    """Axis of the middle edge of a path of three; None when the three edges meet in one corner."""
    degree = {a: sum(_axis_between(a, b) is not None for b in part) for a in part}
    inner = [a for a in part if degree[a] == 2]
    return _axis_between(inner[0], inner[1]) if len(inner) == 2 else None
