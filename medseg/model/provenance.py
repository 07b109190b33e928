"""What a model was trained on, and how; no case is named."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.core.specs import left_out


@dataclass(frozen=True)
class CaseCounts:
    """How many cases had which part in a training."""

    trained: int = 0
    chose_checkpoint: int = 0
    measured: int = 0


@dataclass(frozen=True)
class BeganFrom:
    """The model that a training began from: the digest of its file, and its own training."""

    sha256: str
    recipe: str | None = None
    dataset: str | None = None
    fold: int | None = None
    folds: int | None = None
    seed: int | None = None
    steps: int | None = None
    seconds: int | None = None


@dataclass(frozen=True)
class Provenance:
    """A training; None for what is not known.

    Attributes:
        software: names and versions.
        recipe: its name.
        dataset: the description of its card.
        licence_of_data, source_of_data: as the card states them.
        weights_may_be_shared: whether that licence allows it.
        cases: how many.
        fold: that was held out, of `folds`; None where all cases trained.
        seed: of the split and the training.
        epochs: that were trained, of `of_epochs` planned.
        steps: of the optimiser.
        seconds: that it took.
        selection_dice: mean Dice that the checkpoint was chosen by.
        device: that it ran on, where that was another machine.
        began_from: the model that its weights began as.
    """

    software: str | None = left_out()
    recipe: str | None = left_out()
    dataset: str | None = left_out()
    licence_of_data: str | None = left_out()
    source_of_data: str | None = left_out()
    weights_may_be_shared: bool | None = left_out()
    cases: CaseCounts | None = left_out()
    fold: int | None = None
    folds: int | None = left_out()
    seed: int | None = left_out()
    epochs: int | None = left_out()
    of_epochs: int | None = left_out()
    steps: int | None = left_out()
    seconds: int | None = left_out()
    selection_dice: float | None = left_out()
    device: str | None = left_out()
    began_from: BeganFrom | None = left_out()
