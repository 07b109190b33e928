"""Split of cases into training, selection and validation: case-wise, group-wise, repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import InputError, UsageError, counted, plural


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
    groups: Mapping[str, str], *, folds: int, fold: int | None, selection_share: float, seed: int
) -> Split:
    """Split cases so that all of one group (one patient) stay together.

    Args:
        groups: case id -> group.
        folds: number of folds.
        fold: the fold measured at the end; None trains on all.
        selection_share: share of the training groups set aside to choose the checkpoint; at least
            one is, and at least one is left to train. 0 sets none aside: the last checkpoint is kept.
        seed: the same seed and case ids give the same split, whatever the order of the files.

    Raises:
        UsageError: the fold does not exist.
        InputError: there are too few groups.
    """
    if fold is not None and not 0 <= fold < folds:
        raise UsageError(f"fold {fold} of {folds} does not exist", hint=f"choose 0 to {folds - 1}")
    names = sorted(set(groups.values()))
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


def require_folds(groups: Mapping[str, str], *, folds: int, fold: int | None) -> None:
    """Refuse folds that so few groups of cases cannot be split into, before a training is planned.

    Args:
        groups: case id -> group.
        folds: number of folds.
        fold: the fold measured at the end; None trains on all.

    Raises:
        UsageError: the fold does not exist.
        InputError: there are too few groups.
    """
    make_split(groups, folds=folds, fold=fold, selection_share=0.0, seed=0)


def _mend(there: int, train: int, fold: int | None) -> str:
    """What splits so few groups, where `train` at least must be left beside those that are measured."""
    if fold is None or there < train:
        return "add cases"
    return f"add cases, or give --folds {there}" if there > train else "add cases, or give --fold none"


def _members(groups: Mapping[str, str], names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(case for case, group in groups.items() if group in names))
