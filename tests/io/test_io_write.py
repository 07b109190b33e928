"""Writing: what is saved is what is loaded, to the bit, or nothing is saved."""

from __future__ import annotations

import errno
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_files import AFFINE, edit, oblique, ramp, save

from medseg import io
from medseg.core.errors import GeometryError, InputError, ResourceError, SelfCheckError, UsageError
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.io.nifti import file as nifti

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh")


def labels_like(path: Path, **options: Any) -> LabelMap:
    volume = io.read_volume(path, options=io.ReadOptions(**options))
    array = (np.arange(volume.grid.voxels) % 7).reshape(volume.grid.shape).astype(np.uint8)
    return LabelMap(array, volume.grid, volume.form)


def geometry_fields(path: Path) -> dict[str, Any]:
    header = nib.load(path).header
    names = ("pixdim", "sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
             "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "sizeof_hdr")  # fmt: skip
    return {n: np.atleast_1d(header[n])[:4].tolist() for n in names}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 1, 1), (2, 2, 2), (13, 17, 1), (1, 31, 2)])
@pytest.mark.fault("reliability 36")
@pytest.mark.fault("reliability 37")
def test_row_36_37_labels_come_back_whatever_the_size(tmp_path: Path, suffix: str, shape: Any) -> None:
    grid = Grid(shape, oblique())
    labels = LabelMap(np.random.default_rng(0).integers(0, 300, shape).astype(np.int64), grid)
    io.write_labels(tmp_path / f"out{suffix}", labels)
    back = io.read_labels(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.grid.matches(grid)
    again = replace(back, grid=back.grid)
    io.write_labels(tmp_path / f"again{suffix}", again)
    assert io.read_labels(tmp_path / f"again{suffix}").grid.matches(grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 0), (0, 1), (4, 2)])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -20, 30), (180, 0, 0), (0, 180, 0), (90, 90, 0)])
def test_a_result_has_the_inputs_geometry_to_the_bit(
    tmp_path: Path, suffix: str, kind: type, sform: int, qform: int, angles: Any
) -> None:
    source = save(
        tmp_path / f"in{suffix}", affine=oblique(angles=angles), sform=sform, qform=qform, kind=kind
    )
    edit(source, xyzt_units=10)
    labels = labels_like(source)
    io.write_labels(tmp_path / f"out{suffix}", labels)
    found, meant = geometry_fields(tmp_path / f"out{suffix}"), geometry_fields(source)
    assert found == meant
    np.testing.assert_array_equal(nib.load(tmp_path / f"out{suffix}").affine, nib.load(source).affine)
    assert io.read_labels(tmp_path / f"out{suffix}").grid.offset_mm(labels.grid) == 0.0


@pytest.mark.parametrize(("choice", "code"), [("sform", 1), ("qform", 2)])
@pytest.mark.parametrize("units", [10, 1])
def test_the_form_that_was_chosen_becomes_both_forms_of_a_result(
    tmp_path: Path, choice: str, code: int, units: int
) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 2)
    nib.save(image, tmp_path / "in.nii.gz")
    edit(tmp_path / "in.nii.gz", pixdim__1=0.95, xyzt_units=units)
    labels = labels_like(tmp_path / "in.nii.gz", use_form=choice)
    scan = io.read_volume(tmp_path / "in.nii.gz", options=io.ReadOptions(use_form=choice))  # type: ignore[arg-type]
    assert f"the {choice} was used, as requested" in scan.warnings[0]
    io.write_labels(tmp_path / "out.nii.gz", labels)
    header = nib.load(tmp_path / "out.nii.gz").header
    scale = 1e3 if units == 1 else 1.0
    for matrix, stated in (header.get_sform(coded=True), header.get_qform(coded=True)):
        assert stated == code
        scaled = matrix * np.array([[scale]] * 3 + [[1]])
        np.testing.assert_allclose(scaled, labels.grid.affine, rtol=1e-5, atol=1e-4 * scale)
    assert io.read_labels(tmp_path / "out.nii.gz").grid.matches(labels.grid)


def test_forms_that_agree_are_kept_as_they_were_whichever_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "in.nii.gz", affine=oblique(), sform=1, qform=2)
    labels = labels_like(source, use_form="qform")
    io.write_labels(tmp_path / "out.nii.gz", labels)
    assert geometry_fields(tmp_path / "out.nii.gz") == geometry_fields(source)


def test_a_file_without_orientation_stays_without(tmp_path: Path) -> None:
    source = save(tmp_path / "in.nii", sform=0, qform=0)
    io.write_labels(tmp_path / "out.nii", labels_like(source, assume_ras=True))
    with pytest.raises(GeometryError, match="no orientation"):
        io.read_labels(tmp_path / "out.nii")


def test_metres_stay_metres(tmp_path: Path) -> None:
    affine = AFFINE / 1e3
    affine[3, 3] = 1
    source = save(tmp_path / "in.nii.gz", affine=affine, xyzt_units=1)
    io.write_labels(tmp_path / "out.nii.gz", labels_like(source))
    assert geometry_fields(tmp_path / "out.nii.gz") == geometry_fields(source)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.fault("reliability 22")
def test_row_22_all_48_axis_orders_are_restored(tmp_path: Path, order: Any, signs: Any) -> None:
    base = nib.Nifti1Image(ramp(), oblique())
    nib.save(base.as_reoriented(np.column_stack([order, signs])), tmp_path / "in.nii")
    for suffix in (".nii", ".mha", ".nrrd"):
        labels = labels_like(tmp_path / "in.nii")
        io.write_labels(tmp_path / f"out{suffix}", labels)
        back = io.read_labels(tmp_path / f"out{suffix}")
        np.testing.assert_array_equal(back.array, labels.array)
        assert back.grid.matches(labels.grid)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_twice_saved_bytes_are_equal(tmp_path: Path, suffix: str) -> None:
    labels = LabelMap(ramp(dtype=np.int16), Grid((5, 6, 7), oblique()))
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        io.write_labels(tmp_path / name / f"out{suffix}", labels)
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert all(n.startswith("out") for n in written[0])


def test_a_gzip_header_has_no_time_and_no_name(tmp_path: Path) -> None:
    io.write_labels(tmp_path / "out.nii.gz", LabelMap(ramp(), Grid((5, 6, 7), AFFINE)))
    head = (tmp_path / "out.nii.gz").read_bytes()[:10]
    assert head[3:8] == bytes(5)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if not suffix.startswith(".mg")])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, "u1"), (0, 256, "u2"), (-1, 100, "i1"), (-1, 200, "i2"), (0, 70000, "u4"), (-70000, 1, "i4")],
)
@pytest.mark.fault("reliability 51")
def test_row_51_labels_get_the_smallest_type_that_holds_them(
    tmp_path: Path, suffix: str, low: int, high: int, dtype: str
) -> None:
    array = np.full((3, 4, 5), low, dtype=np.int64)
    array[1, 2, 3] = high
    io.write_labels(tmp_path / f"out{suffix}", LabelMap(array, Grid(array.shape, AFFINE)))
    back = io.read_labels(tmp_path / f"out{suffix}")
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.fault("reliability 51")
def test_row_51_labels_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    array = np.full((2, 2, 2), 2**40)
    with pytest.raises(InputError, match="32 bits"):
        io.write_labels(tmp_path / "out.nii", LabelMap(array, Grid((2, 2, 2), AFFINE)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".hdr"])
@pytest.mark.fault("reliability 31")
def test_row_31_a_result_on_another_grid_is_not_written(tmp_path: Path, suffix: str) -> None:
    labels = labels_like(save(tmp_path / "in.nii.gz"))
    moved = labels.grid.affine.copy()
    moved[0, 3] += 0.01
    wrong = replace(labels, grid=Grid(labels.grid.shape, moved))
    before = sorted(tmp_path.iterdir())
    if suffix == ".mha":
        wrong = replace(wrong, form=FileForm(suffix))
        io.write_labels(tmp_path / f"out{suffix}", wrong)
        return
    with pytest.raises(SelfCheckError, match=r"0\.01 mm off"):
        io.write_labels(tmp_path / f"out{suffix}", wrong)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".hdr"])
@pytest.mark.parametrize("damage", ["voxel", "form", "code", "unit", "shape", "lost"])
@pytest.mark.fault("reliability 31")
def test_row_31_what_the_disk_changed_is_found(
    tmp_path: Path, suffix: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = LabelMap(ramp(), Grid((5, 6, 7), AFFINE))
    honest = nifti.write

    def damaging(path: Path, array: np.ndarray, grid: Grid, form: FileForm) -> None:
        if damage == "voxel":
            array = array.copy()
            array[2, 2, 2] += 1
        if damage == "form":
            form = replace(form, sform=grid.affine + np.eye(4) * [0.01, 0, 0, 0])
        if damage == "code":
            form = replace(form, qform_code=3)
        if damage == "unit":
            form = replace(form, xyzt_units=0)
        if damage == "shape":
            array = array[:, :, :-1]
        honest(path, array, grid, form)
        if damage == "lost":
            target = path.with_suffix(".img") if suffix == ".hdr" else path
            target.write_bytes(target.read_bytes()[:-30])

    monkeypatch.setattr(nifti, "write", damaging)
    with pytest.raises(SelfCheckError):
        io.write_labels(tmp_path / f"out{suffix}", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("reliability 31")
def test_row_31_a_damaged_result_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.nii.gz"
    io.write_labels(path, LabelMap(ramp(), Grid((5, 6, 7), AFFINE)))
    old = path.read_bytes()
    monkeypatch.setattr(nifti, "write", lambda target, *_: target.write_bytes(b"nonsense"))
    with pytest.raises(SelfCheckError):
        io.write_labels(path, LabelMap(ramp(), Grid((5, 6, 7), AFFINE)), overwrite=True)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.fault("reliability 80")
def test_row_80_an_old_result_is_replaced_only_on_demand(tmp_path: Path, suffix: str) -> None:
    path, grid = tmp_path / f"out{suffix}", Grid((5, 6, 7), AFFINE)
    io.write_labels(path, LabelMap(ramp(), grid))
    old = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        io.write_labels(path, LabelMap(ramp() + 1, grid))
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == old
    io.write_labels(path, LabelMap(ramp() + 1, grid), overwrite=True)
    np.testing.assert_array_equal(io.read_labels(path).array, ramp() + 1)
    assert set(tmp_path.iterdir()) == set(old)


@pytest.mark.fault("reliability 80")
def test_row_80_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = save(tmp_path / "in.nii.gz")
    before = source.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(source)
    for target in (source, tmp_path / "link.nii.gz", tmp_path / "." / "in.nii.gz"):
        with pytest.raises(UsageError, match="input"):
            io.write_labels(target, labels_like(source), overwrite=True, inputs=[source])
    assert source.read_bytes() == before


@pytest.mark.fault("reliability 79")
def test_row_79_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nifti, "write", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        io.write_labels(tmp_path / "out.nii.gz", LabelMap(ramp(), Grid((5, 6, 7), AFFINE)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("reliability 76")
def test_row_76_no_text_of_the_input_reaches_the_output(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"CANARY"))
    nib.save(image, tmp_path / "in.nii")
    edit(tmp_path / "in.nii", descrip=b"CANARY", db_name=b"CANARY", aux_file=b"CANARY", intent_name=b"CANARY")
    itk = sitk.ReadImage(str(tmp_path / "in.nii"))
    itk.SetMetaData("PatientName", "CANARY")
    sitk.WriteImage(itk, str(tmp_path / "in.mha"))
    assert b"CANARY" in (tmp_path / "in.nii").read_bytes()
    assert b"CANARY" in (tmp_path / "in.mha").read_bytes()
    for source, suffix in itertools.product((".nii", ".mha"), (".nii", ".hdr", ".mha", ".nrrd", ".mhd")):
        io.write_labels(tmp_path / f"out{suffix}", labels_like(tmp_path / f"in{source}"), overwrite=True)
    assert all(b"CANARY" not in p.read_bytes() for p in tmp_path.glob("out*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_probabilities_come_back(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)
    io.write_image(tmp_path / f"p{suffix}", array, Grid((5, 6, 7), oblique()), form=FileForm())
    back = io.read_volume(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(back.array[0], array)
    assert back.array.dtype == np.float32


def test_probabilities_must_be_finite_and_on_their_grid(tmp_path: Path) -> None:
    grid = Grid((5, 6, 7), AFFINE)
    with pytest.raises(SelfCheckError, match="finite"):
        io.write_image(tmp_path / "p.nii", np.full((5, 6, 7), np.nan, np.float32), grid, form=FileForm())
    with pytest.raises(GeometryError):
        io.write_image(tmp_path / "p.nii", np.zeros((5, 6, 8), np.float32), grid, form=FileForm())
    with pytest.raises(UsageError, match="suffix"):
        io.write_image(tmp_path / "p.txt", np.zeros((5, 6, 7), np.float32), grid, form=FileForm())
    with pytest.raises(UsageError, match="only NIfTI can store channels"):
        io.write_image(tmp_path / "p.mha", np.zeros((2, 5, 6, 7), np.float32), grid, form=FileForm())
    with pytest.raises(UsageError, match="folder"):
        io.write_image(tmp_path / "no" / "p.nii", np.zeros((5, 6, 7), np.float32), grid, form=FileForm())


def test_a_sheared_grid_is_stored_without_a_qform(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = 1.1 * np.tan(np.radians(0.4))
    labels = LabelMap(np.zeros((400, 400, 3), np.uint8), Grid((400, 400, 3), affine))
    io.write_labels(tmp_path / "out.nii.gz", labels)
    back = io.read_labels(tmp_path / "out.nii.gz")
    assert back.grid.matches(labels.grid)
    assert (back.form.sform_code, back.form.qform_code) == (1, 0)


def test_a_very_long_axis_needs_nifti_2(tmp_path: Path) -> None:
    labels = LabelMap(np.zeros((40000, 1, 1), np.uint8), Grid((40000, 1, 1), np.eye(4)))
    io.write_labels(tmp_path / "out.nii.gz", labels)
    assert io.inspect(tmp_path / "out.nii.gz").form.nifti_version == 2


@pytest.mark.fault("reliability 64")
def test_row_64_names_are_only_names(tmp_path: Path) -> None:
    labels = LabelMap(ramp(), Grid((5, 6, 7), AFFINE))
    for name in ("-x.nii.gz", "a;rm -rf b.nii", "new\nline.nii.gz", "ü ä.nii", "caf\udce9.nii.gz", "a b.mha"):
        io.write_labels(tmp_path / name, labels)
        np.testing.assert_array_equal(io.read_labels(tmp_path / name).array, labels.array)


@pytest.mark.parametrize("order", ["LIA", "LIP", "ARS", "IPL", "RAS", "LPS"])
@pytest.mark.parametrize("degrees", [0.0, 0.02, 30.0])
def test_a_grid_that_came_from_no_nifti_file_is_stored_with_both_forms(tmp_path, order, degrees):
    """Half turns and nearly half turns are where a float32 quaternion is least exact."""
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(order):
        affine[axes[letter][0], axis] = axes[letter][1] * (1.0 + axis)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ affine[:3, :3]
    grid = Grid((5, 6, 7), affine)
    labels = LabelMap(np.arange(210, dtype=np.uint8).reshape(5, 6, 7), grid)
    io.write_labels(tmp_path / "labels.nii.gz", labels)
    again = io.read_labels(tmp_path / "labels.nii.gz")
    assert again.grid.matches(grid)
    assert (again.form.sform_code, again.form.qform_code) == (1, 1)
