"""DICOM folders: one regular stack of one series, or a refusal with the numbers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from io_files import rotation, save, write_dicom

from medseg import io
from medseg.core.errors import GeometryError, InputError, MedsegError
from medseg.core.volume import LabelMap


def expected(count: int = 6, size: tuple[int, int] = (8, 7)) -> np.ndarray:
    plane = np.arange(size[0] * size[1]).reshape(size[::-1]).T
    return np.stack([100 * n + plane for n in range(count)], axis=-1)


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -10, 5), (90, 0, 0), (0, 90, 0), (0, 0, 180)])
def test_a_series_lies_where_simpleitk_puts_it(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    files = write_dicom(tmp_path / "s", turn=rotation(*angles))
    volume = io.read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array[0], expected())
    oracle = sitk.ReadImage([str(f) for f in files])
    for index in ((0, 0, 0), (7, 0, 0), (0, 6, 0), (0, 0, 5), (3, 2, 1)):
        lps = np.asarray(oracle.TransformIndexToPhysicalPoint(index))
        ours = volume.grid.affine[:3, :3] @ index + volume.grid.affine[:3, 3]
        np.testing.assert_allclose(ours, lps * (-1, -1, 1), atol=1e-4)
    assert volume.form.suffix == ".nii.gz"
    assert io.inspect(tmp_path / "s").shape == (8, 7, 6)


@pytest.mark.fault("reliability 56")
def test_row_56_shuffled_names_are_sorted_by_position(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    names = [f.name for f in files]
    random.Random(1).shuffle(names)
    for file in files:
        file.rename(file.with_suffix(".tmp"))
    for file, name in zip(files, names, strict=True):
        file.with_suffix(".tmp").rename(file.with_name(name))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "s").array[0], expected())


@pytest.mark.fault("reliability 57")
def test_row_57_a_missing_slice_is_listed(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s")[3].unlink()
    with pytest.raises(GeometryError, match=r"missing: steps of 4\.00 mm from 9\.00 to 13\.00 mm.*2\.00"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 57")
def test_row_57_a_slice_twice_is_listed(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    (tmp_path / "s" / "again.dcm").write_bytes(files[2].read_bytes())
    with pytest.raises(GeometryError, match=r"002\.dcm and again\.dcm at 9\.00 mm"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 58")
def test_row_58_several_series_need_a_choice(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s")
    write_dicom(tmp_path / "s", 1, uid="1.2.826.0.1.3680043.2.1125.2", first=50, size=(5, 4))
    with pytest.raises(InputError, match="--series") as caught:
        io.read_volume(tmp_path / "s")
    assert "1 (CT, 6 slices of 8x7); 2 (CT, 1 slice of 5x4)" in str(caught.value)
    assert "1125" not in str(caught.value)
    for choice in ("1", "1.2.826.0.1.3680043.2.1125.1"):
        volume = io.read_volume(tmp_path / "s", options=io.ReadOptions(series=choice))
        np.testing.assert_array_equal(volume.array[0], expected())
    assert io.read_volume(tmp_path / "s", options=io.ReadOptions(series="2")).grid.shape == (5, 4, 1)
    with pytest.raises(InputError, match="no series '3'"):
        io.read_volume(tmp_path / "s", options=io.ReadOptions(series="3"))
    assert [len(s.slices) for s in io.list_series(tmp_path / "s")] == [6, 1]


@pytest.mark.fault("reliability 59")
def test_row_59_gantry_tilt_is_refused_with_its_angle(tmp_path: Path) -> None:
    step = 2.0 * np.tan(np.radians(10))
    write_dicom(tmp_path / "s", offsets=[(0, n * step, 0) for n in range(6)])
    with pytest.raises(GeometryError, match=r"tilted by 10\.00 degrees.*resample"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 59")
def test_row_59_a_slight_tilt_is_told(tmp_path: Path) -> None:
    step = 2.0 * np.tan(np.radians(0.3))
    write_dicom(tmp_path / "s", offsets=[(0, n * step, 0) for n in range(6)])
    assert "0.30 degrees" in io.read_volume(tmp_path / "s").warnings[0]


@pytest.mark.fault("reliability 60")
def test_row_60_variable_spacing(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", offsets=[(0, 0, 0.4 * (n == 3)) for n in range(6)])
    with pytest.raises(GeometryError, match=r"varies from 1\.600 to 2\.400 mm"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 60")
def test_row_60_variable_orientation_and_pixel_spacing(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", 5)
    write_dicom(tmp_path / "s", 1, first=5, turn=rotation(0, 0, 5))
    with pytest.raises(GeometryError, match=r"differ in orientation.*005\.dcm"):
        io.read_volume(tmp_path / "s")
    write_dicom(tmp_path / "t", 5)
    write_dicom(tmp_path / "t", 1, first=5, offsets=[(0, 0, 10.0)], tags={0x00280030: ("DS", "0.9\\0.9")})
    with pytest.raises(GeometryError, match="pixel spacing"):
        io.read_volume(tmp_path / "t")


@pytest.mark.fault("reliability 60")
def test_row_60_a_slice_beside_the_line(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", offsets=[(0, 3.0 * (n == 3), 0) for n in range(6)])
    with pytest.raises(GeometryError, match="off a straight line"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 60")
def test_row_60_slices_of_different_size(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", 5)
    write_dicom(tmp_path / "s", 1, first=5, offsets=[(0, 0, 10.0)], size=(4, 4))
    with pytest.raises(InputError, match="differ in size"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reliability 61")
def test_row_61_every_slice_is_scaled_by_its_own_numbers(tmp_path: Path) -> None:
    rescale = [(0.5 + 0.25 * n, 10.0 * n) for n in range(6)]
    write_dicom(tmp_path / "s", rescale=rescale)
    volume = io.read_volume(tmp_path / "s")
    slopes, inters = np.asarray(rescale).T
    np.testing.assert_allclose(volume.array[0], expected() * slopes + inters, rtol=1e-6)
    assert volume.array.dtype == np.float32


@pytest.mark.fault("reliability 61")
def test_row_61_hounsfield_units_stay_integers(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", rescale=[(1.0, -1024.0)] * 6)
    volume = io.read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array[0], expected() - 1024)
    assert volume.array.dtype.kind == "i"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.fault("reliability 62")
def test_row_62_a_truncated_slice(tmp_path: Path, share: float) -> None:
    file = write_dicom(tmp_path / "s")[2]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"002\.dcm") as caught:
        io.read_volume(tmp_path / "s")
    assert "Canary" not in str(caught.value)


@pytest.mark.fault("reliability 62")
def test_row_62_another_file_among_the_slices(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s")
    (tmp_path / "s" / ".hidden").write_text("is ignored")
    (tmp_path / "s" / "DICOMDIR").write_text("is ignored")
    assert io.read_volume(tmp_path / "s").grid.shape == (8, 7, 6)
    (tmp_path / "s" / "notes.dcm").write_text("is not")
    with pytest.raises(InputError, match=r"notes\.dcm: the file among the slices is not DICOM"):
        io.read_volume(tmp_path / "s")


@pytest.mark.parametrize("tag", [0x00200032, 0x00200037])
def test_slices_without_a_place_are_refused(tmp_path: Path, tag: int) -> None:
    write_dicom(tmp_path / "s", tags={tag: ("DS", "")})
    with pytest.raises(GeometryError, match=r"000\.dcm does not state its position"):
        io.read_volume(tmp_path / "s")


def test_colours_are_refused(tmp_path: Path) -> None:
    tags = {0x00280002: ("US", 3), 0x00280004: ("CS", "RGB"), 0x00280010: ("US", 1), 0x00280011: ("US", 18)}
    write_dicom(tmp_path / "s", tags={**tags, 0x00280006: ("US", 0)})  # type: ignore[dict-item]
    with pytest.raises(InputError):
        io.read_volume(tmp_path / "s")


def test_a_single_slice_takes_its_thickness(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", 1, step_mm=4.0)
    assert io.read_volume(tmp_path / "s").grid.spacing_mm == pytest.approx((0.7, 0.8, 4.0))


def test_a_single_slice_without_thickness_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", 1, tags={0x00180050: ("DS", "0")})
    with pytest.raises(GeometryError, match="thick"):
        io.read_volume(tmp_path / "s")


def test_folders_are_told_apart(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", 1)
    (tmp_path / "n").mkdir()
    save(tmp_path / "n" / "scan.nii.gz")
    assert io.is_dicom_folder(tmp_path / "s")
    assert not io.is_dicom_folder(tmp_path / "n")
    assert not io.is_dicom_folder(tmp_path / "n" / "scan.nii.gz")
    with pytest.raises(InputError, match="no DICOM"):
        io.read_volume(tmp_path / "n")


@pytest.mark.fault("reliability 76")
def test_row_76_no_name_leaves_the_slices(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    assert b"Canary" in files[0].read_bytes()
    volume = io.read_volume(tmp_path / "s")
    labels = LabelMap((volume.array[0] > 200).astype(np.uint8), volume.grid, volume.form)
    for suffix in (".nii", ".mha"):
        io.write_labels(tmp_path / f"out{suffix}", labels)
        assert b"Canary" not in (tmp_path / f"out{suffix}").read_bytes()
        assert io.read_labels(tmp_path / f"out{suffix}").grid.matches(volume.grid)
    assert "Canary" not in repr(io.inspect(tmp_path / "s")) + repr(volume)


@pytest.mark.fault("reliability 63")
def test_damaged_headers_are_a_value_or_a_refusal(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "s", 2)[1]
    whole, generator = file.read_bytes(), np.random.default_rng(3)
    for _ in range(30):
        blob = bytearray(whole)
        for at in generator.integers(132, len(blob), 3):
            blob[at] = generator.integers(0, 256)
        file.write_bytes(bytes(blob))
        try:
            volume = io.read_volume(tmp_path / "s")
        except MedsegError:
            continue
        assert volume.array.shape[1:] == volume.grid.shape
        assert np.isfinite(volume.array).all()


@pytest.mark.parametrize("kept", [32, 31, 27])
def test_a_series_with_fewer_images_than_its_headers_count_is_told(tmp_path: Path, kept: int) -> None:
    files = write_dicom(tmp_path / "ct", 32, tags={0x00201002: ("IS", "32")})
    for path in files[kept:]:
        path.unlink()
    told = [text for text in io.read_volume(tmp_path / "ct").warnings if "The headers state" in text]
    expected = f"The headers state 32 images in the acquisition, and {kept} are there"
    assert [text.startswith(expected) for text in told] == [True] * (kept < 32)


def test_an_acquisition_may_fill_two_series_and_some_slices_may_not_count(tmp_path: Path) -> None:
    tags = {0x00201002: ("IS", "12")}
    write_dicom(tmp_path / "two", 6, uid="1.2.3.1", tags=tags)
    write_dicom(tmp_path / "two", 6, uid="1.2.3.2", first=6, tags=tags)
    assert io.read_volume(tmp_path / "two", options=io.ReadOptions(series="1")).warnings == ()
    for number in ("", "0", "7"):
        folder = tmp_path / f"one{number}"
        first = write_dicom(folder, 6, tags=tags)[0]
        write_dicom(folder, 1, tags={0x00201002: ("IS", number)})
        assert first.exists()
        assert io.read_volume(folder).warnings == ()
