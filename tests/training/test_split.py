"""Splits: nobody is measured on what they were trained on, and the same command splits the same way."""

from __future__ import annotations

import re

import pytest

from medseg.core.errors import InputError, UsageError
from medseg.training.split import Split, fewer_folds, make_split, require_folds

CASES = {f"case_{n:02d}": f"case_{n:02d}" for n in range(23)}
PATIENTS = {f"scan_{n:02d}": f"patient_{n // 3}" for n in range(24)}


def split(
    groups: dict[str, str], fold: int | None = 0, folds: int = 5, share: float = 0.2, seed: int = 0
) -> Split:
    return make_split(groups, folds=folds, fold=fold, selection_share=share, seed=seed)


@pytest.mark.parametrize("groups", [CASES, PATIENTS], ids=["cases", "patients"])
@pytest.mark.parametrize("fold", [None, 0, 1, 4])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_every_case_is_in_one_part(groups: dict[str, str], fold: int | None, share: float) -> None:
    found = split(groups, fold, share=share)
    parts = (found.train, found.selection, found.validation)
    assert sorted(name for part in parts for name in part) == sorted(groups)
    assert found.train
    assert bool(found.selection) == (share > 0)
    assert bool(found.validation) == (fold is not None)


@pytest.mark.parametrize("fold", [None, 0, 2])
def test_a_patient_is_in_one_part(fold: int | None) -> None:
    found = split(PATIENTS, fold)
    patients = [
        {PATIENTS[name] for name in part} for part in (found.train, found.selection, found.validation)
    ]
    assert sum(map(len, patients)) == len(set(PATIENTS.values()))


@pytest.mark.parametrize("groups", [CASES, PATIENTS], ids=["cases", "patients"])
def test_the_folds_measure_every_case_once(groups: dict[str, str]) -> None:
    folds = [split(groups, fold).validation for fold in range(5)]
    assert sorted(name for fold in folds for name in fold) == sorted(groups)
    sizes = [len({groups[name] for name in fold}) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_the_files_does_not_matter() -> None:
    backwards = dict(reversed(PATIENTS.items()))
    assert split(backwards) == split(PATIENTS)


def test_the_seed_decides() -> None:
    assert split(CASES, seed=1) == split(CASES, seed=1)
    assert split(CASES, seed=1).validation != split(CASES, seed=2).validation


def test_the_split_of_a_seed_is_what_it_was() -> None:
    """Runs that exist go on only if their split comes out again."""
    found = split({f"c{n}": f"c{n}" for n in range(10)})
    assert found.validation == ("c4", "c5")
    assert found.selection == ("c2", "c6")


def test_the_selection_share_is_of_the_groups_that_train() -> None:
    assert len(split({f"c{n}": f"c{n}" for n in range(100)}, share=0.1).selection) == 8
    assert len(split(CASES, share=0.001).selection) == 1


@pytest.mark.parametrize("fold", [-1, 5, 7])
def test_a_fold_that_does_not_exist_is_refused(fold: int) -> None:
    with pytest.raises(UsageError, match="choose 0 to 4"):
        split(CASES, fold)


@pytest.mark.parametrize(
    ("count", "folds", "fold"),
    [(0, 5, None), (1, 5, None), (4, 5, 0), (2, 2, 0), (3, 2, 0), (2, 5, 3), (1, 1, 0), (10, 1, 0)],
)
def test_too_few_groups_are_refused(count: int, folds: int, fold: int | None) -> None:
    few = {f"{group}{n}": f"g{n}" for n in range(count) for group in "ab"}
    with pytest.raises(InputError, match=f"{count} cases? .* too few"):
        split(few, fold, folds)


@pytest.mark.parametrize(
    ("count", "folds", "fold", "hint"),
    [
        (4, 5, 0, "add cases, or give --folds 4"),
        (3, 5, 4, "add cases, or give --folds 3"),
        (3, 2, 0, "add cases, or give --folds 3"),
        (2, 2, 0, "add cases, or give --fold none"),
        (1, 5, 0, "add cases"),
        (0, 5, 0, "add cases"),
        (1, 5, None, "add cases"),
    ],
)
def test_the_mend_for_too_few_groups_is_one(count: int, folds: int, fold: int | None, hint: str) -> None:
    few = {f"c{n}": f"c{n}" for n in range(count)}
    with pytest.raises(InputError) as refusal:
        split(few, fold, folds)
    assert refusal.value.hint == hint
    if "--folds" in hint:
        assert split(few, 0, int(hint[-1])).train
    if "--fold none" in hint:
        assert split(few, None, folds).train


def test_one_case_is_refused_in_a_sentence_and_may_train_alone() -> None:
    with pytest.raises(InputError) as refusal:
        require_folds({"c0": "c0"}, folds=5, fold=0)
    assert str(refusal.value) == (
        "1 case (or groups of cases) is too few for 5 folds: each fold needs one to measure, and others for "
        "training; add cases, or give --fold none"
    )
    require_folds({"c0": "c0"}, folds=5, fold=None)


@pytest.mark.parametrize(
    ("count", "folds", "fold"), [(2, 5, None), (3, 3, 2), (3, 2, 1), (5, 5, 0), (4, 2, 0)]
)
def test_just_enough_groups_serve(count: int, folds: int, fold: int | None) -> None:
    found = split({f"c{n}": f"c{n}" for n in range(count)}, fold, folds)
    assert found.train
    assert found.selection


@pytest.mark.parametrize(
    ("count", "fold", "folds"),
    [(3, 0, 3), (4, 0, 4), (4, 3, 4), (5, 0, 5), (6, 4, 5), (4, None, 5), (1, None, 5)],
)
def test_three_or_four_patients_are_a_fold_each_where_nobody_says_otherwise(
    count: int, fold: int | None, folds: int
) -> None:
    few = {f"{group}{n}": f"g{n}" for n in range(count) for group in "ab"}
    assert require_folds(few, folds=None, fold=fold) == folds
    found = make_split(few, folds=None, fold=fold, selection_share=0.0, seed=0)
    assert found.folds == folds
    assert bool(fewer_folds(None, fold, folds)) == (folds < 5)
    assert fewer_folds(folds, fold, folds) == ()
    if folds < 5:
        assert len(found.validation) == 2, "both cases of one patient"


@pytest.mark.parametrize(
    ("count", "said"),
    [(2, "2 cases .* too few for 5 folds: .*; add cases, or give --folds 2"), (1, "1 case .* too few")],
)
def test_fewer_patients_are_refused_where_nobody_says_otherwise(count: int, said: str) -> None:
    with pytest.raises(InputError, match="too few") as refusal:
        require_folds({f"c{n}": f"c{n}" for n in range(count)}, folds=None, fold=0)
    assert re.match(said, str(refusal.value))
    with pytest.raises(UsageError, match="fold 4 of 4 does not exist; choose 0 to 3"):
        require_folds({f"c{n}": f"c{n}" for n in range(4)}, folds=None, fold=4)


def test_without_selection_a_group_less_serves() -> None:
    few = {"a": "a", "b": "b"}
    assert len(split(few, 0, 2, share=0.0).train) == 1
    with pytest.raises(InputError, match=r"too few for 2 folds: .* training and selection"):
        split(few, 0, 2)
