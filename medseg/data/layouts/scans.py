"""Scans in any usual arrangement of folders and names, whether or not labels lie beside them.

    PATIENT/scan.nii.gz                       a folder a patient, maybe with several scans
    PATIENT/t1.nii.gz, PATIENT/flair.nii.gz   several channels, by name or as NAME_0000, NAME_0001
    imagesTs/NAME_0000.nii.gz                 without a dataset.json

`files` finds both scans and labels, `scans_of` makes cases of the scans alone, and `numbered_cases` of the
files of one folder that number the channels of each case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from medseg.core.errors import InputError
from medseg.data.layouts.case import CaseFiles, entries, require_distinct, require_no_broken_links
from medseg.data.layouts.file_roles import (
    NUMBERED,
    FileName,
    channel_names,
    name_of,
    numbered_channel,
    words_of_case,
)
from medseg.data.layouts.mask_folders import with_mask_folders
from medseg.io import is_dicom_folder, stem_and_suffix
from medseg.io.dicom.series import holds_labels
from medseg.io.names import lists_file, names_image, scan_of_result, without_pictures

DEEPEST = 6
"""Levels of folders that are looked into."""

Case = TypeVar("Case")
"""What a case is known by: its name, or the words of it."""


def files(folder: Path) -> list[FileName]:
    """Scans and label files at any depth, a DICOM series by its folder, and one mask a structure by theirs.

    Results of medseg are none.
    """
    return with_mask_folders([name_of(path, folder) for path in _files(folder, 0)], folder)


def scans_of(folder: Path) -> tuple[CaseFiles, ...]:
    """The scans of a folder, each a case without labels; files that differ in a channel alone are of one.

    Raises:
        InputError: two files are one channel of one case, or two cases have one name.
    """
    return cases_of([file for file in files(folder) if not file.is_label], folder)


def cases_of(images: Sequence[FileName], folder: Path) -> tuple[CaseFiles, ...]:
    """Cases without labels, of images below a folder.

    Raises:
        InputError: see `scans_of`.
    """
    found: defaultdict[tuple[str, ...], dict[tuple[str, ...], FileName]] = defaultdict(dict)
    for image, count in zip(images, _case_lengths(images), strict=True):
        other = found[image.words[:count]].setdefault(image.words[count:], image)
        _require_same(other.path, image.path, folder)
    cases = tuple(_case(images) for images in found.values())
    require_distinct(cases, folder)
    return cases


def _case_lengths(images: Sequence[FileName]) -> list[int]:
    """How many words of each name the case; those behind name its channel.

    Numbers are of channels where a case has them all, see `_channel_counts`.
    """
    numbered = _channel_counts((image.words[:-1], image.words[-1]) for image in images if image.words)
    return [
        len(image.words) - 1 if image.words[:-1] in numbered else words_of_case(image.words)
        for image in images
    ]


def numbered_cases(files: Sequence[Path], stated: Mapping[int, str]) -> tuple[CaseFiles, ...]:
    """Cases of a folder in which every file is a channel by its number (NAME_0000); none of another folder.

    Args:
        files: the scans of one folder.
        stated: what the channels are called, by number. Where nothing states it, numbers are of channels only
            where several cases have the same of them, and more than one: else they may number the scans.

    Raises:
        InputError: two files are one channel of one case.
    """
    cut = [stem_and_suffix(path)[0].rpartition("_") for path in files]
    if not all(name and NUMBERED.fullmatch(number) for name, _, number in cut):
        return ()
    found: defaultdict[str, dict[int, Path]] = defaultdict(dict)
    for path, (name, _, number) in zip(files, cut, strict=True):
        _require_same(found[name].setdefault(int(number), path), path, path.parent)
    counts = _channel_counts((name, number) for name, _, number in cut)
    if not stated and len(counts) == len(found) > 1 and len(set(counts.values())) == 1 < max(counts.values()):
        stated = {number: numbered_channel(number) for number in range(max(counts.values()))}
    if any(number not in stated for images in found.values() for number in images):
        return ()
    return tuple(
        CaseFiles(name, next(iter(images.values())), None, name, _named(images, stated))
        for name, images in found.items()
    )


def _named(images: Mapping[int, Path], names: Mapping[int, str]) -> dict[str, Path]:
    """The files of a case's channels by name; none of a case with one."""
    return {names[number]: path for number, path in images.items()} if len(images) > 1 else {}


def _channel_counts(cut: Iterable[tuple[Case, str]]) -> dict[Case, int]:
    """How many channels each case has, where it has them all by number, from 0000.

    Args:
        cut: names, each cut into its case and its last word.
    """
    numbers: defaultdict[Case, list[int]] = defaultdict(list)
    for case, word in cut:
        if NUMBERED.fullmatch(word):
            numbers[case].append(int(word))
    return {case: len(found) for case, found in numbers.items() if sorted(found) == [*range(len(found))]}


def _require_same(other: Path, image: Path, folder: Path) -> None:
    """Refuse two files that are one channel of one case by their names."""
    if other != image:
        names = [path.relative_to(folder).as_posix() for path in (other, image)]
        raise InputError(
            f"{names[0]} and {names[1]} are the same scan by their names",
            source=folder,
            hint="rename one, or predict them one by one",
        )


def _case(images: Mapping[tuple[str, ...], FileName]) -> CaseFiles:
    """The files of one case, which is called after what they share."""
    first = next(iter(images.values()))
    length = len(next(iter(images)))
    spelt = first.spelt[: len(first.spelt) - length]
    name = "".join(spelt) or first.path.parent.name
    if len(images) == 1:
        return CaseFiles(name, first.path, None, name)
    channels = {called: images[words].path for words, called in channel_names(images).items()}
    return CaseFiles(name, next(iter(channels.values())), None, name, channels)


def _files(folder: Path, depth: int) -> Iterator[Path]:
    inner = entries(folder)
    found = [path for path in inner if lists_file(path)]
    require_no_broken_links(found)
    if is_dicom_folder(folder):
        yield folder
        yield from (path for path in found if holds_labels(path))
    else:
        images = {stem_and_suffix(path)[0]: path for path in found if names_image(path)}
        kept = [path for path in found if names_image(path) and not _is_result(path, images)]
        yield from without_pictures(kept)
        yield from (path for path in found if not names_image(path) and holds_labels(path))
    if depth < DEEPEST:
        for path in inner:
            if path.is_dir():
                yield from _files(path, depth + 1)


def _is_result(path: Path, images: Mapping[str, Path]) -> bool:
    """Whether a file is a result of ours, beside its scan: a label file with a summary, an overlay."""
    stem = stem_and_suffix(path)[0]
    if name_of(Path(stem)).is_label:
        return path.with_name(f"{stem}.json").is_file()
    return scan_of_result(stem) in images
