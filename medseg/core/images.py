"""Images of NumPy, nibabel and SimpleITK from ours; either library is imported when it is asked for.

The other way, from their images to ours, is `medseg.read`, which checks what they state as it checks a file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg.core.affine import LPS_TO_RAS, Affine, spacing_mm

MILLIMETRES = 2
"""The code of NIfTI."""


def as_array(
    array: NDArray[np.generic], dtype: DTypeLike | None = None, copy: bool | None = None
) -> NDArray[Any]:
    """What `__array__` of NumPy 2 hands out: the array itself, read-only, where nothing forbids it.

    Args:
        array: what is held.
        dtype: wanted; None for that of the array.
        copy: True always copies, False never does, None where the type has to change.

    Raises:
        ValueError: the type has to change, and `copy` is False.
    """
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if copy is False and wanted != array.dtype:
        raise ValueError(f"{array.dtype} becomes {wanted} by a copy only, and copy=False forbids it")
    return array.astype(wanted, copy=bool(copy))


def to_nibabel(array: NDArray[Any], affine: Affine, sform_code: int, qform_code: int) -> Any:
    """A `nibabel.Nifti1Image` of voxels (I, J, K) or channels (C, I, J, K), the channels last.

    The sform, which is exact, always has a code: 1 where the file that the grid came from had none.
    """
    import nibabel as nib

    voxels = np.moveaxis(array, 0, -1) if array.ndim == 4 else array
    if voxels.ndim == 4 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    image = nib.Nifti1Image(storable(voxels), affine)
    image.header["xyzt_units"] = MILLIMETRES
    image.set_qform(affine, code=qform_code, strip_shears=True, update_affine=False)
    image.set_sform(affine, code=sform_code or 1, update_affine=False)
    return image


def to_sitk(array: NDArray[Any], affine: Affine) -> Any:
    """A `SimpleITK.Image` of voxels (I, J, K), or a vector image of channels (C, I, J, K).

    SimpleITK's axes are the same, its arrays (K, J, I), its world LPS+.
    """
    import SimpleITK as sitk

    lps = LPS_TO_RAS @ affine
    spacing = np.asarray(spacing_mm(affine))
    voxels = storable(array[0] if array.ndim == 4 and len(array) == 1 else array)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T), isVector=voxels.ndim == 4)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(np.round(lps[:3, :3] / spacing, 15).ravel().tolist())
    return image


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a type that files have: integers of 64 bits in 32 where they fit, no bool, no half."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        low, high = int(array.min()), int(array.max())
        for dtype in (np.int32, np.uint32):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return array.astype(dtype)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array
