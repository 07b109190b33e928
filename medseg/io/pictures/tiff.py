"""TIFF: pages of grey, colours or palette indices, with sizes checked before pixels are decoded."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from medseg.core.errors import InputError
from medseg.io import payload
from medseg.io.memory import require_memory
from medseg.io.names import opened, require_file
from medseg.io.pictures.header import Picture, Pixels, damage_named, require_few, require_upright

GREY, COLOUR, PALETTE = 1, 2, 3
"""Photometric interpretations that are read: zero is black, red green blue, indices."""
UNCOMPRESSED = 1
BIGTIFF = 43
MOST_PAGES = 2**16
"""More slices than any volume has."""
ORIENTATION = 274
MEND = "save it as plain grey or RGB"


def load(path: Path) -> Picture:
    """A TIFF file whose pages have one size and type; a channel axis (ImageJ) makes samples.

    Raises:
        InputError: it is cut, damaged, or of a kind that is not read.
        ResourceError: its pixels cannot fit in memory.
    """
    require_file(path)
    _require_chain(path)
    with damage_named(path), _tifffile().TiffFile(path) as tif:
        if len(tif.series) != 1:
            raise InputError("its pages differ in size or kind", source=path, hint="save them one by one")
        series = tif.series[0]
        page = series.keyframe
        pages, rows, columns, stored = _sizes(series.axes, series.shape, path)
        kind = int(page.photometric)
        if kind not in (GREY, COLOUR, PALETTE) or page.dtype is None or page.dtype.kind not in "buif":
            raise InputError("its pixel type is not supported", source=path, hint=MEND)
        require_upright(getattr(page.tags.get(ORIENTATION), "value", None), path)
        _require_whole(series, path)
        extra = len(page.extrasamples)
        if kind == PALETTE and (stored != 1 or page.colormap is None):
            raise InputError("its palette is missing", source=path, hint=MEND)
        dtype = np.dtype(np.uint8 if page.dtype.kind == "b" or kind == PALETTE else page.dtype)
    if extra > 1 or (kind == COLOUR and stored != 3 + extra):
        raise InputError(f"its pixels have {stored} samples", source=path, hint=MEND)
    return Picture(
        format="TIFF",
        columns=columns,
        rows=rows,
        pages=pages,
        samples=3 if kind == PALETTE else stored,
        alpha=extra == 1,
        colour=kind in (COLOUR, PALETTE),
        labels=stored,
        dtype=dtype.newbyteorder("="),
        decode=lambda as_stored: _decoded(path, kind == PALETTE and not as_stored),
    )


def write(path: Path, pixels: Pixels) -> None:
    """Write pixels (pages, rows, columns, samples), 1 or 3 samples, compressed, with no text and no date."""
    colour = pixels.shape[-1] == 3
    _tifffile().imwrite(
        path,
        pixels if colour else pixels[..., 0],
        photometric="rgb" if colour else "minisblack",
        compression="zlib",
        metadata=None,
        software=False,
    )


def _require_chain(path: Path) -> None:
    """Refuse pages that lead back to one before, or are too many: the decoder would follow them for ever.

    Source: TIFF 6.0, section 2, and the BigTIFF design: a directory ends in the place of the next.
    """
    with opened(path) as stream:
        start = stream.read(16)
        order: Literal["little", "big"] = "big" if start[:2] == b"MM" else "little"
        wide = int.from_bytes(start[2:4], order) == BIGTIFF
        entry, count, place = (20, 8, 8) if wide else (12, 2, 4)
        at = int.from_bytes(start[8:16] if wide else start[4:8], order)
        seen: set[int] = set()
        size = path.stat().st_size
        while at:
            if at >= size:
                raise InputError(
                    f"a page is said to begin at byte {at}, and the file has {size}",
                    source=path,
                    hint="re-copy it",
                )
            if at in seen or len(seen) == MOST_PAGES:
                fault = "its pages form a loop" if at in seen else f"it has more than {MOST_PAGES} pages"
                raise InputError(fault, source=path, hint="save it again")
            seen.add(at)
            stream.seek(at)
            entries = int.from_bytes(stream.read(count), order)
            stream.seek(min(at + count + entry * entries, size))
            at = int.from_bytes(stream.read(place), order)


def _tifffile() -> ModuleType:
    """tifffile, imported when first needed, with its own messages to stderr switched off."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    return tifffile


def _sizes(axes: str, shape: Sequence[int], path: Path) -> tuple[int, int, int, int]:
    """Pages, rows, columns and samples of axes such as `ZYX` or `YXS`."""
    order = _order(axes, shape)
    if order is None:
        raise InputError(f"it has axes other than pages and channels: {axes}", source=path, hint="split it")
    pages, rows, columns, samples = (1 if axis is None else shape[axis] for axis in order)
    require_few(1, min(rows, columns), path)
    return pages, rows, columns, samples


def _order(axes: str, shape: Sequence[int]) -> tuple[int | None, int, int, int | None] | None:
    """Where pages, rows, columns and samples lie; None where there is more than that."""
    rest = [n for n, axis in enumerate(axes) if axis not in "YX" and shape[n] > 1]
    samples = [n for n in rest if axes[n] in "SC"]
    pages = [n for n in rest if axes[n] not in "SC"]
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(samples) > 1 or len(pages) > 1:
        return None
    return next(iter(pages), None), axes.index("Y"), axes.index("X"), next(iter(samples), None)


def _require_whole(series: Any, path: Path) -> None:
    """Refuse pixels that lie beyond the end of the file, or that so few bytes cannot make."""
    size = path.stat().st_size
    count = math.prod(series.shape) * series.dtype.itemsize
    require_memory(count + 4 * math.prod(series.shape), path)
    if series.dataoffset is not None:
        if series.dataoffset + count > size:
            raise payload.too_short(path, series.dataoffset + count, size)
        return
    stored = 0
    for page in series.pages:
        parts = [] if page is None else list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if not parts or any(at < 1 or n < 1 or at + n > size for at, n in parts):
            raise InputError("a page lies beyond the end of the file", source=path, hint="re-copy it")
        stored += sum(n for _, n in parts)
    if (
        series.keyframe.compression == UNCOMPRESSED
        and series.keyframe.bitspersample % 8 == 0
        and stored < count
    ):
        raise payload.too_short(path, count, stored)
    payload.require_plausible(stored, count, path)


def _decoded(path: Path, colours: bool) -> Pixels:
    """Pixels (pages, rows, columns, samples), a palette's looked up if `colours`."""
    with damage_named(path), _tifffile().TiffFile(path) as tif:
        series = tif.series[0]
        pixels: Pixels = series.asarray()
        table = series.keyframe.colormap
    if pixels.shape != series.shape:
        claimed, found = ("x".join(map(str, shape)) for shape in (series.shape, pixels.shape))
        raise InputError(f"its pixels are {found}, and its header claims {claimed}", source=path, hint=MEND)
    order = _order(series.axes, series.shape)
    places = [n for n in order or () if n is not None]
    pixels = pixels.transpose([*places, *(n for n in range(pixels.ndim) if n not in places)])
    pixels = pixels.reshape(_sizes(series.axes, series.shape, path))
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    if not colours:
        return pixels
    looked_up: Pixels = (table[:, pixels[..., 0]] >> 8).astype(np.uint8)
    return looked_up.transpose(1, 2, 3, 0)
