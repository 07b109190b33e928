"""PNG: every chunk's checksum verified, nothing decoded but pixels, nothing written but pixels.

ISO/IEC 15948. Pillow decodes; colours of 16 bits, which it would cut to 8, go through SimpleITK.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.core.errors import InputError
from medseg.io import payload
from medseg.io.itk.images import simple_itk
from medseg.io.memory import require_memory
from medseg.io.names import opened
from medseg.io.pictures.header import Picture, Pixels, damage_named, require_few, require_upright

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
"""Bits of a sample that there are; of the other kinds, 8 and 16."""
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
"""First column and row, and steps, of the passes of an interlaced file."""
NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
"""Chunks that make up the pixels."""
MEND = "re-copy it, or save it again"
EXIF_START, ORIENTATION = b"Exif\0\0", 274


@dataclass(frozen=True, eq=False)
class _Parts:
    """A file taken apart: its header, and its chunks by kind, those of one kind joined."""

    path: Path
    columns: int
    rows: int
    depth: int
    kind: int
    interlaced: bool
    chunks: dict[bytes, bytes]


def load(path: Path) -> Picture:
    """A PNG file, every byte of it checked.

    Raises:
        InputError: it is cut, damaged, animated, or of a kind that is not read.
        ResourceError: it has too many pixels.
    """
    parts = _parts(path)
    stored = SAMPLES[parts.kind]
    return Picture(
        format="PNG",
        columns=parts.columns,
        rows=parts.rows,
        pages=1,
        samples=3 if parts.kind == PALETTE else stored,
        alpha=parts.kind in (GREY_ALPHA, COLOUR_ALPHA),
        colour=parts.kind in (COLOUR, PALETTE, COLOUR_ALPHA),
        labels=stored,
        dtype=np.dtype(np.uint16 if parts.depth == 16 else np.uint8),
        decode=lambda as_stored: _decoded(parts, as_stored)[None],
    )


def encode(pixels: Pixels) -> bytes:
    """Pixels (rows, columns, samples) of 8 or 16 bits, 1 or 3 samples, as a PNG file without any text."""
    rows, columns, samples = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    lines = (
        np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8)
    )
    data = np.pad(lines, ((0, 0), (1, 0))).tobytes()  # a zero before each line: it is not filtered
    header = struct.pack(">IIBBBBB", columns, rows, depth, GREY if samples == 1 else COLOUR, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 6)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _parts(path: Path) -> _Parts:
    with opened(path) as stream:
        require_memory(path.stat().st_size, path)
        blob = stream.read()
    joined: dict[bytes, list[bytes]] = {}
    for kind, content in _chunks(blob, path):
        joined.setdefault(kind, []).append(content)
    chunks = {kind: b"".join(contents) for kind, contents in joined.items()}
    header = chunks.get(b"IHDR", b"")
    if len(header) != 13:
        raise InputError("the file lacks a PNG header", source=path, hint=MEND)
    columns, rows, depth, kind, packing, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    if kind not in SAMPLES or depth not in DEPTHS.get(kind, (8, 16)) or packing or filtering:
        raise InputError("the header claims a kind of PNG that does not exist", source=path, hint=MEND)
    require_few(columns, rows, path)
    if b"acTL" in chunks:
        raise InputError("the file is an animation", source=path, hint="save one image of it")
    if kind == GREY_ALPHA and depth == 16:
        raise InputError(
            "16-bit grey with opacity is not supported", source=path, hint="save it without opacity"
        )
    require_upright(_orientation(chunks.get(b"eXIf", b""), path), path)
    parts = _Parts(path, columns, rows, depth, kind, bool(interlaced), chunks)
    payload.require_plausible(len(chunks.get(b"IDAT", b"")), _unpacked_bytes(parts), path)
    return parts


def _unpacked_bytes(parts: _Parts) -> int:
    """How long the pixels are once unpacked: a byte before each line, of each pass where interlaced."""
    bits, count = SAMPLES[parts.kind] * parts.depth, 0
    for x, y, across, down in ADAM7 if parts.interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - parts.columns) // across), -((y - parts.rows) // down)
        if columns > 0 and rows > 0:
            count += rows * (1 + (columns * bits + 7) // 8)
    return count


def _chunks(blob: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a file in their order, each whole."""
    if not blob.startswith(SIGNATURE):
        raise InputError("the file is not a PNG", source=path, hint="check its suffix")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(blob[at : at + 4], "big")
        kind, content = blob[at + 4 : at + 8], blob[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(blob):
            raise InputError("the file is truncated", source=path, hint="re-copy it")
        if int.from_bytes(blob[at - 4 : at], "big") != zlib.crc32(kind + content):
            raise InputError("the file is damaged: a checksum is wrong", source=path, hint="re-copy it")
        yield kind, content
    if blob[at:].strip(b"\0"):
        raise InputError("data follow the image where the file should end", source=path, hint=MEND)


def _orientation(exif: bytes, path: Path) -> object:
    if not exif:
        return None
    from PIL import Image

    tags = Image.Exif()
    with damage_named(path):
        tags.load(EXIF_START + exif)
        return tags.get(ORIENTATION)


def _decoded(parts: _Parts, as_stored: bool) -> Pixels:
    """Pixels (rows, columns, samples); the colours of a palette, or as stored its indices.

    The decoders take pixels that end too early for black: they are unpacked here first, to be counted.
    """
    payload.inflate(
        io.BytesIO(parts.chunks.get(b"IDAT", b"")), _unpacked_bytes(parts), parts.path, payload.ZLIB
    )
    deep = parts.depth == 16 and parts.kind != GREY
    pixels = _through_itk(parts) if deep else _through_pillow(parts)
    if as_stored:
        return pixels
    clear = parts.chunks.get(b"tRNS", b"")
    if parts.kind == PALETTE:
        return _looked_up(parts, pixels[..., 0], np.frombuffer(clear, np.uint8))
    if clear:
        raise InputError("one of its colours is transparent", source=parts.path, hint="save it without")
    return pixels


def _looked_up(parts: _Parts, indices: Pixels, opacity: Pixels) -> Pixels:
    entries = parts.chunks.get(b"PLTE", b"")
    colours = np.frombuffer(entries[: len(entries) // 3 * 3], np.uint8).reshape(-1, 3)
    if indices.max() >= len(colours):
        raise InputError("a pixel has a colour that its palette lacks", source=parts.path, hint=MEND)
    if (opacity[indices[indices < len(opacity)]] != 255).any():
        raise InputError("pixels are transparent", source=parts.path, hint="save it without transparency")
    return colours[indices]


def _through_pillow(parts: _Parts) -> Pixels:
    """The stored samples: grey of fewer than 8 bits is stretched in decoding, and brought back."""
    from PIL import Image

    blob = SIGNATURE + b"".join(_chunk(k, parts.chunks[k]) for k in NEEDED if k in parts.chunks)
    with damage_named(parts.path), Image.open(io.BytesIO(blob), formats=["PNG"]) as image:
        pixels = np.array(image)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    elif parts.kind == GREY and parts.depth < 8:
        pixels //= 255 // (2**parts.depth - 1)
    return pixels.reshape(parts.rows, parts.columns, SAMPLES[parts.kind])


def _through_itk(parts: _Parts) -> Pixels:
    sitk = simple_itk()
    with damage_named(parts.path):
        image = sitk.ReadImage(os.fspath(parts.path), imageIO="PNGImageIO")
        return np.asarray(sitk.GetArrayFromImage(image)).reshape(
            parts.rows, parts.columns, SAMPLES[parts.kind]
        )
