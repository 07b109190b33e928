"""Known facts of a segmentation: label names, expected volumes, and the verdict of its sidecar."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet, Total, from_labels
from medseg.data.label_files import held_structures, read_structures
from medseg.findings.finding import Finding
from medseg.io import ReadOptions, digest_of
from medseg.model.file import load_model
from medseg.segmentation.sidecar import read_summary, stated_findings, structures_of, summary_path

CHANGED = Finding(
    "changed",
    "warning",
    "The segmentation differs from the one that its sidecar describes; what the model stated about its "
    "result is left out.",
)


class Known(NamedTuple):
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
) -> Known:
    """Names for the labels of a file, and the volumes to expect.

    They come from the model named, else from the JSON given, else from the `.json` that `predict`
    left beside the file. Otherwise every value that the file or its reference holds is a structure: a
    structure that the file lacks wholly is listed, and counts as missed.

    Args:
        seg: the label file.
        reference: a reference segmentation that it is measured against, if any.
        model: file or name of the model that knows the structures.
        labels: JSON with the names of the structures.

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
    return Known(held_structures([seg, *([] if reference is None else [reference])], reading))


def _predicted(summary: Path) -> Known:
    """What the `.json` of a prediction lists."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        structures = from_labels(structures_of(content))
        totals = content.get("totals", ())
        return Known(structures, totals=tuple(Total(str(t["name"]), _values(t["values"])) for t in totals))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as fault:
        raise InputError(f"names no structures ({fault!r})", source=summary) from None


class Verdict(NamedTuple):
    """The verdict on a result in a sidecar.

    Attributes:
        findings: what a reader must know.
        known: whether there is a summary, and it is of this result.
        complete: whether it states all findings; an older version of the software stated some of them.
    """

    findings: tuple[Finding, ...] = ()
    known: bool = False
    complete: bool = False


def stated_verdict(seg: Path) -> Verdict:
    """The findings that `predict` left in the `.json` beside a file; None without a sidecar."""
    stored = read_summary(summary_path(seg))
    if not stored:
        return Verdict()
    if not _fits(stored, seg):
        return Verdict((CHANGED,))
    findings = stated_findings(stored)
    return Verdict() if findings is None else Verdict(findings, known=True, complete="findings" in stored)


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
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as fault:
        raise InputError(f"states no volumes ({fault!r})", source=summary) from None


def _fits(stored: Mapping[str, Any], seg: Path) -> bool:
    """Whether a summary is of this very file, as far as it says of which."""
    return stored.get("labels_sha256") is None or stored["labels_sha256"] == digest_of(seg)


def _values(listed: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in listed)
