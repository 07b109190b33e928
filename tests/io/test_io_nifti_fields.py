"""NIfTI headers of our own, beside nibabel's."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel import nifti1, nifti2, quaternions

from medseg.io.nifti import fields

KINDS = {
    (1, True): nifti1.Nifti1Header,
    (1, False): nifti1.Nifti1PairHeader,
    (2, True): nifti2.Nifti2Header,
    (2, False): nifti2.Nifti2PairHeader,
}


@pytest.mark.parametrize(("version", "theirs"), [(1, nifti1.header_dtype), (2, nifti2.header_dtype)])
def test_every_field_lies_where_it_lies_for_nibabel(version: int, theirs: np.dtype) -> None:
    assert fields.HEADERS[version] == theirs.newbyteorder("<")


@pytest.mark.parametrize(("version", "single"), KINDS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
def test_a_fresh_header_is_that_of_nibabel(
    version: int, single: bool, dtype: str, shape: tuple[int, ...]
) -> None:
    header = KINDS[version, single](endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    ours = fields.fresh_header(version, shape, np.dtype(dtype), single=single)
    assert ours.tobytes() == header.binaryblock


@pytest.mark.parametrize("seed", range(20))
def test_rotations_and_quaternions_are_those_of_nibabel(seed: int) -> None:
    random = np.random.default_rng(seed)
    quaternion = random.standard_normal(4)
    quaternion /= np.linalg.norm(quaternion) * np.sign(quaternion[0])
    rotation = fields.rotation_of(quaternion)
    np.testing.assert_allclose(rotation, quaternions.quat2mat(quaternion), atol=1e-14)
    np.testing.assert_allclose(fields.quaternion_of(rotation), quaternion, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("version", [1, 2])
def test_a_qform_is_that_of_nibabel(seed: int, version: int) -> None:
    """Of any rotation, handedness, spacing and a little shear."""
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.diag(random.uniform(0.3, 4, 3)) + 1e-3 * random.standard_normal((3, 3)))
    affine[:3, 3] = random.uniform(-200, 200, 3)
    theirs = KINDS[version, True](endianness="<")
    theirs.set_qform(affine, 2, strip_shears=True)
    ours = fields.fresh_header(version, (1, 1, 1), np.dtype("f4"), single=True)
    fields.set_qform(ours, affine, 2)
    read = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    found = read(ours.tobytes(), endianness="<", check=False)
    assert int(found["qform_code"]) == 2
    np.testing.assert_allclose(found.get_qform(), theirs.get_qform(), rtol=1e-6, atol=1e-5)
    assert found["pixdim"][0] == theirs["pixdim"][0]
