"""The log of a training: a CSV for a spreadsheet, event files for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from medseg.core.errors import InputError
from medseg.io.atomic import atomic_write


class TrainingLog:
    """One row an epoch. On resuming, rows of epochs that will be repeated are dropped.

    Args:
        folder: the run; the log is `log.csv`, the events are in `tensorboard/`.
        epochs_done: epochs of the checkpoint from which the training continues.

    Raises:
        InputError: `log.csv` is not the log of a training.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        self.path = folder / "log.csv"
        self.rows = self._read(epochs_done)
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=epochs_done + 1)

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Append the row of an epoch; the file is whole at any moment."""
        self.rows.append({"epoch": str(epoch), **{key: f"{value:.6g}" for key, value in values.items()}})
        table = io.StringIO()
        writer = csv.DictWriter(
            table, fieldnames=list(self.rows[-1]), extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(self.path, overwrite=True) as temporary:
            temporary.write_text(table.getvalue(), encoding="utf-8")
        for key, value in values.items():
            self.events.add_scalar(key, value, epoch)
        self.events.flush()

    def close(self) -> None:
        self.events.close()

    def _read(self, epochs_done: int) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        try:
            with self.path.open(newline="", encoding="utf-8") as lines:
                return [row for row in csv.DictReader(lines) if int(row["epoch"]) <= epochs_done]
        except (ValueError, KeyError, TypeError, csv.Error) as fault:
            raise InputError(
                f"is not the log of a training ({fault!r})", source=self.path, hint="move it elsewhere"
            ) from None
