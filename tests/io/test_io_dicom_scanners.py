"""Headers as scanners write them, from the test files of nibabel: a Philips enhanced MR, Siemens mosaics."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import repainted, save, scanned

from medseg import io
from medseg.core.errors import InputError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOSAICS = ("siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz")


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and matrix (LPS mm) as nibabel reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        wrapper: Any = wrapper_from_file(str(path))
        return np.asarray(wrapper.get_data()), np.asarray(wrapper.affine)


def require_same(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """The file is read to the values of `array` at the places of `affine` (LPS mm), in whatever order."""
    volume = io.read_volume(path)
    into = np.linalg.solve(volume.grid.affine, LPS @ affine)
    np.testing.assert_allclose(into, np.rint(into), atol=1e-3)
    assert abs(np.linalg.det(into)) == pytest.approx(1.0, abs=1e-3)
    index = np.indices(array.shape).reshape(3, -1)
    places = np.rint(into[:3, :3] @ index + into[:3, 3:]).astype(int)
    assert volume.grid.shape == tuple(places.max(axis=1) + 1)
    np.testing.assert_allclose(volume.array[0][tuple(places)], array.ravel(), rtol=1e-6)


SLOPE = 2.10793650793650
"""Of every frame of that Philips scan, which nibabel does not apply and highdicom does."""


def philips(path: Path) -> Path:
    """Frames 41 to 46, of 5 x 4 pixels that all differ."""
    header = scanned("philips_mprage.dcm.gz")
    header.PerFrameFunctionalGroupsSequence = header.PerFrameFunctionalGroupsSequence[40:46]
    header.NumberOfFrames = 6
    repainted(header, (6, 5, 4))
    return save(header, path)


@pytest.mark.fault("reports 13")
def test_frames_of_a_philips_scanner_are_where_and_what_nibabel_finds(tmp_path: Path) -> None:
    path = philips(tmp_path / "x.dcm")
    array, affine = by_nibabel(path)
    require_same(path, array * SLOPE, affine)


@pytest.mark.slow  # importing highdicom
@pytest.mark.fault("reports 13")
def test_frames_of_a_philips_scanner_are_where_and_what_highdicom_finds(tmp_path: Path) -> None:
    import highdicom

    path = philips(tmp_path / "x.dcm")
    oracle = highdicom.imread(path).get_volume(apply_real_world_transform=False)
    require_same(path, oracle.array, oracle.affine)


@pytest.mark.fault("reports 3")
@pytest.mark.parametrize("name", MOSAICS)
def test_a_mosaic_of_a_siemens_scanner_is_where_and_what_nibabel_finds(tmp_path: Path, name: str) -> None:
    header = scanned(name)
    repainted(header, (7 * 5, 7 * 4))
    path = save(header, tmp_path / "x.dcm")
    array, affine = by_nibabel(path)
    assert array.shape == (5, 4, 48)
    assert len(np.unique(array)) == array.size
    require_same(path, array, affine)


@pytest.mark.fault("reports 3")
@pytest.mark.parametrize("shape", [(256, 256), (35, 29), (6, 7)])
def test_a_mosaic_that_is_no_whole_number_of_tiles_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    """48 slices lie in 7 rows of 7; one of nibabel's files was made smaller and has 256 rows."""
    header = scanned(MOSAICS[0])
    repainted(header, shape)
    with pytest.raises(InputError, match=rf"{shape[1]}x{shape[0]} pixels.*48 slices.*7x7.*dcm2niix"):
        io.read_volume(save(header, tmp_path / "x.dcm"))
