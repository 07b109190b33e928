"""What a file holds, by its first bytes: a suffix that says something else is named before a file is read.

Sources: NIfTI-1 and NIfTI-2 (sizeof_hdr, magic); "The MGH/MGZ Volume Format", FreeSurfer's wiki;
"Definition of NRRD File Format", teem.sourceforge.net; "MetaIO", itk.org; DICOM PS3.10, section 7.1;
PNG (W3C), 5.2; TIFF 6.0, section 2; ITU-T T.81, B.1.1.3; APPNOTE (ZIP), 4.3.7; HDF5 File Format
Specification, II.A.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import InputError
from medseg.io.formats import FORMATS
from medseg.io.names import format_of, opened, partner, stem_and_suffix
from medseg.io.payload import GZIP, GZIP_MAGIC

START = 4096
"""Bytes that are looked at: the header of every format, and of NRRD the lines of its first segment."""
NIFTI_PAIR, NRRD, PACKED = "the header of a NIfTI pair", "NRRD", "compressed "
SEGMENT = b"\nSegment0_"


@dataclass(frozen=True)
class Content:
    """A kind of content.

    Attributes:
        name: as `Format.content` has it, with `PACKED` before it where gzip is part of the format.
        start: what such a file begins with.
        remedy: what to do about it, where no suffix means it.
    """

    name: str
    start: re.Pattern[bytes]
    remedy: str = ""


def _content(name: str, start: bytes, remedy: str = "") -> Content:
    return Content(name, re.compile(start, re.DOTALL), remedy)


CONTENTS = (
    _content(
        NIFTI_PAIR,
        rb"(\x5c\x01\0\0|\0\0\x01\x5c).{340}ni1\0|(\x1c\x02\0\0|\0\0\x02\x1c)ni2\0",
    ),
    _content("NIfTI", rb"(\x5c\x01\0\0|\0\0\x01\x5c).{340}n\+1\0|(\x1c\x02\0\0|\0\0\x02\x1c)n\+2\0"),
    _content("MGH", rb"\0\0\0\x01(\0[\0-\x0f]..){4}\0\0\0[\0\x01\x03\x04\x0a]"),
    _content("MetaImage", rb"\s*(Comment|ObjectType|NDims)\s*="),
    _content(NRRD, rb"NRRD\d{4}"),
    _content("DICOM", rb".{128}DICM"),
    _content("PNG", rb"\x89PNG\r\n\x1a\n"),
    _content("TIFF", rb"II[*+]\0|MM\0[*+]"),
    _content("JPEG", rb"\xff\xd8\xff"),
    _content("a ZIP archive", rb"PK\x03\x04", "unpack it, and name the image in it"),
    _content("HDF5, as MINC is", rb"\x89HDF\r\n\x1a\n", "convert it to NIfTI"),
    _content("a web page", rb"\s*<(?i:!doctype html|html)", "download it again: this is a server's answer"),
    _content("a pointer of Git LFS", rb"version https://git-lfs", "fetch the file itself: git lfs pull"),
)
ANYTHING_PACKED = "data that gzip compressed"
UNPACK = "unpack it with gunzip, or re-copy it"


def require_true_suffix(path: Path) -> None:
    """Refuse a file whose first bytes are of one format, and its suffix of another.

    Of a pair the header is looked at. What nothing is known of is left to who reads it, as is a missing file.

    Raises:
        InputError: naming both formats, and the suffix to rename it to.
    """
    if format_of(path).part == "voxels" and partner(path, ".hdr").is_file():
        path = partner(path, ".hdr")
    if not path.is_file():
        return
    said = format_of(path).content
    start, packed = _start(path)
    found = [content for content in CONTENTS if content.start.match(start)]
    names = [_name(content, packed=packed) for content in found]
    is_untold = not found and (not packed or said.startswith(PACKED))
    if said in names or is_untold:
        return
    suffix = stem_and_suffix(path)[1]
    of_suffix = f"suffix says {said}" if said else f"suffix {suffix or '(none)'} is not that of an image"
    raise InputError(
        f"holds {names[0] if found else ANYTHING_PACKED}, though its {of_suffix}",
        source=path,
        hint=_remedy(path, found[0], start, packed=packed) if found else UNPACK,
    )


def _name(content: Content, *, packed: bool) -> str:
    return PACKED + content.name if packed else content.name


def _start(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, unpacked, and whether gzip had packed them; none where they are damaged."""
    with opened(path) as stream:
        start = stream.read(START)
    if not start.startswith(GZIP_MAGIC):
        return start, False
    try:
        return zlib.decompressobj(GZIP).decompress(start, START), True
    except zlib.error:
        return b"", True


def _remedy(path: Path, content: Content, start: bytes, *, packed: bool) -> str:
    """The name that a file should have, or what makes it one that can be read."""
    if content.remedy:
        return content.remedy
    stem, suffix = stem_and_suffix(path)
    if suffix == ".gz":
        stem = stem_and_suffix(stem)[0]
    if packed and (right := _suffix(PACKED + content.name, start)):
        return f"rename it to {stem}{right}"
    right = _suffix(content.name, start)
    if packed:
        return f"unpack it with gunzip, and name the result {stem}{right}"
    if content.name == NIFTI_PAIR:
        return f"rename it to {stem}{right}, and the file of its voxels to {stem}.img"
    return f"rename it to {stem}{right}"


def _suffix(name: str, start: bytes) -> str:
    """The suffix of a content; of NRRD with segments, that of segmentations; empty where there is none."""
    segments = name == NRRD and SEGMENT in start
    fitting = (s for s, f in FORMATS.items() if f.content == name and f.holds_labels_only == segments)
    return next(fitting, "")
