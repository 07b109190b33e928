"""Repeatability: perturbed scans, and the smallest change from repeated predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from models import tiny_model

from medseg.core.affine import apply
from medseg.core.errors import UsageError
from medseg.core.volume import Grid, Volume
from medseg.data import phantom
from medseg.io import read_volume
from medseg.model.evidence import Evidence, SmallestChange
from medseg.model.file import load_model
from medseg.training.repeatability import Perturbations, perturbed, repeatability, rotation, summarised

NOTHING = Perturbations(shift_voxels=0, rotation_degrees=0, noise_percent=(0, 0), bias_percent=0)
OBLIQUE = np.array([[0.9, -0.2, 0.1, 5.0], [0.3, 1.1, 0.0, -3.0], [0.0, 0.1, 2.5, 8.0], [0, 0, 0, 1.0]])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def places_mm(grid: Grid) -> np.ndarray:
    return apply(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))


def ball(grid: Grid, centre_mm: np.ndarray, radius_mm: float = 7.0) -> Volume:
    """A ball with soft edges, 100 in a world of 10."""
    away = np.linalg.norm(places_mm(grid) - centre_mm, axis=-1)
    image = 10 + 90 / (1 + np.exp(2 * (away - radius_mm)))
    return Volume(image[None].astype(np.float32), grid, ("image",))


def centre_of(scan: Volume) -> np.ndarray:
    weight = np.asarray(scan.array[0], dtype=np.float64) - 10
    return np.asarray((places_mm(scan.grid) * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum())


def test_no_perturbation_gives_the_scan_back() -> None:
    scan, _ = phantom.phantom_case(rng(1), (16, 18, 20))
    version = perturbed(scan, NOTHING, rng())
    np.testing.assert_allclose(version.array, np.asarray(scan.array, np.float32), atol=1e-3)
    assert version.grid is scan.grid


def test_the_movement_is_rigid_small_and_in_the_world() -> None:
    """On an oblique grid, two balls far apart keep their distance, and none moves further than allowed."""
    grid = Grid((44, 40, 24), OBLIQUE)
    middle = OBLIQUE[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + OBLIQUE[:3, 3]
    places = [middle + np.array(x) for x in ((8.0, 0, 0), (-7.0, 4.0, 2.0))]
    moved_only = Perturbations(noise_percent=(0, 0), bias_percent=0)
    for seed in range(4):
        centres = [centre_of(perturbed(ball(grid, place, 5.0), moved_only, rng(seed))) for place in places]
        apart = np.linalg.norm(centres[0] - centres[1])
        assert apart == pytest.approx(np.linalg.norm(places[0] - places[1]), abs=0.02)
        farthest = np.linalg.norm(np.abs(OBLIQUE[:3, :3]).sum(axis=1)) + 10 * math.radians(2)
        for there, here in zip(centres, places, strict=True):
            assert 0 < np.linalg.norm(there - here) < farthest


def test_noise_and_shading_are_as_strong_as_they_are_said_to_be() -> None:
    flat = np.full((1, 30, 30, 30), 500.0, np.float32)
    flat[0, :15] = 1000.0
    flat[0, 0, 0, 0], flat[0, -1, 0, 0] = 0.001, 2000.0  # the range that versions keep to
    scan = Volume(flat, Grid((30, 30, 30), np.eye(4)), ("image",))
    still = {"shift_voxels": 0.0, "rotation_degrees": 0.0}
    noisy = perturbed(scan, Perturbations(noise_percent=(2, 2), bias_percent=0, **still), rng())
    assert np.std(noisy.array[0, 2:13, 2:-2, 2:-2]) == pytest.approx(0.02 * 500, rel=0.05)
    shaded = perturbed(scan, Perturbations(noise_percent=(0, 0), bias_percent=3, **still), rng(3))
    ratio = shaded.array[0, 2:-2, 2:-2, 2:-2] / flat[0, 2:-2, 2:-2, 2:-2]
    assert 0.001 < np.abs(ratio - 1).max() <= 0.0301
    assert np.abs(np.diff(ratio[:10], axis=1)).max() < 0.01


def test_a_background_of_zeros_stays_one() -> None:
    scan = ball(Grid((24, 24, 24), np.eye(4)), np.full(3, 11.5))
    array = np.where(scan.array > 30, scan.array, 0).astype(np.float32)
    version = perturbed(Volume(array, scan.grid, scan.channels), Perturbations(), rng())
    assert (version.array[0, :2] == 0).all()
    share = (version.array == 0).mean()
    assert share == pytest.approx((array == 0).mean(), abs=0.02)
    assert version.array.max() <= array.max()


def test_channels_move_together_and_versions_are_seeded() -> None:
    one = ball(Grid((20, 20, 20), np.eye(4)), np.full(3, 9.5))
    two = Volume(np.concatenate((one.array, one.array)), one.grid, ("a", "b"))
    still = Perturbations(noise_percent=(0, 0))
    version = perturbed(two, still, rng())
    np.testing.assert_array_equal(version.array[0], version.array[1])
    np.testing.assert_array_equal(version.array, perturbed(two, still, rng()).array)
    assert not np.array_equal(version.array, perturbed(two, still, rng(1)).array)


def test_one_slice_stays_in_its_plane() -> None:
    image = ball(Grid((30, 26, 1), np.eye(4)), np.array([14.5, 12.5, 0.0]))
    version = perturbed(image, Perturbations(noise_percent=(0, 0), bias_percent=0), rng(2))
    assert version.array.shape == image.array.shape
    assert centre_of(version)[2] == 0
    assert 0.01 < np.linalg.norm(centre_of(version) - centre_of(image)) < 1.5


def test_rotation_keeps_lengths_and_its_axis() -> None:
    axis = np.array([1.0, -2.0, 0.5])
    turn = rotation(axis, 37.0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ axis, axis, atol=1e-12)
    assert np.trace(turn) == pytest.approx(1 + 2 * math.cos(math.radians(37)))


def test_the_smallest_change_by_hand() -> None:
    """Half the squared difference of a pair is its variance: 0.02 and 0.08, in the mean 0.05."""
    found = summarised([[{"x": 1.0}, {"x": 1.2}], [{"x": 3.0}, {"x": 3.4}]])
    row = found.structures["x"]
    assert (found.runs, found.scans, row.n) == (2, 2, 2)
    assert row.smallest_change_ml == pytest.approx(1.96 * math.sqrt(2 * 0.05), rel=1e-3)
    logs = (math.log(1.2) ** 2 / 2 + math.log(3.4 / 3) ** 2 / 2) / 2
    expected = 100 * (math.exp(1.96 * math.sqrt(2 * logs)) - 1)
    assert row.smallest_change_percent == pytest.approx(expected, rel=1e-3)
    assert row.mean_ml == 2.15


def test_two_measurements_differ_by_less_in_95_percent_of_pairs() -> None:
    """The coefficient of simulated subjects holds for new pairs of measurements of them."""
    draw = rng(7)
    subjects = draw.uniform(2, 9, 400)
    first = summarised([[{"x": float(v)} for v in s + draw.normal(0, 0.1, 6)] for s in subjects])
    apart = np.abs(draw.normal(0, 0.1, 5000) - draw.normal(0, 0.1, 5000))
    assert (apart < first.structures["x"].smallest_change_ml).mean() == pytest.approx(0.95, abs=0.01)
    scaled = summarised([[{"x": float(v)} for v in s * np.exp(draw.normal(0, 0.1, 6))] for s in subjects])
    ratio = np.exp(np.abs(draw.normal(0, 0.1, 5000) - draw.normal(0, 0.1, 5000)))
    percent = scaled.structures["x"].smallest_change_percent
    assert (100 * (ratio - 1) < percent).mean() == pytest.approx(0.95, abs=0.01)


def test_scans_without_the_structure_say_nothing_of_it() -> None:
    rows = summarised([
        [{"x": 1.0, "y": 0.0, "z": 0.0}, {"x": 1.2, "y": 0.1, "z": 0.0}],
        [{"x": 0.0, "y": 0.3, "z": 0.0}, {"x": 0.0, "y": 0.3, "z": 0.0}],
    ]).structures  # fmt: skip
    assert (rows["x"].n, rows["x"].smallest_change_ml) == (1, 0.392)
    assert rows["y"].n == 2
    assert rows["y"].smallest_change_percent is None  # once it was not found
    assert rows["z"] == SmallestChange(0, None, None, None)


@pytest.mark.parametrize("bad", [{"runs": 1}, {"shift_voxels": -1.0}, {"noise_percent": (2.0, 1.0)}])
def test_senseless_perturbations_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Perturbations(**bad)  # type: ignore[arg-type]


def test_a_model_is_measured_and_the_evidence_is_stored_with_it(tmp_path: Path) -> None:
    model = tiny_model()
    scans = [phantom.phantom_case(rng(n), (24, 24, 24))[0] for n in range(2)]
    steps: list[tuple[int, int, str]] = []
    few = Perturbations(runs=3)
    found = repeatability(
        model, scans, perturbations=few, seed=4, threads=1, progress=lambda *step: steps.append(step)
    )
    assert (found.runs, found.scans, len(steps)) == (3, 2, 6)
    assert set(found.structures) == set(model.spec.structure_set.names)
    assert any((row.smallest_change_ml or 0) > 0 for row in found.structures.values())
    assert found.perturbations["seed"] == 4
    assert found == repeatability(model, scans, perturbations=few, seed=4, threads=1)
    still = Perturbations(2, 0, 0, (0, 0), 0)
    nothing = repeatability(model, scans, perturbations=still, threads=1)
    assert all(row.smallest_change_ml in (0.0, None) for row in nothing.structures.values())
    stored = tiny_model(evidence=Evidence(repeatability=found))
    stored.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").spec.evidence.repeatability == found
    with pytest.raises(UsageError, match="at least one scan"):
        repeatability(model, [], threads=1)


@pytest.mark.slow
@pytest.mark.realdata
def test_the_packaged_hippocampus_model_repeats_itself(data_root: Path) -> None:
    """Moved by less than a voxel, three crops keep their volumes to well under a fifth."""
    files = sorted((data_root / "hippocampus").rglob("imagesTr/*.nii.gz"))[:3]
    scans = [read_volume(file) for file in files]
    found = repeatability(load_model("hippocampus"), scans, perturbations=Perturbations(runs=4), threads=1)
    assert found.scans == 3
    for row in found.structures.values():
        assert row.n == 3
        assert 0.5 < row.smallest_change_percent < 20
        assert 0.005 < row.smallest_change_ml < 0.4
