"""What the label values of an evaluation mean: as somebody says, or as they are found in the files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import InputError, MedsegError, UsageError
from medseg.io import ReadOptions
from medseg.metrics.counts import present_values
from medseg.structures import StructureSet, from_labels
from medseg.workflows import pool, protocols
from medseg.workflows.pairs import (
    MOST_VALUES,
    FilePair,
    in_predicted_values,
    read_side,
    read_structures,
    segment_names,
    stated_structures,
)
from medseg.workflows.predictions import read_summary, summary_path


@dataclass(frozen=True)
class Found:
    """The values in the files of a pair; None for a file that is not there or cannot be read."""

    reference: frozenset[int] | None
    prediction: frozenset[int] | None


def known_values(
    pairs: tuple[FilePair, ...],
    structures: StructureSet | Path | None,
    ref: Path,
    challenge: protocols.Protocol | None,
    workers: int = 1,
) -> tuple[tuple[FilePair, ...], StructureSet, tuple[str, ...]]:
    """The pairs in the values to compare, what these mean, and what is to be said of it."""
    if isinstance(structures, Path):
        structures = read_structures(structures)
    if structures is None:
        _require_values(pairs)
    elif not any(pair.relabel for pair in pairs):
        return pairs, structures, ()
    results = dict(pool.each(look, pairs, min(workers, len(pairs)), lambda _: Found(None, None)))
    looks = [results[number] for number in range(len(pairs))]
    pairs, said = in_predicted_values(pairs, {v for found in looks for v in found.prediction or ()})
    if structures is None:
        structures = _found_structures(pairs, looks, stated_structures(ref))
        if challenge and challenge.regions:
            structures = _regions(challenge, structures)
    return pairs, structures, said


def look(pair: FilePair) -> Found:
    """The label values of a pair, as they are stored; a file that is no label map has none."""
    return Found(
        *(None if path is None else _values(path, pair.reading) for path in (pair.reference, pair.prediction))
    )


def require_labels(values: Collection[int], path: Path, structures: StructureSet | None = None) -> None:
    """Refuse a file of many values that nobody named.

    Raises:
        InputError: it is a scan, by the looks of it.
    """
    unknown = set(values) - set(structures.known_values if structures else ())
    if len(unknown) > MOST_VALUES:
        raise InputError(
            f"holds {len(values)} different values: it looks like a scan, not labels",
            source=path,
            mend="give the label files; where it is one, say with --labels what each value means",
        )


def _regions(challenge: protocols.Protocol, found: StructureSet) -> StructureSet:
    """The challenge's own regions, where the files hold no other values than theirs."""
    regions = challenge.regions or StructureSet()
    strange = sorted(set(found.values) - set(regions.known_values))
    if strange:
        raise UsageError(
            f"the files hold the values {', '.join(map(str, strange))}, which {challenge.name} has not",
            mend="say with --labels what the values mean",
        )
    return regions


def _require_values(pairs: Iterable[FilePair]) -> None:
    """Refuse references that are folders of masks, which have names and no values."""
    for pair in pairs:
        if pair.reference.is_dir():
            raise UsageError(
                "is a file for each structure, and the values of the predictions have no names",
                source=pair.reference,
                mend="say with --labels what they mean",
            )


def _found_structures(
    pairs: Sequence[FilePair], looks: Sequence[Found], stated: StructureSet
) -> StructureSet:
    """Every label value of any file, named by itself where neither folder, file nor prediction names it."""
    values, paths = set[int](), list[Path]()
    for pair, found in zip(pairs, looks, strict=True):
        values.update(pair.relabel.get(value, value) for value in found.reference or ())
        values.update(found.prediction or ())
        both = (pair.reference, found.reference), (pair.prediction, found.prediction)
        paths += [path for path, held in both if path is not None and held is not None]
    if stated.are_regions and values <= set(stated.known_values):
        return stated
    named = {} if stated.are_regions else {s.value: s.name for s in stated}
    names = named | segment_names(paths) or _predicted_names(pairs)
    return from_labels({value: names.get(value, str(value)) for value in sorted(values - {0})})


def _predicted_names(pairs: Iterable[FilePair]) -> dict[int, str]:
    """What the first summary that `predict` left beside a prediction calls the values; nothing of regions."""
    stored = (read_summary(summary_path(pair.prediction)) for pair in pairs if pair.prediction is not None)
    rows: list[Any] = next((s["structures"] for s in stored if s.get("structures")), [])
    try:
        names = {int(row["value"]): str(row["name"]) for row in rows if not row.get("members")}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return names if len(names) == len(rows) == len(set(names.values())) else {}


def _values(path: Path, reading: ReadOptions) -> frozenset[int] | None:
    try:
        found = present_values(read_side(path, reading).array)
        require_labels(found, path)
    except (MedsegError, MemoryError):
        return None
    return frozenset(found)
