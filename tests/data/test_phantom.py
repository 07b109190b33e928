"""Phantoms: the same seed gives the same heads, and no threshold finds what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import medseg
from numpy.typing import NDArray
from scipy import ndimage

from medseg import io
from medseg.core.components import components
from medseg.core.errors import UsageError
from medseg.core.volume import LabelMap, Volume
from medseg.data.cards import load_card
from medseg.data.cases import read_case, read_image, read_reference
from medseg.data.layouts import LAYOUTS, targets
from medseg.data.phantom import (
    ORDERS,
    STRUCTURES,
    phantom_case,
    write_phantom_dataset,
    write_phantom_scan,
    write_phantoms,
)
from medseg.data.phantom.brain import brain_map
from medseg.data.phantom.datasets import KINDS
from medseg.data.phantom.lesions import lesion_case
from medseg.data.phantom.prostate import prostate_case
from medseg.data.phantom.tumour import tumour_case

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


CARDS = {"promise12": "promise12", "prostatex": "prostatex", "brats": "brats", "label_maps": "brain"}
"""Layouts whose phantoms are what the card of a real data set says."""

LITTLE = {"promise12": (24, 24, 12), "prostatex": (24, 24, 12), "label_maps": (32, 32, 32)}


def test_there_are_phantoms_in_every_layout_of_files_that_are_written() -> None:
    """All but DICOM series, for medseg writes objects that refer to a scan, people's own folders and those
    of corrected cases and natural images.
    """
    read_only = {"dicom", "folder", "table", "monailabel", "voc", "coco", "cityscapes"}
    assert set(LAYOUTS) - read_only <= {kind.layout or name for name, kind in KINDS.items()} == set(targets())


def test_bodies_that_touch_have_their_numbers_beside_the_labels(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "touching", 4, 5)
    card = load_card("bodies")
    joined = 0
    for files in card.read(tmp_path).cases:
        _, labels = read_case(files, card)
        assert labels.numbers is not None
        assert np.array_equal(labels.numbers > 0, labels.array > 0)
        bodies = range(1, int(labels.numbers.max()) + 1)
        assert all(len(set(labels.array[labels.numbers == n].tolist())) == 1 for n in bodies)
        joined += len(bodies) - int(components(labels.array).max())
    assert joined > 0


def test_lesions_are_apart_and_as_bright_as_vessels() -> None:
    volume, labels = lesion_case(np.random.default_rng(3), lesions=3, radius_mm=2.0)
    assert labels.numbers is not None
    assert int(components(labels.array).max()) == 3
    sizes = np.bincount(labels.numbers.ravel())[1:]
    assert sizes.min() >= 27
    assert sizes.max() <= 40
    image = volume.array[0]
    bright = image[labels.array == 0] > image[labels.array == 1].mean()
    assert bright.sum() > labels.array.sum(), "vessels are as bright, and more"
    _, none = lesion_case(np.random.default_rng(3), lesions=0)
    assert not none.array.any()


@pytest.mark.parametrize("layout", CARDS)
def test_phantoms_are_what_a_real_data_sets_card_says(tmp_path: Path, layout: str) -> None:
    write_phantoms(tmp_path, layout, 2, 5, LITTLE.get(layout, (24, 26, 24)))
    card = load_card(CARDS[layout])
    found = card.read(tmp_path).cases
    assert len(found) == 2
    for files in found:
        labels = read_reference(files)
        known = {t.value for t in card.tissues} or set(card.structure_set.known_values)
        values = set(np.unique(labels.array).tolist())
        assert len(values) > 1
        assert values <= known | {0}
        if not card.tissues:
            volume = read_image(files, card.channels)
            assert volume.grid.matches(labels.grid)
            assert volume.array.dtype == np.int16
            assert not volume.warnings


@pytest.mark.parametrize("layout", ["promise12", "brats2023", "nnunet", "masks", "label_maps"])
def test_a_seed_makes_the_same_phantoms_in_every_layout(tmp_path: Path, layout: str) -> None:
    shape = LITTLE.get(layout, (20, 22, 20))
    for folder, cases, seed in (("two", 2, 3), ("one", 1, 3), ("other", 1, 4)):
        write_phantoms(tmp_path / folder, layout, cases, seed, shape)
    files = [p.relative_to(tmp_path / "one") for p in sorted((tmp_path / "one").rglob("*")) if p.is_file()]
    voxels = [path for path in files if path.suffix in (".gz", ".zraw")]
    assert voxels
    for path in voxels:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert any((tmp_path / "one" / p).read_bytes() != (tmp_path / "other" / p).read_bytes() for p in voxels)


def test_a_layout_without_phantoms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"phantoms cannot be written in the layout 'nii'; choose from decathlon"
    ):
        write_phantoms(tmp_path, "nii")
    with pytest.raises(UsageError, match="at least one"):
        write_phantoms(tmp_path, "brats", 0)


def prostate(seed: int) -> tuple[Volume, LabelMap]:
    return prostate_case(np.random.default_rng([9, seed]), (72, 72, 20))


@pytest.mark.parametrize("seed", range(4))
def test_a_prostate_lies_whole_in_oblique_slices(seed: int) -> None:
    volume, labels = prostate(seed)
    assert volume.grid.axis_codes == "LPS"
    off_axis = np.abs(volume.grid.affine[:3, :3] / volume.grid.spacing_mm)
    assert 0.05 < np.sort(off_axis, axis=0)[1].max() < 0.5
    gland = labels.array > 0
    millilitres = gland.sum() * volume.grid.voxel_volume_mm3 / 1000
    assert 12 < millilitres < 110
    components, _ = ndimage.label(gland)
    assert np.bincount(components.ravel())[1:].max() > 0.98 * gland.sum()
    border = np.ones_like(gland)
    border[1:-1, 1:-1, 1:-1] = False
    assert not (gland & border).any()


def test_no_threshold_finds_a_prostate() -> None:
    for seed in range(3):
        volume, labels = prostate(seed)
        assert best_threshold_dice(volume.array[0].astype(np.float32), labels.array > 0) < 0.5


def test_a_prostate_has_a_bladder_above_and_a_rectum_behind() -> None:
    """Brighter than the gland; darker than it or as bright; neither labelled."""
    volume, labels = prostate(0)
    smooth = ndimage.gaussian_filter(volume.array[0].astype(float), (1.5, 1.5, 0.5))
    i, j, k = (int(n) for n in np.argwhere(labels.array > 0).mean(axis=0))
    gland = np.median(smooth[labels.array > 0])
    top = np.argwhere(labels.array > 0)[:, 2].max()
    assert smooth[i - 3 : i + 4, j - 8 : j + 9, top + 1 :].max() > 1.4 * gland
    behind = np.argwhere(labels.array[:, :, k] > 0)[:, 1].max()
    strip = smooth[i - 3 : i + 4, behind + 2 :, k]
    assert strip.min() < 0.6 * strip.max()


def test_a_prostate_as_the_challenge_has_it_is_as_large() -> None:
    volume, _ = prostate_case(np.random.default_rng(0))
    np.testing.assert_allclose(volume.grid.spacing_mm, (0.5, 0.5, 3.0), atol=1e-5)
    assert volume.grid.shape[0] == volume.grid.shape[1]
    assert 240 <= volume.grid.shape[0] <= 272
    assert 28 <= volume.grid.shape[2] <= 34


def tumour(seed: int) -> tuple[Volume, LabelMap]:
    return tumour_case(np.random.default_rng([9, seed]), (56, 64, 52))


@pytest.mark.parametrize("seed", range(4))
def test_a_tumour_has_all_its_tissues_in_a_brain_without_a_skull(seed: int) -> None:
    volume, labels = tumour(seed)
    assert volume.channels == ("flair", "t1", "t1c", "t2")
    counts = np.bincount(labels.array.ravel(), minlength=5)
    assert (counts[1:] > 10).all()
    assert counts[2] > counts[4]
    brain = volume.array[0] > 0
    assert 0.1 < brain.mean() < 0.5
    for channel in volume.array:
        np.testing.assert_array_equal(channel > 0, brain)
    assert brain[labels.array > 0].all()


@pytest.mark.parametrize("seed", range(3))
def test_each_sequence_shows_its_own_share_of_a_tumour(seed: int) -> None:
    volume, labels = tumour(seed)
    healthy = (volume.array[0] > 0) & (labels.array == 0)

    def relative(channel: int, value: int) -> float:
        image = volume.array[channel]
        return float(np.median(image[labels.array == value]) / np.median(image[healthy]))

    flair, t1, t1c, t2 = range(4)
    assert relative(flair, 2) > 1.4
    assert relative(t2, 2) > 1.3
    assert relative(t1c, 4) > 1.1 > relative(t1, 4)
    assert relative(t1c, 1) < 0.7
    for values in ([4], [1, 3, 4]):
        mask = np.isin(labels.array, values)
        assert best_threshold_dice(volume.array[t1c].astype(np.float32), mask) < 0.75


def test_a_label_map_has_every_tissue_and_its_twins_on_their_sides() -> None:
    card = load_card("brain")
    labels = brain_map(np.random.default_rng(9))
    assert set(np.unique(labels.array).tolist()) == {0} | {t.value for t in card.tissues}
    for left, right in card.structure_set.twins():
        x = [np.argwhere(labels.array == value)[:, 0].mean() for value in (left, right)]
        assert x[0] < x[1], (left, right)


@pytest.mark.parametrize("make", [tumour_case, brain_map])
def test_a_box_too_small_for_any_phantom_is_refused(make: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match="16 voxels"):
        make(np.random.default_rng(0), (40, 12, 40))


def test_the_command_makes_phantoms_in_a_layout(tmp_path: Path) -> None:
    ran = medseg("phantom", tmp_path / "set", "--layout", "masks", "--cases", "3")
    assert (ran.code, ran.out) == (0, "")
    assert len(LAYOUTS["masks"].read(tmp_path / "set").cases) == 3
    assert medseg("phantom", tmp_path / "other", "--layout", "tar").code == 2


def test_a_suffix_in_capitals_names_a_file_too(tmp_path: Path) -> None:
    assert medseg("phantom", tmp_path / "SCAN.NII.GZ").code == 0
    assert (tmp_path / "SCAN.NII.GZ").is_file()
