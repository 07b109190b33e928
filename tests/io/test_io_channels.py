"""Several files as channels: bound by name, on one grid, each a different image."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from io_files import AFFINE, ramp, save

from medseg import io
from medseg.core.errors import GridMismatchError, InputError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files whose sorted names order the channels otherwise than their meaning."""
    names = {"flair": "z.nii.gz", "t1c": "b.nii.gz", "t2": "a.nii.gz"}
    return {
        channel: save(tmp_path / name, ramp() * (n + 1) + n)
        for n, (channel, name) in enumerate(names.items())
    }


def test_channels_are_stacked_in_the_order_given(files: dict[str, Path]) -> None:
    volume = io.read_volume(files)
    assert volume.channels == ("flair", "t1c", "t2")
    np.testing.assert_array_equal(volume.array, np.stack([ramp() * (n + 1) + n for n in range(3)]))


@pytest.mark.fault("reliability 44")
def test_row_44_channels_are_bound_by_name(files: dict[str, Path]) -> None:
    wanted = ("t2", "flair", "t1c")
    one = io.read_volume(files, channels=wanted)
    other = io.read_volume(dict(reversed(files.items())), channels=wanted)
    assert one.channels == other.channels == wanted
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.array[1], ramp())


@pytest.mark.fault("reliability 43")
def test_row_43_a_missing_channel_is_named(files: dict[str, Path]) -> None:
    del files["t1c"]
    with pytest.raises(InputError, match="missing: t1c"):
        io.read_volume(files, channels=("flair", "t1c", "t2"))
    with pytest.raises(InputError, match="1 channel, and 2 are needed: flair, t1c"):
        io.read_volume(files["flair"], channels=("flair", "t1c"))
    with pytest.raises(InputError, match="unknown: t2"):
        io.read_volume(files, channels=("flair",))
    with pytest.raises(InputError, match="none given"):
        io.read_volume({})


@pytest.mark.fault("reliability 45")
def test_row_45_channels_on_different_grids(files: dict[str, Path]) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 0.9
    save(files["t1c"], ramp() + 5, moved)
    with pytest.raises(GridMismatchError, match=r"flair and t1c.*0\.9 mm"):
        io.read_volume(files)


@pytest.mark.fault("reliability 46")
def test_row_46_one_image_under_two_names(files: dict[str, Path]) -> None:
    shutil.copy(files["flair"], files["t2"])
    with pytest.raises(InputError, match="flair and t2 are the same"):
        io.read_volume(files)


def test_different_types_become_float32_and_warnings_name_their_channel(tmp_path: Path) -> None:
    files = {"a": save(tmp_path / "a.nii"), "b": save(tmp_path / "b.nii", ramp(dtype=np.float32) + 0.5)}
    assert io.read_volume(files).array.dtype == np.float32
    values = ramp(dtype=np.float32)
    values[0, 0, 0] = np.nan
    save(files["b"], values + 1)
    volume = io.read_volume(files, options=io.ReadOptions(fill_nan=0.0))
    assert volume.warnings[0].startswith("b: 1 of 210")
