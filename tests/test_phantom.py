"""Phantoms: the same seed gives the same heads, and no threshold finds what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg import io
from medseg.errors import UsageError
from medseg.phantom import ORDERS, STRUCTURES, phantom_case, write_phantom_dataset, write_phantom_scan
from medseg.volume import LabelMap, Volume

SMALL = (22, 24, 20)


def case(seed: int, shape: tuple[int, int, int] = (40, 44, 36)) -> tuple[Volume, LabelMap]:
    return phantom_case(np.random.default_rng(seed), shape)


def best_threshold_dice(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The best Dice of any window low <= image < high: the benchmark a network must beat."""
    inside, outside = (
        np.histogram(image[m], bins=np.quantile(image, np.linspace(0, 1, 60)))[0] for m in (mask, ~mask)
    )
    hit, miss = (np.concatenate([[0], np.cumsum(h)]) for h in (inside, outside))
    found = hit[None, :] - hit[:, None]
    called = found + miss[None, :] - miss[:, None]
    return float((2 * found / (np.maximum(called, 0) + mask.sum())).max())


def test_the_structures_are_twins_and_a_core() -> None:
    assert STRUCTURES.names == ("left lobe", "right lobe", "core")
    assert STRUCTURES.twins() == ((1, 2),)


@pytest.mark.parametrize("seed", range(6))
def test_every_structure_is_there_in_one_piece_on_its_side(seed: int) -> None:
    volume, labels = case(seed)
    assert volume.grid.axis_codes == "RAS"
    assert volume.grid.matches(labels.grid)
    assert volume.array.dtype == np.float32
    assert np.isfinite(volume.array).all()
    centres = {}
    for structure in STRUCTURES:
        mask = labels.array == structure.value
        assert 200 < mask.sum() < 3000
        components, _ = ndimage.label(mask)
        assert np.bincount(components.ravel())[1:].max() > 0.97 * mask.sum()
        centres[structure.name] = np.argwhere(mask).mean(axis=0)
    assert centres["left lobe"][0] < centres["core"][0] < centres["right lobe"][0]
    assert centres["core"][2] < min(centres["left lobe"][2], centres["right lobe"][2])


def test_no_threshold_finds_a_structure() -> None:
    for seed in range(3):
        volume, labels = case(seed)
        for values in ([1], [1, 2], [3]):
            assert best_threshold_dice(volume.array[0], np.isin(labels.array, values)) < 0.6


def test_structures_differ_from_the_tissue_around_them() -> None:
    volume, labels = case(0)
    tissue = ndimage.binary_dilation(labels.array > 0, iterations=3) & (labels.array == 0)
    around = volume.array[0][tissue].mean()
    assert volume.array[0][labels.array == 1].mean() > 1.2 * around
    assert volume.array[0][labels.array == 2].mean() > 1.2 * around
    assert volume.array[0][labels.array == 3].mean() < 0.7 * around


def test_heads_differ_and_seeds_repeat() -> None:
    (first, first_labels), (again, again_labels), (other, other_labels) = case(0), case(0), case(1)
    np.testing.assert_array_equal(first.array, again.array)
    np.testing.assert_array_equal(first_labels.array, again_labels.array)
    assert not np.array_equal(first.array, other.array)
    assert not np.array_equal(first_labels.array, other_labels.array)


def test_uneven_boxes_are_filled_too() -> None:
    volume, labels = phantom_case(np.random.default_rng(0), (48, 40, 20), (1.0, 1.2, 2.5))
    np.testing.assert_allclose(volume.grid.spacing_mm, (1.0, 1.2, 2.5))
    assert set(np.unique(labels.array)) == {0, 1, 2, 3}


def test_a_box_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="16 voxels"):
        phantom_case(np.random.default_rng(0), (40, 44, 8))


def test_a_dataset_has_the_decathlon_layout(tmp_path: Path) -> None:
    description = write_phantom_dataset(tmp_path / "phantoms", cases=7, seed=3, shape=SMALL)
    assert description == tmp_path / "phantoms" / "dataset.json"
    content = json.loads(description.read_text())
    assert content["labels"] == {"0": "background", "1": "left lobe", "2": "right lobe", "3": "core"}
    assert content["channel_names"] == content["modality"] == {"0": "image"}
    assert content["numTraining"] == len(content["training"]) == 7
    orders = []
    for index, entry in enumerate(content["training"]):
        volume = io.read_volume(description.parent / entry["image"])
        labels = io.read_labels(description.parent / entry["label"])
        assert Path(entry["image"]).name == Path(entry["label"]).name == f"phantom_{index:03d}.nii.gz"
        assert volume.grid.matches(labels.grid)
        assert set(np.unique(labels.array)) == {0, 1, 2, 3}
        assert not volume.warnings
        orders.append(volume.grid.axis_codes)
    assert orders == [*ORDERS, ORDERS[0]]


def test_a_file_holds_the_case_in_its_axis_order(tmp_path: Path) -> None:
    description = write_phantom_dataset(tmp_path, cases=3, seed=3, shape=SMALL)
    volume, labels = phantom_case(np.random.default_rng([0, 3, 2]), SMALL)
    stored = io.read_volume(description.parent / "imagesTr" / "phantom_002.nii.gz")
    stored_labels = io.read_labels(description.parent / "labelsTr" / "phantom_002.nii.gz")
    assert stored.grid.axis_codes == "PIR"
    # P is the second axis of RAS backwards, I the third backwards, R the first.
    np.testing.assert_array_equal(stored.array[0], volume.array[0].transpose(1, 2, 0)[::-1, ::-1])
    np.testing.assert_array_equal(stored_labels.array, labels.array.transpose(1, 2, 0)[::-1, ::-1])
    last = np.asarray(SMALL) - 1
    np.testing.assert_allclose(
        stored.grid.affine @ [0, 0, 0, 1], volume.grid.affine @ [0, last[1], last[2], 1], atol=1e-4
    )


def test_a_case_depends_on_the_seed_and_its_number_only(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "two", cases=2, seed=3, shape=SMALL)
    write_phantom_dataset(tmp_path / "one", cases=1, seed=3, shape=SMALL)
    for name in ("imagesTr/phantom_000.nii.gz", "labelsTr/phantom_000.nii.gz"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_an_old_dataset_is_not_replaced_unasked(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path, cases=1, seed=0, shape=SMALL)
    with pytest.raises(UsageError, match="exists"):
        write_phantom_dataset(tmp_path, cases=1, seed=1, shape=SMALL)
    before = (tmp_path / "imagesTr" / "phantom_000.nii.gz").read_bytes()
    write_phantom_dataset(tmp_path, cases=1, seed=1, shape=SMALL, overwrite=True)
    assert (tmp_path / "imagesTr" / "phantom_000.nii.gz").read_bytes() != before


def test_a_dataset_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        write_phantom_dataset(tmp_path, cases=0)


def test_a_single_scan_is_in_no_dataset(tmp_path: Path) -> None:
    path, truth = tmp_path / "scan.nii.gz", tmp_path / "truth.nii.gz"
    labels = write_phantom_scan(path, 0, SMALL, labels_path=truth)
    write_phantom_dataset(tmp_path / "set", cases=1, seed=0, shape=SMALL)
    volume = io.read_volume(path)
    assert volume.grid.axis_codes == "LPS"
    assert volume.grid.matches(labels.grid)
    np.testing.assert_array_equal(io.read_labels(truth).array, labels.array)
    other = io.read_volume(tmp_path / "set" / "imagesTr" / "phantom_000.nii.gz")
    assert not np.array_equal(np.sort(volume.array, axis=None), np.sort(other.array, axis=None))


@pytest.mark.parametrize("order", ["", "RA", "RAP", "XYZ", "RASL", "ras"])
def test_an_order_that_is_none_is_refused(tmp_path: Path, order: str) -> None:
    with pytest.raises(UsageError, match="three letters"):
        write_phantom_scan(tmp_path / "scan.nii.gz", order=order, shape=SMALL)
