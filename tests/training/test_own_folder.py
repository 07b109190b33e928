"""`medseg train --data FOLDER`: folders as people have them, found, planned, trained, predicted."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from medseg.core.errors import UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.data.cards import load_card
from medseg.data.phantom import write_phantoms
from medseg.io import read_volume, write_image
from medseg.io.labels import read_labels
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.model.file import load_model
from medseg.reporting import training
from medseg.reporting.case.content import case_from_result
from medseg.reporting.training import TrainingReport, training_page
from medseg.training import folds
from medseg.training.budget import Length
from medseg.training.largest import gains_of, improved_by_largest
from medseg.training.length import _fitting
from medseg.training.planning import dataset, memory
from medseg.training.planning.speed import Speed
from medseg.training.run import require_place
from medseg.training.suspects import suspects, write_suspects
from tests.helpers.commands import medseg

SHAPE = (20, 24, 16)
TINY = {"widths": "[4, 8]", "steps_per_epoch": "2", "patch": "[16, 16, 16]"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose speed is known, and a process that holds as much as a command does."""
    monkeypatch.setattr(dataset, "measured_speed", lambda *_, **__: Speed(1e-6))
    monkeypatch.setattr(memory, "held_bytes", lambda: 300 << 20)


def cases(folder: Path) -> list[tuple[str, Path, Path]]:
    """Phantoms: name, scan and labels of each."""
    write_phantoms(folder, "nnunet", 3, 0, SHAPE)
    names = [path.name.removesuffix(".nii.gz") for path in sorted((folder / "labelsTr").iterdir())]
    return [(n, folder / "imagesTr" / f"{n}_0000.nii.gz", folder / "labelsTr" / f"{n}.nii.gz") for n in names]


Place = Callable[[Path, str, Path, Path], None]
"""Puts scan and labels of a case into a folder, in some shape."""


def put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def put_other(source: Path, target: Path) -> None:
    """Another channel of the same scan."""
    volume = read_volume(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, 1000.0 - volume.array[0], volume.grid, form=volume.form)


def two_folders(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / "images" / f"{name}.nii.gz")
    put(labels, to / "masks" / f"{name}.nii.gz")


def side_by_side(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / f"{name}.nii.gz")
    put(labels, to / f"{name}_gt.nii.gz")


def a_folder_a_patient(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / name / "image.nii.gz")
    put(labels, to / name / "seg.nii.gz")


def channels_by_name(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / name / "t1.nii.gz")
    put_other(scan, to / name / "flair.nii.gz")
    put(labels, to / name / f"{name}_seg.nii.gz")


def channels_by_number(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / "imagesTr" / f"{name}_0000.nii.gz")
    put_other(scan, to / "imagesTr" / f"{name}_0001.nii.gz")
    put(labels, to / "labelsTr" / f"{name}.nii.gz")


def other_formats(to: Path, name: str, scan: Path, labels: Path) -> None:
    volume, found = read_volume(scan), read_labels(labels)
    to.mkdir(parents=True, exist_ok=True)
    write_image(to / f"{name}.mha", volume.array[0], volume.grid, form=FileForm(suffix=".mha"))
    write_image(to / f"{name}-label.nrrd", found.array, found.grid, form=FileForm(suffix=".nrrd"))


def visits(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / name / "visit 1" / "scan.nii.gz")
    put(labels, to / name / "visit 1" / "labels.nii.gz")


def volume_and_segmentation(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / f"volume-{name}.nii.gz")
    put(labels, to / f"segmentation-{name}.nii.gz")


def table(to: Path, name: str, scan: Path, labels: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    path = to / "cases.csv"
    new = not path.exists()
    with path.open("a", newline="") as stream:
        rows = csv.writer(stream)
        if new:
            rows.writerow(("case", "image", "label", "group"))
        rows.writerow((name, scan, labels, name))


def bids_like(to: Path, name: str, scan: Path, labels: Path) -> None:
    put(scan, to / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz")
    put(labels, to / f"sub-{name}" / "anat" / f"sub-{name}_dseg.nii.gz")


SHAPES: tuple[Place, ...] = (
    two_folders,
    side_by_side,
    a_folder_a_patient,
    channels_by_name,
    channels_by_number,
    other_formats,
    visits,
    volume_and_segmentation,
    table,
    bids_like,
)


def shrunk(recipe: Path) -> None:
    """Edit a planned recipe, as its reader may: a network and a patch small enough for a test."""
    lines, skip = [], False
    for line in recipe.read_text("utf-8").splitlines():
        key = line.partition(" = ")[0]
        if key in TINY:
            lines.append(f"{key} = {TINY[key]}")
            skip = line.endswith("[")
        elif key in ("kernels", "strides"):
            skip = line.endswith("[")
        elif not skip:
            lines.append(line)
        elif line == "]":
            skip = False
    recipe.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("place", SHAPES, ids=lambda place: place.__name__)
def test_folder_is_found_planned_trained_and_predicts(place: Place, tmp_path: Path) -> None:
    data = tmp_path / "scans"
    listed = cases(tmp_path / "phantoms")
    for case in listed:
        place(data, *case)
    data = data / "cases.csv" if place is table else data
    run = tmp_path / "run"
    told = medseg("plan", "--data", data, "-o", run)
    assert told.code == 0, told.err
    assert "3 cases of 3 patients" in told.out
    assert "label 3" in told.out
    shrunk(run / "recipe.toml")
    words = ("--data", data, "-o", run, "--epochs", 1, "--fold", "none", "--threads", 1)
    trained = medseg("train", *words)
    assert trained.code == 0, trained.err
    assert "no case is left to measure the model on" in (run / "report.html").read_text("utf-8")
    name, scan, _ = listed[0]
    own = {
        channels_by_name: (f"flair={data / name / 'flair.nii.gz'}", f"t1={data / name / 't1.nii.gz'}"),
        channels_by_number: [f"channel_{n}={data / 'imagesTr' / f'{name}_000{n}.nii.gz'}" for n in (0, 1)],
    }
    predicted = medseg("predict", *own.get(place, (scan,)), "-m", run, "-o", tmp_path / "out.nii.gz")
    assert predicted.code == 0, predicted.err
    assert read_labels(tmp_path / "out.nii.gz").array.shape == SHAPE


def test_what_was_found_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    data = tmp_path / "scans"
    for case in cases(tmp_path / "phantoms"):
        two_folders(data, *case)
    put(data / "images" / "phantom_000.nii.gz", data / "images" / "unlabelled.nii.gz")
    told = medseg(
        "train", "--data", data, "-o", tmp_path / "run", "--dry-run", "--names", "1=left lobe", "--folds", 3
    )
    assert told.code == 0, told.err
    assert "left lobe" in told.err
    assert "unlabelled.nii.gz: it has no label file" in told.err
    assert "patch" in told.err
    assert not (tmp_path / "run").exists()


def test_cases_of_a_test_folder_never_train_and_are_told(tmp_path: Path) -> None:
    data, run = tmp_path / "scans", tmp_path / "run"
    first, *others = cases(tmp_path / "phantoms")
    two_folders(data / "test", *first)
    for case in others:
        two_folders(data / "train", *case)
    told = medseg("plan", "--data", data, "-o", run, "--fold", "none")
    assert told.code == 0, told.err
    assert "2 cases of 2 patients" in told.out
    assert "parts by folder or name, read as one set, which is split anew: train 2" in told.out
    aside = f"1 file, such as {data / 'test' / 'images' / first[0]}.nii.gz: it is a test case by its folder"
    assert f"left aside: {aside}" in told.out
    planned = json.loads(medseg("plan", "--data", data, "--fold", "none", "--json").out)
    assert planned["left_aside"][0].startswith(aside)
    shrunk(run / "recipe.toml")
    trained = medseg("train", "--data", data, "-o", run, "--epochs", 1, "--fold", "none", "--threads", 1)
    assert trained.code == 0, trained.err
    assert "2 cases to train" in trained.err
    assert "1 test case by folder or name left out" in trained.err
    split = json.loads((run / "run.json").read_text())["split"]
    assert split["train"] == [f"train_{name}" for name, _, _ in others]
    assert "1 test case by folder or name: a training leaves them out" in medseg("check", data).out
    converted = medseg("convert", data, tmp_path / "other", "--to", "nnunet")
    assert "warning: 1 test case by folder or name: what is written does not state which" in converted.err


def masks_beside(to: Path, name: str, scan: Path, labels: Path) -> None:
    """One mask a structure beside the scan; the two largest overlap in a voxel."""
    put(scan, to / name / "ct.nii.gz")
    found = read_labels(labels)
    for value, structure in enumerate(("spleen", "liver", "core"), start=1):
        mask = (found.array == value).astype(np.uint8)
        mask[tuple(np.argwhere(found.array == 2)[0])] |= np.uint8(value == 1)
        write_image(to / name / f"{structure}.nii.gz", mask, found.grid, form=found.form)


def test_one_mask_a_structure_beside_the_scan_is_checked_planned_trained_and_measured(tmp_path: Path) -> None:
    data, run, results = tmp_path / "scans", tmp_path / "run", tmp_path / "results"
    listed = cases(tmp_path / "phantoms")
    for case in listed:
        masks_beside(data, *case)
    overlap = "3 of 3 cases: 1 voxel lies in both liver and spleen, and counts as spleen."
    assert overlap.partition(": ")[2] in medseg("check", data).out
    told = medseg("plan", "--data", data, "-o", run)
    assert told.code == 0, told.err
    assert f"labels: {data / listed[0][0]}, one mask a structure" in told.out
    rows = [line.split()[:2] for line in told.out.splitlines()]
    assert [row for row in rows if row[:1] in (["core"], ["liver"], ["spleen"])] == [
        ["core", "1"], ["liver", "2"], ["spleen", "3"]
    ]  # fmt: skip
    assert f"warning: labels of {overlap}" in told.out
    shrunk(run / "recipe.toml")
    trained = medseg("train", "--data", data, "-o", run, "--epochs", 1, "--fold", "none", "--threads", 1)
    assert trained.code == 0, trained.err
    assert f"warning: labels of {overlap}" in trained.err
    predicted = medseg("predict", data, "-m", run, "-o", results)
    assert predicted.code == 0, predicted.err
    assert "left out: one mask a structure in 3 folders, such as phantom_000/" in predicted.err
    assert sorted(path.name for path in results.glob("*.nii.gz")) == [f"{n}_seg.nii.gz" for n, _, _ in listed]
    measured = medseg("evaluate", results, data, "--no-surface", "--json")
    assert measured.code == 0, measured.err
    content = measured.json()
    assert isinstance(content, dict)
    assert (len(content["cases"]), content["failures"]) == (3, [])
    assert {row["structure"] for row in content["cohort"]} == {"core", "liver", "spleen"}


def test_every_fold_is_trained_and_their_models_predict_together(tmp_path: Path) -> None:
    data, run = tmp_path / "scans", tmp_path / "run"
    listed = cases(tmp_path / "phantoms")
    for case in listed:
        two_folders(data, *case)
    assert medseg("plan", "--data", data, "-o", run).code == 0
    shrunk(run / "recipe.toml")
    words = ("--data", data, "-o", run, "--epochs", 1, "--folds", 3, "--threads", 1)
    trained = medseg("train", *words, "--json")
    assert trained.code == 0, trained.err
    with (run / "cross_validation.csv").open() as stream:
        rows = [row for row in csv.reader(stream) if not row[0].startswith("#")]
    header, *found = rows
    assert {row[header.index("case_id")] for row in found} == {name for name, _, _ in listed}
    told = (run / "report.html").read_text("utf-8")
    assert told.count("Outlines of case phantom_") == 3
    assert "structures exclude one another" in told
    assert "Overlap with the reference" in told
    assert medseg("predict", listed[0][1], "-m", run, "-o", tmp_path / "out.nii.gz").code == 0
    again = medseg("train", *words)
    assert "resuming after epoch 1 of 1" in again.err
    assert medseg("info", run).out.count("model.safetensors") == 3


def test_a_folder_with_other_files_is_no_place_for_folds(tmp_path: Path) -> None:
    data, run = tmp_path / "scans", tmp_path / "run"
    for case in cases(tmp_path / "phantoms"):
        two_folders(data, *case)
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    refused = medseg("train", "--data", data, "-o", run, "--epochs", 1, "--folds", 3)
    assert refused.code == 2
    assert "contains thesis.txt, which does not belong to a training of several folds" in refused.err


def test_profile_and_names_that_are_wrong_are_refused(tmp_path: Path) -> None:
    for case in cases(tmp_path / "phantoms"):
        two_folders(tmp_path / "scans", *case)
    words = ("plan", "--data", tmp_path / "scans")
    assert "did you mean 'standard'?" in medseg(*words, "--profile", "standart").err
    assert "write 1=liver,2=tumour" in medseg(*words, "--names", "liver").err
    assert "none.json" in medseg(*words, "--names", tmp_path / "none.json").err


def test_a_file_names_the_label_values(tmp_path: Path) -> None:
    for case in cases(tmp_path / "phantoms"):
        two_folders(tmp_path / "scans", *case)
    (tmp_path / "labels.json").write_text('{"1": "left lobe", "2": "right lobe", "3": "core", "4": "cyst"}')
    words = ("plan", "--data", tmp_path / "scans", "-o", tmp_path / "plan")
    told = medseg(*words, "--names", tmp_path / "labels.json")
    assert told.code == 0, told.err
    card = load_card(str(tmp_path / "plan" / "card.toml"))
    assert card.structure_set.names == ("left lobe", "right lobe", "core", "cyst")
    (tmp_path / "labels.json").write_text('{"1": "left lobe"}')
    refused = medseg(*words, "--names", tmp_path / "labels.json", "--overwrite")
    assert refused.code != 0
    assert "2" in refused.err


def test_a_case_with_wrong_labels_is_named(tmp_path: Path) -> None:
    """Its own fold's model and one that trained on it are asked; here a table of results stands for them."""
    structures = from_labels({1: "lobe"})
    grid = Grid((8, 8, 8), np.eye(4))
    whole = np.zeros((8, 8, 8), np.uint8)
    whole[2:6, 2:6, 2:6] = 1

    def case(name: str, shift: int) -> CaseResult:
        moved = LabelMap(np.roll(whole, shift, axis=0), grid)
        return evaluate_case(moved, LabelMap(whole, grid), structures, case_id=name)

    shifts = {"a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "odd": 3}
    cases = [case_from_result(case(name, n), structures) for name, n in shifts.items()]
    (found,) = suspects(cases)
    assert (found.case_id, found.dice, found.median) == ("odd", pytest.approx(0.25), 1.0)
    assert "unlike the others" in found.sentence
    (wrong,) = suspects(cases, lambda _: 0.3)
    assert "likely wrong" in wrong.sentence
    (hard,) = suspects(cases, lambda _: 0.97)
    assert "agrees with its labels" in hard.sentence
    (learnt,) = suspects(cases, lambda _: 0.887)
    assert "agrees with its labels" in learnt.sentence, "far above the 0.25 of a model that did not see it"
    assert suspects(cases[:4]) == []
    write_suspects(tmp_path / "suspects.csv", [wrong])
    assert "odd,0.2500,1.0000,0.3000,its labels are likely wrong" in (tmp_path / "suspects.csv").read_text()


def test_a_model_is_where_the_training_of_a_folder_starts(tmp_path: Path) -> None:
    data, first, run = tmp_path / "scans", tmp_path / "first", tmp_path / "run"
    for case in cases(tmp_path / "phantoms"):
        two_folders(data, *case)
    assert medseg("plan", "--data", data, "-o", first).code == 0
    shrunk(first / "recipe.toml")
    words = ("--epochs", 1, "--fold", "none", "--threads", 1)
    assert medseg("train", "--data", data, "-o", first, *words).code == 0
    more = ("--names", "1=left lobe,2=right lobe", "--init", first, "--freeze", "encoder")
    told = medseg("train", "--data", data, "-o", run, *words, *more)
    assert told.code == 0, told.err
    assert "the training starts from the weights of scans" in told.err
    assert "new structures start from random weights: left lobe and right lobe" in told.err
    before, after = (load_model(folder / "model.safetensors") for folder in (first, run))
    assert after.spec.network.widths == (4, 8)
    assert after.spec.training.began_from is not None
    kept = [name for name in before.weights if name.startswith("encoder.")]
    assert all(np.array_equal(before.weights[name], after.weights[name]) for name in kept)
    wrong = ("--init", first, "--freeze", "encode")
    assert "does not exist" in medseg("train", "--data", data, "-o", run, *words, *wrong).err


def test_slurm_gets_a_job_for_each_fold_and_nothing_is_trained(tmp_path: Path) -> None:
    data, run = tmp_path / "scans", tmp_path / "run"
    for case in cases(tmp_path / "phantoms"):
        two_folders(data, *case)
    told = medseg("train", "--data", data, "-o", run, "--folds", 3, "--epochs", 7, "--slurm")
    assert told.code == 0, told.err
    assert "#SBATCH --array=0-2" in told.out
    words = f"medseg train {run}/recipe.toml --data {data} -o {run}/fold_${{SLURM_ARRAY_TASK_ID}} --folds 3"
    assert f"exec {words} --fold ${{SLURM_ARRAY_TASK_ID}} --epochs 7" in told.out
    assert {path.name for path in run.iterdir()} == {"card.toml", "plan.csv", "recipe.toml"}


def test_the_largest_component_is_kept_where_that_helps_over_all_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = tmp_path / "scans", tmp_path / "run"
    for case in cases(tmp_path / "phantoms"):
        two_folders(data, *case)
    assert medseg("plan", "--data", data, "-o", run).code == 0
    shrunk(run / "recipe.toml")
    monkeypatch.setattr(folds, "improved_by_largest", lambda gains: {"label 1": (0.5, 0.6)} if gains else {})
    words = ("--data", data, "-o", run, "--epochs", 1, "--folds", 3, "--threads", 1)
    told = medseg("train", *words)
    assert "the largest component alone of label 1 (mean Dice 0.5000, then 0.6000)" in told.err
    assert "the largest component alone of label 1" in (run / "report.html").read_text("utf-8")
    for path in run.glob("fold_*/model.safetensors"):
        assert load_model(path).spec.postprocess.largest_component == ("label 1",)


def test_what_the_largest_component_would_do_is_measured() -> None:
    structures = from_labels({1: "lobe", 2: "core"})
    reference = np.zeros((12, 12, 12), np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    predicted = reference.copy()
    predicted[9:11, 9:11, 9:11] = 1
    maps = [LabelMap(array, Grid((12, 12, 12), np.eye(4))) for array in (predicted, reference)]
    found = gains_of(*maps, structures)
    assert found == {"lobe": (pytest.approx(2 * 64 / (64 + 72)), 1.0)}
    assert set(improved_by_largest([found] * 5)) == {"lobe"}
    assert improved_by_largest([found] * 4) == {}
    assert improved_by_largest([{"lobe": (0.9, 0.9005)}] * 5) == {}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for case in cases(tmp_path / "phantoms"):
        two_folders(tmp_path / "scans", *case)
    return tmp_path / "scans"


def test_a_refused_training_writes_nothing_and_a_dry_run_refuses_the_same(
    scans: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.docx").write_text("hi")
    new = tmp_path / "new"
    for out, words, said in (
        (full, (), "is not empty and does not contain a run, but thesis.docx"),
        (new, ("--fold", 9), "fold 9 of 5 does not exist"),
        (new, ("--folds", 20), "3 cases (or groups of cases) are too few for 20 folds"),
    ):
        for more in ((), ("--dry-run",)):
            ran = medseg("train", "--data", scans, "-o", out, *words, *more)
            assert ran.code in (2, 3)
            assert said in ran.err
    assert [path.name for path in full.iterdir()] == ["thesis.docx"]
    assert not new.exists()


def test_a_plan_that_lies_in_the_folder_is_told_and_not_contradicted(scans: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = ("--names", "1=left lobe,2=right lobe", "--profile", "fast", "--max-memory", "2G")
    assert medseg("plan", "--data", scans, "-o", run, *made).code == 0
    other = Path(shutil.copytree(scans, tmp_path / "other"))
    words = ("train", "--data", other, "-o", run, "--folds", 3, "--dry-run")
    for option, said in (
        (("--names", "1=liver"), "calls 1 'left lobe', and --names calls it 'liver'"),
        (("--profile", "large"), "was made with --profile fast, not large"),
        (("--max-memory", "3500M"), "was made for a memory of 2.00 GiB, not of 3.42 GiB"),
    ):
        refused = medseg(*words, *option)
        assert (refused.code, said in refused.err) == (2, True), refused.err
        assert "leave the option out to train by this plan, add --overwrite" in refused.err
    told = medseg(*words, *made)
    assert told.code == 0, told.err
    assert (
        f"trains by the plan in {run}/recipe.toml, which was made for 3 cases of scans, and there are "
        in (told.err)
    )
    assert "3 cases of other now" in told.err
    assert "for 10 minutes" in told.err, "the plan that the run would use"
    shown = {row["setting"]: row["value"] for row in medseg(*words, "--json").json()["choices"]}  # type: ignore[index]
    assert shown["data"] == "3 cases of scans"
    assert medseg("train", "--data", scans, "-o", run, "--folds", 3, "--dry-run").err.startswith(
        f"trains by the plan in {run}/recipe.toml; --overwrite"
    )


def test_the_length_is_that_of_the_plan(scans: Path, tmp_path: Path) -> None:
    options = dataset.PlanOptions(profile="fast", folds=3)
    path, kept = dataset.plan_of_run(scans, tmp_path / "run", options)
    assert dataset.plan_of_run(scans, tmp_path / "run", dataset.PlanOptions(folds=3)) == (path, kept)
    assert kept.seconds == 600
    short = dataset.PlanOptions(time_budget_s=90.0, folds=3)
    assert dataset.plan_of_run(scans, tmp_path / "run", short)[1].seconds == 90


def test_names_that_repeat_are_refused(scans: Path) -> None:
    for names, said in (("1=liver,2=liver", "the name 'liver' twice"), ("1=a,1=b", "the value 1")):
        told = medseg("plan", "--data", scans, "--names", names)
        assert (told.code, said in told.err) == (2, True), told.err


def test_a_fold_is_no_run_in_the_folder_of_all_folds(tmp_path: Path) -> None:
    (tmp_path / "run" / "fold_0").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"contains a training of several folds \(fold_0\)"):
        require_place(tmp_path / "run", every=False)
    require_place(tmp_path / "run", every=True)


def test_a_job_trains_with_every_option_of_the_command(scans: Path, tmp_path: Path) -> None:
    run, more = (
        tmp_path / "run",
        ("--seed", 3, "--fill-nan", "0.0", "-d", "cpu", "--threads", 1, "--assume-ras"),
    )
    told = medseg("train", "--data", scans, "-o", run, "--folds", 3, *more, "--slurm", "--profile", "fast")
    assert told.code == 0, told.err
    lines = [line for line in told.out.splitlines() if "medseg train" in line]
    assert len(lines) == 2
    for line in lines:
        assert line.endswith("--seed 3 --assume-ras --fill-nan 0.0 --device cpu --threads 1")
    refused = medseg("train", "--data", scans, "-o", run, "--folds", 3, "--fold", 1, "--slurm")
    assert (refused.code, refused.out) == (2, "")
    assert "--slurm trains every fold" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fold", "none", "--folds", 3), "--fold none trains on every case"),
        (("--freeze", "encoder"), "--freeze 'encoder' keeps weights that are random without --init"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    scans: Path, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    for more in ((), ("--dry-run",)):
        ran = medseg("train", "--data", scans, "-o", tmp_path / "run", *words, *more)
        assert (ran.code, said in ran.err) == (2, True), ran.err
    assert not (tmp_path / "run").exists()


def test_a_plan_for_seconds_says_seconds_and_small_volumes_have_figures(scans: Path) -> None:
    told = medseg("plan", "--data", scans, "--time-budget", "50s")
    assert "for 50 seconds" in told.out
    assert "0.108" in told.out


def test_pictures_have_pixels_and_no_volumes(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "images", 3, 0, SHAPE)
    told = medseg("plan", "--data", tmp_path, "--time-budget", "50s").out
    assert "voxels: of no stated size" in told
    assert " ml" not in told


def test_the_page_says_that_a_plan_is_no_account_of_the_training() -> None:
    plan = (("length", "4000 steps of 2 patches", "for 60 minutes"),)
    page = training_page(TrainingReport("lr", (("Length", "8 epochs"),), plan, (), None))
    assert "what was trained is stated under Training" in page


def test_a_curve_of_one_epoch_has_an_axis_of_whole_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    honest = training._dress

    def dress(axes: Axes, title: str, *, legend: bool) -> None:
        honest(axes, title, legend=legend)
        seen.append(axes.get_xlim())

    monkeypatch.setattr(training, "_dress", dress)
    assert training.curves_png([training.Curve("fold 0", (0.5,))])
    assert seen == [(0, 2)]


def test_a_budget_that_reading_used_up_is_said_without_a_negative_time() -> None:
    told = _fitting(Length(1, 1, 4.0, 24.0, 5.0), 6, -2.0)
    assert "reading the cases took the whole time budget and 2 s more" in told
    assert "-2" not in told
