"""Split of cases into training, selection and validation: case-wise, group-wise, repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import InputError, UsageError, counted, plural

USUAL_FOLDS = 5
"""Of which the first is measured at the end, where nobody says otherwise."""

FEW = (3, 4)
"""Groups of which each is a fold by itself, where nobody says otherwise."""


@dataclass(frozen=True)
class Split:
    """Case ids of the three parts; no group of cases is in two of them."""

    train: tuple[str, ...]
    selection: tuple[str, ...]
    validation: tuple[str, ...]
    folds: int
    fold: int | None
    seed: int


def make_split(
    groups: Mapping[str, str], *, folds: int | None, fold: int | None, selection_share: float, seed: int
) -> Split:
    """Split cases so that all of one group (one patient) stay together.

    Args:
        groups: case id -> group.
        folds: number of folds; None for the usual: 5, or as many as groups where there are 3 or 4.
        fold: the fold measured at the end; None trains on all.
        selection_share: share of the training groups set aside to choose the checkpoint; at least
            one is, and at least one is left to train. 0 sets none aside: the last checkpoint is kept.
        seed: the same seed and case ids give the same split, whatever the order of the files.

    Raises:
        UsageError: the fold does not exist.
        InputError: there are too few groups.
    """
    names = sorted(set(groups.values()))
    folds = folds or (len(names) if fold is not None and len(names) in FEW else USUAL_FOLDS)
    require_fold(fold, folds)
    rng = np.random.default_rng(seed)
    shuffled = [names[n] for n in rng.permutation(len(names))]
    held = set() if fold is None else set(shuffled[fold::folds])
    rest = [name for name in shuffled if name not in held]
    chooses = selection_share > 0
    if len(rest) < 1 + chooses or (fold is not None and len(names) < folds):
        parts = "training and selection" if chooses else "training"
        if fold is not None:
            parts = f"{counted(folds, 'fold')}: each fold needs one to measure, and others for {parts}"
        raise InputError(
            f"{counted(len(names), 'case')} (or groups of cases) {plural(len(names), 'is', 'are')} "
            f"too few for {parts}",
            hint=_mend(len(names), 1 + chooses, fold),
        )
    chosen = set(rest[: min(max(1, round(selection_share * len(rest))), len(rest) - 1)]) if chooses else set()
    return Split(
        train=_members(groups, set(rest) - chosen),
        selection=_members(groups, chosen),
        validation=_members(groups, held),
        folds=folds,
        fold=fold,
        seed=seed,
    )


def require_fold(fold: int | None, folds: int) -> None:
    """Refuse a fold that is none of so many.

    Raises:
        UsageError: it is not.
    """
    if fold is not None and not 0 <= fold < folds:
        raise UsageError(f"fold {fold} of {folds} does not exist", hint=f"choose 0 to {folds - 1}")


def require_folds(groups: Mapping[str, str], *, folds: int | None, fold: int | None) -> int:
    """Refuse folds that so few groups of cases cannot be split into, before a training is planned.

    Args:
        groups: case id -> group.
        folds: number of folds; None for the usual, see `make_split`.
        fold: the fold measured at the end; None trains on all.

    Returns:
        The number of folds.

    Raises:
        UsageError: the fold does not exist.
        InputError: there are too few groups.
    """
    return make_split(groups, folds=folds, fold=fold, selection_share=0.0, seed=0).folds


def fewer_folds(asked: int | None, fold: int | None, folds: int) -> tuple[str, ...]:
    """What is to be said where nobody stated the number of folds, and there are fewer than usual.

    Args:
        asked: number of folds; None where nobody stated it.
        fold: the fold measured at the end; None trains on all.
        folds: their number.

    >>> fewer_folds(None, 0, 4)
    ('4 patients are too few for the usual 5 folds, so each is a fold: fold 0 of 4 is measured at the end',)
    """
    if asked is not None or fold is None or folds == USUAL_FOLDS:
        return ()
    return (
        f"{folds} patients are too few for the usual {USUAL_FOLDS} folds, so each is a fold: fold {fold} of "
        f"{folds} is measured at the end",
    )


def _mend(there: int, train: int, fold: int | None) -> str:
    """What splits so few groups, where `train` at least must be left beside those that are measured."""
    if fold is None or there < train:
        return "add cases"
    return f"add cases, or give --folds {there}" if there > train else "add cases, or give --fold none"


def _members(groups: Mapping[str, str], names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(case for case, group in groups.items() if group in names))
