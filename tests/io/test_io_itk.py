"""MetaImage and NRRD: the same world and values as SimpleITK, and no damage accepted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from io_files import oblique, ramp

from medseg import io
from medseg.core.errors import GeometryError, InputError, MedsegError, ResourceError
from medseg.io import memory

SUFFIXES = (".mha", ".mhd", ".nrrd", pytest.param(".nhdr", marks=pytest.mark.fault("reports 13")))
DATA = {
    (".mhd", True): ".zraw",
    (".mhd", False): ".raw",
    (".nhdr", True): ".raw.gz",
    (".nhdr", False): ".raw",
}
"""Suffix of the voxel file that SimpleITK writes beside a header."""


def save(path: Path, array: np.ndarray, *, compressed: bool = True, affine: np.ndarray | None = None) -> Path:
    vector = array.ndim == 4
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(np.moveaxis(array, -1, 0).T) if vector else array.T, vector
    )
    if array.ndim >= 3:
        lps = np.diag([-1, -1, 1, 1]) @ (oblique() if affine is None else affine)
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), compressed)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_voxels_and_world_are_simpleitks(tmp_path: Path, suffix: str, compressed: bool, dtype: str) -> None:
    path = save(tmp_path / f"scan{suffix}", ramp(dtype=dtype), compressed=compressed)
    volume, oracle = io.read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(oracle).T)
    assert volume.array.dtype == np.dtype(dtype if dtype != "f8" else "f4")
    for index in itertools.product((0, 4), (0, 5), (0, 6)):
        lps = np.asarray(oracle.TransformIndexToPhysicalPoint(index))
        ours = volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]
        np.testing.assert_allclose(ours, lps * (-1, -1, 1), atol=1e-9)
    info = io.inspect(path)
    assert (info.shape, info.channels, info.dtype) == ((5, 6, 7), 1, np.dtype(dtype).name)
    assert info.form.suffix == suffix


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.fault("reliability 2")
@pytest.mark.fault("reliability 3")
@pytest.mark.fault("reliability 4")
@pytest.mark.fault("reliability 6")
def test_row_2_3_4_6_no_damage_is_accepted(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 999, (10, 11, 12)).astype(np.int16)
    for compressed in (True, False):
        path = save(tmp_path / f"scan{suffix}", array, compressed=compressed)
        data = path.with_suffix(DATA.get((suffix, compressed), suffix))
        whole = data.read_bytes()
        damaged = [whole[:-1], whole[: len(whole) // 2], whole + b"more", whole[: len(whole) * 9 // 10], b""]
        if compressed:
            damaged += [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in (-2, -3, -500, -1000)]
        for blob in damaged:
            data.write_bytes(blob)
            with pytest.raises(InputError):
                io.read_volume(path)
        data.write_bytes(whole + bytes(300))
        np.testing.assert_array_equal(io.read_volume(path).array[0], array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.fault("reliability 38")
def test_row_38_vectors_are_channels(tmp_path: Path, suffix: str) -> None:
    array = np.stack([ramp(), 3 * ramp() + 1], axis=-1)
    path = save(tmp_path / f"scan{suffix}", array)
    with pytest.raises(InputError, match="--channels"):
        io.read_volume(path)
    volume = io.read_volume(path, channels=("a", "b"))
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.fault("reliability 39")
def test_row_39_a_2d_file_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="2D"):
        io.read_volume(save(tmp_path / f"scan{suffix}", ramp((5, 6))))


@pytest.mark.fault("reliability 21")
def test_row_21_an_nrrd_without_space_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nrrd", ramp(), affine=np.diag([-1.0, -2.0, 3.0, 1.0]))
    blob = path.read_bytes().replace(b"space: left-posterior-superior\n", b"space dimension: 3\n")
    path.write_bytes(blob)
    with pytest.raises(GeometryError, match="--assume-ras"):
        io.read_volume(path)
    volume = io.read_volume(path, options=io.ReadOptions(assume_ras=True))
    np.testing.assert_allclose(volume.grid.affine, np.diag([1.0, 2.0, 3.0, 1.0]))


@pytest.mark.parametrize(("space", "signs"), [("right", (-1, -1, 1)), ("left", (1, -1, 1))])
def test_nrrd_spaces_are_turned(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    path = save(tmp_path / "scan.nrrd", ramp())
    before = io.read_volume(path).grid.affine
    blob = path.read_bytes().replace(b"left-posterior-superior", f"{space}-anterior-superior".encode())
    path.write_bytes(blob)
    np.testing.assert_allclose(io.read_volume(path).grid.affine, np.diag([*signs, 1.0]) @ before, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NDims = 3", b"NDims = 99"),
        (b"DimSize = 5 6 7", b"DimSize = 5 6 -7"),
        (b"DimSize = 5 6 7", b"DimSize = 5 6 0"),
        (b"DimSize = 5 6 7", b"DimSize = 5 6"),
        (b"MET_SHORT", b"MET_OTHER"),
        (b"BinaryData = True", b"BinaryData = False"),
        (b"ElementDataFile = scan.zraw", b"ElementDataFile = ../scan.zraw"),
        (b"ElementDataFile = scan.zraw", b"ElementDataFile = /etc/hostname"),
        (b"ElementDataFile = scan.zraw", b"ElementDataFile = LIST"),
        (b"ElementDataFile = scan.zraw", b"ElementDataFile = gone.raw"),
        (b"ElementDataFile", b"Other"),
        (b"ObjectType", b"\0\xff"),
        (b"TransformMatrix = ", b"TransformMatrix = nan "),
        (b"ElementSpacing = ", b"ElementSpacing = 0 "),
    ],
)
def test_headers_that_claim_what_cannot_be(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = save(tmp_path / "scan.mhd", ramp())
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    if old == b"ObjectType":
        return
    with pytest.raises(MedsegError) as caught:
        io.read_volume(path)
    assert caught.value.exit_code in (3, 4)


@pytest.mark.fault("reliability 8")
@pytest.mark.fault("reliability 9")
def test_row_8_9_sizes_are_judged_before_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "scan.mha", ramp())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"DimSize = 5 6 7", b"DimSize = 50000 60000 7000"))
    with pytest.raises((InputError, ResourceError)):
        io.read_volume(path)
    path.write_bytes(whole)
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 100)
    with pytest.raises(ResourceError):
        io.read_volume(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_random_damage_to_the_header_is_a_value_or_a_refusal(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"scan{suffix}", ramp())
    whole, generator = path.read_bytes(), np.random.default_rng(5)
    for _ in range(60):
        blob: Any = bytearray(whole)
        for at in generator.integers(0, min(300, len(blob)), generator.integers(1, 4)):
            blob[at] = generator.integers(0, 256)
        path.write_bytes(bytes(blob))
        try:
            volume = io.read_volume(path)
        except MedsegError:
            continue
        assert volume.array.shape[1:] == volume.grid.shape
        assert np.isfinite(volume.array).all()
