"""Normalisation: the same picture in other units gives the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core import specs
from medseg.core.errors import InputError, UsageError
from medseg.preparation.intensity import NormalisationSpec, normalise


def scan(seed: int = 0) -> NDArray[np.float64]:
    """Two channels with a heavy tail and a third of zeros."""
    rng = np.random.default_rng(seed)
    array = rng.gamma(2.0, 50.0, size=(2, 12, 13, 14))
    array[:, :4] = 0.0
    return array


@pytest.mark.parametrize("percentiles", [None, (0.5, 99.5), (2.0, 90.0), (0.0, 100.0)])
@pytest.mark.parametrize("region", ["all", "nonzero"])
def test_zscore_by_hand(region: Any, percentiles: tuple[float, float] | None) -> None:
    array = scan()
    out = normalise(array, NormalisationSpec("zscore", region, percentiles))
    for source, result in zip(array, out, strict=True):
        chosen = source if region == "all" else source[source != 0]
        low, high = np.percentile(chosen, percentiles or (0, 100))
        clipped = np.clip(chosen, low, high)
        expected = (np.clip(source, low, high) - clipped.mean()) / clipped.std()
        if region == "nonzero":
            expected[source == 0] = 0.0
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_zscore_has_mean_0_and_deviation_1() -> None:
    out = normalise(scan(), NormalisationSpec())
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3), dtype=np.float64), 0.0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=(1, 2, 3), dtype=np.float64), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["zscore", "range"])
@pytest.mark.parametrize(("gain", "offset"), [(1e4, 0.0), (1e-4, 0.0), (1.0, 1e5), (370.0, -3e4)])
def test_gain_and_offset_do_not_matter(kind: Any, gain: float, offset: float) -> None:
    spec = NormalisationSpec(kind)
    expected = normalise(scan(), spec)
    np.testing.assert_allclose(normalise(gain * scan() + offset, spec), expected, atol=1e-4)


def test_gain_does_not_matter_where_zero_means_outside() -> None:
    spec = NormalisationSpec(region="nonzero")
    np.testing.assert_allclose(normalise(730.0 * scan(), spec), normalise(scan(), spec), atol=1e-4)


def test_channels_do_not_touch_each_other() -> None:
    array = scan()
    together = normalise(array, NormalisationSpec())
    np.testing.assert_array_equal(together[1:], normalise(array[1:], NormalisationSpec()))


def test_foreground_is_what_differs_from_the_corners() -> None:
    inside = np.random.default_rng(0).normal(50.0, 9.0, (1, 6, 7, 8))
    array = np.full((2, 10, 11, 12), -3.0)
    array[0, 2:8, 2:9, 2:10] = inside
    array[1] = np.random.default_rng(1).normal(size=(10, 11, 12))  # corners differ: all of it counts
    out = normalise(array, NormalisationSpec(region="foreground"))
    np.testing.assert_allclose(out[0, 2:8, 2:9, 2:10], normalise(inside, NormalisationSpec())[0], atol=1e-6)
    assert np.count_nonzero(out[0]) == inside.size
    np.testing.assert_array_equal(out[1], normalise(array, NormalisationSpec())[1])


def test_range_spans_0_to_1() -> None:
    out = normalise(scan(), NormalisationSpec("range", percentiles=None))
    for source, result in zip(scan(), out, strict=True):
        np.testing.assert_allclose(result, source / source.max(), atol=1e-6)
    clipped = normalise(scan(), NormalisationSpec("range", percentiles=(5.0, 95.0)))
    assert (clipped.min(), clipped.max()) == (0.0, 1.0)


def test_a_window_maps_its_ends_to_minus_1_and_1() -> None:
    array = np.array([-1024, -160, 40, 240, 3000], np.int16).reshape(1, 5, 1, 1)
    out = normalise(array, NormalisationSpec("window", window=(-160.0, 240.0)))
    assert out.ravel().tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]


def test_none_leaves_the_values() -> None:
    np.testing.assert_array_equal(normalise(scan(), NormalisationSpec("none")), scan().astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, ">i2", ">f4"])
@pytest.mark.parametrize("kind", ["zscore", "range", "none"])
def test_the_stored_type_does_not_matter(dtype: Any, kind: Any) -> None:
    whole = np.round(np.clip(scan(), 0, 255))
    out = normalise(whole.astype(dtype), NormalisationSpec(kind))
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, normalise(whole, NormalisationSpec(kind)))


def test_the_input_is_not_written_to() -> None:
    array = scan()
    array.setflags(write=False)
    before = array.copy()
    out = normalise(array, NormalisationSpec(region="nonzero"))
    np.testing.assert_array_equal(array, before)
    assert not np.shares_memory(out, array)


def test_a_scan_of_nearly_one_value_is_measured_between_its_extremes() -> None:
    array = np.zeros((1, 20, 20, 20))
    array[0, 3, 3, 3] = 5.0
    out = normalise(array, NormalisationSpec())
    assert np.isfinite(out).all()
    assert out[0, 3, 3, 3] > out[0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["zscore", "range", "none"])
@pytest.mark.parametrize("value", [0.0, -3.5, 4e5])
@pytest.mark.fault("reliability 34")
def test_a_constant_channel_is_refused_by_name(kind: Any, value: float) -> None:
    array = scan()
    array[1] = value
    with pytest.raises(InputError, match="'t2' is constant"):
        normalise(array, NormalisationSpec(kind), ("t1", "t2"))


@pytest.mark.fault("reliability 34")
def test_a_constant_foreground_is_refused() -> None:
    array = (scan() != 0).astype(np.float32)
    with pytest.raises(InputError, match="outside the background"):
        normalise(array, NormalisationSpec(region="nonzero"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["zscore", "window", "none"])
@pytest.mark.fault("reliability 32")
@pytest.mark.fault("reliability 33")
def test_what_is_not_finite_is_refused_and_counted(kind: Any, value: float) -> None:
    array = scan()
    array[0, 5, 5, 5:8] = value
    window = (0.0, 1.0) if kind == "window" else None
    with pytest.raises(InputError, match="3 of 2184 voxels of channel 0 are not finite"):
        normalise(array, NormalisationSpec(kind, window=window))


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        normalise(scan().astype(np.complex64), NormalisationSpec())


@pytest.mark.parametrize(
    "settings",
    [
        {"percentiles": (99.0, 1.0)},
        {"percentiles": (-1.0, 99.0)},
        {"kind": "window"},
        {"window": (0.0, 1.0)},
        {"kind": "window", "window": (5.0, 5.0)},
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NormalisationSpec(**settings)


def test_the_spec_survives_json() -> None:
    spec = NormalisationSpec("window", "nonzero", None, (-160.0, 240.0))
    assert specs.from_mapping(NormalisationSpec, specs.to_mapping(spec), source="x") == spec
    with pytest.raises(UsageError, match="kind = 'minmax' is not an allowed value"):
        specs.from_mapping(NormalisationSpec, {"kind": "minmax"}, source="x")


@pytest.mark.realdata
def test_a_real_scan_with_huge_intensities(data_root: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = data_root / "hippocampus" / "imagesTr" / "hippocampus_044.nii.gz"
    if not path.is_file():
        pytest.skip("case 044 is not at hand")
    array = np.asarray(nibabel.load(path).dataobj)[None]
    assert array.max() > 1e5
    out = normalise(array, NormalisationSpec())
    assert out.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(out).max() < 10
    np.testing.assert_allclose(normalise(array * 1e-3, NormalisationSpec()), out, atol=1e-4)
