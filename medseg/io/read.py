"""Reading a Volume, a LabelMap or header information from any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, counted
from medseg.core.volume import LabelMap, Volume
from medseg.io.contents import require_true_suffix
from medseg.io.dicom import series as dicom
from medseg.io.memory import out_of_memory_named
from medseg.io.names import COLOURS, format_of, require_file, stem_and_suffix
from medseg.io.options import DEFAULT, ImageInfo, ReadOptions, Stored
from medseg.io.values import image_values, label_values

Array = NDArray[np.generic]


MAX_READERS = 4
"""Channels read at the same time; most of it is decompression, which other threads do not wait for."""


def read_volume(
    source: str | Path | Mapping[str, str | Path],
    *,
    channels: Sequence[str] | None = None,
    options: ReadOptions = DEFAULT,
) -> Volume:
    """Read an image with its grid and channels.

    Args:
        source: one file, a folder with a DICOM series, or a file for each channel by name.
        channels: names and order wanted. With several files they are found by name, never by
            order; a 4D file is split in its own order. None takes what is there, a single
            channel being called `image`, and those of a colour picture red, green and blue. Where
            one channel is wanted, or a channel has a file, a picture of equal colours is grey.
        options: decisions the file leaves open.

    Returns:
        Volume (C, I, J, K) in RAS+ mm. Integers of up to 32 bits stay as stored where the file
        scales nothing; anything else is float32. Of a picture (PNG, TIFF, JPEG), I is the column,
        J the row, K the page, and a pixel is taken for 1 mm.

    Raises:
        InputError: a file is damaged or not such an image, voxels are not finite, or a channel is
            missing or there twice.
        GeometryError: the grid is impossible, contradictory or absent.
        GridMismatchError: channels lie on different grids.
        ResourceError: the image cannot fit in memory.
    """
    if isinstance(source, Mapping):
        return _read_channels({name: Path(p) for name, p in source.items()}, channels, options)
    path = Path(source)
    with out_of_memory_named(path):
        return volume_of(_reader(path).read(path, options), channels, options)


def volume_of(stored: Stored, channels: Sequence[str] | None, options: ReadOptions) -> Volume:
    """What stored voxels are as a volume, scaled and with names; see `read_volume`."""
    array, names = _volumes(stored, channels, options)
    info = stored.info
    values, warnings = image_values(array, info.slope, info.inter, options.fill_nan, info.path)
    return Volume(values, info.grid, names, info.form, info.warnings + warnings)


def read_scan(scan: Path | Mapping[str, Path], reading: ReadOptions) -> Volume:
    """`read_volume` by decisions taken for several files; a volume is chosen where a file has several.

    Args:
        scan: one file or folder, or a file for each channel by name.
        reading: the decisions.

    Raises:
        MedsegError: it cannot be read.
    """
    several = isinstance(scan, Path) and inspect(scan, options=reading).channels > 1
    return read_volume(scan, options=reading if several else replace(reading, volume=None))


def read_label_values(path: Path, options: ReadOptions = DEFAULT) -> LabelMap:
    """A label map (I, J, K) in the values that its file holds; those within 1e-3 of integers are rounded.

    Raises:
        InputError: a value is no integer, or the file is damaged or not 3D.
        GeometryError: the grid is impossible, contradictory or absent.
    """
    stored = _stored_labels(path, options)
    array, _ = _volumes(stored, None, options)
    info = stored.info
    labels, warnings = label_values(array[0], info.slope, info.inter, path)
    said = info.warnings + warnings
    return LabelMap(labels, info.grid, info.form, said, lacking=stored.lacking)  # type: ignore[arg-type]


def _stored_labels(path: Path, options: ReadOptions) -> Stored:
    """What a file holds, with no colour in the place of a label."""
    reader = _reader(path)
    exact = format_of(path).is_picture and not path.is_dir()
    stored: Stored = (reader.read_labels if exact else reader.read)(path, options)
    return stored


def inspect(path: str | Path, *, options: ReadOptions = DEFAULT) -> ImageInfo:
    """Read the header information of an image, without its voxels.

    Raises:
        InputError: the header is damaged.
        GeometryError: the grid is impossible, contradictory or absent.
    """
    path = Path(path)
    info: ImageInfo = _reader(path).describe(path, options)
    return info


def inspect_channels(
    source: Path | Mapping[str, Path], channels: Sequence[str] | None = None, options: ReadOptions = DEFAULT
) -> tuple[ImageInfo, tuple[str, ...]]:
    """What `read_volume` would make of an image, from the headers alone: of its first file, and the names.

    Args:
        source: one file, a folder with a DICOM series, or a file for each channel by name.
        channels: names and order wanted, as `read_volume` takes them.
        options: decisions the file leaves open.

    Raises:
        MedsegError: as `read_volume`, where a header tells.
    """
    if not isinstance(source, Mapping):
        info = inspect(source, options=options)
        return info, _names(info, channels, options)
    wanted = tuple(source) if channels is None else tuple(channels)
    _require_names(source, wanted)
    infos = {name: inspect(source[name], options=options) for name in wanted}
    first = infos[wanted[0]]
    for name, info in infos.items():
        _names(info, None, options)
        first.grid.require(info.grid, f"the channels {wanted[0]} and {name}", str(info.path))
    return first, wanted


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Every file the image at `path` is read from: both of a pair, the slices of a DICOM folder.

    Raises:
        InputError: the header that names the others is damaged.
    """
    path = Path(path)
    files: tuple[Path, ...] = _reader(path).files(path)
    return files


def _reader(path: Path) -> ModuleType:
    """The module that reads this kind of file."""
    if path.is_dir():
        return dicom
    found = format_of(path)
    if found.kind != "NIfTI":  # of a pair, either file may be named
        require_file(path)
    if not found.reader and dicom.is_dicom_file(path):
        return dicom
    require_true_suffix(path)
    if found.reader:
        return found.reading()
    suffix = stem_and_suffix(path)[1]
    hint = "convert it to NIfTI, MetaImage or NRRD"
    raise InputError(
        f"the suffix {suffix or '(none)'} is not a supported image format", source=path, hint=hint
    )


def _volumes(
    stored: Stored, channels: Sequence[str] | None, options: ReadOptions
) -> tuple[Array, tuple[str, ...]]:
    """The volumes wanted, (C, I, J, K), and their names."""
    info, array = stored.info, stored.array
    names = _names(info, channels, options)
    if options.volume is not None:
        return array[options.volume : options.volume + 1], names
    colours = info.names == COLOURS and len(names) == 1
    return (grey(array, info.path) if colours else array), names


def _names(info: ImageInfo, channels: Sequence[str] | None, options: ReadOptions) -> tuple[str, ...]:
    """What the volumes wanted are called, by a file's header alone."""
    there, path, given = info.channels, info.path, info.names
    if options.volume is not None:
        if options.volume >= there:
            raise InputError(f"it has volumes 0 to {there - 1}, not {options.volume}", source=path)
        there, given = 1, ()
    if channels is None and there > 1 and not given:
        raise InputError(
            f"the file holds {there} volumes, and one is needed",
            source=path,
            hint=f"name them with --channels, or choose one with --volume 0 to {there - 1}",
        )
    names = (given or ("image",)) if channels is None else tuple(channels)
    there = 1 if given == COLOURS and len(names) == 1 else there
    if len(names) != there:
        raise InputError(
            f"the file holds {counted(there, 'channel')}, and {len(names)} are needed: {', '.join(names)}",
            source=path,
            hint="give a file for each channel, as name=file",
        )
    return names


def grey(colours: Array, source: Path | None = None) -> Array:
    """The one channel (1, I, J, K) of a grey picture that was stored as colours (3, I, J, K).

    Raises:
        InputError: the colours differ.
    """
    if not all(np.array_equal(colours[0], other) for other in colours[1:]):
        raise InputError(
            "is in colour, and one grey channel is needed", source=source, hint="save it as grey"
        )
    return colours[:1]


def _read_channels(files: Mapping[str, Path], channels: Sequence[str] | None, options: ReadOptions) -> Volume:
    wanted = tuple(files) if channels is None else tuple(channels)
    _require_names(files, wanted)
    with ThreadPoolExecutor(MAX_READERS, "medseg-read") as readers:
        read = readers.map(lambda name: _read_channel(files[name], options), wanted)
        whole = joined(dict(zip(wanted, read, strict=True)), sources=files)
    scans = {name: files[name] for name in wanted if _reader(files[name]) is dicom}
    if len(scans) < 2:
        return whole
    return replace(whole, warnings=whole.warnings + dicom.require_one_patient(scans, options))


def joined(
    volumes: Mapping[str, Volume],
    channels: Sequence[str] | None = None,
    *,
    sources: Mapping[str, Path] | None = None,
) -> Volume:
    """One volume of a volume for each channel, by name; the types become float32 where they differ.

    Args:
        volumes: of one channel each, on one grid.
        channels: names and order wanted; None keeps those of `volumes`.
        sources: the files they came from, for messages.

    Raises:
        InputError: a name is missing or unknown, a volume has several channels, or two are the same image.
        GridMismatchError: they lie on different grids.
    """
    files, wanted = sources or {}, tuple(volumes) if channels is None else tuple(channels)
    _require_names(volumes, wanted)
    volumes = {name: volumes[name] for name in wanted}
    first = volumes[wanted[0]]
    for name, volume in volumes.items():
        source = str(files[name]) if name in files else None
        if len(volume.channels) != 1:
            fault = f"{name} is one channel, and the volume has {', '.join(volume.channels)}"
            raise InputError(fault, source=source)
        first.grid.require(volume.grid, f"the channels {wanted[0]} and {name}", source)
    slice_alone = 1 in first.grid.shape  # it may be empty, or grey that was stored as colours
    for one, other in () if slice_alone else combinations(wanted, 2):
        if np.array_equal(volumes[one].array, volumes[other].array):
            raise InputError(
                f"the channels {one} and {other} are the same image",
                source=files.get(other),
                hint="check the names",
            )
    dtypes = {v.array.dtype for v in volumes.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
    array = np.stack([v.array[0].astype(dtype, copy=False) for v in volumes.values()])
    warnings = tuple(f"{name}: {text}" for name, v in volumes.items() for text in v.warnings)
    return Volume(array, first.grid, wanted, first.form, warnings)


def _read_channel(path: Path, options: ReadOptions) -> Volume:
    """A file that holds one channel; a picture in colour is refused, unless its colours are equal."""
    volume = read_volume(path, options=options)
    if volume.channels != COLOURS:
        return volume
    return replace(volume, array=grey(volume.array, path), channels=("image",))


def _require_names(files: Mapping[str, object], wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in files]
    extra = [name for name in files if name not in wanted]
    if not wanted or missing or extra:
        faults = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(extra)}"] * bool(
            extra
        )
        raise InputError(
            f"the channels do not fit ({'; '.join(faults) or 'none given'}); "
            f"given {', '.join(files) or 'none'}, needed {', '.join(wanted) or 'one'}",
            hint="give a file for each channel, as name=file",
        )
