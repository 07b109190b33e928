"""Whatever the bytes: a value, or a refusal we documented, soon, and within little memory."""

from __future__ import annotations

from dataclasses import replace
from mmap import mmap
from pathlib import Path

import fuzzing
import numpy as np
import pytest
from fuzzing import HERE, Bench
from io_files import save
from targets import TARGETS

from medseg import io
from medseg.core.errors import GeometryError, InputError

INPUTS = 25
"""Of each format in the ordinary suite, 650 in all; `make fuzz` reads 20,000."""

CORPUS = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file())


@pytest.mark.fault("reliability 63")
@pytest.mark.fault("reliability 66")
@pytest.mark.parametrize("name", TARGETS)
def test_spoiled_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    bench = Bench(name, tmp_path / "bench")
    for number in range(INPUTS):
        found = bench.outcome(bench.spoiled(1, number))
        assert not found.fault, f"input {number} of seed 1"


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read(tmp_path: Path, name: str) -> None:
    """Otherwise the fuzzer would see refusals only."""
    bench = Bench(name, tmp_path / "bench")
    for blob in bench.seeds:
        found = bench.outcome(blob)
        assert not found.fault
        assert 0 in found.codes


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_stays_mended(tmp_path: Path, path: Path) -> None:
    assert not Bench(path.parent.name, tmp_path / "bench").outcome(path.read_bytes()).fault


@pytest.mark.fault("reliability 3")
def test_no_mutated_gzip_changes_a_voxel_unseen(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (8, 8, 8)).astype(np.int16)
    path = save(tmp_path / "scan.nii.gz", array)
    whole, generator = path.read_bytes(), np.random.default_rng(7)
    good = io.read_volume(path)
    for _ in range(150):
        blob = bytearray(whole)
        at = int(generator.integers(0, len(blob)))
        blob[at] ^= 1 << int(generator.integers(0, 8))
        path.write_bytes(bytes(blob) if generator.random() < 0.8 else whole[:at])
        try:
            volume = io.read_volume(path)
        except (InputError, GeometryError):
            continue
        np.testing.assert_array_equal(volume.array, good.array)
        assert volume.grid.matches(good.grid)


def test_the_fuzzer_notices_what_is_no_value_and_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench("card", tmp_path / "bench")

    def endless(_: Path) -> None:
        while True:
            pass

    def greedy(_: Path) -> None:
        """New pages, for the heap of a process that ran other tests has room for an array."""
        np.frombuffer(mmap(-1, 640_000_000), np.uint8)[:] = 1

    for reader, limit, fault in (
        (endless, 0.2, "took more than"),
        (greedy, 60, "MB"),
        (int, 60, "TypeError"),
    ):
        monkeypatch.setattr(fuzzing, "SECONDS", limit)
        bench.target = replace(bench.target, readers=(reader,))
        assert fault in bench.outcome(b"x").fault
