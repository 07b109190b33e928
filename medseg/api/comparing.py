"""`medseg.compare`: which of two segmentations is better. Private: the name is `medseg.compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medseg.api.options import Structures, structures_of
from medseg.core.keywords import hinted
from medseg.evaluation.compare import Comparison
from medseg.evaluation.compare import compare as compare_files
from medseg.io import ReadOptions
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
    threads: int = -1,
    reading: ReadOptions | None = None,
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
        threads: that work on it; -1 for all processors.
        reading: decisions that the files leave open.
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
    return compare_files(
        Path(a),
        Path(b),
        reference=None if reference is None else Path(reference),
        structures=structures_of(structures),
        ignore=ignore,
        tolerance_mm=tolerance_mm,
        surface=surface,
        threads=threads,
        reading=reading,
        progress=progress,
    )
