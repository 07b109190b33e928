"""MetaImage (.mha, .mhd) and NRRD.

Of MetaImage, SimpleITK reads the geometry, turned from LPS to RAS, and writes; `nrrd` does it for NRRD.
The voxels are decoded here, because ITK accepts compressed data whose checksum is wrong, and data after
the end.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import LPS_TO_RAS, Affine, spacing_mm
from medseg.core.errors import InputError, ResourceError
from medseg.core.images import to_sitk
from medseg.core.volume import FileForm, Grid
from medseg.io import payload
from medseg.io.itk import nrrd
from medseg.io.itk.header import MEND, Layout, beside, header, integers, require_dimensions
from medseg.io.itk.lengths import MM_PER, unit_of
from medseg.io.memory import require_memory
from medseg.io.names import opened, require_file, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.io.placement import checked_grid

NRRD = (".nrrd", ".nhdr")
META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
TRUE = ("true", "t", "1", "yes", "y")


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
    if stem_and_suffix(path)[1] == ".mhd":
        return path.with_suffix(".zraw"), path
    return nrrd.targets(path)


def write(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write voxels (I, J, K) and their grid, compressed, at exactly `path`.

    Raises:
        ResourceError: the writer failed; it tells no reason, and a full disk is the usual one.
    """
    if stem_and_suffix(path)[1] in NRRD:
        nrrd.write(path, [array], grid)
        return
    sitk = simple_itk()
    try:
        sitk.WriteImage(to_sitk(array, grid.affine), os.fspath(path), True)
    except RuntimeError:
        raise ResourceError("the image could not be written", source=path, hint="free disk space") from None


def simple_itk() -> Any:
    """SimpleITK, imported when first needed, with its own warnings to stderr switched off."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _unpack(stream: BinaryIO, count: int, source: Path) -> payload.Bytes:
    return payload.inflate(stream, count, source, payload.ZLIB_OR_GZIP)


def _describe(path: Path, layout: Layout, options: ReadOptions) -> ImageInfo:
    layout.require_whole()
    affine, warnings = (layout.affine, ()) if layout.oriented else _assumed(path, layout.affine, options)
    grid, more = checked_grid(layout.shape, affine, path, units=layout.units)
    suffix = stem_and_suffix(path)[1]
    return ImageInfo(
        path=path,
        format="NRRD" if suffix.endswith(NRRD) else "MetaImage",
        grid=grid,
        channels=layout.channels,
        dtype=layout.dtype.newbyteorder("=").name,
        slope=1.0,
        inter=0.0,
        form=FileForm(suffix=suffix),
        warnings=warnings + more,
    )


def _assumed(path: Path, affine: Affine, options: ReadOptions) -> tuple[Affine, tuple[str, ...]]:
    said = options.require_assumed("the header stores no orientation", path)
    return np.diag([*spacing_mm(affine), 1.0]), said


def _affine(path: Path, sizes: tuple[int, ...]) -> Affine:
    """Voxel index to RAS+ in the file's own units, as SimpleITK reads a MetaImage's header."""
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    try:
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
        dims = reader.GetDimension()
        direction = np.asarray(reader.GetDirection()).reshape(dims, dims)
        spacing, origin = np.asarray(reader.GetSpacing()), np.asarray(reader.GetOrigin())
        size = tuple(reader.GetSize())
    except (RuntimeError, UnicodeError, ValueError, TypeError, OverflowError):
        raise InputError("the header cannot be read", source=path, hint=MEND) from None
    if size != sizes:
        raise InputError(f"the header claims {size} and {sizes}", source=path, hint=MEND)
    lps = np.eye(4)
    lps[:3, :3] = direction[:3, :3] * spacing[:3]
    lps[:3, 3] = origin[:3]
    return LPS_TO_RAS @ lps


def _layout(path: Path) -> Layout:
    if stem_and_suffix(path)[1].endswith(NRRD):
        return nrrd.layout(path)
    require_file(path)
    with opened(path) as stream:
        fields, end = header(stream, path, "ElementDataFile")
    return _meta(path, fields, end)


def _meta(path: Path, fields: dict[str, str], end: int) -> Layout:
    sizes = integers(fields.get("DimSize", ""), path)
    require_dimensions(sizes, fields.get("NDims", ""), path)
    kind, channels = (
        fields.get("ElementType", ""),
        integers(fields.get("ElementNumberOfChannels", "1"), path),
    )
    if kind not in META_TYPES or fields.get("BinaryData", "True").lower() not in TRUE:
        raise InputError("the voxel type is not supported", source=path, hint="save it as binary numbers")
    if fields.get("HeaderSize", "0") != "0" or len(channels) != 1 or channels[0] < 1:
        raise InputError("this kind of header is not supported", source=path, hint=MEND)
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() in TRUE
    name = fields.get("ElementDataFile")
    if name is None:
        raise InputError("the header does not name its voxels with ElementDataFile =", source=path, hint=MEND)
    data, start = (path, end) if name.upper() == "LOCAL" else (beside(path, name), 0)
    vector = channels[0] > 1
    if vector and len(sizes) == 4:
        raise InputError("the image has more than four dimensions", source=path, hint="split it")
    unit = unit_of(fields.get("DistanceUnits", ""), path)
    affine = _affine(path, sizes)
    affine[:3] *= MM_PER[unit]
    return Layout(
        sizes=(channels[0], *sizes) if vector else sizes,
        channel_axis=0 if vector else 3 if len(sizes) == 4 else None,
        dtype=np.dtype((">" if big else "<") + META_TYPES[kind]),
        compressed=fields.get("CompressedData", "False").lower() in TRUE,
        data=data,
        start=start,
        oriented=any(key in fields for key in ("TransformMatrix", "Orientation", "Rotation")),
        affine=affine,
        units=(unit,),
    )
