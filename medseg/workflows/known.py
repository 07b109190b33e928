"""What is known of a segmentation: names of its labels, volumes to expect, the verdict that came with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from medseg.errors import InputError
from medseg.io import ReadOptions, digest_of, read_segments
from medseg.io.names import SEGMENTATION_SUFFIX, stem_and_suffix
from medseg.metrics.counts import present_values
from medseg.model import load_model
from medseg.structures import Structure, StructureSet, Total, from_labels
from medseg.workflows.pairs import MOST_VALUES, read_side, read_structures
from medseg.workflows.predictions import read_summary, summary_path

CHANGED = (
    "The segmentation is not the one that the prediction beside it describes; what the model said of its "
    "result is left out."
)


class Known(NamedTuple):
    """What is known of a file's labels: names, smallest and largest volumes to expect, totals."""

    structures: StructureSet
    expected_ml: Mapping[str, tuple[float, float]] = MappingProxyType({})
    totals: tuple[Total, ...] = ()


def known_structures(
    seg: Path, *, model: str = "", labels: Path | None = None, reading: ReadOptions | None = None
) -> Known:
    """Names for the labels of a file, and the volumes to expect.

    They come from the model named, else from the JSON given, else from the `.json` that `predict`
    left beside the file, else from a file that holds them (`.seg.nrrd`), else every value is called by
    itself.

    Raises:
        ModelError: there is no such model.
        InputError: a file cannot be read.
    """
    if model:
        spec = load_model(model).spec
        ranges = spec.evidence.get("volumes_ml", {})
        expected = {name: (r["min"], r["max"]) for name, r in ranges.items()}
        return Known(spec.structure_set, expected, spec.totals)
    if labels is not None:
        return Known(read_structures(labels))
    if (beside := summary_path(seg)).is_file():
        return _predicted(beside)
    if stem_and_suffix(seg)[1] == SEGMENTATION_SUFFIX:
        return Known(read_segments(seg))
    values = present_values(read_side(seg, reading or ReadOptions()).array)
    if len(values) > MOST_VALUES:
        raise InputError(f"holds {len(values)} different values: an image, not labels", source=seg)
    return Known(from_labels({int(v): f"label {int(v)}" for v in values if v}))


def _predicted(summary: Path) -> Known:
    """What the `.json` of a prediction lists."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        structures = from_labels([_structure(row) for row in content["structures"]])
        totals = content.get("totals", ())
        return Known(structures, totals=tuple(Total(str(t["name"]), _values(t["values"])) for t in totals))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"names no structures ({fault!r})", source=summary) from None


class Verdict(NamedTuple):
    """What a prediction's summary says of the result.

    Attributes:
        doubts: sentences that a reader must see.
        known: whether there is a summary, and it is of this result.
    """

    doubts: tuple[str, ...] = ()
    known: bool = False


def stated_verdict(seg: Path) -> Verdict:
    """The doubts that `predict` left in the `.json` beside a file; not known where it left none."""
    stored = read_summary(summary_path(seg))
    if not stored:
        return Verdict()
    if not _fits(stored, seg):
        return Verdict((CHANGED,))
    try:
        doubts = (*stored["quality"]["reasons"], *stored.get("warnings", ()))
    except (LookupError, TypeError):
        return Verdict()
    return Verdict(tuple(str(text) for text in doubts), known=True)


def stated_intervals(seg: Path) -> dict[str, tuple[float, float]]:
    """The intervals of the volumes, in ml, that `predict` left in the `.json` beside a file, if it did.

    There are none for a result that was doubted, or that has been changed since.

    Raises:
        InputError: that file cannot be read.
    """
    summary = summary_path(seg)
    if not summary.is_file():
        return {}
    try:
        stored = json.loads(summary.read_text(encoding="utf-8"))
        if stored.get("quality", {}).get("flag") == "doubtful" or not _fits(stored, seg):
            return {}
        rows = stored["structures"]
        stated = {str(row["name"]): row["interval_ml"] for row in rows if row.get("interval_ml")}
        return {name: (float(low), float(high)) for name, (low, high) in stated.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"states no volumes ({fault!r})", source=summary) from None


def _fits(stored: Mapping[str, Any], seg: Path) -> bool:
    """Whether a summary is of this very file, as far as it says of which."""
    return stored.get("labels_sha256") is None or stored["labels_sha256"] == digest_of(seg)


def _structure(row: Mapping[str, Any]) -> Structure:
    return Structure(int(row["value"]), str(row["name"]), members=_values(row.get("members", ())))


def _values(listed: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in listed)
