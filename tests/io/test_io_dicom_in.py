"""DICOM as it comes: mixed, inverted, tiled, damaged, multi-frame, beside other files, rounded."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import Frame, ct_slices, ct_values, enhanced, item, save
from io_files import write_dicom
from pydicom.data import get_testdata_file
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from medseg import io
from medseg.core.errors import GeometryError, InputError, MedsegError
from medseg.io.dicom import frames as dicom_frames
from medseg.io.dicom.elements import outline

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def series(number: int) -> io.ReadOptions:
    return io.ReadOptions(series=str(number))


# One volume: patient, study, frame of reference


@pytest.mark.fault("reports 1")
@pytest.mark.parametrize("share", ["every second", "the last"])
@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("PatientID", ("canary0", "canary1")),
        ("PatientID", ("canary0", "")),
        ("PatientName", ("Canary^A", "Canary^B")),
        ("PatientBirthDate", ("19700101", "19700102")),
        ("PatientSex", ("F", "M")),
        ("StudyInstanceUID", ("1.2.777.1", "1.2.777.2")),
        ("FrameOfReferenceUID", ("1.2.777.1", "1.2.777.2")),
        ("FrameOfReferenceUID", ("", "1.2.777.2")),
        ("Modality", ("CT", "MR")),
        ("SOPClassUID", ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7")),
        ("PatientPosition", ("HFS", "FFS")),
        ("RescaleType", ("HU", "US")),
    ],
)
def test_slices_of_two_volumes_under_one_series_are_refused(
    tmp_path: Path, keyword: str, values: tuple[str, str], share: str
) -> None:
    second = {"every second": {1, 3, 5}, "the last": {5}}[share]
    ct_slices(tmp_path / "s", change=lambda header, n: setattr(header, keyword, values[n in second]))
    with pytest.raises(GeometryError, match=f"differ in {keyword}") as caught:
        io.read_volume(tmp_path / "s")
    assert caught.value.exit_code == 4
    text = f"{caught.value.fault}; {caught.value.hint}"
    assert "canary" not in text.casefold()
    assert "777" not in text
    assert "1970" not in text
    with pytest.raises(GeometryError, match=keyword):
        io.inspect(tmp_path / "s")


@pytest.mark.fault("reports 1")
@pytest.mark.parametrize("keyword", ["PatientID", "FrameOfReferenceUID", "SeriesNumber"])
def test_slices_without_a_series_are_compared_too(tmp_path: Path, keyword: str) -> None:
    def change(header: Any, n: int) -> None:
        del header.SeriesInstanceUID
        setattr(header, keyword, str(n % 2 + 1))

    ct_slices(tmp_path / "s", change=change)
    with pytest.raises(GeometryError, match=f"differ in {keyword}"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reports 1")
def test_spellings_of_one_value_are_one_volume(tmp_path: Path) -> None:
    ct_slices(
        tmp_path / "s", change=lambda header, n: setattr(header, "PatientName", ("A^B", "A^B^^^")[n % 2])
    )
    assert io.read_volume(tmp_path / "s").grid.shape == (128, 128, 6)
    ct_slices(tmp_path / "t", change=lambda header, n: setattr(header, "RescaleType", ("HU", "")[n % 2]))
    assert io.read_volume(tmp_path / "t").grid.shape == (128, 128, 6)


@pytest.mark.fault("reports 1")
@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "PatientBirthDate"])
def test_channels_of_two_patients_are_refused(tmp_path: Path, keyword: str) -> None:
    values = {"a": "19700101", "b": "19700102"}
    for name, value in values.items():

        def change(header: Any, n: int, name: str = name, value: str = value) -> None:
            setattr(header, keyword, value)
            header.PixelData = bytes([n + (name == "b"), 0] * 128 * 128)

        ct_slices(tmp_path / name, change=change)
    with pytest.raises(GeometryError, match=f"channels a and b differ in {keyword}") as caught:
        io.read_volume({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert "1970" not in str(caught.value)


@pytest.mark.fault("reports 1")
def test_channels_in_two_frames_of_reference_are_said(tmp_path: Path) -> None:
    for name in "ab":

        def change(header: Any, n: int, name: str = name) -> None:
            header.FrameOfReferenceUID = f"1.2.{ord(name)}"
            header.PixelData = bytes([n + (name == "b"), 0] * 128 * 128)

        ct_slices(tmp_path / name, change=change)
    volume = io.read_volume({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert volume.warnings == (
        "The channels a and b state different frames of reference: it is unknown whether they are aligned.",
    )


# Display is not content


def _inverted(header: Any, n: int) -> None:
    header.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.fault("reports 2")
def test_monochrome1_is_rescaled_and_not_inverted(tmp_path: Path) -> None:
    ct_slices(tmp_path / "s", 3, _inverted)
    volume = io.read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array[0], np.stack([ct_values()] * 3, axis=-1))
    assert (volume.array.min(), volume.array.max()) == (-896, 1167)


def test_whole_numbers_beyond_32_bits_stay_what_they_are() -> None:
    """A slope may be large, as those of parametric maps are."""
    stored = np.array([0, 65_535], np.uint16)
    np.testing.assert_array_equal(dicom_frames._rescaled(stored, 100_000.0, -1.0), [-1, 6_553_499_999])
    assert dicom_frames._rescaled(stored, 2.0, -1.0).dtype == np.int32


@pytest.mark.fault("reports 2")
@pytest.mark.parametrize(
    ("allocated", "stored", "signed"), [(8, 8, 0), (16, 12, 0), (16, 12, 1), (16, 16, 1), (32, 32, 0)]
)
def test_monochrome1_of_any_depth(tmp_path: Path, allocated: int, stored: int, signed: int) -> None:
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    kind = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    pixels = np.random.default_rng(0).integers(low, high, (128, 128)).astype(kind)

    def change(header: Any, n: int) -> None:
        _inverted(header, n)
        header.BitsAllocated, header.BitsStored, header.HighBit = allocated, stored, stored - 1
        header.PixelRepresentation, header.PixelData = signed, pixels.tobytes()
        header.RescaleSlope, header.RescaleIntercept = 0.5, -3

    ct_slices(tmp_path / "s", 2, change)
    volume = io.read_volume(tmp_path / "s")
    np.testing.assert_allclose(volume.array[0, :, :, 1], pixels.T * 0.5 - 3, rtol=1e-6)


@pytest.mark.fault("reports 2")
@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
        "MR_small_bigendian",
        "MR_small_implicit",
        "JPEG-lossy",
    ],
)
def test_compressed_monochrome1_has_the_values_of_monochrome2(tmp_path: Path, name: str) -> None:
    original = Path(str(get_testdata_file(f"{name}.dcm")))
    content = original.read_bytes()
    assert content.count(b"MONOCHROME2") == 1
    for kind in (b"MONOCHROME1", b"MONOCHROME2"):
        folder = tmp_path / kind.decode()
        folder.mkdir()
        (folder / "0.dcm").write_bytes(content.replace(b"MONOCHROME2", kind))
    if name == "JPEG-lossy":  # it does not state its position
        from medseg.io.dicom.pixels import stored_pixels

        stored = [stored_pixels(tmp_path / kind / "0.dcm") for kind in ("MONOCHROME1", "MONOCHROME2")]
        np.testing.assert_array_equal(*stored)
        assert stored[0].std() > 1
        return
    read = [io.read_volume(tmp_path / kind).array for kind in ("MONOCHROME1", "MONOCHROME2")]
    np.testing.assert_array_equal(*read)


@pytest.mark.fault("reports 2")
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_that_are_not_stored_do_not_count(tmp_path: Path, signed: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (128, 128)).astype("u2")

    def change(header: Any, n: int) -> None:
        header.BitsStored, header.HighBit, header.PixelRepresentation = 12, 11, signed
        header.PixelData, header.PhotometricInterpretation = pixels.tobytes(), f"MONOCHROME{2 - n % 2}"
        header.RescaleIntercept = 0

    ct_slices(tmp_path / "s", 2, change)
    array = io.read_volume(tmp_path / "s").array[0]
    low = (pixels & 0xFFF).astype(int).T
    expected = np.where(low > 2047, low - 4096, low) if signed else low
    np.testing.assert_array_equal(array, np.stack([expected] * 2, axis=-1))


@pytest.mark.fault("reports 2")
@pytest.mark.parametrize(
    ("keyword", "fault"), [("ModalityLUTSequence", "a table"), ("PALETTE COLOR", "colours")]
)
def test_values_that_are_no_quantity_are_refused(tmp_path: Path, keyword: str, fault: str) -> None:
    if keyword == "PALETTE COLOR":
        (tmp_path / "s").mkdir()
        shutil.copy(str(get_testdata_file("examples_palette.dcm")), tmp_path / "s")
    else:
        table = item(LUTDescriptor=[4, 0, 16], LUTData=b"\0\0\1\0\4\0\7\0", ModalityLUTType="US")
        ct_slices(tmp_path / "s", 2, lambda header, n: setattr(header, keyword, [table]))
    with pytest.raises(InputError, match=f"the DICOM file holds .*{fault}"):
        io.read_volume(tmp_path / "s")


# Many slices in one picture


@pytest.mark.fault("reports 3")
@pytest.mark.realdata
def test_a_mosaic_is_the_volume_that_dcm2niix_makes_of_it(data_root: Path) -> None:
    volume = io.read_volume(data_root / "formats/siemens_mosaic.dcm")
    expected: Any = nib.load(data_root / "formats/siemens_mosaic_converted.nii.gz")
    assert volume.grid.shape == expected.shape[:3] == (64, 64, 35)
    into = np.linalg.solve(expected.affine, volume.grid.affine)
    np.testing.assert_allclose(np.abs(into[:3, :3]), np.eye(3), atol=1e-5)
    flipped = np.flip(np.asarray(expected.dataobj)[..., 0], [n for n in range(3) if into[n, n] < 0])
    np.testing.assert_array_equal(volume.array[0], flipped)
    corner = expected.affine @ [0, 63, 0, 1]
    np.testing.assert_allclose(volume.grid.affine[:3, 3], corner[:3], atol=1e-3)


@pytest.mark.fault("reports 3")
@pytest.mark.realdata
def test_a_mosaic_in_a_folder_and_two_points_in_time(data_root: Path, tmp_path: Path) -> None:
    original = data_root / "formats/siemens_mosaic.dcm"
    shutil.copy(original, tmp_path / "1.dcm")
    one = io.read_volume(tmp_path)
    np.testing.assert_array_equal(one.array, io.read_volume(original).array)
    shutil.copy(original, tmp_path / "2.dcm")
    with pytest.raises(InputError, match=r"1 \(MR, 35 slices of 64x64, file 1\); 2 .*file 2\).*--series"):
        io.read_volume(tmp_path)
    np.testing.assert_array_equal(io.read_volume(tmp_path, options=series(2)).array, one.array)


@pytest.mark.fault("reports 3")
@pytest.mark.realdata
@pytest.mark.parametrize("lost", ["header", "mark"])
def test_a_mosaic_without_its_vendor_header_or_mark(data_root: Path, tmp_path: Path, lost: str) -> None:
    header = pydicom.dcmread(data_root / "formats/siemens_mosaic.dcm")
    if lost == "header":
        del header[0x0029, 0x1010]
        save(header, tmp_path / "x.dcm")
        with pytest.raises(InputError, match=r"mosaic.*dcm2niix"):
            io.read_volume(tmp_path / "x.dcm")
    else:
        header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        save(header, tmp_path / "x.dcm")
        assert io.read_volume(tmp_path / "x.dcm").grid.shape == (64, 64, 35)


@pytest.mark.fault("reports 3")
def test_a_mosaic_of_no_known_vendor_is_refused(tmp_path: Path) -> None:
    mosaic = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ct_slices(tmp_path / "s", 1, lambda header, n: setattr(header, "ImageType", mosaic))
    with pytest.raises(InputError, match=r"mosaic.*dcm2niix"):
        io.read_volume(tmp_path / "s")


# Lengths that lie

INFO = """
import sys
from medseg.cli.main import main
from medseg.io.memory import peak_memory_bytes
sys.argv = ["medseg", "info", sys.argv[1]]
try:
    main()
finally:
    print(peak_memory_bytes() or 0)
"""


@pytest.mark.fault("reports 7")
@pytest.mark.parametrize("raised", [1, 2, 200])
def test_a_raised_length_is_refused_in_little_memory(tmp_path: Path, raised: int) -> None:
    content = bytearray(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    content[content.find(b"\x28\x00\x53\x10DS") + 6] += raised
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.dcm").write_bytes(content)
    child = subprocess.run(
        [sys.executable, "-c", INFO, str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert child.returncode == 3
    assert "a.dcm: the DICOM file is cut or damaged: at byte" in child.stderr
    assert int(child.stdout) < 400 * 2**20


@pytest.mark.fault("reports 7")
@pytest.mark.parametrize(
    "name",
    [
        "CT_small",
        "MR_small_implicit",
        "MR_small_bigendian",
        "MR_small_RLE",
        "MR_small_jp2klossless",
        "image_dfl",
        "rtstruct",
        "priv_SQ",
    ],
)
def test_any_changed_byte_is_an_outline_or_a_refusal(tmp_path: Path, name: str) -> None:
    whole = Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes()
    generator = np.random.default_rng(7)
    path = tmp_path / "x.dcm"
    faults = []
    for at in generator.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[at] = (changed[at] + int(generator.integers(1, 256))) % 256
        path.write_bytes(changed)
        with suppress(MedsegError):
            outline(path)
    for end in generator.integers(200, len(whole) - 8, 20):
        path.write_bytes(whole[:end])
        try:
            outline(path)
        except MedsegError as fault:
            faults.append(str(fault))
    assert len(faults) > 5
    assert all("x.dcm" in fault for fault in faults)


@pytest.mark.fault("reports 7")
def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.io.dicom.elements.LARGEST_INFLATED", 1000)
    with pytest.raises(MedsegError, match="unpack to more than"):
        outline(Path(str(get_testdata_file("image_dfl.dcm"))))


@pytest.mark.fault("reports 7")
def test_more_pixels_than_the_file_can_hold_are_refused(tmp_path: Path) -> None:
    def change(header: Any, n: int) -> None:
        header.compress(RLELossless)
        header.Rows = header.Columns = 60000

    ct_slices(tmp_path / "s", 1, change)
    with pytest.raises(InputError, match=r"truncated|damaged"):
        io.inspect(tmp_path / "s")


# Other files beside the slices


@pytest.mark.fault("reports 10")
@pytest.mark.parametrize("options", [io.ReadOptions(), series(1)])
def test_files_without_pixels_are_left_aside(tmp_path: Path, options: io.ReadOptions) -> None:
    folder = tmp_path / "s"
    ct_slices(folder)
    clean = io.read_volume(folder)
    for name in ("rtplan", "rtstruct", "reportsi", "test-SR", "rtdose", "liver_1frame"):
        shutil.copy(str(get_testdata_file(f"{name}.dcm")), folder)
    (folder / "LICENSE").write_text("Creative Commons")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    volume = io.read_volume(folder, options=options)
    np.testing.assert_array_equal(volume.array, clean.array)
    assert volume.warnings == ("Left aside in the folder: 6 files (6 DICOM without a scan).",)
    assert io.is_dicom_folder(folder)


@pytest.mark.fault("reports 10")
def test_a_folder_of_other_objects_alone_is_no_series(tmp_path: Path) -> None:
    shutil.copy(str(get_testdata_file("rtstruct.dcm")), tmp_path)
    assert not io.is_dicom_folder(tmp_path)
    with pytest.raises(InputError, match="no DICOM images"):
        io.read_volume(tmp_path)


@pytest.mark.fault("reports 10")
def test_a_picture_beside_the_slices_is_a_series_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ct_slices(folder)
    shutil.copy(str(get_testdata_file("SC_rgb_rle_2frame.dcm")), folder / "dose.dcm")
    header = pydicom.dcmread(str(get_testdata_file("rtdose.dcm")))
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    save(header, folder / "moving.dcm")
    with pytest.raises(InputError, match="3 series"):
        io.read_volume(folder)
    found = io.list_series(folder)
    plain = next(s for s in found if len(s.slices) == 6)
    assert io.read_volume(folder, options=series(plain.number)).grid.shape == (128, 128, 6)
    for other in (s for s in found if s is not plain):
        with pytest.raises(InputError, match=r"colours|several frames"):
            io.read_volume(folder, options=series(other.number))


@pytest.mark.fault("reports 10")
@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
@pytest.mark.parametrize("content", [b"", bytes(90)])
def test_what_may_be_a_cut_slice_is_not_left_aside(tmp_path: Path, name: str, content: bytes) -> None:
    ct_slices(tmp_path / "s")
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: the file among the slices is empty"):
        io.read_volume(tmp_path / "s")


@pytest.mark.fault("reports 10")
@pytest.mark.parametrize("keep_rows", [False, True])
def test_a_slice_that_lost_its_pixels_is_not_left_aside(tmp_path: Path, keep_rows: bool) -> None:
    def change(header: Any, n: int) -> None:
        if n == 5:
            del header.PixelData
            if not keep_rows:
                del header.Rows
            else:
                header.SOPClassUID = "1.2.3"

    ct_slices(tmp_path / "s", change=change)
    with pytest.raises(InputError, match=r"005\.dcm: the DICOM file is cut"):
        io.read_volume(tmp_path / "s")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_byte_order_of_a_data_set_alone_is_told_from_its_start(tmp_path: Path, order: str) -> None:
    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        return struct.pack(f"{order}HH2sH", group, number, vr, len(value)) + value

    path = tmp_path / "x"
    path.write_bytes(
        element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.4\0")
        + element(0x28, 0x10, b"US", struct.pack(f"{order}H", 6))
    )
    found = outline(path)
    assert (found.sop_class, found.has_rows) == ("1.2.840.10008.5.1.4.1.1.4", True)


def test_a_private_sequence_of_unknown_type_is_walked_in_its_own_encoding(tmp_path: Path) -> None:
    """PS3.5, 6.2.2: of type UN and undefined length, its items are implicit, whatever the file is."""
    (path,) = ct_slices(tmp_path / "s", 1)
    inner = struct.pack("<HHI8s", 0x0009, 0x1002, 8, b"ABCDEFGH")
    held = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + held
    content = path.read_bytes()
    at = content.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path.write_bytes(content[:at] + unknown + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + content[at:])
    assert outline(path).has_rows


@pytest.mark.fault("reports 10")
@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_slices_without_preamble_are_read(tmp_path: Path, suffix: str) -> None:
    paths = ct_slices(tmp_path / "s")
    expected = io.read_volume(tmp_path / "s")
    for path in paths:
        content = path.read_bytes()
        path.unlink()
        path.with_suffix(suffix).write_bytes(content[132:])
    assert io.is_dicom_folder(tmp_path / "s")
    volume = io.read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.grid.matches(expected.grid)


# Enhanced multi-frame files


@pytest.mark.fault("reports 13")
@pytest.mark.realdata
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_enhanced_frames_are_where_and_what_highdicom_finds(data_root: Path, number: int) -> None:
    import highdicom

    folder = data_root / "formats/siemens_xa10_enhanced"
    oracle = highdicom.imread(folder / f"{number}.dcm").get_volume(apply_real_world_transform=False)
    for volume in (
        io.read_volume(folder / f"{number}.dcm"),
        io.read_volume(folder, options=series(number)),
    ):
        into = np.linalg.solve(volume.grid.affine, LPS @ oracle.affine)
        axes = np.abs(np.rint(into[:3, :3])).argmax(axis=1)
        array = oracle.array.transpose(axes)
        array = np.flip(array, [n for n in range(3) if into[n, axes[n]] < -0.5])
        np.testing.assert_array_equal(volume.array[0], array)
        np.testing.assert_allclose(into, np.rint(into), atol=1e-4)
    with pytest.raises(
        InputError, match=r"4 series; there are: 1 \(MR, 6 slices of 64x64, time 1\); .*time 4\)"
    ):
        io.read_volume(folder)


@pytest.mark.fault("reports 13")
@pytest.mark.realdata
def test_frames_of_two_kinds_are_listed_and_chosen(data_root: Path) -> None:
    path = data_root / "formats/philips_enhanced_fieldmap.dcm"
    with pytest.raises(
        InputError, match=r"1 \(MR, 32 slices .*T1/M.*; 2 \(MR, 32 slices .*FIELD_MAP.*--series"
    ):
        io.read_volume(path)
    header = pydicom.dcmread(path)
    for number in (1, 2):
        volume = io.read_volume(path, options=series(number))
        first = 32 * (number - 1)
        groups = header.PerFrameFunctionalGroupsSequence[first]
        numbers = groups.PixelValueTransformationSequence[0]
        stored = header.pixel_array[first : first + 32].astype(float).transpose(2, 1, 0)
        expected = stored * float(numbers.RescaleSlope) + float(numbers.RescaleIntercept)
        np.testing.assert_allclose(volume.array[0], expected, rtol=1e-6, atol=1e-4)
        lps = LPS @ volume.grid.affine @ [0, 0, 0, 1]
        np.testing.assert_allclose(lps[:3], groups.PlanePositionSequence[0].ImagePositionPatient, atol=1e-6)


def test_frames_without_a_slope_hold_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    stored = enhanced(path, [Frame(2.0 * n) for n in range(3)])
    header = pydicom.dcmread(path)
    for groups in header.PerFrameFunctionalGroupsSequence:
        del groups.PixelValueTransformationSequence
    save(header, path)
    np.testing.assert_array_equal(io.read_volume(path).array[0], stored.transpose(2, 1, 0))


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("compressed", [False, True])
def test_each_frame_lies_at_its_place_and_has_its_own_scale(tmp_path: Path, compressed: bool) -> None:
    order = [2, 0, 3, 1]
    frames = [Frame(2.0 * z, rescale=(1.0 + z, -10.0 * z)) for z in order]
    stored = enhanced(tmp_path / "x.dcm", frames)
    if compressed:
        header = pydicom.dcmread(tmp_path / "x.dcm")
        header.compress(RLELossless)
        header.save_as(tmp_path / "x.dcm")
    volume = io.read_volume(tmp_path / "x.dcm")
    assert volume.grid.spacing_mm == pytest.approx((0.7, 0.8, 2.0))
    np.testing.assert_allclose(volume.grid.affine[:3, 3], (20, 30, 0))
    for z in range(4):
        expected = stored[order.index(z)].T * (1.0 + z) - 10.0 * z
        np.testing.assert_allclose(volume.array[0, :, :, z], expected)
    assert io.inspect(tmp_path / "x.dcm").format == "Enhanced DICOM"
    assert volume.form.suffix == ".nii.gz"


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("difference", ["frame type", "echo time", "b-value", "time", "dimension"])
def test_frames_of_several_kinds_are_never_stacked(tmp_path: Path, difference: str) -> None:
    def frame(z: int, kind: int) -> Frame:
        fields: dict[str, Any] = {
            "echo time": {"MREchoSequence": [item(EffectiveEchoTime=5.0 * (kind + 1))]},
            "b-value": {"MRDiffusionSequence": [item(DiffusionBValue=500.0 * kind)]},
            "time": {"time": kind + 1},
        }.get(difference, {})
        frame_type = "MP"[kind] if difference == "frame type" else "M"
        return Frame(2.0 * z, frame_type, dimensions=(1, z + 1, kind + 1), **fields)

    # kinds at other places too: no two frames share one, and still they are no stack
    apart = 4 if difference != "dimension" else 0
    frames = [frame(z + apart * kind, kind) for kind in (0, 1) for z in range(4)]
    pointers = (0x00209056, 0x00209057, 0x00189087)
    stored = enhanced(tmp_path / "x.dcm", frames, pointers=pointers)
    with pytest.raises(InputError, match=r"2 series; there are: 1 .*4 slices.*; 2 .*4 slices") as caught:
        io.read_volume(tmp_path / "x.dcm")
    named = {"frame type": "ORIGINAL/PRIMARY/P/NONE", "dimension": "dimension 3: 2"}.get(
        difference, difference
    )
    assert named in str(caught.value)
    for number in (1, 2):
        volume = io.read_volume(tmp_path / "x.dcm", options=series(number))
        np.testing.assert_array_equal(
            volume.array[0], stored[4 * (number - 1) : 4 * number].transpose(2, 1, 0)
        )


@pytest.mark.fault("reports 13")
@pytest.mark.fault("reports 1")
def test_enhanced_files_of_two_patients_are_refused(tmp_path: Path) -> None:
    for n in range(2):
        enhanced(tmp_path / f"{n}.dcm", [Frame(4.0 * n + z) for z in (0, 2)], PatientID=f"canary{n}")
    with pytest.raises(GeometryError, match="differ in PatientID") as caught:
        io.read_volume(tmp_path)
    assert "canary" not in str(caught.value).replace(str(tmp_path), "")
    enhanced(tmp_path / "1.dcm", [Frame(4.0 + z) for z in (0, 2)], PatientID="canary0")
    assert io.read_volume(tmp_path).grid.shape == (5, 6, 4)


@pytest.mark.fault("reports 13")
def test_enhanced_files_that_say_too_little_are_refused(tmp_path: Path) -> None:
    enhanced(tmp_path / "x.dcm", [Frame(0.0), Frame(2.0)])
    header = pydicom.dcmread(tmp_path / "x.dcm")
    del header.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    header.save_as(tmp_path / "y.dcm")
    with pytest.raises(GeometryError, match="frame 2 does not state its position"):
        io.read_volume(tmp_path / "y.dcm")
    for name in ("rtdose.dcm", "liver_1frame.dcm"):
        with pytest.raises(InputError, match="holds a segmentation or dose, not a scan"):
            io.read_volume(str(get_testdata_file(name)))
    with pytest.raises(InputError, match="holds no image"):
        io.read_volume(str(get_testdata_file("rtplan.dcm")))
    with pytest.raises(InputError, match="name the folder of its series"):
        io.read_volume(str(get_testdata_file("CT_small.dcm")))


@pytest.mark.fault("reports 13")
def test_enhanced_ct_in_hounsfield_units_stays_integer(tmp_path: Path) -> None:
    frames = [Frame(2.0 * n, rescale=(1.0, -1024.0)) for n in range(3)]
    stored = enhanced(
        tmp_path / "x.dcm",
        frames,
        SOPClassUID=EnhancedCTImageStorage,
        Modality="CT",
        PhotometricInterpretation="MONOCHROME1",
    )
    volume = io.read_volume(tmp_path / "x.dcm")
    assert volume.array.dtype == np.int32
    np.testing.assert_array_equal(volume.array[0], stored.transpose(2, 1, 0).astype(int) - 1024)


@pytest.mark.fault("reports 7")
def test_enhanced_frames_that_the_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    enhanced(tmp_path / "x.dcm", [Frame(0.0), Frame(2.0)], Rows=60000, Columns=60000)
    with pytest.raises(InputError, match="truncated"):
        io.inspect(tmp_path / "x.dcm")


@pytest.mark.fault("reports 13")
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_without_pixels_are_refused(tmp_path: Path, compressed: bool) -> None:
    enhanced(tmp_path / "x.dcm", [Frame(2.0 * n) for n in range(3)])
    header = pydicom.dcmread(tmp_path / "x.dcm")
    if compressed:
        header.compress(RLELossless)
    header.NumberOfFrames = 4
    groups = header.PerFrameFunctionalGroupsSequence
    groups.append(deepcopy(groups[2]))
    groups[3].PlanePositionSequence = [item(ImagePositionPatient=[-20.0, -30.0, 6.0])]
    header.save_as(tmp_path / "x.dcm")
    with pytest.raises(InputError, match="pixels are damaged"):
        io.read_volume(tmp_path / "x.dcm")


@pytest.mark.fault("reports 10")
@pytest.mark.parametrize("zeros", [1, 8, 512])
def test_zeros_after_a_slice_are_padding(tmp_path: Path, zeros: int) -> None:
    paths = ct_slices(tmp_path / "s", 2)
    expected = io.read_volume(tmp_path / "s").array
    for path in paths:
        path.write_bytes(path.read_bytes() + bytes(zeros))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "s").array, expected)


# Rounded positions


@pytest.mark.fault("reports 15")
@pytest.mark.parametrize("count", [5, 160])
def test_rounded_positions_are_read_as_even_and_said(tmp_path: Path, count: int) -> None:
    def change(header: Any, n: int) -> None:
        header.ImagePositionPatient = [0, 0, f"{round(0.625 * n, 1):.1f}"]

    ct_slices(tmp_path / "s", count, change)
    volume = io.read_volume(tmp_path / "s")
    assert volume.grid.spacing_mm[2] == pytest.approx(0.625, abs=0.011)
    ends = volume.grid.affine @ np.array([[0, 0, 0, 1], [0, 0, count - 1, 1]]).T
    np.testing.assert_allclose(ends[2], (0, 0.625 * (count - 1)), atol=0.05)
    (said,) = volume.warnings
    assert "as if their positions were rounded; they were read as even (limit 0.06" in said


@pytest.mark.fault("reports 15")
@pytest.mark.parametrize(("off", "read"), [(0.1, True), (0.7, False), (1.1, False)])
def test_a_slice_off_by_more_than_a_tenth_of_the_step_is_refused(
    tmp_path: Path, off: float, read: bool
) -> None:
    def change(header: Any, n: int) -> None:
        header.ImagePositionPatient = [0, 0, 5 * n + off * (n == 3)]

    ct_slices(tmp_path / "s", change=change)
    if read:
        assert "mm off even steps of 5.0" in io.read_volume(tmp_path / "s").warnings[0]
    else:
        with pytest.raises(GeometryError, match=r"varies from .* off an even stack \(limit 0\.50"):
            io.read_volume(tmp_path / "s")


@pytest.mark.fault("reports 15")
def test_an_even_stack_says_nothing(tmp_path: Path) -> None:
    ct_slices(tmp_path / "s")
    assert io.read_volume(tmp_path / "s").warnings == ()


@pytest.mark.parametrize("short", [1, 40, 480])
def test_a_slice_with_fewer_pixels_than_its_header_states_is_refused(tmp_path: Path, short: int) -> None:
    """GDCM fills what is missing with what lies in memory; all lengths of such a file are right."""
    paths = write_dicom(tmp_path / "series", size=(20, 24))
    header = pydicom.dcmread(paths[3])
    header.PixelData = header.PixelData[: -2 * short]
    header.save_as(paths[3])
    with pytest.raises(InputError, match=f"its pixels are {480 - short} values, and its header states 480"):
        io.read_volume(paths[0].parent)
