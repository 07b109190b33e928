"""Whatever the bytes: a value, or a refusal we documented; never another exception, never a change unseen."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from io_files import ramp, save

from medseg import io
from medseg.errors import MedsegError

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
MUTATIONS = 150


def mutated(blob: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes changed, most of them in the header, or a cut, or bytes inserted."""
    out = bytearray(blob)
    kind = generator.random()
    if kind < 0.1:
        return bytes(out[: generator.integers(0, len(out))])
    if kind < 0.15:
        at = int(generator.integers(0, len(out)))
        return bytes(out[:at] + generator.bytes(int(generator.integers(1, 20))) + out[at:])
    for _ in range(generator.integers(1, 5)):
        at = int(generator.integers(0, 352 if generator.random() < 0.9 else len(out)))
        byte = generator.choice(INTERESTING) if generator.random() < 0.5 else generator.integers(0, 256)
        out[at % len(out)] = int(byte)
    return bytes(out)


def outcome(reader: Callable[[Path], object], path: Path) -> int:
    """The exit code reading ends with; anything but a MedsegError goes through."""
    try:
        reader(path)
    except MedsegError as fault:
        return fault.exit_code
    return 0


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_header_and_voxel_bytes_mutated(tmp_path: Path, suffix: str, kind: type) -> None:
    path = save(tmp_path / f"scan{suffix}", ramp(dtype=np.float32), kind=kind)
    plain = save(tmp_path / "plain.nii", ramp(dtype=np.float32), kind=kind).read_bytes()
    generator = np.random.default_rng(11)
    read = 0
    for _ in range(MUTATIONS):
        blob = mutated(plain, generator)
        path.write_bytes(gzip.compress(blob, 1) if suffix == ".nii.gz" else blob)
        began = time.perf_counter()
        codes = [outcome(reader, path) for reader in (io.read_volume, io.read_labels, io.inspect)]
        read += codes.count(0)
        assert set(codes) <= {0, 3, 4, 6}
        assert time.perf_counter() - began < 2.0
    assert read > 0


@pytest.mark.fault("reliability 3")
def test_row_3_no_mutated_gzip_changes_a_voxel_unseen(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (8, 8, 8)).astype(np.int16)
    path = save(tmp_path / "scan.nii.gz", array)
    whole, generator = path.read_bytes(), np.random.default_rng(7)
    good = io.read_volume(path)
    for _ in range(MUTATIONS):
        blob = bytearray(whole)
        at = int(generator.integers(0, len(blob)))
        blob[at] ^= 1 << int(generator.integers(0, 8))
        path.write_bytes(bytes(blob) if generator.random() < 0.8 else whole[:at])
        if (code := outcome(io.read_volume, path)) != 0:
            assert code in (3, 4)
            continue
        volume = io.read_volume(path)
        np.testing.assert_array_equal(volume.array, good.array)
        assert volume.grid.matches(good.grid)
