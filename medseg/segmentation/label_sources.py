"""What the values of a label file mean: by a model, by a file of names, or by their prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet, Total
from medseg.data.label_files import held_structures, read_structures
from medseg.io import ReadOptions
from medseg.model.file import load_model
from medseg.segmentation.prediction import read_summary, summary_path, usable_summary


class KnownStructures(NamedTuple):
    """What is known of a file's labels: names, smallest and largest volumes to expect, totals."""

    structures: StructureSet
    expected_ml: Mapping[str, tuple[float, float]] = MappingProxyType({})
    totals: tuple[Total, ...] = ()


def known_structures(
    seg: Path,
    *,
    reference: Path | None = None,
    model: str = "",
    labels: Path | None = None,
    reading: ReadOptions | None = None,
) -> KnownStructures:
    """Names for the labels of a file, and the volumes to expect.

    They come from the model named, else from the JSON given, else from the summary that `predict`
    left beside the file. Otherwise every value that the file or its reference holds is a structure: a
    structure that the file lacks wholly is listed, and counts as missed.

    Args:
        seg: the label file.
        reference: a reference segmentation that it is measured against, if any.
        model: file or name of the model that knows the structures.
        labels: JSON with the names of the structures.

    Raises:
        ModelError: there is no such model.
        InputError: a file cannot be read, or is a damaged summary.
    """
    if model:
        spec = load_model(model).spec
        return KnownStructures(spec.structure_set, spec.evidence.volume_ranges, spec.totals)
    if labels is not None:
        return KnownStructures(named_structures(labels))
    beside = summary_path(seg)
    if summary := read_summary(beside):
        if not summary.structures:
            raise InputError("does not name any structure", source=beside, hint="predict the scan again")
        return KnownStructures(summary.structure_set, totals=summary.totals_stated)
    return KnownStructures(held_structures([seg, *([] if reference is None else [reference])], reading))


def named_structures(path: Path) -> StructureSet:
    """Structures from a JSON file: the summary that `predict` left beside labels, or see `read_structures`.

    Raises:
        InputError, UsageError: as `read_structures`.
    """
    summary = usable_summary(path)
    return summary.structure_set if summary and summary.structures else read_structures(path)
