"""`medseg calibrate`: which cases it takes, what it stores, and what comes of it in a prediction."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import tiny_model

from medseg.cli.main import main
from medseg.core import specs
from medseg.core.errors import UsageError
from medseg.core.specs import to_mapping
from medseg.data.cards import load_card
from medseg.data.phantom import write_phantoms
from medseg.model.file import Model, load_model
from medseg.model.provenance import Provenance
from medseg.segmentation.calibration import may_show_dice
from medseg.training.calibrate import CalibrateOptions, calibrate, card_of, held_out
from medseg.training.split import make_split

CASES = 21


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, "decathlon", cases=CASES, shape=(16, 16, 16))
    return folder


def model(**training: object) -> Model:
    made = tiny_model(channels=("image",))
    known = {"dataset": load_card("phantom").description, "fold": 1, "folds": 3, "seed": 5}
    stated = specs.from_mapping(Provenance, known | {"cases": {"measured": 7}} | training, source="the test")
    return replace(made, spec=replace(made.spec, training=stated))


def test_the_cases_held_out_are_those_of_the_training(data: Path) -> None:
    card = load_card("phantom")
    cases = held_out(model(), card, data)
    groups = {case.case_id: case.group for case in card.read(data).cases}
    split = make_split(groups, folds=3, fold=1, selection_share=0.1, seed=5)
    assert [case.case_id for case in cases] == list(split.validation)
    assert card_of(model(), data).name == "phantom"


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"dataset": "another"}, "which of these cases"),
        ({"fold": None}, "which of these cases"),
        ({"cases": {"measured": 8}}, "holds out 7 of these cases, but held out 8"),
    ],
)
def test_cases_that_may_have_trained_are_refused(data: Path, training: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        held_out(model(**training), load_card("phantom"), data)


def test_too_few_cases_are_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="an interval needs at least 19 cases with a reference, not 7"):
        calibrate(model(), load_card("phantom"), data, CalibrateOptions(threads=1), say=lambda _: None)


@pytest.mark.fault("reliability 69")
def test_another_set_of_structures_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="writes left lobe, right lobe, core, but the card hippocampus has"):
        calibrate(model(), load_card("hippocampus"), data, CalibrateOptions(), say=lambda _: None)


def test_a_calibrated_model_says_what_to_expect(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model().save(tmp_path / "raw.safetensors")
    words = [
        "calibrate",
        str(tmp_path / "raw.safetensors"),
        str(data),
        "-o",
        str(tmp_path / "new.safetensors"),
    ]
    with pytest.raises(SystemExit) as end:
        main([*words, "--every", "--threads", "1", "--json"])
    assert end.value.code == 0
    evidence = json.loads(capsys.readouterr().out)
    found = load_model(tmp_path / "new.safetensors")
    assert to_mapping(found.spec.evidence)["calibration"] == evidence["calibration"]
    assert evidence["calibration"]["n"] == CASES
    assert evidence["calibration"]["shifted"]["shifts"]["gamma"] == 1.6
    assert set(evidence) == {"calibration", "usual", "pieces", "repeatability", "rounding"}
    raw = load_model(tmp_path / "raw.safetensors")
    for key, value in raw.weights.items():
        np.testing.assert_array_equal(found.weights[key], value)

    monkeypatch.setattr("medseg.findings.prediction.SIDES_AGREE", 0.0)  # a network of chance knows no sides
    monkeypatch.setattr("medseg.findings.labels.exchanged_sides", lambda *_: ())
    scan = next((data / "imagesTr").glob("*.nii.gz"))
    for name in ("raw", "new"):
        out = ["-o", str(tmp_path / f"{name}.nii.gz"), "--threads", "1", "-q"]
        with pytest.raises(SystemExit):
            main(["predict", str(scan), "-m", str(tmp_path / f"{name}.safetensors"), *out])
    old, new = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("raw", "new"))
    assert not any("interval_ml" in row for row in old["structures"])
    assert new["quality"]["reasons"] == []
    told = [row for row in new["structures"] if row["voxels"]]
    assert told
    for row in told:
        low, high = row["interval_ml"]
        assert 0 <= low <= high
        assert 0 <= row["expected_dice_interval"][0] <= row["expected_dice"] <= 1
    assert may_show_dice(found.spec.evidence) == (evidence["calibration"]["shifted"]["dice_coverage"] >= 0.85)


def test_a_model_of_an_own_folder_is_calibrated_by_the_names_of_its_files(data: Path, tmp_path: Path) -> None:
    own = shutil.copytree(data, tmp_path / "scans")
    (own / "dataset.json").unlink()
    found = card_of(model(dataset="21 cases of scans"), own)
    assert found.layout == "folder"
    assert found.structures == model().spec.structures
    assert len(found.read(own).cases) == CASES
