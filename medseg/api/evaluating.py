"""`medseg.evaluate`: predictions against references. Private: the name is `medseg.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from medseg.api.options import Structures, structures_of
from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.evaluation.evaluate import evaluate as evaluate_files
from medseg.evaluation.maps import evaluate_maps
from medseg.evaluation.result import Evaluation
from medseg.io import ReadOptions
from medseg.io.objects import Source, as_labels, is_path
from medseg.metrics.case import SurfaceMode, Tolerance
from medseg.metrics.instances import InstanceRule


class Settings(TypedDict):
    """What files and maps in memory are measured by alike."""

    structures: StructureSet | Path | None
    ignore: int | None
    tolerance_mm: Tolerance
    surface: bool
    mode: SurfaceMode | None
    protocol: str
    lesions: Sequence[str]
    instances: InstanceRule | None
    threads: int


@hinted
def evaluate(
    pred: Source,
    ref: Source,
    *,
    affine: ArrayLike | None = None,
    spacing_mm: Sequence[float] | None = None,
    structures: Structures = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    surface: bool = True,
    mode: SurfaceMode | None = None,
    protocol: str = "",
    lesions: Sequence[str] = (),
    instances: bool | InstanceRule = False,
    threads: int = -1,
    workers: int = 1,
    output: str | Path | None = None,
    images: str | Path | None = None,
    overwrite: bool = False,
    reading: ReadOptions | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Measure predictions against references: arrays, images, files, or folders of files.

    Args:
        pred: labels: an array (I, J, K), an image of nibabel or SimpleITK, a `LabelMap`, a file, or a
            folder of files.
        ref: likewise; folders go with folders, under the same names.
        affine: 4x4, voxel index to RAS+ mm, of arrays.
        spacing_mm: of the axes of arrays, instead of an affine.
        structures: what the label values mean: names by value, a `StructureSet`, or a JSON file; None takes
            what the files say, or else calls every value by its number.
        ignore: value of the references' voxels that nobody labelled, which count in no number.
        tolerance_mm: of the NSD, for all structures or by name; without one there is no NSD.
        surface: whether to measure distances.
        mode: definition of a surface, "surfel" (the default) or "voxel".
        protocol: of a challenge: "promise12", "brats2023", "brats2023-men", "brats2023-met".
        lesions: structures to measure lesion by lesion.
        instances: match the connected pieces of each structure: panoptic quality.
        threads: that work on one case; -1 for all processors.
        workers: processes that measure the files of a folder, a case each.
        output: a folder, to which everything about files is written.
        images: scans under the names of the references, for a page of each case in `output`.
        overwrite: whether another evaluation in `output` may be replaced.
        reading: decisions that the files leave open.
        progress: called with cases done, cases in all, and the id of the next.

    Returns:
        An `Evaluation`: `["liver"].dice`, `.to_pandas()`, `.cases`, `.cohort`, `.findings` (doubts, warnings,
        notes), `.json()` and `.csv()`.

    Raises:
        UsageError: settings do not go together, or an array has no affine and no spacing.
        InputError: something cannot be read as labels, or nothing holds a label.
        GridMismatchError: the two grids of a single pair differ.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np
    >>> predicted, reference = np.zeros((2, 8, 8, 8), np.uint8)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = 1, 1
    >>> scores = medseg.evaluate(predicted, reference, spacing_mm=(1.0, 1.0, 2.0), structures={1: "liver"})
    >>> scores["liver"].dice, scores["liver"].hd95_mm, scores["liver"].volume_ref_ml
    (0.75, 2.0, 0.128)
    """
    settings = Settings(
        structures=structures_of(structures),
        ignore=ignore,
        tolerance_mm=tolerance_mm,
        surface=surface,
        mode=mode,
        protocol=protocol,
        lesions=lesions,
        instances=InstanceRule() if instances is True else instances or None,
        threads=threads,
    )
    if not (is_path(pred) and is_path(ref)):
        if output is not None or images is not None:
            raise UsageError("only an evaluation of files is written to a folder", hint="leave out output=")
        maps = (_labels(side, affine, spacing_mm, reading) for side in (pred, ref))
        return evaluate_maps(*maps, **settings)
    if affine is not None or spacing_mm is not None:
        raise UsageError("files say themselves where voxels lie", hint="leave out affine= and spacing_mm=")
    return evaluate_files(
        Path(pred),
        Path(ref),
        **settings,
        workers=workers,
        out=None if output is None else Path(output),
        images=None if images is None else Path(images),
        overwrite=overwrite,
        reading=reading,
        progress=progress,
    )


def _labels(
    source: Any, affine: ArrayLike | None, spacing_mm: Sequence[float] | None, reading: ReadOptions | None
) -> LabelMap:
    """Labels of any kind; affine and spacing are of arrays alone."""
    if affine is not None and spacing_mm is not None:
        raise UsageError("affine= and spacing_mm= are two answers to one question", hint="give one")
    placed = not isinstance(source, np.ndarray) and (
        is_path(source) or any(hasattr(source, name) for name in ("grid", "affine", "GetSpacing"))
    )
    if placed:
        return as_labels(source, options=reading or ReadOptions())
    array = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    if spacing_mm is not None:
        flat = array if array.ndim == 3 else array.reshape(*array.shape, 1)
        affine = np.diag([*map(float, spacing_mm), *(1.0,) * (4 - len(spacing_mm))])
        return as_labels(flat, affine=affine)
    return as_labels(array, affine=affine)
