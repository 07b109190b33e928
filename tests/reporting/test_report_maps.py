"""Signed distances are those of the metrics with a sign; the pictures of them are small and stable."""

from __future__ import annotations

import io
from typing import get_args

import matplotlib.image
import numpy as np
import pytest

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics.case import SurfaceMode, evaluate_case
from medseg.metrics.signed import SignedSurfaces, signed_surfaces
from medseg.reporting.drawing import palette
from medseg.reporting.drawing import surfaces as maps

ONE = from_labels({1: "liver"})
AFFINE = np.array([[0.0, -1.5, 0.0, 7.0], [1.0, 0.0, 0.0, -3.0], [0.0, 0.0, 2.5, 1.0], [0.0, 0.0, 0.0, 1.0]])


def surfaces(labels: np.ndarray, reference: np.ndarray, grid: Grid) -> SignedSurfaces:
    found = signed_surfaces(labels, reference, grid, ONE, ONE["liver"])
    assert found is not None
    return found


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    offsets = np.moveaxis(np.indices(shape), 0, -1) - np.array(centre)
    return (np.linalg.norm(offsets, axis=-1) <= radius).astype(np.uint8)


@pytest.mark.parametrize("shape", [(20, 22, 18), (20, 22, 1)])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", get_args(SurfaceMode))
@pytest.mark.fault("reports 30")
def test_sizes_are_the_surface_metrics(mode: SurfaceMode, seed: int, shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(seed)
    grid = Grid(shape, AFFINE)
    labels, reference = (
        ball(shape, (*generator.uniform(6, 12, 2), shape[2] / 2), generator.uniform(3, 6)) for _ in range(2)
    )
    found = signed_surfaces(labels, reference, grid, ONE, ONE["liver"], mode)
    assert found is not None
    pair = LabelMap(labels, grid), LabelMap(reference, grid)
    result = evaluate_case(*pair, ONE, tolerance_mm=1.6, mode=mode)
    metrics = result["liver"].metrics
    size, area = np.abs(found.mm), found.area
    assert size.max() == pytest.approx(metrics["hd100_mm"].value)
    assert np.average(size, weights=area) == pytest.approx(metrics["assd_mm"].value)
    if mode == "surfel":
        assert area[size <= 1.6].sum() / area.sum() == pytest.approx(metrics["nsd"].value)


def test_larger_is_positive_and_smaller_is_negative() -> None:
    grid = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
    small, large = np.zeros((2, 24, 24, 24), np.uint8)
    small[8:16, 8:16, 8:16] = large[7:17, 7:17, 7:17] = 1
    out, within = surfaces(large, small, grid), surfaces(small, large, grid)
    assert out.mm.min() == 2.0  # everywhere one voxel further out
    assert within.mm.max() == -2.0
    np.testing.assert_allclose(np.sort(out.mm), np.sort(-within.mm))


def test_the_worst_voxel_belongs_to_the_surface_that_is_furthest_off() -> None:
    grid = Grid((24, 24, 24), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[4:10, 4:10, 4:10] = 1
    labels = reference.copy()
    reference[10:18, 6, 6] = 1  # a spur that the prediction lacks
    found = surfaces(labels, reference, grid)
    assert found.worst == (17, 6, 6)
    assert found.largest_mm == pytest.approx(-8.0)


def test_a_structure_in_one_map_alone_has_no_distances() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    empty, full = np.zeros(grid.shape, np.uint8), np.ones(grid.shape, np.uint8)
    for pair in ((empty, full), (full, empty), (empty, empty)):
        assert signed_surfaces(*pair, grid, ONE, ONE["liver"]) is None


def drawn(labels: np.ndarray, reference: np.ndarray, grid: Grid, *, known: bool = True) -> bytes:
    found = [surfaces(labels, reference, grid)]
    return maps.surfaces_png(found, grid, tolerances_mm={"liver": 1.0}, orientation_known=known)


def coloured(png: bytes) -> tuple[int, int]:
    """Pixels that are clearly red, and clearly blue."""
    red, _, blue = np.moveaxis(matplotlib.image.imread(io.BytesIO(png))[..., :3], -1, 0)
    return int((red > blue + 0.25).sum()), int((blue > red + 0.25).sum())


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, 1.0, 1.0, 1.0])])
def test_what_is_too_large_is_red_and_what_is_too_small_is_blue(affine: np.ndarray) -> None:
    """The colour bar has as many pixels of one as of the other; the maps add to one of them."""
    grid = Grid((30, 30, 30), affine)
    small, large = ball(grid.shape, (15, 15, 15), 6), ball(grid.shape, (15, 15, 15), 9)
    red, blue = coloured(drawn(large, small, grid))
    assert red > 3 * blue
    red, blue = coloured(drawn(small, large, grid))
    assert blue > 3 * red


@pytest.mark.parametrize("shape", [(24, 24, 1), (9, 9, 9), (24, 24, 3)])
def test_any_shape_can_be_drawn_small_and_the_same_every_time(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, AFFINE)
    labels = np.zeros(shape, np.uint8)
    labels[3:6, 3:6] = 1
    reference = np.zeros(shape, np.uint8)
    reference[3, 3:7] = 1
    first = drawn(labels, reference, grid, known=False)
    assert first == drawn(labels, reference, grid, known=False)
    assert len(first) <= palette.LARGEST_PNG_BYTES


def test_a_single_voxel_is_not_blurred_away() -> None:
    grid = Grid((8, 8, 8), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4, 4, 4] = 1
    mesh = maps._mesh(surfaces(labels, labels, grid), grid, known=True)
    np.testing.assert_allclose(mesh.corners.mean(axis=0), (4, 4, 4), atol=1e-6)


def test_the_mesh_faces_outwards_in_any_orientation() -> None:
    shape = (20, 20, 20)
    labels = ball(shape, (9, 9, 9), 5)
    for affine in (np.eye(4), AFFINE, np.diag([-1.0, 1.0, 1.0, 1.0])):
        grid = Grid(shape, affine)
        mesh = maps._mesh(surfaces(labels, labels, grid), grid, known=True)
        middles = mesh.corners[mesh.faces].mean(axis=1) - mesh.corners.mean(axis=0)
        assert (np.einsum("ij,ij->i", middles, mesh.normals) > 0).mean() > 0.99


def test_regions_are_compared_as_wholes() -> None:
    grid = Grid((12, 12, 12), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[4:8, 4:8, 4:8] = 2
    labels = np.where(reference > 0, 1, 0).astype(np.uint8)
    regions = StructureSet((Structure(1, "whole", members=(1, 2)),))
    found = signed_surfaces(labels, reference, grid, regions, regions["whole"])
    assert found is not None
    assert found.largest_mm == 0.0
