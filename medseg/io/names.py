"""File names: stems, names of results and labels, and names that are not scans."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from medseg.core.errors import InputError, MedsegError, UsageError
from medseg.io.formats import FORMATS, SUFFIXES, UNKNOWN, Format

INSTANCES = "_inst"
"""Ending of the name of a map of numbered instances."""
MADE_BY_US = ("_seg", INSTANCES, "_overlay", "_augment")
PROBABILITIES = "_prob-"
"""Endings and a part of the names of results, which are never taken for scans."""
LABEL_MARKS = ("_segmentation", "_mask", "_labels", "_label", "_seg")
"""Endings of label files that lie beside their scans."""

NO_SCAN_SUFFIXES = (
    ".txt", ".md", ".rst", ".rtf", ".doc", ".docx", ".odt", ".pdf", ".htm", ".html", ".xml", ".csv", ".tsv",
    ".xls", ".xlsx", ".ods", ".json", ".yaml", ".yml", ".toml", ".ini", ".inf", ".log", ".bval", ".bvec",
    ".db", ".lnk", ".url", ".py", ".sh", ".bat", ".exe",
)  # fmt: skip
NO_SCAN_NAMES = ("readme", "license", "licence", "changes", "copying", ".ds_store", "makefile")
"""Endings and names of files that lie among scans and are none."""

COLOURS = ("red", "green", "blue")
"""Channels of a picture."""

BROKEN_LINK = "is a broken link"
MEND_LINK = "restore the file that it leads to, or remove the link"

STRUCTURE_SET = "_rtstruct"
"""Ending of the name of a DICOM structure set, beside the label map of its scan."""


def stem_and_suffix(path: str | Path) -> tuple[str, str]:
    """The file name without its image suffix, and that suffix in lower case.

    >>> stem_and_suffix("a/scan.1.nii.gz")
    ('scan.1', '.nii.gz')
    >>> stem_and_suffix("scan.seg.nrrd"), stem_and_suffix("scan_seg.nrrd")
    (('scan', '.seg.nrrd'), ('scan_seg', '.nrrd'))
    >>> stem_and_suffix("notes.TXT")
    ('notes', '.txt')
    """
    return _stem_and_suffix((path if isinstance(path, Path) else Path(path)).name)


@lru_cache(maxsize=1024)
def _stem_and_suffix(name: str) -> tuple[str, str]:
    """As `stem_and_suffix`, which is asked of every file many times."""
    lower = name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return Path(name).stem, Path(name).suffix.lower()


def format_of(path: str | Path) -> Format:
    """What the suffix of a file name means.

    >>> format_of("scan.SEG.nrrd").kind, format_of("scan.jpg").labels_as, format_of("notes.txt").kind
    ('segmentation', '.png', '')
    """
    return FORMATS.get(stem_and_suffix(path)[1], UNKNOWN)


def names_image(path: str | Path) -> bool:
    """Whether a file name is an image's; of a pair, that of the header.

    >>> names_image("a.hdr"), names_image("a.img"), names_image("a.dcm")
    (True, False, False)
    """
    found = format_of(path)
    return found.is_image and found.part != "voxels"


def instances_beside(seg: Path) -> Path:
    """Where the map of instances of a label file lies.

    >>> instances_beside(Path("scan_seg.nii.gz")).name, instances_beside(Path("scan.mha")).name
    ('scan_inst.nii.gz', 'scan_inst.mha')
    """
    stem, suffix = stem_and_suffix(seg)
    return seg.with_name(f"{stem.removesuffix('_seg')}{INSTANCES}{suffix}")


def scan_of_result(stem: str) -> str:
    """The scan name of a medseg result; empty if the name is not that of a result.

    >>> scan_of_result("scan_overlay"), scan_of_result("scan_prob-left-lobe"), scan_of_result("scan")
    ('scan', 'scan', '')
    """
    before, part, _ = stem.partition(PROBABILITIES)
    if part:
        return before
    return next((stem.removesuffix(ending) for ending in MADE_BY_US if stem.endswith(ending)), "")


def stem_of_labels(path: Path) -> str:
    """The stem of the label map that a result holds the labels of: its own, or beside a DICOM structure set.

    >>> stem_of_labels(Path("scan_seg.nii.gz")), stem_of_labels(Path("scan_rtstruct.dcm"))
    ('scan_seg', 'scan_seg')
    """
    stem, suffix = stem_and_suffix(path)
    if suffix == ".dcm" and stem.endswith(STRUCTURE_SET):
        return f"{stem.removesuffix(STRUCTURE_SET)}_seg"
    return stem


def scan_of_labels(stem: str) -> str:
    """The scan name of a label file; empty if the name does not mark labels.

    >>> scan_of_labels("Case00_segmentation"), scan_of_labels("scan_seg"), scan_of_labels("scan")
    ('Case00', 'scan', '')
    """
    return next((stem.removesuffix(mark) for mark in LABEL_MARKS if stem.endswith(mark)), "")


def is_no_scan(path: Path) -> bool:
    """Whether a file name is not that of a scan: text, a sidecar, or a file of a system or editor.

    >>> is_no_scan(Path("README")), is_no_scan(Path("Thumbs.db")), is_no_scan(Path("IM0001"))
    (True, True, False)
    """
    return path.suffix.lower() in NO_SCAN_SUFFIXES or path.name.lower() in NO_SCAN_NAMES


def without_pictures(files: Sequence[Path]) -> list[Path]:
    """The image files of a folder that are data: 2D ones only where there are no others.

    Beside volumes, pictures are figures of them.

    >>> [path.name for path in without_pictures([Path("a.png"), Path("a.nii"), Path("b.nii")])]
    ['a.nii', 'b.nii']
    >>> [path.name for path in without_pictures([Path("a.png")])]
    ['a.png']
    """
    volumes = [path for path in files if not format_of(path).is_picture]
    return volumes or list(files)


def lists_file(path: Path) -> bool:
    """Whether a folder lists anything under a path but a folder.

    A link that leads nowhere and a pipe are files by their names, so that whoever reads them refuses them
    by name, and no listing passes over them.
    """
    return os.path.lexists(path) and not path.is_dir()


def is_broken_link(path: Path) -> bool:
    """Whether a path is a link that leads nowhere."""
    return path.is_symlink() and not path.exists()


def require_there(path: Path, what: str = "file or folder") -> None:
    """Refuse a path at which there is nothing.

    Args:
        path: of a file or folder.
        what: it should be.

    Raises:
        InputError: nothing is there, or a link that leads nowhere.
    """
    if is_broken_link(path):
        raise InputError(BROKEN_LINK, source=path, hint=MEND_LINK)
    if not path.exists():
        raise InputError(f"there is no such {what}", source=path, hint="check the path")


def require_regular(path: Path) -> None:
    """Refuse a link that leads nowhere, a pipe and a device; a folder and a regular file are neither.

    Raises:
        InputError: which of these it is.
    """
    if is_broken_link(path):
        raise InputError(BROKEN_LINK, source=path, hint=MEND_LINK)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError("is not a regular file", source=path, hint="copy it to a file first")


def require_file(path: Path) -> None:
    """Refuse what is missing, a folder, a device or empty.

    Raises:
        InputError: there is nothing to read at `path`.
    """
    try:
        require_there(path, "file")
        if path.is_dir():
            raise InputError("this is a folder, not an image file", source=path, hint="give a file in it")
        require_regular(path)
        if path.stat().st_size == 0:
            raise InputError("the file is empty", source=path, hint="copy it again")
    except (OSError, ValueError) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError.unreadable(fault, path) from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading bytes.

    Raises:
        InputError: it may not or cannot be read, or is no regular file: a pipe may never end.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream:
            yield stream
    except OSError as fault:
        if isinstance(fault, MedsegError):
            raise
        raise InputError.unreadable(fault, path) from fault


def partner(path: Path, suffix: str) -> Path:
    """The other file of a pair: same folder and stem, `suffix` in the letter case of `path`'s own."""
    own = path.suffix
    return path.with_suffix(suffix.upper() if own.isupper() else suffix)


def require_page(out: Path) -> bool:
    """Whether a page about a case is to be a PDF.

    Raises:
        UsageError: it is to be neither that nor HTML.
    """
    suffix = out.suffix.lower()
    if format_of(out).kind != "page":
        raise UsageError(
            f"a report ends in .html or .pdf, not in {suffix or 'nothing'}",
            source=out,
            hint=f"name it {out.stem or 'report'}.html or {out.stem or 'report'}.pdf",
        )
    return suffix == ".pdf"
