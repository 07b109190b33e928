"""Inputs that people met and reported, each refused or read with the right value."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from io_files import AFFINE, claiming, edit, looping, oblique, ramp, save, write_dicom

from medseg import io
from medseg.core.errors import GeometryError, InputError
from medseg.core.volume import Grid, LabelMap
from medseg.io.pictures import tiff

CLAIMS = ("scan.nii", "scan.nii.gz", "scan.hdr", "scan.mha", "packed.mha", "scan.nrrd", "packed.nrrd")


@pytest.mark.fault("reports 8")
@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("n", [2000, 32767])
def test_a_header_that_claims_more_than_its_file_holds_is_refused_unread(
    tmp_path: Path, name: str, n: int
) -> None:
    path = claiming(tmp_path / name, n)
    for reader in (io.inspect, io.read_volume, io.read_labels):
        with pytest.raises(InputError, match="truncated"):
            reader(path)


def image(path: Path, *, compressed: bool = True, angles: Sequence[float] = (10, -20, 30)) -> Path:
    """An image, oblique unless told, as SimpleITK writes it."""
    lps = np.diag([-1, -1, 1, 1]) @ oblique(angles=angles)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    made = sitk.GetImageFromArray(ramp().T)
    made.SetSpacing(spacing.tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    made.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(made, str(path), compressed)
    return path


def edited(path: Path, old: bytes, new: bytes) -> Path:
    """The file with bytes of its header replaced."""
    blob = path.read_bytes()
    assert old in blob
    path.write_bytes(blob.replace(old, new, 1))
    return path


GERMAN = """
import locale, sys
from pathlib import Path
locale.setlocale(locale.LC_ALL, sys.argv[2])
assert locale.localeconv()["decimal_point"] == ","
from medseg import io
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.is_dir() or path.name.endswith(io.SUFFIXES):
        volume = io.read_volume(path)
        print(path.name, *volume.grid.affine.ravel().tolist(), float(volume.array.sum()))
        if not path.is_dir():
            again = path.with_name(f"again_{path.name}")
            io.write_image(again, volume.array[0], volume.grid, form=volume.form)
"""


@pytest.fixture
def german(tmp_path: Path) -> str:
    """A locale with a decimal comma, made where the system has none."""
    if shutil.which("localedef") is None:
        pytest.skip("localedef, which makes a locale, is not installed")
    made = tmp_path / "locales" / "de_DE.UTF-8"
    made.parent.mkdir()
    done = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(made)], check=False)
    if done.returncode:
        pytest.skip("the system has no description of the locale de_DE")
    return made.name


@pytest.mark.fault("reports 4")
def test_the_locale_of_the_process_changes_no_geometry(tmp_path: Path, german: str) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for suffix in (".nrrd", ".nhdr", ".mha", ".mhd", ".nii.gz"):
        image(folder / f"scan_{suffix[1:4]}{suffix}")
    write_dicom(folder / "series", rescale=[(1.5, -0.25)] * 6)
    scans = [path for path in folder.iterdir() if path.is_dir() or path.name.endswith(io.SUFFIXES)]
    meant = {path.name: io.read_volume(path) for path in scans}
    done = subprocess.run(
        [sys.executable, "-c", GERMAN, str(folder), german],
        env={**os.environ, "LOCPATH": str(tmp_path / "locales")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert found.keys() == meant.keys()
    for name, volume in meant.items():
        numbers = [float(x) for x in found[name]]
        assert numbers == [*volume.grid.affine.ravel().tolist(), float(volume.array.sum())], name
        again = folder / f"again_{name}"
        if name != "series":
            assert io.read_volume(again).grid.matches(volume.grid), name
            np.testing.assert_allclose(
                sitk.ReadImage(str(again)).GetSpacing(), volume.grid.spacing_mm, rtol=1e-6
            )


UNITS = {"um": 1e-3, "cm": 10.0}
SAID = {"um": "measures in micrometres", "cm": "measures in centimetres"}


@pytest.mark.fault("reports 5")
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".seg.nrrd"])
def test_a_unit_of_length_is_converted_and_said(tmp_path: Path, suffix: str, unit: str) -> None:
    path = tmp_path / f"scan{suffix}"
    if suffix == ".seg.nrrd":
        io.write_labels(path, LabelMap(ramp() % 2, Grid((5, 6, 7), oblique())))
    else:
        image(path)
    before = io.inspect(path).grid.affine
    if suffix.startswith(".mh"):
        edited(path, b"DimSize", f"DistanceUnits = {unit}\nDimSize".encode())
    else:
        edited(path, b"kinds:", f'space units: "{unit}" "{unit}" "{unit}"\nkinds:'.encode())
    for found in (io.inspect(path), io.read_labels(path)):
        meant = before.copy()
        meant[:3] *= UNITS[unit]
        np.testing.assert_allclose(found.grid.affine, meant, rtol=1e-12)
        assert any(SAID[unit] in text for text in found.warnings)


@pytest.mark.fault("reports 5")
@pytest.mark.parametrize(
    ("units", "factors"),
    [
        ('"microns" "microns" "mm"', (1e-3, 1e-3, 1.0)),
        ('"\u00b5m" "\u00b5m" "\u00b5m"', (1e-3,) * 3),
        ('"millimeters" "mm" ""', None),
    ],
)
def test_units_of_an_nrrd_belong_to_the_axes_of_its_space(
    tmp_path: Path, units: str, factors: tuple[float, ...] | None
) -> None:
    path = image(tmp_path / "scan.nrrd", angles=(0, 0, 30))
    before = io.inspect(path).grid.affine
    edited(path, b"kinds:", f"space units: {units}\nkinds:".encode())
    found = io.inspect(path)
    scale = np.diag([*(factors or (1.0,) * 3), 1.0])
    np.testing.assert_allclose(found.grid.affine, scale @ before, rtol=1e-12)
    assert any("measures in" in text for text in found.warnings) == (factors is not None)


@pytest.mark.fault("reports 5")
@pytest.mark.parametrize("key", ["space units", "units"])
@pytest.mark.parametrize("units", ['"pixel" "pixel" "pixel"', '"mm" "mm"', "mm mm mm", '"s" "s" "s"'])
def test_units_of_an_nrrd_that_are_none_are_refused(tmp_path: Path, key: str, units: str) -> None:
    path = edited(image(tmp_path / "scan.nrrd"), b"kinds:", f"{key}: {units}\nkinds:".encode())
    with pytest.raises(InputError, match=r"unit|values for its axes"):
        io.inspect(path)


@pytest.mark.fault("reports 5")
def test_units_of_the_axes_hold_where_the_space_has_none(tmp_path: Path) -> None:
    path = image(tmp_path / "scan.nrrd")
    before = io.inspect(path).grid.affine
    edited(path, b"kinds:", b'units: "um" "um" "um"\nkinds:')
    np.testing.assert_allclose(io.inspect(path).grid.affine[:3], before[:3] * 1e-3, rtol=1e-12)


@pytest.mark.fault("reports 9")
@pytest.mark.parametrize("new", [b"ElementDataFile : LOCAL", b"ElementDataFile", b"ElementDataFiles = LOCAL"])
def test_a_metaimage_that_does_not_name_its_voxels_is_refused(tmp_path: Path, new: bytes) -> None:
    path = edited(image(tmp_path / "scan.mha"), b"ElementDataFile = LOCAL", new)
    for reader in (io.inspect, io.read_volume, io.files_of):
        with pytest.raises(InputError, match="ElementDataFile"):
            reader(path)


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("skip", [b"byte skip: 9", b"byte skip: -1"])
def test_the_data_of_a_detached_nrrd_may_have_a_head(tmp_path: Path, skip: bytes) -> None:
    path = image(tmp_path / "scan.nhdr", compressed=False)
    whole = io.read_volume(path).array
    data = path.with_suffix(".raw")
    data.write_bytes(bytes(9) + data.read_bytes())
    edited(path, b"kinds:", skip + b"\nkinds:")
    np.testing.assert_array_equal(io.read_volume(path).array, whole)
    assert io.files_of(path) == (path, data)


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("name", ["../scan.raw.gz", "LIST", "scan%03d.raw 1 7 1", "gone.raw"])
def test_a_detached_nrrd_names_one_file_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = image(tmp_path / "in" / "scan.nhdr")
    shutil.copy(path.with_suffix(".raw.gz"), tmp_path)
    edited(path, b"data file: scan.raw.gz", b"data file: " + name.encode())
    with pytest.raises(InputError):
        io.read_volume(path)


@pytest.mark.fault("reports 6")
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("shapes", "target"),
    [([(8, 9), (5, 4)], 0), ([(8, 9), (5, 4), (8, 9)], 1), ([(8, 9)] * 2, 0), ([(8, 9)], 0)],
)
def test_pages_of_a_tiff_that_form_a_loop_are_refused(
    tmp_path: Path, shapes: list[tuple[int, int]], target: int, wide: bool
) -> None:
    path = looping(tmp_path / "scan.tif", shapes, target, wide=wide)
    for reader in (io.inspect, io.read_volume, io.read_labels):
        with pytest.raises(InputError, match="loop"):
            reader(path)


@pytest.mark.fault("reports 6")
def test_more_pages_than_a_volume_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((5, 8, 9), np.uint8), photometric="minisblack", metadata=None)
    assert io.inspect(path, options=io.ReadOptions(assume_ras=True)).shape == (9, 8, 5)
    monkeypatch.setattr(tiff, "MOST_PAGES", 4)
    with pytest.raises(InputError, match="more than 4 pages"):
        io.inspect(path)


BROKEN_QFORM = {
    "nan": {"quatern_b": np.nan},
    "offset": {"qoffset_x": np.inf},
    "norm": {"quatern_b": 0.9, "quatern_c": 0.9},
    "hand": {"pixdim__0": 7.0},
    "code": {"qform_code": -1},
    "pixdim": {"pixdim__1": 0.0, "pixdim__2": 0.0, "pixdim__3": 0.0},
    "negative": {"pixdim__2": -1.0},
    "pixdim nan": {"pixdim__3": np.nan},
}


@pytest.mark.fault("reports 11")
@pytest.mark.parametrize("qform", [0, 1])
@pytest.mark.parametrize("fault", BROKEN_QFORM)
def test_a_good_sform_alone_decides_where_it_is_named(tmp_path: Path, fault: str, qform: int) -> None:
    path = save(tmp_path / "scan.nii.gz", affine=oblique(), qform=qform)
    edit(path, **BROKEN_QFORM[fault])
    if qform or fault in ("pixdim", "negative", "pixdim nan", "code"):
        with pytest.raises(GeometryError) as caught:
            io.read_volume(path)
        assert "--use-form sform" in str(caught.value)
        with pytest.raises(GeometryError):
            io.read_volume(path, options=io.ReadOptions(use_form="qform"))
    scan = io.read_volume(path, options=io.ReadOptions(use_form="sform"))
    np.testing.assert_allclose(scan.grid.affine, oblique(), atol=1e-5)
    if qform:
        assert any("sform was used, as requested" in text for text in scan.warnings)
    out = tmp_path / "out.nii.gz"
    io.write_labels(out, LabelMap(np.zeros(scan.grid.shape, np.uint8), scan.grid, scan.form))
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(path).affine)
    assert io.read_labels(out).grid.matches(scan.grid)


@pytest.mark.fault("reports 11")
@pytest.mark.parametrize("row", [[np.nan, 0, 0, 0], [0, 1.1, 0, 0]])
def test_a_good_qform_alone_decides_where_it_is_named(tmp_path: Path, row: list[float]) -> None:
    path = edit(save(tmp_path / "scan.nii", affine=AFFINE), srow_x=row)
    with pytest.raises(GeometryError, match="--use-form qform"):
        io.read_volume(path)
    with pytest.raises(GeometryError):
        io.read_volume(path, options=io.ReadOptions(use_form="sform"))
    scan = io.read_volume(path, options=io.ReadOptions(use_form="qform"))
    np.testing.assert_allclose(scan.grid.affine, AFFINE, atol=1e-5)
    out = tmp_path / "out.nii"
    io.write_labels(out, LabelMap(np.zeros(scan.grid.shape, np.uint8), scan.grid, scan.form))
    assert io.read_labels(out).grid.matches(scan.grid)


@pytest.mark.fault("reports 11")
def test_a_way_on_is_named_only_where_it_leads_on(tmp_path: Path) -> None:
    both = edit(save(tmp_path / "a.nii"), quatern_b=np.nan, srow_x=[np.nan, 0, 0, 0])
    alone = edit(save(tmp_path / "b.nii", sform=0), quatern_b=np.nan)
    spacings = edit(save(tmp_path / "c.nii", sform=0), pixdim__1=0.0)
    for path in (both, alone, spacings):
        with pytest.raises(GeometryError) as caught:
            io.read_volume(path)
        assert "--use-form" not in str(caught.value)
