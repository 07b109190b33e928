"""`medseg.partition` and `medseg.refine`. Private: the names are those of `medseg`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.classical import partition as parts_of
from medseg.classical import refine as correcting
from medseg.core.errors import InputError, UsageError, listed
from medseg.core.keywords import hinted
from medseg.core.structures import StructureSet, unknown_values, value_counts
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.io import ReadOptions, read_label_file, read_segments, states_segments
from medseg.io.objects import Source, as_labels, as_volume, is_path, is_placed
from medseg.segmentation.prediction import read_summary, summary_path

MOST_SCRIBBLED, FEW_VALUES = 0.5, 32
"""Share of the voxels that may be scribbled with more values than that; an image has as many."""


@hinted
def partition(
    scan: Source,
    *,
    method: Literal["kmeans", "slic", "watershed", "meanshift"] = "slic",
    parts: int = 400,
    compactness: float = 0.1,
    affine: ArrayLike | None = None,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
) -> LabelMap:
    """Supervoxels: parts of a scan whose voxels are near, in mm, and of like intensity.

    Args:
        scan: of one channel; see `medseg.read`.
        method: "kmeans" of position and intensity, "slic" (connected parts), "watershed" of the gradient, or
            "meanshift", which merges the parts of "slic" that belong together.
        parts: about how many; of "meanshift", how many are merged.
        compactness: difference of intensity, as a share of their range, that counts as much as the edge of a
            part: more makes rounder parts.
        affine, use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.

    Returns:
        Numbers of the parts, from 1, on the scan's grid.

    Raises:
        MedsegError: the scan cannot be read, or a setting is out of range.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np
    >>> scan = medseg.read(np.arange(64.0).reshape(4, 4, 4), affine=np.eye(4))
    >>> int(np.max(medseg.partition(scan, method="kmeans", parts=5)))
    5
    """
    read = as_volume(scan, affine=affine, options=ReadOptions(use_form, assume_ras, fill_nan, volume, series))
    numbers = parts_of.partition(_image(read), read.grid.spacing_mm, method, parts, compactness)
    return LabelMap(numbers, read.grid, read.form, read.warnings)


@hinted
def refine(
    scan: Source,
    seeds: Source,
    *,
    method: Literal["graph_cut", "random_walker", "grow", "watershed", "levelset"] = "graph_cut",
    start: Source | None = None,
    background: int = 255,
    reach_mm: float = 10.0,
    affine: ArrayLike | None = None,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    series_in: str | Path | None = None,
) -> LabelMap:
    """Labels that follow a few scribbled voxels and the scan around them.

    Args:
        scan: of one channel; see `medseg.read`.
        seeds: scribbles on the scan's grid: label values, and 0 where nothing is scribbled.
        method: how labels spread from scribbles.
        start: labels on the scan's grid to be corrected; voxels stay whose label no scribble within reach
            denies, and those more than twice as deep in their region as the scribble. None starts from
            background.
        background: value of scribbles on the background.
        reach_mm: distance from a scribble at which labels may change.
        affine: of arrays; see `medseg.read`.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
        series_in: see `medseg.report`.

    Returns:
        Labels on the scan's grid.

    Raises:
        GridMismatchError: scribbles or start lie on another grid than the scan.
        InputError: nothing is scribbled, or a value that is no structure of the start.
        MedsegError: something cannot be read, or a setting is out of range.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np
    >>> scan, seeds = np.zeros((9, 9, 9)), np.zeros((9, 9, 9), np.uint8)
    >>> scan[2:7, 2:7, 2:7] = 1
    >>> seeds[4, 4, 4], seeds[0, 0, 0] = 1, 255
    >>> int(np.sum(medseg.refine(scan, seeds, affine=np.eye(4))))
    125
    """
    folder = None if series_in is None else Path(series_in)
    options = ReadOptions(use_form, assume_ras, fill_nan, volume, series, folder)
    read = as_volume(scan, affine=None if is_placed(scan) else affine, options=options)
    image = _image(read)
    scribbles = _labels(seeds, "scribbles", read.grid, affine, options)
    before = None if start is None else _labels(start, "start", read.grid, affine, options)
    _require_scribbles(scribbles, background, seeds, named(start), before)
    if not 0 < reach_mm < np.inf:
        raise UsageError(f"the reach of scribbles must be positive, not {reach_mm} mm")
    found = correcting.refine(
        image,
        scribbles.array,
        None if before is None else before.array,
        read.grid.spacing_mm,
        method,
        background=background,
        reach_mm=reach_mm,
    )
    said = (*read.warnings, *scribbles.warnings, *(before.warnings if before else ()))
    return LabelMap(found, read.grid, read.form, tuple(dict.fromkeys(said)))


def named(labels: Source | None) -> StructureSet | None:
    """What the values of a label file mean, by itself or its sidecar; None where neither says so.

    Raises:
        InputError: the file is damaged.
    """
    if labels is None or not is_path(labels):
        return None
    if states_segments(labels):
        return read_segments(labels)
    summary = read_summary(summary_path(Path(labels)))
    return summary.structure_set if summary and summary.structures else None


def _image(volume: Volume) -> NDArray[np.generic]:
    """The one channel (I, J, K) of a scan.

    Raises:
        InputError: it has several.
    """
    if len(volume.channels) > 1:
        raise InputError(
            f"the scan has the channels {listed(volume.channels)}, and one is needed",
            hint="choose one with --volume, or give a file that holds one",
        )
    return np.asarray(volume.array[0])


def _labels(
    source: Source, what: str, grid: Grid, affine: ArrayLike | None, options: ReadOptions
) -> LabelMap:
    """Labels that lie on the scan's grid.

    Raises:
        GridMismatchError: they lie on another one.
    """
    if is_path(source):
        read = read_label_file(Path(source), options, like=grid)
    else:
        read = as_labels(source, affine=None if is_placed(source) else affine, options=options.of_labels())
    grid.require(read.grid, f"scan and {what}", str(source) if is_path(source) else None)
    return read


def _require_scribbles(
    scribbles: LabelMap,
    background: int,
    source: Source,
    known: StructureSet | None,
    start: LabelMap | None,
) -> None:
    """Refuse scribbles that say nothing, or what the start has no name for.

    Raises:
        InputError: nothing is scribbled, or an unknown value.
        UsageError: the value of the background is that of a structure.
    """
    file = str(source) if is_path(source) else None
    counts = value_counts(scribbles.array)
    counts.pop(0, None)
    structures = set(known.known_values) if known else set()
    if (
        background <= 0
        or background in structures
        or (start is not None and (start.array == background).any())
    ):
        raise UsageError(
            f"the value {background} cannot mean background",
            hint="give --background a value above 0 that no structure has, and scribble with it",
        )
    if not counts:
        raise InputError(
            "nothing is scribbled: every voxel is 0",
            source=file,
            hint=f"mark some voxels of each structure by its value, and of the background by {background}",
        )
    share = sum(counts.values()) / scribbles.array.size
    if share > MOST_SCRIBBLED and len(counts) > FEW_VALUES:
        raise InputError(
            f"{share:.0%} of the voxels are scribbled, with {len(counts)} values, as in an image",
            source=file,
            hint="give a label map that is 0 but for what you scribbled",
        )
    unknown = {v: n for v, n in counts.items() if v < 0 or (known and v not in structures | {background})}
    if unknown:
        names = listed([f"{s.value} {s.name}" for s in known or ()])
        has = f"the start has {names}" if known else "values start at 1"
        raise InputError(unknown_values(unknown), source=file, hint=f"{has}, and {background} is background")
