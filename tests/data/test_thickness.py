"""How thick structures are: balls, shells, disks, and what is not labelled whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.thickness import thickness_mm, thicknesses_mm

STRUCTURES = from_labels({1: "ball", 2: "shell"})


def radii(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
    middle = [(n - 1) / 2 for n in shape]
    axes = zip(np.indices(shape), middle, spacing_mm, strict=True)
    return np.asarray(np.sqrt(sum(((n - m) * mm) ** 2 for n, m, mm in axes)))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
def test_a_ball_is_as_thick_as_its_diameter(spacing_mm: tuple[float, float, float]) -> None:
    shape = tuple(round(48 / mm) for mm in spacing_mm)
    ball = radii(shape, spacing_mm) < 20
    assert thickness_mm(ball, spacing_mm) == pytest.approx(40, rel=0.03)


def test_a_shell_is_thin_however_large() -> None:
    r = radii((60, 60, 60), (1.0, 1.0, 1.0))
    shell = (r < 26) & (r >= 22)
    expected = 9 * 4 / 3 * np.pi * (26**3 - 22**3) / (6 * np.pi * (26**2 + 22**2))
    assert thickness_mm(shell, (1.0, 1.0, 1.0)) == pytest.approx(expected, rel=0.05)
    assert expected < 13


def test_a_disk_of_one_slice_is_as_thick_as_its_diameter() -> None:
    disk = radii((50, 50, 1), (0.5, 0.5, 7.0)) < 10
    assert thickness_mm(disk, (0.5, 0.5, 7.0)) == pytest.approx(20, rel=0.03)


def test_where_voxels_may_lack_it_is_the_diameter_of_the_volume() -> None:
    r = radii((40, 40, 40), (1.0, 1.0, 1.0))
    labels = LabelMap(
        np.where(r < 8, 1, np.where((r < 18) & (r >= 16), 2, 0)).astype(np.uint8),
        Grid((40, 40, 40), np.eye(4)),
    )
    volumes = {name: float((labels.array == n).sum() / 1000) for n, name in ((1, "ball"), (2, "shell"))}
    found = thicknesses_mm(labels, STRUCTURES, volumes)
    assert found["ball"] == pytest.approx(16, rel=0.05)
    assert found["shell"] < 7
    partly = thicknesses_mm(replace(labels, ignore=3), STRUCTURES, volumes)
    assert partly["shell"] == pytest.approx(10 * np.cbrt(6 * volumes["shell"] / np.pi))
