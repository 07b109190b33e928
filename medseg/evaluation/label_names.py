"""Names of the label values of an evaluation, as given or as found in the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import InputError, MedsegError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.data.label_files import label_values, segment_names
from medseg.evaluation import pool, protocols
from medseg.evaluation.pairs import FilePair, in_predicted_values, stated_structures
from medseg.io import ReadOptions, read_label_file, read_segments
from medseg.io.dicom.series import holds_labels
from medseg.io.masks import masks_in
from medseg.io.name_matching import name_key
from medseg.io.names import stem_and_suffix
from medseg.segmentation.label_sources import named_structures
from medseg.segmentation.prediction import summary_path, usable_summary


@dataclass(frozen=True)
class Found:
    """The values in the files of a pair; None for a file that is not there or cannot be read.

    Attributes:
        reference, prediction: of each file.
        unreadable: one that is there cannot be read.
    """

    reference: frozenset[int] | None
    prediction: frozenset[int] | None
    unreadable: bool = False


def known_values(
    pairs: tuple[FilePair, ...],
    structures: StructureSet | Path | None,
    ref: Path,
    challenge: protocols.Protocol | None,
    workers: int = 1,
) -> tuple[tuple[FilePair, ...], StructureSet, tuple[str, ...]]:
    """The pairs in the values to compare, what these mean, and messages about them.

    Raises:
        InputError: no file holds a label and nobody says what to measure.
    """
    if isinstance(structures, Path):
        structures = _in_predicted_colours(named_structures(structures), pairs)
    if structures is None and (nameless := _without_values(pairs)):
        structures = _named_structures(pairs, nameless[0])
    if structures is not None and not any(pair.relabel for pair in pairs):
        return pairs, structures, ()
    lost = Found(None, None, unreadable=True)
    results = dict(pool.each(look, pairs, min(workers, len(pairs)), lambda _: lost))
    looks = [results[number] for number in range(len(pairs))]
    pairs, said = in_predicted_values(pairs, {v for found in looks for v in found.prediction or ()})
    if structures is None:
        structures = _found_structures(pairs, looks, stated_structures(ref))
        if not any(found.unreadable for found in looks):
            require_some(structures, ref)
        if challenge and challenge.regions:
            structures = _regions(challenge, structures)
        structures = _in_predicted_colours(structures, pairs)
    return pairs, structures, said


def look(pair: FilePair) -> Found:
    """The label values of a pair, as they are stored; a file that is no label map has none."""
    reference = _values(pair.reference, pair.reading)
    prediction = None if pair.prediction is None else _values(pair.prediction, pair.reading)
    unreadable = reference is None or (prediction is None and pair.prediction is not None)
    return Found(reference, prediction, unreadable)


def require_some(structures: StructureSet, source: Path) -> None:
    """Refuse label maps without a label, of which nothing can be measured.

    Raises:
        InputError: there is no structure.
    """
    if not len(structures):
        raise InputError(
            "neither the references nor the predictions contain a label, so there is nothing to measure",
            source=source,
            hint="check the files; if they are right, define the structures with --labels",
        )


def ignoring(structures: StructureSet, value: int) -> tuple[StructureSet, tuple[str, ...]]:
    """The structures without one that has the value to be ignored, and a warning where that has a name.

    Raises:
        UsageError: a region has it, or no other structure is left.
    """
    kept = tuple(s for s in structures if s.members or s.value != value)
    if not kept:
        raise UsageError(f"no label remains to measure when {value} is ignored", hint="check --ignore")
    named = [s.name for s in structures if s not in kept and s.name not in (str(value), f"label {value}")]
    said = (f"the value to ignore, {value}, is the structure {name}, which is not measured" for name in named)
    return StructureSet(kept, value), tuple(said)


def of_one_kind(structures: StructureSet) -> StructureSet:
    """One structure of all values, each of which is an instance of it."""
    whole = Structure(1, "object", members=structures.label_values)
    return StructureSet((whole,), structures.ignore)


def _regions(challenge: protocols.Protocol, found: StructureSet) -> StructureSet:
    """The challenge's own regions, where the files hold no other values than theirs."""
    regions = challenge.regions or StructureSet()
    strange = sorted(set(found.values) - set(regions.known_values))
    if strange:
        raise UsageError(
            f"the files hold the values {', '.join(map(str, strange))}, which {challenge.name} does "
            "not define",
            hint="define the values with --labels",
        )
    return regions


def _without_values(pairs: Iterable[FilePair]) -> list[Path]:
    """Folders of masks and DICOM structure sets, which have names and no values."""
    paths = [path for pair in pairs for path in (pair.reference, pair.prediction) if path is not None]
    return [path for path in paths if path.is_dir() or holds_labels(path)]


def _named_structures(pairs: Sequence[FilePair], nameless: Path) -> StructureSet:
    """The structures of files that have names and no values, by what predictions or all files call them.

    Raises:
        UsageError: the values of the others have no names.
    """
    if names := _predicted_names(pairs):
        return from_labels(names)
    paths = [path for pair in pairs for path in (pair.reference, pair.prediction) if path is not None]
    if all(path.is_dir() or holds_labels(path) for path in paths):
        known = {name_key(name) for pair in pairs for name in _names_in(pair.reference)}
        found: dict[str, str] = {}
        for name in (name for path in paths for name in _names_in(path)):
            found.setdefault(name_key(name), name)
        # Where masks overlap the later one counts, so what no reference has comes first.
        order = sorted(found, key=known.__contains__)
        return from_labels({number: found[key] for number, key in enumerate(order, start=1)})
    raise UsageError(
        "contains structures by name, and the values of the other files have no names",
        source=nameless,
        hint="define them with --labels",
    )


def _names_in(path: Path) -> tuple[str, ...]:
    """Of the masks of a folder, or the segments of a file."""
    if path.is_dir():
        return tuple(stem_and_suffix(mask)[0] for mask in masks_in(path).values())
    return read_segments(path).names


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
    values.discard(stated.ignore if stated.ignore is not None else 0)
    if stated.are_regions and values <= set(stated.known_values):
        return stated
    named = {} if stated.are_regions else {s.value: s.name for s in stated}
    names = named | segment_names(paths) or _predicted_names(pairs)
    found_names = {value: names.get(value, str(value)) for value in sorted(values - {0})}
    return from_labels(found_names, stated.ignore)


def _predicted(pairs: Iterable[FilePair]) -> dict[int, Structure]:
    """The structures of the first summary that `predict` left beside a prediction, by value."""
    stored = (usable_summary(summary_path(pair.prediction)) for pair in pairs if pair.prediction is not None)
    return next(
        ({s.value: s for s in summary.listed} for summary in stored if summary and summary.listed), {}
    )


def _predicted_names(pairs: Iterable[FilePair]) -> dict[int, str]:
    """What that summary calls the values; nothing of regions."""
    found = _predicted(pairs)
    return {} if any(s.members for s in found.values()) else {value: s.name for value, s in found.items()}


def _in_predicted_colours(structures: StructureSet, pairs: Iterable[FilePair]) -> StructureSet:
    """The structures in the colours that the pages of the predictions have, where these have their names."""
    predicted = {s.name: s.colour for s in _predicted(pairs).values() if s.colour}
    coloured = (replace(s, colour=predicted.get(s.name, s.colour)) for s in structures)
    return replace(structures, items=tuple(coloured))


def _values(path: Path, reading: ReadOptions) -> frozenset[int] | None:
    try:
        found = label_values(read_label_file(path, reading).array, path)
    except (MedsegError, MemoryError):
        return None
    return frozenset(found)
