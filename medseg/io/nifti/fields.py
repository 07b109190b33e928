"""The fixed part of a NIfTI header, field by field, and the quaternion in it.

Sources: nifti1.h and nifti2.h of the NIfTI Data Format Working Group, nifti.nimh.nih.gov; the quaternion of a
matrix by Bar-Itzhack 2000, doi:10.2514/2.4654. nibabel has both too, and takes longer to import than a scan
takes to read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import Affine

HEADERS = {
    1: np.dtype([
        ("sizeof_hdr", "<i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "<i4"),
        ("session_error", "<i2"), ("regular", "S1"), ("dim_info", "u1"), ("dim", "<i2", (8,)),
        ("intent_p1", "<f4"), ("intent_p2", "<f4"), ("intent_p3", "<f4"), ("intent_code", "<i2"),
        ("datatype", "<i2"), ("bitpix", "<i2"), ("slice_start", "<i2"), ("pixdim", "<f4", (8,)),
        ("vox_offset", "<f4"), ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice_end", "<i2"),
        ("slice_code", "u1"), ("xyzt_units", "u1"), ("cal_max", "<f4"), ("cal_min", "<f4"),
        ("slice_duration", "<f4"), ("toffset", "<f4"), ("glmax", "<i4"), ("glmin", "<i4"),
        ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i2"), ("sform_code", "<i2"),
        ("quatern_b", "<f4"), ("quatern_c", "<f4"), ("quatern_d", "<f4"), ("qoffset_x", "<f4"),
        ("qoffset_y", "<f4"), ("qoffset_z", "<f4"), ("srow_x", "<f4", (4,)), ("srow_y", "<f4", (4,)),
        ("srow_z", "<f4", (4,)), ("intent_name", "S16"), ("magic", "S4"),
    ]),
    2: np.dtype([
        ("sizeof_hdr", "<i4"), ("magic", "S4"), ("eol_check", "i1", (4,)), ("datatype", "<i2"),
        ("bitpix", "<i2"), ("dim", "<i8", (8,)), ("intent_p1", "<f8"), ("intent_p2", "<f8"),
        ("intent_p3", "<f8"), ("pixdim", "<f8", (8,)), ("vox_offset", "<i8"), ("scl_slope", "<f8"),
        ("scl_inter", "<f8"), ("cal_max", "<f8"), ("cal_min", "<f8"), ("slice_duration", "<f8"),
        ("toffset", "<f8"), ("slice_start", "<i8"), ("slice_end", "<i8"), ("descrip", "S80"),
        ("aux_file", "S24"), ("qform_code", "<i4"), ("sform_code", "<i4"), ("quatern_b", "<f8"),
        ("quatern_c", "<f8"), ("quatern_d", "<f8"), ("qoffset_x", "<f8"), ("qoffset_y", "<f8"),
        ("qoffset_z", "<f8"), ("srow_x", "<f8", (4,)), ("srow_y", "<f8", (4,)), ("srow_z", "<f8", (4,)),
        ("slice_code", "<i4"), ("xyzt_units", "<i4"), ("intent_code", "<i4"), ("intent_name", "S16"),
        ("dim_info", "u1"), ("unused_str", "S15"),
    ]),
}  # fmt: skip
"""The fields by the version of the format, little-endian."""

MAGICS = {1: {b"n+1": True, b"ni1": False}, 2: {b"n+2": True, b"ni2": False}}
"""By version: what stands in the field `magic`, and whether voxels follow in the same file."""

NIFTI2_END = bytes((13, 10, 26, 10))
"""What text mode would change."""

DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
"""Types of voxels by their codes."""


def fresh_header(version: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, single: bool) -> NDArray[Any]:
    """A header of an image that lies nowhere yet, every text field empty; a structured array of no axes."""
    header = np.zeros((), HEADERS[version])
    header["sizeof_hdr"] = header.dtype.itemsize
    header["magic"] = next(magic for magic, of_one in MAGICS[version].items() if of_one == single)
    if version == 2:
        header["eol_check"] = np.frombuffer(NIFTI2_END, np.int8)
    header["dim"] = (len(shape), *shape, *(1,) * (7 - len(shape)))
    header["datatype"] = next(code for code, kind in DTYPES.items() if np.dtype(kind) == dtype)
    header["bitpix"] = 8 * dtype.itemsize
    header["pixdim"] = 1.0
    header["scl_slope"] = 1.0
    return header


def rotation_of(quaternion: NDArray[np.float64]) -> Affine:
    """The rotation (3, 3) of a quaternion (a, b, c, d) of length 1.

    >>> rotation_of(np.array([0.0, 1.0, 0.0, 0.0])).diagonal().tolist()
    [1.0, -1.0, -1.0]
    """
    a, b, c, d = quaternion / np.linalg.norm(quaternion)
    return np.array([
        [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
    ])  # fmt: skip


def quaternion_of(rotation: Affine) -> NDArray[np.float64]:
    """The quaternion (a, b, c, d), a not negative, of a rotation (3, 3).

    It is the eigenvector to the largest eigenvalue of a matrix that is linear in the rotation.

    >>> np.abs(quaternion_of(np.diag([1.0, -1.0, -1.0]))).round(6).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    lower = np.array([
        [xx - yy - zz, 0, 0, 0],
        [xy + yx, yy - xx - zz, 0, 0],
        [xz + zx, yz + zy, zz - xx - yy, 0],
        [zy - yz, xz - zx, yx - xy, xx + yy + zz],
    ])  # fmt: skip
    values, vectors = np.linalg.eigh(lower / 3)
    b, c, d, a = vectors[:, values.argmax()]
    sign = -1.0 if a < 0 else 1.0
    return sign * np.array([a, b, c, d])


def set_qform(header: NDArray[Any], affine: Affine, code: int) -> None:
    """Write an affine (4, 4) into the fields of the qform, its shear left out: as the nearest rotation."""
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    axes = affine[:3, :3] / sizes
    handed = 1.0 if np.linalg.det(axes) > 0 else -1.0
    left, _, right = np.linalg.svd(axes * (1.0, 1.0, handed))
    _, b, c, d = quaternion_of(left @ right)
    header["qform_code"] = code
    header["pixdim"][:4] = (handed, *sizes)
    for name, value in zip("bcd", (b, c, d), strict=True):
        header[f"quatern_{name}"] = value
    for name, value in zip("xyz", affine[:3, 3], strict=True):
        header[f"qoffset_{name}"] = value
