"""Scans in any usual arrangement of folders and names, whether or not labels lie beside them.

    PATIENT/scan.nii.gz                       a folder a patient, maybe with several scans
    PATIENT/t1.nii.gz, PATIENT/flair.nii.gz   several channels, by name or as NAME_0000, NAME_0001
    imagesTs/NAME_0000.nii.gz                 without a dataset.json

`files` finds both scans and labels, and `scans_of` makes cases of the scans alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import CaseFiles, entries, require_distinct, require_no_broken_links
from medseg.data.layouts.file_roles import NUMBERED, FileName, channel_names, name_of, words_of_case
from medseg.io import is_dicom_folder, stem_and_suffix
from medseg.io.dicom.series import holds_labels
from medseg.io.names import lists_file, names_image, scan_of_result, without_pictures

DEEPEST = 6
"""Levels of folders that are looked into."""


def files(folder: Path) -> list[FileName]:
    """Scans and label files at any depth, a DICOM series by its folder; results of medseg are none."""
    return [name_of(path, folder) for path in _files(folder, 0)]


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
        if other is not image:
            names = [file.path.relative_to(folder).as_posix() for file in (other, image)]
            raise InputError(
                f"{names[0]} and {names[1]} are the same scan by their names",
                source=folder,
                hint="rename one, or predict them one by one",
            )
    cases = tuple(_case(images) for images in found.values())
    require_distinct(cases, folder)
    return cases


def _case_lengths(images: Sequence[FileName]) -> list[int]:
    """How many words of each name the case; those behind name its channel.

    Numbers are of channels where a case has them all, from 0000.
    """
    numbers: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for image in images:
        if image.words and NUMBERED.fullmatch(image.words[-1]):
            numbers[image.words[:-1]].append(int(image.words[-1]))
    numbered = {words for words, found in numbers.items() if sorted(found) == [*range(len(found))]}
    return [
        len(image.words) - 1 if image.words[:-1] in numbered else words_of_case(image.words)
        for image in images
    ]


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
