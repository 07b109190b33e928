"""Scans with their label files, in any usual arrangement of folders and names.

    images/NAME.nii.gz and masks/NAME.nii.gz            equal names in two folders
    NAME.nii.gz and NAME_mask.nii.gz                    side by side, or NAME_seg, NAME_label, NAME_gt ...
    PATIENT/image.nii.gz and PATIENT/seg.nii.gz         a folder a patient, maybe with several scans
    PATIENT/t1.nii.gz, PATIENT/flair.nii.gz, ...        several channels, by name or as NAME_0000, NAME_0001
    imagesTr/NAME_0000.nii.gz and labelsTr/NAME.nii.gz  without a dataset.json
    PATIENT/scan.nii.gz and PATIENT/masks/liver.nii.gz  one mask a structure, see `mask_folders`
    PATIENT/*.dcm and PATIENT/RTSTRUCT.dcm              DICOM series with a structure set or segmentation

`file_roles` says what a name tells. An image belongs to the label file whose words its own begin with; what
it has beyond them names its channel. Where two readings are possible, both are told and nothing is chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import InputError, counted
from medseg.data.layouts.case import (
    TEST,
    CaseFiles,
    DatasetFiles,
    group_of,
    plain,
    require_distinct,
    require_folder,
)
from medseg.data.layouts.description import labels_beside
from medseg.data.layouts.file_roles import FileName, alike, channel_names, channel_words, name_of
from medseg.data.layouts.groups import stated_groups
from medseg.data.layouts.layout import Layout
from medseg.data.layouts.mask_folders import mask_names
from medseg.data.layouts.parts import Parts
from medseg.data.layouts.scans import cases_of, files
from medseg.io import read_segments, states_segments, stem_and_suffix
from medseg.io.dicom.series import holds_labels

UNLABELLED, WITHOUT_IMAGE = "it has no label file", "it has no image"
"""Why a file is part of no case."""

TABLE = "give a table instead: a .csv file with the columns case, image and label"
EXAMPLES = "images/NAME.nii.gz and masks/NAME.nii.gz, or NAME.nii.gz and NAME_mask.nii.gz"


@dataclass(frozen=True)
class _Found:
    """A case in the making: its label file, and its images by the words they have beyond it."""

    label: FileName
    images: Mapping[tuple[str, ...], FileName]


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The cases of a folder, and the files that were left aside.

    Args:
        folder: with scans and label files at any depth.
        complete: refuse a label file without an image, rather than leave it aside, and leave scans without
            labels aside, rather than have them as cases.

    Raises:
        InputError: there are no scans or no labels, the names can be read in two ways, cases differ in their
            channels, or with `complete` a label file has no image.
    """
    require_folder(folder)
    found = files(folder)
    labels, images = [f for f in found if f.is_label], [f for f in found if not f.is_label]
    _require_both(folder, labels, images)
    pairs, aside = _matched(folder, *alike(labels, images), complete=complete)
    if not pairs:
        raise InputError(
            f"contains {counted(len(images), 'image')} and {counted(len(labels), 'label file')}, "
            f"but no two belong together by their names, such as {_of(folder, images[0])} and "
            f"{_of(folder, labels[0])}",
            source=folder,
            hint=f"name them alike ({EXAMPLES}), or {TABLE}",
        )
    channels = _channels(folder, pairs)
    parts = Parts.of(file.path.relative_to(folder) for file in found)
    persons = _persons(pairs, parts)
    cases = tuple(
        replace(_case(case, channels, person), part=_part(case, parts, folder))
        for case, person in zip(pairs, persons, strict=True)
    )
    if not complete:
        paired = {image.path for case in pairs for image in case.images.values()}
        cases += cases_of([image for image in images if image.path not in paired], folder)
        aside = [(path, why) for path, why in aside if why != UNLABELLED]
    require_distinct(cases, folder)
    groups = stated_groups(folder, {case.case_id: case.image for case in cases})
    cases = tuple(replace(case, group=groups.get(case.case_id, case.group)) for case in cases)
    names = tuple(channels.values()) if len(channels) > 1 else ()
    stated = labels_beside(folder)
    labelled = stated.labels or segments_of(cases)
    return DatasetFiles(cases, names, labelled, "", stated.regions, stated.ignore, tuple(sorted(aside)))


def _require_both(folder: Path, labels: Sequence[FileName], images: Sequence[FileName]) -> None:
    """Refuse a folder without scans, or in which no name tells labels from scans."""
    if not labels and not images:
        raise InputError(
            "contains neither scans nor label files", source=folder, hint=f"give a folder with {EXAMPLES}"
        )
    if not images:
        raise InputError(
            f"contains {counted(len(labels), 'label file')} and no scan, such as {_of(folder, labels[0])}",
            source=folder,
            hint=f"name the scans like {EXAMPLES}; to train on label maps alone, name a card such as brain",
        )
    if labels:
        return
    apart = _alike(images)
    if apart:
        first, second = (f"{place}/" for place in apart)
        raise InputError(
            f"contains {first} and {second} with the same names: either may hold the labels of the other",
            source=folder,
            hint="rename the folder of the labels to masks",
        )
    raise InputError(
        f"contains {counted(len(images), 'image')} and no label file by its name, such as "
        f"{_of(folder, images[0])}",
        source=folder,
        hint=f"name them like {EXAMPLES}; or {TABLE}; or of label maps alone, their card: --card brain",
    )


def _alike(images: Sequence[FileName]) -> tuple[str, str] | None:
    """Two folders whose files have the same names, where no other folder holds scans."""
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for image in images:
        stems[image.path.parent].add(stem_and_suffix(image.path)[0])
    if len(stems) != 2:
        return None
    first, second = sorted(stems)
    return (first.name, second.name) if stems[first] & stems[second] else None


def _matched(
    folder: Path, labels: Sequence[FileName], images: Sequence[FileName], *, complete: bool
) -> tuple[list[_Found], list[tuple[Path, str]]]:
    """Label files with their images, and what is left aside with the reason.

    Raises:
        InputError: two label files are of one case, two images of one channel, or with `complete` a label
            file has no image.
    """
    by_words = _by_words(folder, labels)
    pairs = [(image, _label_of(image, by_words)) for image in images]
    of_label: defaultdict[Path, dict[tuple[str, ...], FileName]] = defaultdict(dict)
    aside = [(image.path, UNLABELLED) for image, label in pairs if label is None]
    for image, label in pairs:
        if label is None:
            continue
        rest = image.words[len(label.words) :]
        other = of_label[label.path].setdefault(rest, image)
        if other is not image:
            raise InputError(
                f"{_of(folder, other)} and {_of(folder, image)} are both the image of {_of(folder, label)}",
                source=folder,
                hint=f"keep one, or name their channels ({label.case_id}_t1, {label.case_id}_t2)",
            )
    for label in labels:
        if label.path not in of_label:
            if complete and of_label:
                raise InputError(
                    "has no image by its name", source=label.path, hint=f"add the image, or {TABLE}"
                )
            aside.append((label.path, WITHOUT_IMAGE))
    found = [_Found(label, of_label[label.path]) for label in labels if label.path in of_label]
    return found, aside


def _by_words(folder: Path, labels: Iterable[FileName]) -> dict[tuple[str, ...], FileName]:
    """Label files by what they are called.

    Raises:
        InputError: two are called alike.
    """
    found: dict[tuple[str, ...], FileName] = {}
    for label in labels:
        other = found.setdefault(label.words, label)
        if other is not label:
            together = other.path.parent == label.path.parent
            raise InputError(
                f"{_of(folder, other)} and {_of(folder, label)} are both labels of "
                f"{label.case_id or 'the scan'}",
                source=folder,
                hint="keep one; of masks with one structure each, put all of a case into a folder "
                "CASE/segmentations/, with the scan as CASE/image.nii.gz"
                if together
                else f"move one of the two elsewhere, or rename it where they are of two cases; or {TABLE}",
            )
    return found


def _label_of(image: FileName, labels: Mapping[tuple[str, ...], FileName]) -> FileName | None:
    """The label file whose words the image's begin with, the longest if there are several."""
    if len(labels) == 1 and () in labels:
        return labels[()]
    lengths = range(len(image.words), 0, -1)
    return next((labels[image.words[:n]] for n in lengths if image.words[:n] in labels), None)


def _channels(folder: Path, found: Sequence[_Found]) -> dict[tuple[str, ...], str]:
    """The channels of all cases, by the words of their files.

    Raises:
        InputError: cases differ in their channels, or several images may be channels or scans.
    """
    several = [case for case in found if len(case.images) > 1]
    if not several:
        return {}
    fullest = max(several, key=lambda case: len(case.images))
    wanted = list(fullest.images)
    told = all(channel_words(words) for words in wanted)
    same = len(found) > 1 and all(set(case.images) == set(wanted) for case in found) and all(wanted)
    if not told and not same:
        first, second = (image.path.name for image in list(fullest.images.values())[:2])
        raise InputError(
            f"{first} and {second} both belong to {fullest.label.path.name} by their names: they may be two "
            "channels of one scan, or one of them may be another scan without labels",
            source=_folder_of(fullest),
            hint=f"name channels like {fullest.label.case_id}_t1 and {fullest.label.case_id}_t2, move the "
            f"other scan elsewhere, or {TABLE}",
        )
    for case in found:
        lacking = [" ".join(words) for words in wanted if words not in case.images]
        more = [" ".join(words) for words in case.images if words not in wanted]
        if lacking or more:
            there = ", ".join(" ".join(words) or "an unnamed image" for words in case.images)
            raise InputError(
                f"{case.label.case_id} has {there}, and other cases have "
                f"{', '.join(' '.join(words) for words in wanted)}",
                source=_folder_of(case),
                hint="give every case the same channels, or move this one elsewhere",
            )
    return channel_names(wanted)


def _folder_of(case: _Found) -> Path:
    """Where the first image of a case lies."""
    return next(iter(case.images.values())).path.parent


def _part(found: _Found, parts: Parts, folder: Path) -> str:
    """The part of the dataset that a case is of: test where any of its files is."""
    files = (found.label, *found.images.values())
    stated = {parts.part_of(file.path.relative_to(folder)) for file in files} - {""}
    return TEST if TEST in stated else min(stated, default="")


def _persons(found: Sequence[_Found], parts: Parts) -> list[str]:
    """Whose each case is, as far as folders and names tell; empty where they do not.

    All cases below a folder are of one person, but not where the one folder without others in it has all
    cases, nor in folders such as train/. Else names that begin alike, up to the first `__`, are of one.
    """
    places = [tuple(p for p in case.label.places if not parts.stated_by(p)) for case in found]
    if len({p[:1] for p in places}) == 1 and not any(p[1:] for p in places):
        places = [()] * len(places)
    return [p[0] if p else _before_mark(case.label.path) for case, p in zip(found, places, strict=True)]


def _before_mark(path: Path) -> str:
    """The words before the first `__` of a file's name, without those of roles; empty without such a mark."""
    stem = stem_and_suffix(path)[0]
    before = group_of(stem)
    return "" if before == stem or holds_labels(path) else name_of(Path(before)).case_id


def _case(found: _Found, channels: Mapping[tuple[str, ...], str], person: str) -> CaseFiles:
    """The files of one case."""
    label = found.label
    first = next(iter(found.images.values()))
    one = len(found.images) == 1
    name = (first.case_id if one and not _is_channel(found) else label.case_id) or first.path.parent.name
    apart = {} if one else {n: found.images[words].path for words, n in channels.items()}
    image = first.path if one else next(iter(apart.values()))
    return CaseFiles(name, image, label.path, person or name, apart)


def _is_channel(found: _Found) -> bool:
    return any(channel_words(words) for words in found.images)


def segments_of(cases: Iterable[CaseFiles]) -> dict[int, str]:
    """Names of structures that label files give themselves, numbered as they first appear.

    Only where every label file names its segments, as `.seg.nrrd` and DICOM do.
    """
    names: dict[str, str] = {}
    for case in cases:
        if case.label is None or not states_segments(case.label):
            return {}
        for name in read_segments(case.label).names:
            names.setdefault(plain(name), name)
    return dict(enumerate(names.values(), start=1))


def _of(folder: Path, file: FileName) -> str:
    return file.path.relative_to(folder).as_posix()


LAYOUT = Layout(read, f"scans with label files, {EXAMPLES}", mask_names=mask_names)
