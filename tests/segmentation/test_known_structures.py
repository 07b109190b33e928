"""What a segmentation's label values are called: by the model, by a file, by the prediction, by nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import done
from commands import medseg as medseg_run
from io_files import save
from models import evidence_of, tiny_model

from medseg.core.errors import InputError, UsageError
from medseg.core.structures import Structure, StructureSet, Total, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.io import write_labels
from medseg.segmentation.label_sources import known_structures
from medseg.segmentation.prediction import SCHEMA

REGIONS = StructureSet((Structure(2, "whole", members=(1, 2)), Structure(1, "left core", members=(1,))))


@pytest.fixture
def seg(tmp_path: Path) -> Path:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4], labels[1, 1, 1] = 2, 5
    return save(tmp_path / "a_seg.nii.gz", labels)


def test_without_any_word_values_are_called_by_themselves(seg: Path) -> None:
    structures, expected, totals = known_structures(seg)
    assert dict(zip(structures.values, structures.names, strict=True)) == {2: "label 2", 5: "label 5"}
    assert expected == {}
    assert totals == ()


def test_an_image_is_no_segmentation(tmp_path: Path) -> None:
    image = save(tmp_path / "scan.nii.gz", np.arange(2000, dtype=np.int16).reshape(20, 10, 10))
    with pytest.raises(InputError, match="2000 different values"):
        known_structures(image)


def test_a_model_names_them_and_knows_their_volumes(seg: Path, tmp_path: Path) -> None:
    model = tiny_model()
    evidence = {"volumes_ml": {"core": {"n": 3, "min": 0.5, "max": 2.0}}}
    replace(model, spec=replace(model.spec, evidence=evidence_of(evidence))).save(tmp_path / "m.safetensors")
    structures, expected, _ = known_structures(seg, model=str(tmp_path / "m.safetensors"))
    assert structures.items == STRUCTURES.items
    assert expected == {"core": (0.5, 2.0)}


def test_a_file_of_names_comes_before_the_predictions_own(seg: Path, tmp_path: Path) -> None:
    (tmp_path / "a_seg.json").write_text(
        json.dumps({"schema": SCHEMA, "structures": [{"value": 2, "name": "mine"}]})
    )
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "2": "theirs"}}))
    assert known_structures(seg)[0].names == ("mine",)
    assert known_structures(seg, labels=tmp_path / "dataset.json")[0].names == ("theirs",)


@pytest.mark.parametrize("structures", [STRUCTURES, REGIONS], ids=["labels", "regions"])
def test_what_predict_wrote_is_read_back_whole(tmp_path: Path, structures: StructureSet) -> None:
    totals = (Total("everything"), Total("some", structures.known_values[1:2]))
    tiny_model(structures=structures, totals=totals).save(tmp_path / "m.safetensors")
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(18, 20, 16))
    done("predict", tmp_path / "scan.nii.gz", "-m", tmp_path / "m.safetensors", "-q")
    found, _, read = known_structures(tmp_path / "scan_seg.nii.gz")
    assert read == totals
    for one, other in zip(found, structures, strict=True):
        assert (one.value, one.name, one.members, one.side) == (
            other.value, other.name, other.members, "left" if "left" in other.name else one.side,
        )  # fmt: skip
    assert found.are_regions == structures.are_regions


ROWS = ("3", "[3]", '[{"value": "x", "name": "y"}]', '[{"value": 0, "name": "y"}]',
        '[{"value": 1, "name": "y", "members": 3}]')  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "{", "[]", *(f'{{"schema": "{SCHEMA}", "structures": {r}}}' for r in ROWS)]
)
def test_a_damaged_summary_is_said(seg: Path, text: str) -> None:
    seg.with_name("a_seg.json").write_text(text)
    with pytest.raises(InputError, match=r"a_seg\.json: cannot be read as a prediction \(.+\); predict"):
        known_structures(seg)
    seg.with_name("a_seg.json").write_text(f'{{"schema": "{SCHEMA}"}}')
    with pytest.raises(InputError, match=r"a_seg\.json: does not name any structure"):
        known_structures(seg)


@pytest.mark.parametrize("text", ["{}", '{"RepetitionTime": 2.5}', '{"schema": "other/1"}'])
def test_json_of_another_program_beside_a_segmentation_is_passed_over(seg: Path, text: str) -> None:
    """Such as the sidecars of BIDS; a `_seg.json` is nobody's but ours."""
    other = seg.rename(seg.with_name("sub-01_dseg.nii.gz"))
    other.with_name("sub-01_dseg.json").write_text(text)
    assert known_structures(other).structures.names == ("label 2", "label 5")
    other.rename(seg).with_name("a_seg.json").write_text(text)
    with pytest.raises(InputError, match=r"a_seg\.json: cannot be read as a prediction \(its schema is"):
        known_structures(seg)


@pytest.mark.fault("reports 29")
def test_a_structure_that_the_prediction_lacks_wholly_is_on_its_page(tmp_path: Path) -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:6, 2:6, 2:6], truth[8:10, 8:10, 8:10] = 1, 2
    scan = save(tmp_path / "scan.nii.gz", truth.astype(np.float32))
    reference = save(tmp_path / "truth.nii.gz", truth)
    seg = save(tmp_path / "scan_seg.nii.gz", np.where(truth == 1, truth, 0).astype(np.uint8))
    done("report", seg, scan, "--reference", reference, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "label 2: in the reference, no voxels labelled" in page
    rows = [line for line in page.splitlines() if "label 2</td>" in line]
    assert any("<td>0.000</td>" in row for row in rows)
    assert known_structures(seg).structures.names == ("label 1",)


@pytest.mark.fault("reports 29")
def test_segments_of_prediction_and_reference_are_united_by_name(tmp_path: Path) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:3], labels[4] = 1, 2
    image = LabelMap(labels, Grid(labels.shape, np.eye(4)), FileForm(sform_code=1, suffix=".seg.nrrd"))
    for name, told in (("a", {1: "liver", 2: "spleen"}), ("b", {1: "spleen", 2: "colon"})):
        write_labels(tmp_path / f"{name}.seg.nrrd", image, structures=from_labels(told))
    found = known_structures(tmp_path / "a.seg.nrrd", reference=tmp_path / "b.seg.nrrd").structures
    assert {s.name: s.value for s in found} == {"liver": 1, "spleen": 2, "colon": 3}


def smooth_scan(path: Path, levels: int) -> Path:
    """A scan of this many grey levels whose intensity changes from voxel to voxel, as tissue does."""
    along = np.indices((20, 20, 20)).sum(axis=0)
    noise = np.random.default_rng(0).integers(0, levels, (20, 20, 20))
    return save(path, (1 + (along + noise) % (levels - 1)).astype(np.uint8))


def parcels(path: Path) -> Path:
    """A label map of 125 parcels of 4 voxels each way, without background between them."""
    i, j, k = np.indices((20, 20, 20)) // 4
    return save(path, (1 + i + 5 * j + 25 * k).astype(np.uint8))


@pytest.mark.parametrize("levels", [60, 139, 200])
def test_a_scan_of_few_grey_levels_is_no_segmentation(tmp_path: Path, levels: int) -> None:
    scan = smooth_scan(tmp_path / "scan.nii.gz", levels)
    with pytest.raises(InputError, match="different values, so it looks like a scan"):
        known_structures(scan)
    atlas = parcels(tmp_path / "atlas.nii.gz")
    assert len(known_structures(atlas).structures) == 125
    for words in (("report", scan, atlas), ("evaluate", scan, atlas), ("compare", scan, atlas)):
        ran = medseg_run(*words, "--no-surface") if words[0] != "report" else medseg_run(*words)
        assert (ran.code, "looks like a scan" in ran.err) == (3, True), (words, ran.err)
    assert not (tmp_path / "scan_report.html").exists()


def test_a_model_that_names_the_values_otherwise_than_the_sidecar_is_refused(
    seg: Path, tmp_path: Path
) -> None:
    model = tiny_model()
    model.save(tmp_path / "m.safetensors")
    structures = [{"value": s.value, "name": s.name} for s in model.spec.structure_set]
    for stated, said in (
        ({"value": structures[0]["value"], "name": "spleen"}, "and the model tiny-0 names it 'left lobe'"),
        (
            {"value": 77, "name": "spleen"},
            "names the value 77 'spleen', and the model tiny-0 has no such value",
        ),
    ):
        summary = {"schema": SCHEMA, "structures": [stated]}
        (tmp_path / "a_seg.json").write_text(json.dumps(summary))
        with pytest.raises(UsageError, match=said):
            known_structures(seg, model=str(tmp_path / "m.safetensors"))
    (tmp_path / "a_seg.json").write_text(json.dumps({"schema": SCHEMA, "structures": structures}))
    known_structures(seg, model=str(tmp_path / "m.safetensors"))


def test_values_without_a_structure_make_a_page_doubtful(seg: Path, tmp_path: Path) -> None:
    scan = save(tmp_path / "scan.nii.gz", np.ones((6, 6, 6), np.float32))
    names = tmp_path / "names.json"
    names.write_text('{"2": "core"}')
    state = {"schema": SCHEMA, "structures": [{"value": 2, "name": "core"}], "findings": []}
    for sidecar in (None, state):
        if sidecar:
            (tmp_path / "a_seg.json").write_text(json.dumps(sidecar))
        done("report", seg, scan, "--labels", names, "-o", tmp_path / "page.html", "--overwrite")
        page = (tmp_path / "page.html").read_text()
        assert "Doubtful: an automatic check speaks against this result" in page
        assert "values without a structure, which are left out here: 5 (1 voxel)" in page
