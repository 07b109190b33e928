"""Single objects of label files: by components, by values, and by maps of instances beside them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from commands import medseg as medseg_command
from io_files import save

import medseg
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels
from medseg.evaluation.detections import Detected, detection_rows
from medseg.metrics import CaseDetections


def files(folder: Path, *, cut: bool) -> Path:
    """Two touching objects of one structure, and their numbers; the second is cut short."""
    folder.mkdir(exist_ok=True)
    labels, numbers = np.zeros((2, 24, 8, 8), np.uint8)
    labels[2:20, 2:6, 2:6] = 1
    numbers[2:10, 2:6, 2:6], numbers[10:20, 2:6, 2:6] = 4, 9
    if cut:
        labels[17:], numbers[17:] = 0, 0
    save(folder / "a.nii.gz", labels)
    save(folder / "a_inst.nii.gz", numbers)
    return folder


def quality(*words: object) -> dict[str, float]:
    content = done("evaluate", *words, "--no-surface", "--json").json()
    assert isinstance(content, dict)
    (row,) = content["cases"][0]["structures"]
    return {name: row["metrics"][name] for name in ("pq", "sq", "rq", "instances_matched")}


def test_maps_beside_the_label_files_tell_objects_apart(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    found = quality(pred, ref, "--instances", "maps")
    assert found == {"pq": pytest.approx(0.85), "sq": pytest.approx(0.85), "rq": 1.0, "instances_matched": 2}
    one = quality(pred, ref, "--instances", "components")
    share = pytest.approx(15 / 18)
    assert one == {"pq": share, "sq": share, "rq": 1.0, "instances_matched": 1}
    file = quality(pred / "a.nii.gz", ref / "a.nii.gz", "--instances", "maps")
    assert file == found


def test_each_value_is_an_object_of_one_kind(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    pair = pred / "a_inst.nii.gz", ref / "a_inst.nii.gz"
    assert quality(*pair, "--instances", "values")["pq"] == pytest.approx(0.85)
    maps = (np.asarray(medseg.read(path).array[0], np.uint8) for path in pair)
    found = medseg.evaluate(*maps, spacing_mm=(1.0, 1.0, 1.0), surface=False, instances="values")
    assert found["object"].pq == pytest.approx(0.85)
    with pytest.raises(UsageError, match="beside files"):
        medseg.evaluate(*(np.ones((2, 4, 4, 4), np.uint8)), spacing_mm=(1.0, 1.0, 1.0), instances="maps")


def stated(pred: Path, scores: dict[int, float]) -> None:
    """The summary of a prediction that states scores of its objects."""
    rows = [{"number": n, "structure": "1", "score": score} for n, score in scores.items()]
    summary = {"schema": "medseg.prediction/1", "instances": rows}
    (pred / "a.json").write_text(json.dumps(summary))


def test_objects_with_scores_have_precision_and_sensitivity(tmp_path: Path) -> None:
    """The surer object is cut to 7 of 10 voxels' length, the other whole: hits at IoU 0.5, one at 0.75."""
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    stated(pred, {9: 0.9, 4: 0.6})
    out = tmp_path / "out"
    content = done("evaluate", pred, ref, "--instances", "maps", "--no-surface", "-o", out, "--json").json()
    assert isinstance(content, dict)
    rows = {row["metric"]: row for row in content["detection"]}
    assert {row["structure"] for row in rows.values()} == {"1"}
    assert rows["ap_50"]["value"] == 1.0
    assert rows["map_50_95"]["value"] == pytest.approx((5 * 1.0 + 5 * 0.25) / 10)
    assert rows["sensitivity_at_0.125"]["value"] == 1.0
    assert rows["cpm"]["value"] == 1.0
    assert rows["map_10_50_small"]["objects"] == 2
    assert rows["map_10_50_large"]["value"] is None
    again = done("evaluate", pred, ref, "--instances", "maps", "--no-surface", "-o", out, "--json").json()
    assert isinstance(again, dict)
    assert again["detection"] == content["detection"]
    shown = done("evaluate", pred, ref, "--instances", "maps", "--no-surface").out
    assert re.search(
        r"structure +cases +objects +AP at IoU 0.1 .*CPM\n1 +1 +2 +1.000 +1.000 +1.000 +0.625 ", shown
    )
    table = (out / "detection.csv").read_text().splitlines()
    assert table[0].startswith("structure,metric,value,ci_low,ci_high,objects,cases")
    assert len(table) == 1 + len(rows)


def test_objects_are_told_as_coco_and_luna_have_them(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    stated(pred, {9: 0.9, 4: 0.6})
    out = tmp_path / "out"
    done("evaluate", pred, ref, "--instances", "maps", "--no-surface", "-o", out)
    truth = json.loads((out / "coco_reference.json").read_text())
    assert truth["images"] == [{"id": 1, "file_name": "a", "width": 24, "height": 8, "depth": 8}]
    assert truth["categories"] == [{"id": 1, "name": "1"}]
    boxes = [one["bbox"] for one in truth["annotations"]]
    assert boxes == [[2, 2, 2, 8, 4, 4], [10, 2, 2, 10, 4, 4]]
    assert [one["area"] for one in truth["annotations"]] == [128, 160]
    found = json.loads((out / "coco_found.json").read_text())
    assert found == [
        {"image_id": 1, "category_id": 1, "bbox": [2, 2, 2, 8, 4, 4], "score": 0.6},
        {"image_id": 1, "category_id": 1, "bbox": [10, 2, 2, 7, 4, 4], "score": 0.9},
    ]
    world = medseg.read(ref / "a.nii.gz").grid.affine
    x, y, z = world[:3, :3] @ [5.5, 3.5, 3.5] + world[:3, 3]
    head, *rows = (out / "luna_found.csv").read_text().splitlines()
    assert head == "seriesuid,coordX,coordY,coordZ,probability,structure"
    name, *where, score, structure = rows[0].split(",")
    assert (name, float(score), structure) == ("a", 0.6, "1")
    assert [float(n) for n in where] == pytest.approx([-x, -y, z])
    head, *rows = (out / "luna_reference.csv").read_text().splitlines()
    assert head == "seriesuid,coordX,coordY,coordZ,diameter_mm,structure"
    assert len(rows) == 2


def test_objects_without_scores_have_none(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    content = done("evaluate", pred, ref, "--instances", "maps", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    assert "detection" not in content


def test_intervals_come_with_ten_cases() -> None:
    one = CaseDetections.of_boxes([[0, 0, 4, 4]], [0.9], [[0, 0, 4, 4]], spacing_mm=(1.0, 1.0))
    other = CaseDetections.of_boxes([[5, 5, 9, 9]], [0.9], [[0, 0, 4, 4]], spacing_mm=(1.0, 1.0))
    names = from_labels({1: "lesion"})
    hit, miss = ({"lesion": Detected(pairs, (8, 8), (), ())} for pairs in (one, other))
    few = detection_rows([hit] * 9, names)
    assert all(row.ci_low is None for row in few)
    many = {row.metric: row for row in detection_rows([hit] * 8 + [miss] * 4, names)}
    ap = many["ap_50"]
    assert ap.value is not None
    assert ap.ci_low is not None
    assert ap.ci_high is not None
    assert ap.ci_low < ap.value < ap.ci_high


def test_a_changed_map_is_measured_again(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=False), files(tmp_path / "ref", cut=False)
    words = (pred, ref, "--instances", "maps", "-o", tmp_path / "out")
    assert quality(*words)["pq"] == 1
    numbers = np.zeros((24, 8, 8), np.uint8)
    numbers[2:20, 2:6, 2:6] = 1
    save(pred / "a_inst.nii.gz", numbers)
    assert quality(*words)["instances_matched"] == 1


def test_what_is_lacking_or_unknown_is_said(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    (ref / "a_inst.nii.gz").unlink()
    line = refused(3, "evaluate", pred, ref, "--instances", "maps")
    assert "a.nii.gz: has no map of instances beside it (a_inst.nii.gz)" in line
    assert "did you mean 'values'" in refused(2, "evaluate", pred, ref, "--instances", "value")


def test_a_prediction_without_a_map_is_that_predictions_fault(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    for folder in (pred, ref):
        for name in ("a", "a_inst"):
            shutil.copy(folder / f"{name}.nii.gz", folder / f"{name.replace('a', 'b', 1)}.nii.gz")
    (pred / "b_inst.nii.gz").unlink()
    ran = medseg_command("evaluate", pred, ref, "--instances", "maps", "--no-surface", "--json")
    content = ran.json()
    assert isinstance(content, dict)
    assert ran.code == 7
    (failure,) = content["failures"]
    assert failure["case_id"] == "b"
    assert (
        "the prediction cannot be used: has no map of instances beside it (b_inst.nii.gz)"
        in failure["reason"]
    )


def test_the_terminal_shows_how_objects_match(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    shown = done("evaluate", pred, ref, "--instances", "maps", "--no-surface").out
    assert re.search(r"Structure +PQ +SQ +RQ +Matched +Missed +Extra\n1 +0.850 +0.850 +1.000 +2 +0 +0", shown)


def test_a_map_with_negative_numbers_is_refused(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    save(pred / "a_inst.nii.gz", np.full((24, 8, 8), -1, np.int16))
    assert "contains the number -1; number objects from 1 on" in refused(
        3, "evaluate", pred, ref, "--instances", "maps"
    )


def test_labels_without_voxels_need_no_map_of_instances(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    save(pred / "a.nii.gz", np.zeros((24, 8, 8), np.uint8))
    (pred / "a_inst.nii.gz").unlink()
    content = done("evaluate", pred, ref, "--instances", "maps", "--no-surface", "--json").json()
    assert isinstance(content, dict)
    (row,) = content["cases"][0]["structures"]
    assert row["metrics"]["instances_missed"] == 2
    files(pred, cut=True)
    (pred / "a_inst.nii.gz").unlink()
    assert "has no map of instances beside it" in refused(3, "evaluate", pred, ref, "--instances", "maps")


def test_numbers_that_contradict_the_labels_are_doubtful(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    words = ("evaluate", pred, ref, "--instances", "maps", "--no-surface")
    assert "map of instances" not in done(*words).err
    save(ref / "a_inst.nii.gz", np.zeros((24, 8, 8), np.uint8))
    said = (
        "In the reference: The map of instances does not fit the labels: it has 288 labelled voxels without a"
    )
    assert said in done(*words).err
    strict = medseg_command(*words, "--strict")
    assert strict.code == 3
    assert said in strict.err
    shutil.copy(pred / "a_inst.nii.gz", ref / "a_inst.nii.gz")
    numbers = np.zeros((24, 8, 8), np.uint8)
    numbers[0:10, 2:6, 2:6] = 1
    save(ref / "a_inst.nii.gz", numbers)
    found = done(*words).err
    assert "it has 32 numbered voxels without a label and 160 labelled voxels without a number" in found


def test_a_map_of_instances_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    for folder in (pred, ref):
        for end in ("", "_inst"):
            for other in "bc":
                shutil.copy(folder / f"a{end}.nii.gz", folder / f"{other}{end}.nii.gz")
    save(pred / "b_inst.nii.gz", np.full((24, 8, 8), -8, np.int16))
    save(ref / "a_inst.nii.gz", np.full((24, 8, 8), 7.5, np.float32))
    said = medseg_command("evaluate", pred, ref, "--instances", "maps", "--no-surface").err
    assert "reference cannot be used: a_inst.nii.gz " in said
    assert "The prediction cannot be used: b_inst.nii.gz contains the number -8" in said


def test_what_is_told_apart_nowhere_contradicts_nothing(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=False), files(tmp_path / "ref", cut=False)
    for folder in (pred, ref):
        labels = np.zeros((24, 8, 8), np.uint8)
        labels[2:20, 2:6, 2:6], labels[:, 7, :] = 1, 2
        save(folder / "a.nii.gz", labels)
    assert "map of instances" not in done("evaluate", pred, ref, "--instances", "maps", "--no-surface").err


def test_organs_without_an_object_anywhere_contradict_nothing(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=False), files(tmp_path / "ref", cut=False)
    for folder in (pred, ref):
        save(folder / "a_inst.nii.gz", np.zeros((24, 8, 8), np.uint8))
    assert "map of instances" not in done("evaluate", pred, ref, "--instances", "maps", "--no-surface").err


def test_cases_and_objects_without_scores_are_said(tmp_path: Path) -> None:
    pred, ref = files(tmp_path / "pred", cut=True), files(tmp_path / "ref", cut=False)
    stated(pred, {9: 0.9})
    words = ("evaluate", pred, ref, "--instances", "maps", "--no-surface")
    assert "No score is stated of 1 object, which average precision leaves out." in done(*words).err
    stated(pred, {9: 0.9, 4: 0.6})
    for folder in (pred, ref):
        for end in ("", "_inst"):
            shutil.copy(folder / f"a{end}.nii.gz", folder / f"b{end}.nii.gz")
    said = done(*words).err
    assert "Average precision leaves out b, as no scores of the objects lie beside the prediction" in said
