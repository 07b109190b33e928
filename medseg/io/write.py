"""Writing: label maps and images onto the input's grid, read back and compared before they appear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.affine import Affine
from medseg.errors import GeometryError, MedsegError, ResourceError, SelfCheckError, UsageError
from medseg.io.atomic import atomic_files, atomic_write
from medseg.io.names import NIFTI_SUFFIXES, stem_and_suffix
from medseg.io.options import ReadOptions, Stored
from medseg.io.values import smallest_dtype
from medseg.volume import FileForm, Grid, LabelMap

FORM_RELATIVE = 1e-6
"""Forms that did not come from a file are rounded to the header's float32."""

QUATERNION_RELATIVE = 1e-3
"""Near a half turn, float32 holds a rotation as a quaternion to about this; the sform beside it is exact."""


def write_labels(
    path: str | Path, labels: LabelMap, *, overwrite: bool = False, inputs: Iterable[Path] = ()
) -> None:
    """Write a label map in its form, in the smallest integer type, and read it back.

    Args:
        path: the target; its suffix chooses the format.
        labels: values, grid, and the form of the file they belong to.
        overwrite: whether an existing file may be replaced.
        inputs: files that are never replaced.

    Raises:
        UsageError: the target exists, is an input, or has no image suffix.
        InputError: values go beyond 32 bits.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: what was read back differs; nothing is left at `path`.
    """
    path = Path(path)
    array = labels.array.astype(smallest_dtype(labels.array, path), copy=False)
    _write(path, array, labels.grid, labels.form, overwrite, inputs)


def write_image(
    path: str | Path,
    array: NDArray[np.float32],
    grid: Grid,
    *,
    form: FileForm,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> None:
    """Write an image (I, J, K) as float32 in a form, and read it back.

    Raises:
        UsageError: the target exists, is an input, or has no image suffix.
        GeometryError: the array is not on the grid.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: values are not finite, or what was read back differs; nothing is left.
    """
    path = Path(path)
    if array.shape != grid.shape:
        raise GeometryError(f"array of shape {array.shape}, grid says {grid.shape}", source=path)
    if not np.isfinite(array).all():
        raise SelfCheckError("the image to write has values that are not finite", source=path)
    _write(path, np.asarray(array, dtype=np.float32), grid, form, overwrite, inputs)


def _write(
    path: Path, array: NDArray[Any], grid: Grid, form: FileForm, overwrite: bool, inputs: Iterable[Path]
) -> None:
    room = _room(path)
    with _target(path, room, overwrite, inputs) as temporary:
        if stem_and_suffix(path)[1] in NIFTI_SUFFIXES:
            room.write(temporary, array, grid, form)
        else:
            room.write(temporary, array, grid)
        _check(path, temporary, array, grid, form, room)


@contextmanager
def _target(path: Path, room: ModuleType, overwrite: bool, inputs: Iterable[Path]) -> Iterator[Path]:
    files = room.targets(path)
    if len(files) == 1:
        with atomic_write(path, overwrite, inputs=inputs) as temporary:
            yield temporary
        return
    with atomic_files(files, overwrite, inputs=inputs) as folder:
        yield folder / path.name


def _room(path: Path) -> ModuleType:
    suffix = stem_and_suffix(path)[1]
    if suffix in NIFTI_SUFFIXES:
        from medseg.io import nifti

        return nifti
    if suffix in (".mha", ".mhd", ".nrrd"):
        from medseg.io import itk

        return itk
    raise UsageError("the name has no image suffix", source=path, mend="end it in .nii.gz, .mha or .nrrd")


def _check(
    path: Path, temporary: Path, array: NDArray[Any], grid: Grid, form: FileForm, room: ModuleType
) -> None:
    """Compare what stands on the disk with what was meant."""
    try:
        faults = list(_differences(temporary, array, grid, form, room))
    except ResourceError:
        raise
    except MedsegError as fault:
        faults = [fault.fault]
    if faults:
        raise SelfCheckError(
            f"what was written is not what was meant ({'; '.join(faults)}), and was removed",
            source=path,
            mend="report this",
        )


def _differences(
    temporary: Path, array: NDArray[Any], grid: Grid, form: FileForm, room: ModuleType
) -> Iterator[str]:
    stored = _read_back(temporary, grid, form, room)
    if stored.array.shape[1:] != array.shape:
        yield f"shape {stored.array.shape[1:]} for {array.shape}"
    elif stored.array.dtype != array.dtype or not np.array_equal(stored.array[0], array):
        yield "voxels differ"
    if not stored.info.grid.matches(grid):
        yield f"its grid lies {stored.info.grid.offset_mm(grid):.4g} mm off"
    if stem_and_suffix(temporary)[1] in NIFTI_SUFFIXES:
        yield from _form_differences(stored.info.form, grid, form)


def _read_back(temporary: Path, grid: Grid, form: FileForm, room: ModuleType) -> Stored:
    """Read with the decisions the input was read with: whichever of its forms is the grid."""
    choices = [ReadOptions(assume_ras=True)]
    if stem_and_suffix(temporary)[1] in NIFTI_SUFFIXES:
        choices += [ReadOptions(use_form="sform"), ReadOptions(use_form="qform")]
    for options in choices:
        try:
            if room.describe(temporary, options).grid.matches(grid):
                break
        except GeometryError:
            continue
    else:
        options = choices[0]
    stored: Stored = room.read(temporary, options)
    return stored


def _form_differences(found: FileForm, grid: Grid, form: FileForm) -> Iterator[str]:
    from medseg.io.nifti import expected_forms

    meant = expected_forms(grid, form)
    if found.sform_code != form.sform_code or (meant[1] is not None and found.qform_code != form.qform_code):
        yield f"codes {found.sform_code}, {found.qform_code} for {form.sform_code}, {form.qform_code}"
    if found.xyzt_units != form.xyzt_units:
        yield f"units {found.xyzt_units} for {form.xyzt_units}"
    sform = found.sform if found.sform_code else None
    if not _same_form(sform, meant[0], FORM_RELATIVE):
        yield "its sform differs"
    ours = form.stored_quaternion is None
    if not _same_form(found.qform, meant[1], QUATERNION_RELATIVE if ours else FORM_RELATIVE):
        yield "its qform differs"


def _same_form(found: Affine | None, meant: Affine | None, relative: float) -> bool:
    if found is None or meant is None:
        return found is meant
    scale = float(np.abs(meant[:3]).max())
    return bool(np.abs(found - meant).max() <= relative * max(scale, 1.0))
