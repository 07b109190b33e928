"""A suffix that lies about a file's content: the message says what the file is and how to rename it."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from commands import refused
from dicom_files import Frame, enhanced
from io_files import AFFINE, save
from PIL import Image

from medseg.core.errors import InputError
from medseg.io import ReadOptions, inspect, read_labels, read_segments, read_volume
from medseg.io.contents import CONTENTS
from medseg.io.formats import FORMATS
from medseg.io.names import stem_and_suffix

LABELS = (np.indices((6, 7, 5)).sum(0) % 3).astype(np.uint8)


def nifti(kind: type, pair: bool = False) -> Callable[[Path], object]:
    return lambda path: nib.save(kind(LABELS, AFFINE), path) if pair else save(path, LABELS, kind=kind)


def big_endian(path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.uint8)
    nib.save(nib.Nifti1Image(LABELS, AFFINE, header), path)


def by_itk(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(LABELS.T), str(path), True)


def slicer(path: Path) -> None:
    image = sitk.GetImageFromArray(LABELS.T)
    for n in (0, 1):
        for key, value in (("ID", f"s{n}"), ("Name", f"s{n}"), ("LabelValue", n + 1), ("Layer", 0)):
            image.SetMetaData(f"Segment{n}_{key}", str(value))
    sitk.WriteImage(image, str(path), True)


def picture(path: Path) -> None:
    Image.fromarray(LABELS[:, :, 0]).save(path)


def frames(path: Path) -> None:
    enhanced(path, [Frame(2.0 * z) for z in range(4)])


KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "scan.nii": ("NIfTI", nifti(nib.Nifti1Image)),
    "big.nii": ("NIfTI", big_endian),
    "second.nii": ("NIfTI", nifti(nib.Nifti2Image)),
    "scan.nii.gz": ("compressed NIfTI", nifti(nib.Nifti1Image)),
    "second.nii.gz": ("compressed NIfTI", nifti(nib.Nifti2Image)),
    "scan.hdr": ("the header of a NIfTI pair", nifti(nib.Nifti1Pair, pair=True)),
    "second.hdr": ("the header of a NIfTI pair", nifti(nib.Nifti2Pair, pair=True)),
    "scan.mgh": ("MGH", lambda path: nib.save(nib.MGHImage(LABELS, AFFINE), path)),
    "scan.mgz": ("compressed MGH", lambda path: nib.save(nib.MGHImage(LABELS, AFFINE), path)),
    "scan.mha": ("MetaImage", by_itk),
    "scan.nrrd": ("NRRD", by_itk),
    "scan.seg.nrrd": ("NRRD", slicer),
    "scan.png": ("PNG", picture),
    "scan.tif": ("TIFF", lambda path: tifffile.imwrite(path, LABELS)),
    "big.tif": ("TIFF", lambda path: tifffile.imwrite(path, LABELS, bigtiff=True, byteorder=">")),
    "scan.jpg": ("JPEG", picture),
    "scan.dcm": ("DICOM", frames),
}
"""Good files by their name: what each holds, and what writes it, which is never the code under test."""
LYING = [
    (name, suffix)
    for name, suffix in itertools.product(KINDS, [s for s, found in FORMATS.items() if found.reader])
    if FORMATS[suffix].content != KINDS[name][0]
]


def test_every_suffix_says_a_content_that_is_known_and_is_lied_about_here() -> None:
    said = {found.content for found in FORMATS.values() if found.reader}
    known = {content.name for content in CONTENTS if not content.remedy}
    assert {text.removeprefix("compressed ") for text in said} == known
    assert {content for content, _ in KINDS.values()} == said


@pytest.mark.fault("reliability 5")
@pytest.mark.parametrize(("name", "suffix"), LYING)
def test_a_suffix_that_lies_is_named_with_the_right_one(tmp_path: Path, name: str, suffix: str) -> None:
    content, write = KINDS[name]
    stem, right = stem_and_suffix(name)
    write(tmp_path / name)
    path = (tmp_path / name).rename(tmp_path / f"{stem}{suffix}")
    voxels = f", and the file of its voxels to {stem}.img" if right == ".hdr" else ""
    for read in (inspect, read_volume, read_labels):
        with pytest.raises(InputError) as told:
            read(path)
        assert str(told.value) == (
            f"{path}: holds {content}, though its suffix says {FORMATS[suffix].content}; "
            f"rename it to {name}{voxels}"
        )
    assert inspect(path.rename(tmp_path / name), options=ReadOptions(assume_ras=True)).grid.shape


@pytest.mark.parametrize("name", KINDS)
def test_a_file_without_a_suffix_is_named_with_the_right_one(tmp_path: Path, name: str) -> None:
    content, write = KINDS[name]
    write(tmp_path / name)
    path = (tmp_path / name).rename(tmp_path / stem_and_suffix(name)[0])
    if content == "DICOM":  # of which files have a suffix or none
        assert inspect(path).format == "Enhanced DICOM"
        return
    with pytest.raises(InputError, match=rf"holds {content}, though its suffix \(none\) is not .* to {name}"):
        read_volume(path)


@pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd", "scan.hdr", "scan.tif"])
def test_what_gzip_packed_around_a_format_is_to_be_unpacked(tmp_path: Path, name: str) -> None:
    content, write = KINDS[name]
    write(tmp_path / name)
    packed = gzip.compress((tmp_path / name).read_bytes())
    for given in (f"{name}.gz", "scan.nii.gz", name):
        (tmp_path / given).write_bytes(packed)
        told = rf"holds compressed {content}, .*; unpack it with gunzip, and name the result {name}$"
        with pytest.raises(InputError, match=told):
            read_volume(tmp_path / given)


@pytest.mark.parametrize(
    ("blob", "told"),
    [
        (b"<!DOCTYPE html>\n<html>", "holds a web page, .* download it again"),
        (b"\n<HTML>", "holds a web page, .* download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "holds a pointer of Git LFS, .* git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "holds HDF5, as MINC is, .* convert it to NIfTI"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".seg.nrrd", ".dcm", ".png"])
def test_what_is_no_image_is_named(tmp_path: Path, suffix: str, blob: bytes, told: str) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(blob + bytes(500))
    for read in (inspect, read_volume, read_labels):
        with pytest.raises(InputError, match=told):
            read(path)


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scan.nii.gz", "w") as archive:
        archive.writestr("scan.nii", b"x")
    with pytest.raises(InputError, match=r"holds a ZIP archive, .*; unpack it, and name the image in it"):
        read_volume(tmp_path / "scan.nii.gz")


def test_what_gzip_packed_and_nobody_knows_is_to_be_unpacked(tmp_path: Path) -> None:
    for blob in (gzip.compress(bytes(range(200))), b"\x1f\x8b damaged"):
        (tmp_path / "a.mha").write_bytes(blob)
        with pytest.raises(InputError, match=r"holds data that gzip compressed, .*; unpack it with gunzip"):
            read_volume(tmp_path / "a.mha")


def test_of_a_pair_the_header_is_looked_at_and_not_the_voxels(tmp_path: Path) -> None:
    array = np.zeros((8, 7, 6), np.uint8)
    array[:, 0, 0] = list(b"NRRD0004")
    nib.save(nib.Nifti1Pair(array, AFFINE), tmp_path / "scan.hdr")
    assert read_labels(tmp_path / "scan.img").array.any()
    KINDS["scan.nrrd"][1](tmp_path / "x.nrrd")
    (tmp_path / "x.nrrd").rename(tmp_path / "scan.hdr")
    with pytest.raises(InputError, match=r"scan\.hdr: holds NRRD, .*; rename it to scan\.nrrd"):
        read_labels(tmp_path / "scan.img")


def test_segments_are_not_read_from_a_file_of_another_format(tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz", LABELS).rename(tmp_path / "scan.seg.nrrd")
    with pytest.raises(InputError, match=r"holds compressed NIfTI, .* NRRD; rename it to scan\.nii\.gz"):
        read_segments(tmp_path / "scan.seg.nrrd")


@pytest.mark.fault("reliability 5")
def test_commands_name_the_suffix_that_lies(tmp_path: Path) -> None:
    save(tmp_path / "good.nii.gz", LABELS)
    by_itk(tmp_path / "scan.nrrd")
    told = "holds NRRD, though its suffix says compressed NIfTI; rename it to scan.nrrd"
    path = (tmp_path / "scan.nrrd").rename(tmp_path / "scan.nii.gz")
    for words in (
        ("info", path),
        ("predict", path, "-m", "hippocampus", "-o", tmp_path / "out.nii.gz"),
        ("predict", f"image={path}", "-m", "hippocampus", "-o", tmp_path / "out.nii.gz"),
        ("evaluate", path, tmp_path / "good.nii.gz"),
        ("evaluate", tmp_path / "good.nii.gz", path),
        ("report", tmp_path / "good.nii.gz", path),
    ):
        assert told in refused(3, *words), words
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_folder_of_scans_named_as_dicom_is_told_what_they_are(tmp_path: Path) -> None:
    by_itk(tmp_path / "scan.nrrd")
    (tmp_path / "scan.nrrd").rename(tmp_path / "scan.dcm")
    (tmp_path / "notes.html").write_text("<!DOCTYPE html>")
    told = "scan.dcm: holds NRRD, though its suffix says DICOM; rename it to scan.nrrd"
    assert told in refused(3, "predict", tmp_path, "-m", "hippocampus", "-o", tmp_path / "out")
    assert told in refused(3, "info", tmp_path)
