"""`compare --followup`: two predictions of one patient in, what changed out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import typer
from commands import done, refused
from models import tiny_model
from typer.testing import CliRunner

from medseg.classical.spec import InstancesSpec
from medseg.cli.compare import command
from medseg.core.errors import InputError, ModelError, UsageError
from medseg.core.structures import from_labels
from medseg.data.phantom import write_phantom_scan
from medseg.evaluation.followup import Followup, followup
from medseg.findings.finding import sentences
from medseg.io import digest_of_files, read_labels
from medseg.model.file import Model, load_model
from medseg.model.spec import PostprocessSpec
from medseg.reporting.comparison.followup import NOT_KNOWN

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])
EVIL = "<script>alert(1)</script>"
CANARY = "JANE^CANARY"

Boxes = list[tuple[int, int]]


def texts(found: Followup) -> tuple[str, ...]:
    return sentences(found.report.findings)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose repeatability is known of its first structure alone."""
    known = {"core": {"n": 5, "smallest_change_ml": 0.05, "smallest_change_percent": 10.0}}
    model = tiny_model(
        structures=from_labels({1: "core", 2: "rim"}),
        evidence={"repeatability": {"runs": 5, "perturbations": {}, "structures": known}},
    )
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model.save(path)
    return path


def write(
    path: Path, planes: Boxes, *, model: Model | None = None, affine: np.ndarray = AFFINE, **changes: Any
) -> Path:
    """A prediction of bars of 5 x 5 voxels (0.05 ml a plane) in the planes given, and its summary."""
    labels = np.zeros((40, 12, 10), np.uint8)
    for start, stop in planes:
        labels[start:stop, 1:6, 1:6] = 1
    labels[:10, 8:10, 2:7] = 2
    image = nib.Nifti1Image(labels, affine)
    image.header["descrip"] = CANARY.encode()
    nib.save(image, path)
    name, sha256 = (model.spec.name, model.sha256) if model else ("m", "1" * 64)
    provenance = {
        "input": {"sha256": "0" * 64, "channels": []},
        "models": [{"name": name, "sha256": sha256}],
        "settings": {"engines": ["openvino f32"], "tta": None, "reading": {"volume": 0}},
        "software": {"name": "medseg", "version": "1"},
    }
    for key in list(changes):
        if key in provenance:
            provenance[key] = changes.pop(key)
        elif key in provenance["settings"]:
            provenance["settings"] = provenance["settings"] | {key: changes.pop(key)}
    summary = {
        "schema": "medseg.prediction/1",
        "structures": [{"value": 1, "name": "core", "truncated": False}, {"value": 2, "name": "rim"}],
        "labels_sha256": digest_of_files([path]),
        "provenance": provenance,
    }
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(summary | changes))
    return path


def two(root: Path, first: Boxes, second: Boxes, *, model: Path | None = None, **changes: Any) -> Followup:
    known = load_model(model) if model else None
    one = write(root / "t0_seg.nii.gz", first, model=known)
    other = write(root / "t1_seg.nii.gz", second, model=known, **changes)
    return followup(one, other, model=str(model or ""), lesions=["core"])


def test_a_change_beyond_noise_has_a_percentage(tmp_path: Path, model_file: Path) -> None:
    """10 planes to 13: 0.5 ml to 0.65 ml; noise is 10 % of 0.5 ml."""
    found = two(tmp_path, [(5, 15)], [(5, 18)], model=model_file)
    core, rim = found.report.changes
    assert (core.first_ml, core.second_ml) == pytest.approx((0.5, 0.65))
    assert core.smallest_ml == pytest.approx(0.05)
    assert core.percent == pytest.approx(30.0)
    assert (rim.smallest_ml, rim.exceeds) == (None, None)
    said = " ".join(found.sentences())
    assert "Core is larger (+0.150 ml, +30.0 %; the measurement noise is up to 0.0500 ml)" in said
    assert "The measurement noise of rim is unknown." in said


def test_a_change_within_noise_is_not_shown_and_has_none(tmp_path: Path, model_file: Path) -> None:
    found = two(tmp_path, [(5, 25)], [(5, 26)], model=model_file)
    core = found.report.changes[0]
    assert (core.exceeds, core.percent) == (False, None)
    assert "No change was shown in core" in " ".join(found.sentences())
    assert "5.0 %" not in found.page()
    assert found.report.lesions["core"][0].kind == "unchanged"


def test_without_the_model_nothing_is_shown_to_be_real(tmp_path: Path) -> None:
    found = two(tmp_path, [(5, 15)], [(5, 30)])
    assert found.report.noise_known is False
    assert all(change.percent is None for change in found.report.changes)
    assert "The measurement noise is unknown" in found.sentences()[0]
    assert any("--model" in warning for warning in texts(found))
    assert NOT_KNOWN in found.page()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"models": [{"name": "n", "sha256": "1" * 64}]},
            rf"different models: m \(SHA-256 {'1' * 64}\) and n \(SHA-256 {'1' * 64}\); predict both",
        ),
        ({"models": [{"name": "m", "sha256": "2" * 64}]}, rf"{'1' * 64}\) and m \(SHA-256 {'2' * 64}\)"),
        (
            {"engines": ["openvino bf16"]},
            "engines or precisions: openvino f32 and openvino bf16; predict",
        ),
        ({"tta": True}, r"mirroring \(tta\): model default and yes; predict both scans with the same"),
    ],
)
def test_other_models_or_precisions_are_refused_with_both_values(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        two(tmp_path, [(5, 15)], [(5, 15)], **changes)


def test_two_files_are_taken_and_no_folder(tmp_path: Path) -> None:
    one = write(tmp_path / "a_seg.nii.gz", [(5, 15)])
    with pytest.raises(UsageError, match="needs two label files, and this is a folder"):
        followup(tmp_path, tmp_path)
    with pytest.raises(UsageError, match="are the same file"):
        followup(one, one)


@pytest.mark.fault("reports 36")
def test_volumes_have_three_figures_and_json_has_no_binary_tail(tmp_path: Path, model_file: Path) -> None:
    """35 planes of 5 x 5 voxels of 2 mm^3, then 36 of 1.134 mm^3."""
    found = two(tmp_path, [(0, 35)], [(0, 36)], model=model_file, affine=np.diag([-1.0, 1.0, 1.134, 1.0]))
    assert found.table_rows()[1][1:4] == ("1.75", "1.02", "−0.729")
    numbers = found.content()["structures"][0], found.content()["lesions"][0]
    assert all(x == round(x, 6) for of in numbers for x in of.values() if isinstance(x, float))
    assert max(len(cell) for cell in found.csv().replace("\n", ",").split(",")) < 20


@pytest.mark.fault("reports 38")
def test_a_page_has_the_scans_and_the_dates_that_were_given(tmp_path: Path, model_file: Path) -> None:
    known = load_model(model_file)
    one = write(tmp_path / "t0_seg.nii.gz", [(5, 15)], model=known)
    other = write(tmp_path / "t1_seg.nii.gz", [(5, 18)], model=known)
    scan = tmp_path / "t0.nii.gz"
    nib.save(nib.Nifti1Image(np.full((40, 12, 10), 50, np.float32), AFFINE), scan)
    words = ("compare", one, other, "--followup", "--model", model_file)
    page = tmp_path / "page.html"
    ran = done(*words, "--scan-a", scan, "--dates", "2025-01-31,2026-02-28", "-o", page, "--json")
    assert (ran.json()["dates"], ran.json()["days"]) == (["2025-01-31", "2026-02-28"], 393)  # type: ignore[index]
    text = page.read_text()
    assert "2026-02-28, 393 days later" in text
    assert text.count("<img ") == 2
    assert text.count("Only the outlines are shown, because the scan was not given.") == 1
    assert "days later" not in two(tmp_path, [(5, 15)], [(5, 18)], model=model_file).page()
    assert "dated 2024-01-01, before the first" in refused(2, *words, "--dates", "2025-01-01,2024-01-01")
    assert "not '1.2.2025'" in refused(2, *words, "--dates", "1.2.2025")
    assert refused(2, *words, "--tolerance", 1).endswith(
        "cannot be combined with --reference, --tolerance or --ignore"
    )
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), AFFINE), scan)
    assert "scan and segmentation" in refused(4, *words, "--scan-a", scan)


def test_what_only_the_file_decides_may_differ(tmp_path: Path) -> None:
    found = two(tmp_path, [(5, 15)], [(5, 15)], reading={"volume": 3}, software={"version": "2"})
    assert "Different versions of medseg made the predictions: 1 and 2." in texts(found)


def test_only_predictions_as_they_were_written_are_compared(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a_seg.nii.gz", [(5, 15)]), write(tmp_path / "b_seg.nii.gz", [(5, 15)])
    nib.save(nib.Nifti1Image(np.ones((40, 12, 10), np.uint8), AFFINE), other)
    with pytest.raises(InputError, match="changed after the prediction"):
        followup(one, other)
    other.with_name("b_seg.json").unlink()
    with pytest.raises(InputError, match=r"no sidecar b_seg\.json beside it"):
        followup(one, other)
    with pytest.raises(InputError, match="no such file"):
        followup(one, tmp_path / "c.nii.gz")


@pytest.mark.parametrize(
    "damage", [{"provenance": None}, {"provenance": {"models": 3}}, {"labels_sha256": 1}, {"structures": 2}]
)
def test_damaged_summaries_are_input_errors(tmp_path: Path, damage: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        two(tmp_path, [(5, 15)], [(5, 15)], **damage)


def test_a_named_model_must_be_the_one_that_predicted(tmp_path: Path, model_file: Path) -> None:
    one, other = write(tmp_path / "a_seg.nii.gz", [(5, 15)]), write(tmp_path / "b_seg.nii.gz", [(5, 15)])
    with pytest.raises(ModelError, match="the model that predicted has " + "1" * 64):
        followup(one, other, model=str(model_file))
    with pytest.raises(UsageError, match="the structure 'tip' does not exist"):
        followup(one, other, lesions=["tip"])


def test_a_packaged_model_is_found_by_its_hash(tmp_path: Path) -> None:
    packaged = load_model("hippocampus")
    one, other = (write(tmp_path / f"{n}_seg.nii.gz", [(5, 15)], model=packaged) for n in "ab")
    found = followup(one, other)
    measured = packaged.spec.evidence.repeatability is not None
    assert any("was not measured" in warning for warning in texts(found)) != measured
    assert not any("not packaged" in warning for warning in texts(found))


def test_lesions_new_gone_grown_and_merged(tmp_path: Path, model_file: Path) -> None:
    first, second = [(2, 6), (8, 10), (14, 18), (30, 33)], [(2, 10), (14, 20), (24, 26)]
    found = two(tmp_path, first, second, model=model_file)
    kinds = {c.kind: c for c in found.report.lesions["core"]}
    assert set(kinds) == {"merged", "grown", "new", "gone"}
    assert kinds["merged"].first_ml == pytest.approx((0.2, 0.1))
    assert kinds["grown"].change_ml == pytest.approx(0.1)
    assert kinds["new"].centre_mm[0] == -24.5
    said = " ".join(found.sentences())
    assert "Core has these connected components: 1 new, 1 gone, 1 grown, 1 merged." in said
    assert "voxel by voxel, without registration" in said


def test_instances_of_both_predictions_are_followed(tmp_path: Path) -> None:
    apart = PostprocessSpec(instances=InstancesSpec(("core",)))
    tiny_model(postprocess=apart).save(tmp_path / "tiny.safetensors")
    for n in range(2):
        write_phantom_scan(tmp_path / f"t{n}.nii.gz", seed=n, shape=(24, 24, 24))
        done("predict", tmp_path / f"t{n}.nii.gz", "-m", tmp_path / "tiny.safetensors", "--threads", 1)
    found = followup(tmp_path / "t0_seg.nii.gz", tmp_path / "t1_seg.nii.gz")
    assert list(found.report.lesions) == ["core"]
    both = [read_labels(tmp_path / f"t{n}_inst.nii.gz").array.max() for n in range(2)]
    followed = found.report.lesions["core"]
    assert [sum(len(c.first_ml) for c in followed), sum(len(c.second_ml) for c in followed)] == both
    assert "Core has these instances: " in " ".join(found.sentences())
    assert "<h2>Instances of core</h2>" in found.page()
    (tmp_path / "t1_inst.nii.gz").unlink()
    alone = followup(tmp_path / "t0_seg.nii.gz", tmp_path / "t1_seg.nii.gz")
    assert not alone.report.lesions
    said = "Instances are not followed, as no usable map of instances lies beside t1_seg.nii.gz."
    assert said in " ".join(texts(alone))


def test_other_grids_are_said_to_be_compared_as_the_scanner_states(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = -3.0
    found = two(tmp_path, [(8, 14)], [(5, 11)], affine=moved)
    assert [c.kind for c in found.report.lesions["core"]] == ["unchanged"]
    assert "compared by the scanner’s coordinates, without registration" in found.sentences()[-1]
    assert "without registration" in found.page()


@pytest.mark.parametrize(("factor", "alike"), [(1.2, True), (1.3, False)])
def test_scans_of_other_voxels_show_no_change_to_be_real(
    tmp_path: Path, model_file: Path, factor: float, alike: bool
) -> None:
    """Noise was measured between scans of one protocol."""
    thicker = AFFINE @ np.diag([factor, 1, 1, 1])
    found = two(tmp_path, [(5, 15)], [(5, 25)], model=model_file, affine=thicker)
    assert found.report.noise_known is alike
    said = [text for text in texts(found) if "voxels of the two scans differ" in text]
    assert len(said) == (0 if alike else 1)
    assert alike or "The voxels of the two scans differ" in found.page()


def test_json_and_csv(tmp_path: Path, model_file: Path) -> None:
    found = two(tmp_path, [(5, 15)], [(5, 18), (30, 32)], model=model_file)
    content = json.loads(found.json(), parse_constant=pytest.fail)
    assert (content["schema"], content["registered"]) == ("medseg.followup/1", False)
    assert content["structures"][0]["more_than_noise"] is True
    assert content["structures"][1]["percent"] is None
    assert {lesion["kind"] for lesion in content["lesions"]} == {"grown", "new"}
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["kind"] for row in rows] == ["structure", "structure", "grown", "new"]
    assert rows[0]["more_than_noise"] == "true"


def test_nothing_of_the_patient_or_the_path_and_no_script(tmp_path: Path) -> None:
    rows = [{"value": 1, "name": EVIL}, {"value": 2, "name": "=cmd|' /C calc'!A0"}]
    one, other = (write(tmp_path / f"{n}_seg.nii.gz", [(5, 15)], structures=rows) for n in "ab")
    found = followup(one, other, lesions=[EVIL])
    page = found.page()
    assert "<script" not in page
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in page
    everything = page + found.json() + found.csv()
    assert CANARY not in everything
    assert str(tmp_path) not in everything
    assert not any(c.startswith("=") for row in csv.reader(io.StringIO(found.csv())) for c in row)


def test_predictions_of_the_command_line_are_followed(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "tiny.safetensors")
    for n in range(2):
        write_phantom_scan(tmp_path / f"t{n}.nii.gz", seed=n, shape=(24, 24, 24))
        done("predict", tmp_path / f"t{n}.nii.gz", "-m", tmp_path / "tiny.safetensors", "--threads", 1)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    words = ["--followup", tmp_path / "t0_seg.nii.gz", tmp_path / "t1_seg.nii.gz", "-o", tmp_path / "f.html"]
    words += ["-m", tmp_path / "tiny.safetensors"]
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exit_code == 0, ran.exception
    assert NOT_KNOWN in ran.stdout
    assert "\\u" not in ran.stdout
    assert "Change between two scans" in (tmp_path / "f.html").read_text()
