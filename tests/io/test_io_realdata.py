"""Real scans: read as nibabel and SimpleITK read them, and restored to the bit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg import io
from medseg.core.volume import LabelMap

pytestmark = pytest.mark.realdata


def require(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"the real scans lack {path.name}")
    return path


@pytest.mark.parametrize(
    "name",
    ["scans/chris_t1.nii.gz", "scans/chris_PD.nii.gz", "scans/ct_thorax_3mm.nii.gz",
     "label_pairs/spine_semantic_ref.nii.gz", "hippocampus/imagesTr/hippocampus_001.nii.gz"],
)  # fmt: skip
def test_scans_are_read_and_results_restored(data_root: Path, tmp_path: Path, name: str) -> None:
    path = require(data_root / name)
    volume, oracle = io.read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.array[0], np.asanyarray(oracle.dataobj))
    np.testing.assert_array_equal(volume.grid.affine, oracle.affine)
    itk = sitk.ReadImage(str(path))
    last = tuple(n - 1 for n in volume.grid.shape)
    world = np.asarray(itk.TransformIndexToPhysicalPoint(last)) * (-1, -1, 1)
    np.testing.assert_allclose(volume.grid.corners_mm[-1], world, atol=1e-2)
    labels = LabelMap((volume.array[0] > volume.array.mean()).astype(np.uint8), volume.grid, volume.form)
    io.write_labels(tmp_path / "out.nii.gz", labels)
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.affine, oracle.affine)
    for field in ("pixdim", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z",
                  "sform_code", "qform_code", "xyzt_units"):  # fmt: skip
        stored = oracle.header[field]
        np.testing.assert_array_equal(np.atleast_1d(written.header[field])[:4], np.atleast_1d(stored)[:4])


def test_every_file_at_hand_has_a_sound_header(data_root: Path) -> None:
    for path in sorted(data_root.rglob("*.nii.gz")):
        info = io.inspect(path)
        assert min(info.shape) > 1, path


@pytest.mark.parametrize("name", ["prostate_t2", "hippocampus_crop"])
def test_dicom_series_equal_simpleitks(data_root: Path, name: str) -> None:
    folder = require(data_root / "dicom" / name)
    volume = io.read_volume(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    oracle = reader.Execute()
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(oracle).T)
    for index in ((0, 0, 0), tuple(n - 1 for n in volume.grid.shape)):
        world = np.asarray(oracle.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        ours = volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]
        np.testing.assert_allclose(ours, world, atol=1e-3)


def test_brats_labels_stored_as_floats_are_integers(data_root: Path) -> None:
    case = require(data_root / "brats2013" / "brats_2013_pat0005_1")
    labels = io.read_labels(case / "OTMultiClass.nii.gz")
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array, np.rint(nib.load(case / "OTMultiClass.nii.gz").get_fdata()))
    assert set(np.unique(labels.array)) <= {0, 1, 2, 3, 4}
    volume = io.read_volume(
        {"flair": case / "Flair_subtrMeanDivStd.nii.gz", "t1c": case / "T1c_subtrMeanDivStd.nii.gz"}
    )
    assert volume.array.shape == (2, 240, 240, 155)
    assert volume.grid.shape == labels.grid.shape


def test_brats_masks_a_hair_below_one_are_one(data_root: Path) -> None:
    for path in sorted(require(data_root / "brats2013").glob("*/brainmask.nii.gz")):
        labels = io.read_labels(path)
        np.testing.assert_array_equal(labels.array, np.rint(nib.load(path).get_fdata()))
        assert set(np.unique(labels.array)) == {0, 1}
