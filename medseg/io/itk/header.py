"""Text headers of MetaImage and NRRD, and where the voxels lie that they describe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medseg.core.affine import Affine
from medseg.core.errors import InputError
from medseg.io import payload
from medseg.io.names import opened, require_file

LONGEST_HEADER = 2**20
BLANKS = " \t\r\n\v\f"
"""Not all that Unicode calls blank: a letter in UTF-8 may end in such a byte."""
MEND = "export it again"


@dataclass(frozen=True, eq=False)
class Layout:
    """What a header says of a file's voxels: where they are, how they are stored, where they lie.

    Attributes:
        sizes: of the array's axes, the fastest first.
        channel_axis: which of them counts channels; None for one channel.
        dtype: with the file's byte order.
        compressed: zlib or gzip.
        data: the file that holds the voxels.
        start: the byte they start at.
        oriented: whether the header says where patient left is.
        affine: voxel index to RAS+ mm; of a header without orientation, only the spacings are meant.
        units: of length, that the header measures in; see `lengths.unit_of`.
    """

    sizes: tuple[int, ...]
    channel_axis: int | None
    dtype: np.dtype[Any]
    compressed: bool
    data: Path
    start: int
    oriented: bool
    affine: Affine
    units: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize

    @property
    def channels(self) -> int:
        return 1 if self.channel_axis is None else self.sizes[self.channel_axis]

    @property
    def shape(self) -> tuple[int, int, int]:
        i, j, k = (n for axis, n in enumerate(self.sizes) if axis != self.channel_axis)
        return i, j, k

    def require_whole(self) -> None:
        """Refuse more voxels than the file can hold, before anything depends on them.

        Raises:
            InputError: the file is too short.
            ResourceError: it is a decompression bomb.
        """
        with opened(self.data) as stream:
            stream.seek(self.start)
            if self.compressed:
                payload.require_plausible(self.data.stat().st_size - self.start, self.count, self.data)
            else:
                payload.require_length(stream, self.start + self.count, self.data)


def header(stream: BinaryIO, path: Path, last: str = "") -> tuple[dict[str, str], int]:
    """Keys and values up to the key `last` (an empty line, or the file's end, for none), and where that ends.

    Raises:
        InputError: the header has no end.
    """
    fields: dict[str, str] = {}
    while stream.tell() < LONGEST_HEADER:
        line = stream.readline(LONGEST_HEADER)
        text = line.decode("latin-1").strip(BLANKS)
        if not line and last:
            break
        key, found, value = text.partition("=" if last else ":")
        if found and not text.startswith("#"):
            fields.setdefault(key.strip(BLANKS), value.strip(BLANKS))
        if (last and text.startswith(last)) or (not last and not text):
            return fields, stream.tell()
    raise InputError("the header has no end", source=path, hint="check the file's format, or re-copy it")


def integers(text: str, path: Path) -> tuple[int, ...]:
    """Sizes.

    Raises:
        InputError: there are none.
    """
    words = text.split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) < 16 for word in words):
        raise InputError(
            "the header states no sizes", source=path, hint="check the file's format, or re-copy it"
        )
    return tuple(int(word) for word in words)


def require_dimensions(sizes: tuple[int, ...], claimed: str, path: Path) -> None:
    """Refuse sizes that are not those of a volume, or of several.

    Raises:
        InputError: they are.
    """
    if claimed != str(len(sizes)) or min(sizes) < 1 or len(sizes) > 4:
        raise InputError(f"the header claims the sizes {sizes}", source=path, hint="re-copy it")
    if len(sizes) < 3:
        raise InputError(
            f"the image is {len(sizes)}D, and 3D is needed", source=path, hint="give a 3D volume"
        )


def beside(path: Path, name: str) -> Path:
    """The voxel file a header names: only ever a plain name in the same folder.

    Raises:
        InputError: it is another place, several files, or is missing.
    """
    if not name or Path(name).name != name or "\\" in name or "%" in name or name.startswith("LIST"):
        raise InputError(
            "the header must name one voxel file beside it",
            source=path,
            hint="save it as one file",
        )
    data = path.with_name(name)
    require_file(data)
    return data
