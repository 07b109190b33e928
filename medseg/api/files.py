"""`medseg.read` and `medseg.write`. Private: the names are those of `medseg`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from medseg.api.options import Structures, structures_of
from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.core.volume import LabelMap, Volume
from medseg.io import ReadOptions, lost_in, write_image, write_labels
from medseg.io.objects import Source, as_volume
from medseg.segmentation.label_sources import named_structures


@hinted
def read(
    source: Source | Mapping[str, Source],
    *,
    affine: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
) -> Volume:
    """A scan with its grid and channels.

    Args:
        source: a file (NIfTI, MetaImage, NRRD, MGH, DICOM, PNG, TIFF, JPEG), a folder with a DICOM series,
            an image of nibabel or SimpleITK, an array (I, J, K) or (C, I, J, K), a `Volume`; or one of
            these for each channel by name.
        affine: 4x4, voxel index to RAS+ mm, of an array.
        channels: names and order wanted; None takes what is there, one channel being called `image`.
        use_form: which of two contradicting NIfTI forms is right.
        assume_ras: take a file without orientation as RAS+ with its spacing.
        fill_nan: value for voxels that are NaN or infinite, which are refused without.
        volume: which volume of a 4D file, counted from 0.
        series: which DICOM series of a folder: its number, or its UID.

    Returns:
        `Volume` (C, I, J, K) in RAS+ mm. Integers of up to 32 bits stay what they are where nothing scales
        them; all else is float32.

    Raises:
        InputError: the file is damaged, voxels are not finite, or a channel is missing or there twice.
        GeometryError: the grid is impossible, contradictory or absent.
        UsageError: an array has no affine, or something else has one.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np
    >>> scan = medseg.read(np.zeros((4, 5, 6), np.int16), affine=np.diag([-1.0, 1.0, 2.0, 1.0]))
    >>> scan.array.shape, scan.grid.axis_codes, scan.grid.spacing_mm
    ((1, 4, 5, 6), 'LAS', (1.0, 1.0, 2.0))
    """
    options = ReadOptions(use_form, assume_ras, fill_nan, volume, series)
    return as_volume(source, affine=affine, channels=channels, options=options)


@hinted
def write(
    path: str | Path,
    image: LabelMap | Volume,
    *,
    structures: Structures = None,
    overwrite: bool = False,
) -> None:
    """Write labels or a scan on their grid, in the form of the file they belong to, and read them back.

    Args:
        path: the target; its suffix chooses the format.
        image: labels (I, J, K), or a scan (C, I, J, K); only NIfTI and pictures hold several channels.
            Integers of up to 32 bits stay what they are; all other numbers of a scan become float32.
            A picture (PNG, TIFF) holds no size, place and orientation; where `image` has them, a
            Python warning says so.
        structures: what the label values mean, for `.seg.nrrd`, which alone holds it: names by value, a
            `StructureSet`, or a JSON file.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the target exists, has no image suffix, or cannot hold such values; or it is no image with
            a grid.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: values are not finite, or what was read back differs; nothing is left at `path`.

    >>> import medseg, numpy as np, pathlib, tempfile
    >>> labels = medseg.LabelMap(np.ones((4, 5, 6), np.uint8), medseg.Grid((4, 5, 6), np.eye(4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     medseg.write(pathlib.Path(folder) / "labels.nii.gz", labels)
    ...     int(medseg.read(pathlib.Path(folder) / "labels.nii.gz").array.sum())
    120
    """
    named = structures_of(structures)
    if isinstance(image, LabelMap):
        named = named_structures(named) if isinstance(named, Path) else named
        write_labels(path, image, structures=named, overwrite=overwrite)
    elif not isinstance(image, Volume):
        raise UsageError(
            f"what is written is a LabelMap or a Volume, not {type(image).__name__}",
            hint="wrap an array: medseg.LabelMap(array, grid), or medseg.read(array, affine=...)",
        )
    elif named is not None:
        raise UsageError("structures are of labels, and a Volume is a scan", hint="leave out structures=")
    else:
        array = image.array[0] if len(image.channels) == 1 else image.array
        write_image(path, array, image.grid, form=image.form, overwrite=overwrite)
    for text in lost_in(path, image.form):
        warnings.warn(text, stacklevel=3)
