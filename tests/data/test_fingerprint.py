"""Folders whose values cannot be what they seem: refused by file and value before anything is planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.errors import InputError, UsageError
from medseg.core.structures import Structure
from medseg.data.cards import Card
from medseg.data.fingerprint import Fingerprint, fingerprint
from medseg.data.phantom import write_phantoms
from medseg.data.source import found_in

Voxels = NDArray[np.int16]
Edit = Callable[[int, Voxels, Voxels], None]


def printed(folder: Path, edit: Edit = lambda *_: None) -> Fingerprint:
    """What three cases are like, whose scans and labels were changed by number."""
    for number in range(3):
        scan = np.random.default_rng(number).integers(1, 200, (8, 9, 6)).astype(np.int16)
        labels = np.zeros(scan.shape, np.int16)
        labels[2:5, 3:6, 2:4] = 1
        edit(number, scan, labels)
        for role, voxels in (("images", scan), ("masks", labels)):
            (folder / role).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / role / f"c{number}.nii.gz")
    return fingerprint(found_in(folder, complete=True))


def below(number: int, _scan: Voxels, labels: Voxels) -> None:
    if number == 1:
        labels[0, 0, :2] = -1


def as_pictures(number: int, _scan: Voxels, labels: Voxels) -> None:
    if number > 0:
        labels *= 255


def exchanged(number: int, scan: Voxels, labels: Voxels) -> None:
    if number == 2:
        scan[:], labels[:] = labels.copy(), scan.copy()


def constant(number: int, scan: Voxels, _labels: Voxels) -> None:
    if number == 2:
        scan[:] = 7


def empty(_number: int, _scan: Voxels, labels: Voxels) -> None:
    labels[:] = 0


def copied(number: int, scan: Voxels, _labels: Voxels) -> None:
    if number == 2:
        scan[:] = np.random.default_rng(0).integers(1, 200, scan.shape)


FAULTS: dict[str, tuple[Edit, str]] = {
    "a value below 0": (below, "masks/c1.nii.gz: contains the label value -1 (2 voxels)"),
    "masks of 0 and 1, and of 0 and 255": (
        as_pictures,
        "masks/c1.nii.gz: marks its structure with 255, as 2 label files of 3 do, and ",
    ),
    "scan and labels exchanged": (
        exchanged,
        "different values, so it looks like a scan, not like labels; exchange",
    ),
    "a scan of one value": (constant, "images/c2.nii.gz: every voxel has the value 7"),
    "no structure": (empty, "no case has a voxel of any structure: every voxel of the labels is background"),
    "a scan twice": (copied, "images/c2.nii.gz: contains the same voxels as c0; remove one of the two cases"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_cannot_be_meant_are_refused_with_their_file(fault: str, tmp_path: Path) -> None:
    edit, text = FAULTS[fault]
    with pytest.raises(InputError) as caught:
        printed(tmp_path, edit)
    assert text in str(caught.value)
    assert caught.value.hint


def test_two_structures_that_cases_share_are_two(tmp_path: Path) -> None:
    def two(number: int, _scan: Voxels, labels: Voxels) -> None:
        labels *= 1 + number % 2

    assert printed(tmp_path, two).structures.values == (1, 2)


def test_a_card_has_no_values_below_0() -> None:
    card = Card("set", "A set.", "folder", ("image",), (Structure(-1, "liver"),))
    with pytest.raises(UsageError, match="'liver' has the label value -1"):
        _ = card.structure_set


def test_a_hidden_structure_is_told_with_what_hides_it_and_with_nothing_else(tmp_path: Path) -> None:
    """Masks are painted in the order of their names; the sentence on "a lobe" contains the name "lobe"."""
    write_phantoms(tmp_path, "masks", 3, 0, (20, 24, 16))
    for case in tmp_path.iterdir():
        masks = case / "segmentations"
        large, small = ((masks / f"{name}.nii.gz").read_bytes() for name in ("right_lobe", "core"))
        for path in masks.iterdir():
            path.unlink()
        for name, mask in {"a lobe": large, "b lobe": large, "lobe": small, "shell": small}.items():
            (masks / f"{name}.nii.gz").write_bytes(mask)
    told = fingerprint(found_in(tmp_path, complete=True)).doubts
    assert [text for text in told if text.startswith("phantom")] == [
        "phantom_000: 97 voxels lie in both a lobe and b lobe, and count as b lobe.",
        "phantom_000: 63 voxels lie in both lobe and shell, and count as shell.",
    ]
