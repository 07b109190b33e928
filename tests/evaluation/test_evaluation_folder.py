"""`evaluate -o FOLDER`: every case isolated, written at once, read again, and told apart from any other."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import done, everything, medseg, names, refused

from medseg.core.errors import GridMismatchError, InputError, MedsegError, ResourceError, UsageError
from medseg.core.structures import from_labels
from medseg.evaluation import measure as measuring
from medseg.evaluation import reading
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.folder import safe_names
from medseg.evaluation.result import Evaluation
from medseg.metrics import cohort
from medseg.metrics.instances import InstanceRule
from medseg.metrics.lesions import LesionRule

AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])
CANARY = "CANARY"
STRUCTURES = from_labels({1: "front", 2: "back"})
HOSTILE = ("<script>alert(1)<", "=cmd|' C calc'!A0", "CON", "a", "A", "ü\n")
"""What can be part of a file name."""

Folders = tuple[Path, Path]


def write(path: Path, *, shift: int = 0, affine: np.ndarray = AFFINE) -> Path:
    """Two boxes; the header's free text holds a canary."""
    labels = np.zeros((10, 9, 8), np.uint8)
    for n in range(2):
        labels[1 + shift : 5 + shift, 1 + 3 * n : 4 + 3 * n, 2:6] = n + 1
    image = nib.Nifti1Image(labels, affine)
    image.header["descrip"] = image.header["db_name"] = CANARY
    image.header["aux_file"] = CANARY
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return path


def scan(path: Path, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True)
    array = np.random.default_rng(0).normal(100, 20, (10, 9, 8)).astype(np.float32)
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = CANARY
    nib.save(image, path)
    return path


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pages without their pictures, which take the time, but where a test is about them."""
    if request.function.__name__ != "test_a_single_pair_takes_a_single_scan":
        monkeypatch.setattr("medseg.reporting.cohort.plots.every.cohort_pictures", lambda cohort: ())
        monkeypatch.setattr("medseg.reporting.case.page.with_pictures", lambda case, *_, **__: case)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Four pairs with 0 to 3 voxels between them, below a folder whose name is a canary."""
    pred, ref = tmp_path / CANARY / "pred", tmp_path / CANARY / "ref"
    (tmp_path / CANARY).mkdir()
    for n, name in enumerate("abcd"):
        write(ref / f"{name}.nii.gz")
        write(pred / f"{name}_seg.nii.gz", shift=n)
    return pred, ref


def damage(path: Path) -> Path:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[:-40])
    return path


def reported(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    return content


def without_date(found: Evaluation) -> dict[str, Any]:
    return found.content() | {"created": None}


class Stop(Exception):
    pass


def stop_after(count: int) -> Callable[[int, int, str], None]:
    """Progress that fails when this many cases are done."""

    def progress(done: int, of: int, name: str) -> None:
        if done == count:
            raise Stop

    return progress


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that are measured, not read."""
    measured, real = [], measuring.evaluate_case

    def noted(*maps: Any, **settings: Any) -> Any:
        measured.append(settings["case_id"])
        return real(*maps, **settings)

    monkeypatch.setattr(measuring, "evaluate_case", noted)
    return measured


# faults


@pytest.mark.parametrize("fault", ["torn", "no image", "other grid", "a scan", "empty"])
def test_a_prediction_that_cannot_be_used_counts_as_missed(folders: Folders, fault: str) -> None:
    pred, ref = folders
    bad = pred / "b_seg.nii.gz"
    if fault == "torn":
        damage(bad)
    elif fault == "no image":
        bad.write_bytes(b"no image")
    elif fault == "other grid":
        write(bad, affine=np.diag([1.0, 2.0, 1.6, 1.0]))
    elif fault == "a scan":
        shutil.copy(scan(pred.parent / "scan.nii.gz"), bad)
    else:
        bad.write_bytes(b"")
    found = evaluate(pred, ref, tolerance_mm=1.0)
    assert [case.case_id for case in found.cases] == ["a", "b", "c", "d"]
    (failure,) = found.failures
    assert failure.case_id == "b"
    assert (failure.failure or "").startswith("the prediction cannot be used: ")
    assert {row.status for row in failure.rows} == {"pred_empty"}
    dice = next(row for row in found.cohort if row.metric == "dice")
    assert (dice.n, dice.n_missed, dice.mean) == (4, 1, pytest.approx((1 + 0 + 0.5 + 0.25) / 4))
    assert found.faulty == ("b",)
    assert found.content()["failures"] == [{"case_id": "b", "reason": failure.failure}]
    assert CANARY not in found.json() + found.csv()


def test_a_case_whose_reference_cannot_be_read_is_in_no_number(folders: Folders) -> None:
    pred, ref = folders
    damage(ref / "b.nii.gz")
    damage(pred / "b_seg.nii.gz")
    found = evaluate(pred, ref)
    assert [case.case_id for case in found.cases] == ["a", "c", "d"]
    assert found.failures == ()
    assert found.faulty == ("b",)
    dice = next(row for row in found.cohort if row.metric == "dice")
    assert (dice.n, dice.n_missed, dice.mean) == (3, 0, pytest.approx((1 + 0.5 + 0.25) / 3))
    (excluded,) = found.content()["excluded"]
    assert excluded["case_id"] == "b"
    assert excluded["reason"].startswith("the reference cannot be used: ")
    assert CANARY not in found.json()


def test_a_missing_prediction_is_no_fault_of_a_file(folders: Folders, tmp_path: Path) -> None:
    pred, ref = folders
    (pred / "b_seg.nii.gz").unlink()
    done("evaluate", pred, ref, "-o", tmp_path / "out", "--no-surface")
    assert reported(tmp_path / "out")["failures"] == [{"case_id": "b", "reason": "the prediction is missing"}]


def test_with_faults_everything_else_is_written_and_the_exit_code_says_so(
    folders: Folders, tmp_path: Path
) -> None:
    pred, ref = folders
    damage(pred / "b_seg.nii.gz")
    damage(ref / "c.nii.gz")
    ran = medseg("evaluate", pred, ref, "-o", tmp_path / "out", "--no-surface")
    assert ran.code == 7
    assert ran.err.splitlines()[-1] == "medseg: error: 2 of 4 cases failed: b, c"
    assert "doubtful: b: The prediction cannot be used" in ran.err
    assert "excluded from all numbers" in ran.err
    assert ran.out
    page = (tmp_path / "out" / "cohort.html").read_text()
    assert "the reference cannot be used" in page
    assert names(tmp_path / "out" / "cases") == {"a.json", "b.json", "d.json"}
    assert CANARY.encode() not in everything([tmp_path / "out"])


def test_where_nothing_can_be_measured_the_first_fault_is_raised(folders: Folders, tmp_path: Path) -> None:
    pred, ref = folders
    for path in pred.iterdir():
        write(path, affine=np.eye(4))
    with pytest.raises(GridMismatchError, match=r"a\.nii\.gz"):
        evaluate(pred, ref, out=tmp_path / "out")
    for path in ref.iterdir():
        damage(path)
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        evaluate(pred, ref)


def test_of_a_single_pair_every_fault_is_raised(folders: Folders) -> None:
    pred, ref = folders[0] / "a_seg.nii.gz", folders[1] / "a.nii.gz"
    with pytest.raises(InputError):
        evaluate(damage(pred), ref, structures=STRUCTURES)
    write(pred, affine=np.eye(4))
    with pytest.raises(GridMismatchError):
        evaluate(pred, ref, structures=STRUCTURES)


def test_too_little_memory_is_no_fault_of_the_prediction(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.read_pair

    def short(pair: Any, structures: Any) -> Any:
        if pair.case_id == "b":
            raise ResourceError("out of memory")
        if pair.case_id == "c":
            raise ValueError(CANARY)
        return real(pair, structures)

    monkeypatch.setattr(reading, "read_pair", short)
    found = evaluate(*folders, structures=STRUCTURES)
    assert found.failures == ()
    assert dict(found.excluded) == {"b": "out of memory", "c": "a bug in medseg (ValueError)"}


# workers


def test_no_number_depends_on_the_workers(folders: Folders, tmp_path: Path) -> None:
    pred, ref = folders
    damage(pred / "b_seg.nii.gz")
    damage(ref / "c.nii.gz")
    settings: dict[str, Any] = {"tolerance_mm": 1.0, "lesions": ["2"], "instances": InstanceRule()}
    here = evaluate(pred, ref, **settings)
    told: list[tuple[int, int]] = []
    out = tmp_path / "out"
    apart = evaluate(
        pred, ref, **settings, workers=2, threads=2, out=out, progress=lambda *s: told.append(s[:2])
    )
    assert without_date(apart) == without_date(here)
    assert (apart.csv(), apart.cohort_csv(), apart.lesions_csv()) == (
        here.csv(),
        here.cohort_csv(),
        here.lesions_csv(),
    )
    assert told == [(n, 4) for n in range(4)]
    assert reported(out)["cases"] == json.loads(here.json())["cases"]


# the folder


def test_everything_that_was_measured_is_written(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = done(
        "evaluate",
        *folders,
        "-o",
        out,
        "--tolerance",
        1,
        "--lesions",
        "1",
        "--instances",
        "components",
        "--name",
        "m",
    )
    assert ran.out
    assert names(out) == {
        "report.json", "metrics.csv", "cohort.csv", "lesions.csv", "summary.json", "cohort.html", "cases",
        "challenger_dice.csv", "challenger_hd95_mm.csv", "challenger_nsd.csv",
    }  # fmt: skip
    report = reported(out)
    assert report["schema"] == "medseg.report/1"
    assert report["model"] == "m"
    first = report["cases"][1]["structures"][0]
    assert first["metrics"]["pq"] == pytest.approx(0.6)  # 36 of 60 voxels
    assert [lesion["kind"] for lesion in first["lesions"]] == ["found"]
    assert report["cases"][1]["overall"]["pixel_accuracy"] == pytest.approx(1 - 48 / 720)
    rows = list(csv.DictReader(io.StringIO((out / "metrics.csv").read_text())))
    whole = [row for row in rows if not row["structure"]]
    assert {row["metric"] for row in whole} >= {"pixel_accuracy", "mean_iou"}
    assert len([row for row in whole if row["metric"] == "mean_iou"]) == 4
    lesions = list(csv.DictReader(io.StringIO((out / "lesions.csv").read_text())))
    assert [(row["case_id"], row["lesion"], row["outcome"]) for row in lesions] == [
        (case, "1", "found") for case in "abcd"
    ]
    assert float(lesions[1]["dice"]) == 0.75
    summary = json.loads((out / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["metric_per_case"][0]["prediction_file"] == "a_seg.nii.gz"
    rows = list(csv.DictReader(io.StringIO((out / "challenger_nsd.csv").read_text())))
    assert {row["algorithm"] for row in rows} == {"m"}
    assert CANARY.encode() not in everything([out])


def test_what_was_not_evaluated_has_no_table(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(*folders, out=out, surface=False)
    assert names(out) == {
        "report.json", "metrics.csv", "cohort.csv", "summary.json", "challenger_dice.csv", "cohort.html",
        "cases",
    }  # fmt: skip


def test_lesions_of_a_protocol_are_listed_by_its_rule(folders: Folders, tmp_path: Path) -> None:
    found = evaluate(*folders, out=tmp_path / "out", protocol="brats2023-met")
    assert found.options.lesions == found.structures.names
    assert found.content()["settings"]["lesions"]["dilation_steps"] == 1
    assert found.options.rule != LesionRule()
    per_case = found.cases[1].rows[0].metrics["lesions_found"].value
    listed = [row.outcome for row in found.lesions["b"] if row.structure == "whole tumour"]
    assert listed.count("found") == per_case


@pytest.mark.parametrize("kind", ["lesions", "images"])
def test_what_cannot_be_meant_is_refused(folders: Folders, kind: str) -> None:
    with pytest.raises(UsageError):
        evaluate(*folders, **({"lesions": ["spleen"]} if kind == "lesions" else {"images": folders[0]}))


@pytest.mark.parametrize("kind", ["is a file", "inside what is read", "foreign", "other settings", "other"])
def test_a_folder_that_would_lose_something_is_refused(folders: Folders, tmp_path: Path, kind: str) -> None:
    pred, ref = folders
    out = tmp_path / "out"
    settings: dict[str, Any] = {"structures": STRUCTURES, "surface": False}
    if kind == "is a file":
        out.write_text("mine")
    elif kind == "inside what is read":
        out = ref / "out"
    elif kind == "foreign":
        out.mkdir()
        (out / "cohort.csv").write_text("mine")
    else:
        evaluate(pred, ref, out=out, **settings)
        if kind == "other settings":
            settings["surface"] = True
        else:
            for path in pred.iterdir():
                write(path, shift=4)
    before = everything([tmp_path])
    with pytest.raises(UsageError):
        evaluate(pred, ref, out=out, **settings)
    assert everything([tmp_path]) == before
    if kind in ("foreign", "other settings", "other"):
        evaluate(pred, ref, out=out, overwrite=True, **settings)
        assert len(reported(out)["cases"]) == 4


def test_tables_of_an_earlier_evaluation_do_not_stay(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(*folders, out=out, tolerance_mm=1.0, lesions=["1"])
    (out / "notes.txt").write_text("mine")
    evaluate(*folders, out=out, overwrite=True)
    assert not names(out) & {"lesions.csv", "challenger_nsd.csv"}
    assert "notes.txt" in names(out)


def test_a_json_file_is_still_a_file(folders: Folders, tmp_path: Path) -> None:
    done("evaluate", *folders, "--no-surface", "-o", tmp_path / "all.json")
    assert names(tmp_path) == {CANARY, "all.json"}
    assert json.loads((tmp_path / "all.json").read_text())["schema"] == "medseg.report/1"
    assert "exists already" in refused(2, "evaluate", *folders, "--no-surface", "-o", tmp_path / "all.json")


# going on


def test_a_run_that_was_stopped_goes_on_where_it_was(
    folders: Folders, tmp_path: Path, steps: list[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stop):
        evaluate(*folders, out=out, progress=stop_after(2))
    assert names(out) == {"cases"}
    assert names(out / "cases") == {"a.json", "b.json"}
    assert steps == ["a", "b"]
    found = evaluate(*folders, out=out)
    assert steps == ["a", "b", "c", "d"]
    assert without_date(found) == without_date(evaluate(*folders))


def test_stopped_among_workers_what_is_done_is_kept(folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stop):
        evaluate(*folders, structures=STRUCTURES, out=out, workers=2, progress=stop_after(1))
    kept = names(out / "cases")
    assert kept
    assert all(name.endswith(".json") for name in kept)


@pytest.mark.parametrize(
    "change", ["nothing", "prediction", "reference", "settings", "torn", "foreign", "other case", "version"]
)
def test_a_case_is_read_again_only_where_the_same_would_come_of_it(
    folders: Folders, tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (pred, ref), out = folders, tmp_path / "out"
    settings: dict[str, Any] = {"structures": STRUCTURES, "tolerance_mm": 1.0}
    evaluate(pred, ref, out=out, **settings)
    steps.clear()
    file, expected = out / "cases" / "b.json", ["b"]
    if change == "nothing":
        expected = []
    elif change == "prediction":
        write(pred / "b_seg.nii.gz", shift=4)
    elif change == "reference":
        write(ref / "b.nii.gz", shift=1)
    elif change == "settings":
        settings["tolerance_mm"], expected = 2.0, ["a", "b", "c", "d"]
    elif change == "torn":
        file.write_bytes(file.read_bytes()[:-30])
    elif change == "foreign":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"result": {"case_id": "b"}}))
    elif change == "other case":
        shutil.copy(out / "cases" / "a.json", file)
    else:
        software = json.loads(file.read_text())["software"] | {"version": "0"}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"software": software}))
    found = evaluate(pred, ref, out=out, overwrite=change == "settings", **settings)
    assert steps == expected
    assert without_date(found) == without_date(evaluate(pred, ref, **settings))
    assert reported(out)["cases"] == json.loads(found.json())["cases"]


def test_a_failed_case_is_tried_again_once_its_file_is_whole(folders: Folders, tmp_path: Path) -> None:
    (pred, ref), out = folders, tmp_path / "out"
    whole = (pred / "b_seg.nii.gz").read_bytes()
    damage(pred / "b_seg.nii.gz")
    assert evaluate(pred, ref, out=out).faulty == ("b",)
    assert evaluate(pred, ref, out=out).faulty == ("b",)
    (pred / "b_seg.nii.gz").write_bytes(whole)
    found = evaluate(pred, ref, out=out)
    assert (found.faulty, found.failures) == ((), ())
    assert reported(out)["failures"] == []


# names


def test_names_are_made_safe_and_stay_apart() -> None:
    altered = safe_names(["a_-0123abcd", "a?", "../../x", "nul.1", "", "x" * 300, "Ä", *HOSTILE])
    assert len({name.casefold() for name in altered.values()}) == len(altered)
    assert all(name.isascii() and "/" not in name and len(name) < 100 for name in altered.values())
    assert not any(name.startswith((".", "=", "-", "<")) for name in altered.values())
    assert not any(name.split(".")[0].upper() in ("CON", "NUL") for name in altered.values())
    assert safe_names(["Case00", "b.1"]) == {"Case00": "Case00", "b.1": "b.1"}
    hostile = "b-" + safe_names(["a?"])["a?"][-8:]
    assert len(set(safe_names(["a?", hostile]).values())) == 2


def test_hostile_names_are_harmless_everywhere(tmp_path: Path) -> None:
    pred, ref, out = tmp_path / "pred", tmp_path / "ref", tmp_path / "out"
    for n, name in enumerate(HOSTILE):
        write(ref / f"{name}.nii.gz")
        write(pred / f"{name}_seg.nii.gz", shift=n % 3)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"1": "<img src=x>", "2": "=1+1"}))
    done("evaluate", pred, ref, "-o", out, "--no-surface", "--labels", labels, "--lesions", "=1+1")
    assert len(names(out / "cases")) == len(HOSTILE)
    assert {case["case_id"] for case in reported(out)["cases"]} == set(HOSTILE)
    page = (out / "cohort.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    for table in out.glob("*.csv"):
        for row in csv.reader(io.StringIO(table.read_text())):
            assert not any(cell.startswith(("=", "+", "@")) for cell in row)
    again = evaluate(pred, ref, out=out, structures=labels, surface=False, lesions=["=1+1"])
    assert [case.case_id for case in again.cases] == sorted(HOSTILE)


def test_the_cohort_is_summarised_once(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[str, str]] = []
    summarised = cohort._row

    def counted(structure: str, metric: str, values: Any) -> cohort.CohortRow:
        rows.append((structure, metric))
        return summarised(structure, metric, values)

    monkeypatch.setattr(cohort, "_row", counted)
    found = evaluate(*folders, out=tmp_path / "out", surface=False)
    assert found["1"].cohort["dice"] in found.cohort
    assert found.content()["cohort"]
    assert len(rows) == len(set(rows)) == len(found.cohort)


# pages


def test_scans_give_each_case_its_page(folders: Folders, tmp_path: Path) -> None:
    (pred, ref), out, images = folders, tmp_path / "out", tmp_path / "images"
    scan(images / "a.nii.gz")
    scan(images / "b_0000.nii.gz")
    scan(images / "c.nii.gz", affine=np.eye(4))
    ran = medseg("evaluate", pred, ref, "-o", out, "--images", images, "--no-surface")
    assert ran.code == 7
    assert "warning: c: No report was written" in ran.err
    assert "No report was written for cases without a scan: d" in ran.err
    assert names(out / "cases") == {*(f"{n}.json" for n in "abcd"), "a.html", "b.html", "a.png", "b.png"}
    page = (out / "cohort.html").read_text()
    assert 'href="cases/a.html"' in page
    assert "cases/c.html" not in page
    assert "cases/d.html" not in page
    assert CANARY.encode() not in everything([out])
    before = (out / "cases" / "a.html").stat().st_mtime_ns
    (out / "cases" / "b.html").unlink()
    scan(images / "c.nii.gz")
    done("evaluate", pred, ref, "-o", out, "--images", images, "--no-surface")
    assert (out / "cases" / "a.html").stat().st_mtime_ns == before
    assert {"b.html", "c.html"} <= names(out / "cases")
    write(pred / "a_seg.nii.gz", shift=3)
    evaluate(pred, ref, out=out, surface=False)
    assert "a.html" not in names(out / "cases"), "the page of another prediction"
    assert 'href="cases/b.html"' in (out / "cohort.html").read_text()


def test_a_single_pair_takes_a_single_scan(folders: Folders, tmp_path: Path) -> None:
    pair = folders[0] / "a_seg.nii.gz", folders[1] / "a.nii.gz"
    found = evaluate(*pair, out=tmp_path / "out", images=scan(tmp_path / "t1.nii.gz"), surface=False)
    assert set(found.pages) == {"a"}
    assert b"SHA-256" in (tmp_path / "out" / "cases" / "a.html").read_bytes()


def test_a_case_page_repeats_what_the_model_said_of_its_result(folders: Folders, tmp_path: Path) -> None:
    pair, images = (folders[0] / "a_seg.nii.gz", folders[1] / "a.nii.gz"), scan(tmp_path / "t1.nii.gz")
    page = tmp_path / "out" / "cases" / "a.html"
    evaluate(*pair, out=tmp_path / "out", images=images, surface=False)
    assert "confidence in its result is unknown here" in page.read_text()
    said = {
        "schema": "medseg.prediction/1",
        "quality": {"flag": "doubtful", "reasons": ["unlike the training"]},
    }
    (folders[0] / "a_seg.json").write_text(json.dumps(said))
    evaluate(*pair, out=tmp_path / "out", images=images, surface=False)
    assert "Unlike the training." in page.read_text()


def test_scans_that_are_not_there_leave_nothing(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(MedsegError):
        evaluate(*folders, out=tmp_path / "out", images=tmp_path / "none", surface=False)
    assert not (tmp_path / "out").exists()


def test_a_page_names_the_rule_of_lesions_and_its_penalty(folders: Folders, tmp_path: Path) -> None:
    evaluate(*folders, structures=STRUCTURES, out=tmp_path, protocol="brats2023")
    page = (tmp_path / "cohort.html").read_text()
    assert "BraTS 2023, gliomas" in page
    assert "374 mm" in page
    with pytest.raises(UsageError, match="did you mean 'front'"):
        evaluate(*folders, structures=STRUCTURES, lesions=["Front"])


def test_digests_are_of_the_whole_image(tmp_path: Path) -> None:
    pred, ref = write(tmp_path / "p.nii.gz"), write(tmp_path / "r.nii.gz")
    pair = nib.load(pred)
    nib.save(nib.Nifti1Pair(np.asarray(pair.dataobj), pair.affine), tmp_path / "q.hdr")
    first = evaluate(tmp_path / "q.hdr", ref).digests["r"]["prediction"]
    image = bytearray((tmp_path / "q.img").read_bytes())
    image[-1] ^= 1
    (tmp_path / "q.img").write_bytes(image)
    assert evaluate(tmp_path / "q.hdr", ref).digests["r"]["prediction"] != first


def test_structures_are_called_what_the_prediction_calls_them(tmp_path: Path) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:3, 1:3, 1:3], labels[3:5, 3:5, 3:5] = 1, 2
    for name in ("p_seg", "r/p"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    rows = [{"value": 1, "name": "left lobe"}, {"value": 2, "name": "core"}]
    summary = {"schema": "medseg.prediction/1", "structures": rows}
    (tmp_path / "p_seg.json").write_text(json.dumps(summary))
    found = evaluate(tmp_path / "p_seg.nii.gz", tmp_path / "r" / "p.nii.gz")
    assert found.structures.names == ("left lobe", "core")
    rows[1]["name"] = "left lobe"
    (tmp_path / "p_seg.json").write_text(json.dumps(summary))
    again = evaluate(tmp_path / "p_seg.nii.gz", tmp_path / "r" / "p.nii.gz")
    assert again.structures.names == ("1", "2")
