"""The elements of a DICOM file, walked by their lengths before any library reads them.

A library that meets a length beyond the end of a file may allocate what it claims, or guess at another
encoding and allocate what that claims. Here every length is compared with what is left of the file or of the
sequence around it, and nothing of a value is kept but a few small ones.

Source: DICOM PS3.5, section 7 (data set encoding) and annex A (transfer syntaxes); PS3.10, section 7.1.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import closing
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medseg.core.errors import InputError, ResourceError
from medseg.io.names import opened

MAGIC_AT, MAGIC = 128, b"DICM"
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
TRANSFER_SYNTAX, SOP_CLASS, ROWS, BITS = 0x00020010, 0x00080016, 0x00280010, 0x00280100
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Pixel data as floats, doubles, and integers."""
MODALITY_LUT = 0x00283000
PER_FRAME, VENDOR, TILES = 0x52009230, 0x00190010, 0x0019100A
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Of frames, as segments or as label maps."""
NO_SCANS = (*SEGMENTATIONS, "1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.481.2")
"""Segmentations (frames, surfaces and label maps) and doses, whose pixels are no scan's."""
KEPT = (TRANSFER_SYNTAX, SOP_CLASS, BITS, VENDOR, TILES)
LONGEST_KEPT = 64
DEEPEST = 32
LARGEST_INFLATED = 2**30

IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
SHORT = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
    b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
)  # fmt: skip
MEND = "export it again"


@dataclass(frozen=True)
class Outline:
    """The kind of a file, from its elements.

    Attributes:
        sop_class: UID of its kind; empty where it has none.
        has_rows: whether it describes an image.
        has_pixels: whether it holds one.
        has_lut: whether its values become units by a table (Modality LUT), not by a slope and intercept.
        has_frames: whether it describes each of its frames.
        tiles: how many slices its vendor (Siemens) says are tiled in its one picture; 0 where it does not.
        values: how many its pixels hold, by their bytes and the bits of each; None where they are compressed.
    """

    sop_class: str
    has_rows: bool
    has_pixels: bool
    has_lut: bool
    has_frames: bool
    tiles: int
    values: int | None

    @property
    def is_scan(self) -> bool:
        """Whether it holds pixels that may be a scan's, and not those of a segmentation or a dose."""
        return self.has_pixels and self.sop_class not in NO_SCANS


class _Form(NamedTuple):
    explicit: bool
    order: str


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are those of DICOM, with the preamble of 128 bytes or without it.

    Without it a file begins with an element of group 2 or 8 whose length is plausible.

    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"Apache License, Version 2.0")
    (True, False)
    >>> looks_like_dicom(bytes.fromhex("0800050043530a00"))
    True
    """
    if head[MAGIC_AT:].startswith(MAGIC):
        return True
    if len(head) < 8:
        return False
    form = _guessed(head)
    group, element, vr = *struct.unpack_from(form.order + "HH", head), head[4:6]
    length = struct.unpack_from(form.order + "I", head, 4)[0]
    return group in (2, 8) and element < 0x2000 and (vr in LONG + SHORT or 0 < length < 256)


def outline(path: Path) -> Outline:
    """Walk the elements of a file and compare every length with what is there.

    Raises:
        InputError: a length goes beyond the end, an element has an unknown type, or items do not end.
        ResourceError: a deflated file becomes larger than a GiB.
    """
    with opened(path) as stream, closing(_mapped(stream, path)) as data:
        return _outline(data, path)


def _outline(data: mmap, path: Path) -> Outline:
    start = MAGIC_AT + 4 if data[MAGIC_AT : MAGIC_AT + 4] == MAGIC else 0
    meta = _Walk(data, path)
    end = meta.head(start)
    syntax = meta.text(TRANSFER_SYNTAX)
    walk = _Walk(data, path)
    if syntax == DEFLATED:
        walk, end = _Walk(_inflated(data[end:], path), path), 0
    form = _guessed(walk.data[end : end + 8])  # some writers state an explicit encoding and do not use it
    if syntax:
        form = _Form(syntax != IMPLICIT and form.explicit, ">" if syntax == BIG_ENDIAN else "<")
    walk.elements(end, len(walk.data), form, 0)
    return Outline(
        sop_class=walk.text(SOP_CLASS),
        has_rows=ROWS in walk.seen,
        has_pixels=any(tag in walk.seen for tag in PIXELS),
        has_lut=MODALITY_LUT in walk.seen,
        has_frames=PER_FRAME in walk.seen,
        tiles=walk.tiles(form),
        values=walk.values(form),
    )


class _Walk:
    """A walk through the elements of `data`: which tags there are outside sequences, and a few values."""

    def __init__(self, data: mmap | bytes, path: Path) -> None:
        self.data, self.path = data, path
        self.seen: set[int] = set()
        self.kept: dict[int, bytes] = {}
        self.pixel_bytes: int | None = None

    def text(self, tag: int) -> str:
        """A value that was kept, as text."""
        return self.kept.get(tag, b"").decode("ascii", "replace").strip(" \0")

    def tiles(self, form: _Form) -> int:
        """The number of slices in a mosaic, of the private block of Siemens."""
        value = self.kept.get(TILES, b"")
        known = self.text(VENDOR).startswith("SIEMENS") and len(value) == 2
        return int(struct.unpack(form.order + "H", value)[0]) if known else 0

    def values(self, form: _Form) -> int | None:
        """How many values the pixels hold; None where they are compressed, or the bits are not stated."""
        value = self.kept.get(BITS, b"")
        bits = int(struct.unpack(form.order + "H", value)[0]) if len(value) == 2 else 0
        return 8 * self.pixel_bytes // bits if bits and self.pixel_bytes is not None else None

    def head(self, at: int) -> int:
        """Walk the file meta information, which is explicit and little endian; where the data set begins."""
        while at + 8 <= len(self.data) and self.data[at : at + 2] == b"\x02\x00":
            at = self.element(at, len(self.data), _Form(True, "<"), 0)
        return at

    def elements(self, at: int, end: int, form: _Form, depth: int) -> int:
        """Walk elements up to `end`, or up to the end of an item of undefined length; where they ended."""
        while at < end:
            if not depth and not any(self.data[at : at + 4]) and not any(self.data[at:end]):
                return end  # padding
            if depth and self._tag(at, end, form) == ITEM_END:
                return at + 8
            at = self.element(at, end, form, depth)
        return at

    def element(self, at: int, end: int, form: _Form, depth: int) -> int:
        """Walk one element; where it ended."""
        tag, vr, length, start = self._header(at, end, form)
        if not depth:
            self.seen.add(tag)
        if length == UNDEFINED:
            inner = _Form(False, "<") if vr == b"UN" else form
            return self._items(start, end, inner, depth + 1, fragments=tag in PIXELS and vr != b"SQ")
        if length > end - start:
            raise self._fault(f"an element claims {length} bytes and {end - start} are left", at)
        if vr == b"SQ" or (vr == b"" and length >= 8 and self._tag(start, end, form) == ITEM):
            self._items(start, start + length, form, depth + 1, bounded=True)
        if not depth and tag in PIXELS:
            self.pixel_bytes = length
        if not depth and tag in KEPT:
            self.kept[tag] = self.data[start : start + min(length, LONGEST_KEPT)]
        return start + length

    def _items(
        self, at: int, end: int, form: _Form, depth: int, *, fragments: bool = False, bounded: bool = False
    ) -> int:
        """Walk the items of a sequence; where it ended."""
        if depth > DEEPEST:
            raise self._fault(f"sequences lie more than {DEEPEST} deep", at)
        while at < end:
            tag = self._tag(at, end, form)
            (length,) = struct.unpack_from(form.order + "I", self.data, at + 4)
            at += 8
            if tag == SEQUENCE_END:
                return at
            if (
                tag != ITEM
                or (length != UNDEFINED and length > end - at)
                or (fragments and length == UNDEFINED)
            ):
                raise self._fault(
                    "a sequence contains something other than an item, or an item beyond its end", at - 8
                )
            stop = end if length == UNDEFINED else at + length
            at = stop if fragments else self.elements(at, stop, form, depth)
        if not bounded:
            raise self._fault("a sequence does not end", at)
        return at

    def _header(self, at: int, end: int, form: _Form) -> tuple[int, bytes, int, int]:
        """Tag, type (empty where the encoding states none), length and first byte of an element's value."""
        tag = self._tag(at, end, form)
        if not form.explicit:
            return tag, b"", struct.unpack_from(form.order + "I", self.data, at + 4)[0], at + 8
        vr = self.data[at + 4 : at + 6]
        if vr in SHORT:
            return tag, vr, struct.unpack_from(form.order + "H", self.data, at + 6)[0], at + 8
        if vr not in LONG:
            raise self._fault("an element has an unknown type", at)
        if end - at < 12:
            raise self._fault("the last element is cut", at)
        return tag, vr, struct.unpack_from(form.order + "I", self.data, at + 8)[0], at + 12

    def _tag(self, at: int, end: int, form: _Form) -> int:
        if end - at < 8:
            raise self._fault("the last element is cut", at)
        group, element = struct.unpack_from(form.order + "HH", self.data, at)
        return int(group) << 16 | int(element)

    def _fault(self, what: str, at: int) -> InputError:
        return InputError(
            f"the DICOM file is cut or damaged: at byte {at} {what}", source=self.path, hint=MEND
        )


def _guessed(head: bytes) -> _Form:
    """The encoding of a data set without file meta information, from its first element, of group 8 or 2."""
    return _Form(head[4:6] in LONG + SHORT, ">" if head[:1] == b"\0" else "<")


def _mapped(stream: BinaryIO, path: Path) -> mmap:
    try:
        return mmap(stream.fileno(), 0, access=ACCESS_READ)
    except (OSError, ValueError):
        raise InputError(
            "the DICOM file is empty or cannot be read", source=path, hint="copy it again"
        ) from None


def _inflated(packed: bytes, path: Path) -> bytes:
    """The data set of the deflated transfer syntax (PS3.5, A.5)."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpack.decompress(packed, LARGEST_INFLATED)
    except zlib.error:
        raise InputError("the compressed data are damaged", source=path, hint="re-copy it") from None
    if unpack.unconsumed_tail:
        raise ResourceError(
            f"{len(packed) / 2**20:.1f} MiB unpack to more than {LARGEST_INFLATED / 2**30:.0f} GiB",
            source=path,
            hint="export it again without compression",
        )
    return data
