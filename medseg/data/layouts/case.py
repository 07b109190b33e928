"""A case on disk, and what a folder of cases states about itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import InputError
from medseg.core.structures import Structure
from medseg.io import ReadOptions, stem_and_suffix
from medseg.io.names import scan_of_result


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
    """

    case_id: str
    image: Path
    label: Path | None
    group: str
    channels: Mapping[str, Path] = field(default_factory=dict)
    relabel: Mapping[int, int] = field(default_factory=dict)
    reading: ReadOptions = ReadOptions()

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

    def read_with(self, reading: ReadOptions) -> DatasetFiles:
        """The same cases, whose files are read as `reading` says."""
        return replace(self, cases=tuple(replace(case, reading=reading) for case in self.cases))


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

    Raises:
        InputError: it lies outside the folder; with `complete`, it is not there.
    """
    path = folder / name
    try:
        within, there = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError, RuntimeError):  # a zero byte, a name too long, a loop of links
        within, there = True, False
    if not within:
        raise InputError(f"names {name!r}, which is outside the folder", source=folder / lister)
    if complete and not there:
        raise InputError(
            f"names {name!r}, which does not exist",
            source=folder / lister,
            hint="add the file, or remove the case from the list",
        )
    return path


def files_in(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The images in a folder, by stem, in the order of their names; hidden files are none.

    Raises:
        InputError: two have one stem, or a link leads out of the folder.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stem, suffix = stem_and_suffix(path)
        if suffix not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                "is a link to a file outside the folder", source=path, hint="copy the file into it"
            )
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
    """Folders in a folder, in the order of their names; hidden ones and links to nothing are none."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def require_distinct(cases: Sequence[CaseFiles], path: Path) -> None:
    """Refuse two cases of one name."""
    twice = sorted(name for name, count in Counter(case.case_id for case in cases).items() if count > 1)
    if twice:
        raise InputError(
            f"lists {twice[0]!r} more than once", source=path, hint="give each case its own name"
        )
