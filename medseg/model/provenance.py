"""What a model was trained on, and how; no case is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medseg.core.specs import LEFT_OUT


def _not_said() -> Any:
    """A field that is None, and left out of the file, until it is known."""
    return field(default=None, metadata={LEFT_OUT: True})


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

    software: str | None = _not_said()
    recipe: str | None = _not_said()
    dataset: str | None = _not_said()
    licence_of_data: str | None = _not_said()
    source_of_data: str | None = _not_said()
    weights_may_be_shared: bool | None = _not_said()
    cases: CaseCounts | None = _not_said()
    fold: int | None = None
    folds: int | None = _not_said()
    seed: int | None = _not_said()
    epochs: int | None = _not_said()
    of_epochs: int | None = _not_said()
    steps: int | None = _not_said()
    seconds: int | None = _not_said()
    selection_dice: float | None = _not_said()
    device: str | None = _not_said()
    began_from: BeganFrom | None = _not_said()
