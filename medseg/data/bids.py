"""BIDS: the scans of a raw dataset, and results as a derivative of it.

Source: the Brain Imaging Data Structure, bids-specification.readthedocs.io: anatomy imaging data, and
derivatives, segmentations (discrete: `_dseg`, its table of index, name and color).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.errors import InputError, UsageError
from medseg.core.structures import StructureSet
from medseg.data.layouts.description import read_json
from medseg.io import stem_and_suffix
from medseg.io.atomic import write_text
from medseg.io.formats import NIFTI_SUFFIXES
from medseg.io.names import lists_file, require_regular

DESCRIPTION = "dataset_description.json"
DERIVATIVES = Path("derivatives") / "medseg"
PLACES = ("sub-*/anat/sub-*", "sub-*/ses-*/anat/sub-*")
FOLDERS = ("sub-*", "sub-*/anat", "sub-*/ses-*", "sub-*/ses-*/anat")
NO_SCANS = ("mask", "dseg", "probseg")
"""Endings of files among the anatomy that are no scans."""
SEGMENTATION, DESC = "_dseg", "desc-"
VERSION = "1.10.0"


def is_root(folder: Path) -> bool:
    """Whether a folder is the root of a BIDS dataset: its description states a version of BIDS.

    Raises:
        InputError: it has the scans of one, and a description that cannot be read or states no version.
    """
    if not folder.is_dir():
        return False
    if "BIDSVersion" in _description(folder):
        return True
    path = folder / DESCRIPTION
    if path.exists() and _has_subjects(folder):
        try:
            read_json(path)
        except OSError as fault:
            raise InputError.unreadable(fault, path) from None
        hint = f'add "BIDSVersion": "{VERSION}"'
        raise InputError("states no BIDSVersion", source=path, hint=hint)
    return False


def scans(root: Path) -> list[Path]:
    """The anatomical scans of all subjects and sessions, sorted.

    Raises:
        InputError: there are none, or the folder of a subject or session is a broken link.
    """
    for place in FOLDERS:
        for path in sorted(root.glob(place)):
            require_regular(path)
    found = sorted(path for place in PLACES for path in root.glob(place) if _is_scan(path))
    if not found:
        raise InputError(
            "is a BIDS dataset but contains no anatomical scan", source=root, hint="check its anat folders"
        )
    return found


def segmentations(root: Path) -> list[Path]:
    """The discrete segmentations (`_dseg`) of all subjects and sessions, sorted."""
    return sorted(path for place in PLACES for path in root.glob(place) if _is_segmentation(path))


def may_be_of_one_scan(one: str, other: str) -> bool:
    """Whether two stems, one of a discrete segmentation, may be of one scan: by subject, session and so on.

    >>> may_be_of_one_scan("sub-01_T1w_seg", "sub-01_dseg")
    True
    >>> may_be_of_one_scan("sub-01_T1w_seg", "sub-01_desc-T2w_dseg"), may_be_of_one_scan("a_seg", "a_dseg")
    (False, False)
    """
    if not any(stem.endswith(SEGMENTATION) for stem in (one, other)):
        return False
    (entities, scan), (others, another) = _entities(one), _entities(other)
    return bool(entities) and entities == others and (scan == another or not (scan and another))


def _entities(stem: str) -> tuple[frozenset[str], str]:
    """The entities that a stem states, and the scan that it names, if any: its suffix, or what `desc` says.

    >>> _entities("sub-01_T1w_seg") == _entities("sub-01_desc-T1w_dseg") == (frozenset({"sub-01"}), "T1w")
    True
    """
    parts = stem.removesuffix(SEGMENTATION).removesuffix("_seg").split("_")
    stated = [part for part in parts if "-" in part]
    named = [part for part in parts if "-" not in part] + [
        part.removeprefix(DESC) for part in stated if part.startswith(DESC)
    ]
    return frozenset(part for part in stated if not part.startswith(DESC)), "_".join(named)


def lacks_description(folder: Path) -> bool:
    """Whether a folder has the scans of a BIDS dataset, and no description of one."""
    return not (folder / DESCRIPTION).exists() and _has_subjects(folder)


def misplaced(scan: Path, root: Path) -> tuple[str, ...]:
    """A warning about a scan that is named after another subject or session than the folder it lies in.

    >>> misplaced(Path("study/sub-01/anat/sub-01_T1w.nii"), Path("study"))
    ()
    """
    wanted = [*scan.relative_to(root).parts[:-2]]  # subject, perhaps session, anat, file
    stated = [part for part in scan.name.split("_") if part.startswith(("sub-", "ses-"))]
    if stated == wanted:
        return ()
    return ("The name of the file states another subject or session than its folder (BIDS).",)


def _require_told_apart(into: Path, root: Path, shared: Iterable[tuple[Path, str]]) -> None:
    """Refuse to write beside results that do not say which of a subject's scans they are of.

    Raises:
        UsageError: which file it is; it was the only scan when the result was written.
    """
    for folder, start in shared:
        for suffix in NIFTI_SUFFIXES:
            old = into / folder.relative_to(root) / f"{start}_dseg{suffix}"
            if old.exists():
                raise UsageError(
                    "does not state which of the subject's scans it belongs to",
                    source=old,
                    hint="remove it; each result will have the name of its scan",
                )


def targets(words: Sequence[str], files: Sequence[Path], out: Path | None) -> list[Path]:
    """Output path of the segmentation of each scan, as BIDS defines it.

    `sub-01_T1w.nii.gz` becomes `sub-01_dseg.nii.gz`; where a subject has several scans that would be
    called so, `sub-01_desc-T1w_dseg.nii.gz`.

    Raises:
        UsageError: the words are not one BIDS root, or an earlier result could be that of several scans.
    """
    if len(words) != 1 or not is_root(Path(words[0])):
        raise UsageError(
            "--bids needs the root folder of one BIDS dataset", hint=f"give the folder of {DESCRIPTION}"
        )
    root = Path(words[0])
    whole = [stem_and_suffix(path) for path in files]
    entities = [(path.parent, stem.rpartition("_")[0]) for path, (stem, _) in zip(files, whole, strict=True)]
    count = Counter(entities)
    names = [
        f"{start}_dseg" if count[folder, start] == 1 else f"{start}_desc-{stem.rpartition('_')[2]}_dseg"
        for (folder, start), (stem, _) in zip(entities, whole, strict=True)
    ]
    into = root / DERIVATIVES if out is None else out
    _require_told_apart(into, root, {key for key, n in count.items() if n > 1})
    return [
        into / path.parent.relative_to(root) / f"{name}{suffix}"
        for path, name, (_, suffix) in zip(files, names, whole, strict=True)
    ]


def describe(words: Sequence[str], out: Path | None) -> None:
    """Write the description of the derivative, unless it exists.

    Raises:
        ResourceError: there is no room, or no right to write.
    """
    root = Path(words[0])
    path = (root / DERIVATIVES if out is None else out) / DESCRIPTION
    if path.exists():
        return
    content = {
        "Name": "medseg",
        "BIDSVersion": str(_description(root).get("BIDSVersion", VERSION)),
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "medseg", "Version": __version__}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def table(structures: StructureSet) -> str:
    """The table of a segmentation's labels: index, name and color, tab-separated."""
    rows = [("index", "name", "color"), ("0", "background", "#000000")]
    rows += [(str(s.value), " ".join(s.name.split()), s.colour) for s in structures]
    return "".join("\t".join(row) + "\n" for row in rows)


def _has_subjects(folder: Path) -> bool:
    return any(next(folder.glob(place), None) for place in PLACES)


def _description(folder: Path) -> Mapping[str, Any]:
    """What describes a dataset; nothing where there is none that can be read."""
    with suppress(InputError, OSError):
        return read_json(folder / DESCRIPTION)
    return {}


def _is_segmentation(path: Path) -> bool:
    stem, suffix = stem_and_suffix(path)
    return suffix in NIFTI_SUFFIXES and stem.endswith(SEGMENTATION) and path.is_file()


def _is_scan(path: Path) -> bool:
    stem, suffix = stem_and_suffix(path)
    return suffix in NIFTI_SUFFIXES and not stem.endswith(NO_SCANS) and lists_file(path)
