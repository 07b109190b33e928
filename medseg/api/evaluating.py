"""`medseg.evaluate`: predictions against references. Private: the name is `medseg.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike

from medseg.api.options import Structures, structures_of
from medseg.core.affine import checked_spacing
from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.evaluation.evaluate import evaluate as evaluate_files
from medseg.evaluation.maps import evaluate_maps
from medseg.evaluation.result import Evaluation
from medseg.findings.finding import Finding, refused
from medseg.io import ReadOptions
from medseg.io.objects import Source, array_of, as_labels, is_path, is_placed
from medseg.metrics.case import SurfaceMode, Tolerance
from medseg.metrics.instances import InstanceRule, Kind
from medseg.segmentation.result import Segmentation


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
    pred: Source | Segmentation,
    ref: Source | None = None,
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
    instances: bool | Kind | InstanceRule = False,
    threads: int = 0,
    workers: int = 1,
    output: str | Path | None = None,
    images: str | Path | None = None,
    overwrite: bool = False,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    series_in: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Measure predictions against references: arrays, images, files, or folders of files.

    Args:
        pred: labels: what `medseg.load()(scan)` returns, an array (I, J, K), an image of nibabel or
            SimpleITK, a `LabelMap`, a file, or a folder of files.
        ref: likewise; folders go with folders, under the same names. None where `pred` is a table that lists
            predictions and their references.
        affine: 4x4, voxel index to RAS+ mm, of arrays.
        spacing_mm: of the axes of arrays, instead of an affine.
        structures: what the label values mean: names by value, a `StructureSet`, or a JSON file; None takes
            what the files or the segmentation say, or else calls every value by its number.
        ignore: value of the references' voxels that nobody labelled, which count in no number.
        tolerance_mm: of the NSD, for all structures or by name; without one there is no NSD.
        surface: whether to measure distances.
        mode: definition of a surface, "surfel" (the default) or "voxel".
        protocol: of a challenge: "promise12", "brats2023", "brats2023-men", "brats2023-met".
        lesions: structures to measure lesion by lesion.
        instances: match single objects: panoptic quality. They are the connected "components" of each
            structure (or True), what has one of the label "values", or what has one number in the "maps" of
            instances beside files.
        threads: that work on one case; 0 for all processors.
        workers: processes that measure the files of a folder, a case each.
        output: a folder, to which everything about files is written.
        images: scans under the names of the references, for a page of each case in `output`.
        overwrite: whether another evaluation in `output` may be replaced.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
        series_in: folder of the DICOM series that a segmentation or structure set refers to, or of folders
            of them, where it does not lie beside that file.
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
    pred, structures, findings = _taken_apart(pred, structures)
    settings = Settings(
        structures=structures_of(structures),
        ignore=ignore,
        tolerance_mm=tolerance_mm,
        surface=surface,
        mode=mode,
        protocol=protocol,
        lesions=lesions,
        instances=_rule(instances),
        threads=threads,
    )
    reading = ReadOptions(
        use_form, assume_ras, fill_nan, volume, series, None if series_in is None else Path(series_in)
    )
    sides = _sides(pred, ref, affine, spacing_mm)
    if not all(map(is_path, sides)):
        if output is not None or images is not None:
            raise UsageError("only an evaluation of files is written to a folder", hint="leave out output=")
        maps = (_labels(side, affine, spacing_mm, reading) for side in sides)
        return evaluate_maps(*maps, **settings, findings=findings)
    return evaluate_files(
        *map(Path, cast("tuple[str, ...]", sides)),
        **settings,
        workers=workers,
        out=None if output is None else Path(output),
        images=None if images is None else Path(images),
        overwrite=overwrite,
        reading=reading,
        progress=progress,
    )


def _rule(instances: bool | Kind | InstanceRule) -> InstanceRule | None:
    if isinstance(instances, str):
        return InstanceRule(of=instances)
    return InstanceRule() if instances is True else instances or None


def _taken_apart(
    pred: Source | Segmentation, structures: Structures
) -> tuple[Source, Structures, tuple[Finding, ...]]:
    """Labels, what they mean, and what speaks against them, where a segmenter made them."""
    if not isinstance(pred, Segmentation):
        return pred, structures, ()
    return pred.labels, pred.structures if structures is None else structures, refused(pred.findings)


def _sides(
    pred: Source, ref: Source | None, affine: ArrayLike | None, spacing_mm: Sequence[float] | None
) -> tuple[Source, ...]:
    """What is measured against what; a table of predictions alone.

    Raises:
        UsageError: a reference is missing, or there are two answers to where voxels lie.
    """
    if ref is None and not is_path(pred):
        raise UsageError("a prediction needs a reference to be measured against", hint="give ref=")
    sources = (pred,) if ref is None else (pred, ref)
    if affine is not None and spacing_mm is not None:
        raise UsageError("affine= and spacing_mm= both say where voxels lie", hint="give one")
    if not (affine is None and spacing_mm is None) and all(map(is_placed, sources)):
        raise UsageError(
            "prediction and reference say themselves where their voxels lie",
            hint="leave out affine= and spacing_mm=",
        )
    return sources


def _labels(
    source: Any, affine: ArrayLike | None, spacing_mm: Sequence[float] | None, reading: ReadOptions
) -> LabelMap:
    """Labels of any kind; affine and spacing are of arrays alone."""
    if is_placed(source):
        return as_labels(source, options=reading)
    array = array_of(source)
    if spacing_mm is not None:
        if array.ndim not in (2, 3):
            raise UsageError(f"labels are (I, J, K) or (I, J), not {array.shape}")
        affine = np.diag([*checked_spacing(spacing_mm, array.ndim), *(1.0,) * (4 - array.ndim)])
        array = np.atleast_3d(array)
    return as_labels(array, affine=affine)
