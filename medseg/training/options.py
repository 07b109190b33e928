"""Options of a training beyond its recipe."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.io import ReadOptions
from medseg.model.file import Model
from medseg.segmentation.member import SegmenterOptions
from medseg.training.team import ALONE, Team


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training beyond its recipe.

    Attributes:
        epochs: instead of the recipe's.
        time_budget_s: fix the number of epochs by measuring a few steps.
        seed: instead of the recipe's.
        folds: number of folds; None for the usual, see `split.make_split`.
        fold: the fold that is measured at the end; None trains on every case.
        device: "cpu", "cuda", "cuda:N", "mps" or "auto".
        threads: of the processor; 0 takes what there is.
        max_memory: bytes that the measurement at the end may use; None for most of what is free. What steps
            need is fixed by the recipe.
        init: a model of the same network, whose weights are where the training begins.
        frozen: parts of the network whose weights do not change, beside the recipe's.
        overwrite: start again in a folder that contains a run.
        reading: decisions that the files of the dataset leave open.
        spent_s: seconds of the time budget that are spent already.
        coarse: the coarse stage of a cascade, trained.
        team: the processes that train together.
    """

    epochs: int | None = None
    time_budget_s: float | None = None
    seed: int | None = None
    folds: int | None = None
    fold: int | None = 0
    device: str = "auto"
    threads: int = 0
    max_memory: int | None = None
    init: Model | None = None
    frozen: tuple[str, ...] = ()
    overwrite: bool = False
    reading: ReadOptions = ReadOptions()
    spent_s: float = 0.0
    coarse: Model | None = None
    team: Team = ALONE

    @property
    def measuring(self) -> SegmenterOptions:
        """How held-out cases are predicted."""
        return SegmenterOptions(threads=self.threads, max_memory=self.max_memory)
