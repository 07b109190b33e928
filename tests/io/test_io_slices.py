"""PNG, TIFF and JPEG: the values and the places other programs give them, exactly, or a refusal."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from medseg import io
from medseg.core.errors import (
    GeometryError,
    InputError,
    MedsegError,
    ResourceError,
    SelfCheckError,
    UsageError,
)
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.io import memory
from medseg.io.pictures import png, slices
from medseg.io.pictures.slices import NO_SIZE
from medseg.preparation.orient import canonical

ROWS, COLUMNS = 5, 7
AS_RAS = io.ReadOptions(assume_ras=True)
PICTURES = (".png", ".tif", ".tiff")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def pixels(dtype: Any = np.uint8, *more: int) -> np.ndarray:
    """Rows and columns of values over the whole range of a type."""
    info = np.iinfo(dtype)
    generator = np.random.default_rng(3)
    return generator.integers(info.min, info.max, (ROWS, COLUMNS, *more), dtype, endpoint=True)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bytes(columns: int, rows: int, depth: int, kind: int, lines: bytes, *between: bytes) -> bytes:
    """A PNG of unfiltered lines, each with its zero, and chunks between header and pixels."""
    header = struct.pack(">IIBBBBB", columns, rows, depth, kind, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(lines))
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(between) + data + chunk(b"IEND", b"")


def slice_grid(shape: tuple[int, int, int] = (COLUMNS, ROWS, 1)) -> Grid:
    return Grid(shape, np.eye(4))


# Images


@pytest.mark.parametrize("suffix", PICTURES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_picture_has_columns_first_and_no_size(tmp_path: Path, suffix: str, dtype: Any) -> None:
    stored = pixels(dtype)
    path = tmp_path / f"scan{suffix}"
    if suffix == ".png":
        Image.fromarray(stored).save(path, dpi=(300, 300))
    else:
        tifffile.imwrite(path, stored, resolution=(300, 300))
    volume = io.read_volume(path)
    assert volume.array.shape == (1, COLUMNS, ROWS, 1)
    assert volume.array[0, 6, 2, 0] == stored[2, 6]
    np.testing.assert_array_equal(volume.array[0, :, :, 0].T, stored)
    assert (volume.array.dtype, volume.channels, volume.warnings) == (dtype, ("image",), (NO_SIZE,))
    np.testing.assert_array_equal(volume.grid.affine, np.eye(4))
    np.testing.assert_array_equal(canonical(volume.grid).forward(volume.array), volume.array)
    info = io.inspect(path)
    assert (info.shape, info.channels, info.dtype) == ((COLUMNS, ROWS, 1), 1, np.dtype(dtype).name)
    assert (info.form.suffix, info.form.sform_code, info.form.qform_code) == (suffix, 0, 0)
    assert io.files_of(path) == (path,)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_are_channels_to_the_last_bit(tmp_path: Path, suffix: str, dtype: Any) -> None:
    stored = pixels(dtype, 3)
    path = tmp_path / f"scan{suffix}"
    if suffix == ".png":
        sitk.WriteImage(sitk.GetImageFromArray(stored, True), str(path))
    else:
        tifffile.imwrite(path, stored, photometric="rgb")
    volume = io.read_volume(path)
    assert volume.channels == ("red", "green", "blue")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array[..., 0].T, stored)
    assert io.read_volume(path, channels=("a", "b", "c")).channels == ("a", "b", "c")
    green = io.read_volume(path, options=io.ReadOptions(volume=1))
    assert green.channels == ("image",)
    np.testing.assert_array_equal(green.array[0, :, :, 0].T, stored[..., 1])
    with pytest.raises(InputError, match="has colours"):
        io.read_labels(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [2, 4])
def test_opacity_is_left_out_where_it_is_full(tmp_path: Path, suffix: str, dtype: Any, samples: int) -> None:
    path = tmp_path / f"scan{suffix}"

    def save(stored: np.ndarray) -> None:
        if suffix == ".png":
            lines = np.pad(stored.astype(stored.dtype.newbyteorder(">")).reshape(ROWS, -1).view(np.uint8),
                           ((0, 0), (1, 0)))  # fmt: skip
            kind = {2: 4, 4: 6}[samples]
            path.write_bytes(png_bytes(COLUMNS, ROWS, 8 * stored.itemsize, kind, lines.tobytes()))
        else:
            what = "rgb" if samples == 4 else "minisblack"
            tifffile.imwrite(
                path, stored, photometric=what, extrasamples=["unassalpha"], planarconfig="contig"
            )

    stored = pixels(dtype, samples)
    stored[..., -1] = np.iinfo(dtype).max
    save(stored)
    if (suffix, dtype, samples) == (".png", np.uint16, 2):
        with pytest.raises(InputError, match="16-bit grey with opacity"):
            io.read_volume(path)
        return
    volume = io.read_volume(path)
    np.testing.assert_array_equal(volume.array[..., 0].T, stored[..., :-1])
    stored[2, 3, -1] = 254
    save(stored)
    with pytest.raises(InputError, match="transparent"):
        io.read_volume(path)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_a_few_bits_keeps_its_numbers(tmp_path: Path, depth: int) -> None:
    values = np.arange(8) % 2**depth
    bits = "".join(f"{value:0{depth}b}" for value in values)
    line = b"\0" + int(bits, 2).to_bytes(depth, "big")
    path = tmp_path / "scan.png"
    path.write_bytes(png_bytes(8, 1, depth, 0, line))
    np.testing.assert_array_equal(io.read_labels(path).array[:, 0, 0], values)
    np.testing.assert_array_equal(io.read_volume(path).array[0, :, 0, 0], values)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_is_colours_of_an_image_and_numbers_of_labels(tmp_path: Path, depth: int) -> None:
    values = np.arange(8) % 2**depth
    bits = "".join(f"{value:0{depth}b}" for value in values)
    line = b"\0" + int(bits, 2).to_bytes(depth, "big")
    palette = np.random.default_rng(0).integers(0, 256, (2**depth, 3), np.uint8)
    path = tmp_path / "scan.png"
    table = chunk(b"PLTE", palette.tobytes())
    path.write_bytes(png_bytes(8, 1, depth, 3, line, table))
    np.testing.assert_array_equal(io.read_labels(path).array[:, 0, 0], values)
    assert io.inspect(path).channels == 3
    np.testing.assert_array_equal(io.read_volume(path).array[:, :, 0, 0].T, palette[values])
    path.write_bytes(png_bytes(8, 1, depth, 3, line, table, chunk(b"tRNS", b"\xff\xfe")))
    np.testing.assert_array_equal(io.read_labels(path).array[:, 0, 0], values)
    with pytest.raises(InputError, match="transparent"):
        io.read_volume(path)
    path.write_bytes(png_bytes(8, 1, depth, 3, line, chunk(b"PLTE", palette[:1].tobytes())))
    with pytest.raises(InputError, match=r"palette lacks|cannot be decoded"):
        io.read_volume(path)


def test_a_palette_of_a_tiff_too(tmp_path: Path) -> None:
    values = pixels() % 4
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=table)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "a.tif").array[..., 0].T, values)
    colours = io.read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(colours.array[..., 0].T, (table[:, values] // 257).transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
def test_pages_of_a_tiff_are_slices(tmp_path: Path, dtype: str, compression: str | None) -> None:
    if compression == "packbits":
        pytest.importorskip("imagecodecs", reason="tifffile packs bits with imagecodecs alone")
    stored = np.arange(4 * ROWS * COLUMNS).reshape(4, ROWS, COLUMNS).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="minisblack", compression=compression, byteorder=">"
    )
    volume = io.read_volume(tmp_path / "a.tif", options=AS_RAS)
    assert volume.grid.shape == (COLUMNS, ROWS, 4)
    np.testing.assert_array_equal(volume.array[0].T, stored)
    colours = np.stack([stored] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb", compression=compression)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.tif", options=AS_RAS).array[2].T, stored)


@pytest.mark.parametrize("read", [io.inspect, io.read_volume, io.read_labels])
def test_several_pages_are_a_volume_without_orientation(tmp_path: Path, read: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, ROWS, COLUMNS), np.uint8), photometric="minisblack")
    with pytest.raises(GeometryError, match=r"state no orientation; add --assume-ras"):
        read(tmp_path / "a.tif")
    found = read(tmp_path / "a.tif", options=AS_RAS)
    assert found.warnings[0] == "The file stores no orientation; RAS order was assumed, as requested."
    assert not found.form.orientation_known


@pytest.mark.parametrize(("name", "what"), [("a.tif", "A TIFF"), ("a.png", "A PNG"), ("a.nii.gz", "")])
def test_a_picture_loses_where_its_scan_lies(tmp_path: Path, name: str, what: str) -> None:
    told = f"{what} stores no size, place and orientation: the result lacks those of its scan."
    assert io.lost_in(tmp_path / name, FileForm()) == ((told,) if what else ())
    assert io.lost_in(tmp_path / name, FileForm(".png", sform_code=0, qform_code=0)) == ()


def test_channels_of_imagej_are_channels(tmp_path: Path) -> None:
    stored = np.arange(2 * 3 * ROWS * COLUMNS).reshape(2, 3, ROWS, COLUMNS).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match="3 volumes"):
        io.read_volume(tmp_path / "a.tif", options=AS_RAS)
    volume = io.read_volume(tmp_path / "a.tif", channels=("a", "b", "c"), options=AS_RAS)
    np.testing.assert_array_equal(volume.array[1, :, :, 1].T, stored[1, 1])
    tifffile.imwrite(tmp_path / "b.tif", stored, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match="axes other than pages and channels"):
        io.read_volume(tmp_path / "b.tif")


def test_a_bilevel_tiff_is_zeros_and_ones(tmp_path: Path) -> None:
    stored = pixels() > 100
    Image.fromarray(stored).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(io.read_labels(tmp_path / "a.tif").array[..., 0].T, stored)
    assert io.inspect(tmp_path / "a.tif").dtype == "uint8"


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_an_image_and_no_labels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(pixels(np.uint8, *(3,) * (mode == "RGB"))).save(path, progressive=True)
    volume = io.read_volume(path)
    with Image.open(path) as oracle:
        expected = np.asarray(oracle).reshape(ROWS, COLUMNS, -1)
    np.testing.assert_array_equal(volume.array[..., 0].T, expected)
    assert volume.form.suffix == ".png"
    with pytest.raises(InputError, match="JPEG, which changes values"):
        io.read_labels(path)
    with pytest.raises(UsageError, match="would change the values"):
        io.write_labels(tmp_path / "b.jpg", LabelMap(np.zeros((2, 2, 1), int), slice_grid((2, 2, 1))))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError):
        io.read_volume(path)


# What is refused


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_a_picture_to_be_turned_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    tags = Image.Exif()
    for orientation in (1, 6):
        tags[274] = orientation
        Image.fromarray(pixels()).save(path, exif=tags)
        if orientation == 1:
            assert io.inspect(path).shape == (COLUMNS, ROWS, 1)
            continue
        with pytest.raises(InputError, match="turns or mirrors it"):
            io.read_volume(path)


def tiff_of(path: Path, stored: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, stored, **options)
    return path


@pytest.mark.parametrize(
    ("stored", "options", "fault"),
    [
        (pixels(), {"photometric": "miniswhite"}, "its pixel type is not supported"),
        (pixels(np.uint8, 4), {"photometric": "separated"}, "its pixel type is not supported"),
        (pixels().astype(np.complex64), {"photometric": "minisblack"}, "its pixel type is not supported"),
        (pixels(np.uint8, 5), {"photometric": "rgb"}, "its pixels have 5 samples"),
    ],
)
def test_kinds_of_tiff_that_are_not_read(tmp_path: Path, stored: Any, options: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        io.read_volume(tiff_of(tmp_path / "a.tif", stored, **options))


def test_pages_that_differ_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels())
        writer.write(pixels()[:3])
    with pytest.raises(InputError, match="pages differ"):
        io.read_volume(tmp_path / "a.tif")


@pytest.mark.fault("reliability 2")
@pytest.mark.fault("reliability 3")
@pytest.mark.fault("reliability 4")
@pytest.mark.fault("reliability 6")
def test_row_2_3_4_6_no_damage_of_a_png_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels(np.uint8, 3)).save(path)
    whole = path.read_bytes()
    damaged = [whole[:-1], whole[:40], whole + b"more", b"", b"GIF89a" + whole]
    damaged += [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(8, len(whole))]
    for blob in damaged:
        path.write_bytes(blob)
        for reader in (io.read_volume, io.read_labels, io.inspect):
            with pytest.raises(InputError):
                reader(path)
    path.write_bytes(whole + bytes(300))
    np.testing.assert_array_equal(io.read_volume(path).array[..., 0].T, pixels(np.uint8, 3))


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ((0, 5, 8, 0, 0, 0, 0), InputError),
        ((7, 5, 3, 0, 0, 0, 0), InputError),
        ((7, 5, 16, 3, 0, 0, 0), InputError),
        ((7, 5, 8, 5, 0, 0, 0), InputError),
        ((7, 5, 8, 0, 1, 0, 0), InputError),
        ((9, 5, 8, 0, 0, 0, 0), InputError),
        ((7, 9, 8, 0, 0, 0, 0), InputError),
        ((30_000, 30_000, 8, 0, 0, 0, 0), ResourceError),
        ((8000, 8000, 8, 2, 0, 0, 0), InputError),
    ],
)
@pytest.mark.fault("reliability 8")
@pytest.mark.fault("reliability 9")
def test_row_8_9_headers_of_a_png_that_claim_what_cannot_be(
    tmp_path: Path, header: tuple[int, ...], fault: type
) -> None:
    lines = np.pad(pixels(), ((0, 0), (1, 0))).tobytes()
    blob = png_bytes(COLUMNS, ROWS, 8, 0, lines)
    old = chunk(b"IHDR", struct.pack(">IIBBBBB", COLUMNS, ROWS, 8, 0, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(blob.replace(old, chunk(b"IHDR", struct.pack(">IIBBBBB", *header))))
    with pytest.raises(fault):
        io.read_volume(path)


@pytest.mark.parametrize(("columns", "rows"), [(0, ROWS), (COLUMNS, 0)])
def test_a_picture_of_no_pixels_is_refused_by_its_size(tmp_path: Path, columns: int, rows: int) -> None:
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=f"claims {columns} x {rows} pixels"):
        io.read_volume(path)


def interlaced(stored: np.ndarray) -> bytes:
    """The lines of the seven passes of ISO/IEC 15948, 8.2, one after the other."""
    starts = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    lines = b""
    for row, column, down, across in starts:
        part = stored[row::down, column::across]
        lines += b"".join(b"\0" + line.tobytes() for line in part if len(line))
    return lines


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (9, 2), (16, 17)])
def test_an_interlaced_png_is_whole_or_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    rows, columns = shape
    stored = np.arange(rows * columns, dtype=np.uint8).reshape(shape)
    path = tmp_path / "a.png"
    for lines in (interlaced(stored), interlaced(stored)[:-1]):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 1))
        path.write_bytes(SIGNATURE + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
        if len(lines) == len(interlaced(stored)):
            np.testing.assert_array_equal(io.read_labels(path).array[..., 0].T, stored)
            continue
        with pytest.raises(InputError, match="truncated"):
            io.read_labels(path)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels()), Image.fromarray(pixels() // 2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animation"):
        io.read_volume(tmp_path / "a.png")


def edited(path: Path, code: int, value: int) -> None:
    """Overwrite the value of a tag of the first page."""
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[code].offset
    blob = bytearray(path.read_bytes())
    blob[at + 8 : at + 12] = value.to_bytes(4, "little")
    path.write_bytes(bytes(blob))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.fault("reliability 8")
@pytest.mark.fault("reliability 9")
def test_row_8_9_a_tiff_that_claims_more_than_it_holds(tmp_path: Path, compression: str | None) -> None:
    path = tiff_of(tmp_path / "a.tif", pixels(np.uint16), compression=compression)
    whole = path.read_bytes()
    for width, rows in ((COLUMNS, 2_000_000), (60_000, 60_000), (COLUMNS + 1, ROWS)):
        path.write_bytes(whole)
        for code, value in ((256, width), (257, rows), (278, rows)):
            edited(path, code, value)
        with pytest.raises((InputError, ResourceError)):
            io.read_volume(path)
    for at in (10, 30, len(whole) - 1) if compression else (10, 30):
        path.write_bytes(whole[:at])
        with pytest.raises(InputError):
            io.read_volume(path)


@pytest.mark.fault("reliability 8")
@pytest.mark.fault("reliability 9")
def test_row_8_9_sizes_are_judged_before_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".png", ".tif", ".jpg"):
        Image.fromarray(pixels()).save(tmp_path / f"a{suffix}")
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 100)
    for suffix in (".png", ".tif", ".jpg"):
        with pytest.raises(ResourceError):
            io.read_volume(tmp_path / f"a{suffix}")


def test_a_decoder_that_is_not_installed_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiff_of(tmp_path / "a.tif", pixels(), compression="zlib")

    def missing(self: object, *_: object, **__: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with pytest.raises(InputError, match=r"cannot be decoded.*save it again, uncompressed"):
        io.read_volume(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_random_damage_is_a_value_or_a_refusal(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels(np.uint8, 3)).save(path)
    whole, generator = path.read_bytes(), np.random.default_rng(5)
    for _ in range(150):
        blob = bytearray(whole)
        for at in generator.integers(0, len(blob), generator.integers(1, 4)):
            blob[at] = generator.integers(0, 256)
        path.write_bytes(bytes(blob))
        try:
            volume = io.read_volume(path)
        except MedsegError as fault:
            codes = (fault.exit_code,)
        else:
            codes = (0,) if volume.array.shape[1:] == volume.grid.shape else (99,)
        assert set(codes) <= {0, 3, 4, 6}


# Writing


@pytest.mark.parametrize("suffix", PICTURES)
@pytest.mark.parametrize(("high", "dtype"), [(255, "u1"), (256, "u2"), (65535, "u2")])
@pytest.mark.fault("reliability 51")
def test_row_51_labels_come_back_exactly_in_the_smallest_type(
    tmp_path: Path, suffix: str, high: int, dtype: str
) -> None:
    array = np.random.default_rng(0).integers(0, high, (COLUMNS, ROWS, 1), endpoint=True)
    array[3, 4, 0] = high
    path = tmp_path / f"a{suffix}"
    io.write_labels(path, LabelMap(array, slice_grid()))
    back = io.read_labels(path)
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, array)
    oracle = np.asarray(Image.open(path)) if suffix == ".png" else tifffile.imread(path)
    np.testing.assert_array_equal(oracle, array[..., 0].T)
    other = tmp_path / f"b{suffix}"
    io.write_labels(other, LabelMap(array, Grid(array.shape, np.diag([0.5, 2.0, 3.0, 1.0]))))
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_one_slice_comes_back(tmp_path: Path, suffix: str, dtype: Any, channels: int) -> None:
    array = pixels(dtype, channels).transpose(2, 1, 0)[..., None]
    io.write_image(tmp_path / f"a{suffix}", array, slice_grid(), form=FileForm())
    np.testing.assert_array_equal(io.read_volume(tmp_path / f"a{suffix}").array, array)
    oracle = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}")))
    np.testing.assert_array_equal(oracle.reshape(ROWS, COLUMNS, channels), array[..., 0].T)


def test_a_tiff_holds_slices_and_fractions_and_negative_labels(tmp_path: Path) -> None:
    shape = (COLUMNS, ROWS, 3)
    fractions = np.random.default_rng(0).random(shape, dtype=np.float32)
    io.write_image(tmp_path / "p.tif", fractions, slice_grid(shape), form=FileForm())
    np.testing.assert_array_equal(io.read_volume(tmp_path / "p.tif", options=AS_RAS).array[0], fractions)
    for low in (-1, -70_000):
        array = np.full(shape, low)
        io.write_labels(tmp_path / "l.tif", LabelMap(array, slice_grid(shape)), overwrite=True)
        np.testing.assert_array_equal(io.read_labels(tmp_path / "l.tif", options=AS_RAS).array, array)


@pytest.mark.parametrize(
    ("array", "error", "fault"),
    [
        (np.zeros((4, 3, 2), int), UsageError, "stores one slice, and the grid has 2"),
        (np.full((4, 3, 1), 65536), UsageError, "whole numbers from 0 to 65535"),
        (np.full((4, 3, 1), -1), UsageError, "whole numbers from 0 to 65535"),
    ],
)
def test_what_a_png_cannot_hold_is_refused(tmp_path: Path, array: Any, error: type, fault: str) -> None:
    with pytest.raises(error, match=fault):
        io.write_labels(tmp_path / "a.png", LabelMap(array, slice_grid(array.shape)))
    with pytest.raises(UsageError, match="not float32"):
        io.write_image(tmp_path / "a.png", np.zeros((4, 3, 1)), slice_grid((4, 3, 1)), form=FileForm())
    with pytest.raises(UsageError, match="1 or 3 channels, not 2"):
        io.write_image(
            tmp_path / "a.tif", np.zeros((2, 4, 3, 1), np.uint8), slice_grid((4, 3, 1)), form=FileForm()
        )
    assert list(tmp_path.iterdir()) == []


def test_a_format_is_judged_before_there_is_anything_to_write(tmp_path: Path) -> None:
    io.require_holds(tmp_path / "a.png", slice_grid())
    io.require_holds(tmp_path / "a.tif", slice_grid((4, 4, 4)))
    io.require_holds(tmp_path / "a.nii.gz", slice_grid((4, 4, 4)))
    for name in ("a.png", "a.jpg", "a.txt"):
        with pytest.raises(UsageError):
            io.require_holds(tmp_path / name, slice_grid((4, 4, 4)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("damage", ["voxel", "shape", "lost"])
@pytest.mark.fault("reliability 31")
def test_row_31_what_the_disk_changed_is_found(
    tmp_path: Path, suffix: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = slices.write

    def damaging(path: Path, array: np.ndarray, grid: Grid) -> None:
        honest(path, {"voxel": array + 1, "shape": array[:-1], "lost": array}[damage], grid)
        if damage == "lost":
            path.write_bytes(path.read_bytes()[:-20])

    monkeypatch.setattr(slices, "write", damaging)
    labels = LabelMap(np.zeros((COLUMNS, ROWS, 1), np.uint8), slice_grid())
    with pytest.raises(SelfCheckError):
        io.write_labels(tmp_path / f"a{suffix}", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", PICTURES)
def test_twice_saved_bytes_are_equal_and_hold_no_text(tmp_path: Path, suffix: str) -> None:
    labels = LabelMap(pixels().T[..., None], slice_grid())
    for name in ("a", "b"):
        io.write_labels(tmp_path / f"{name}{suffix}", labels)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    if suffix == ".png":
        assert set(png._parts(tmp_path / "a.png").chunks) == {b"IHDR", b"IDAT", b"IEND"}
    else:
        with tifffile.TiffFile(tmp_path / f"a{suffix}") as tif:
            assert not {"ImageDescription", "Software", "DateTime"} & {t.name for t in tif.pages[0].tags}


def test_a_picture_becomes_a_nifti_that_is_read(tmp_path: Path) -> None:
    io.write_labels(tmp_path / "a.png", LabelMap(pixels().T[..., None], slice_grid()))
    labels = io.read_labels(tmp_path / "a.png")
    io.write_labels(tmp_path / "a.nii.gz", labels)
    back = io.read_labels(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.grid.matches(labels.grid)


def test_slices_of_one_value_in_two_channels_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        io.write_labels(tmp_path / f"{name}.png", LabelMap(np.zeros((4, 3, 1), int), slice_grid((4, 3, 1))))
    volume = io.read_volume({"t1": tmp_path / "a.png", "t2": tmp_path / "b.png"})
    assert volume.array.shape == (2, 4, 3, 1)


# Overlays

STRUCTURES = StructureSet((Structure(1, "disc", colour="#ff0000"), Structure(2, "cup", colour="#00ff80")))


def shown(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_an_overlay_is_the_image_with_lines_just_inside_its_structures(tmp_path: Path) -> None:
    grey = np.full((1, 9, 8, 1), 77, np.uint8)
    array = np.zeros((9, 8, 1), np.uint8)
    array[1:6, 1:6], array[3, 3] = 1, 2
    image = Volume(grey, slice_grid((9, 8, 1)), ("image",))
    io.write_overlay(tmp_path / "a_overlay.png", image, LabelMap(array, image.grid), STRUCTURES)
    found = shown(tmp_path / "a_overlay.png")
    expected = np.full((8, 9, 3), 77, np.uint8)
    ring = np.zeros((8, 9), bool)
    ring[1:6, 1:6] = True
    ring[2:5, 2:5] = False
    for row, column in ((2, 3), (4, 3), (3, 2), (3, 4)):
        ring[row, column] = True
    expected[ring] = (255, 0, 0)
    expected[3, 3] = (0, 255, 128)
    np.testing.assert_array_equal(found, expected)


def test_an_overlay_shows_colours_and_stretches_other_values(tmp_path: Path) -> None:
    grid, nothing = slice_grid(), LabelMap(np.zeros((COLUMNS, ROWS, 1), int), slice_grid())
    colours = pixels(np.uint8, 3)
    image = Volume(colours.transpose(2, 1, 0)[..., None], grid, ("red", "green", "blue"))
    io.write_overlay(tmp_path / "a.png", image, nothing, STRUCTURES)
    np.testing.assert_array_equal(shown(tmp_path / "a.png"), colours)
    ramp = np.arange(35, dtype=np.float32).reshape(1, COLUMNS, ROWS, 1) * 100 - 5
    io.write_overlay(tmp_path / "b.png", Volume(ramp, grid, ("ct",)), nothing, STRUCTURES)
    found = shown(tmp_path / "b.png")
    assert (found.min(), found.max()) == (0, 255)
    assert np.array_equal(found[..., 0], found[..., 2])
    assert (np.diff(found[..., 0].T.ravel().astype(int)) > 0).all()
    io.write_overlay(tmp_path / "c.png", Volume(ramp * 0, grid, ("ct",)), nothing, STRUCTURES)
    assert not shown(tmp_path / "c.png").any()


def test_regions_lie_on_top_in_their_order_and_lines_grow_with_the_image(tmp_path: Path) -> None:
    array = np.zeros((600, 520, 1), np.uint8)
    array[100:300, 100:300], array[100:200, 100:200] = 1, 2
    image = Volume(np.zeros((1, 600, 520, 1), np.uint8), slice_grid((600, 520, 1)), ("image",))
    regions = StructureSet(
        (
            Structure(1, "whole", colour="#ff0000", members=(1, 2)),
            Structure(2, "core", colour="#0000ff", members=(2,)),
        )
    )
    io.write_overlay(tmp_path / "a.png", image, LabelMap(array, image.grid), regions)
    found = shown(tmp_path / "a.png")
    assert found[100, 150].tolist() == found[101, 150].tolist() == [0, 0, 255]
    assert found[100, 250].tolist() == [255, 0, 0]
    assert found[102, 250].tolist() == found[250, 250].tolist() == [0, 0, 0]


def test_an_overlay_that_cannot_be_is_refused(tmp_path: Path) -> None:
    image = Volume(np.zeros((1, 4, 3, 2), np.uint8), slice_grid((4, 3, 2)), ("image",))
    labels = LabelMap(np.zeros((4, 3, 2), int), image.grid)
    with pytest.raises(GeometryError, match="one slice, not 2"):
        io.write_overlay(tmp_path / "a.png", image, labels, STRUCTURES)
    with pytest.raises(UsageError, match=r"\.png"):
        io.write_overlay(tmp_path / "a.tif", image, labels, STRUCTURES)
    other = LabelMap(np.zeros((4, 3, 1), int), slice_grid((4, 3, 1)))
    with pytest.raises(GeometryError, match="image and labels"):
        io.write_overlay(tmp_path / "a.png", image, other, from_labels({1: "a"}))
    assert list(tmp_path.iterdir()) == []
