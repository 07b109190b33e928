"""NRRD headers (.nrrd; .nhdr with its data beside it), read and written whatever the locale.

ITK reads and writes the numbers of these headers as the process's locale spells them (ITK#5683), so
they are parsed here. Source: "Definition of NRRD File Format", teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import LPS_TO_RAS, Affine
from medseg.core.errors import InputError
from medseg.core.volume import Grid
from medseg.io import payload
from medseg.io.itk.header import MEND, Layout, beside, header, integers, require_dimensions
from medseg.io.itk.lengths import MM_PER, unit_of
from medseg.io.names import opened, require_file

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""Names of each type; the first is written."""
TO_RAS = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
}
SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
MAGIC = b"NRRD"
DETACHED = ".nhdr"
DATA = ".raw.gz"
"""Suffix of the voxels that are written beside a detached header."""
VECTOR = re.compile(r"none|\(([^()]*)\)")
QUOTED = re.compile(r'"([^"]*)"')
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)


def fields_of(path: Path) -> dict[str, str]:
    """The lines of a header, decoded as Latin-1; the value of `key:=value` begins with `=`.

    Raises:
        InputError: the header has no end.
    """
    require_file(path)
    with opened(path) as stream:
        return header(stream, path)[0]


def layout(path: Path) -> Layout:
    """What the header says, checked.

    Raises:
        InputError: it is damaged or of a kind that is not read.
    """
    require_file(path)
    with opened(path) as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise InputError("the file is not NRRD", source=path, hint="check its suffix, or re-copy it")
        fields, end = header(stream, path)
    sizes = integers(fields.get("sizes", ""), path)
    require_dimensions(sizes, fields.get("dimension", ""), path)
    kind = next((k for k, names in TYPES.items() if fields.get("type", "").lower() in names), None)
    if kind is None:
        raise InputError("the voxel type is not supported", source=path, hint="save it as numbers")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise InputError("its voxels are not stored raw or gzip", source=path, hint=MEND)
    big = fields.get("endian", "little").lower() == "big"
    dtype = np.dtype((">" if big else "<") + kind)
    data, start = _place(path, fields, end, encoding == "raw", math.prod(sizes) * dtype.itemsize)
    space = fields.get("space", "").lower()
    axes = _axes(fields.get("space directions", ""), len(sizes), path)
    axis = _channel_axis(axes, fields.get("kinds", ""), len(sizes), path)
    affine, units = _affine(fields, axes, axis, TO_RAS.get(SHORT.get(space, space)), path)
    return Layout(
        sizes=sizes,
        channel_axis=axis,
        dtype=dtype,
        compressed=encoding != "raw",
        data=data,
        start=start,
        oriented=SHORT.get(space, space) in TO_RAS and bool(axes),
        affine=affine,
        units=tuple(units),
    )


def targets(path: Path) -> tuple[Path, ...]:
    """The files an image at `path` consists of; the header comes last."""
    return (path.with_suffix(DATA), path) if path.suffix.lower() == DETACHED else (path,)


def write(path: Path, layers: Sequence[NDArray[Any]], grid: Grid, keys: Iterable[str] = ()) -> None:
    """Write arrays (I, J, K) on a grid, compressed, at exactly `path`; several in a first, `list` axis.

    The bytes depend on nothing but the arguments: no time, no text but the lines `keys`.
    """
    dtype = layers[0].dtype
    *data, _ = targets(path)
    named = [f"data file: {file.name}" for file in data]
    text = "\n".join([*_lines(len(layers), dtype, grid), *named, *keys]) + "\n\n"
    packer = zlib.compressobj(payload.LEVEL, zlib.DEFLATED, payload.GZIP)
    little = dtype.newbyteorder("<")
    with (data[0] if data else path).open("wb") as stream:
        head = text.encode("utf-8", "backslashreplace")
        if data:
            path.write_bytes(head)
        else:
            stream.write(head)
        for k in range(grid.shape[2]):
            slab = np.stack([layer[:, :, k] for layer in layers])
            stream.write(packer.compress(slab.astype(little, copy=False).tobytes(order="F")))
        stream.write(packer.flush())


def _lines(layers: int, dtype: np.dtype[Any], grid: Grid) -> list[str]:
    """The standard part of a header."""
    lps = LPS_TO_RAS @ grid.affine + 0.0
    several = layers > 1
    sizes = (layers, *grid.shape) if several else grid.shape
    return [
        "NRRD0004",
        f"type: {TYPES[dtype.newbyteorder('=').str[1:]][0]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' * several}{' '.join(_written(lps[:3, axis]) for axis in range(3))}",
        f"kinds: {'list ' * several}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_written(lps[:3, 3])}",
    ]


def _written(values: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _place(path: Path, fields: dict[str, str], end: int, raw: bool, count: int) -> tuple[Path, int]:
    """The file that holds the voxels, and the byte they start at.

    Of raw voxels, a skip of -1 says that they are the last bytes of the file.
    """
    name = fields.get("data file", fields.get("datafile"))
    skips = [
        fields.get(f"{kind} skip", fields.get(f"{kind}skip", "0")).removeprefix("+")
        for kind in ("line", "byte")
    ]
    data, start = (path, end) if name is None else (beside(path, name), 0)
    if skips[0] == "0" and skips[1] == "-1" and raw:
        return data, max(start, data.stat().st_size - count)
    if skips[0] != "0" or not (skips[1].isascii() and skips[1].isdigit()) or (skips[1] != "0" and not raw):
        raise InputError("the header skips data in a way that is not supported", source=path, hint=MEND)
    return data, start + int(skips[1])


def _axes(text: str, dimensions: int, path: Path) -> list[NDArray[np.float64] | None]:
    """The direction of each axis, none for one that lies in no space; empty where nothing is stated."""
    if not text:
        return []
    found = list(VECTOR.finditer(text.lower()))
    if len(found) != dimensions or VECTOR.sub("", text.lower()).strip():
        raise InputError("its space directions cannot be read", source=path, hint=MEND)
    return [None if match[1] is None else _vector(match[1], path) for match in found]


def _vector(text: str, path: Path) -> NDArray[np.float64]:
    words = [word.strip() for word in text.split(",")]
    if len(words) != 3 or not all(NUMBER.fullmatch(word) for word in words):
        raise InputError("the header states a position that is not three numbers", source=path, hint=MEND)
    return np.array([float(word) for word in words])


def _channel_axis(
    axes: Sequence[NDArray[np.float64] | None], kinds: str, dimensions: int, path: Path
) -> int | None:
    """Which axis counts channels: the one without a direction, or of another kind than the rest."""
    if axes:
        outside = [n for n, axis in enumerate(axes) if axis is None]
        if len(outside) != dimensions - 3:
            raise InputError("its space directions do not describe a volume", source=path, hint=MEND)
        return next(iter(outside), None)
    if dimensions == 3:
        return None
    words = kinds.lower().split()
    return 0 if len(words) == 4 and words[0] not in ("domain", "space") else 3


def _affine(
    fields: dict[str, str],
    axes: Sequence[NDArray[np.float64] | None],
    channel_axis: int | None,
    signs: tuple[float, float, float] | None,
    path: Path,
) -> tuple[Affine, list[str]]:
    """Voxel index to RAS+ mm, and the units that it was stored in."""
    affine = np.eye(4)
    if axes:
        affine[:3, :3] = np.stack([axis for axis in axes if axis is not None], axis=1)
    else:
        words = fields.get("spacings", "").split()
        if not words or not all(NUMBER.fullmatch(word) for word in words):
            raise InputError("the header states no spacings", source=path, hint=MEND)
        affine[:3, :3] = np.diag(_three([float(word) for word in words], channel_axis, path))
    if "space origin" in fields:
        affine[:3, 3] = _vector(fields["space origin"].strip("()"), path)
    if signs is not None:
        affine[:3] *= np.array(signs)[:, None]
    return _in_mm(affine, fields, channel_axis, bool(axes), path)


def _in_mm(
    affine: Affine, fields: dict[str, str], channel_axis: int | None, axes: bool, path: Path
) -> tuple[Affine, list[str]]:
    """Units belong to the axes of the space, or else to those of the array."""
    of_space, of_axes = (_units(fields.get(key, ""), path) for key in ("space units", "units"))
    if of_space:
        if len(of_space) != 3:
            raise InputError(
                f"the header names {len(of_space)} units of space, not 3", source=path, hint=MEND
            )
        units = [unit_of(text, path) for text in of_space]
        affine[:3] *= np.array([MM_PER[unit] for unit in units])[:, None]
        return affine, units
    if of_axes:
        units = [unit_of(text, path) for text in _three(of_axes, channel_axis, path)]
        affine[:3, :3] *= np.array([MM_PER[unit] for unit in units])
        if axes and len(set(units)) > 1:
            raise InputError("the units of its axes differ", source=path, hint=MEND)
        affine[:3, 3] *= MM_PER[units[0]]
        return affine, units
    return affine, []


def _units(text: str, path: Path) -> list[str]:
    """Units as a header lists them, in quotes."""
    text = text.encode("latin-1").decode("utf-8", "replace")
    if QUOTED.sub("", text).strip():
        raise InputError("the header's units cannot be read", source=path, hint=MEND)
    return QUOTED.findall(text)


def _three(values: Sequence[Any], channel_axis: int | None, path: Path) -> list[Any]:
    """What a header lists for each axis of the array, without that of the channels."""
    found = [value for n, value in enumerate(values) if n != channel_axis]
    if len(found) != 3:
        raise InputError(f"the header lists {len(values)} values for its axes", source=path, hint=MEND)
    return found
