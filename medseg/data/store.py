"""Corrected cases that are kept: scans, what a model said of them, and what somebody made of it.

The folder is that of MONAI Label (see `layouts.monailabel`), with a
`dataset.json` that says what values mean:

    ID.nii.gz                           the scan, its channels in the order of the model
    labels/original/ID.nii.gz           what was predicted
    labels/final/ID.nii.gz              what somebody made of it
    labels/earlier/ID-DIGEST.nii.gz     what stood there before

Beside each label file lies its sidecar, `ID.json`, and beside a corrected one `ID_changes.json`. A scan is
called by the digest of its bytes, so that the same scan is the same case whoever sends it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet
from medseg.core.volume import Volume
from medseg.data.layouts.case import files_in
from medseg.data.layouts.description import LISTER
from medseg.data.layouts.monailabel import EARLIER, FINAL, ORIGINAL, SUFFIXES
from medseg.data.layouts.writing import ENDING, stated_meaning, write_description
from medseg.io import digest_of, stem_and_suffix, write_image
from medseg.io.atomic import atomic_write, sync_folder

TAGS: Mapping[str, Path] = {"final": FINAL, "original": ORIGINAL}
"""Where labels lie: those that somebody made, and those that nobody looked at."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CHANGES = "_changes"
"""Ending of the file that says what somebody changed, which no case may have."""
SHORT = 16
"""Digits of a digest that a case is called by."""


class ChangedError(InputError):
    """Somebody else saved labels of the case meanwhile."""


class Store:
    """The cases in a folder, which several processes may change.

    Args:
        folder: of the scans; made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scans(self) -> dict[str, Path]:
        """The scans, by what their cases are called."""
        return files_in(self.folder, SUFFIXES)

    def labels(self, tag: str = "final") -> dict[str, Path]:
        """The label files, by case."""
        return files_in(self.folder / _place(tag), SUFFIXES)

    def digest(self, case: str) -> str:
        """Digest of what somebody made of a case; empty where nobody did."""
        path = self.labels().get(case)
        return "" if path is None else digest_of(path)

    def scan(self, case: str) -> Path:
        """The scan of a case.

        Raises:
            InputError: there is none.
        """
        path = self.scans().get(case)
        if path is None:
            raise InputError(f"there is no case {case[:40]!r}", hint="send its scan first")
        return path

    def unlabelled(self) -> dict[str, Path]:
        """The scans of which nobody made labels."""
        labels = self.labels()
        return {case: scan for case, scan in self.scans().items() if case not in labels}

    def describe(self, name: str, channels: tuple[str, ...], structures: StructureSet) -> None:
        """Say what the values of labels mean, if it is not said yet."""
        if not (self.folder / LISTER).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            said = {"name": name, **stated_meaning(channels, structures)}
            write_description(self.folder / LISTER, said, overwrite=True)

    def add(self, case: str, scan: Volume) -> None:
        """Keep the voxels and the grid of a scan, if none has this name.

        Raises:
            InputError: the name is none.
        """
        require_name(case)
        if case not in self.scans():
            self.folder.mkdir(parents=True, exist_ok=True)
            array = scan.array[0] if len(scan.array) == 1 else scan.array
            write_image(self.folder / f"{case}{ENDING}", array, scan.grid, form=scan.form, overwrite=True)

    def keep_predicted(self, case: str, labels: Path, sidecar: Path) -> None:
        """Keep what a model said of a case, in place of what an earlier one did."""
        with self._locked():
            self._put(ORIGINAL, case, labels, sidecar)

    def keep_corrected(
        self, case: str, labels: Path, sidecar: Path, *, base: str | None, changes: Mapping[str, Any]
    ) -> None:
        """Keep what somebody made of a case; what stood there before is kept too.

        Args:
            case: whose scan is there.
            labels: on its grid.
            sidecar: that names their values.
            base: digest of what stood there when the correction was begun, empty for nothing; None replaces
                whatever does. The same labels again are no conflict.
            changes: what became of each structure.

        Raises:
            ChangedError: something else stands there.
        """
        with self._locked():
            own, now = digest_of(labels), self.digest(case)
            if base is not None:
                self.require_unchanged(case, base, own)
            if now not in ("", own):
                before, stem = self.labels()[case], f"{case}-{now[:SHORT]}"
                _copied(before, self.folder / EARLIER / f"{stem}{stem_and_suffix(before)[1]}")
            kept = self._put(FINAL, case, labels, sidecar)
            told = json.dumps(dict(changes), indent=1)
            with atomic_write(kept.with_name(f"{case}{CHANGES}.json"), overwrite=True) as temporary:
                temporary.write_text(told, encoding="utf-8")

    def require_unchanged(self, case: str, *known: str) -> None:
        """Refuse to replace labels that whoever corrects has not seen.

        Raises:
            ChangedError: what stands there has none of the digests that are known.
        """
        now = self.digest(case)
        if now in known:
            return
        if not now:
            raise ChangedError("no labels of this scan are kept, and base names some", hint="leave base out")
        raise ChangedError(
            f"other labels of this scan were saved ({now[:SHORT]}) after these were opened",
            hint="open the scan again; or send yours with replace=true: both are kept, yours as the last",
        )

    def _put(self, place: Path, case: str, labels: Path, sidecar: Path) -> Path:
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{case}{stem_and_suffix(labels)[1]}"
        others = [path for path in folder.glob(f"{case}.*") if path != target and path.suffix != ".json"]
        _copied(sidecar, folder / f"{case}.json")
        _copied(labels, target)
        for other in others:  # of another suffix
            other.unlink()
        return target

    def _locked(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")


def case_of(sha256: str) -> str:
    """What a scan is called, by the digest of its bytes."""
    return sha256[:SHORT]


def require_name(case: str) -> str:
    """A name of a case, which becomes that of its files.

    Raises:
        InputError: it is something else.
    """
    if not NAME.fullmatch(case) or stem_and_suffix(Path(case))[1] or case.endswith(CHANGES):
        raise InputError(
            f"{case[:40]!r} cannot be the name of a case",
            hint="use letters, digits, '.', '-' and '_', without the ending of a file",
        )
    return case


def _place(tag: str) -> Path:
    if tag not in TAGS:
        raise InputError(f"the tag {tag!r} of labels is unknown", hint=f"choose from {', '.join(TAGS)}")
    return TAGS[tag]


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, overwrite=True) as temporary:
        shutil.copyfile(source, temporary)
    sync_folder(target.parent)
