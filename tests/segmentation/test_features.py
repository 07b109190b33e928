"""What is measured of a scan and its result: by hand, and unchanged by what does not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.structures import from_labels, value_counts
from medseg.core.volume import Grid
from medseg.segmentation import features as f

STRUCTURES = from_labels({1: "front", 2: "back"})
GRID = Grid((40, 50, 30), np.diag([1.0, 2.0, 1.5, 1.0]))


def two_blocks() -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[10:20, 30:40, 5:15] = 1
    labels[10:20, 10:20, 5:15] = 2
    return labels


def test_shapes_by_hand() -> None:
    """Ten voxels a side at 1 x 2 x 1.5 mm: 3 ml, and 40 mm between the centres along the second axis."""
    found = f.shape_features(two_blocks(), GRID, STRUCTURES)
    assert math.exp(found["volume of front"]) == pytest.approx(3.0)
    assert math.exp(found["extent of front (front to back)"]) == pytest.approx(20.0)
    assert found["place of front (front to back)"] == pytest.approx(20.0)
    assert found["place of back (front to back)"] == pytest.approx(-20.0)
    assert found["place of back (right to left)"] == 0.0
    assert found["contact of front with the edge of the scan"] == 0.0


def test_a_volume_on_a_sheared_grid_is_that_of_all_who_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    affine = GRID.affine.copy()
    affine[0, 1] = 0.5  # the voxels lean, and are no larger for it
    grid = Grid(GRID.shape, affine)
    ml = STRUCTURES.volumes_ml(value_counts(two_blocks()), grid)["front"]
    for most in (f.MOST_VOXELS, GRID.voxels // 8):
        monkeypatch.setattr(f, "MOST_VOXELS", most)
        found = f.shape_features(two_blocks(), grid, STRUCTURES)
        assert math.exp(found["volume of front"]) == pytest.approx(ml, rel=1e-9)


def test_contact_with_the_edge_by_hand() -> None:
    """A face of 10 x 10 voxels of 2 x 1.5 mm^2, of a block of 3000 mm^3."""
    found = f.shape_features(two_blocks()[10:], Grid((30, 50, 30), GRID.affine), STRUCTURES)
    assert found["contact of front with the edge of the scan"] == pytest.approx(300 / 3000 ** (2 / 3))


def test_places_do_not_depend_on_where_the_scan_lies() -> None:
    moved = np.zeros(GRID.shape, np.uint8)
    moved[15:25, 32:42, 10:20] = 1
    moved[15:25, 12:22, 10:20] = 2
    here = f.shape_features(two_blocks(), GRID, STRUCTURES)
    assert f.shape_features(moved, GRID, STRUCTURES) == pytest.approx(here)


def test_what_is_missing_has_no_features() -> None:
    labels = two_blocks()
    labels[labels == 2] = 0
    found = f.shape_features(labels, GRID, STRUCTURES)
    gone = ("volume of back", "extent of back", "contact of back", "place of")
    assert not [name for name in found if name.startswith(gone)]
    assert f.shape_features(np.zeros_like(labels), GRID, STRUCTURES) == {}


def test_brightness_by_hand() -> None:
    labels = two_blocks()
    image = np.where(labels == 1, 5.0, 1.0).astype(np.float32)
    image[10:20, 30:35, 5:15] = 3.0
    found = f.brightness_features(image[None], labels, STRUCTURES, ("T1",))
    assert found["brightness of front"] == pytest.approx(4.0)
    assert math.exp(found["texture of front"]) == pytest.approx(1.0)
    assert found["brightness of back"] == pytest.approx(1.0)


def test_noise_and_blur_are_told_apart() -> None:
    generator = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(generator.normal(size=(1, 30, 30, 30)), (0, 3, 3, 3)).astype(np.float32)
    noisy = smooth + generator.normal(0, smooth.std() / 3, smooth.shape).astype(np.float32)
    plain, grainy = f.image_features(smooth, ("T1",)), f.image_features(noisy, ("T1",))
    assert grainy["noise"] > plain["noise"] + 0.5
    assert f.image_features(2 * smooth, ("T1",))["sharpness"] == pytest.approx(plain["sharpness"], abs=1e-4)


def test_channels_are_named() -> None:
    image = np.zeros((2, 8, 8, 1), np.float32)
    names = f.image_features(image, ("flair", "t1"))
    assert "median of flair" in names
    assert "noise of t1" in names


def test_large_scans_are_looked_at_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = f.shape_features(two_blocks(), GRID, STRUCTURES)
    monkeypatch.setattr(f, "MOST_VOXELS", 10_000)
    sparse = f.shape_features(two_blocks(), GRID, STRUCTURES)
    assert sparse["volume of front"] == pytest.approx(whole["volume of front"], abs=0.05)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 101, 5000])
def test_the_median_is_numpys_to_the_last_bit(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    for kind in (values, values.round(1), np.zeros_like(values)):
        assert f._median(kind) == float(np.median(kind))
