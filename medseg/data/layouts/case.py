"""A case on disk, and what a folder of cases states about itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import InputError, counted
from medseg.core.structures import Structure
from medseg.core.volume import LabelMap
from medseg.io import ReadOptions, stem_and_suffix
from medseg.io.names import (
    BROKEN_LINK,
    MEND_LINK,
    is_broken_link,
    is_no_scan,
    lists_file,
    names_image,
    require_regular,
    scan_of_result,
)


@dataclass(frozen=True)
class CaseFiles:
    """One subject: its image, maybe its labels, and the group it must stay with.

    Of a label map without an image, both are the map.

    Attributes:
        case_id: its name.
        image: the file with all channels, or the first of them.
        label: the label map.
        group: of the cases of one person.
        channels: a file for each channel by name, where they lie apart.
        relabel: values of the label file that stand for others, where a layout has another convention.
        reading: decisions that its files leave open.
        drawn: makes the label map, where `label` is a list of outlines in many images.
        part: of the dataset, as names state it: train, validation or test; empty where they do not.
    """

    case_id: str
    image: Path
    label: Path | None
    group: str
    channels: Mapping[str, Path] = field(default_factory=dict)
    relabel: Mapping[int, int] = field(default_factory=dict)
    reading: ReadOptions = ReadOptions()
    part: str = ""
    drawn: Callable[[], LabelMap] | None = None

    @property
    def source(self) -> Path | Mapping[str, Path]:
        """What `read_volume` takes."""
        return self.channels or self.image


@dataclass(frozen=True)
class DatasetFiles:
    """The cases of a folder, with the channel, label and region names the folder itself states.

    `ignore` is the label value of unlabelled voxels, where it states one; `aside` lists files that
    are part of no case, each with the reason.
    """

    cases: tuple[CaseFiles, ...]
    channels: tuple[str, ...]
    labels: dict[int, str]
    licence: str = ""
    regions: tuple[Structure, ...] = ()
    ignore: int | None = None
    aside: tuple[tuple[Path, str], ...] = ()

    @property
    def parts(self) -> Counter[str]:
        """How many cases each part has that names state."""
        return Counter(case.part for case in self.cases if case.part)

    @property
    def left_aside(self) -> tuple[str, ...]:
        """A sentence on each reason for which files are part of no case."""
        first: dict[str, Path] = {}
        for path, why in self.aside:
            first.setdefault(why, path)
        count = Counter(why for _, why in self.aside)
        return tuple(f"{counted(count[why], 'file')}, such as {path}: {why}" for why, path in first.items())

    def for_training(self) -> DatasetFiles:
        """The dataset without its test cases, which no training sees, and which are left aside.

        Raises:
            InputError: there are no others.
        """
        kept = tuple(case for case in self.cases if case.part != TEST)
        tests = [case.image for case in self.cases if case.part == TEST]
        if not kept:
            raise InputError(
                "is a test case by its folder, as every case is, and no training sees those",
                source=tests[0],
                hint="give the folder of the test cases itself to train on them",
            )
        return replace(self, cases=kept, aside=(*self.aside, *((image, OF_TEST) for image in tests)))

    def read_with(self, reading: ReadOptions) -> DatasetFiles:
        """The same cases, whose files are read as `reading` says."""
        return replace(self, cases=tuple(replace(case, reading=reading) for case in self.cases))


TEST = "test"
"""The part of a dataset that no training sees."""

OF_TEST = "it is a test case by its folder or name, which no training sees"
"""Why a case is left aside."""

INCOMPLETE = "add the missing file, or move the other one elsewhere"


def group_of(name: str) -> str:
    """The person of a case: the part of its name before the first `__`.

    >>> group_of("anna__slice003"), group_of("anna_left")
    ('anna', 'anna_left')
    """
    return name.partition("__")[0] or name


def plain(name: str) -> str:
    """A name without what people spell in different ways.

    >>> plain("Left-Kidney") == plain("left_kidney")
    True
    """
    return "".join(c for c in name.lower() if c.isalnum())


def require_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises:
        InputError: there is nothing of that name, or a file.
    """
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise InputError(fault, source=folder, hint="check the path")


def inside(folder: Path, name: str, lister: str, *, complete: bool) -> Path:
    """The path of a file that the file `lister` of a folder names.

    A link in the folder may lead anywhere, for whoever owns the folder made it; a name may not.

    Raises:
        InputError: its name leads out of the folder; with `complete`, it is not there.
    """
    path = folder / name
    try:
        broken, there, within = is_broken_link(path), path.is_file(), _is_within(folder, name)
    except (OSError, ValueError, RuntimeError):  # a zero byte, a name too long, a loop of links
        broken, there, within = False, False, True
    if not within:
        raise InputError(f"names {name!r}, which is outside the folder", source=folder / lister)
    if complete and broken:
        raise InputError(f"names {name!r}, which {BROKEN_LINK}", source=folder / lister, hint=MEND_LINK)
    if complete and not there:
        raise InputError(
            f"names {name!r}, which does not exist",
            source=folder / lister,
            hint="add the file, or remove the case from the list",
        )
    return path


def _is_within(folder: Path, name: str) -> bool:
    """Whether a name stays in a folder: it neither climbs nor begins at the root, or comes back."""
    stays = ".." not in Path(name).parts and not Path(name).is_absolute()
    return stays or (folder / name).resolve().is_relative_to(folder.resolve())


def files_in(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The images in a folder, by stem, in the order of their names; hidden files are none.

    Raises:
        InputError: two have one stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stem, suffix = stem_and_suffix(path)
        if suffix not in suffixes or path.name.startswith(".") or not lists_file(path):
            continue
        if stem in found:
            raise InputError(
                f"lists {stem!r} more than once", source=folder, hint="give each case its own name"
            )
        found[stem] = path
    return found


def without_results(files: Mapping[str, Path], *, marks: Sequence[str] = ()) -> dict[str, Path]:
    """Files by stem without what `medseg predict` made of the others, and wrote beside them.

    Args:
        files: of a folder, by stem.
        marks: endings of the layout's own label files; a result so called is told by the summary beside it.
    """
    return {stem: path for stem, path in files.items() if not _is_result(stem, path, files, marks)}


def _is_result(stem: str, path: Path, files: Mapping[str, Path], marks: Sequence[str]) -> bool:
    if stem.endswith(tuple(marks)):
        return path.with_name(f"{stem}.json").is_file()
    return scan_of_result(stem) in files


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder, in the order of their names; hidden ones and links to nothing are none.

    Who reads cases of them calls `require_no_broken_links` first.
    """
    return [path for path in entries(folder) if path.is_dir()]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of the names; what is hidden does not count."""
    return sorted(p for p in folder.iterdir() if p.name[:1] != ".") if folder.is_dir() else []


def require_no_broken_links(paths: Iterable[Path]) -> None:
    """Refuse a link that leads nowhere and may have led to a folder or a DICOM file.

    What is named as an image is left to who reads it, as the fault of one case.

    Raises:
        InputError: naming the first such link.
    """
    for path in paths:
        if not (names_image(path) or is_no_scan(path)):
            require_regular(path)


def require_own_files(cases: Iterable[CaseFiles], path: Path) -> None:
    """Refuse a case whose labels are its image, and a file that is the image of two cases.

    Args:
        cases: as a list names them.
        path: of the list.

    Raises:
        InputError: naming case and file.
    """
    seen: dict[Path, str] = {}
    for case in cases:
        for image in case.channels.values() or (case.image,):
            if image == case.label:
                raise InputError(
                    f"lists {image.name} as both image and label of {case.case_id}",
                    source=path,
                    hint="list the image with the label file that belongs to it",
                )
            other = seen.setdefault(image, case.case_id)
            if other != case.case_id:
                raise InputError(
                    f"lists {image.name} as the image of {other} and of {case.case_id}",
                    source=path,
                    hint="list each image once",
                )


def require_distinct(cases: Sequence[CaseFiles], path: Path) -> None:
    """Refuse two cases of one name."""
    twice = sorted(name for name, count in Counter(case.case_id for case in cases).items() if count > 1)
    if twice:
        raise InputError(
            f"lists {twice[0]!r} more than once", source=path, hint="give each case its own name"
        )
