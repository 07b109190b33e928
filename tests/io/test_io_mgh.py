"""FreeSurfer's volumes: the same world and values as nibabel, and no damage accepted."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from io_files import oblique, ramp

from medseg import io
from medseg.core.errors import GeometryError, InputError, MedsegError, ResourceError, UsageError
from medseg.core.volume import Grid, LabelMap
from medseg.io import memory

pytestmark = pytest.mark.fault("reports 13")
SUFFIXES = (".mgz", ".mgh")
START = 284


def save(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.MGHImage(ramp() if array is None else array, oblique() if affine is None else affine), path)
    return path


def by_nibabel(path: Path) -> nib.MGHImage:
    """The image as nibabel reads it; from bytes, for its own reader leaves files open."""
    blob = path.read_bytes()
    return nib.MGHImage.from_bytes(gzip.decompress(blob) if path.suffix == ".mgz" else blob)


def edited(path: Path, at: int, new: bytes) -> Path:
    """The file with bytes replaced, as they lie unpacked."""
    packed = path.suffix == ".mgz"
    blob = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    blob[at : at + len(new)] = new
    path.write_bytes(gzip.compress(bytes(blob)) if packed else bytes(blob))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "u2"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (4, 5, 1)])
def test_voxels_and_world_are_nibabels(tmp_path: Path, suffix: str, dtype: str, shape: Any) -> None:
    path = save(tmp_path / f"scan{suffix}", ramp(shape, dtype))
    volume, oracle = io.read_volume(path), by_nibabel(path)
    np.testing.assert_array_equal(volume.array[0], np.asarray(oracle.dataobj))
    np.testing.assert_array_equal(volume.grid.affine, oracle.affine)
    assert volume.array.dtype == np.dtype(dtype)
    info = io.inspect(path)
    assert (info.shape, info.channels, info.dtype) == (shape, 1, np.dtype(dtype).name)
    assert (info.form.suffix, io.files_of(path)) == (suffix, (path,))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_are_volumes(tmp_path: Path, suffix: str) -> None:
    array = ramp((5, 6, 7, 3))
    path = save(tmp_path / f"scan{suffix}", array)
    for n in range(3):
        found = io.read_volume(path, options=io.ReadOptions(volume=n))
        np.testing.assert_array_equal(found.array[0], array[..., n])
    with pytest.raises(InputError, match="--channels"):
        io.read_volume(path)
    assert io.read_volume(path, channels=["a", "b", "c"]).array.shape == (3, 5, 6, 7)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_lie_where_the_scan_does_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    for n, angles in enumerate([(10, -20, 30), (0, 0, 0), (1, 2, 3), (80, -5, 170)]):
        source = save(tmp_path / f"scan{n}{suffix}", affine=oblique((0.9375, 1.1, 2.5), angles))
        scan = io.read_volume(source)
        out = tmp_path / f"out{n}{suffix}"
        io.write_labels(out, LabelMap(scan.array[0] % 7, scan.grid, scan.form))
        found, meant = by_nibabel(out), by_nibabel(source)
        np.testing.assert_array_equal(found.affine, meant.affine)
        np.testing.assert_array_equal(np.asarray(found.dataobj), scan.array[0] % 7)
        for name in ("delta", "Mdc", "Pxyz_c"):
            np.testing.assert_array_equal(found.header[name], meant.header[name])


@pytest.mark.parametrize(
    ("low", "high", "dtype"), [(-3, 5, "i2"), (0, 300, "u2"), (0, 70000, "i4"), (0, 9, "u1")]
)
def test_labels_are_stored_in_a_type_that_the_format_has(
    tmp_path: Path, low: int, high: int, dtype: str
) -> None:
    array = np.zeros((4, 5, 6), np.int64)
    array[0, 0, 0], array[1, 1, 1] = low, high
    io.write_labels(tmp_path / "out.mgz", LabelMap(array, Grid(array.shape, oblique())))
    found = by_nibabel(tmp_path / "out.mgz")
    assert found.get_data_dtype().newbyteorder("=") == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(found.dataobj), array)


def test_labels_beyond_the_format_are_refused(tmp_path: Path) -> None:
    array = np.full((4, 5, 6), 2**31, np.int64)
    with pytest.raises(UsageError, match="cannot store labels above 2147483647"):
        io.write_labels(tmp_path / "out.mgz", LabelMap(array, Grid(array.shape, oblique())))
    assert not (tmp_path / "out.mgz").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_follows_the_voxels_is_not_kept(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"scan{suffix}")
    meant = io.read_volume(path)
    edited(path, START + ramp().nbytes, bytes(20) + b"\x00\x00\x00\x03mri_convert /home/CANARY/x.mgz")
    scan = io.read_volume(path)
    np.testing.assert_array_equal(scan.array, meant.array)
    out = tmp_path / f"out{suffix}"
    io.write_labels(out, LabelMap(scan.array[0], scan.grid, scan.form))
    blob = out.read_bytes()
    assert b"CANARY" not in (gzip.decompress(blob) if suffix == ".mgz" else blob)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_is_accepted(tmp_path: Path, suffix: str) -> None:
    path = save(
        tmp_path / f"scan{suffix}", np.random.default_rng(0).integers(0, 999, (10, 11, 12)).astype("i2")
    )
    whole = path.read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:100], whole[:30], b"", b"not a volume at all"]
    if suffix == ".mgz":
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        damaged += [whole[:-1], whole[:-9], whole + b"more", bytes(flipped)]
    for blob in damaged:
        path.write_bytes(blob)
        with pytest.raises(InputError):
            io.read_volume(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("at", "new", "error", "fault"),
    [
        (0, b"\0\0\0\2", InputError, "not an MGH file"),
        (4, b"\0\0\0\0", InputError, "claims the sizes"),
        (4, b"\x7f\xff\xff\xff", InputError, "truncated"),
        (16, b"\xff\xff\xff\xff", InputError, "claims the sizes"),
        (20, b"\0\0\0\7", InputError, "voxel type is not supported"),
        (28, b"\0\0", GeometryError, "neither orientation nor voxel size"),
        (30, b"\0\0\0\0", GeometryError, "voxel size is 0"),
        (30, b"\x7f\xc0\0\0", GeometryError, "voxel size is nan"),
        (42, bytes(36), GeometryError, "singular"),
        (78, b"\x7f\xc0\0\0", GeometryError, "not positions"),
    ],
)
def test_headers_that_claim_what_cannot_be(
    tmp_path: Path, suffix: str, at: int, new: bytes, error: type[MedsegError], fault: str
) -> None:
    path = edited(save(tmp_path / f"scan{suffix}"), at, new)
    for reader in (io.inspect, io.read_volume, io.read_labels):
        with pytest.raises(error, match=fault):
            reader(path)


def test_the_suffix_says_whether_it_is_packed(tmp_path: Path) -> None:
    packed, plain = save(tmp_path / "a.mgz"), save(tmp_path / "b.mgh")
    packed.rename(tmp_path / "c.mgh")
    plain.rename(tmp_path / "d.mgz")
    with pytest.raises(InputError, match=r"rename it to c\.mgz"):
        io.read_volume(tmp_path / "c.mgh")
    with pytest.raises(InputError, match=r"rename it to d\.mgh"):
        io.read_volume(tmp_path / "d.mgz")


def test_memory_is_judged_before_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "scan.mgz")
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 100)
    with pytest.raises(ResourceError):
        io.read_volume(path)


@pytest.mark.realdata
def test_a_real_head_is_read_as_nibabel_does(data_root: Path, tmp_path: Path) -> None:
    path = data_root / "formats" / "head.mgz"
    scan, oracle = io.read_volume(path), by_nibabel(path)
    np.testing.assert_array_equal(scan.grid.affine, oracle.affine)
    np.testing.assert_array_equal(scan.array[0], np.asarray(oracle.dataobj))
    io.write_labels(tmp_path / "out.mgz", LabelMap(scan.array[0] % 5, scan.grid, scan.form))
    np.testing.assert_array_equal(by_nibabel(tmp_path / "out.mgz").affine, oracle.affine)
