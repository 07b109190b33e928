"""A picture of one slice with the outlines of its structures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.colours import rgb
from medseg.core.errors import GeometryError, UsageError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.io.atomic import atomic_write
from medseg.io.names import COLOURS, stem_and_suffix
from medseg.io.pictures import png

WINDOW_PERCENTILES = (0.5, 99.5)
"""Intensities that become black and white, where they are not bytes already."""
PIXELS_A_LINE = 512
"""An outline is one pixel wide, and one more for each so many pixels of the shorter side."""


def write_overlay(
    path: str | Path,
    image: Volume,
    labels: LabelMap,
    structures: StructureSet,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> None:
    """Write a PNG of an image of one slice, columns I and rows J, with its structures outlined.

    Three channels named red, green and blue are shown in colour; else the first one in grey. Bytes are
    shown as they are, other values from their 0.5th to their 99.5th percentile. An outline lies inside
    its structure, in the structure's colour; where regions overlap, the later one lies on top.

    Args:
        path: the target, a `.png`.
        image: (C, I, J, 1).
        labels: on the same grid.
        structures: what is outlined, and in which colours.
        overwrite: whether an existing file may be replaced.
        inputs: files that are never replaced.

    Raises:
        UsageError: the target is no `.png`, exists, or is an input.
        GeometryError: there is more than one slice.
        GridMismatchError: image and labels lie on different grids.
        ResourceError: there is no room, or no right to write.
    """
    path = Path(path)
    if stem_and_suffix(path)[1] != ".png":
        raise UsageError("an overlay must be a PNG", source=path, hint="end the name in .png")
    image.grid.require(labels.grid, "image and labels", str(path))
    if image.grid.shape[2] != 1:
        raise GeometryError(f"an overlay shows one slice, not {image.grid.shape[2]}", source=path)
    picture = _shown(image)
    width = 1 + min(image.grid.shape[:2]) // PIXELS_A_LINE
    for structure in structures:
        mask = structures.mask(labels.array[..., 0], structure)
        picture[outline(mask, width)] = rgb(structure.colour)
    with atomic_write(path, overwrite, inputs=inputs) as temporary:
        temporary.write_bytes(png.encode(picture.transpose(1, 0, 2)))


def outline(mask: NDArray[np.bool_], width: int = 1) -> NDArray[np.bool_]:
    """The pixels of a mask (I, J) that are at most `width` steps along an axis from a pixel outside it.

    What lies beyond the edge of the image is no outside.

    >>> outline(np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1]], bool)).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 1, 1],
           [0, 1, 0, 0]])
    """
    inner = mask
    for _ in range(width):
        edged = np.pad(inner, 1, mode="edge")
        inner = inner & edged[:-2, 1:-1] & edged[2:, 1:-1] & edged[1:-1, :-2] & edged[1:-1, 2:]
    return mask & ~inner


def _shown(image: Volume) -> NDArray[np.uint8]:
    """The slice as bytes (I, J, 3)."""
    colour = image.channels == COLOURS
    channels = image.array[..., 0] if colour else np.repeat(image.array[:1, ..., 0], 3, axis=0)
    if image.array.dtype != np.uint8:
        channels = as_bytes(channels)
    return np.array(channels.transpose(1, 2, 0), dtype=np.uint8)


def as_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Values from 0 to 255 between their percentiles; all share one window, so that colours stay.

    >>> as_bytes(np.array([0.0, 1.0, 2.0])).tolist(), as_bytes(np.array([7, 7])).tolist()
    ([0, 128, 255], [0, 0])
    """
    numbers = values.astype(np.float64)
    low, high = np.percentile(numbers, WINDOW_PERCENTILES)
    scaled = (numbers - low) / (high - low) if high > low else np.zeros_like(numbers)
    return np.rint(255 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)
