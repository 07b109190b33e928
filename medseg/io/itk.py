"""MetaImage (.mha, .mhd) and NRRD.

SimpleITK reads the geometry, turned from LPS to RAS, and writes; the voxels are decoded here,
because ITK accepts compressed data whose checksum is wrong, and data after the end.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.affine import Affine
from medseg.errors import GeometryError, InputError, ResourceError
from medseg.io import payload
from medseg.io.memory import require_memory
from medseg.io.names import opened, require_file, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.io.placement import checked_grid
from medseg.volume import FileForm, Grid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LONGEST_HEADER = 2**20
IMAGE_IO = {
    ".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".seg.nrrd": "NrrdImageIO",
}  # fmt: skip

META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
NRRD_SPACES = (
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
)  # fmt: skip
TRUE = ("true", "t", "1", "yes", "y")
BLANKS = " \t\r\n\v\f"
"""Not all that Unicode calls blank: a letter in UTF-8 may end in such a byte."""
MEND = "export it again"


@dataclass(frozen=True)
class Layout:
    """Where a file's voxels are and how they are stored.

    Attributes:
        sizes: of the array's axes, the fastest first.
        channel_axis: which of them counts channels; None for one channel.
        dtype: with the file's byte order.
        compressed: zlib or gzip.
        data: the file that holds the voxels.
        start: the byte they start at.
        oriented: whether the header says where patient left is.
    """

    sizes: tuple[int, ...]
    channel_axis: int | None
    dtype: np.dtype[Any]
    compressed: bool
    data: Path
    start: int
    oriented: bool

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


def describe(path: Path, options: ReadOptions) -> ImageInfo:
    """What the header says, checked; reads no voxels.

    Raises:
        InputError: the header is damaged or of a kind that is not read.
        GeometryError: there is no orientation, or an impossible one.
    """
    return _describe(path, _layout(path), options)


def read(path: Path, options: ReadOptions) -> Stored:
    """Header and voxels (T, I, J, K), as stored, in native byte order.

    Raises:
        InputError: the file is damaged, cut, or goes on after its voxels.
        GeometryError: there is no orientation, or an impossible one.
        ResourceError: the voxels cannot fit in memory.
    """
    layout = _layout(path)
    info = _describe(path, layout, options)
    require_memory(layout.count + 4 * math.prod(layout.sizes), path)
    with opened(layout.data) as stream:
        stream.seek(layout.start)
        decode = _unpack if layout.compressed else payload.read_raw
        data = decode(stream, layout.count, layout.data)
    array = data.view(layout.dtype).reshape(layout.sizes, order="F")
    array = array[None] if layout.channel_axis is None else np.moveaxis(array, layout.channel_axis, 0)
    return Stored(info, array.astype(array.dtype.newbyteorder("="), copy=False))


def files(path: Path) -> tuple[Path, ...]:
    """The files an image at `path` is read from."""
    return tuple(dict.fromkeys((path, _layout(path).data)))


def targets(path: Path) -> tuple[Path, ...]:
    """The files an image at `path` consists of; the header comes last."""
    return (path.with_suffix(".zraw"), path) if stem_and_suffix(path)[1] == ".mhd" else (path,)


def write(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write voxels (I, J, K) and their grid, compressed, at exactly `path`.

    Raises:
        ResourceError: the writer failed; it tells no reason, and a full disk is the usual one.
    """
    sitk = simple_itk()
    lps = LPS_TO_RAS @ grid.affine
    spacing = np.asarray(grid.spacing_mm)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(np.round(lps[:3, :3] / spacing, 15).ravel().tolist())
    try:
        sitk.WriteImage(image, os.fspath(path), True)
    except RuntimeError:
        raise ResourceError(
            "the image could not be written", source=path, mend="look for free disk"
        ) from None


def nrrd_fields(path: Path) -> dict[str, str]:
    """The lines of an NRRD header, decoded as Latin-1; the value of `key:=value` begins with `=`.

    Raises:
        InputError: the header has no end.
    """
    require_file(path)
    with opened(path) as stream:
        return _header(stream, path, b"")[0]


def simple_itk() -> Any:
    """SimpleITK, imported when first needed, with its own warnings to stderr switched off."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _unpack(stream: BinaryIO, count: int, source: Path) -> payload.Bytes:
    return payload.inflate(stream, count, source, payload.ZLIB_OR_GZIP)


def _describe(path: Path, layout: Layout, options: ReadOptions) -> ImageInfo:
    _require_whole(layout)
    affine = _affine(path, layout)
    warnings: tuple[str, ...] = ()
    if not layout.oriented:
        affine, warnings = _assumed(path, affine, options)
    grid, more = checked_grid(layout.shape, affine, path)
    suffix = stem_and_suffix(path)[1]
    return ImageInfo(
        path=path,
        format="NRRD" if suffix.endswith(".nrrd") else "MetaImage",
        grid=grid,
        channels=layout.channels,
        dtype=layout.dtype.newbyteorder("=").name,
        slope=1.0,
        inter=0.0,
        form=FileForm(suffix=suffix),
        warnings=warnings + more,
    )


def _require_whole(layout: Layout) -> None:
    """Refuse a header that claims more voxels than the file can hold, before anything depends on them."""
    with opened(layout.data) as stream:
        stream.seek(layout.start)
        if layout.compressed:
            payload.require_plausible(layout.data.stat().st_size - layout.start, layout.count, layout.data)
        else:
            payload.require_length(stream, layout.start + layout.count, layout.data)


def _assumed(path: Path, affine: Affine, options: ReadOptions) -> tuple[Affine, tuple[str, ...]]:
    if not options.assume_ras:
        raise GeometryError(
            "the header stores no orientation",
            source=path,
            mend="add --assume-ras if you know that it lies in RAS order",
        )
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return np.diag([*spacing, 1.0]), ("The file stores no orientation; RAS order was assumed as told.",)


def _affine(path: Path, layout: Layout) -> Affine:
    sitk = simple_itk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[stem_and_suffix(path)[1]])
    try:
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
        dims = reader.GetDimension()
        direction = np.asarray(reader.GetDirection()).reshape(dims, dims)
        spacing, origin = np.asarray(reader.GetSpacing()), np.asarray(reader.GetOrigin())
        size = tuple(reader.GetSize())
    except (RuntimeError, UnicodeError, ValueError, TypeError, OverflowError):
        raise InputError("the header cannot be read", source=path, mend=MEND) from None
    if size[:3] != layout.shape or dims not in (3, 4):
        raise InputError(f"the header claims {size} and {layout.sizes}", source=path, mend=MEND)
    lps = np.eye(4)
    lps[:3, :3] = direction[:3, :3] * spacing[:3]
    lps[:3, 3] = origin[:3]
    return LPS_TO_RAS @ lps


def _layout(path: Path) -> Layout:
    require_file(path)
    with opened(path) as stream:
        if stem_and_suffix(path)[1].endswith(".nrrd"):
            return _nrrd(path, *_header(stream, path, b""))
        return _meta(path, *_header(stream, path, b"ElementDataFile"))


def _header(stream: BinaryIO, path: Path, last: bytes) -> tuple[dict[str, str], int]:
    """Keys and values up to the line that starts with `last` (an empty line for b""), and its end."""
    fields: dict[str, str] = {}
    separator = "=" if last else ":"
    while stream.tell() < LONGEST_HEADER:
        line = stream.readline(LONGEST_HEADER)
        if not line:
            break
        text = line.decode("latin-1").strip(BLANKS)
        key, found, value = text.partition(separator)
        if found and not text.startswith("#"):
            fields.setdefault(key.strip(BLANKS), value.strip(BLANKS))
        if (last and line.startswith(last)) or (not last and not text):
            return fields, stream.tell()
    raise InputError("the header has no end", source=path, mend="check the file's format, or re-copy it")


def _meta(path: Path, fields: dict[str, str], end: int) -> Layout:
    sizes = _integers(fields.get("DimSize", ""), path)
    _require_dimensions(sizes, fields.get("NDims", ""), path)
    kind, channels = (
        fields.get("ElementType", ""),
        _integers(fields.get("ElementNumberOfChannels", "1"), path),
    )
    if kind not in META_TYPES or fields.get("BinaryData", "True").lower() not in TRUE:
        raise InputError(
            "the voxels are of a type that is not read", source=path, mend="save it as binary numbers"
        )
    if fields.get("HeaderSize", "0") != "0" or len(channels) != 1 or channels[0] < 1:
        raise InputError("the header is of a kind that is not read", source=path, mend=MEND)
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() in TRUE
    name = fields["ElementDataFile"]
    data, start = (path, end) if name.upper() == "LOCAL" else (_beside(path, name), 0)
    vector = channels[0] > 1
    if vector and len(sizes) == 4:
        raise InputError("the image has more than four dimensions", source=path, mend="split it")
    return Layout(
        sizes=(channels[0], *sizes) if vector else sizes,
        channel_axis=0 if vector else 3 if len(sizes) == 4 else None,
        dtype=np.dtype((">" if big else "<") + META_TYPES[kind]),
        compressed=fields.get("CompressedData", "False").lower() in TRUE,
        data=data,
        start=start,
        oriented=any(key in fields for key in ("TransformMatrix", "Orientation", "Rotation")),
    )


def _nrrd(path: Path, fields: dict[str, str], end: int) -> Layout:
    sizes = _integers(fields.get("sizes", ""), path)
    _require_dimensions(sizes, fields.get("dimension", ""), path)
    kind = next((k for k, names in NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    if kind is None:
        raise InputError("the voxels are of a type that is not read", source=path, mend="save it as numbers")
    encoding = fields.get("encoding", "").lower()
    skips = any(fields.get(key, "0") != "0" for key in ("line skip", "byte skip", "lineskip", "byteskip"))
    if encoding not in ("raw", "gzip", "gz") or skips or "data file" in fields or "datafile" in fields:
        raise InputError("its voxels are not stored raw or gzip in one file", source=path, mend=MEND)
    big = fields.get("endian", "little").lower() == "big"
    directions = fields.get("space directions", "").lower()
    axis = None if len(sizes) == 3 else 0 if directions.startswith("none") else 3
    return Layout(
        sizes=sizes,
        channel_axis=axis,
        dtype=np.dtype((">" if big else "<") + kind),
        compressed=encoding != "raw",
        data=path,
        start=end,
        oriented=fields.get("space", "").lower() in NRRD_SPACES and bool(directions),
    )


def _beside(path: Path, name: str) -> Path:
    """The voxel file a header names: only ever a plain name in the same folder."""
    if not name or Path(name).name != name or "\\" in name or "%" in name or name.startswith("LIST"):
        raise InputError(
            "the header names voxels that are not one file beside it", source=path, mend="save it as one .mha"
        )
    data = path.with_name(name)
    require_file(data)
    return data


def _integers(text: str, path: Path) -> tuple[int, ...]:
    words = text.split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) < 16 for word in words):
        raise InputError(
            "the header gives no sizes", source=path, mend="check the file's format, or re-copy it"
        )
    return tuple(int(word) for word in words)


def _require_dimensions(sizes: tuple[int, ...], claimed: str, path: Path) -> None:
    if claimed != str(len(sizes)) or min(sizes) < 1 or len(sizes) > 4:
        raise InputError(f"the header claims the sizes {sizes}", source=path, mend="re-copy it")
    if len(sizes) < 3:
        raise InputError(
            f"the image is {len(sizes)}D, and 3D is needed", source=path, mend="give a 3D volume"
        )
