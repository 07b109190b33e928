"""Change between two times, and lesions followed from one to the other, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.volume import Grid
from medseg.metrics.followup import Change, LesionChange, Smallest, changes, track_lesions

SHAPE = (20, 20, 20)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
Box = tuple[int, int, int, int, int, int]


def mask(*boxes: Box, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Boxes i0:i1, j0:j1, k0:k1."""
    out = np.zeros(shape, bool)
    for a, b, c, d, e, f in boxes:
        out[a:b, c:d, e:f] = True
    return out


def kinds(first: np.ndarray, second: np.ndarray, smallest: Smallest | None = None) -> list[str]:
    return [c.kind for c in track_lesions(first, GRID, second, GRID, smallest)]


def test_a_change_must_exceed_both_bounds() -> None:
    rows = changes(
        {"core": 10.0, "rim": 10.0, "tip": 1.0, "far": 5.0},
        {"core": 11.5, "rim": 10.9, "tip": 0.0, "far": 9.0},
        {"core": Smallest(0.2, 10.0), "rim": Smallest(0.2, 10.0), "tip": Smallest(0.2)},
        cut=["rim"],
    )
    core, rim, tip, far = rows
    assert (core.smallest_ml, core.exceeds, core.percent) == (1.0, True, pytest.approx(15.0))
    assert (rim.smallest_ml, rim.exceeds, rim.percent, rim.cut) == (1.0, False, None, True)
    assert (tip.smallest_ml, tip.exceeds, tip.percent) == (0.2, True, -100.0)
    assert (far.smallest_ml, far.exceeds, far.percent) == (None, None, None)


def test_the_bound_is_the_same_forwards_and_backwards() -> None:
    smallest = Smallest(0.1, 20.0)
    assert smallest.between(3.0, 5.0) == smallest.between(5.0, 3.0) == pytest.approx(0.6)
    assert Change("x", 0.0, 1.0, 0.1).percent is None  # of nothing there is no per cent


def test_new_gone_grown_and_shrunk() -> None:
    """Volumes by hand: 2 mm³ a voxel."""
    first = mask((1, 4, 1, 4, 1, 4), (10, 14, 10, 14, 10, 14), (1, 3, 15, 17, 1, 3))
    second = mask((1, 4, 1, 4, 1, 5), (10, 13, 10, 14, 10, 14), (15, 17, 1, 3, 15, 18))
    found = {c.kind: c for c in track_lesions(first, GRID, second, GRID)}
    assert set(found) == {"grown", "shrunk", "new", "gone"}
    assert (found["grown"].first_ml, found["grown"].second_ml) == ((0.054,), (0.072,))
    assert found["grown"].change_ml == pytest.approx(0.018)
    assert (found["shrunk"].first_ml, found["shrunk"].second_ml) == ((0.128,), (0.096,))
    assert (found["new"].first_ml, found["new"].second_ml) == ((), (0.024,))
    assert found["new"].centre_mm == (15.5, 1.5, 32.0)
    assert (found["gone"].first_ml, found["gone"].second_ml) == ((0.016,), ())


def test_merged_split_and_rearranged() -> None:
    two = mask((1, 5, 1, 5, 1, 5), (7, 9, 1, 5, 1, 5))
    one = mask((1, 9, 1, 5, 1, 5))
    assert kinds(two, one) == ["merged"]
    assert kinds(one, two) == ["split"]
    (merged,) = track_lesions(two, GRID, one, GRID)
    assert merged.first_ml == (0.128, 0.064)
    chain = mask((4, 8, 1, 5, 1, 5), (9, 12, 1, 5, 1, 5))
    assert kinds(mask((1, 5, 1, 5, 1, 5), (7, 10, 1, 5, 1, 5)), chain) == ["rearranged"]


def test_a_change_within_noise_is_no_change() -> None:
    first, second = mask((1, 5, 1, 5, 1, 5)), mask((1, 5, 1, 5, 1, 6))
    assert kinds(first, second) == ["grown"]
    assert kinds(first, second, Smallest(0.01, 20.0)) == ["grown"]  # 0.032 ml against 20 % of 0.128
    assert kinds(first, second, Smallest(0.01, 30.0)) == ["unchanged"]
    assert kinds(first, second, Smallest(0.04)) == ["unchanged"]
    assert kinds(first, first) == ["unchanged"]


def test_pieces_hang_together_by_corners() -> None:
    corner = mask((1, 3, 1, 3, 1, 3), (3, 5, 3, 5, 3, 5))
    assert len(track_lesions(corner, GRID, corner, GRID)) == 1


def test_nothing_in_either_scan_is_nothing() -> None:
    assert track_lesions(mask(), GRID, mask(), GRID) == ()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_other_grids_are_compared_in_world_coordinates(axes: tuple[int, int, int]) -> None:
    """Stored with other axes, flipped, cropped and twice as fine, the lesion is the same."""
    first = mask((4, 8, 4, 8, 4, 8))
    fine = first.repeat(2, 0).repeat(2, 1).repeat(2, 2)[4:, 2:, :]
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    affine[:3, 3] = np.array([-0.25, -0.25, -0.5]) + affine[:3, :3] @ np.array([4, 2, 0])
    flipped = fine[::-1]
    turned = affine.copy()
    turned[:3, 3] = affine[:3, :3] @ np.array([fine.shape[0] - 1, 0, 0]) + affine[:3, 3]
    turned[:, 0] = -affine[:, 0]
    second = flipped.transpose(axes)
    grid = Grid(second.shape, np.concatenate((turned[:, list(axes)], turned[:, 3:]), axis=1))
    (change,) = track_lesions(first, GRID, second, grid)
    assert (change.kind, change.first_ml, change.second_ml) == ("unchanged", (0.128,), (0.128,))
    assert change.centre_mm == pytest.approx((5.5, 5.5, 11.0))


def test_a_lesion_too_small_for_the_coarser_grid_is_found_from_its_own_side() -> None:
    """No centre of a coarse voxel lies in the small lesion, but the small lesion lies in a coarse voxel."""
    coarse = Grid((5, 5, 5), np.diag([4.0, 4.0, 8.0, 1.0]))
    big = np.zeros((5, 5, 5), bool)
    big[2, 2, 2] = True
    small = mask((9, 10, 9, 10, 9, 10))  # its centre is 1 mm, 1 mm and 2 mm from the coarse one
    for a, b in (((small, GRID), (big, coarse)), ((big, coarse), (small, GRID))):
        (change,) = track_lesions(*a, *b)
        assert change.kind in ("grown", "shrunk")


def test_what_the_other_scan_does_not_reach_is_neither_new_nor_gone() -> None:
    first, second = mask((1, 4, 1, 4, 1, 4)), mask((1, 4, 1, 4, 1, 4), (12, 16, 4, 8, 4, 8))
    cropped = Grid((10, 20, 20), GRID.affine)
    found = track_lesions(first[:10], cropped, second, GRID)
    assert sorted(c.kind for c in found) == ["outside", "unchanged"]
    back = track_lesions(second, GRID, first[:10], cropped)
    assert sorted(c.kind for c in back) == ["outside", "unchanged"]


@pytest.mark.parametrize("seed", range(5))
def test_time_reversed_everything_is_the_opposite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.random(SHAPE) > 0.97 for _ in range(2))
    opposite = {"new": "gone", "gone": "new", "grown": "shrunk", "shrunk": "grown", "merged": "split",
                "split": "merged"}  # fmt: skip

    def seen(found: tuple[LesionChange, ...], turn: bool) -> list[tuple[object, ...]]:
        return sorted(
            (opposite.get(c.kind, c.kind), c.second_ml, c.first_ml)
            if turn
            else (c.kind, c.first_ml, c.second_ml)
            for c in found
        )

    there, back = track_lesions(first, GRID, second, GRID), track_lesions(second, GRID, first, GRID)
    assert seen(there, False) == seen(back, True)
    assert sum(sum(c.first_ml) for c in there) == pytest.approx(first.sum() * 2 / 1000)
    assert sum(sum(c.second_ml) for c in there) == pytest.approx(second.sum() * 2 / 1000)


def test_given_objects_are_followed_though_they_touch() -> None:
    """One component of two objects, of which one grows and the other goes; numbers need not be equal."""
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint16)
    first[2:6, 4:8, 4:8], first[6:10, 4:8, 4:8] = 9, 4
    second[1:6, 4:8, 4:8] = 700
    assert sorted(kinds(first, second)) == ["gone", "grown"]
    assert kinds(first > 0, second > 0) == ["shrunk"]
