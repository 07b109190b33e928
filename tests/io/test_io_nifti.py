"""Reading NIfTI: the rows of the fault table, and what must come out exactly."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_files import AFFINE, edit, oblique, ramp, rotation, save

from medseg import io
from medseg.core.errors import GeometryError, InputError, ResourceError, UsageError
from medseg.io import memory, payload

SUFFIXES = (".nii", ".nii.gz")


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"scan{request.param}"


def refused(path: Path, error: type[Exception], match: str, **options: object) -> None:
    """Assert that reading the file is refused with a message that matches."""
    with pytest.raises(error, match=match):
        io.read_volume(path, options=io.ReadOptions(**options))  # type: ignore[arg-type]


def test_voxels_grid_and_form_are_nibabels(path: Path) -> None:
    save(path, affine=oblique(), sform=2, qform=1)
    volume, oracle = io.read_volume(path), nib.load(path)
    assert volume.array.dtype == np.int16
    assert volume.channels == ("image",)
    np.testing.assert_array_equal(volume.array[0], np.asanyarray(oracle.dataobj))
    np.testing.assert_array_equal(volume.grid.affine, oracle.affine)
    np.testing.assert_array_equal(volume.form.sform, oracle.get_sform())
    np.testing.assert_allclose(volume.form.qform, oracle.get_qform(), atol=1e-6)
    assert (volume.form.sform_code, volume.form.qform_code, volume.form.suffix) == (2, 1, path.name[4:])
    assert volume.warnings == ()


def test_inspect_reads_only_the_header(path: Path) -> None:
    save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" if path.suffix == ".nii" else whole[: len(whole) * 9 // 10])
    with pytest.raises(InputError):
        io.read_volume(path)
    info = io.inspect(path)
    assert (info.shape, info.channels, info.dtype, info.axis_codes) == ((5, 6, 7), 1, "int16", "LAS")
    assert info.spacing_mm == pytest.approx((0.9, 1.1, 2.5))
    assert info.format.startswith("NIfTI-1")


@pytest.mark.parametrize("what", ["empty", "missing", "directory", "text"])
@pytest.mark.fault("reliability 1")
def test_row_1_nothing_to_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "scan.nii.gz"
    if what == "directory":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"" if what == "empty" else b"hello, this is no image")
    for reader in (io.read_volume, io.read_labels, io.inspect):
        with pytest.raises(InputError):
            reader(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.fault("reliability 2")
def test_row_2_a_cut_gzip_is_refused(tmp_path: Path, share: float) -> None:
    path = save(
        tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, InputError, "re-copy")


@pytest.mark.parametrize("at", [0.3, 0.6, 0.95, "crc", "length"])
@pytest.mark.fault("reliability 3")
def test_row_3_a_flipped_bit_is_refused(tmp_path: Path, at: float | str) -> None:
    path = save(
        tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    )
    whole = bytearray(path.read_bytes())
    whole[{"crc": -8, "length": -4}.get(at) if isinstance(at, str) else int(len(whole) * at)] ^= 4  # type: ignore[index]
    path.write_bytes(bytes(whole))
    refused(path, InputError, "damaged|truncated|cut")


@pytest.mark.fault("reliability 4")
def test_row_4_garbage_after_the_end_is_refused_and_zeros_are_not(path: Path) -> None:
    save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(700))
    np.testing.assert_array_equal(io.read_volume(path).array[0], ramp())
    path.write_bytes(whole + b"x" * 1024)
    refused(path, InputError, "follow")
    path.write_bytes(whole + bytes(600) + b"x")
    refused(path, InputError, "follow")


@pytest.mark.fault("reliability 4")
def test_row_4_inside_the_stream_and_after_much_padding(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.nii").read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(plain + bytes(500)))
    assert io.read_volume(path).grid.shape == (5, 6, 7)
    path.write_bytes(gzip.compress(plain + b"more"))
    refused(path, InputError, "follow")
    path.write_bytes(gzip.compress(plain + bytes(payload.PADDING_BYTES + 9)))
    refused(path, InputError, "follow")


def test_a_gzip_of_several_members_is_one_image(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.nii").read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(
        b"".join(gzip.compress(plain[n : n + 100]) for n in range(0, len(plain), 100)) + gzip.compress(b"")
    )
    np.testing.assert_array_equal(io.read_volume(path).array[0], ramp())


@pytest.mark.fault("reliability 5")
def test_row_5_a_wrong_suffix_is_named(tmp_path: Path) -> None:
    plain, packed = save(tmp_path / "a.nii"), save(tmp_path / "b.nii.gz")
    plain.rename(tmp_path / "c.nii.gz")
    packed.rename(tmp_path / "d.nii")
    refused(tmp_path / "c.nii.gz", InputError, "rename it to c.nii$")
    refused(tmp_path / "d.nii", InputError, "rename it to d.nii.gz$")


@pytest.mark.parametrize("left", [-1, 400, 352, 200, 3])
@pytest.mark.fault("reliability 6")
def test_row_6_a_short_plain_file_is_refused(tmp_path: Path, left: int) -> None:
    path = save(tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:left])
    refused(path, InputError, "truncated|cut|NIfTI")


@pytest.mark.fault("reliability 7")
def test_row_7_a_file_that_shrinks_while_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "scan.nii", ramp((64, 64, 64)))

    def check_then_shrink(stream: object, needed: int, source: Path) -> None:
        os.truncate(path, 5000)

    monkeypatch.setattr(payload, "require_length", check_then_shrink)
    refused(path, InputError, "truncated")


def peak_kb() -> int:
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@pytest.mark.fault("reliability 8")
def test_row_8_impossible_sizes_are_refused_before_allocation(path: Path, tmp_path: Path) -> None:
    save(path)
    edit(path, dim__1=32767, dim__2=32767, dim__3=32767)
    before = peak_kb()
    refused(path, (InputError, ResourceError), "claims|memory")  # type: ignore[arg-type]
    second = save(tmp_path / f"second{path.name[4:]}", kind=nib.Nifti2Image)
    edit(second, dim__1=2**40)
    refused(second, (InputError, ResourceError), "claims|memory")  # type: ignore[arg-type]
    edit(second, dim__1=2**62, dim__2=2**62, dim__3=2**62)
    refused(second, (InputError, ResourceError), "claims|memory")  # type: ignore[arg-type]
    assert peak_kb() - before < 100_000


@pytest.mark.fault("reliability 9")
@pytest.mark.fault("reliability 40")
def test_row_9_40_what_exceeds_memory_is_refused_with_sizes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 2**20)
    with pytest.raises(ResourceError, match=r"0\.0 GiB of memory"):
        io.read_volume(path)
    assert io.inspect(path).shape == (64, 64, 64)


@pytest.mark.fault("reliability 88")
def test_row_88_a_failed_allocation_is_a_resource_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    save(path)
    monkeypatch.setattr(payload, "inflate", fail)
    monkeypatch.setattr(payload, "read_raw", fail)
    for reader in (io.read_volume, io.read_labels):
        with pytest.raises(ResourceError, match="remaining memory"):
            reader(path)


@pytest.mark.fault("reliability 9")
def test_row_9_the_limit_is_this_machines() -> None:
    limit = memory.memory_limit_bytes()
    assert limit is not None
    assert 2**28 < limit < 2**46


@pytest.mark.parametrize(
    "fields",
    [{"dim__0": 0}, {"dim__0": 8}, {"dim__0": -1}, {"dim__1": 0}, {"dim__2": -5}, {"dim__3": -32768}],
)
@pytest.mark.fault("reliability 10")
def test_row_10_impossible_dimensions(path: Path, fields: dict[str, int]) -> None:
    save(path, **fields)
    refused(path, InputError, "claims")


@pytest.mark.fault("reliability 11")
def test_row_11_bad_magic_and_analyze(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", magic=b"")
    refused(path, InputError, "no orientation")
    refused(edit(path, magic=b"n+9"), InputError, "magic")
    refused(edit(path, magic=b"ni1"), InputError, "pair")
    analyze = tmp_path / "old.hdr"
    nib.AnalyzeImage(ramp(), np.eye(4)).to_filename(analyze)
    refused(analyze, InputError, "no orientation")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr", ".img"])
@pytest.mark.fault("reliability 12")
def test_row_12_byte_orders_versions_and_pairs_are_identical(
    tmp_path: Path, kind: type, order: str, suffix: str
) -> None:
    pair = suffix in (".hdr", ".img")
    kind = {nib.Nifti1Image: nib.Nifti1Pair, nib.Nifti2Image: nib.Nifti2Pair}[kind] if pair else kind
    header = kind.header_class(endianness=order)  # type: ignore[attr-defined]
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    image = kind(ramp(), oblique(), header)
    image.set_sform(oblique(), 1)
    image.set_qform(oblique(), 1)
    nib.save(image, tmp_path / f"scan{suffix}")
    volume = io.read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.array[0], ramp())
    assert volume.array.dtype.isnative
    np.testing.assert_allclose(volume.grid.affine, oblique(), atol=1e-5)


def test_a_pair_with_a_missing_half_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(ramp(), AFFINE), tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    refused(tmp_path / "scan.hdr", InputError, "scan.img: there is no such file|no such file")


@pytest.mark.parametrize(
    ("code", "bits"), [(128, 24), (2304, 32), (32, 64), (1792, 128), (1536, 128), (1, 1), (77, 16)]
)
@pytest.mark.fault("reliability 13")
def test_row_13_colours_and_complex_numbers(path: Path, code: int, bits: int) -> None:
    save(path, datatype=code, bitpix=bits)
    refused(path, InputError, "voxels are")


@pytest.mark.fault("reliability 13")
def test_row_13_bits_that_contradict_the_type(path: Path) -> None:
    save(path, bitpix=32)
    refused(path, InputError, "bits")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.fault("reliability 14")
def test_row_14_every_type_is_read_without_loss(path: Path, dtype: str) -> None:
    array = ramp(dtype=dtype)
    image = nib.Nifti1Image(array, AFFINE, dtype=dtype)
    nib.save(image, path)
    volume = io.read_volume(path)
    np.testing.assert_array_equal(volume.array[0], array)
    kept = {"i8": "i4", "u8": "i4", "f8": "f4"}.get(dtype, dtype)
    assert volume.array.dtype == np.dtype(kept)
    labels = io.read_labels(path)
    np.testing.assert_array_equal(labels.array, array)
    assert labels.warnings == ()


@pytest.mark.fault("reliability 14")
def test_row_14_integers_that_would_lose_digits_are_refused(path: Path) -> None:
    array = ramp(dtype=np.int64)
    array[0, 0, 0] = 2**40 + 1
    nib.save(nib.Nifti1Image(array, AFFINE, dtype=np.int64), path)
    refused(path, InputError, "loss")


@pytest.mark.parametrize("slope", [0.0, np.nan])
@pytest.mark.fault("reliability 15")
def test_row_15_no_slope_means_unscaled(path: Path, slope: float) -> None:
    save(path, scl_slope=slope, scl_inter=np.inf)
    volume = io.read_volume(path)
    np.testing.assert_array_equal(volume.array[0], ramp())
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize(("slope", "inter"), [(1.0, np.inf), (2.0, np.nan), (np.inf, 0.0)])
@pytest.mark.fault("reliability 15")
def test_row_15_a_scaling_that_is_no_number_is_refused(path: Path, slope: float, inter: float) -> None:
    save(path, scl_slope=slope, scl_inter=inter)
    refused(path, InputError, "scales")


@pytest.mark.fault("reliability 16")
def test_row_16_scaled_and_plain_values_are_equal(tmp_path: Path) -> None:
    hu = ramp() - 1024
    save(tmp_path / "plain.nii.gz", hu)
    save(tmp_path / "scaled.nii.gz", (hu + 1024).astype(np.uint16), scl_slope=1.0, scl_inter=-1024.0)
    plain, scaled = (io.read_volume(tmp_path / f"{name}.nii.gz") for name in ("plain", "scaled"))
    np.testing.assert_array_equal(plain.array, scaled.array)
    assert scaled.array.dtype == np.float32


@pytest.mark.fault("reliability 16")
def test_row_16_scaling_is_rounded_once(path: Path) -> None:
    save(path, scl_slope=0.1, scl_inter=0.3)
    slope, inter = float(np.float32(0.1)), float(np.float32(0.3))
    expected = (ramp().astype(np.float64) * slope + inter).astype(np.float32)
    np.testing.assert_array_equal(io.read_volume(path).array[0], expected)


@pytest.mark.parametrize("offset", [np.nan, np.inf, -352.0, 0.0, 300.0, 352.5, 1e9])
@pytest.mark.fault("reliability 17")
def test_row_17_impossible_offsets(path: Path, offset: float) -> None:
    save(path, vox_offset=offset)
    refused(path, InputError, "start at byte")


@pytest.mark.fault("reliability 17")
def test_row_17_an_offset_beyond_the_file(path: Path) -> None:
    save(path, vox_offset=1e6)
    refused(path, InputError, "truncated")


@pytest.mark.parametrize("size", [0, -16, 2**31 - 1, 4])
@pytest.mark.fault("reliability 18")
def test_row_18_extensions_of_impossible_size(path: Path, size: int) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"canary text"))
    nib.save(image, path)
    assert io.read_volume(path).grid.shape == (5, 6, 7)
    packed = path.suffix == ".gz"
    blob = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    blob[352:356] = size.to_bytes(4, "little", signed=True)
    path.write_bytes(gzip.compress(bytes(blob)) if packed else bytes(blob))
    before = peak_kb()
    with pytest.raises(InputError, match="extension") as caught:
        io.read_volume(path)
    assert peak_kb() - before < 100_000
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("unit", "scale", "name"), [(1, 1e3, "metres"), (3, 1e-3, "micrometres")])
@pytest.mark.fault("reliability 19")
def test_row_19_units_become_millimetres_with_a_warning(
    path: Path, unit: int, scale: float, name: str
) -> None:
    affine = AFFINE / scale
    affine[3, 3] = 1
    save(path, affine=affine, xyzt_units=unit | 8)
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, AFFINE, rtol=1e-6)
    assert any(name in text for text in volume.warnings)
    assert volume.form.xyzt_units == unit | 8
    itk = sitk.ReadImage(str(path))
    np.testing.assert_allclose(itk.GetSpacing(), volume.grid.spacing_mm, rtol=1e-5)


@pytest.mark.parametrize("time", [0, 8])
@pytest.mark.fault("reliability 19")
def test_row_19_without_a_unit_lengths_are_millimetres(path: Path, time: int) -> None:
    save(path, xyzt_units=time)
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, AFFINE, rtol=1e-6)
    assert not volume.warnings


@pytest.mark.fault("reliability 20")
def test_row_20_forms_that_contradict_each_other(path: Path) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += 2.5
    image.set_sform(AFFINE, 1)
    image.set_qform(other, 1)
    nib.save(image, path)
    with pytest.raises(GeometryError, match="--use-form") as caught:
        io.read_volume(path)
    assert "2.5 mm" in str(caught.value)
    assert "-0.9 0 0 40" in str(caught.value)
    assert "-0.9 0 0 42.5" in str(caught.value)
    for form, expected in (("sform", AFFINE), ("qform", other)):
        volume = io.read_volume(path, options=io.ReadOptions(use_form=form))  # type: ignore[arg-type]
        np.testing.assert_allclose(volume.grid.affine, expected, atol=1e-5)


@pytest.mark.fault("reliability 20")
def test_row_20_a_flip_of_a_tiny_image_is_a_contradiction(path: Path) -> None:
    affine = np.diag([0.2, 0.2, 0.2, 1.0])
    image = nib.Nifti1Image(ramp((2, 2, 2)), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine @ np.diag([-1, 1, 1, 1]), 1)
    nib.save(image, path)
    refused(path, GeometryError, "contradict")


@pytest.mark.fault("reliability 20")
def test_row_20_forms_that_agree_nearly_are_used_with_a_warning(path: Path) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    near = AFFINE.copy()
    near[0, 3] += 0.5
    image.set_sform(AFFINE, 1)
    image.set_qform(near, 1)
    nib.save(image, path)
    volume = io.read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-5)
    assert "0.5 mm apart" in volume.warnings[0]


@pytest.mark.fault("reliability 21")
def test_row_21_no_orientation(path: Path) -> None:
    save(path, sform=0, qform=0)
    refused(path, GeometryError, "no orientation.*--assume-ras")
    volume = io.read_volume(path, options=io.ReadOptions(assume_ras=True))
    np.testing.assert_allclose(volume.grid.affine, np.diag([0.9, 1.1, 2.5, 1.0]), rtol=1e-6)
    assert "assumed" in volume.warnings[0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.fault("reliability 22")
def test_row_22_all_48_axis_orders_are_world_identical(
    tmp_path: Path, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    base = nib.Nifti1Image(ramp(), oblique(angles=(5, -4, 3)))
    turned = base.as_reoriented(np.column_stack([order, signs]))
    nib.save(turned, tmp_path / "scan.nii")
    volume = io.read_volume(tmp_path / "scan.nii")
    found = {
        int(value): volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]
        for index, value in np.ndenumerate(volume.array[0])
    }
    for index in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (2, 3, 4)):
        world = base.affine[:3, :3] @ index + base.affine[:3, 3]
        np.testing.assert_allclose(found[int(ramp()[index])], world, atol=1e-4)


@pytest.mark.fault("reliability 23")
def test_row_23_a_flip_in_the_header_moves_the_image(tmp_path: Path) -> None:
    flipped = AFFINE @ np.diag([-1, 1, 1, 1.0])
    one, other = save(tmp_path / "a.nii"), save(tmp_path / "b.nii", affine=flipped)
    a, b = io.read_volume(one), io.read_volume(other)
    np.testing.assert_array_equal(a.array, b.array)
    assert (a.grid.axis_codes, b.grid.axis_codes) == ("LAS", "RAS")


def sheared(degrees: float) -> np.ndarray:
    out = AFFINE.copy()
    out[0, 1] = 1.1 * np.tan(np.radians(degrees))
    return out


@pytest.mark.fault("reliability 24")
def test_row_24_shear_is_told_or_refused(path: Path) -> None:
    save(path, affine=sheared(0.3), qform=0)
    assert "0.30 degrees" in io.read_volume(path).warnings[0]
    save(path, affine=sheared(1.0), qform=0)
    refused(path, GeometryError, "resample")
    save(path, affine=sheared(5.0), qform=0)
    refused(path, GeometryError, "5.00 degrees")


@pytest.mark.parametrize("fault", ["nan", "singular", "huge"])
@pytest.mark.fault("reliability 25")
def test_row_25_a_matrix_that_places_nothing(path: Path, fault: str) -> None:
    save(path, qform=0)
    row = {"nan": [np.nan, 0, 0, 0], "singular": [0, 1.1, 0, 0], "huge": [1e30, 0, 0, 0]}[fault]
    edit(path, srow_x=row)
    refused(path, GeometryError, "sform")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.fault("reliability 26")
def test_row_26_impossible_voxel_sizes_are_not_repaired(path: Path, value: float, axis: int) -> None:
    save(path, **{f"pixdim__{axis}": value})
    refused(path, GeometryError, "voxel size")


@pytest.mark.fault("reliability 27")
def test_row_27_voxel_size_and_sform_disagree(path: Path) -> None:
    save(path, qform=0, pixdim__1=0.9 * 1.005)
    assert io.read_volume(path).warnings == ()
    edit(path, pixdim__1=0.9 * 1.02)
    refused(path, GeometryError, "pixdim")
    volume = io.read_volume(path, options=io.ReadOptions(use_form="sform"))
    assert volume.grid.spacing_mm[0] == pytest.approx(0.9)
    assert "pixdim" in volume.warnings[0]


@pytest.mark.parametrize("angles", [(0, 0, 45), (45, 0, 0), (0, 45, 0), (35.264389, 0, 45)])
@pytest.mark.fault("reliability 28")
def test_row_28_a_tie_is_decided_the_same_way_each_time(
    path: Path, angles: tuple[float, float, float]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles)
    save(path, affine=affine)
    first = io.read_volume(path).grid
    save(path, affine=affine, sform=0)
    assert first.axis_codes == io.read_volume(path).grid.axis_codes
    np.testing.assert_allclose(first.affine, affine, atol=1e-6)


@pytest.mark.fault("reliability 29")
def test_row_29_a_quaternion_that_is_no_rotation(path: Path) -> None:
    save(path, sform=0, quatern_b=0.9, quatern_c=0.9, quatern_d=0.1)
    refused(path, GeometryError, "quaternion")


@pytest.mark.parametrize("spacing", [0.05, 20.0])
@pytest.mark.fault("reliability 30")
def test_row_30_unusual_spacing_is_told(path: Path, spacing: float) -> None:
    save(path, affine=np.diag([1, 1, spacing, 1.0]))
    assert f"{spacing:g} mm" in io.read_volume(path).warnings[0]


@pytest.mark.parametrize("share", ["one", "1%", "all"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
@pytest.mark.fault("reliability 32")
@pytest.mark.fault("reliability 33")
def test_row_32_33_voxels_that_are_no_numbers(path: Path, share: str, value: float, word: str) -> None:
    array = ramp((10, 10, 10), np.float32)
    count = {"one": 1, "1%": 10, "all": 1000}[share]
    array.ravel()[:count] = value
    save(path, array)
    refused(path, InputError, rf"\b{count}\b.*{word}.*--fill-nan")
    volume = io.read_volume(path, options=io.ReadOptions(fill_nan=-7.0))
    assert (volume.array[0] == -7.0).sum() == count
    assert str(count) in volume.warnings[0]
    with pytest.raises(InputError, match=f"at least {count} labels are NaN or infinite"):
        io.read_labels(path)


@pytest.mark.fault("reliability 33")
def test_row_33_float64_beyond_float32_is_refused(path: Path) -> None:
    array = ramp(dtype=np.float64)
    array[0, 0, 0] = 1e300
    save(path, array)
    refused(path, InputError, "beyond float32")


@pytest.mark.fault("reliability 38")
def test_row_38_one_volume_in_four_dimensions_is_an_image(path: Path) -> None:
    save(path, ramp()[..., None])
    np.testing.assert_array_equal(io.read_volume(path).array[0], ramp())
    np.testing.assert_array_equal(io.read_labels(path).array, ramp())


@pytest.mark.fault("reliability 38")
def test_row_38_several_volumes_need_names_or_a_choice(path: Path) -> None:
    array = np.stack([ramp(), 2 * ramp() + 1], axis=-1)
    save(path, array)
    refused(path, InputError, "--channels.*--volume")
    with pytest.raises(InputError, match="--volume"):
        io.read_labels(path)
    volume = io.read_volume(path, channels=("a", "b"))
    assert volume.channels == ("a", "b")
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0))
    second = io.read_volume(path, options=io.ReadOptions(volume=1))
    np.testing.assert_array_equal(second.array[0], array[..., 1])
    refused(path, InputError, "volumes 0 to 1", volume=2)
    with pytest.raises(InputError, match="3 are needed"):
        io.read_volume(path, channels=("a", "b", "c"))


@pytest.mark.fault("reliability 38")
def test_row_38_a_vector_image_and_more_dimensions(path: Path) -> None:
    save(path, np.stack([ramp(), 2 * ramp()], axis=-1)[:, :, :, None, :])
    refused(path, InputError, "--volume")
    save(path, ramp((3, 3, 3, 2, 2)))
    refused(path, InputError, "four dimensions")


@pytest.mark.fault("reliability 39")
def test_row_39_a_2d_file_is_refused(path: Path) -> None:
    save(path, ramp((5, 6)))
    refused(path, InputError, "2D .5x6., and 3D is needed")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.fault("reliability 48")
def test_row_48_labels_near_integers_are_rounded(path: Path, dtype: type) -> None:
    array = (ramp() % 5).astype(dtype)
    array[array == 1] = 0.9999999702 if dtype is np.float64 else 0.9995
    save(path, array)
    labels = io.read_labels(path)
    np.testing.assert_array_equal(labels.array, ramp() % 5)
    assert labels.array.dtype == np.uint8
    assert "rounded" in labels.warnings[0]
    array[array > 2] += 0.01
    save(path, array)
    with pytest.raises(InputError, match="is not an integer"):
        io.read_labels(path)


@pytest.mark.fault("reliability 48")
def test_row_48_integers_with_a_slope_are_rounded_not_cut(path: Path) -> None:
    save(path, (ramp() % 4 * 10000).astype(np.uint16), scl_slope=0.99999e-4, scl_inter=0.0)
    labels = io.read_labels(path)
    np.testing.assert_array_equal(labels.array, ramp() % 4)
    save(path, ramp(), scl_slope=0.5, scl_inter=0.0)
    with pytest.raises(InputError, match="is not an integer"):
        io.read_labels(path)


@pytest.mark.fault("reliability 48")
def test_row_48_float_labels_that_are_integers_need_no_warning(path: Path) -> None:
    save(path, (ramp() - 3).astype(np.float32))
    labels = io.read_labels(path)
    np.testing.assert_array_equal(labels.array, ramp() - 3)
    assert labels.warnings == ()


@pytest.mark.fault("reliability 76")
def test_header_text_never_reaches_a_message(path: Path) -> None:
    save(path, descrip=b"CANARY", db_name=b"CANARY", aux_file=b"CANARY", intent_name=b"CANARY", pixdim__1=-1)
    with pytest.raises(GeometryError) as caught:
        io.read_volume(path)
    assert "CANARY" not in str(caught.value)


def test_simpleitk_and_we_see_the_same_world(path: Path) -> None:
    for angles in ((0, 0, 0), (10, -20, 30), (90, 0, 45), (180, 0, 0)):
        save(path, affine=oblique(angles=angles))
        grid, itk = io.read_volume(path).grid, sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, io.read_volume(path).array[0])
        for index in itertools.product((0, 4), (0, 5), (0, 6)):
            lps = np.asarray(itk.TransformIndexToPhysicalPoint(index))
            ours = grid.affine[:3, :3] @ index + grid.affine[:3, 3]
            np.testing.assert_allclose(ours, lps * (-1, -1, 1), atol=1e-3)


def test_unknown_suffixes_and_single_dicom_files(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(bytes(300))
    (tmp_path / "a.txt").write_text("hello")
    refused(tmp_path / "a.dcm", InputError, "holds no image")
    refused(tmp_path / "a.txt", InputError, ".txt is not a supported image format")


@pytest.mark.parametrize("values", [{"use_form": "x"}, {"fill_nan": float("nan")}, {"volume": -1}])
def test_options_that_fit_no_file(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        io.ReadOptions(**values)  # type: ignore[arg-type]
