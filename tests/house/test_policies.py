"""What the product promises in so many words: one test a promise, which fails where it is dropped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, names, refused
from models import evidence_of, tiny_model

from medseg.core.errors import InputError, ResourceError
from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.evaluation.evaluate import evaluate
from medseg.findings.finding import REFUSED
from medseg.findings.labels import VOLUME_SLACK
from medseg.io.payload import BOMB_BYTES, BOMB_RATIO, LARGEST_RATIO, require_plausible
from medseg.metrics.case import evaluate_case
from medseg.reporting import html
from medseg.reporting.case.content import ReportCase
from medseg.reporting.case.page import report
from medseg.reporting.viewer.viewer import viewer
from medseg.segmentation.calibration import (
    LEAST_SPREAD,
    SHIFTED_COVERAGE,
    Observation,
    calibrated,
    may_show_dice,
)

pytestmark = pytest.mark.fault("reports 41")

SURE, UNSURE = {"min": 0.0}, {"min": 1.0}
"""Confidences of a model's own scans that none falls short of, and that every one does."""

CALIBRATION = {
    "coverage": 0.9,
    "n": 40,
    "shifted": {"dice_coverage": 0.95},
    "structures": {
        name: {
            "n": 40,
            "volume_log_ratio": [-0.1, 0.1],
            "dice": {"slope": 1.0, "intercept": 0.0, "low": -0.05, "high": 0.05},
        }
        for name in STRUCTURES.names
    },
}


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A phantom. A network of chance knows no sides, so that nobody asks for them."""
    monkeypatch.setattr("medseg.findings.labels.exchanged_sides", lambda *_: ())
    monkeypatch.setattr("medseg.segmentation.verdict._sides_in_doubt", lambda *_: False)
    write_phantom_scan(tmp_path / "scan.nii.gz", seed=1, shape=(20, 24, 18))
    return tmp_path / "scan.nii.gz"


def a_model(path: Path, **evidence: object) -> Path:
    tiny_model(evidence={"calibration": CALIBRATION, **evidence}).save(path)
    return path


def test_strict_refuses_a_doubtful_result_and_writes_nothing(scan: Path, tmp_path: Path) -> None:
    model = a_model(tmp_path / "unsure.safetensors", confidence=UNSURE)
    before = names(tmp_path)
    line = refused(3, "predict", scan, "-m", model, "--strict", "--report")
    assert "doubtful: tiny-0 is unsure" in line
    assert names(tmp_path) == before
    done("predict", scan, "-m", a_model(tmp_path / "sure.safetensors", confidence=SURE), "--strict", "-q")


def test_strict_says_every_doubt_and_what_to_do(scan: Path, tmp_path: Path) -> None:
    usual = {name: {"min": 900.0, "max": 1000.0} for name in STRUCTURES.names}
    model = a_model(tmp_path / "unsure.safetensors", confidence=UNSURE, volumes_ml=usual)
    line = refused(3, "predict", scan, "-m", model, "--strict")
    done("predict", scan, "-m", model, "-q")
    findings = json.loads((tmp_path / "scan_seg.json").read_text())["findings"]
    said = [f["sentence"].removesuffix(".") for f in findings if f["severity"] in REFUSED]
    assert len(said) > 1
    assert "; ".join(said) in line
    assert "check the scan and the model, or drop --strict and inspect the result" in line


def promises(folder: Path, shown: str) -> Iterator[bool]:
    """Whether terminal, summary and page state an interval, and whether the last two state a Dice."""
    rows = json.loads((folder / "scan_seg.json").read_text())["structures"]
    page = (folder / "scan_report.html").read_text()
    yield "90 % interval" in shown
    yield any("interval_ml" in row for row in rows)
    yield "90 % interval" in page or "90&nbsp;% interval" in page
    yield any("expected_dice" in row for row in rows)
    yield "Expected Dice" in page


@pytest.mark.parametrize(("confidence", "promised"), [(SURE, True), (UNSURE, False)])
def test_a_doubtful_result_promises_nothing_anywhere(
    scan: Path, tmp_path: Path, confidence: dict[str, float], promised: bool
) -> None:
    model = a_model(tmp_path / "model.safetensors", confidence=confidence)
    ran = done("predict", scan, "-m", model, "--report")
    flag = json.loads((tmp_path / "scan_seg.json").read_text())["quality"]["flag"]
    assert flag == ("ok" if promised else "doubtful")
    assert list(promises(tmp_path, ran.out)) == [promised] * 5
    (tmp_path / "again").mkdir()
    done("report", tmp_path / "scan_seg.nii.gz", scan, "-o", tmp_path / "again" / "scan_report.html")
    page = (tmp_path / "again" / "scan_report.html").read_text()
    assert ("90 % interval" in page) == promised


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_page_runs_its_own_style_and_script_alone() -> None:
    """Both digests of the policy are those of what stands in the page, and nothing else is allowed."""
    grid = Grid((8, 8, 6), np.eye(4))
    image = np.random.default_rng(0).random(grid.shape)
    scroll = viewer(image, (image > 0.5).astype(np.uint8), grid, from_labels({1: "core"}), places=[])
    page = html.case_page(ReportCase("a", (), viewer=scroll))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    rules = dict(
        rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";") if rule.strip()
    )
    assert rules.pop("style-src") == f"'sha256-{digest(style)}'"
    assert rules.pop("script-src") == f"'sha256-{digest(script)}'"
    assert rules.pop("img-src") == "data:"
    assert set(rules) == {"default-src", "connect-src", "base-uri", "form-action"}
    assert set(rules.values()) == {"'none'"}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A scan, a prediction and a reference; nothing is drawn of them."""
    monkeypatch.setattr("medseg.reporting.case.page.with_pictures", lambda case, *_, **__: case)
    labels = np.zeros((20, 18, 16), np.uint8)
    labels[4:12, 5:12, 4:11] = 1
    arrays = {
        "scan": np.random.default_rng(0).normal(100, 10, labels.shape).astype(np.float32),
        "seg": labels,
        "reference": np.roll(labels, (1, 2), (0, 1)),
    }
    paths = {role: tmp_path / f"{role}.nii.gz" for role in arrays}
    for role, array in arrays.items():
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.2, 3.0, 1.0])), paths[role])
    return paths


def test_a_page_names_its_files_by_their_digests(pair: dict[str, Path], tmp_path: Path) -> None:
    case = report(**pair, structures=from_labels({1: "core"}), out=tmp_path / "page.html")
    facts = dict(case.facts)
    for title, role in (("Scan", "scan"), ("Segmentation", "seg"), ("Reference", "reference")):
        assert facts[f"{title} SHA-256"] == hashlib.sha256(pair[role].read_bytes()).hexdigest()


def test_a_case_page_is_drawn_again_when_its_scan_or_the_verdict_changes(
    pair: dict[str, Path], tmp_path: Path
) -> None:
    def page() -> str:
        evaluate(pair["seg"], pair["reference"], out=tmp_path / "out", images=pair["scan"], surface=False)
        (path,) = (tmp_path / "out" / "cases").glob("*.html")
        return path.read_text()

    first = page()
    assert page() == first
    image = nib.load(pair["scan"])
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) + 1, image.affine), pair["scan"])
    second = page()
    assert hashlib.sha256(pair["scan"].read_bytes()).hexdigest() in second
    assert hashlib.sha256(pair["scan"].read_bytes()).hexdigest() not in first
    doubt = {"code": "low_contrast", "severity": "doubt", "sentence": "All is grey."}
    said = {
        "schema": "medseg.prediction/1",
        "quality": {"flag": "doubtful", "reasons": []},
        "findings": [doubt],
    }
    (tmp_path / "seg.json").write_text(json.dumps(said))
    assert "All is grey." in page()
    assert "All is grey." not in second


def test_a_page_measures_surfaces_by_their_area(pair: dict[str, Path], tmp_path: Path) -> None:
    """The primary definition, for which the voxels' gives other numbers here."""
    case = report(**pair, structures=from_labels({1: "core"}), out=tmp_path / "page.html")
    maps = [
        LabelMap(np.asarray(nib.load(pair[role]).dataobj), Grid((20, 18, 16), np.diag([1.0, 1.2, 3.0, 1.0])))
        for role in ("seg", "reference")
    ]
    surfel, voxel = (
        evaluate_case(*maps, from_labels({1: "core"}), mode=mode).rows[0].metrics["assd_mm"].value  # type: ignore[arg-type]
        for mode in ("surfel", "voxel")
    )
    assert case.rows[0].assd_mm.value == pytest.approx(surfel, rel=1e-6)
    assert surfel != pytest.approx(voxel, rel=0.02)


def test_a_volume_is_doubted_beyond_the_stated_slack() -> None:
    """Both sides of the limit are in tests/findings; the number is in docs/how-to/doubtful.md."""
    assert VOLUME_SLACK == 1.6
    page = Path(__file__).parents[2] / "docs" / "how-to" / "doubtful.md"
    assert f"a factor of more than {VOLUME_SLACK}" in page.read_text()


@pytest.mark.parametrize(("held", "shown"), [(0.85, True), (0.8499, False), (1.0, True), (0.0, False)])
def test_the_dice_to_expect_is_shown_where_85_percent_held_on_shifted_scans(held: float, shown: bool) -> None:
    assert SHIFTED_COVERAGE == 0.85
    assert (
        may_show_dice(evidence_of({"calibration": {"coverage": 0.9, "shifted": {"dice_coverage": held}}}))
        is shown
    )
    assert not may_show_dice(evidence_of({"calibration": {"coverage": 0.9}}))


def test_a_feature_that_never_varied_is_given_a_least_spread() -> None:
    """Else a scan would be unlike all others for its last decimal."""
    cases = [Observation({}, {}, {}, {}, {"noise": 2.0}) for _ in range(20)]
    usual = calibrated(cases, from_labels({})).usual
    assert LEAST_SPREAD == 0.02
    assert usual.features["noise"] == (2.0, 0.02)


def test_what_unpacks_to_more_than_any_scan_is_a_bomb() -> None:
    """Beyond 4 GiB nothing is unpacked from less than a 500th, and DEFLATE makes 1032 of a byte at most."""
    path = Path("scan.nii.gz")
    assert (BOMB_RATIO, BOMB_BYTES, LARGEST_RATIO) == (500, 4 * 2**30, 1032)
    count = 5 * 2**30
    require_plausible(count // 500 + 1, count, path)
    with pytest.raises(ResourceError, match="which is implausible for a scan"):
        require_plausible(count // 500 - 1, count, path)
    require_plausible(BOMB_BYTES // 1032 + 1, BOMB_BYTES, path)  # small enough to unpack
    with pytest.raises(InputError):
        require_plausible(BOMB_BYTES // 1032 - 1, BOMB_BYTES, path)
