"""Scans and labels that lie in memory: arrays, and images of nibabel and SimpleITK, checked as files are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.affine import LPS_TO_RAS
from medseg.core.errors import InputError, UsageError
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.io.labels import read_label_file
from medseg.io.options import DEFAULT, ImageInfo, ReadOptions, Stored
from medseg.io.placement import checked_grid
from medseg.io.read import joined, read_volume, volume_of
from medseg.io.values import label_values

Source: TypeAlias = "str | PathLike[str] | Volume | LabelMap | NDArray[Any] | Any"
"""A path, a `Volume`, an image of nibabel or SimpleITK, an array or a tensor."""

NIBABEL, SITK, ARRAY, VOLUME = map(Path, ("nibabel image", "SimpleITK image", "array", "Volume"))
"""What messages call an image that came from no file."""


def as_volume(
    source: Source | Mapping[str, Source],
    *,
    affine: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    options: ReadOptions = DEFAULT,
) -> Volume:
    """A scan in whatever form somebody has it.

    Args:
        source: what `Source` lists, or one of them for each channel by name.
        affine: 4x4, voxel index to RAS+ mm, of arrays (I, J, K) or (C, I, J, K), which have none.
        channels: names and order wanted, as `read_volume` takes them.
        options: decisions that are left open.

    Raises:
        UsageError: an array has no affine, something else has one, or it is none of these.
        MedsegError: as `read_volume`.
    """
    if isinstance(source, Mapping):
        if affine is None and all(is_path(part) for part in source.values()):
            return read_volume(source, channels=channels, options=options)
        parts = {name: as_volume(part, affine=affine, options=options) for name, part in source.items()}
        return joined(parts, channels)
    if is_path(source):
        _refuse_affine(affine, "a file")
        return read_volume(source, channels=channels, options=options)
    if isinstance(source, Volume):
        _refuse_affine(affine, "a Volume")
        return source if channels is None else _named(source, channels)
    return volume_of(_stored(source, affine, options), channels, options)


def as_labels(source: Source, *, affine: ArrayLike | None = None, options: ReadOptions = DEFAULT) -> LabelMap:
    """Labels (I, J, K) in whatever form somebody has them; numbers within 1e-3 of integers are rounded.

    Args:
        source: what `Source` lists, or a `LabelMap`.
        affine: 4x4, voxel index to RAS+ mm, of an array.
        options: decisions that are left open.

    Raises:
        UsageError: an array has no affine, something else has one, or it is none of these.
        MedsegError: as `read_label_file`.
    """
    if is_path(source):
        _refuse_affine(affine, "a file")
        return read_label_file(Path(source), options)
    if isinstance(source, LabelMap):
        _refuse_affine(affine, "a LabelMap")
        return source
    if isinstance(source, Volume):
        info = ImageInfo(VOLUME, "Volume", source.grid, len(source.channels), source.array.dtype.name,
                         1.0, 0.0, source.form, source.warnings)  # fmt: skip
        stored = Stored(info, source.array)
    else:
        stored = _stored(source, affine, options)
    info = stored.info
    if len(stored.array) != 1:
        raise InputError(f"a label map has one channel, not {len(stored.array)}", source=info.path)
    values, said = label_values(stored.array[0], info.slope, info.inter, info.path)
    return LabelMap(values, info.grid, info.form, info.warnings + said)  # type: ignore[arg-type]


def is_path(source: object) -> TypeGuard[str | Path]:
    """Whether it names a file or folder."""
    return isinstance(source, str | PathLike)


def is_placed(source: object) -> bool:
    """Whether it says itself where its voxels lie: it is no array or tensor."""
    return is_path(source) or isinstance(source, Volume | LabelMap) or is_nibabel(source) or is_sitk(source)


def array_of(source: Any) -> NDArray[Any]:
    """The voxels of an array, or of a tensor on any device.

    Raises:
        UsageError: it is none.
    """
    if not hasattr(source, "__array__"):
        raise UsageError(
            f"a scan is not {type(source).__name__}",
            hint="give a path, a Volume, an image of nibabel or SimpleITK, or an array with affine=",
        )
    return np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)


def is_nibabel(source: object) -> bool:
    """Whether it is a spatial image of nibabel; without nibabel there is none."""
    return hasattr(source, "dataobj") and hasattr(source, "affine") and hasattr(source, "header")


def is_sitk(source: object) -> bool:
    """Whether it is an image of SimpleITK; without SimpleITK there is none."""
    sitk = sys.modules.get("SimpleITK")
    return sitk is not None and isinstance(source, sitk.Image)


def _stored(source: Any, affine: ArrayLike | None, options: ReadOptions) -> Stored:
    """The voxels (C, I, J, K) of an image or an array, and what it states of them."""
    if is_nibabel(source):
        _refuse_affine(affine, "a nibabel image")
        return _of_nibabel(source, options)
    if is_sitk(source):
        _refuse_affine(affine, "a SimpleITK image")
        return _of_sitk(source)
    return _of_array(array_of(source), affine)


def _of_array(array: NDArray[Any], affine: ArrayLike | None) -> Stored:
    if affine is None:
        raise UsageError(
            f"an array {array.shape} does not say where its voxels lie",
            hint="give affine=, 4x4, from voxel index to RAS+ mm",
        )
    if array.ndim not in (3, 4) or array.dtype.kind not in "biuf":
        raise UsageError(f"an array is (I, J, K) or (C, I, J, K) numbers, not {array.shape} {array.dtype}")
    matrix = np.asarray(affine, dtype=np.float64)
    Grid(array.shape[-3:], matrix)
    return _described(ARRAY, array if array.ndim == 4 else array[None], matrix)


def _of_sitk(image: Any) -> Stored:
    import SimpleITK as sitk

    if image.GetDimension() != 3 or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"the image is {image.GetDimension()}D {image.GetPixelIDTypeAsString()}, and 3D is needed",
            source=SITK,
            hint="give a 3D image of numbers",
        )
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    voxels = array if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return _described(SITK, voxels, LPS_TO_RAS @ lps + 0.0)


def _of_nibabel(image: Any, options: ReadOptions) -> Stored:
    """A NIfTI image as its file would be read; of other kinds, nibabel's affine is taken."""
    from nibabel.nifti1 import Nifti1Pair

    name = image.get_filename()
    source = Path(name) if name else NIBABEL
    if not 3 <= len(image.shape) <= 5 or len([n for n in image.shape[3:] if n > 1]) > 1:
        raise InputError(f"the image has the shape {image.shape}, and 3D is needed", source=source)
    array, slope, inter = _voxels(image)
    channels = np.moveaxis(array.reshape(*array.shape[:3], -1), -1, 0)
    if not isinstance(image, Nifti1Pair):
        found = _described(source, channels, np.asarray(image.affine, np.float64))
        return replace(found, info=replace(found.info, slope=slope, inter=inter))
    grid, form, said = _nifti_grid(image, options, source)
    info = ImageInfo(
        source, "nibabel", grid, len(channels), channels.dtype.name, slope, inter, form, said
    )  # fmt: skip
    return Stored(info, channels)


def _voxels(image: Any) -> tuple[NDArray[Any], float, float]:
    """The voxels as they are stored, with slope and intercept; those in memory are scaled already."""
    proxy = image.dataobj
    if hasattr(proxy, "get_unscaled"):
        array = np.asarray(proxy.get_unscaled())
        return array.astype(array.dtype.newbyteorder("="), copy=False), float(proxy.slope), float(proxy.inter)
    array = np.asarray(proxy)
    return array.astype(array.dtype.newbyteorder("="), copy=False), 1.0, 0.0


def _nifti_grid(image: Any, options: ReadOptions, source: Path) -> tuple[Grid, FileForm, tuple[str, ...]]:
    """The grid that the header's forms agree on, with the digits that nibabel's affine has beyond them."""
    from medseg.io.nifti.file import placed

    whole = type(image)(image.dataobj, image.affine, image.header)  # what saving would write
    grid, form, said = placed(whole.header, options, source)
    if np.array_equal(np.float32(image.affine), np.float32(grid.affine)):
        grid = Grid(grid.shape, image.affine)
    return grid, form, said


def _described(source: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> Stored:
    i, j, k = array.shape[-3:]
    grid, said = checked_grid((i, j, k), affine, source)
    form = FileForm()
    return Stored(ImageInfo(source, "", grid, len(array), array.dtype.name, 1.0, 0.0, form, said), array)


def _named(volume: Volume, channels: Sequence[str]) -> Volume:
    """A volume whose channels are called as wanted, or chosen by name where they are called so already."""
    wanted = tuple(channels)
    if set(wanted) <= set(volume.channels):
        order = [volume.channels.index(name) for name in wanted]
        return Volume(volume.array[order], volume.grid, wanted, volume.form, volume.warnings)
    if len(wanted) != len(volume.channels):
        raise InputError(f"the volume has {', '.join(volume.channels)}, not {', '.join(wanted)}")
    return replace(volume, channels=wanted)


def _refuse_affine(affine: ArrayLike | None, what: str) -> None:
    if affine is not None:
        raise UsageError(f"{what} says itself where its voxels lie", hint="leave out affine=")
