"""FreeSurfer's volumes (.mgz, .mgh): nibabel knows the header; the voxels are checked to their last byte.

What follows the voxels - scan parameters and tags, which may hold commands, paths and names - is not
read and never written. Source: "The MGH/MGZ Volume Format", FreeSurfer's wiki, FsTutorial/MghFormat.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer import mghformat
from numpy.typing import NDArray

from medseg.core.errors import GeometryError, InputError, UsageError
from medseg.core.volume import FileForm, Grid
from medseg.io import payload
from medseg.io.memory import require_memory
from medseg.io.names import opened, require_file, stem_and_suffix
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.io.placement import checked_grid

PACKED, PLAIN = ".mgz", ".mgh"
START = mghformat.DATA_OFFSET
VERSION = 1
GEOMETRY = ("delta", "Mdc", "Pxyz_c")
TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
WIDER = {"int8": "int16", "uint32": "int32"}
"""Types that the format has not, and the next that it has."""


def describe(path: Path, options: ReadOptions) -> ImageInfo:
    """What the header says, checked; reads no voxels.

    Raises:
        InputError: the header is damaged or claims what cannot be.
        GeometryError: there is no orientation, or an impossible one.
    """
    fields = _fields(path)
    shape, frames, dtype = _shape(fields, path)
    _require_whole(path, START + math.prod(shape) * frames * dtype.itemsize)
    if not int(fields["goodRASFlag"]):
        raise GeometryError(
            "the header stores neither orientation nor voxel size",
            source=path,
            hint="write both into it with FreeSurfer's mri_convert",
        )
    if not (np.isfinite(fields["delta"]).all() and (fields["delta"] > 0).all()):
        sizes = " x ".join(f"{x:g}" for x in fields["delta"])
        raise GeometryError(f"the header's voxel size is {sizes}", source=path, hint="export it again")
    header = mghformat.MGHHeader(fields.tobytes(), check=False)
    grid, warnings = checked_grid(shape, np.asarray(header.get_affine(), dtype=np.float64), path)
    suffix = stem_and_suffix(path)[1]
    return ImageInfo(
        path=path,
        format="FreeSurfer MGH, gzip" if suffix == PACKED else "FreeSurfer MGH",
        grid=grid,
        channels=frames,
        dtype=dtype.newbyteorder("=").name,
        slope=1.0,
        inter=0.0,
        form=FileForm(suffix=suffix, mgh_geometry=_geometry(fields)),
        warnings=warnings,
    )


def read(path: Path, options: ReadOptions) -> Stored:
    """Header and voxels (T, I, J, K), as stored, in native byte order.

    Raises:
        InputError: the file is damaged or cut.
        GeometryError: there is no orientation, or an impossible one.
        ResourceError: the voxels cannot fit in memory.
    """
    info = describe(path, options)
    dtype = np.dtype(info.dtype).newbyteorder(">")
    count = info.grid.voxels * info.channels * dtype.itemsize
    require_memory(count + 4 * info.grid.voxels * (1 if options.volume is not None else info.channels), path)
    with opened(path) as stream:
        decode = payload.inflate if _is_packed(path) else payload.read_raw
        data = decode(stream, START + count, path, footer=True)
    array = data[START:].view(dtype).reshape((*info.shape, info.channels), order="F")
    array = np.moveaxis(array, -1, 0)
    return Stored(info, array.astype(array.dtype.newbyteorder("="), copy=False))


def files(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def targets(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def storable(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array in a type that the format has and that holds every value.

    Raises:
        UsageError: there is none.
    """
    wider = WIDER.get(array.dtype.name)
    if wider is None:
        return array
    if int(array.max(initial=0)) > np.iinfo(wider).max:
        raise UsageError(
            f"the format cannot store labels above {np.iinfo(wider).max}",
            source=path,
            hint="end it in .nii.gz",
        )
    return array.astype(wider)


def write(path: Path, array: NDArray[Any], grid: Grid, form: FileForm) -> None:
    """Write voxels (I, J, K) and their grid, and nothing else, at exactly `path`.

    The bytes depend on nothing but the arguments.
    """
    header = mghformat.MGHImage(np.broadcast_to(array.dtype.type(0), grid.shape), grid.affine).header
    header.set_data_dtype(array.dtype)
    if form.mgh_geometry is not None:
        same = header.copy()
        for name, values in zip(GEOMETRY, _parts(form.mgh_geometry), strict=True):
            same[name] = values
        if np.array_equal(same.get_affine(), grid.affine):
            header = same
    head = header.binaryblock[: mghformat.header_dtype.itemsize].ljust(START, b"\0")
    big = array.dtype.newbyteorder(">")
    slabs = (array[:, :, k].astype(big, copy=False).tobytes(order="F") for k in range(array.shape[2]))
    with path.open("wb") as stream:
        if stem_and_suffix(path)[1] == PLAIN:
            stream.write(head)
            stream.writelines(slabs)
            return
        packer = zlib.compressobj(payload.LEVEL, zlib.DEFLATED, payload.GZIP)
        stream.write(packer.compress(head))
        for slab in slabs:
            stream.write(packer.compress(slab))
        stream.write(packer.flush())


def _fields(path: Path) -> Any:
    """The fixed part of the header, as a structured scalar; its version is checked."""
    require_file(path)
    size = mghformat.header_dtype.itemsize
    with opened(path) as stream:
        blob = payload.inflate_start(stream, size, path) if _is_packed(path) else stream.read(size)
    if len(blob) < size:
        raise InputError("the header is cut off", source=path, hint="re-copy it")
    fields = np.frombuffer(blob, dtype=mghformat.header_dtype.newbyteorder(">"), count=1)[0]
    if int(fields["version"]) != VERSION:
        raise InputError(
            "this is not an MGH file", source=path, hint="check the file's format, or re-copy it"
        )
    return fields


def _shape(fields: Any, path: Path) -> tuple[tuple[int, int, int], int, np.dtype[Any]]:
    """Voxels along I, J, K, volumes, and the type of a voxel."""
    i, j, k, frames = (int(n) for n in fields["dims"])
    if min(i, j, k, frames) < 1:
        raise InputError(f"the header claims the sizes {[i, j, k, frames]}", source=path, hint="re-copy it")
    if int(fields["type"]) not in TYPES:
        raise InputError(
            "the voxel type is not supported", source=path, hint="convert it to integers or floats"
        )
    return (i, j, k), frames, np.dtype(TYPES[int(fields["type"])])


def _require_whole(path: Path, needed: int) -> None:
    with opened(path) as stream:
        if _is_packed(path):
            payload.require_plausible(path.stat().st_size, needed, path)
        else:
            payload.require_length(stream, needed, path)


def _is_packed(path: Path) -> bool:
    return stem_and_suffix(path)[1] == PACKED


def _geometry(fields: Any) -> tuple[float, ...]:
    return tuple(float(x) for name in GEOMETRY for x in np.ravel(fields[name]))


def _parts(geometry: tuple[float, ...]) -> tuple[NDArray[np.float64], ...]:
    """Spacing, directions and centre."""
    values = np.asarray(geometry)
    return values[:3], values[3:12].reshape(3, 3), values[12:]
