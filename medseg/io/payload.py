"""Voxel bytes out of a file: read once, checked to the last byte, in bounded memory.

Compressed ones are unpacked by isal, which takes about half of zlib's time and refuses the same files, and by
zlib where isal is not installed. They are packed by zlib: what isal makes depends on the processor.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, ResourceError

try:
    from isal import isal_zlib
except ImportError:
    unpacking: Any = zlib
else:
    unpacking = isal_zlib

GZIP = 31
"""zlib's `wbits` for a gzip stream, whose CRC and length are checked."""
ZLIB, ZLIB_OR_GZIP = 15, 47
LEVEL = 4
"""For label maps and probabilities: near level 6 in size, in about half its time."""
GZIP_MAGIC = b"\x1f\x8b"

LARGEST_RATIO = 1032
"""DEFLATE cannot expand a byte to more than this many (RFC 1951: 258 bytes from two bits)."""
BOMB_RATIO = 500
BOMB_BYTES = 4 * 2**30
"""Beyond both, nothing is unpacked: noise in a scan, and borders in a label map, prevent such ratios."""
PADDING_BYTES = 2**20
"""Zero bytes after the voxels are tolerated up to here; some writers fill up blocks."""
LONGEST_FOOTER = 2**26
BLOCK = 2**18
PIECE = 2**20

Bytes = NDArray[np.uint8]


def read_raw(stream: BinaryIO, count: int, source: Path, *, footer: bool = False) -> Bytes:
    """`count` bytes from the stream's position, after which only zero padding, or a footer, may follow.

    Raises:
        InputError: the file is shorter, also when it shrinks meanwhile, or goes on with other data.
    """
    start = stream.tell()
    require_length(stream, start + count, source)
    out = np.empty(count, dtype=np.uint8)
    view, filled = out.data, 0
    while filled < count:
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            raise too_short(source, count, filled)
        filled += got
    _only_padding(iter(lambda: stream.read(BLOCK), b""), source, footer=footer)
    return out


def inflate(stream: BinaryIO, count: int, source: Path, wbits: int = GZIP, *, footer: bool = False) -> Bytes:
    """`count` bytes of a compressed stream, read to its end so that its checksum is verified.

    After them only zero padding may follow, or a footer of the format, which is not kept.

    Raises:
        InputError: the stream is damaged, cut, holds fewer bytes, or goes on after them.
        ResourceError: it is a decompression bomb.
    """
    require_plausible(_remaining(stream), count, source)
    out = np.empty(count, dtype=np.uint8)
    view, filled = out.data, 0
    pieces = _inflated(stream, source, wbits, package=unpacking)
    for piece in pieces:
        taken = min(len(piece), count - filled)
        view[filled : filled + taken] = piece[:taken]
        filled += taken
        if taken < len(piece):
            _only_padding(_chain(piece[taken:], pieces), source, footer=footer)
    if filled < count:
        raise too_short(source, count, filled)
    return out


def require_plausible(compressed: int, count: int, source: Path) -> None:
    """Refuse more voxel bytes than compressed ones can hold, before anything is allocated.

    Args:
        compressed: bytes in the file.
        count: bytes they are to become.
        source: the file, for the message.

    Raises:
        InputError: DEFLATE cannot make so many of them.
        ResourceError: it could, from next to nothing: a decompression bomb.
    """
    if count > LARGEST_RATIO * compressed:
        raise too_short(source, count, None)
    if count > BOMB_BYTES and count > BOMB_RATIO * compressed:
        raise ResourceError(
            f"{compressed / 2**20:.1f} MiB unpack to {count / 2**30:.1f} GiB, which is implausible "
            "for a scan",
            source=source,
            hint="if it is a scan, unpack it with gunzip first",
        )


def inflate_start(stream: BinaryIO, count: int, source: Path) -> bytes:
    """The first `count` bytes of a gzip stream, or fewer when it ends before.

    They are unpacked by zlib: isal unpacks 64 KiB for the first byte.

    Raises:
        InputError: the stream is damaged there.
    """
    out = b""
    for piece in _inflated(stream, source, GZIP, piece_bytes=max(count, 1024), package=zlib):
        out += piece
        if len(out) >= count:
            break
    return out[:count]


def require_length(stream: BinaryIO, needed: int, source: Path) -> None:
    """Refuse a plain file that is shorter than its header claims, before anything is allocated.

    Raises:
        InputError: with both sizes.
    """
    here = stream.tell()
    size = stream.seek(0, 2)
    stream.seek(here)
    if size < needed:
        raise too_short(source, needed, size)


def too_short(source: Path, needed: int, found: int | None) -> InputError:
    """The fault of a file that holds less than its header claims."""
    has = "it is far too small" if found is None else f"it ends after {found}"
    return InputError(
        f"the file is truncated: its header claims {needed} bytes and {has}", source=source, hint="re-copy it"
    )


def _remaining(stream: BinaryIO) -> int:
    here = stream.tell()
    size = stream.seek(0, 2)
    stream.seek(here)
    return size - here


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _only_padding(pieces: Iterator[bytes], source: Path, *, footer: bool = False) -> None:
    extra, most = 0, LONGEST_FOOTER if footer else PADDING_BYTES
    for piece in pieces:
        extra += len(piece)
        if extra > most or not (footer or piece.count(0) == len(piece)):
            raise InputError(
                "data follow the voxels where the file should end",
                source=source,
                hint="re-copy it, or export it again",
            )


def _inflated(
    stream: BinaryIO, source: Path, wbits: int, piece_bytes: int = PIECE, *, package: Any
) -> Iterator[bytes]:
    """The bytes of all members of a stream as a package unpacks them, in pieces of up to `piece_bytes`."""
    decoder = package.decompressobj(wbits)
    block = stream.read(BLOCK)
    if wbits == GZIP and not block.startswith(GZIP_MAGIC):
        raise InputError("the file is not gzip-compressed", source=source, hint="re-copy it")
    try:
        while block:
            piece = decoder.decompress(block, piece_bytes)
            if piece:
                yield piece
            block = decoder.unconsumed_tail
            if decoder.eof:
                block = _next_member(decoder.unused_data, stream, source)
                if block:
                    decoder = package.decompressobj(wbits)
            elif not block:
                block = stream.read(BLOCK)
        tail = b"" if decoder.eof else decoder.flush()
    except package.error:
        raise InputError("the compressed data are damaged", source=source, hint="re-copy it") from None
    if tail:
        yield tail
    if not decoder.eof:
        raise InputError("the compressed data are cut off", source=source, hint="re-copy it")


def _next_member(rest: bytes, stream: BinaryIO, source: Path) -> bytes:
    """The start of a further gzip member after zero padding; empty at the end of the file."""
    padding = 0
    while rest:
        body = rest.lstrip(b"\0")
        padding += len(rest) - len(body)
        if body.startswith(GZIP_MAGIC[: len(body)]):
            if body:
                return body
        elif body:
            raise InputError("data follow the compressed stream", source=source, hint="re-copy it")
        if padding > PADDING_BYTES:
            raise InputError("the file goes on after the voxels", source=source, hint="re-copy it")
        rest = stream.read(BLOCK)
    return b""
