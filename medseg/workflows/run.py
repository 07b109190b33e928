"""A run: the folder of one training, and what makes the same command go on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medseg import specs
from medseg.cards import Recipe
from medseg.errors import InputError, UsageError
from medseg.io.atomic import write_text
from medseg.training.split import Split

SCHEMA = "medseg.run/1"


@dataclass(frozen=True)
class Run:
    """Where the files of a training lie."""

    folder: Path

    @property
    def model_path(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def settings_path(self) -> Path:
        return self.folder / "run.json"

    @property
    def scores_path(self) -> Path:
        return self.folder / "validation.csv"

    @property
    def checkpoints_path(self) -> Path:
        return self.folder / "checkpoints"

    def begin(
        self, recipe: Recipe, split: Split, command: dict[str, Any], *, anew: bool = False
    ) -> dict[str, Any]:
        """Store what this training is, or find that it was begun with the same settings.

        Args:
            recipe: every setting, resolved.
            split: who trains and who is measured.
            command: further settings the result depends on.
            anew: a run that stands here is deleted first.

        Returns:
            What was stored when the run was begun; `epochs` among it once it is fixed.

        Raises:
            UsageError: the folder holds another run, or something that is no run.
        """
        wanted = {
            "schema": SCHEMA,
            "recipe": specs.to_mapping(recipe),
            "split": json.loads(json.dumps(asdict(split))),
            "command": command,
        }
        if anew and self.settings_path.exists():
            self.clear()
        elif not self.settings_path.exists():
            self._require_empty()
        if not self.settings_path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._store(wanted)
            return wanted
        stored = self._stored()
        different = [key for key in wanted if stored.get(key) != wanted[key]]
        if different:
            raise UsageError(
                f"holds a run begun with other settings ({', '.join(different)})",
                source=self.folder,
                mend="give the same command to go on, another folder with -o, or --overwrite",
            )
        return stored

    def fix_epochs(self, stored: dict[str, Any], epochs: int) -> None:
        """Remember the number of epochs, so that a resumed run has the same schedule."""
        stored["epochs"] = epochs
        self._store(stored)

    def clear(self) -> None:
        """Delete the run, and nothing else that lies in its folder.

        Raises:
            UsageError: a process that is alive is training there.
        """
        with self.locked():
            self._remove()

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A run whose block fails before its first checkpoint leaves nothing behind."""
        try:
            yield
        except BaseException:
            if not any(self.checkpoints_path.glob("*")):
                self._remove()
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            UsageError: another process that is alive holds it.
        """
        path = self.folder / "run.lock"
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            owner = _owner(path)
            if owner is not None and owner != os.getpid() and _alive(owner):
                raise UsageError(
                    f"process {owner} is training here",
                    source=self.folder,
                    mend="wait for it, or delete run.lock if it is something else",
                ) from None
            handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(handle, "w") as lock:
            lock.write(str(os.getpid()))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _require_empty(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError("is a file, not a folder", source=self.folder, mend="choose another -o")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(
                "is not empty and holds no run", source=self.folder, mend="choose another folder with -o"
            )

    def _remove(self) -> None:
        for folder in (self.checkpoints_path, self.folder / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (self.folder / "log.csv", self.scores_path, self.model_path, self.settings_path):
            path.unlink(missing_ok=True)

    def _store(self, values: dict[str, Any]) -> None:
        write_text(self.settings_path, json.dumps(values, indent=1, sort_keys=True), overwrite=True)

    def _stored(self) -> dict[str, Any]:
        try:
            values = json.loads(self.settings_path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as fault:
            raise InputError(f"not readable ({fault})", source=self.settings_path) from None
        return values if isinstance(values, dict) else {}


def _owner(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _alive(process: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
