"""Supervoxels: near in millimetres, alike in intensity; and `medseg partition`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, names, refused
from io_files import save
from PIL import Image

import medseg
from medseg.classical.partition import METHODS, gradient, partition
from medseg.core.errors import UsageError
from medseg.data.phantom import write_phantom_scan


def two_halves(shape: tuple[int, int, int] = (16, 14, 12), noise: float = 0.05) -> tuple[np.ndarray, ...]:
    """An image of two brightnesses with a border that no grid of seeds follows, and which half is which."""
    i, j, k = np.indices(shape)
    half = i + 0.5 * j + 0.3 * k > 14
    return half, (half + noise * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def purity(parts: np.ndarray, labels: np.ndarray) -> float:
    """Share of voxels that have the commonest label of their part."""
    return sum(np.bincount(labels[parts == n].astype(int)).max() for n in np.unique(parts)) / parts.size


@pytest.mark.parametrize("method", METHODS)
def test_parts_follow_edges_and_cover_the_scan(method: str) -> None:
    half, image = two_halves()
    found = partition(image, (1.0, 1.0, 1.5), method, 40)
    assert found.shape == image.shape
    assert set(np.unique(found)) == set(range(1, int(found.max()) + 1))
    assert 2 <= found.max() <= 80
    assert purity(found, half) > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_the_same_scan_gives_the_same_parts(method: str) -> None:
    _, image = two_halves()
    np.testing.assert_array_equal(*(partition(image, (1, 1, 1), method, 20) for _ in range(2)))


def test_parts_of_kmeans_are_as_long_in_millimetres_along_every_axis() -> None:
    image = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    found = partition(image, (1.0, 1.0, 4.0), "kmeans", 64, compactness=10.0)
    spread = np.array([np.argwhere(found == n).std(axis=0) for n in np.unique(found)]).mean(axis=0)
    assert spread[0] > 2 * spread[2]


@pytest.mark.parametrize("method", METHODS)
def test_a_slice_a_voxel_and_a_constant_scan_will_do(method: str) -> None:
    for shape, parts in (((9, 8, 1), 6), ((1, 1, 1), 1), ((6, 6, 6), 4)):
        found = partition(np.zeros(shape, np.int16), (1, 1, 3), method, parts)
        assert found.shape == shape
        assert found.min() == 1


def test_intensity_units_do_not_matter() -> None:
    _, image = two_halves()
    found, scaled = (partition(x, (1, 1, 1), "slic", 20) for x in (image, (1000 * image).astype(np.int16)))
    assert (found == scaled).mean() > 0.95


def test_a_gradient_is_per_millimetre() -> None:
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (5, 6, 12))
    assert gradient(ramp, (1, 1, 2))[2, 3, 6] == pytest.approx(0.5, abs=1e-5)


def test_settings_out_of_range_are_refused() -> None:
    _, image = two_halves()
    with pytest.raises(UsageError, match=r"'slick' does not exist; did you mean 'slic'"):
        partition(image, (1, 1, 1), "slick", 10)
    for parts in (0, image.size + 1):
        with pytest.raises(UsageError, match=f"{parts} parts are wanted of {image.size} voxels"):
            partition(image, (1, 1, 1), "slic", parts)
    with pytest.raises(UsageError, match="compactness must be positive, not 0"):
        partition(image, (1, 1, 1), "slic", 10, 0)


def test_the_command_writes_labels_on_the_scans_grid_and_a_picture(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_phantom_scan(scan, shape=(20, 22, 16))
    ran = done("partition", scan, "-k", 60, "--method", "kmeans")
    assert names(tmp_path) == {"scan.nii.gz", "scan_parts_seg.nii.gz", "scan_parts_overlay.png"}
    assert ran.out.startswith("wrote 60 parts to ")
    written, given = nib.load(tmp_path / "scan_parts_seg.nii.gz"), nib.load(scan)
    np.testing.assert_array_equal(written.affine, given.affine)
    found = medseg.partition(scan, parts=60, method="kmeans")
    np.testing.assert_array_equal(np.asarray(written.dataobj), found.array)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "scan_parts_overlay.png").convert("RGB")))) > 20
    assert "exists already" in refused(2, "partition", scan)
    done("partition", scan, "-k", 10, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == {"scan_parts_seg.nii.gz", "scan_parts_overlay.png"}


def test_what_cannot_be_partitioned_is_one_line(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_phantom_scan(scan, shape=(16, 16, 16))
    assert "'slick'" in refused(2, "partition", scan, "--method", "slick")
    assert "5000 parts are wanted of 4096 voxels" in refused(2, "partition", scan, "-k", 5000)
    assert "no such file" in refused(3, "partition", tmp_path / "none.nii.gz")
    (tmp_path / "empty").mkdir()
    refused(3, "partition", tmp_path / "empty")
    save(tmp_path / "four.nii.gz", np.zeros((5, 5, 5, 2), np.float32))
    assert "--volume 0 to 1" in refused(3, "partition", tmp_path / "four.nii.gz")
    assert "would replace an input" in refused(2, "partition", scan, "-o", scan, "--overwrite")
    assert names(tmp_path) == {"scan.nii.gz", "empty", "four.nii.gz"}
