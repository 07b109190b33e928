"""What 2D images of all formats share: a header that is checked before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, MedsegError, ResourceError

MOST_PIXELS = 80_000_000
"""More than this in one PNG or JPEG, and its decoder takes it for a decompression bomb."""
UPRIGHT = 1
"""Of the orientation tag: columns and rows are stored as they are shown."""

Pixels = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image file, its header checked and its pixels not decoded yet.

    Attributes:
        format: for people, such as `PNG`.
        columns: pixels along a row.
        rows: from top to bottom.
        pages: of this size.
        samples: a pixel has, with those of a palette looked up, and with alpha.
        alpha: whether the last of them is opacity.
        colour: whether the others are red, green and blue.
        labels: samples a pixel has as stored, or 0 where values are not kept exactly.
        dtype: of a sample.
        decode: pixels (pages, rows, columns, samples); as stored, a palette's indices, if told True.
    """

    format: str
    columns: int
    rows: int
    pages: int
    samples: int
    alpha: bool
    colour: bool
    labels: int
    dtype: np.dtype[Any]
    decode: Callable[[bool], Pixels]

    @property
    def count(self) -> int:
        """Samples in all."""
        return self.columns * self.rows * self.pages * self.samples


def require_few(columns: int, rows: int, path: Path) -> None:
    """Refuse an image of no pixels, or of more than its decoder takes.

    Raises:
        InputError: it has none.
        ResourceError: it has too many.
    """
    if columns < 1 or rows < 1:
        raise InputError(f"the header claims {columns} x {rows} pixels", source=path, hint="re-copy it")
    if columns * rows > MOST_PIXELS:
        raise ResourceError(
            f"the image has {columns} x {rows} pixels, more than {MOST_PIXELS // 10**6} million",
            source=path,
            hint="split it, or save it as TIFF",
        )


def require_upright(orientation: object, path: Path) -> None:
    """Refuse an image that is to be turned when it is shown: its mask may have another orientation.

    Raises:
        InputError: it is.
    """
    if orientation not in (None, 0, UPRIGHT):
        raise InputError(
            "the orientation tag of the image turns or mirrors it",
            source=path,
            hint="rotate it and save it without the orientation tag",
        )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Convert exceptions of decoders to an InputError.

    Raises:
        InputError: the file is damaged, or of a kind that is not read.
    """
    try:
        yield
    except (MedsegError, MemoryError):
        raise
    except Exception as fault:
        raise InputError(
            f"the image cannot be decoded ({type(fault).__name__})",
            source=path,
            hint="save it again, uncompressed",
        ) from fault
