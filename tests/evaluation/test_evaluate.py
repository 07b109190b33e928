"""`evaluate`: files and folders in, tables out."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, refused

from medseg.core.errors import GridMismatchError, InputError, UsageError
from medseg.core.structures import from_labels
from medseg.data.label_files import read_structures
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.pairs import pair_files
from medseg.evaluation.protocols import read_anchors

AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])


def write(
    path: Path, *, shift: int = 0, affine: np.ndarray = AFFINE, values: tuple[int, ...] = (1, 2)
) -> Path:
    labels = np.zeros((10, 9, 8), np.uint8)
    for n, value in enumerate(values):
        labels[1 + shift : 5 + shift, 1 + 3 * n : 4 + 3 * n, 2:6] = value
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three references, of which `c` has no prediction; predictions in both spellings."""
    ref, pred = tmp_path / "ref", tmp_path / "pred"
    for name in "abc":
        write(ref / f"{name}.nii.gz")
    write(pred / "a_seg.nii.gz", shift=1)
    write(pred / "b.nii.gz")
    return pred, ref


def test_one_pair_of_files(tmp_path: Path) -> None:
    ref, pred = write(tmp_path / "a.nii.gz"), write(tmp_path / "p.nii.gz", shift=1)
    evaluation = evaluate(pred, ref, tolerance_mm=1.0)
    (case,) = evaluation.cases
    assert case.case_id == "a"
    assert [row.name for row in case.rows] == ["1", "2"]
    assert case["1"].metrics["dice"].value == 0.75
    assert case["1"].metrics["hd100_mm"].value == 1.0
    assert set(evaluation.digests["a"]) == {"reference", "prediction"}


def test_a_missing_prediction_stays_in_the_denominator(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate(*folders, tolerance_mm=1.0)
    assert [c.case_id for c in evaluation.failures] == ["c"]
    dice = next(r for r in evaluation.cohort if r.metric == "dice")
    assert (dice.n, dice.n_missed, dice.mean) == (3, 1, pytest.approx((0.75 + 1 + 0) / 3))
    hd95 = next(r for r in evaluation.cohort if r.metric == "hd95_mm")
    assert (hd95.n, hd95.n_inf) == (2, 1)
    assert evaluation.content()["failures"] == [{"case_id": "c", "reason": "the prediction is missing"}]


def test_the_ending_seg_comes_first_and_strays_are_mentioned(folders: tuple[Path, Path]) -> None:
    pred, ref = folders
    write(pred / "a.nii.gz")
    write(pred / "other.nii.gz")
    write(pred / "a_prob-liver.nii.gz")
    pairs, warnings = pair_files(pred, ref)
    assert [p.prediction.name if p.prediction else None for p in pairs] == ["a_seg.nii.gz", "b.nii.gz", None]
    assert "taken: a_seg.nii.gz (not a.nii.gz)" in warnings[0]
    assert warnings[1].endswith("left out: other.nii.gz")


def test_suffixes_may_differ_but_not_within_a_folder(folders: tuple[Path, Path]) -> None:
    pred, ref = folders
    (ref / "c.nii.gz").unlink()
    write(ref / "c.nii")
    write(pred / "c_seg.nii")
    assert all(p.prediction for p in pair_files(pred, ref)[0])
    write(ref / "c.nii.gz")
    with pytest.raises(UsageError, match=r"c\.nii and c\.nii\.gz"):
        pair_files(pred, ref)


def test_without_structures_every_value_of_any_case_is_one(folders: tuple[Path, Path]) -> None:
    pred, ref = folders
    write(pred / "b.nii.gz", values=(1, 5))
    evaluation = evaluate(pred, ref, surface=False)
    assert evaluation.structures.names == ("1", "2", "5")
    assert evaluation.cases[1]["5"].status == "ref_empty"
    assert evaluation.cases[0]["5"].status == "both_empty"


@pytest.mark.fault("reliability 47")
def test_two_grids_of_one_pair_are_refused_naming_both_files(folders: tuple[Path, Path]) -> None:
    pred, ref = folders
    moved = write(pred / "a_seg.nii.gz", affine=np.diag([1.0, 2.0, 1.6, 1.0]))
    with pytest.raises(GridMismatchError, match=r"a\.nii\.gz and the prediction a_seg\.nii\.gz") as fault:
        evaluate(moved, ref / "a.nii.gz")
    assert fault.value.exit_code == 4


@pytest.mark.parametrize("kind", ["file and folder", "same folder", "no match"])
def test_senseless_requests_are_usage_errors(folders: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    pred, ref = folders
    write(tmp_path / "else" / "x.nii.gz")
    request = {
        "file and folder": (pred / "b.nii.gz", ref),
        "same folder": (ref, ref),
        "no match": (tmp_path / "else", ref),
    }[kind]
    with pytest.raises(UsageError):
        evaluate(*request)


def test_what_does_not_exist_or_is_an_image_is_an_input_error(tmp_path: Path) -> None:
    ref = write(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="no such file"):
        evaluate(tmp_path / "none.nii.gz", ref)
    image = np.arange(2000, dtype=np.int16).reshape(20, 10, 10)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="2000 different values"):
        evaluate(tmp_path / "scan.nii.gz", tmp_path / "scan.nii.gz")


def test_a_bad_tolerance_is_refused_before_any_case_is_measured(folders: tuple[Path, Path]) -> None:
    steps: list[str] = []
    with pytest.raises(UsageError, match="spleen"):
        evaluate(*folders, tolerance_mm={"spleen": 1.0}, progress=lambda *step: steps.append(step[2]))
    assert steps == []
    evaluate(*folders, surface=False, progress=lambda *step: steps.append(step[2]))
    assert steps == ["a", "b", "c"]


DATASETS = {
    "decathlon": ({"labels": {"0": "background", "1": "Left-Kidney", "2": "Right-Kidney"}}, {1: (), 2: ()}),
    "nnunet": ({"labels": {"background": 0, "a": 1, "b": 2}}, {1: (), 2: ()}),
    "plain": ({"1": "a", "2": "b"}, {1: (), 2: ()}),
    "regions": (
        {
            "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3},
            "regions_class_order": [1, 2, 3],
        },
        {1: (1, 2, 3), 2: (2, 3), 3: (3,)},
    ),
}


@pytest.mark.parametrize("kind", DATASETS)
def test_structures_are_read_from_json(tmp_path: Path, kind: str) -> None:
    content, expected = DATASETS[kind]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    structures = read_structures(path)
    assert {s.value: s.members for s in structures} == expected
    if kind == "decathlon":
        assert [s.side for s in structures] == ["left", "right"]


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"labels": {"a": "b"}}', '{"labels": {"0": "background"}}', '{"labels": 3}']
)
def test_a_file_that_names_no_labels_is_an_input_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json"):
        read_structures(path)


def test_names_come_from_the_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"1": "front", "2": "back"}}))
    assert evaluate(*folders, structures=path, surface=False).structures.names == ("front", "back")


def test_written_files_are_whole_strict_and_never_replace_silently(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    evaluation = evaluate(*folders, tolerance_mm=1.0, tolerance_source="two readers", model="m")
    targets = [tmp_path / name for name in ("metrics.csv", "cohort.csv", "report.json")]
    for method, path in zip(("write_csv", "write_cohort_csv", "write_json"), targets, strict=True):
        getattr(evaluation, method)(path)
        with pytest.raises(UsageError, match="exists"):
            getattr(evaluation, method)(path)
        getattr(evaluation, method)(path, overwrite=True)
    report = json.loads(targets[2].read_text(), parse_constant=pytest.fail)
    assert report["schema"] == "medseg.report/1"
    assert report["settings"]["tau_mm"] == {"1": 1.0, "2": 1.0}
    assert report["settings"]["tau_source"] == "two readers"
    assert str(tmp_path) not in targets[2].read_text()
    rows = list(csv.DictReader(io.StringIO(targets[0].read_text())))
    assert {row["case_id"] for row in rows} == {"a", "b", "c"}
    assert {row["model"] for row in rows} == {"m"}


def test_the_table_of_one_case_speaks_in_words(tmp_path: Path) -> None:
    ref, pred = write(tmp_path / "a.nii.gz"), write(tmp_path / "p.nii.gz", values=(1,))
    structures = from_labels({1: "front", 2: "back", 3: "tail\x1b[2J"})
    head, front, back, tail = evaluate(pred, ref, structures=structures, tolerance_mm=1.0).table_rows()
    assert head[0] == "Structure"
    assert head[-1] == "NSD at 1 mm"
    assert front[4:] == ("1.000", "1.000", "1.000", "1.000", "0.0", "0.0", "1.000")
    assert front[1] == "0.144"
    assert back[4] == "0.000"
    assert back[5] == "0.000"
    assert "n/a" in back[6]
    assert tail[0] == "tail\\x1b[2J"
    assert "absent in both" in tail[4]
    assert not any("nan" in cell for row in (front, back, tail) for cell in row)


def test_the_table_of_a_cohort_has_its_n_beside_every_mean(folders: tuple[Path, Path]) -> None:
    head, first, _ = evaluate(*folders, tolerance_mm=1.0).table_rows()
    cells = dict(zip(head, first, strict=True))
    assert (cells["n"], cells["Missed"], cells["Mean Dice"], cells["HD95 infinite"]) == (
        "3",
        "1",
        "0.583",
        "1",
    )
    assert cells["95 % CI"] == "n/a"
    without = dict(zip(*evaluate(*folders, surface=False).table_rows()[:2], strict=True))
    assert (without["HD95 mm median"], without["Mean NSD"]) == ("n/a", "n/a")


@pytest.mark.realdata
def test_a_real_pair_takes_seconds(data_root: Path) -> None:
    folder = data_root / "label_pairs"
    evaluation = evaluate(folder / "body_pred.nii.gz", folder / "body_ref.nii.gz", tolerance_mm=3.0)
    assert len(evaluation.structures) == 41
    assert all(r.metrics["dice"].value is not None for r in evaluation.cases[0].rows)


ANCHORS = """
source = "made up"
[whole]
dice = 0.9
hd95_mm = 4.0
assd_mm = 2.0
abs_rvd_percent = 10.0
[base]
dice = 0.8
hd95_mm = 4.0
assd_mm = 2.0
abs_rvd_percent = 10.0
[apex]
dice = 0.8
hd95_mm = 4.0
assd_mm = 2.0
abs_rvd_percent = 10.0
"""


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.toml"
    path.write_text(ANCHORS)
    return path


def test_promise12_without_a_second_observer_has_no_score_and_says_so(tmp_path: Path) -> None:
    ref, pred = write(tmp_path / "a.nii.gz"), write(tmp_path / "p.nii.gz", shift=1)
    evaluation = evaluate(pred, ref, protocol="promise12")
    (warning,) = evaluation.warnings
    assert "--anchors" in warning
    head, whole, base, apex, *_ = evaluation.table_rows()
    assert head == ("Structure", "Part", "Dice", "HD95 mm", "Boundary mm", "Volume off %")
    assert [row[:3] for row in (whole, base, apex)] == [
        ("1", part, "0.750") for part in ("whole", "base", "apex")
    ]
    metrics = evaluation.cases[0]["1"].metrics
    assert not any("score" in name for name in metrics)
    assert metrics["hd95_pooled_mm"].status == "ok"


def test_promise12_scores_a_missing_prediction_with_nothing(
    folders: tuple[Path, Path], anchors: Path
) -> None:
    evaluation = evaluate(*folders, protocol="promise12", anchors=anchors)
    assert evaluation.warnings == ()
    scores = [case["1"].metrics["score"].value for case in evaluation.cases]
    assert scores[1:] == [100.0, 0.0]
    mean = next(r for r in evaluation.cohort if (r.structure, r.metric) == ("1", "score"))
    assert (mean.n, mean.n_missed, mean.mean) == (3, 1, pytest.approx(sum(scores) / 3))
    head, whole, _, _, every, *_ = evaluation.table_rows()
    assert dict(zip(head, whole, strict=True))["Infinite"] == "1"
    cells = dict(zip(head, every, strict=True))
    assert (cells["Part"], cells["n"], cells["Mean Dice"]) == ("all", "3", "")
    assert cells["Mean Score"] == f"{sum(scores) / 3:.1f}"
    assert evaluation.content()["settings"]["protocol"]["anchors"]["source"] == "made up"


def test_promise12_uses_the_voxel_mode_and_its_values_are_in_every_table(
    tmp_path: Path, anchors: Path
) -> None:
    ref, pred = write(tmp_path / "a.nii.gz"), write(tmp_path / "p.nii.gz", shift=1)
    evaluation = evaluate(pred, ref, protocol="promise12", anchors=anchors)
    rows = {r["metric"]: r for r in csv.DictReader(io.StringIO(evaluation.csv())) if r["structure"] == "1"}
    assert rows["apex_assd_mm"]["surface"] == rows["score"]["surface"] == "voxel"
    assert rows["apex_dice"]["surface"] == ""
    assert (rows["base_score"]["unit"], rows["base_abs_rvd_percent"]["unit"]) == ("points", "%")
    report = json.loads(evaluation.json(), parse_constant=pytest.fail)
    assert report["settings"]["surface"] == "voxel"
    assert report["cases"][0]["structures"][0]["metrics"]["apex_dice"] == 0.75


def test_brats2023_measures_its_regions_lesion_by_lesion(tmp_path: Path) -> None:
    ref = write(tmp_path / "ref" / "a.nii.gz", values=(2, 3))
    pred = write(tmp_path / "pred" / "a.nii.gz", values=(2,))
    evaluation = evaluate(pred, ref, protocol="brats2023-met")
    case = evaluation.cases[0]
    assert [row.name for row in case.rows] == ["whole tumour", "tumour core", "enhancing tumour"]
    whole, core, _ = case.rows
    # 48 voxels of 3 mm3 in each of two blocks that share a face: one lesion, half of it predicted.
    assert whole.metrics["lesion_dice"].value == pytest.approx(2 / 3)
    assert whole.metrics["lesion_dice"].value == whole.metrics["dice"].value
    assert (core.metrics["lesions_missed"].value, core.metrics["lesion_hd95_mm"].value) == (1, 374.0)
    assert case["enhancing tumour"].metrics["lesion_f1"].value == 0.0
    head, first, *_ = evaluation.table_rows()
    assert dict(zip(head, first, strict=True))["Lesion Dice"] == "0.667"
    rows = {r["metric"]: r for r in csv.DictReader(io.StringIO(evaluation.csv()))}
    assert rows["lesion_hd95_mm"]["surface"] == "surfel"
    settings = evaluation.content()["settings"]["protocol"]
    assert (settings["name"], settings["dilation_steps"], settings["smallest_volume_mm3"]) == (
        "brats2023-met",
        1,
        2.0,
    )


def test_brats2023_takes_other_values_with_names_only(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pred, ref = folders
    write(pred / "b.nii.gz", values=(1, 4))
    with pytest.raises(UsageError, match=r"values 4, which brats2023 does not define.*--labels"):
        evaluate(pred, ref, protocol="brats2023")
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"all": [1, 2, 4], "core": [1, 4]}}))
    evaluation = evaluate(pred, ref, protocol="brats2023", structures=path)
    assert evaluation.structures.names == ("all", "core")
    head, first, _ = evaluation.table_rows()
    cells = dict(zip(head, first, strict=True))
    assert (cells["n"], cells["Missed"], cells["Mean Missed"]) == ("3", "1", "0.3")


@pytest.mark.parametrize(
    "settings",
    [
        {"protocol": "promise13"},
        {"protocol": "promise12", "mode": "surfel"},
        {"protocol": "brats2023", "mode": "voxel"},
        {"protocol": "promise12", "surface": False},
        {"protocol": "brats2023", "anchors": True},
        {"anchors": True},
    ],
)
def test_a_protocol_that_does_not_go_with_the_rest_is_refused(
    folders: tuple[Path, Path], anchors: Path, settings: dict[str, object]
) -> None:
    if settings.get("anchors"):
        settings = settings | {"anchors": anchors}
    with pytest.raises(UsageError, match="protocol"):
        evaluate(*folders, **settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[whole", "neither TOML nor JSON"),
        (ANCHORS.replace("[apex]", "[tip]"), "tip is not a setting"),
        (ANCHORS.partition("[apex]")[0], "apex is missing"),
        (ANCHORS.replace("dice = 0.9", "dice = 1.0"), "the observer's Dice"),
    ],
)
def test_anchors_that_say_something_else_are_an_input_error(
    folders: tuple[Path, Path], anchors: Path, text: str, said: str
) -> None:
    anchors.write_text(text)
    with pytest.raises(InputError, match=said) as fault:
        evaluate(*folders, protocol="promise12", anchors=anchors)
    assert "anchors.toml" in str(fault.value)


def test_anchors_may_be_json(folders: tuple[Path, Path], anchors: Path, tmp_path: Path) -> None:
    path = tmp_path / "anchors.json"
    path.write_text(json.dumps(tomllib.loads(ANCHORS)))
    assert read_anchors(path) == read_anchors(anchors)
    path.write_text("[1]")
    with pytest.raises(InputError, match="no anchors"):
        read_anchors(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_anchors(tmp_path / "none.toml")


def test_the_command_takes_a_protocol(folders: tuple[Path, Path], anchors: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = done("evaluate", *folders, "--protocol", "promise12", "--anchors", anchors, "--report", page)
    assert "Mean Score" in ran.out
    assert page.stat().st_size
    assert "Mean Lesion Dice" in done("evaluate", *folders, "--protocol", "brats2023").out
    assert "surfel" in refused(2, "evaluate", *folders, "--protocol", "brats2023", "--mode", "voxel")
