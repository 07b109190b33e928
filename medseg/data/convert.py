"""`medseg convert`: write a dataset in another layout, voxels and positions unchanged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from medseg.core.errors import InputError, UsageError, counted, did_you_mean
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import FileForm, LabelMap, Volume
from medseg.data.cases import read_image, read_reference
from medseg.data.layouts import About, CaseFiles, NewCase, Target, Writer, layout_of, target, targets
from medseg.data.layouts.case import TEST, group_of
from medseg.data.layouts.images import AXES
from medseg.data.source import Origin, origin
from medseg.findings.finding import gathered
from medseg.io import ReadOptions

WITHOUT_LABELS = "add --unlabelled to convert cases without labels too"


@dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
        cases: names of those written.
        labelled: how many of them have labels.
        copied: image files whose bytes were kept.
        relabelled: label values in the source's files that are others in what was written.
        renamed: cases whose name is another.
        warnings: sentences about labels that a person must see.
    """

    cases: list[str] = field(default_factory=list)
    labelled: int = 0
    copied: int = 0
    relabelled: dict[int, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def json(self) -> str:
        return json.dumps({"schema": "medseg.conversion/1", **asdict(self)}, indent=1) + "\n"


def convert(
    source: Path,
    out: Path,
    *,
    to: str,
    layout: str = "",
    axis: str = "axial",
    channels: Sequence[str] = (),
    unlabelled: bool = False,
    anonymous: bool = False,
    overwrite: bool = False,
    reading: ReadOptions | None = None,
    on_case: Callable[[int, int], None] = lambda *_: None,
) -> Conversion:
    """Write the cases of a dataset in another layout.

    Every case is read and checked: labels have the scan's grid and contain only known values. A NIfTI file
    that stays one is copied byte for byte; what is rewritten has the same voxels and the same grid,
    and nothing else of its header. Only slices (`images`) are brought to 8 bits and canonical axes.

    Args:
        source: folder of the dataset.
        out: folder to write; outside the source.
        layout: of the source: one of `source.sources`, or the name or path of a card; found by the names of
            its files where it is empty.
        to: one of `offered`.
        axis: along which `images` are cut: sagittal, coronal or axial.
        channels: which are written, in what order; all when empty.
        unlabelled: take cases without labels too, and leave missing files to their reader.
        anonymous: number the cases, and copy no file's header.
        overwrite: whether files of the same names may be replaced; others stay.
        reading: decisions that the files leave open; what needs one is rewritten.
        on_case: called after each case with its number and how many there are.

    Raises:
        UsageError: a name is unknown, `out` lies in the source or is not empty, or the layout cannot store
            such cases.
        InputError: the source is not as its layout requires, or holds a label value that is not declared.
        GridMismatchError: labels and scan have different grids.
    """
    into = _target(to)
    write = _writer(into, axis)
    _require_apart(source, out, overwrite)
    found = _origin(source, layout or layout_of(source), unlabelled, reading)
    about = _about(found, tuple(channels), to, into, anonymous)
    done = Conversion()
    names = _names(found.files.cases, into, anonymous)
    if not into.tells_groups and len({case.group for case in found.files.cases}) < len(names):
        done.warnings.append("the names no longer state which cases are of the same person")
    if tests := found.files.parts[TEST]:
        done.warnings.append(
            f"{counted(tests, 'test case')} by folder or name: what is written does not state which these are"
        )
    said: list[tuple[str, str]] = []
    table = into.values(about.structures)
    cases = _read(found, about, names, table, anonymous, done, said, on_case)
    done.copied = write(out, cases, about, overwrite=overwrite)
    done.warnings += gathered(said, len(done.cases))
    return done


def _origin(source: Path, layout: str, unlabelled: bool, reading: ReadOptions | None) -> Origin:
    """The dataset; where it lacks labels alone, its refusal says how to take it without."""
    try:
        return origin(source, layout, complete=not unlabelled, reading=reading)
    except InputError as fault:
        if not unlabelled and _lacks_labels(source, layout, reading):
            fault.hint = ", or ".join(filter(None, (fault.hint, WITHOUT_LABELS)))
        raise


def _lacks_labels(source: Path, layout: str, reading: ReadOptions | None) -> bool:
    """Whether a dataset that was refused as incomplete can be read with cases that have no labels."""
    try:
        found = origin(source, layout, complete=False, reading=reading)
    except InputError:
        return False
    return any(case.label is None for case in found.files.cases)


def _about(found: Origin, channels: tuple[str, ...], to: str, into: Target, anonymous: bool) -> About:
    """What the new data set says of itself.

    Raises:
        UsageError: a channel is not there, or the layout holds one structure and there are several.
    """
    unknown = [name for name in channels if name not in found.channels]
    if unknown:
        raise UsageError(
            f"not every case has the channel {unknown[0]!r}", hint=f"choose from {', '.join(found.channels)}"
        )
    into.require(found.structures)
    if found.structures.ignore is not None and not into.holds_ignored:
        raise UsageError(
            f"the layout {to} cannot mark the label {found.structures.ignore} as ignored",
            hint=f"choose {' or '.join(name for name, other in targets().items() if other.holds_ignored)}",
        )
    name = "dataset" if anonymous else found.name
    return About(name, found.description, channels or found.channels, found.structures, found.licence)


def offered() -> tuple[str, ...]:
    """The names of medseg's own layouts that `convert` writes."""
    return tuple(name for name, other in targets().items() if other.offered)


def _target(to: str) -> Target:
    found = target(to)
    if found is None or not found.offered:
        raise UsageError(f"{to!r} is not a layout that can be written", hint=did_you_mean(to, offered()))
    return found


def _writer(into: Target, axis: str) -> Writer:
    if axis not in AXES:
        raise UsageError(f"the axis must be {', '.join(AXES)}, not {axis!r}")
    return into.write if into.along is None else into.along(axis)


def _require_apart(source: Path, out: Path, overwrite: bool) -> None:
    """Neither folder in the other, and no file in the second; a refusal leaves folders behind."""
    here, there = source.resolve(), out.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise UsageError(
            "the output folder and the source folder overlap", source=out, hint="choose another folder"
        )
    if out.exists() and not out.is_dir():
        raise UsageError("is a file, not a folder", source=out, hint="choose another folder")
    if not overwrite and out.is_dir() and any(not path.is_dir() for path in out.rglob("*")):
        raise UsageError("is not empty", source=out, hint="add --overwrite to write into it")


def _names(cases: Sequence[CaseFiles], into: Target, anonymous: bool) -> Mapping[str, str]:
    """What each case is called: as it was, unless that hid whose it is, or nobody may know."""
    by_group: defaultdict[str, list[str]] = defaultdict(list)
    for case in cases:
        by_group[case.group].append(case.case_id)
    kept: dict[str, str] = {}
    for order, (group, members) in enumerate(by_group.items(), start=1):
        alone = len(members) == 1
        for number, case_id in enumerate(members, start=1):
            if anonymous:
                kept[case_id] = f"case_{order:03d}" + ("" if alone else f"__{number:03d}")
            elif group_of(case_id) == group or (alone and "__" not in case_id):
                kept[case_id] = case_id
            else:
                rest = case_id.removeprefix(group).lstrip("-_") or case_id
                kept[case_id] = f"{group.replace('__', '_')}__{rest}"
    names = into.names(kept)
    strange = [name for name in names.values() if Path(name).name != name or name.startswith(".")]
    if strange:
        raise UsageError(f"{strange[0]!r} cannot be a file name", hint="use --anonymous")
    if len(set(names.values())) < len(names):
        raise UsageError("two cases would have the same name", hint="use --anonymous")
    return names


def _read(
    found: Origin,
    about: About,
    names: Mapping[str, str],
    table: Mapping[int, int],
    anonymous: bool,
    done: Conversion,
    said: list[tuple[str, str]],
    on_case: Callable[[int, int], None],
) -> Iterator[NewCase]:
    """The cases, one read at a time; notes what is done with them, and what is said of their labels."""
    cases = found.files.cases
    for number, files in enumerate(cases, start=1):
        name = names[files.case_id]
        alone = files.image == files.label
        volume = None if alone else read_image(files, found.channels, about.channels)
        labels = _labels(files, about.structures)
        if labels is not None:
            _note(done, files, labels, table)
            said += [(name, text) for text in labels.warnings]
            if volume is not None:
                volume.grid.require(labels.grid, "image and labels", source=str(files.label))
        if settled := files.reading != ReadOptions():
            volume, labels = _settled(volume), _settled(labels)
        kept = {} if anonymous or alone or settled else _single_files(files, about.channels)
        yield NewCase(name, volume, labels, kept)
        done.cases.append(name)
        if name != files.case_id:
            done.renamed[files.case_id] = name
        on_case(number, len(cases))


Image = TypeVar("Image", Volume, LabelMap)


def _settled(image: Image | None) -> Image | None:
    """An image whose file will not leave open what a person has decided."""
    return None if image is None else replace(image, form=FileForm())


def _single_files(files: CaseFiles, channels: Sequence[str]) -> Mapping[str, Path]:
    """The file of each channel that has one of its own."""
    return files.channels or ({channels[0]: files.image} if len(channels) == 1 else {})


def _labels(files: CaseFiles, structures: StructureSet) -> LabelMap | None:
    """The labels of a case, every value known."""
    if files.label is None:
        return None
    labels = read_reference(files, structures)
    strange = sorted(set(value_counts(labels.array)) - {*structures.known_values, structures.ignore})
    if strange:
        raise InputError(
            f"contains the label {strange[0]}, which is not declared",
            source=files.label,
            hint="use a card that declares it",
        )
    return labels


def _note(done: Conversion, files: CaseFiles, labels: LabelMap, table: Mapping[int, int]) -> None:
    """Values of this case's label file that will be others."""
    stored = {becomes: value for value, becomes in files.relabel.items()}
    done.labelled += 1
    for value in value_counts(labels.array):
        before, after = stored.get(value, value), table.get(value, value)
        if before != after:
            done.relabelled[before] = after
