"""Voxels that nobody labelled: no training learns from them, and no measure counts them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg, refused

from medseg.core.errors import UsageError
from medseg.core.structures import IGNORED, StructureSet
from medseg.core.volume import Grid, LabelMap
from medseg.data.cards import load_card
from medseg.data.cases import check_case, read_case
from medseg.data.check import check
from medseg.data.convert import convert
from medseg.data.layouts import LAYOUTS
from medseg.data.phantom import STRUCTURES, write_phantoms
from medseg.metrics.case import evaluate_case
from medseg.model.file import load_model
from medseg.preparation.preparation import Preparation

IGNORE = 4
SHAPE = (20, 22, 18)

RECIPE = """
name = "tiny"
card = "phantom.toml"

[network]
name = "unet3d"
widths = [4, 8]
norm = "batch"

[training]
patch = [16, 16, 16]
epochs = 1
steps_per_epoch = 2
selection_share = 0.3
"""


def scribbled(labels: np.ndarray, share: float = 0.2) -> np.ndarray:
    """Labels of a share of the voxels; the others are to be ignored."""
    known = np.random.default_rng(0).random(labels.shape) < share
    return np.where(known, labels, IGNORE).astype(np.uint8)


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    old = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj)), old.affine), path)


def describe(folder: Path, **labels: int) -> None:
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"labels": content["labels"] | labels}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "nnunet"
    write_phantoms(folder, "nnunet", 6, 0, SHAPE)
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    """An nnU-Net data set labelled in part."""
    folder = Path(shutil.copytree(whole, tmp_path / "data"))
    describe(folder, ignore=IGNORE)
    for path in folder.glob("labelsTr/*"):
        edit(path, scribbled)
    return folder


def recipe(folder: Path, layout: str, ignore: str = "") -> Path:
    card = (Path(__file__).parents[2] / "datasets" / "phantom.toml").read_text()
    changed = card.replace('layout = "decathlon"', f'layout = "{layout}"\n{ignore}')
    assert changed != card
    (folder / "phantom.toml").write_text(changed)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


@pytest.mark.fault("reports 28")
def test_nnunets_ignore_label_is_read_trained_and_measured(data: Path, tmp_path: Path) -> None:
    assert LAYOUTS["nnunet"].read(data).ignore == IGNORE
    assert [f.severity for f in check(data).issues if f.severity == "error"] == []
    words = (
        recipe(tmp_path, "nnunet"),
        "--data",
        data,
        "-o",
        tmp_path / "run",
        "--folds",
        3,
        "--fold",
        0,
        "--threads",
        1,
    )
    ran = done("train", *words)
    assert "voxels" not in ran.out
    evidence = load_model(tmp_path / "run" / "model.safetensors").spec.evidence
    assert evidence.volumes_ml == {}, "how large a structure is, scribbles do not say"
    assert {found.n for found in evidence.calibration.structures.values()} == {0}
    assert {row.structure for row in evidence.validation} == set(STRUCTURES.names)


@pytest.mark.fault("reports 28")
@pytest.mark.parametrize("layout", ["decathlon", "nnunet"])
def test_a_card_says_what_is_ignored_in_any_layout(whole: Path, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "data"
    write_phantoms(folder, layout, 3, 0, SHAPE)
    for path in folder.glob("labelsTr/*"):
        edit(path, scribbled)
    plain, ignoring = tmp_path / "plain", tmp_path / "ignoring"
    plain.mkdir(), ignoring.mkdir()
    words = ("--data", folder, "--folds", 3, "--fold", 0, "--threads", 1, "-q")
    told = refused(3, "train", recipe(plain, layout), *words, "-o", tmp_path / "a")
    assert f"unknown label values {IGNORE} (" in told
    done("train", recipe(ignoring, layout, f"ignore = {IGNORE}"), *words, "-o", tmp_path / "b")


@pytest.mark.fault("reports 28")
def test_a_folder_and_its_card_do_not_contradict_each_other(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "-o", tmp_path / "run", "--folds", 3, "--fold", 0)
    told = refused(3, "train", recipe(tmp_path, "nnunet", "ignore = 9"), *words, "-q")
    assert "label 4 is the ignored label here, and not in the card phantom" in told
    with pytest.raises(UsageError, match="the value 3 is both the ignored label and a structure"):
        replace(load_card("phantom"), ignore=3).structure_set  # noqa: B018


@pytest.mark.fault("reports 28")
def test_a_case_of_which_nothing_is_labelled_is_refused(data: Path, tmp_path: Path) -> None:
    path = next(data.glob("labelsTr/*"))
    edit(path, lambda a: np.full_like(a, IGNORE))
    words = ("--data", data, "-o", tmp_path / "run", "--folds", 3, "--fold", 0, "-q")
    told = refused(3, "train", recipe(tmp_path, "nnunet"), *words)
    assert f"{path}: no voxel is labelled: every voxel has the ignored label" in told
    assert [f.text for f in check(data).errors] == [
        "labels: no voxel is labelled: every voxel has the ignored label"
    ]


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference and a prediction that differ here and there."""
    rng = np.random.default_rng(seed)
    reference = np.zeros(SHAPE, np.uint8)
    reference[3:12, 4:15, 2:14] = 1
    reference[6:10, 6:12, 4:9] = 2
    predicted = np.where(rng.random(SHAPE) < 0.05, rng.integers(0, 3, SHAPE), reference)
    return reference, predicted.astype(np.uint8)


PARTS = StructureSet(STRUCTURES.items[:2])


@pytest.mark.fault("reports 28")
def test_what_is_ignored_counts_in_no_number() -> None:
    grid = Grid(SHAPE, np.eye(4))
    reference, predicted = maps(0)
    ignored = np.random.default_rng(1).random(SHAPE) < 0.3
    partly = LabelMap(np.where(ignored, IGNORE, reference).astype(np.uint8), grid, ignore=IGNORE)
    case = evaluate_case(LabelMap(predicted, grid), partly, PARTS)
    for value, row in zip(PARTS.values, case.rows, strict=True):
        t, p = (m[~ignored] == value for m in (reference, predicted))
        counts = row.counts
        assert (counts.tp, counts.fp, counts.fn, counts.tn) == (
            (t & p).sum(), (~t & p).sum(), (t & ~p).sum(), (~t & ~p).sum(),
        )  # fmt: skip
    assert case.overall["pixel_accuracy"].value == pytest.approx((reference == predicted)[~ignored].mean())
    share = f"{100 * ignored.mean():.3g} %"
    assert case.warnings == (
        f"{ignored.sum()} voxels ({share}) are ignored, because they are unlabelled in the reference",
    )
    elsewhere = np.where(ignored, 2, predicted).astype(np.uint8)
    again = evaluate_case(LabelMap(elsewhere, grid), partly, PARTS)
    assert again.rows == case.rows, "nor does what is predicted there, in distances either"
    bare = evaluate_case(LabelMap(predicted, grid), replace(partly, ignore=None), PARTS)
    assert bare.rows != case.rows


@pytest.mark.fault("reports 28")
@pytest.mark.parametrize("how", ["labels", "folder", "option"])
def test_evaluate_leaves_out_what_is_ignored(data: Path, tmp_path: Path, how: str) -> None:
    """By --labels dataset.json, by the data set itself, or as it is told."""
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for path in data.glob("labelsTr/*"):
        known = np.asarray(nib.load(path).dataobj)
        made = np.where(known == IGNORE, 2, known).astype(np.uint8)
        nib.save(nib.Nifti1Image(made, nib.load(path).affine), predictions / path.name)
    lonely = shutil.copytree(data / "labelsTr", tmp_path / "references")
    words = {
        "labels": (lonely, "--labels", data / "dataset.json"),
        "folder": (data,),
        "option": (lonely, "--ignore", IGNORE),
    }[how]
    found = done("evaluate", predictions, *words, "--json", "--workers", 1).json()
    assert found["settings"]["ignored_value"] == IGNORE
    assert len(found["cases"]) == 6
    for case in found["cases"]:
        assert {s["label"] for s in case["structures"]} == {1, 2, 3}
        assert {s["metrics"]["dice"] for s in case["structures"]} == {1.0}
        assert any("are ignored, because they are unlabelled" in text for text in case["qc"])


@pytest.mark.fault("reports 28")
def test_a_structure_without_a_mask_is_not_labelled_and_an_empty_mask_says_there_is_none(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    write_phantoms(data, "masks", 3, 0, SHAPE)
    first, second, _ = sorted(data.iterdir())
    (first / "segmentations" / "core.nii.gz").unlink()
    edit(second / "segmentations" / "core.nii.gz", np.zeros_like)
    card = replace(load_card("phantom"), layout="masks")
    lacking, empty, _ = (
        check_case(c, lambda f: read_case(f, card), card.structure_set, Preparation())
        for c in card.read(data).cases
    )
    assert lacking.prepared is not None
    assert empty.prepared is not None
    assert lacking.prepared.unlabelled == ("core",)
    assert set(np.unique(lacking.prepared.indices)) == {1, 2, IGNORED}
    assert empty.prepared.unlabelled == ()
    assert set(np.unique(empty.prepared.indices)) == {0, 1, 2}
    references = tmp_path / "references"
    for place in (first, second):
        shutil.copytree(place / "segmentations", references / place.name)
    words = (
        recipe(tmp_path, "masks"),
        "--data",
        data,
        "-o",
        tmp_path / "run",
        "--folds",
        3,
        "--fold",
        0,
        "--threads",
        1,
    )
    ran = done("train", *words, "-q")
    assert ran.err == ""
    assert lacking.labels is not None
    case = evaluate_case(lacking.labels, lacking.labels, card.structure_set)
    assert case["core"].status == "not_evaluated"
    assert {v.status for v in case["core"].metrics.values()} == {"not_evaluated"}
    assert case["left lobe"].metrics["dice"].value == 1.0
    assert "unlabelled in the reference and not measured: core" in case.warnings


@pytest.mark.fault("reports 28")
def test_a_conversion_keeps_what_is_ignored_or_refuses(data: Path, tmp_path: Path) -> None:
    convert(data, tmp_path / "decathlon", layout="nnunet", to="decathlon")
    assert LAYOUTS["decathlon"].read(tmp_path / "decathlon").ignore == IGNORE
    convert(tmp_path / "decathlon", tmp_path / "back", layout="decathlon", to="nnunet")
    assert LAYOUTS["nnunet"].read(tmp_path / "back").ignore == IGNORE
    name = next(data.glob("labelsTr/*")).name
    before, after = (nib.load(f / "labelsTr" / name).get_fdata() for f in (data, tmp_path / "back"))
    np.testing.assert_array_equal(before, after)
    with pytest.raises(
        UsageError, match="the layout masks cannot mark the label 4 as ignored; choose decathlon or nnunet"
    ):
        convert(data, tmp_path / "masks", layout="nnunet", to="masks")


def test_a_run_cannot_be_told_to_ignore_everything(data: Path) -> None:
    path = next(data.glob("labelsTr/*"))
    edit(path, lambda a: np.where(a == 1, 1, 0).astype(np.uint8))
    ran = medseg("evaluate", path, path, "--ignore", 1)
    assert (ran.code, "no label remains to measure when 1 is ignored" in ran.err) == (2, True)


LEARNER = """
name = "learner"
card = "phantom.toml"

[network]
name = "unet3d"
widths = [8, 16, 32]
norm = "batch"
options = { bias = false }

[augmentation.affine]

[training]
patch = [32, 32, 32]
epochs = 9
steps_per_epoch = 50
learning_rate = 4e-3
selection_share = 0.0
ema_decay = 0.95
"""


def every_tenth_slice(labels: np.ndarray) -> np.ndarray:
    """Labels of one slice in ten, as people annotate who cannot annotate all."""
    known = np.zeros(labels.shape, bool)
    known[:, :, 3::10] = True
    return np.where(known, labels, IGNORE).astype(np.uint8)


def every_tenth_voxel(labels: np.ndarray) -> np.ndarray:
    return scribbled(labels, 0.1)


@pytest.mark.slow
def test_a_tenth_of_the_voxels_teaches_nearly_as_much_as_all(tmp_path: Path) -> None:
    """On cases that did not train; the same number of voxels tells less in whole slices."""
    held_out = tmp_path / "held_out"
    write_phantoms(held_out, "nnunet", 4, 100, (40, 44, 36))
    found = {}
    for change in (np.asarray, every_tenth_voxel, every_tenth_slice):
        folder = tmp_path / change.__name__
        write_phantoms(folder / "data", "nnunet", 10, 0, (40, 44, 36))
        describe(folder / "data", ignore=IGNORE)
        for path in (folder / "data").glob("labelsTr/*"):
            edit(path, change)
        learner = recipe(folder, "nnunet")
        learner.write_text(LEARNER)
        done("train", learner, "--data", folder / "data", "-o", folder / "run", "--fold", "none")
        done("predict", held_out / "imagesTr", "-m", folder / "run", "-o", folder / "found")
        told = done("evaluate", folder / "found", held_out / "labelsTr", "--json").json()
        rows = [row for case in told["cases"] for row in case["structures"]]
        found[change] = float(np.mean([row["metrics"]["dice"] for row in rows]))
    assert found[np.asarray] > 0.85
    assert found[every_tenth_voxel] > 0.95 * found[np.asarray]
    assert found[every_tenth_slice] > 0.92 * found[np.asarray]  # few slices show where a structure ends
