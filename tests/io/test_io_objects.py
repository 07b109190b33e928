"""Images of nibabel, SimpleITK and NumPy: the same volume as their files, there and back."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import medseg
from medseg.core.errors import GeometryError, InputError, UsageError
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.io import ReadOptions, read_labels, read_volume, write_labels
from medseg.io.objects import as_labels, as_volume

SHAPE = (4, 5, 6)


def orientations() -> list[np.ndarray]:
    """The 48 axis orders and directions."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = 0.0
            for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
                affine[world, axis] = sign * (0.8, 1.1, 2.3)[axis]
            affine[:3, 3] = -31.25, 17.5, 4.75
            found.append(affine)
    return found


def oblique(seed: int) -> np.ndarray:
    """A rotation, perhaps mirrored, with spacings and an origin."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.5, 4.0, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


GRIDS = [*orientations(), *map(oblique, range(24))]


def voxels(dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=dtype).reshape(SHAPE)


@pytest.mark.parametrize("affine", GRIDS)
class TestThereAndBack:
    def test_nibabel(self, affine: np.ndarray) -> None:
        labels = LabelMap(voxels(), Grid(SHAPE, affine))
        back = Volume.from_nibabel(labels.to_nibabel())
        assert np.array_equal(back.array[0], labels.array)
        assert back.grid.offset_mm(labels.grid) < 1e-9

    def test_simpleitk(self, affine: np.ndarray) -> None:
        labels = LabelMap(voxels(), Grid(SHAPE, affine))
        image = labels.to_sitk()
        back = Volume.from_sitk(image)
        assert np.array_equal(back.array[0], labels.array)
        assert back.grid.offset_mm(labels.grid) < 1e-9
        index = (1, 2, 3)
        ras = affine @ (*index, 1.0) * (-1, -1, 1, 1)
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(ras[:3])
        assert image[index] == labels.array[index]

    def test_it_is_what_stands_in_the_files(self, affine: np.ndarray, tmp_path: Path) -> None:
        labels = LabelMap(voxels(), Grid(SHAPE, affine))
        write_labels(tmp_path / "ours.nii.gz", labels)
        write_labels(tmp_path / "ours.mha", labels)
        nib.save(labels.to_nibabel(), tmp_path / "nibabel.nii.gz")
        sitk.WriteImage(labels.to_sitk(), str(tmp_path / "itk.nrrd"))
        for name in ("ours.nii.gz", "ours.mha", "nibabel.nii.gz", "itk.nrrd"):
            read = read_labels(tmp_path / name)
            assert np.array_equal(read.array, labels.array), name
            assert read.grid.offset_mm(labels.grid) < 1e-3, name
        for name in ("ours.nii.gz", "nibabel.nii.gz"):
            image = nib.load(tmp_path / name)
            assert as_volume(image).grid.offset_mm(read_volume(tmp_path / name).grid) == 0
        theirs = as_volume(sitk.ReadImage(str(tmp_path / "ours.mha")))
        assert theirs.grid.offset_mm(read_volume(tmp_path / "ours.mha").grid) < 1e-9
        assert np.array_equal(theirs.array[0], labels.array)


class TestArrays:
    def test_numpy_has_the_voxels_without_a_copy(self) -> None:
        labels = LabelMap(voxels(), Grid(SHAPE, np.eye(4)))
        assert np.shares_memory(np.asarray(labels), labels.array)
        assert not np.shares_memory(np.array(labels), labels.array)
        assert np.array(labels, copy=True).flags.writeable
        assert np.asarray(labels, dtype=np.float32).dtype == np.float32
        assert np.shares_memory(np.array(labels, copy=False), labels.array)
        with pytest.raises(ValueError, match="copy=False"):
            np.array(labels, dtype=np.float32, copy=False)

    def test_an_array_needs_an_affine_and_nothing_else_has_one(self) -> None:
        assert as_volume(voxels(), affine=np.eye(4)).array.shape == (1, *SHAPE)
        two = as_volume(torch.zeros(2, *SHAPE), affine=np.eye(4), channels=("a", "b"))
        assert two.channels == ("a", "b")
        with pytest.raises(UsageError, match="affine="):
            as_volume(voxels())
        with pytest.raises(UsageError, match="leave out affine="):
            as_volume(two, affine=np.eye(4))
        with pytest.raises(UsageError, match="a scan is not list"):
            as_volume([1, 2])

    def test_channels_by_name(self) -> None:
        one, two = voxels(np.float32), voxels(np.float32) + 1
        image = nib.Nifti1Image(two, np.eye(4))
        found = as_volume({"t1": as_volume(one, affine=np.eye(4)), "t2": image}, channels=("t2", "t1"))
        assert found.channels == ("t2", "t1")
        assert np.array_equal(found.array[0], two)
        assert as_volume(found, channels=("t1",)).array[0, 0, 0, 1] == 1

    def test_labels_of_any_kind(self) -> None:
        wanted = voxels(np.uint8)
        for source in (
            nib.Nifti1Image(wanted.astype(np.float32), np.eye(4)),
            LabelMap(wanted, Grid(SHAPE, np.eye(4))).to_sitk(),
            as_volume(wanted, affine=np.eye(4)),
        ):
            assert np.array_equal(as_labels(source).array, wanted)
        with pytest.raises(InputError, match="is not an integer"):
            as_labels(nib.Nifti1Image(wanted + np.float32(0.5), np.eye(4)))
        two = as_volume(np.stack([wanted, wanted]), affine=np.eye(4), channels=("a", "b"))
        with pytest.raises(InputError) as fault:
            as_labels(two)
        assert str(fault.value) == "Volume: a label map has one channel, not 2"


class TestNibabel:
    def test_scaled_voxels_are_those_of_the_file(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(voxels(), np.eye(4))
        image.header.set_slope_inter(0.1, -3)
        nib.save(image, tmp_path / "scaled.nii")
        theirs, ours = as_volume(nib.load(tmp_path / "scaled.nii")), read_volume(tmp_path / "scaled.nii")
        assert theirs.array.dtype == ours.array.dtype
        assert np.array_equal(theirs.array, ours.array)

    def test_without_orientation_it_is_refused_as_its_file_is(self) -> None:
        image = nib.Nifti1Image(voxels(), None)
        with pytest.raises(GeometryError, match="no orientation"):
            as_volume(image)
        assert as_volume(image, options=ReadOptions(assume_ras=True)).grid.axis_codes == "RAS"

    def test_forms_that_contradict_each_other_are_refused(self) -> None:
        image = nib.Nifti1Image(voxels(), np.eye(4))
        image.set_qform(np.diag([-1.0, 1.0, 1.0, 1.0]), code=1)
        with pytest.raises(GeometryError, match="contradict"):
            as_volume(image)

    def test_four_axes_are_channels(self) -> None:
        image = nib.Nifti1Image(np.stack([voxels(), voxels() + 1], -1), np.eye(4))
        found = Volume.from_nibabel(image, channels=("a", "b"))
        assert found.array.shape == (2, *SHAPE)
        assert np.array_equal(found.to_nibabel().get_fdata(), image.get_fdata())
        with pytest.raises(InputError, match="2 volumes"):
            Volume.from_nibabel(image)

    def test_the_affine_keeps_its_digits(self) -> None:
        affine = oblique(3)
        assert np.array_equal(as_volume(nib.Nifti1Image(voxels(), affine)).grid.affine, affine)


def test_components_of_simpleitk_are_channels() -> None:
    volume = as_volume(np.stack([voxels(), voxels() + 1]), affine=oblique(1), channels=("a", "b"))
    image = volume.to_sitk()
    assert image.GetNumberOfComponentsPerPixel() == 2
    back = Volume.from_sitk(image, channels=("a", "b"))
    assert np.array_equal(back.array, volume.array)
    with pytest.raises(InputError, match="2D"):
        as_volume(sitk.Image(4, 5, sitk.sitkInt16))


def test_read_takes_them_all() -> None:
    image = nib.Nifti1Image(voxels(), np.eye(4))
    for source in (image, as_volume(image), as_volume(image).to_sitk()):
        assert np.array_equal(medseg.read(source).array[0], voxels())
    assert medseg.read(voxels(), affine=np.eye(4)).channels == ("image",)
