"""Writing: label maps and images onto the input's grid, read back and compared before they appear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.affine import Affine
from medseg.core.errors import GeometryError, MedsegError, ResourceError, SelfCheckError, UsageError
from medseg.core.structures import StructureSet
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.io.atomic import atomic_files, atomic_write
from medseg.io.formats import FORMATS, UNKNOWN
from medseg.io.names import format_of, stem_and_suffix
from medseg.io.options import ReadOptions, Stored
from medseg.io.values import smallest_dtype

FORM_RELATIVE = 1e-6
"""Forms that did not come from a file are rounded to the header's float32."""

QUATERNION_RELATIVE = 1e-3
"""Near a half turn, float32 holds a rotation as a quaternion to about this; the sform beside it is exact."""


def write_labels(
    path: str | Path,
    labels: LabelMap,
    *,
    structures: StructureSet | None = None,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> None:
    """Write a label map in its form, in the smallest integer type, and read it back.

    Args:
        path: the target; its suffix chooses the format.
        labels: values, grid, and the form of the file they belong to.
        structures: names and colours, for `.seg.nrrd`, which alone holds them; without, a value is
            called `label 3`.
        overwrite: whether an existing file may be replaced.
        inputs: files that are never replaced.

    Raises:
        UsageError: the target exists, is an input, has no image suffix, or cannot hold such values or so
            many slices.
        InputError: values go beyond 32 bits, or in a `.seg.nrrd` below 0.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: what was read back differs; nothing is left at `path`.
    """
    path = Path(path)
    array = labels.array.astype(smallest_dtype(labels.array, path), copy=False)
    _write(path, array, labels.grid, labels.form, overwrite, inputs, structures)


def require_holds(path: str | Path, grid: Grid) -> None:
    """Refuse a name whose format cannot hold labels on a grid, before they are made.

    Raises:
        UsageError: it has no image suffix, one of a format that changes values, or of a PNG for several
            slices.
    """
    path = Path(path)
    room = _writer(path)
    if format_of(path).is_picture:
        room.require_holds(path, grid)


def lost_in(path: str | Path, form: FileForm) -> tuple[str, ...]:
    """What a file of this name cannot hold of the file that its labels or image belong to, as a sentence.

    Args:
        path: the target; its suffix chooses the format.
        form: of the file they belong to.
    """
    found = format_of(path)
    if not found.is_picture or not form.orientation_known:
        return ()
    return (f"A {found.content} stores no size, place and orientation: the result lacks those of its scan.",)


def write_image(
    path: str | Path,
    array: NDArray[Any],
    grid: Grid,
    *,
    form: FileForm,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> None:
    """Write an image (I, J, K), or in NIfTI and pictures (C, I, J, K), in a form, and read it back.

    Integers of up to 32 bits stay what they are; all else becomes float32.

    Raises:
        UsageError: the target exists, is an input, has no image suffix, or cannot hold such values, channels
            or so many slices.
        GeometryError: the array is not on the grid.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: values are not finite, or what was read back differs; nothing is left.
    """
    path = Path(path)
    if array.shape[-3:] != grid.shape or array.ndim > 4:
        raise GeometryError(f"array of shape {array.shape}, grid says {grid.shape}", source=path)
    if format_of(path).holds_labels_only:
        raise UsageError("the format stores labels, not images", source=path, hint="end the name in .nrrd")
    if array.ndim == 4 and format_of(path).kind not in ("NIfTI", "picture"):
        raise UsageError("only NIfTI can store channels", source=path, hint="end the name in .nii.gz")
    if not np.isfinite(array).all():
        raise SelfCheckError("the image to write has values that are not finite", source=path)
    kept = array.dtype.kind in "iu" and array.dtype.itemsize <= 4
    _write(path, array if kept else array.astype(np.float32, copy=False), grid, form, overwrite, inputs)


def _write(
    path: Path,
    array: NDArray[Any],
    grid: Grid,
    form: FileForm,
    overwrite: bool,
    inputs: Iterable[Path],
    structures: StructureSet | None = None,
) -> None:
    room, kind = _writer(path), format_of(path).kind
    if kind == "NIfTI" and FORMATS.get(form.suffix, UNKNOWN).is_picture:
        # A picture states no orientation, and a NIfTI that states none is not read.
        form = FileForm(stem_and_suffix(path)[1])
    array = room.storable(array, path) if kind == "MGH" else array
    with _target(path, room, overwrite, inputs) as temporary:
        if kind in ("NIfTI", "MGH"):
            room.write(temporary, array, grid, form)
        elif kind == "segmentation":
            room.write(temporary, array, grid, structures)
        else:
            room.write(temporary, array, grid)
        _check(path, temporary, array, grid, form, room, structures)


@contextmanager
def _target(path: Path, room: ModuleType, overwrite: bool, inputs: Iterable[Path]) -> Iterator[Path]:
    """The temporary file to write; of what it cannot hold, the error names the target."""
    files = room.targets(path)
    with ExitStack() as stack:
        if len(files) == 1:
            temporary = stack.enter_context(atomic_write(path, overwrite, inputs=inputs))
        else:
            temporary = stack.enter_context(atomic_files(files, overwrite, inputs=inputs)) / path.name
        try:
            yield temporary
        except MedsegError as fault:
            if fault.source == str(temporary):
                fault.source = str(path)
            raise


def _writer(path: Path) -> ModuleType:
    """The module that writes this kind of file."""
    found = format_of(path)
    if not found.is_image:
        raise UsageError("the name has no image suffix", source=path, hint="end it in .nii.gz, .mha or .nrrd")
    return found.writing()


def _check(
    path: Path,
    temporary: Path,
    array: NDArray[Any],
    grid: Grid,
    form: FileForm,
    room: ModuleType,
    structures: StructureSet | None,
) -> None:
    """Compare what stands on the disk with what was meant."""
    try:
        faults = list(_differences(temporary, array, grid, form, room))
        if format_of(path).holds_labels_only:
            faults += room.differences(temporary, array, structures)
    except ResourceError:
        raise
    except MedsegError as fault:
        faults = [fault.fault]
    if faults:
        raise SelfCheckError(
            f"verification failed: the file differs from the result ({'; '.join(faults)}), and was removed",
            source=path,
            hint="report this bug",
        )


def _differences(
    temporary: Path, array: NDArray[Any], grid: Grid, form: FileForm, room: ModuleType
) -> Iterator[str]:
    stored: Stored = room.read(temporary, ReadOptions(assume_ras=True))
    kind = format_of(temporary).kind
    meant = array if array.ndim == 4 else array[None]
    if stored.array.shape != meant.shape:
        yield f"shape {stored.array.shape} for {meant.shape}"
    elif stored.array.dtype != array.dtype or not np.array_equal(stored.array, meant):
        yield "voxels differ"
    if kind != "picture" and not stored.info.grid.matches(grid):
        yield f"its grid lies {stored.info.grid.offset_mm(grid):.4g} mm off"
    if kind == "NIfTI":
        yield from _form_differences(stored.info.form, grid, form)


def _form_differences(found: FileForm, grid: Grid, form: FileForm) -> Iterator[str]:
    from medseg.io.nifti.file import expected_forms

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
