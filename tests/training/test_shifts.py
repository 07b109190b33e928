"""A shifted scan: the same for the same seed, the same anatomy, and other intensities."""

from __future__ import annotations

import numpy as np

from medseg.data import phantom
from medseg.training.shifts import ShiftSpec, shifted


def test_the_same_seed_gives_the_same_scan() -> None:
    scan, _ = phantom.phantom_case(np.random.default_rng(0), (20, 22, 18))
    first, again = (shifted(scan, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.array, again.array)
    assert first.grid is scan.grid
    assert first.array.dtype == np.float32
    assert not np.allclose(first.array, scan.array)


def test_nothing_to_shift_changes_nothing() -> None:
    scan, _ = phantom.phantom_case(np.random.default_rng(0), (20, 22, 18))
    still = shifted(scan, np.random.default_rng(0), ShiftSpec(1.0, 0.0, 0.0, 0.0))
    np.testing.assert_allclose(still.array, scan.array, atol=1e-4 * np.ptp(scan.array))


def test_anatomy_stays() -> None:
    """Bright stays bright: ranks of well separated tissues are kept by every shift."""
    scan, labels = phantom.phantom_case(np.random.default_rng(0), (24, 24, 24))
    for seed in range(5):
        other = shifted(scan, np.random.default_rng(seed))
        one, two = (np.array([v.array[0][labels.array == k].mean() for k in (0, 1)]) for v in (scan, other))
        assert (one[0] < one[1]) == (two[0] < two[1])
