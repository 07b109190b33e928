"""Cases from command-line arguments: input files, names and output paths."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import InputError, MedsegError, UsageError, counted, listed
from medseg.data import bids
from medseg.data.layouts import CaseFiles, detect, read_layout, table
from medseg.data.layouts.case import plain
from medseg.data.layouts.file_roles import name_of
from medseg.data.layouts.mask_folders import is_mask_folder
from medseg.data.layouts.nnunet import stated_channels
from medseg.data.layouts.scans import cases_of, files, numbered_cases
from medseg.io import files_of, is_dicom_folder, stem_and_suffix
from medseg.io.contents import require_true_suffix
from medseg.io.formats import FORMATS
from medseg.io.names import (
    MADE_BY_US,
    PROBABILITIES,
    format_of,
    is_broken_link,
    is_no_scan,
    lists_file,
    names_image,
    require_regular,
    require_there,
    scan_of_labels,
    scan_of_result,
    without_pictures,
)

DICOM_RESULT = FORMATS[".dcm"].labels_as
FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*")
"""What makes a new name that of a file: `study_1.2` is a folder."""
ASIDE = 3
"""Files or folders left aside that are named before the rest is counted."""
Say = Callable[[str], None]
"""Takes a sentence about what was found in a folder."""


@dataclass(frozen=True)
class InputCase:
    """One subject on the command line.

    Attributes:
        source: a file, a DICOM folder, or a file per channel.
        stem: what its results are called after.
        folder: where it lies.
        of_dataset: found in a data set, which may have more channels than a model takes.
        warnings: about where its files lie, which name nobody.
    """

    source: Path | Mapping[str, Path]
    stem: str
    folder: Path
    of_dataset: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """Of its results: the input's; `.nii.gz` for DICOM, a folder or a file of frames; `.png` for JPEG."""
        if self.first.is_dir():
            return DICOM_RESULT
        found = format_of(self.first)
        return found.labels_as or (stem_and_suffix(self.first)[1] if found.is_image else DICOM_RESULT)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read: both of a pair, the slices of a DICOM folder, one or more a channel."""
        sources = tuple(self.source.values()) if isinstance(self.source, Mapping) else (self.source,)
        return tuple(file for source in sources for file in files_of(source))

    @property
    def first(self) -> Path:
        """The path to name in messages about the case."""
        return next(iter(self.source.values())) if isinstance(self.source, Mapping) else self.source

    def target(self, out: Path | None) -> Path:
        """The label file: exactly `out`, or in the folder `out`, or beside the input."""
        if out is not None and not names_folder(out):
            return out
        return (self.folder if out is None else out) / f"{self.stem}_seg{self.suffix}"

    def taking(self, channels: Sequence[str]) -> InputCase:
        """Of a dataset, the case with a model's channels alone, where it has them all; else as it is."""
        if not self.of_dataset or not isinstance(self.source, Mapping):
            return self
        files = {plain(name): file for name, file in self.source.items()}
        if not all(plain(name) in files for name in channels):
            return self
        return replace(self, source={name: files[plain(name)] for name in channels})


def find_cases(words: Sequence[str], say: Say = lambda _: None) -> tuple[InputCase, ...]:
    """Cases named by `scan.nii.gz`, `flair=a.nii.gz t1c=b.nii.gz`, a DICOM folder, or a folder of scans.

    A folder without scans of its own may be a dataset in a layout that medseg knows, or hold scans in folders
    of its own; a table lists scans. Label files are left out.

    Raises:
        UsageError: some inputs lack a channel name, or a name occurs twice.
        InputError: a path does not exist, a folder contains no scan, or its names can be read in two ways.
    """
    if not words:
        raise UsageError("no input was given", hint="give a scan, NAME=FILE for each channel, or a folder")
    pairs = [_channel(word) for word in words]
    if all(name for name, _ in pairs):
        return (_channels_case(pairs),)
    if any(name for name, _ in pairs):
        raise UsageError("some inputs lack a channel name", hint="give NAME=FILE for every channel")
    return tuple(case for _, path in pairs for case in _cases_at(path, say))


def is_batch(words: Sequence[str], cases: Sequence[InputCase]) -> bool:
    """Whether the arguments name a batch, even of one case."""
    folder = len(words) == 1 and Path(words[0]).is_dir() and cases[0].source != Path(words[0])
    return folder or len(cases) > 1


def names_folder(out: Path) -> bool:
    """Whether `-o` names a folder: one that exists, or a name without an image suffix."""
    return out.is_dir() or not format_of(out).is_image


def check_out(words: Sequence[str], out: Path | None, batch: bool) -> None:
    """Refuse an invalid output path.

    Raises:
        UsageError: a batch has no folder, `out` is a file that is not an image, or it lies in a folder
            that is read.
    """
    if batch and (out is None or not names_folder(out)):
        raise UsageError("several cases need a folder for their results", hint="give -o FOLDER")
    if out is None:
        return
    if names_folder(out) and out.exists() and not out.is_dir():
        raise UsageError(
            "is neither a folder nor the name of an image",
            source=out,
            hint="give a folder or an image name with -o",
        )
    if names_folder(out) and not out.exists() and FILE_SUFFIX.fullmatch(out.suffix):
        raise UsageError(
            f"{out.suffix} is not a format for label maps",
            source=out,
            hint=f"give a name such as {out.stem}.nii.gz, or create the folder first",
        )
    for word in words:
        if Path(word).is_dir() and out.resolve().is_relative_to(Path(word).resolve()):
            raise UsageError("is inside the input folder", source=out, hint="choose a folder outside it")


def _channel(word: str) -> tuple[str, Path]:
    """`name=path` taken apart; a path that exists as it stands is a path, equal sign or not."""
    name, sign, path = word.partition("=")
    if sign and name and Path(name).name == name and not Path(word).exists():
        return name, Path(path)
    return "", Path(word)


def _channels_case(pairs: Sequence[tuple[str, Path]]) -> InputCase:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise UsageError(f"a channel is given twice: {', '.join(names)}")
    for name, path in pairs:
        require_regular(path)
        if not path.exists():
            raise InputError(f"the file of channel {name} does not exist", source=path)
    first = pairs[0][1]
    stems = [stem_and_suffix(path)[0] for _, path in pairs]
    stem = _common_start(stems) or stems[0]
    return InputCase(dict(pairs), stem, first.parent)


def _common_start(stems: Sequence[str]) -> str:
    """The whole words that all stems begin with.

    >>> _common_start(["case-1_t1", "case-1_t1c", "case-1_t2"])
    'case-1'
    """
    parts = [re.split(r"([_. -]+)", stem) for stem in stems]
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    return "".join(column[0] for column in columns).rstrip("_. -")


def _cases_at(path: Path, say: Say) -> Sequence[InputCase]:
    require_there(path)
    if not path.is_dir():
        return _table_cases(path, say) if table.fits(path) else [_file_case(path)]
    if bids.is_root(path):
        cases = [replace(_file_case(scan), warnings=bids.misplaced(scan, path)) for scan in bids.scans(path)]
        say(f"{path.resolve().name} is read as a BIDS dataset: {counted(len(cases), 'scan')}")
        return cases
    if is_dicom_folder(path):
        _tell_aside([p for p in _entries(path) if p.is_dir() or is_no_scan(p)], path, say)
        return [_dicom_case(path)]
    entries = _entries(path)
    series = [p for p in entries if p.is_dir() and is_dicom_folder(p)]
    scans = without_pictures([*series, *(p for p in entries if lists_file(p) and _is_scan(p))])
    alone = _without_labels([p for p in scans if p not in series], say)
    numbered = [_dataset_case(case, path) for case in numbered_cases(alone, stated_channels(path.parent))]
    cases = (numbered or [_file_case(p) for p in alone]) + [_dicom_case(p) for p in series]
    if not cases and (layout := detect(path)):
        cases = [_dataset_case(case, path) for case in read_layout(path, layout, complete=False).cases]
        say(f"{path.resolve().name} is read in the layout {layout}: {counted(len(cases), 'case')}")
    elif not cases and not bids.lacks_description(path):
        found = files(path)
        cases = [_dataset_case(case, path) for case in cases_of([f for f in found if not f.is_label], path)]
        if cases:
            say(f"{path.resolve().name} is read with the folders in it: {counted(len(cases), 'case')}")
        if masks := [f.path for f in found if f.is_label and is_mask_folder(f.path)]:
            example = masks[0].relative_to(path).as_posix()
            say(f"left out: one mask a structure in {counted(len(masks), 'folder')}, such as {example}/")
    elif cases:
        _tell_aside(_passed_over(entries, cases), path, say)
    if not cases:
        for entry in entries:
            if not is_no_scan(entry):
                require_true_suffix(entry)
        seen = ", ".join(sorted({p.suffix or p.name for p in entries})[:8])
        without = bids.lacks_description(path)
        hint = f"add {bids.DESCRIPTION}, which marks a BIDS dataset" if without else None
        raise InputError(f"contains no scan (it contains: {seen or 'nothing'})", source=path, hint=hint)
    return cases


def _table_cases(path: Path, say: Say) -> list[InputCase]:
    """The scans that a table lists; its labels are not read."""
    found = read_layout(path, "table", complete=False).cases
    say(f"{path.name} is read as a table: {counted(len(found), 'case')}")
    return [_dataset_case(case, path.parent) for case in found]


def _entries(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]


def _passed_over(entries: Sequence[Path], cases: Sequence[InputCase]) -> list[Path]:
    """What of a folder is read for no case, and is neither a result of ours nor labels beside a scan."""
    read = {case.first for case in cases}
    for case in cases:
        with suppress(MedsegError):
            read.update(case.files)
    scans = {stem_and_suffix(path)[0] for path in read}
    return [p for p in entries if p not in read and not _is_of_scan(p, scans)]


def _is_of_scan(path: Path, scans: Collection[str]) -> bool:
    """Whether a file is named as a result or as labels of one of the scans."""
    stem = stem_and_suffix(path)[0]
    page = stem.removesuffix("_report") if stem.endswith("_report") else ""
    return lists_file(path) and not {scan_of_result(stem), scan_of_labels(stem), page}.isdisjoint(scans)


def _tell_aside(paths: Sequence[Path], folder: Path, say: Say) -> None:
    """Say in one line what in a folder is read for no case."""
    groups = {
        "file": [p.name for p in paths if lists_file(p)],
        "folder": [p.name for p in paths if p.is_dir()],
    }
    told = [
        f"{counted(len(names), what)} ({listed(names, most=ASIDE)})"
        for what, names in groups.items()
        if names
    ]
    if told:
        say(f"ignored in {folder.resolve().name}: {' and '.join(told)}")


def _without_labels(files: Sequence[Path], say: Say) -> list[Path]:
    """Files of a folder but labels, by their names beside those of scans; how many they were is said."""
    stems = {stem_and_suffix(path)[0] for path in files}
    labels = [
        path
        for path in files
        if scan_of_labels(stem_and_suffix(path)[0]) in stems or name_of(Path(path.name)).is_label
    ]
    if len(labels) == len(files):  # a folder of scans that are called so
        return list(files)
    if labels:
        say(f"left out: {counted(len(labels), 'label file')} beside the scans, such as {labels[0].name}")
    return [path for path in files if path not in labels]


def _dataset_case(case: CaseFiles, folder: Path) -> InputCase:
    return InputCase(case.source, case.case_id, folder, of_dataset=True)


def _file_case(path: Path) -> InputCase:
    return InputCase(path, stem_and_suffix(path)[0], path.parent)


def _dicom_case(folder: Path) -> InputCase:
    return InputCase(folder, folder.resolve().name, folder.resolve().parent)


def _is_scan(path: Path) -> bool:
    """Whether a file of a folder is read: an image, no result, and of a pair the header.

    A broken link may have led to a series or a DICOM file, whose names have no suffix.
    """
    stem, _ = stem_and_suffix(path)
    result = stem.endswith(MADE_BY_US) or PROBABILITIES in stem or format_of(path).holds_labels_only
    return (names_image(path) or (is_broken_link(path) and not is_no_scan(path))) and not result
