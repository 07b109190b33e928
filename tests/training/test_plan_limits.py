"""What a plan says of time and memory before anything is trained, and that it keeps to it."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import ResourceError
from medseg.data.fingerprint import Fingerprint
from medseg.data.phantom import write_phantoms
from medseg.segmentation.member import SegmenterOptions
from medseg.training import package
from medseg.training.planning import dataset, memory
from medseg.training.planning.dataset import PlanOptions, plan_of_run, planned, survey
from medseg.training.planning.limits import BYTES_PER_VOXEL, LEAST_VOXELS, Limits, least_step_bytes
from medseg.training.planning.memory import longest_voxels, memory_of_steps, need
from medseg.training.planning.plan import Plan
from medseg.training.planning.speed import Speed, measured_network
from tests.helpers.commands import done, medseg, refused

MIB = 2**20
HELD = 300 * MIB
SPEED = Speed(1e-6)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose speed is known, and a process that holds as much as a command does."""
    monkeypatch.setattr(dataset, "measured_speed", lambda *_, **__: SPEED)
    monkeypatch.setattr(memory, "held_bytes", lambda: HELD)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    write_phantoms(folder, "nnunet", 3, 0, (20, 24, 16))
    (folder / "dataset.json").unlink()
    shutil.move(folder / "labelsTr", folder / "masks")
    return folder


def length(found: Plan) -> str:
    (only,) = [f"{r.value}: {r.why}" for r in found.reasons if r.setting == "length"]
    return only


# Memory


def named(fault: ResourceError) -> int:
    """The bytes that a refusal says to give."""
    found = re.search(r"give --max-memory (\d+)M or more", str(fault))
    assert found, fault
    return int(found[1]) * MIB


def test_a_memory_that_is_too_little_whatever_the_cases_are_is_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    for words in (("plan",), ("train", "-o", tmp_path / "run")):
        line = refused(6, *words, "--data", tmp_path / "none", "--max-memory", "10M")
        assert "a memory of 10 MiB is too little" in line
        assert "this training needs at least 1.12 GiB" in line
        assert "give --max-memory 1150M or more" in line


def test_a_memory_that_the_cases_exceed_is_refused_with_one_that_suffices(scans: Path) -> None:
    seen = survey(scans, PlanOptions())
    many = replace(seen.like, cases=tuple(replace(c, shape=(200, 200, 100)) for c in seen.like.cases * 20))
    for limit in (1200 * MIB, 3 << 30):
        with pytest.raises(ResourceError, match=r"memory of (1.17|3.00) GiB is too little: .* 4.63") as fault:
            room(many, limit)
        assert room(many, named(fault.value)) >= least_step_bytes(1, 4)


def room(like: Fingerprint, limit: int | None) -> int:
    network = replace(measured_network(), out_channels=4)
    return memory_of_steps(limit, need(like, longest_voxels(like, None), network), least_step_bytes(1, 4))


def test_a_plan_keeps_to_the_memory_with_all_that_a_training_holds(scans: Path) -> None:
    options = PlanOptions()
    seen = survey(scans, options)
    large = replace(seen.like, cases=tuple(replace(c, shape=(120, 120, 100)) for c in seen.like.cases))
    sizes = []
    for limit in (2100, 4000):
        recipe = planned(replace(seen, like=large), replace(options, max_memory=limit * MIB)).recipe
        kept = need(large, recipe.preparation.spacing_mm or large.spacing_mm, recipe.network).kept
        step = recipe.training.batch * math.prod(recipe.training.patch) * BYTES_PER_VOXEL
        assert HELD + kept + step <= 1.1 * limit * MIB
        sizes.append(np.prod(recipe.training.patch))
    assert sizes[0] < sizes[1]


def test_what_is_free_must_suffice_too(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 500 * MIB)
    seen = survey(scans, PlanOptions())
    with pytest.raises(ResourceError, match=r"500 MiB of memory are free, and the training needs 5\d\d MiB"):
        planned(seen, PlanOptions())
    monkeypatch.setattr(memory, "available_bytes", lambda: 600 * MIB)
    assert planned(seen, PlanOptions()).recipe.training.batch == 2


def test_the_limit_holds_for_the_measurement_at_the_end(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SegmenterOptions] = []
    honest = package.Segmenter

    def watched(models: object, options: SegmenterOptions) -> object:
        seen.append(options)
        return honest(models, replace(options, max_memory=None))  # type: ignore[arg-type]

    monkeypatch.setattr(package, "Segmenter", watched)
    run = tmp_path / "run"
    done("plan", "--data", scans, "-o", run, "--max-memory", "2G")
    assert "memory limit,2.00 GiB,as asked for" in (run / "plan.csv").read_text()
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(re.sub(r"steps_per_epoch = \d+", "steps_per_epoch = 1", text))
    done("train", "--data", scans, "-o", run, "--epochs", 1, "--threads", 1, "--max-memory", "2G", "-q")
    assert [options.max_memory for options in seen] == [2048 * MIB]


# Time


def test_a_budget_that_reading_and_measuring_take_up_is_told_beforehand(scans: Path) -> None:
    options = PlanOptions(time_budget_s=20.0)
    seen = replace(survey(scans, options), seconds=9.0)
    short = planned(seen, options)
    assert short.warnings == (
        "reading 3 cases and predicting whole scans at the end are expected to take 28 seconds, and the time "
        "budget is 20 seconds, which leaves no time for training",
    )
    assert (
        length(short)
        == "1 step of 2 patches: for 20 seconds, less 28 seconds to read the cases and to measure them"
    )
    half = planned(seen, replace(options, time_budget_s=30.0))
    assert "to take 28 seconds, and the time budget is 30 seconds, which leaves 2 seconds" in half.warnings[0]
    assert planned(seen, replace(options, time_budget_s=300.0)).warnings == ()
    assert planned(seen, replace(options, epochs=3)).warnings == ()
    folds = planned(seen, replace(options, time_budget_s=30.0, folds=3, trainings=3))
    assert "to take 66 seconds, and the time budget is 30 seconds" in folds.warnings[0]


def test_steps_for_which_there_is_no_time_are_not_promised() -> None:
    slow = Limits(20.0, 16 << 30, Speed(1e-5))
    assert slow.voxels == LEAST_VOXELS
    assert slow.steps == round(0.85 * 20.0 / (2 * LEAST_VOXELS * 1e-5))
    assert replace(slow, beside_s=15.0).steps == round(5.0 / (2 * LEAST_VOXELS * 1e-5))
    assert replace(slow, beside_s=25.0).steps == 1
    assert Limits(3600.0, 16 << 30, SPEED).steps == 4000


def test_plan_and_train_say_that_a_budget_is_short_and_what_is_done(scans: Path, tmp_path: Path) -> None:
    words = ("--data", scans, "--time-budget", "3s")
    told = done("plan", *words)
    line = r"warning: reading 3 cases .* are expected to take \d+ seconds, and the time budget is 3 seconds, "
    assert re.search(line + "which leaves no time for training; give more with --time-budget", told.err)
    assert "warnings" in done("plan", *words, "--json").out
    assert "time budget is 3 seconds" in str(done("plan", *words, "--json").json()["warnings"])  # type: ignore[index]
    told = done("train", *words, "-o", tmp_path / "run", "--dry-run")
    assert re.search(line + "which leaves no time for training; as many steps are trained as fit", told.err)
    assert "warning" not in done("plan", "--data", scans, "--time-budget", "5m").err


@pytest.mark.parametrize("kept", [False, True], ids=["a new plan", "a plan that lies there"])
def test_a_number_of_epochs_is_shown_in_place_of_the_planned_length(
    scans: Path, tmp_path: Path, kept: bool
) -> None:
    run = tmp_path / "run"
    if kept:
        done("plan", "--data", scans, "-o", run)
    told = done("train", "--data", scans, "-o", run, "--epochs", 7, "--dry-run").err
    assert re.search(r"^length +7 epochs of 133 steps of 2 patches: as asked for$", told, re.MULTILINE)
    assert "60 minutes" not in told


def test_the_plan_of_a_run_says_how_many_folds_there_are(scans: Path, tmp_path: Path) -> None:
    assert plan_of_run(scans, tmp_path / "run", PlanOptions(time_budget_s=60.0))[1].folds == 3
    assert "--array=0-2" in medseg("train", "--data", scans, "-o", tmp_path / "run", "--slurm").out
