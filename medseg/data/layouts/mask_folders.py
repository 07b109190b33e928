"""One mask a structure, in the folders of cases: told from label files of whole cases by their names.

    PATIENT/scan.nii.gz and PATIENT/masks/liver.nii.gz, spleen.nii.gz      in a folder of label files
    images/PATIENT.nii.gz and masks/PATIENT/liver.nii.gz, spleen.nii.gz
    PATIENT/ct.nii.gz and PATIENT/liver.nii.gz, spleen.nii.gz              beside the scan

The masks of a case count as one label file, which is their folder. Names of structures recur from case to
case, and no mask is called like a scan, or after the person who drew it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import CaseFiles
from medseg.data.layouts.file_roles import IMAGE_WORDS, MODALITIES, NUMBERED, FileName, name_of
from medseg.io import is_dicom_folder, states_segments, stem_and_suffix
from medseg.io.masks import masks_in
from medseg.io.name_matching import name_key

NO_STRUCTURES = frozenset((
    "after", "annotator", "axial", "baseline", "before", "coronal", "expert", "final", "followup", "new",
    "observer", "old", "post", "pre", "rater", "reader", "sagittal", "visit",
))  # fmt: skip
"""Words that say when a scan was made, how it lies, or who drew a label file, and name no structure."""

_SERIES = frozenset((
    "acq", "acquisition", "day", "echo", "frame", "month", "patient", "phase", "run", "scan", "sequence",
    "series", "session", "slice", "study", "subject", "time", "timepoint", "volume", "week", "year",
))  # fmt: skip
"""Words that number scans: with a number they name no structure, where a word such as vertebra1 does."""

_NUMBERED_WORD = re.compile(r"([a-z]{3,})\d+")

Words = tuple[str, ...]


def with_mask_folders(found: Sequence[FileName], root: Path) -> list[FileName]:
    """The files of a dataset, where the folder of a case's masks stands for them as its label file.

    Args:
        found: scans and label files.
        root: of the dataset.
    """
    inside: defaultdict[Path, list[FileName]] = defaultdict(list)
    for file in found:
        inside[file.path.parent].append(file)
    names = _Names.of(found)
    told = (
        _masks(name_of(folder, root), files, names)
        for folder, files in inside.items()
        if root in folder.parents
    )
    kept = _recurring([masks for masks in told if masks is not None])
    held = {path for masks in kept for path in masks.named}
    folders = [replace(masks.folder, is_label=True) for masks in kept]
    return [file for file in found if file.path not in held] + folders


def is_mask_folder(label: Path | None) -> bool:
    """Whether what a case has for labels is a folder of masks."""
    return label is not None and label.is_dir() and not is_dicom_folder(label)


def mask_names(cases: Iterable[CaseFiles]) -> tuple[str, ...]:
    """Names of the structures that any case has a mask of, in alphabetical order; none of other label files.

    Raises:
        InputError: some cases have label files, and others folders of masks.
    """
    labelled = [case for case in cases if case.label is not None]
    folders = [case for case in labelled if is_mask_folder(case.label)]
    if folders and len(folders) < len(labelled):
        whole = next(case for case in labelled if case not in folders)
        raise InputError(
            f"is a label file, and {folders[0].label} a folder with a mask for each structure",
            source=whole.label,
            hint="give every case the one or the other",
        )
    names: dict[str, str] = {}
    for case in folders:
        for key, path in masks_in(case.label or Path()).items():
            if path not in (case.image, *case.channels.values()):
                names.setdefault(key, stem_and_suffix(path)[0])
    return tuple(sorted(names.values()))


@dataclass(frozen=True)
class _Names:
    """What files are called.

    Attributes:
        rests: of the words that names of images begin with, what each of these has beyond them.
        labels: how many label files have these words.
    """

    rests: dict[Words, list[Words]]
    labels: Counter[Words]

    @classmethod
    def of(cls, found: Iterable[FileName]) -> _Names:
        rests: defaultdict[Words, list[Words]] = defaultdict(list)
        for image in found:
            if not image.is_label:
                for n in range(len(image.words) + 1):
                    rests[image.words[:n]].append(image.words[n:])
        return cls(rests, Counter(file.words for file in found if file.is_label))

    def are_of_one_case(self, words: Words) -> bool:
        """Whether all images that begin with these words are of one case: one image, or several channels."""
        rests = self.rests.get(words, [])
        return len(rests) == 1 or (bool(rests) and all(rest and set(rest) <= MODALITIES for rest in rests))


@dataclass(frozen=True)
class _Masks:
    """The masks of a folder: what each names, by its path."""

    folder: FileName
    named: dict[Path, str]


def _masks(folder: FileName, files: Sequence[FileName], names: _Names) -> _Masks | None:
    """The masks of a folder; None where it holds anything but masks, and maybe their scan."""
    if any(file.path.is_dir() or states_segments(file.path) for file in files):
        return None
    own = {file.path: file.words[len(folder.words) :] for file in files}
    named = {path: name_key(stem_and_suffix(path)[0]) for path in own if _name_structure(own[path])}
    if folder.is_label:
        alone = not any(file.words in names.rests for file in files)
        whole = len(named) == len(files) and alone and names.are_of_one_case(folder.words)
    else:
        scans = [file for file in files if not file.is_label and set(own[file.path]) <= MODALITIES]
        whole = bool(scans) and len(named) + len(scans) == len(files) and not names.labels[folder.words]
    return _Masks(folder, named) if whole and named else None


def _name_structure(words: Words) -> bool:
    """Whether the words of a mask beyond those of its folder may name a structure."""
    return (
        any(word.isalpha() or _numbers_structures(word) for word in words)
        and not any(word in MODALITIES or NUMBERED.fullmatch(word) for word in words)
        and not any(word.rstrip("0123456789") in NO_STRUCTURES for word in words)
    )


def _numbers_structures(word: str) -> bool:
    """Whether a word is like vertebra1, and not like scan1."""
    found = _NUMBERED_WORD.fullmatch(word)
    return found is not None and found[1] not in _SERIES | IMAGE_WORDS


def _recurring(found: Sequence[_Masks]) -> list[_Masks]:
    """The folders of masks whose names recur; one alone counts where it is a folder of label files."""
    if max((len(masks.named) for masks in found), default=0) < 2:
        return []
    if len(found) == 1:
        return [masks for masks in found if masks.folder.is_label]
    counts = Counter(name for masks in found for name in {*masks.named.values()})
    return [masks for masks in found if any(counts[name] > 1 for name in masks.named.values())]
