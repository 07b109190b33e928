"""Every number of 200 random pairs of label maps against its definition, mask by mask and point by point.

Small, so that all pairs of points can be looked at: unequal spacing, axes in any order, images of one
slice, structures at the edge, touching each other or missing.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.metrics import evaluate_case
from medseg.metrics.surfels import areas_mm2

STRUCTURES = from_labels({1: "one", 3: "three"})
TAU_MM = 1.2345
Points = tuple[np.ndarray, np.ndarray]


def random_pair(seed: int) -> tuple[LabelMap, LabelMap]:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(2, 7, 3).tolist())
    if seed % 8 == 0:
        shape = (*shape[:2], 1)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[generator.permutation(3)] * generator.uniform(0.3, 4.0, 3)
    rough = generator.random((2, 3, *shape))
    noise = ndimage.gaussian_filter(rough, (0, 0, 1, 1, 1)) if seed % 2 else rough
    maps = np.array([0, 1, 3], np.uint8)[noise.argmax(axis=1)]
    if seed % 10 == 1:
        maps[generator.integers(2)] *= maps[0] != 3
    if seed % 25 == 2:
        maps[maps == 1] = 0
    grid = Grid(shape, affine)
    return LabelMap(maps[0], grid), LabelMap(maps[1], grid)


def flat(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, tuple[float, ...]]:
    return (mask[..., 0], spacing[:2]) if mask.shape[-1] == 1 else (mask, spacing)


def surfel_points(mask: np.ndarray, spacing: tuple[float, ...]) -> Points:
    """Cell by cell: where, in mm, and the area of its facets."""
    mask, spacing = flat(mask, spacing)
    padded, areas = np.pad(mask, 1), areas_mm2(spacing)
    where, weight = [], []
    for at in np.ndindex(*(n + 1 for n in mask.shape)):
        cell = padded[tuple(slice(a, a + 2) for a in at)]
        if cell.any() and not cell.all():
            where.append(np.multiply(at, spacing))
            weight.append(areas[sum(int(c) << bit for bit, c in enumerate(cell.flat))])
    return np.array(where).reshape(-1, mask.ndim), np.array(weight)


def voxel_points(mask: np.ndarray, spacing: tuple[float, ...]) -> Points:
    """Voxels with a face neighbour outside."""
    mask, spacing = flat(mask, spacing)
    where = np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing)
    return where, np.ones(len(where))


def directed(here: Points, there: Points) -> list[tuple[float, float]]:
    return sorted(zip(cdist(here[0], there[0]).min(axis=1).tolist(), here[1].tolist(), strict=True))


def area_percentile(pairs: list[tuple[float, float]], percent: float) -> float:
    needed, seen = percent / 100 * sum(w for _, w in pairs) * (1 - 1e-12), 0.0
    for mm, weight in pairs:
        seen += weight
        if seen >= needed:
            return mm
    return pairs[-1][0]


def surfel_numbers(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    a, b = surfel_points(r, spacing), surfel_points(p, spacing)
    forth, back = directed(a, b), directed(b, a)
    area = sum(w for _, w in forth + back)
    return {
        "hd95_mm": max(area_percentile(forth, 95), area_percentile(back, 95)),
        "hd100_mm": max(forth[-1][0], back[-1][0]),
        "assd_mm": sum(mm * w for mm, w in forth + back) / area,
        "nsd": sum(w for mm, w in forth + back if mm <= TAU_MM) / area,
    }


def voxel_numbers(r: np.ndarray, p: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    a, b = voxel_points(r, spacing), voxel_points(p, spacing)
    forth, back = ([mm for mm, _ in directed(*pair)] for pair in ((a, b), (b, a)))
    return {
        "hd95_mm": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "hd100_mm": max(forth + back),
        "hd95_pooled_mm": np.percentile(forth + back, 95),
        "assd_mm": np.mean(forth + back),
        "masd_mm": (np.mean(forth) + np.mean(back)) / 2,
    }


def overlap_numbers(r: np.ndarray, p: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    both, n_r, n_p = int((r & p).sum()), int(r.sum()), int(p.sum())
    ml = voxel_mm3 / 1000
    return {
        "dice": 2 * both / (n_r + n_p),
        "jaccard": both / int((r | p).sum()),
        "recall": both / n_r if n_r else math.nan,
        "precision": both / n_p if n_p else math.nan,
        "volume_diff_ml": n_p * ml - n_r * ml,
        "rvd_percent": 100 * (n_p - n_r) / n_r if n_r else math.nan,
        "volume_similarity": 1 - abs(n_p - n_r) / (n_p + n_r),
    }


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("mode", ["surfel", "voxel"])
def test_every_number_is_its_definition(mode: str, part: int) -> None:
    statuses = set()
    for seed in range(20 * part, 20 * part + 20):
        reference, predicted = random_pair(seed)
        grid = reference.grid
        case = evaluate_case(predicted, reference, STRUCTURES, tolerance_mm=TAU_MM, mode=mode)
        for row in case.rows:
            r, p = reference.array == row.label, predicted.array == row.label
            assert row.status == {(1, 1): "ok", (1, 0): "pred_empty", (0, 1): "ref_empty"}.get(
                (int(r.any()), int(p.any())), "both_empty"
            )
            statuses.add(row.status)
            expected = expected_numbers(r, p, mode, grid)
            for name, number in expected.items():
                value = row.metrics[name].value
                found = math.nan if value is None else value
                assert found == pytest.approx(number, abs=1e-9, nan_ok=True), f"{seed} {row.name} {name}"
            assert expected.keys() == row.metrics.keys()
    assert "ok" in statuses


def expected_numbers(r: np.ndarray, p: np.ndarray, mode: str, grid: Grid) -> dict[str, float]:
    measure = surfel_numbers if mode == "surfel" else voxel_numbers
    names = ("hd95_mm", "hd100_mm", "assd_mm", "nsd")
    if mode == "voxel":
        names = ("hd95_mm", "hd100_mm", "hd95_pooled_mm", "assd_mm", "masd_mm")
    if not r.any() and not p.any():
        absent = ("dice", "jaccard", "recall", "precision", "rvd_percent", "volume_similarity", *names)
        return {**dict.fromkeys(absent, math.nan), "volume_diff_ml": 0.0}
    overlap = overlap_numbers(r, p, grid.voxel_volume_mm3)
    if r.any() and p.any():
        return overlap | measure(r, p, grid.spacing_mm)
    return overlap | {name: 0.0 if name == "nsd" else math.inf for name in names}
