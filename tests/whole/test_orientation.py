"""However a scan is stored, its labels lie at the same places in the world (fault rows 22 and 23)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.phantom import phantom_case
from medseg.model.file import Model
from medseg.preparation.preparation import PreparationSpec
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

WAYS = [
    np.array(list(zip(axes, signs, strict=True)))
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 signed permutations, as nibabel's orientations."""


def stored(volume: Volume, way: np.ndarray) -> Volume:
    """The same voxels at the same places in another axis order, turned by nibabel."""
    image = nib.orientations.apply_orientation(volume.array[0], way)
    affine = volume.grid.affine @ nib.orientations.inv_ornt_aff(way, volume.grid.shape)
    return Volume(image[None], Grid(image.shape, affine), volume.channels)


def back(labels: LabelMap, way: np.ndarray) -> np.ndarray:
    """Labels of `stored(volume, way)` in the order of `volume`."""
    inverse = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], way)
    return nib.orientations.apply_orientation(labels.array, inverse)


def scan(angles: Sequence[float] = (0, 0, 0)) -> Volume:
    from io_files import oblique

    volume, _ = phantom_case(np.random.default_rng(5), (18, 22, 20), (1.0, 1.1, 1.3))
    return Volume(volume.array, Grid(volume.grid.shape, oblique((1.0, 1.1, 1.3), angles)), ("image",))


@pytest.mark.parametrize("spacing", [None, (1.5, 1.5, 1.5)], ids=["as it is", "resampled"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -20, 30)], ids=["straight", "oblique"])
@pytest.mark.fault("reliability 22")
def test_row_22_all_48_ways_to_store_a_scan_give_the_same_labels_in_the_world(
    model: Model, spacing: tuple[float, float, float] | None, angles: tuple[float, float, float]
) -> None:
    spec = replace(model.spec, preparation=PreparationSpec(spacing_mm=spacing))
    segment = Segmenter([replace(model, spec=spec)], SegmenterOptions(threads=1))
    volume = scan(angles)
    expected = segment(volume).labels.array
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    for way in WAYS:
        turned = stored(volume, way)
        found = segment(turned).labels
        assert found.grid.matches(turned.grid)
        np.testing.assert_array_equal(back(found, way), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.fault("reliability 23")
def test_row_23_labels_follow_a_header_that_is_mirrored_alone(segmenter: Segmenter, axis: int) -> None:
    """The mirrored header must change the answer, to that of the scan mirrored in memory."""
    volume = scan()
    affine = volume.grid.affine.copy()
    affine[:, 3] += affine[:, axis] * (volume.grid.shape[axis] - 1)
    affine[:, axis] *= -1
    relabelled = Volume(volume.array, Grid(volume.grid.shape, affine), ("image",))
    mirrored = Volume(np.flip(volume.array, axis + 1), volume.grid, ("image",))
    found = segmenter(relabelled).labels.array
    np.testing.assert_array_equal(np.flip(found, axis), segmenter(mirrored).labels.array)
    assert (found != segmenter(volume).labels.array).mean() > 0.05


def test_the_origin_moves_only_the_affine(segmenter: Segmenter) -> None:
    volume = scan()
    affine = volume.grid.affine.copy()
    affine[:3, 3] += (500.0, -70.0, 3.3)
    moved = Volume(volume.array, Grid(volume.grid.shape, affine), ("image",))
    np.testing.assert_array_equal(segmenter(moved).labels.array, segmenter(volume).labels.array)
