"""A raw NIfTI header, checked before anything is allocated or repaired.

nibabel mends many faults silently while loading (zero and negative spacings, offsets, slopes), so
the raw fields are judged here. Source: the NIfTI-1 and NIfTI-2 data formats, nifti.nimh.nih.gov.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.io.nifti.fields import DTYPES, HEADERS, MAGICS, NIFTI2_END

SIZES = {348: 1, 540: 2}
LONGEST = 544
FARTHEST_OFFSET = 2**26
"""Voxels start at most this many bytes into a file: more is no extension but a claim on memory."""

REFUSED = {
    1: "bits", 32: "complex numbers", 128: "RGB colours", 1536: "128-bit floats",
    1792: "complex numbers", 2048: "complex numbers", 2304: "RGBA colours",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class RawHeader:
    """Fields of a structurally sound header; the geometry is not checked yet.

    Attributes:
        version: 1 or 2.
        single: voxels follow in the same file.
        little: byte order.
        shape: voxels along I, J, K.
        volumes: how many such volumes.
        dtype: of the voxels, in the file's byte order.
        offset: where the voxels start, bytes.
        slope: factor, 1 where the header has none.
        inter: summand, 0 where the header has none.
        fields: the header as a structured scalar.
    """

    version: int
    single: bool
    little: bool
    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    fields: NDArray[np.void]

    @property
    def voxels(self) -> int:
        return math.prod(self.shape) * self.volumes

    @property
    def voxel_bytes(self) -> int:
        return self.voxels * self.dtype.itemsize

    @property
    def header_bytes(self) -> int:
        return 348 if self.version == 1 else 540

    def numbers(self, *names: str) -> list[float]:
        """Header fields as floats, arrays flattened."""
        return [float(x) for name in names for x in np.atleast_1d(self.fields[name])]


def parse(blob: bytes, source: Path) -> RawHeader:
    """Read and check the fixed part of a header.

    Args:
        blob: the file's first bytes, up to 544.
        source: the file, for messages.

    Raises:
        InputError: no NIfTI header, or one that claims what cannot be.
    """
    version, order = _version_and_order(blob, source)
    layout = HEADERS[version]
    if len(blob) < layout.itemsize:
        raise InputError("the header is cut off", source=source, hint="re-copy it")
    fields = np.frombuffer(blob, dtype=layout.newbyteorder(order), count=1)[0]
    single = _is_single(fields, version, source)
    shape, volumes = _shape(fields, source)
    slope, inter = _scaling(fields, source)
    return RawHeader(
        version=version,
        single=single,
        little=order == "<",
        shape=shape,
        volumes=volumes,
        dtype=_dtype(fields, order, source),
        offset=_offset(fields, version, single, source),
        slope=slope,
        inter=inter,
        fields=fields,
    )


def check_extensions(region: bytes, little: bool, source: Path) -> None:
    """Refuse extensions that claim more room than lies before the voxels; their text is not read.

    Args:
        region: the bytes from the end of the fixed header to the voxels.
        little: byte order of the header.
        source: the file, for messages.

    Raises:
        InputError: a size is below 8 or leads beyond the region.
    """
    if len(region) < 4 or region[0] == 0:
        return
    at = 4
    while at + 8 <= len(region):
        size = int.from_bytes(region[at : at + 4], "little" if little else "big", signed=True)
        if size < 8 or at + size > len(region):
            raise InputError(
                f"a header extension claims {size} bytes where {len(region) - at} are left",
                source=source,
                hint="export it again without extensions",
            )
        at += size


def _version_and_order(blob: bytes, source: Path) -> tuple[int, Literal["<", ">"]]:
    orders: tuple[tuple[Literal["<", ">"], Literal["little", "big"]], ...] = (("<", "little"), (">", "big"))
    for order, name in orders:
        version = SIZES.get(int.from_bytes(blob[:4], name))
        if version is not None:
            return version, order
    raise InputError("this is not a NIfTI file", source=source, hint="check the file's format, or re-copy it")


def _is_single(fields: Any, version: int, source: Path) -> bool:
    magic = bytes(fields["magic"]).rstrip(b"\0")
    if version == 2 and bytes(fields["eol_check"].astype(np.uint8)) != NIFTI2_END:
        raise InputError(
            "the header was damaged as if it were text", source=source, hint="re-copy it in binary mode"
        )
    if magic in MAGICS[version]:
        return MAGICS[version][magic]
    if version == 1 and not magic:
        raise InputError(
            "this is Analyze 7.5, which stores no orientation", source=source, hint="convert it to NIfTI"
        )
    raise InputError("the header's magic is not NIfTI's", source=source, hint="re-copy it")


def _shape(fields: Any, source: Path) -> tuple[tuple[int, int, int], int]:
    dim = [int(n) for n in fields["dim"]]
    if not 1 <= dim[0] <= 7:
        raise InputError(
            f"the header claims {dim[0]} dimensions (1 to 7 are possible)", source=source, hint="re-copy it"
        )
    sizes = dim[1 : dim[0] + 1]
    if min(sizes) < 1:
        raise InputError(f"the header claims the sizes {sizes}", source=source, hint="re-copy it")
    if len(sizes) < 3:
        raise InputError(
            f"the image is {len(sizes)}D ({'x'.join(map(str, sizes))}), and 3D is needed",
            source=source,
            hint="give a 3D volume",
        )
    extra = [n for n in sizes[3:] if n > 1]
    if len(extra) > 1:
        raise InputError(
            f"the image has sizes {sizes}, more than four dimensions", source=source, hint="split it"
        )
    return (sizes[0], sizes[1], sizes[2]), math.prod(extra)


def _dtype(fields: Any, order: str, source: Path) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code not in DTYPES:
        what = REFUSED.get(code, f"an unknown type ({code})")
        raise InputError(f"the voxels are {what}", source=source, hint="convert it to integers or floats")
    dtype = np.dtype(order + DTYPES[code])
    if bits != 8 * dtype.itemsize:
        raise InputError(
            f"the header claims {bits} bits a voxel for a type of {8 * dtype.itemsize}",
            source=source,
            hint="re-copy it",
        )
    return dtype


def _offset(fields: Any, version: int, single: bool, source: Path) -> int:
    offset = float(fields["vox_offset"])
    least = {1: 352, 2: 544}[version] if single else 0
    if not least <= offset <= FARTHEST_OFFSET or offset != int(offset):
        raise InputError(
            f"the header says the voxels start at byte {offset:g}, not within {least} to {FARTHEST_OFFSET}",
            source=source,
            hint="re-copy it",
        )
    return int(offset)


def _scaling(fields: Any, source: Path) -> tuple[float, float]:
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise InputError(
            f"the header scales voxels by {slope:g} and adds {inter:g}", source=source, hint="export it again"
        )
    return slope, inter
