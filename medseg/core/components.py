"""Connected components: the pieces of masks and label maps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Neighbours = Literal[6, 18, 26]
"""How many neighbours a voxel has: those that share a face, an edge too, or a corner too."""

CONNECTIVITY: Neighbours = 26
"""Voxels that share a face, an edge or a corner belong to one component."""


def components(
    labels: NDArray[np.integer[Any] | np.bool_], connectivity: int = CONNECTIVITY
) -> NDArray[np.unsignedinteger[Any]]:
    """Each connected piece of one value, numbered from 1; 0 in the background, which is 0.

    Args:
        labels: a mask or label values, of up to three axes.
        connectivity: 6, 18 or 26 neighbours of a voxel that belong to its piece.

    >>> components(np.array([True, False, True])[:, None, None]).ravel().tolist()
    [1, 0, 2]
    """
    import cc3d

    kind = np.uint8 if labels.dtype == np.bool_ else labels.dtype  # of bools it may run out of numbers
    given = np.require(labels, kind, "W")  # it refuses an array that it may not change, and changes none
    found: NDArray[np.unsignedinteger[Any]] = cc3d.connected_components(given, connectivity=connectivity)
    return found
