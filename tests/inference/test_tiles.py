"""Plans cover a volume, keep to the network's grid, and read what they say they read."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from medseg.core.errors import ResourceError, UsageError
from medseg.inference.tiles import Plan, plan

SHAPES = [(37, 51, 43), (1, 1, 1), (64, 3, 17), (5, 70, 29), (40, 40, 40)]


def overlap_tile(shape, *, stride=(4, 4, 4), radius=(7, 7, 7), max_voxels=32**3, **settings) -> Plan:
    return plan(
        shape,
        tile=(1, 1, 1),
        stride=stride,
        radius=radius,
        tile_independent=True,
        max_voxels=max_voxels,
        **settings,
    )


def sliding(shape, tile=(16, 16, 16), overlap=0.5, stride=(1, 1, 1)) -> Plan:
    return plan(shape, tile=tile, stride=stride, radius=(9, 9, 9), tile_independent=False, overlap=overlap)


def times_written(cut: Plan) -> np.ndarray:
    times = np.zeros(cut.shape, int)
    for tile in cut.tiles:
        times[tile.write.slices] += 1
    return times


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("stride", "radius"), [((4, 4, 4), (7, 7, 7)), ((1, 2, 8), (3, 0, 6)), ((1, 1, 1), (0, 0, 0))]
)
def test_overlap_tile_writes_each_voxel_once_with_its_halo_in_view(shape, stride, radius):
    cut = overlap_tile(shape, stride=stride, radius=radius)
    assert (times_written(cut) == 1).all()
    for tile in cut.tiles:
        assert tile.read.shape == cut.tile_shape
        assert tile.keep.shape == tile.write.shape
        for axis in range(3):
            first, last = tile.read.start[axis], tile.read.stop[axis]
            assert first % stride[axis] == 0
            assert last % stride[axis] == 0
            assert last <= cut.extended[axis]
            seen = tile.write.start[axis] + cut.before[axis], tile.write.stop[axis] + cut.before[axis]
            assert first <= max(0, seen[0] - radius[axis])
            assert last >= min(cut.extended[axis], seen[1] + radius[axis])
            assert tile.keep.start[axis] + first == seen[0]


def test_the_limit_is_kept_and_a_larger_one_never_costs_more():
    shape, computed = (120, 90, 77), []
    for limit in (24**3, 40**3, 60**3, 10**7):
        cut = overlap_tile(shape, border=(4, 4, 4), max_voxels=limit)
        assert math.prod(cut.tile_shape) <= limit
        computed.append(cut.redundancy)
    assert computed == sorted(computed, reverse=True)
    assert len(set(computed)) == len(computed)
    assert len(cut.tiles) == 1
    assert cut.tile_shape == cut.extended == (128, 100, 88)


def test_a_volume_is_cut_along_one_axis_where_that_suffices():
    cut = overlap_tile((100, 24, 24), radius=(7, 7, 7), max_voxels=32 * 24 * 24)
    assert cut.tile_shape[1:] == cut.extended[1:]
    assert len(cut.tiles) > 1


def test_a_limit_below_the_halo_is_refused_with_both_numbers():
    with pytest.raises(ResourceError, match=r"at least 8,000 voxels \(halo \(8, 8, 8\).*limit is 7,999"):
        overlap_tile((100, 100, 100), max_voxels=20**3 - 1)
    assert overlap_tile((100, 100, 100), max_voxels=20**3).tile_shape == (20, 20, 20)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_sliding_windows_cover_the_volume(shape, overlap):
    cut = sliding(shape, overlap=overlap)
    assert times_written(cut).min() > 0
    assert {tile.read.shape for tile in cut.tiles} == {(16, 16, 16)}
    assert all(b <= e for tile in cut.tiles for b, e in zip(tile.read.stop, cut.extended, strict=True))


def test_sliding_window_starts_by_hand():
    """Tile 16, overlap 0.25: every 12 voxels; 41 needs 0, 12, 24 and the flush 25."""
    cut = sliding((41, 16, 9), overlap=0.25)
    assert [tile.read.start for tile in cut.tiles] == [(0, 0, 0), (12, 0, 0), (24, 0, 0), (25, 0, 0)]
    assert cut.before == (0, 0, 3)


@pytest.mark.parametrize(
    "cut", [sliding((40, 33, 21)), overlap_tile((64, 50, 40))], ids=["sliding", "overlap"]
)
def test_tiles_are_ordered_by_the_first_row_they_write(cut):
    first = [tile.write.start[0] for tile in cut.tiles]
    assert first == sorted(first)
    assert len(set(first)) > 1


@pytest.mark.parametrize("shape", [(9, 12, 7), (9, 3, 1)])
def test_overlap_tile_reads_the_image_mirrored_and_edges_where_it_is_too_thin(shape):
    image = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    cut = overlap_tile(shape, max_voxels=20**3)
    expected = image
    for axis, size in enumerate(shape):
        pad = [(0, 0)] * 4
        behind = cut.extended[axis] - cut.before[axis] - size
        pad[axis + 1] = (cut.before[axis], behind)
        mode = "reflect" if max(pad[axis + 1]) < size else "edge"
        expected = np.pad(expected, pad, mode=mode)
    for tile in cut.tiles:
        np.testing.assert_array_equal(cut.read(image, tile), expected[(slice(None), *tile.read.slices)])


def test_a_sliding_window_larger_than_the_volume_reads_it_centred_in_zeros():
    image = np.ones((1, 5, 16, 2), np.float32)
    cut = sliding((5, 16, 2))
    content = cut.read(image, cut.tiles[0])
    expected = np.zeros((1, 16, 16, 16), np.float32)
    expected[:, 5:10, :, 7:9] = 1
    np.testing.assert_array_equal(content, expected)


def test_what_is_read_is_a_copy():
    image = np.zeros((1, 16, 16, 16), np.float32)
    for cut in (sliding((16, 16, 16)), overlap_tile((16, 16, 16))):
        cut.read(image, cut.tiles[0])[:] = 1
    assert not image.any()


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"strategy": "overlap_tile"}, "does not depend on the tile"),
        ({"overlap": 1.0}, "overlap must be in"),
        ({"tile": (16, 16, 15)}, "multiple"),
        ({"stride": (0, 4, 4)}, "positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, fault):
    usual = {"tile": (16, 16, 16), "stride": (4, 4, 4), "radius": (7, 7, 7), "tile_independent": False}
    with pytest.raises(UsageError, match=fault):
        plan((30, 30, 30), **{**usual, **settings})


def test_auto_takes_overlap_tile_where_the_network_allows_it():
    chosen = [
        plan((30, 30, 30), tile=(16,) * 3, stride=(4,) * 3, radius=(7,) * 3, tile_independent=free).strategy
        for free in (True, False)
    ]
    assert chosen == ["overlap_tile", "sliding_window"]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "overlap"), product([(41, 16, 30), (17, 40, 23)], [0.0, 0.25, 0.5, 0.8]))
def test_sliding_windows_lie_where_monai_puts_them(shape, overlap):
    from monai.data.utils import dense_patch_slices

    interval = [max(1, int(16 * (1 - overlap)))] * 3
    theirs = [tuple(s.start for s in window) for window in dense_patch_slices(shape, (16,) * 3, interval)]
    assert [tile.read.start for tile in sliding(shape, overlap=overlap).tiles] == theirs
