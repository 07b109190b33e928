"""NIfTI files, plain, compressed and in pairs: read in one pass, written byte for byte the same."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.affine import Affine
from medseg.core.volume import FileForm, Grid
from medseg.io import payload
from medseg.io.memory import require_memory
from medseg.io.names import format_of, opened, partner, require_file, stem_and_suffix
from medseg.io.nifti.fields import fresh_header, set_qform
from medseg.io.nifti.forms import MM_PER_UNIT, QUATERNION, file_form, place
from medseg.io.nifti.header import LONGEST, RawHeader, check_extensions, parse
from medseg.io.options import ImageInfo, ReadOptions, Stored

LARGEST_NIFTI1_SIZE = 32767
EXACT_SHEAR_DEGREES = 1e-4


def describe(path: Path, options: ReadOptions) -> ImageInfo:
    """What the header says, checked; reads no voxels.

    Raises:
        InputError: the header is damaged or claims what cannot be.
        GeometryError: the forms are absent, impossible or contradictory.
    """
    return _describe(path, _raw_header(path), options)


def read(path: Path, options: ReadOptions) -> Stored:
    """Header and voxels (T, I, J, K), as stored, in native byte order.

    Raises:
        InputError: the file is damaged, cut, or goes on after its voxels.
        GeometryError: the forms are absent, impossible or contradictory.
        ResourceError: the voxels cannot fit in memory.
    """
    raw = _raw_header(path)
    info = _describe(path, raw, options)
    selected = raw.voxels if options.volume is None else raw.voxels // raw.volumes
    require_memory(raw.voxel_bytes + 4 * selected, path)
    voxels = path if raw.single else _members(path)[1]
    with opened(voxels) as stream:
        if stem_and_suffix(path)[1] == ".nii.gz":
            data = payload.inflate(stream, raw.offset + raw.voxel_bytes, path)
        else:
            data = payload.read_raw(stream, raw.offset + raw.voxel_bytes, voxels)
    if raw.single:
        check_extensions(data[raw.header_bytes : raw.offset].tobytes(), raw.little, path)
    array = data[raw.offset :].view(raw.dtype).reshape((*raw.shape, raw.volumes), order="F")
    array = np.moveaxis(array, -1, 0)
    return Stored(info, array.astype(array.dtype.newbyteorder("="), copy=False))


def files(path: Path) -> tuple[Path, ...]:
    """The files an image at `path` is read from."""
    return _members(path) if format_of(path).part else (path,)


def targets(path: Path) -> tuple[Path, ...]:
    """The files an image at `path` consists of; the header of a pair comes last."""
    if format_of(path).part:
        header, voxels = _members(path)
        return voxels, header
    return (path,)


def write(path: Path, array: NDArray[Any], grid: Grid, form: FileForm) -> None:
    """Write voxels (I, J, K) or (C, I, J, K) with the forms of `form`, and nothing else, at exactly `path`.

    The bytes depend on nothing but the arguments: no time, no name, no text.
    """
    pair = bool(format_of(path).part)
    shape = (*grid.shape, *array.shape[:-3])
    header = header_bytes(shape, array.dtype, grid, form, pair=pair)
    if pair:
        head, voxels = _members(path)
        head.write_bytes(header)
        with voxels.open("wb") as stream:
            stream.writelines(_slabs(array))
        return
    with path.open("wb") as stream:
        if stem_and_suffix(path)[1] == ".nii":
            stream.write(header)
            stream.writelines(_slabs(array))
            return
        packer = zlib.compressobj(payload.LEVEL, zlib.DEFLATED, payload.GZIP)
        stream.write(packer.compress(header))
        for slab in _slabs(array):
            stream.write(packer.compress(slab))
        stream.write(packer.flush())


def header_bytes(
    shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid, form: FileForm, *, pair: bool
) -> bytes:
    """A fresh header up to the voxels: sizes, type and geometry, every text field empty."""
    version = 2 if form.nifti_version == 2 or max(shape) > LARGEST_NIFTI1_SIZE else 1
    header = fresh_header(version, shape, dtype, single=not pair)
    header["xyzt_units"] = form.xyzt_units
    header["vox_offset"] = 0 if pair else {1: 352, 2: 544}[version]
    _set_forms(header, grid, form)
    return header.tobytes() + bytes(4)


def expected_forms(grid: Grid, form: FileForm) -> tuple[Affine | None, Affine | None]:
    """The sform and qform a file written with `form` must hold, in its units; None for code 0."""
    own = grid.affine.copy()
    own[:3] /= MM_PER_UNIT[form.xyzt_units & 7]
    s = None if not form.sform_code else own if form.sform is None else form.sform
    q = None if not _qform_code(grid, form) else own if form.qform is None else form.qform
    return s, q


def _qform_code(grid: Grid, form: FileForm) -> int:
    """A qform cannot hold shear: without one of its own, a sheared grid is stored as sform only."""
    sheared = aff.shear_degrees(grid.affine) > EXACT_SHEAR_DEGREES
    return 0 if sheared and form.qform is None and form.sform_code else form.qform_code


def _set_forms(header: NDArray[Any], grid: Grid, form: FileForm) -> None:
    s, q = expected_forms(grid, form)
    spacing = np.asarray(grid.spacing_mm) / MM_PER_UNIT[form.xyzt_units & 7]
    header["pixdim"] = (1.0, *spacing, 1.0, 1.0, 1.0, 1.0)
    if form.stored_quaternion is None and q is not None:
        set_qform(header, q, _qform_code(grid, form))
    if form.stored_quaternion is not None:
        for name, value in zip(QUATERNION, form.stored_quaternion, strict=True):
            header[name] = value
    if form.stored_pixdim is not None:
        header["pixdim"][:4] = form.stored_pixdim
    rows = form.sform if s is None else s
    if rows is not None:
        for name, row in zip(("srow_x", "srow_y", "srow_z"), rows[:3], strict=True):
            header[name] = row
    header["sform_code"] = form.sform_code
    header["qform_code"] = 0 if q is None else _qform_code(grid, form)


def _describe(path: Path, raw: RawHeader, options: ReadOptions) -> ImageInfo:
    suffix = stem_and_suffix(path)[1]
    _require_whole(path, raw)
    grid, form, said = _placed(raw, suffix, options, path)
    layout = {".nii.gz": ", gzip", ".nii": ""}.get(suffix, ", pair")
    return ImageInfo(
        path=path,
        format=f"NIfTI-{raw.version}{layout}",
        grid=grid,
        channels=raw.volumes,
        dtype=raw.dtype.newbyteorder("=").name,
        slope=raw.slope,
        inter=raw.inter,
        form=form,
        warnings=said,
    )


def placed(header: Any, options: ReadOptions, source: Path) -> tuple[Grid, FileForm, tuple[str, ...]]:
    """The grid and the forms of a header of nibabel's, checked as one of a file is.

    Raises:
        InputError: the header claims what cannot be.
        GeometryError: the forms are absent, impossible or contradictory.
    """
    whole = header.copy()
    whole["vox_offset"] = 544 if whole["sizeof_hdr"] == 540 else 352
    return _placed(parse(whole.binaryblock, source), ".nii.gz", options, source)


def _placed(
    raw: RawHeader, suffix: str, options: ReadOptions, path: Path
) -> tuple[Grid, FileForm, tuple[str, ...]]:
    form, said = file_form(raw, suffix, options, path)
    grid, form, warnings = place(form, raw.shape, options, path)
    return grid, form, said + warnings


def _raw_header(path: Path) -> RawHeader:
    pair = bool(format_of(path).part)
    head = _members(path)[0] if pair else path
    for member in _members(path) if pair else (path,):
        require_file(member)
    with opened(head) as stream:
        if stem_and_suffix(head)[1] == ".nii.gz":
            blob = payload.inflate_start(stream, LONGEST, head)
        else:
            blob = stream.read(LONGEST)
    return parse(blob, head)


def _require_whole(path: Path, raw: RawHeader) -> None:
    """Refuse a header that claims more voxels than the file can hold, before anything depends on them."""
    voxels = path if raw.single else _members(path)[1]
    needed = raw.offset + raw.voxel_bytes
    with opened(voxels) as stream:
        if stem_and_suffix(voxels)[1] == ".nii.gz":
            payload.require_plausible(voxels.stat().st_size, needed, voxels)
        else:
            payload.require_length(stream, needed, voxels)


def _members(path: Path) -> tuple[Path, Path]:
    """Header and voxel file of the pair that `path` is one of."""
    header = path.suffix.lower() == ".hdr"
    other = partner(path, ".img" if header else ".hdr")
    return (path, other) if header else (other, path)


def _slabs(array: NDArray[Any]) -> Iterator[bytes]:
    """The voxels in file order, I fastest, little-endian, one K after the other, then the channels."""
    little = array.dtype.newbyteorder("<")
    for volume in array if array.ndim == 4 else array[None]:
        for k in range(volume.shape[2]):
            yield volume[:, :, k].astype(little, copy=False).tobytes(order="F")
