"""`medseg.compare`: which of two segmentations is better. Private: the name is `medseg.compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medseg.api.options import Structures, structures_of
from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.evaluation.compare import Comparison
from medseg.evaluation.compare import compare as compare_files
from medseg.io import ReadOptions
from medseg.io.objects import is_path
from medseg.metrics.case import Tolerance


@hinted
def compare(
    a: str | Path,
    b: str | Path,
    *,
    reference: str | Path | None = None,
    structures: Structures = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    surface: bool = True,
    threads: int = 0,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    series_in: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Compare two segmentations of the same cases, against references or with each other.

    Args:
        a: a label file, or a folder of them.
        b: likewise, under the same names.
        reference: likewise; None compares A with B alone.
        structures: what the label values mean: names by value, a `StructureSet`, or a JSON file.
        ignore: value of the references' voxels that nobody labelled, which count in no number.
        tolerance_mm: of the NSD, for all structures or by name; without one there is no NSD.
        surface: whether to measure distances.
        threads: that work on it; 0 for all processors.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
        series_in: folder of the DICOM series that a segmentation or structure set refers to, or of folders
            of them, where it does not lie beside that file.
        progress: called with cases done, cases in all, and the id of the next.

    Returns:
        A `Comparison`: `sentences()`, `table_rows()`, `json()`, `csv()`, `write_page(path)`; its
        `report` has the `findings`: doubts, warnings and notes.

    Raises:
        UsageError: A and B are the same, files against folders, or no case is in common.
        InputError: a file cannot be read as labels.
        GridMismatchError: the two grids of a case differ.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg, numpy as np, pathlib, tempfile
    >>> labels = np.zeros((2, 8, 8, 8), np.uint8)
    >>> labels[0, 2:6, 2:6, 2:6], labels[1, 2:6, 2:6, 3:7] = 1, 1
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = [pathlib.Path(folder) / name for name in ("a.nii.gz", "b.nii.gz")]
    ...     for path, array in zip(files, labels):
    ...         grid = medseg.Grid(array.shape, np.eye(4))
    ...         medseg.write(path, medseg.LabelMap(array, grid))
    ...     found = medseg.compare(*files, structures={1: "liver"})
    >>> found.report.agreed[0]["liver"].metrics["dice"].value
    0.75
    """
    for source in (a, b):
        if not is_path(source):
            raise UsageError(
                f"what is compared are files or folders, not {type(source).__name__}",
                hint="measure one array against another with medseg.evaluate",
            )
    return compare_files(
        Path(a),
        Path(b),
        reference=None if reference is None else Path(reference),
        structures=structures_of(structures),
        ignore=ignore,
        tolerance_mm=tolerance_mm,
        surface=surface,
        threads=threads,
        reading=ReadOptions(
            use_form, assume_ras, fill_nan, volume, series, None if series_in is None else Path(series_in)
        ),
        progress=progress,
    )
