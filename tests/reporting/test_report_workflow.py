"""From files to a page: nothing of the patient leaves the scan."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import apart
from test_report_pdf import text_of

from medseg.core.errors import GridMismatchError, InputError, UsageError
from medseg.core.structures import Total, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.findings.finding import NO_DOUBT, Finding, sentences
from medseg.io import digest_of_files, read_labels, read_volume
from medseg.metrics.case import evaluate_case
from medseg.metrics.scores import Scores
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.page import case_of, report, report_cohort
from medseg.reporting.drawing.palette import LARGEST_PNG_BYTES
from medseg.segmentation.prediction import CHANGED, SCHEMA, stated_intervals, stated_verdict

CANARY = "CANARY-Jane-Doe-1970"
PAIR = from_labels({1: "left kidney", 2: "right kidney"})
PAGE_BYTES = 2_000_000


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A NIfTI with the canary in every free text its header has."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for key in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[key] = CANARY[:10].encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", CANARY.encode()))
    nib.save(image, path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / CANARY
    folder.mkdir()
    labels = np.zeros((20, 18, 16), np.uint8)
    labels[3:8, 5:10, 5:10], labels[12:17, 5:10, 5:10] = 1, 2
    image = np.random.default_rng(0).normal(100, 10, labels.shape).astype(np.float32)
    return {
        "scan": write(folder / "scan.nii.gz", image),
        "seg": write(folder / "scan_seg.nii.gz", labels),
        "reference": write(folder / "expert.nii.gz", np.roll(labels, 1, 0)),
        "out": tmp_path / "scan_report.html",
    }


def test_a_page_holds_nothing_of_the_patient_and_no_path(files: dict[str, Path]) -> None:
    report(**files, structures=PAIR, options=ReportOptions(tolerance_mm=1.0))  # type: ignore[arg-type]
    page = files["out"].read_text()
    assert CANARY[:6] not in page
    assert str(files["scan"].parent.parent) not in page
    assert '<p class="id">Case scan</p>' in page
    assert "Surface Dice at 1 mm" in page
    assert len(page) < PAGE_BYTES


def test_a_pdf_says_the_same_and_holds_nothing_of_the_patient_either(files: dict[str, Path]) -> None:
    files["out"] = files["out"].with_suffix(".pdf")
    case = report(**files, structures=PAIR, options=ReportOptions(tolerance_mm=1.0))  # type: ignore[arg-type]
    content = files["out"].read_bytes()
    assert content.startswith(b"%PDF-")
    text = text_of(content, files["out"].parent)
    assert "Case scan" in text
    assert CANARY[:6] not in text
    assert CANARY[:6].encode() not in content
    assert case.viewer is None
    assert [p.title for p in case.pictures][1].startswith("Largest distances")


def test_only_plots_import_what_draws_plots(files: dict[str, Path], model_path: Path, tmp_path: Path) -> None:
    """It takes longer to import than all other pictures of a case to draw."""
    seg, scan, out = files["seg"], files["scan"], tmp_path / "pages"
    runs = {
        ("report", seg, scan, "-o", out / "a.html"): False,
        ("report", seg, scan, "-o", out / "a.pdf"): False,
        ("predict", scan, "-m", model_path, "-o", f"{out}/", "--report"): False,
        ("report", seg, scan, "--reference", files["reference"], "-o", out / "b.html"): True,
    }
    out.mkdir()
    for words, plots in runs.items():
        found = apart(tmp_path, *words)
        assert found.ran.code == 0, found.ran.err
        assert found.modules & {"matplotlib", "skimage"} == ({"matplotlib", "skimage"} if plots else set())


def test_a_page_is_html_or_pdf(files: dict[str, Path]) -> None:
    files["out"] = files["out"].with_suffix(".docx")
    with pytest.raises(UsageError, match=r"\.html or \.pdf"):
        report(**files, structures=PAIR)  # type: ignore[arg-type]


def test_what_is_known_beforehand_reaches_the_page() -> None:
    grid = Grid((12, 12, 12), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:4, 4:8, 4:8], labels[8:10, 4:8, 4:8] = 1, 2
    labels[5, 5, 5] = 3
    structures = from_labels({1: "left kidney", 2: "right kidney", 3: "kidney tumour"})
    volume = Volume(labels[None].astype(np.float32), grid, ("T1",), FileForm(sform_code=1))
    options = ReportOptions(
        intervals_ml={"left kidney": (0.01, 0.1)},
        totals=(Total("intracranial volume"),),
        viewer=False,
    )
    case = case_of(volume, LabelMap(labels, grid), structures, options=options)
    left, right, tumour = case.rows
    assert (left.interval_ml, right.interval_ml) == ((0.01, 0.1), None)
    assert left.icv_percent == pytest.approx(100 * 32 / 65)
    assert [(a.left, a.percent) for a in case.asymmetry] == [("left kidney", 0.0)]
    assert [(r.structure, r.outcome, r.predicted_ml) for r in case.lesions] == [
        ("kidney tumour", "labelled", pytest.approx(tumour.volume_ml))
    ]
    assert case.viewer is None


def test_intervals_come_from_what_the_prediction_states(tmp_path: Path) -> None:
    seg = tmp_path / "scan_seg.nii.gz"
    assert stated_intervals(seg) == {}
    rows = [{"value": 1, "name": "liver", "interval_ml": [1.0, 2.5]}, {"value": 2, "name": "spleen"}]
    (tmp_path / "scan_seg.json").write_text(json.dumps({"schema": SCHEMA, "structures": rows}))
    assert stated_intervals(seg) == {"liver": (1.0, 2.5)}
    rows[0]["interval_ml"] = [1.0]
    (tmp_path / "scan_seg.json").write_text(json.dumps({"schema": SCHEMA, "structures": rows}))
    with pytest.raises(InputError, match=r"scan_seg\.json: .*structures\.0\.interval_ml must be a list of 2"):
        stated_intervals(seg)


def predicted(seg: Path, reasons: list[str], **more: object) -> Path:
    """What `predict` leaves beside a segmentation."""
    said = {
        "schema": SCHEMA,
        "structures": [{"value": 1, "name": "left kidney", "interval_ml": [1.0, 2.5]}],
        "quality": {"flag": "doubtful" if reasons else "ok", "reasons": reasons},
        "warnings": [],
        "labels_sha256": digest_of_files([seg]),
    }
    beside = seg.with_name("scan_seg.json")
    beside.write_text(json.dumps(said | more))
    return beside


def test_a_page_repeats_what_the_model_said_of_its_result(files: dict[str, Path]) -> None:
    arguments = {k: v for k, v in files.items() if k != "reference"} | {"overwrite": True}
    said = report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    assert (said.flags, said.verdict_known) == ((), False)
    assert "the model’s confidence in its result is unknown here" in files["out"].read_text()
    beside = predicted(files["seg"], [])
    report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    assert NO_DOUBT in files["out"].read_text()
    assert stated_intervals(files["seg"]) == {"left kidney": (1.0, 2.5)}
    predicted(files["seg"], ["unlike <b>the training</b>"], warnings=["Cut.", "cut"])
    said = report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    assert sentences(said.flags) == ("Unlike <b>the training</b>.", "Cut.")
    assert [flag.severity for flag in said.flags] == ["doubt", "warning"]
    assert "Unlike &lt;b&gt;the training" in files["out"].read_text()
    assert "No automatic check" not in files["out"].read_text()
    assert stated_intervals(files["seg"]) == {}
    predicted(files["seg"], ["unlike"], labels_sha256="0")
    assert stated_verdict(files["seg"]) == ((CHANGED,), False, False)
    assert stated_intervals(files["seg"]) == {}
    beside.write_text('{"schema": "medseg.prediction/1"}')
    assert stated_verdict(files["seg"]) == ((), False, False)
    for torn in ("{", "[]", '{"schema": "other", "quality": 1}', NOT_OURS):
        beside.write_text(torn)
        verdict = stated_verdict(files["seg"])
        assert [(f.code, f.severity) for f in verdict.findings] == [("sidecar_unreadable", "doubt")]
        assert beside.name in verdict.findings[0].sentence
        assert not verdict.known


NOT_OURS = (
    '{"schema": "medseg.prediction/1", "findings": [{"code": "x", "severity": "fatal", "sentence": ""}]}'
)


@pytest.mark.fault("reports 37")
def test_a_page_of_a_prediction_lists_its_findings_and_no_others(files: dict[str, Path]) -> None:
    """The left kidney is robbed of its twin, which the labels show and the findings here do not state."""
    image = nib.load(files["seg"])
    labels = np.array(image.dataobj)
    labels[labels == 2] = 0
    write(files["seg"], labels)
    arguments = {k: v for k, v in files.items() if k != "reference"} | {"overwrite": True}
    said = report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    assert [flag.code for flag in said.flags] == ["absent"]
    stated = Finding("low_contrast", "doubt", "All is grey.", limit=0.5, evidence={"a": 0.1})
    predicted(files["seg"], [], findings=[stated.content()])
    said = report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    assert said.flags == (stated,)


@pytest.mark.fault("reports 41")
def test_a_page_with_a_doubt_promises_nothing(files: dict[str, Path]) -> None:
    """Whoever raised it: the labels, whose volumes are unlike the training, or the prediction."""
    volume, labels = read_volume(files["scan"]), read_labels(files["seg"])
    promised = ReportOptions(intervals_ml={"left kidney": (1, 2)}, expected_dice={"left kidney": 0.9})
    (row, _) = case_of(volume, labels, PAIR, options=promised).rows
    assert (row.interval_ml, row.expected_dice) == ((1, 2), 0.9)
    for doubt in (
        {"expected_ml": {"left kidney": (0.01, 0.02), "right kidney": (0.01, 0.02)}},
        {"findings": (Finding("low_contrast", "doubt", "All is grey."),), "labels_judged": True},
    ):
        case = case_of(volume, labels, PAIR, options=dataclasses.replace(promised, **doubt))
        assert case.flags[0].severity == "doubt"
        assert [(r.interval_ml, r.expected_dice) for r in case.rows] == [(None, None)] * 2


def test_the_form_of_a_file_adds_nothing_to_the_page() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    form = dataclasses.replace(FileForm(), suffix=f".{CANARY}")
    volume = Volume(np.zeros((1, 6, 6, 6), np.float32), grid, ("T1",), form)
    case = case_of(volume, LabelMap(np.ones((6, 6, 6), np.uint8), grid, form), PAIR)
    assert CANARY not in repr(case)


def test_the_same_files_give_the_same_page(files: dict[str, Path]) -> None:
    arguments = {k: v for k, v in files.items() if k != "reference"}
    report(**arguments, structures=PAIR)  # type: ignore[arg-type]
    first = files["out"].read_bytes()
    report(**arguments, structures=PAIR, overwrite=True)  # type: ignore[arg-type]
    assert files["out"].read_bytes() == first
    assert b"accuracy not assessed" in first


def test_neither_an_input_nor_an_old_page_is_replaced(files: dict[str, Path]) -> None:
    scan = files["scan"].read_bytes()
    with pytest.raises(UsageError, match="replace an input"):
        report(files["seg"], files["scan"], structures=PAIR, out=files["scan"], overwrite=True)
    assert files["scan"].read_bytes() == scan
    files["out"].write_text("old")
    with pytest.raises(UsageError, match="exists"):
        report(files["seg"], files["scan"], structures=PAIR, out=files["out"])
    assert files["out"].read_text() == "old"


def test_a_segmentation_of_another_grid_is_refused(files: dict[str, Path]) -> None:
    moved = np.eye(4)
    moved[0, 3] = 1.0
    write(files["seg"], np.zeros((20, 18, 16), np.uint8), moved)
    with pytest.raises(GridMismatchError):
        report(files["seg"], files["scan"], structures=PAIR, out=files["out"])
    assert not files["out"].exists()


def test_without_an_orientation_the_page_warns_and_names_no_side() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    form = FileForm(sform_code=0, qform_code=0)
    volume = Volume(np.zeros((1, 6, 6, 6), np.float32), grid, ("T1",), form)
    case = case_of(volume, LabelMap(np.ones((6, 6, 6), np.uint8), grid), PAIR)
    assert "right and left" in case.flags[0].sentence
    assert not case.orientation_known
    assert ("Orientation", "unknown") in case.facts


def test_a_cohort_becomes_a_page(tmp_path: Path) -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    labels = LabelMap(np.ones((6, 6, 6), np.uint8), grid)
    results = [evaluate_case(labels, labels, PAIR, case_id=f"case {n}") for n in range(3)]
    out = tmp_path / "cohort.html"
    report_cohort(Scores(results), structures=PAIR, out=out, title="three")
    page = out.read_text()
    assert "3 cases are in this report: 3 with a segmentation" in page
    assert "data:image/png" in page


@pytest.mark.realdata
def test_pages_of_real_scans_stay_small(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "hippocampus"
    structures = from_labels({1: "Anterior", 2: "Posterior"})
    for label in sorted((folder / "labelsTr").glob("hippocampus_*.nii.gz"))[:5]:
        out = tmp_path / f"{label.stem}.html"
        case = report(
            label, folder / "imagesTr" / label.name, reference=label, structures=structures, out=out,
            options=ReportOptions(tolerance_mm=1.0),
        )  # fmt: skip
        assert out.stat().st_size < PAGE_BYTES
        assert len(case.pictures) == 1  # nothing differs, so there is no worst place
        assert case.surfaces is not None
        assert all(len(p.png) <= LARGEST_PNG_BYTES for p in (*case.pictures, case.surfaces))
        assert {row.dice.value for row in case.rows} == {1.0}
