"""The grid of a NIfTI file: sform, qform and pixdim, which must not contradict each other.

Source: the NIfTI-1 data format, methods 1 to 3 of nifti1.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core import affine as aff
from medseg.core.affine import Affine
from medseg.core.errors import GeometryError, InputError
from medseg.core.volume import SAME_GRID_MM, FileForm, Grid
from medseg.io.nifti.fields import rotation_of
from medseg.io.nifti.header import RawHeader
from medseg.io.options import FormName, ReadOptions
from medseg.io.placement import checked_grid, numbers, require_invertible

MM_PER_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
UNIT_NAMES = {1: "metres", 3: "micrometres"}
"""By the code of a header; other codes are millimetres."""

FORMS_AGREE_MM = 1.0
FORMS_NOTICED_MM = 0.05
AXES_AGREE_COSINE = 0.9
SPACING_AGREES = 0.01
SPACINGS = (1e-6, 1e6)
"""What a spacing can be at all, in any of the units."""
QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
QUATERNION_SLACK = 1e-5
HALF_TURN_SLACK = 3 * float(np.finfo(np.float32).eps)
"""What float32 rounding leaves of 1 - b2 - c2 - d2 in a turn of 180 degrees, where it should be 0."""


def file_form(
    raw: RawHeader, suffix: str, options: ReadOptions, source: Path
) -> tuple[FileForm, tuple[str, ...]]:
    """The forms as the header stores them, in its own units, and warnings about them.

    Every form that the header has must be sound, and so must its spacings, unless the options name the
    form that is right: then the others need not be, and one that is broken is left out.

    Raises:
        GeometryError: a spacing is not positive, a code unknown, a matrix places no voxels, or a
            quaternion is no rotation.
        InputError: the unit of length is unknown.
    """
    if int(raw.fields["xyzt_units"]) & 7 not in MM_PER_UNIT:
        raise InputError("the header's unit of length is unknown", source=source, hint="export it again")
    broken = _broken(raw, source)
    needed = {"sform": ("sform",), "qform": ("pixdim", "qform")}.get(
        options.use_form or "", ("pixdim", "sform", "qform")
    )
    for name in needed:
        if name in broken:
            raise GeometryError(broken[name].fault, source=source, hint=_way_on(name, raw, broken))
    quaternion = raw.numbers(*QUATERNION)
    has = {name: int(raw.fields[f"{name}_code"]) > 0 and name not in broken for name in ("sform", "qform")}
    form = FileForm(
        suffix=suffix,
        nifti_version=raw.version,
        sform=None if "sform" in broken else _sform(raw),
        sform_code=int(raw.fields["sform_code"]) if has["sform"] else 0,
        qform=_qform(raw, source) if has["qform"] else None,
        qform_code=int(raw.fields["qform_code"]) if has["qform"] else 0,
        xyzt_units=int(raw.fields["xyzt_units"]),
        stored_pixdim=None if broken.keys() & {"pixdim", "qform"} else tuple(raw.numbers("pixdim")[:4]),
        stored_quaternion=None if "qform" in broken else tuple(quaternion),
    )
    said = (
        f"{fault.fault[0].upper()}{fault.fault[1:]}; the {options.use_form} was used, as requested."
        for fault in dict.fromkeys(broken.values())
    )
    return form, tuple(said)


def _broken(raw: RawHeader, source: Path) -> dict[str, GeometryError]:
    """What is wrong with the spacings and with each form that the header has; a qform needs the spacings."""
    broken = {}
    pixdim = raw.numbers("pixdim")[:4]
    if not all(SPACINGS[0] <= x <= SPACINGS[1] for x in pixdim[1:]) or not np.isfinite(pixdim[0]):
        sizes = " x ".join(f"{x:g}" for x in pixdim[1:])
        broken["pixdim"] = GeometryError(f"the header's voxel size is {sizes}")
    for name in ("sform", "qform"):
        code = int(raw.fields[f"{name}_code"])
        try:
            if code < 0:
                raise GeometryError(f"the {name} has the unknown code {code}")
            if code and name == "sform":
                require_invertible(_sform(raw), source, name)
            elif code and "pixdim" not in broken:
                _qform(raw, source)
        except GeometryError as fault:
            broken[name] = fault
    if "pixdim" in broken and int(raw.fields["qform_code"]):
        broken.setdefault("qform", broken["pixdim"])
    return broken


def _way_on(name: str, raw: RawHeader, broken: Mapping[str, GeometryError]) -> str:
    """What to do about a broken part of the geometry: name the form that is sound, where there is one."""
    other = "qform" if name == "sform" else "sform"
    if other not in broken and int(raw.fields[f"{other}_code"]) > 0:
        return f"if the {other} is right, choose it with --use-form {other}"
    return "repair pixdim from the scanner's data" if name == "pixdim" else "export it again"


def place(
    form: FileForm, shape: tuple[int, int, int], options: ReadOptions, source: Path
) -> tuple[Grid, FileForm, tuple[str, ...]]:
    """The grid in RAS+ mm that the forms agree on, or that the options choose.

    Where the options decide between forms that differ, a result is stored with the chosen one as both.

    Raises:
        GeometryError: the forms contradict each other or pixdim, are absent, or place no voxels.
    """
    scale = MM_PER_UNIT[form.xyzt_units & 7]
    forms = {
        name: _in_mm(matrix, scale)
        for name, matrix, code in (
            ("sform", form.sform, form.sform_code),
            ("qform", form.qform, form.qform_code),
        )
        if matrix is not None and code
    }
    pixdim_mm = np.asarray((form.stored_pixdim or (1.0,) * 4)[1:]) * scale
    name, affine, warnings = _chosen(forms, shape, pixdim_mm, options, source)
    spacings: tuple[str, ...] = ()
    if form.stored_pixdim is not None:
        spacings = _spacings_agree(name, affine, pixdim_mm, options, source)
    if options.use_form is not None and (spacings or _apart_mm(forms, shape) > SAME_GRID_MM):
        form = _decided(form, name)
    units = (UNIT_NAMES.get(form.xyzt_units & 7, "millimetres"),)
    grid, more = checked_grid(shape, affine, source, name, units)
    return grid, form, warnings + spacings + more


def _decided(form: FileForm, name: str) -> FileForm:
    """A form that stores the grid alone, under the code of the chosen form wherever there was one."""
    code = form.qform_code if name == "qform" else form.sform_code
    return replace(
        form,
        sform=None,
        sform_code=code if form.sform_code else 0,
        qform=None,
        qform_code=code if form.qform_code else 0,
        stored_pixdim=None,
        stored_quaternion=None,
    )


def _apart_mm(forms: Mapping[str, Affine], shape: tuple[int, int, int]) -> float:
    """How far the corners of the image lie apart in the two forms; 0 where there is one."""
    if len(forms) < 2:
        return 0.0
    first, second = (aff.corner_centres_mm(affine, shape) for affine in forms.values())
    return float(np.linalg.norm(first - second, axis=1).max())


def _chosen(
    forms: dict[str, Affine],
    shape: tuple[int, int, int],
    pixdim_mm: Affine,
    options: ReadOptions,
    source: Path,
) -> tuple[str, Affine, tuple[str, ...]]:
    if not forms:
        fault = "the header stores no orientation (sform and qform codes are 0)"
        return "voxel size", np.diag([*pixdim_mm, 1.0]), options.require_assumed(fault, source)
    if options.use_form is not None and len(forms) == 1 and options.use_form not in forms:
        raise GeometryError(f"the header has no {options.use_form}", source=source, hint="drop --use-form")
    if options.use_form is not None:
        require_invertible(forms[options.use_form], source, options.use_form)
        return options.use_form, forms[options.use_form], _overruled(forms, shape, options.use_form)
    for name, affine in forms.items():
        require_invertible(affine, source, name)
    if len(forms) == 2:
        return "sform", forms["sform"], _forms_agree(forms, shape, source)
    return (*next(iter(forms.items())), ())


def _overruled(forms: Mapping[str, Affine], shape: tuple[int, int, int], name: FormName) -> tuple[str, ...]:
    """What is said of a form that was not chosen, where it places the image elsewhere."""
    apart = _apart_mm(forms, shape)
    if apart <= FORMS_NOTICED_MM:
        return ()
    return (f"The sform and qform lie {apart:.2g} mm apart; the {name} was used, as requested.",)


def _forms_agree(forms: Mapping[str, Affine], shape: tuple[int, int, int], source: Path) -> tuple[str, ...]:
    s, q, apart = forms["sform"], forms["qform"], _apart_mm(forms, shape)
    cosines = (_unit(s) * _unit(q)).sum(axis=0)
    if apart > FORMS_AGREE_MM or cosines.min() < AXES_AGREE_COSINE:
        raise GeometryError(
            f"sform and qform contradict each other, corners {apart:.4g} mm apart: "
            f"sform {numbers(s)} ({aff.axis_codes(s)}), qform {numbers(q)} ({aff.axis_codes(q)})",
            source=source,
            hint="choose the right one with --use-form sform or --use-form qform",
        )
    if apart > FORMS_NOTICED_MM:
        return (f"The sform and qform lie {apart:.2g} mm apart; the sform was used.",)
    return ()


def _spacings_agree(
    name: str, affine: Affine, pixdim_mm: Affine, options: ReadOptions, source: Path
) -> tuple[str, ...]:
    norms = np.asarray(aff.spacing_mm(affine))
    if (np.abs(norms / pixdim_mm - 1.0) <= SPACING_AGREES).all():
        return ()
    sizes = [" x ".join(f"{x:.4g}" for x in each) for each in (norms, pixdim_mm)]
    fault = f"the {name} makes voxels of {sizes[0]} mm, pixdim says {sizes[1]} mm"
    if options.use_form is None:
        hint = "if the form is right, choose it with --use-form sform"
        raise GeometryError(fault, source=source, hint=hint)
    return (f"{fault[0].upper()}{fault[1:]}; the {name} was used, as requested.",)


def _sform(raw: RawHeader) -> Affine:
    rows = np.asarray(raw.numbers("srow_x", "srow_y", "srow_z")).reshape(3, 4)
    return np.vstack([rows, [0.0, 0.0, 0.0, 1.0]])


def _qform(raw: RawHeader, source: Path) -> Affine:
    """The qform of sound spacings."""
    quaternion, pixdim = raw.numbers(*QUATERNION), raw.numbers("pixdim")[:4]
    bcd, offsets = np.asarray(quaternion[:3]), np.asarray(quaternion[3:])
    with np.errstate(over="ignore"):
        norm = float((bcd**2).sum())
    if not np.isfinite(quaternion).all():
        raise GeometryError("the qform has entries that are not numbers", source=source)
    if norm > 1.0 + QUATERNION_SLACK:
        raise GeometryError(
            f"the qform's quaternion has b2 + c2 + d2 = {norm:.6g}, which exceeds 1 and is not a rotation",
            source=source,
        )
    if pixdim[0] not in (-1.0, 0.0, 1.0):
        raise GeometryError(f"the qform's handedness is {pixdim[0]:g}, not 1 or -1", source=source)
    rest = 1.0 - norm
    first = np.sqrt(rest) if rest > HALF_TURN_SLACK else 0.0
    rotation = rotation_of(np.concatenate([[first], bcd]))
    sizes = np.asarray(pixdim[1:]) * (1.0, 1.0, -1.0 if pixdim[0] < 0 else 1.0)
    out = np.eye(4)
    out[:3, :3] = rotation * sizes
    out[:3, 3] = offsets
    return out


def _in_mm(matrix: Affine, scale: float) -> Affine:
    out = matrix.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        out[:3] *= scale
    return out


def _unit(affine: Affine) -> Affine:
    return np.asarray(affine[:3, :3] / np.asarray(aff.spacing_mm(affine)))
