"""A run: the folder of one training, from which the same command resumes."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medseg.core import specs
from medseg.core.errors import InputError, UsageError, listed
from medseg.data.cards import Card
from medseg.io.atomic import write_text
from medseg.model.file import FOLD, PLANNED, RUN_MODEL, RUN_RECORD
from medseg.training.differences import Digests, files_that_differ, settings_that_differ
from medseg.training.recipe import Recipe
from medseg.training.split import Split

SCHEMA = "medseg.run/1"

CARD, RECIPE, REASONS = "card.toml", PLANNED, "plan.csv"
PLAN = (CARD, RECIPE, REASONS)
"""Files of a plan, which lie in the folder before the run begins."""

PAGE, SUSPECTS = "report.html", "suspects.csv"
"""The page of a training, and the cases that stand out in it."""

FOLDS_SCORES = "cross_validation.csv"
"""The scores of a training of several folds, over all cases."""

COARSE = "coarse"
"""The run of a cascade's coarse stage, in the folder of the whole run."""


@dataclass(frozen=True)
class Begun:
    """What a run is, as `run.json` states it; each key of the file is the name of a field.

    Attributes:
        schema: of the file.
        recipe: every setting, resolved.
        split: who trains and who is measured.
        command: further settings that the result depends on.
        data: digests of what was read; None until it is known.
        epochs: how many; None until that is fixed.
        steps_per_epoch: of each, where that is not the recipe's.
    """

    schema: str | None = None
    recipe: Mapping[str, Any] | None = None
    split: Mapping[str, Any] | None = None
    command: Mapping[str, Any] | None = None
    data: Digests | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None


@dataclass(frozen=True)
class Run:
    """The paths of the files of a training."""

    folder: Path

    @property
    def model_path(self) -> Path:
        return self.folder / RUN_MODEL

    @property
    def settings_path(self) -> Path:
        return self.folder / RUN_RECORD

    @property
    def scores_path(self) -> Path:
        return self.folder / "validation.csv"

    @property
    def checkpoints_path(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def has_checkpoints(self) -> bool:
        return any(self.checkpoints_path.glob("*"))

    @property
    def lock_path(self) -> Path:
        return self.folder / "run.lock"

    @property
    def owner_path(self) -> Path:
        """The file that names the owner of the lock; the lock file itself belongs to the library."""
        return self.folder / "run.owner.json"

    def begin(
        self, recipe: Recipe, card: Card, split: Split, command: Mapping[str, Any], *, anew: bool = False
    ) -> Begun:
        """Store what this training is, or find that it was begun with the same settings.

        Args:
            recipe: every setting, resolved.
            card: of its dataset; what it says is a setting, where it lies is none.
            split: who trains and who is measured.
            command: further settings the result depends on.
            anew: delete an existing run first.

        Returns:
            What was stored when the run was begun, with its length once that is fixed.

        Raises:
            UsageError: the folder contains another run, or something else.
            InputError: what was stored is damaged.
        """
        stated = json.loads(json.dumps(asdict(split)))
        settings = specs.to_mapping(recipe) | {"card": specs.to_mapping(card)}
        wanted = Begun(SCHEMA, settings, stated, command)
        if anew and self.settings_path.exists():
            self.clear()
        elif not self.settings_path.exists():
            self.require_empty()
        if not self.settings_path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._store(wanted)
        stored = _with_card(self._stored(), settings["card"])
        kept = replace(wanted, data=stored.data, epochs=stored.epochs, steps_per_epoch=stored.steps_per_epoch)
        if different := settings_that_differ(asdict(stored), asdict(kept)):
            raise UsageError(
                f"contains a run with other settings: {different}",
                source=self.folder,
                hint="repeat the command of that run to resume it, choose another folder with -o, or add "
                "--overwrite",
            )
        return stored

    def fix_data(self, begun: Begun, digests: Digests) -> tuple[Begun, bool]:
        """Remember what the cases hold, or find that they hold the same as when the run was begun.

        Args:
            begun: what `begin` returned.
            digests: of every case of the split, as it was read now.

        Returns:
            The run with its data, and whether an older version began it and nothing was known of them.

        Raises:
            UsageError: a case has changed since, and there are checkpoints of the data as it was.
        """
        now = {case: dict(found) for case, found in sorted(digests.items())}
        before = begun.data
        trained = self.has_checkpoints
        if trained and before is not None and before != now:
            raise UsageError(
                f"was started with other data: {files_that_differ(before, now)}",
                source=self.folder,
                hint="restore the files to resume, train on the changed files in another folder with -o, "
                "or start again with --overwrite",
            )
        if before != now:
            begun = self._store(replace(begun, data=now))
        return begun, trained and before is None

    def fix_length(self, begun: Begun, epochs: int, steps_per_epoch: int | None = None) -> Begun:
        """Remember the number of epochs, so that a resumed run has the same schedule.

        Args:
            begun: what `begin` returned.
            epochs: how many.
            steps_per_epoch: of each, where that is not the recipe's.

        Returns:
            The run with its length.
        """
        return self._store(replace(begun, epochs=epochs, steps_per_epoch=steps_per_epoch))

    def clear(self) -> None:
        """Delete the run, and nothing else in its folder.

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
            if not self.has_checkpoints:
                self._remove()
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process, by a lock of the file system.

        The lock ends with its process, and holds between containers and hosts that share the disk.

        Raises:
            UsageError: another process trains in it.
        """
        lock = FileLock(self.lock_path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{_message(self.owner_path)} is training in this folder",
                source=self.folder,
                hint="wait for it, or train into another folder with -o",
            ) from None
        try:
            write_text(self.owner_path, json.dumps(_this_process()), overwrite=True)
            yield
        finally:
            self.owner_path.unlink(missing_ok=True)
            self.lock_path.unlink(missing_ok=True)
            lock.release()
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def require_empty(self) -> None:
        """Refuse a folder that holds anything but a plan and the coarse stage of a run.

        Raises:
            UsageError: what is the matter.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError("is a file, not a folder", source=self.folder, hint="choose another -o")
        names = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        folds = sorted(name for name in names if name.startswith(FOLD))
        if folds:
            raise UsageError(
                f"contains a training of several folds ({listed(folds)})",
                source=self.folder,
                hint="repeat its command, with --folds and without --fold, or choose another folder with -o",
            )
        others = sorted(names - {*PLAN, COARSE})
        if others:
            raise UsageError(
                f"is not empty and does not contain a run, but {others[0]}",
                source=self.folder,
                hint="choose another folder with -o",
            )

    def _remove(self) -> None:
        for folder in (self.checkpoints_path, self.folder / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("log.csv", PAGE, SUSPECTS):
            (self.folder / name).unlink(missing_ok=True)
        for path in (self.scores_path, self.model_path, self.settings_path):
            path.unlink(missing_ok=True)

    def _store(self, begun: Begun) -> Begun:
        known = {key: value for key, value in vars(begun).items() if value is not None}
        write_text(self.settings_path, json.dumps(known, indent=1, sort_keys=True), overwrite=True)
        return begun

    def _stored(self) -> Begun:
        """What `run.json` states.

        Raises:
            InputError: it is damaged.
        """
        try:
            values = json.loads(self.settings_path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as fault:
            raise InputError(f"cannot be read ({fault})", source=self.settings_path) from None
        source = str(self.settings_path)
        return specs.from_mapping(Begun, values, source=source, error=InputError)


def require_place(out: Path, *, every: bool) -> None:
    """Refuse a folder that no run can be begun or resumed in, before anything is done.

    Args:
        out: folder of the run.
        every: whether every fold is trained there, each in a folder of its own.

    Raises:
        UsageError: it holds something else, or is a file.
    """
    if every:
        require_folds_folder(out)
    elif not Run(out).settings_path.exists():
        Run(out).require_empty()


def require_folds_folder(out: Path) -> None:
    """Refuse a folder that holds something else than folds.

    Raises:
        UsageError: it does, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError("is a file, not a folder", source=out, hint="choose another -o")
    own = (*PLAN, FOLDS_SCORES, PAGE, SUSPECTS)
    others = sorted(
        path.name
        for path in (out.iterdir() if out.is_dir() else ())
        if not path.name.startswith(FOLD) and path.name not in own
    )
    if others:
        raise UsageError(
            f"contains {others[0]}, which does not belong to a training of several folds",
            source=out,
            hint="choose another folder with -o",
        )


@dataclass(frozen=True)
class FollowedRun(Run):
    """A run as those see it that train along with the process which keeps it: they write nothing."""

    def begin(
        self, recipe: Recipe, card: Card, split: Split, command: Mapping[str, Any], *, anew: bool = False
    ) -> Begun:
        return Begun(SCHEMA, specs.to_mapping(recipe), {}, command)

    def fix_data(self, begun: Begun, digests: Digests) -> tuple[Begun, bool]:
        return begun, False

    def fix_length(self, begun: Begun, epochs: int, steps_per_epoch: int | None = None) -> Begun:
        return replace(begun, epochs=epochs, steps_per_epoch=steps_per_epoch)

    @contextmanager
    def begun(self) -> Iterator[None]:
        yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield


def _with_card(begun: Begun, card: Mapping[str, Any]) -> Begun:
    """A run that an older version began: it stored where its card lay, and not what the card said."""
    if not isinstance((begun.recipe or {}).get("card"), str):
        return begun
    return replace(begun, recipe={**(begun.recipe or {}), "card": card})


def _this_process() -> dict[str, Any]:
    """Who trains, for whoever finds the run held."""
    return {
        "host": platform.node(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _message(owner: Path) -> str:
    """Who holds the lock, by what it wrote."""
    try:
        said = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {said['process']} on the host {said['host']} (since {said['since']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
