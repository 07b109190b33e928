"""Small files for the io tests, written by nibabel or byte by byte, never by the code under test."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile

AFFINE = np.array([[-0.9, 0, 0, 40.0], [0, 1.1, 0, -30.0], [0, 0, 2.5, 7.0], [0, 0, 0, 1.0]])


def ramp(shape: Sequence[int] = (5, 6, 7), dtype: Any = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(
    path: Path,
    array: np.ndarray | None = None,
    affine: np.ndarray = AFFINE,
    *,
    sform: int = 1,
    qform: int = 1,
    kind: type = nib.Nifti1Image,
    **fields: Any,
) -> Path:
    """A NIfTI file as nibabel writes it, then with raw header fields overwritten."""
    image = kind(ramp() if array is None else array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return edit(path, **fields) if fields else path


def edit(path: Path, **fields: Any) -> Path:
    """Overwrite header fields in place; `name__3=x` sets the entry 3 of an array field."""
    packed = path.name.endswith(".gz")
    blob = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    layout = nib.nifti1.header_dtype if blob[0] == 92 else nib.nifti2.header_dtype
    header = np.frombuffer(blob, dtype=layout, count=1)
    for name, value in fields.items():
        field, _, index = name.partition("__")
        if index:
            header[field][0, int(index)] = value
        else:
            header[field][0] = value
    path.write_bytes(gzip.compress(bytes(blob), mtime=0) if packed else bytes(blob))
    return path


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by degrees about x, then y, then z."""
    out = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = c
        turn[a, b], turn[b, a] = -s, s
        out = turn @ out
    return out


def oblique(
    spacing: Sequence[float] = (0.9, 1.1, 2.5), angles: Sequence[float] = (10, -20, 30)
) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = rotation(*angles) * np.asarray(spacing)
    out[:3, 3] = (-40.0, 12.5, 77.0)
    return out


def write_dicom(
    folder: Path,
    count: int = 6,
    *,
    size: tuple[int, int] = (8, 7),
    turn: np.ndarray | None = None,
    step_mm: float = 2.0,
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    offsets: Sequence[Sequence[float]] | None = None,
    rescale: Sequence[tuple[float, float]] | None = None,
    tags: dict[int, tuple[str, str]] | None = None,
    first: int = 0,
) -> list[Path]:
    """Slices of one series; slice n holds 100 n + 0, 1, 2... as stored, and lies at n * step.

    Written byte by byte (explicit VR, little endian), so that every fault can be made.
    """
    folder.mkdir(exist_ok=True)
    turn = np.eye(3) if turn is None else turn
    paths = []
    for n in range(count):
        plane = (100 * n + np.arange(size[0] * size[1])).astype("<i2")
        shift = np.zeros(3) if offsets is None else np.asarray(offsets[n], dtype=float)
        position = np.array([-20.0, -30.0, 5.0]) + turn[:, 2] * n * step_mm + shift
        slope, inter = (1.0, 0.0) if rescale is None else rescale[n]
        elements: dict[int, tuple[str, Any]] = {
            0x00080016: ("UI", CT_IMAGE), 0x00080018: ("UI", f"{uid}.{first + n + 1}"),
            0x00080060: ("CS", "CT"),
            0x00100010: ("PN", "Canary^Patient"), 0x00180050: ("DS", f"{step_mm:g}"),
            0x0020000D: ("UI", "1.2.3.4"), 0x0020000E: ("UI", uid), 0x00200013: ("IS", str(first + n + 1)),
            0x00200032: ("DS", "\\".join(f"{x:.8g}" for x in position)),
            0x00200037: ("DS", "\\".join(f"{x:.9g}" for x in (*turn[:, 0], *turn[:, 1]))),
            0x00280002: ("US", 1), 0x00280004: ("CS", "MONOCHROME2"), 0x00280010: ("US", size[1]),
            0x00280011: ("US", size[0]), 0x00280030: ("DS", "0.8\\0.7"), 0x00280100: ("US", 16),
            0x00280101: ("US", 16), 0x00280102: ("US", 15), 0x00280103: ("US", 1),
            0x00281052: ("DS", f"{inter:g}"), 0x00281053: ("DS", f"{slope:g}"), **(tags or {}),
            0x7FE00010: ("OW", plane.tobytes()),
        }  # fmt: skip
        paths.append(folder / f"{first + n:03d}.dcm")
        paths[-1].write_bytes(dicom_bytes(elements))
    return paths


CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def dicom_bytes(elements: dict[int, tuple[str, Any]]) -> bytes:
    """A DICOM file (PS3.10) of explicit little-endian elements."""
    meta = {
        0x00020002: ("UI", CT_IMAGE),
        0x00020003: ("UI", "1.2.3"),
        0x00020010: ("UI", "1.2.840.10008.1.2.1"),
    }
    head = b"".join(_element(tag, *value) for tag, value in meta.items())
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(head))
    body = b"".join(_element(tag, *value) for tag, value in sorted(elements.items()))
    return bytes(128) + b"DICM" + length + head + body


def _element(tag: int, kind: str, value: Any) -> bytes:
    if kind == "US":
        data = struct.pack("<H", value)
    elif kind == "OW":
        data = value
    else:
        data = value.encode() + (b"" if len(value) % 2 == 0 else b"\0" if kind == "UI" else b" ")
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    return (
        start
        + struct.pack("<HI" if kind == "OW" else "<H", *((0, len(data)) if kind == "OW" else (len(data),)))
        + data
    )


META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = {compressed}
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 1
DimSize = {n} {n} {n}
ElementType = MET_UCHAR
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
type: uint8
dimension: 3
space: left-posterior-superior
sizes: {n} {n} {n}
space directions: (1,0,0) (0,1,0) (0,0,1)
encoding: {encoding}
space origin: (0,0,0)

"""


def claiming(path: Path, n: int) -> Path:
    """A file of about a kilobyte whose header claims `n` voxels along every axis."""
    if path.suffix in (".nrrd", ".mha"):
        form = NRRD if path.suffix == ".nrrd" else META
        packed = path.stem.startswith("packed")
        head = form.format(n=n, compressed=packed, encoding="gzip" if packed else "raw")
        path.write_bytes(head.encode() + bytes(700))
        return path
    header = nib.nifti1.Nifti1PairHeader() if path.suffix == ".hdr" else nib.Nifti1Header()
    header.set_data_shape((n, n, n))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header.structarr["vox_offset"] = 0 if path.suffix == ".hdr" else 352
    blob = bytes(header.binaryblock) + bytes(700)
    if path.suffix == ".hdr":
        path.with_suffix(".img").write_bytes(bytes(700))
    path.write_bytes(gzip.compress(blob) if path.suffix == ".gz" else blob)
    return path


def looping(path: Path, shapes: Sequence[tuple[int, int]], target: int, *, wide: bool) -> Path:
    """A TIFF whose last page leads back to the page `target`."""
    with tifffile.TiffWriter(path, bigtiff=wide, byteorder="<") as writer:
        for shape in shapes:
            writer.write(np.zeros(shape, np.uint8), metadata=None, software=False)
    place, count, entry = ("<Q", 8, 20) if wide else ("<I", 2, 12)
    blob, pages, at = bytearray(path.read_bytes()), [], 8 if wide else 4
    while (page := struct.unpack_from(place, blob, at)[0]) != 0:
        pages.append(page)
        at = page + count + entry * int.from_bytes(blob[page : page + count], "little")
    struct.pack_into(place, blob, at, pages[target])
    path.write_bytes(blob)
    return path
