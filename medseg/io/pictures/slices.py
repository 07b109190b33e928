"""Pictures: PNG, TIFF and JPEG as images (C, I, J, K), I the column, J the row, K the page.

They have no place in the world: the affine is the identity, a pixel counts as 1 mm, and what a file says
of resolution, which programs fill with dots per inch, is ignored. One page is a slice by itself; several are
a volume without orientation, and read like any other that states none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, UsageError
from medseg.core.volume import FileForm, Grid
from medseg.io.memory import require_memory
from medseg.io.names import COLOURS, format_of, opened, require_file, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.io.pictures import png, tiff
from medseg.io.pictures.header import Picture, Pixels, damage_named, require_few, require_upright

NO_SIZE = "The file states no size in mm: a pixel counts as 1 mm, so lengths and areas are in pixels."

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG that begin a frame, and tell its size."""
PNG_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


def states_no_size(sentences: Iterable[str]) -> bool:
    """Whether what is said of a scan says that nothing states its size in mm."""
    return any(text.endswith(NO_SIZE) for text in sentences)


def describe(path: Path, options: ReadOptions) -> ImageInfo:
    """What the header says, checked; decodes no pixels.

    Raises:
        InputError: the file is damaged or of a kind that is not read.
        GeometryError: it has several pages, a volume whose orientation nothing states.
        ResourceError: it has too many pixels.
    """
    return _info(path, _load(path), options)


def read(path: Path, options: ReadOptions) -> Stored:
    """Pixels (C, I, J, K) as stored, a palette as its colours, opacity left out where it is full.

    Raises:
        InputError: the file is damaged or of a kind that is not read, or pixels are transparent.
        GeometryError: it has several pages, a volume whose orientation nothing states.
        ResourceError: the pixels cannot fit in memory.
    """
    picture = _load(path)
    info = _info(path, picture, options)
    pixels = _decoded(picture, path, as_stored=False)
    if picture.alpha:
        full = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1.0
        if (pixels[..., -1] != full).any():
            raise InputError("pixels are transparent", source=path, hint="save it without transparency")
        pixels = pixels[..., :-1]
    return Stored(info, pixels.transpose(3, 2, 1, 0))


def read_labels(path: Path, options: ReadOptions) -> Stored:
    """Labels (1, I, J, K): grey values, or the indices of a palette, exactly as stored.

    Raises:
        InputError: the file is damaged, has colours, or is in a format that changes values (JPEG).
        GeometryError: it has several pages, a volume whose orientation nothing states.
        ResourceError: the pixels cannot fit in memory.
    """
    picture = _load(path)
    if picture.labels != 1:
        what = "has colours" if picture.labels else "is a JPEG, which changes values"
        raise InputError(f"{what}, and labels are numbers", source=path, hint="save it as a grey PNG")
    info = _info(path, picture, options, channels=1)
    pixels = _decoded(picture, path, as_stored=True)
    return Stored(info, pixels.transpose(3, 2, 1, 0))


def files(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def targets(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def write(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write pixels (I, J, K) or (C, I, J, K), 1 or 3 channels; where they lie cannot be stored.

    Raises:
        UsageError: the format cannot hold such values or channels, or a PNG more than one slice.
    """
    require_holds(path, grid)
    pixels = (array if array.ndim == 4 else array[None]).transpose(3, 2, 1, 0)
    if pixels.shape[-1] not in (1, 3):
        raise UsageError(f"a picture has 1 or 3 channels, not {pixels.shape[-1]}", source=path)
    if stem_and_suffix(path)[1] != ".png":
        tiff.write(path, pixels)
        return
    if pixels.dtype not in PNG_DTYPES:
        raise UsageError(
            f"a PNG stores whole numbers from 0 to 65535, not {pixels.dtype}",
            source=path,
            hint="end the name in .tif",
        )
    path.write_bytes(png.encode(pixels[0]))


def require_holds(path: Path, grid: Grid) -> None:
    """Refuse a format that cannot hold the voxels of a grid as they are.

    Raises:
        UsageError: the format is JPEG, or a PNG is to hold more than one slice.
    """
    found, suffix = format_of(path), stem_and_suffix(path)[1]
    if found.is_lossy:
        raise UsageError(
            "a JPEG would change the values", source=path, hint=f"end the name in {found.labels_as}"
        )
    if suffix == ".png" and grid.shape[2] != 1:
        raise UsageError(
            f"a PNG stores one slice, and the grid has {grid.shape[2]}",
            source=path,
            hint="end the name in .tif or .nii.gz",
        )


def _load(path: Path) -> Picture:
    suffix = stem_and_suffix(path)[1]
    require_file(path)
    load = png.load if suffix == ".png" else _jpeg if format_of(path).is_lossy else tiff.load
    picture = load(path)
    require_memory(picture.count * (picture.dtype.itemsize + 4), path)
    return picture


def _info(path: Path, picture: Picture, options: ReadOptions, channels: int = 0) -> ImageInfo:
    said = (
        options.require_assumed("pages of a picture state no orientation", path) if picture.pages > 1 else ()
    )
    channels = channels or picture.samples - picture.alpha
    suffix = stem_and_suffix(path)[1]
    return ImageInfo(
        path=path,
        format=picture.format,
        grid=Grid((picture.columns, picture.rows, picture.pages), np.eye(4)),
        channels=channels,
        dtype=picture.dtype.name,
        slope=1.0,
        inter=0.0,
        form=FileForm(format_of(path).labels_as or suffix, sform_code=0, qform_code=0),
        warnings=(*said, NO_SIZE),
        names=COLOURS if picture.colour and channels == len(COLOURS) else (),
    )


def _decoded(picture: Picture, path: Path, *, as_stored: bool) -> Pixels:
    pixels = picture.decode(as_stored)
    samples = picture.labels if as_stored else picture.samples
    if pixels.shape != (picture.pages, picture.rows, picture.columns, samples):
        raise InputError("the image differs from what its header states", source=path, hint="save it again")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _jpeg(path: Path) -> Picture:
    """A JPEG: grey or colours of 8 bits."""
    from PIL import Image

    require_few(*_jpeg_size(path), path)
    with damage_named(path), Image.open(path, formats=["JPEG"]) as image:
        mode, (columns, rows) = image.mode, image.size
        orientation = image.getexif().get(png.ORIENTATION)
    require_upright(orientation, path)
    if mode not in ("L", "RGB"):
        raise InputError(f"its colours are {mode}, not grey or RGB", source=path, hint="save it as RGB")
    samples = len(mode)

    def decode(as_stored: bool) -> Pixels:
        with damage_named(path), Image.open(path, formats=["JPEG"]) as image:
            return np.array(image).reshape(1, rows, columns, samples)

    return Picture("JPEG", columns, rows, 1, samples, False, mode == "RGB", 0, np.dtype(np.uint8), decode)


def _jpeg_size(path: Path) -> tuple[int, int]:
    """Columns and rows of the first frame header (ITU-T T.81, B.2.2)."""
    with opened(path) as stream:
        at = 2
        while len(head := _bytes(stream, at, 9)) == 9 and head[0] == 0xFF:
            if head[1] in FRAMES:
                return int.from_bytes(head[7:9], "big"), int.from_bytes(head[5:7], "big")
            at += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:4], "big")
    raise InputError("the file is not a JPEG, or is damaged", source=path, hint="check its suffix")


def _bytes(stream: BinaryIO, at: int, count: int) -> bytes:
    stream.seek(at)
    return stream.read(count)
