"""`medseg train` and `medseg check` on label maps without images: scans are made, and a model comes of it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import Ran, done, medseg
from label_maps import CARD, RECIPE, write_map

from medseg import load
from medseg.data.cards import load_card
from medseg.data.check import Audit, check
from medseg.data.layouts import CaseFiles
from medseg.data.synthetic import MARGIN_MM, SyntheticCases
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.model.provenance import CaseCounts
from medseg.training.loop import Epoch, Trainer
from medseg.training.recipe import load_recipe

MAPS = 5


def header(path: Path) -> dict:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["spec"], parse_constant=pytest.fail)


@dataclass(frozen=True)
class Bench:
    folder: Path
    ran: Ran

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def words(self, out: Path) -> list[str]:
        named = ["train", self.folder / "tiny.toml", "--data", self.data, "-o", out]
        return [str(w) for w in (*named, "--threads", 1, "--folds", MAPS, "--fold", 0)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "data").mkdir()
    for n in range(MAPS):
        write_map(folder / "data" / f"map_{n}.nii.gz", n)
    (folder / "maps.toml").write_text(CARD)
    (folder / "tiny.toml").write_text(RECIPE)
    ran = medseg(*Bench(folder, Ran(0, "", "")).words(folder / "run"))
    assert ran.code == 0, ran.err
    return Bench(folder, ran)


def maps(bench: Bench, seed: int = 0) -> SyntheticCases:
    recipe = load_recipe(bench.folder / "tiny.toml")
    assert recipe.synthesis is not None
    return SyntheticCases(load_card(bench.folder / "maps.toml"), recipe.synthesis, seed)


def files(bench: Bench, n: int = 0) -> CaseFiles:
    path = bench.data / f"map_{n}.nii.gz"
    return CaseFiles(f"map_{n}", path, path, f"map_{n}")


def test_a_training_on_label_maps_leaves_a_model_that_predicts(bench: Bench, tmp_path: Path) -> None:
    path = bench.folder / "run" / "model.safetensors"
    model = load_model(path)
    assert model.spec.training.cases == CaseCounts(3, 1, 1)
    assert model.spec.structure_set.names == ("left lobe", "right lobe", "core")
    assert model.spec.channels == ("MR",)
    assert {str(value.dtype) for value in model.weights.values()} == {"float16", "float32", "int64"}
    assert model.spec.evidence.engines["openvino f32"].probability < 1e-3
    assert set(model.spec.evidence.volumes_ml) == {"left lobe", "right lobe", "core"}
    with (bench.folder / "run" / "validation.csv").open(newline="") as lines:
        assert {row["structure"] for row in csv.DictReader(lines)} >= {"left lobe", "right lobe", "core"}
    scan, _ = maps(bench).read(files(bench))
    nib.save(nib.Nifti1Image(scan.array[0], scan.grid.affine), tmp_path / "scan.nii.gz")
    found = load(path, threads=1)(read_volume(tmp_path / "scan.nii.gz"))
    assert found.labels.grid.shape == scan.grid.shape
    assert set(np.unique(found.labels.array)) <= {0, 1, 2, 3}


def test_a_stopped_training_on_label_maps_goes_on_bit_for_bit(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.cli import main

    honest = Trainer._epoch

    def epoch(self: Trainer, log: object) -> Epoch:
        if self.progress.epoch == 1:
            raise KeyboardInterrupt
        return honest(self, log)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", epoch)
        assert main._run(bench.words(tmp_path / "run"), debug=False) == 130
    assert load_model(tmp_path / "run" / "model.safetensors").spec.training.epochs == 1
    ran = medseg(*bench.words(tmp_path / "run"))
    assert ran.code == 0, ran.err
    assert "resuming after epoch 1 of 2" in ran.err
    whole, resumed = (
        load_model(f / "model.safetensors").weights for f in (bench.folder / "run", tmp_path / "run")
    )
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        np.testing.assert_array_equal(value, resumed[key])


def test_a_made_scan_lies_where_its_map_does(bench: Bench) -> None:
    """Every structure of the map is in the labels of the scan, in its place in the world, flips aside."""
    original = nib.load(bench.data / "map_0.nii.gz")
    centre = {
        v: nib.affines.apply_affine(original.affine, np.argwhere(np.isin(original.dataobj, of)).mean(0))
        for v, of in ((1, (1,)), (2, (2,)), (3, (3, 30)))
    }
    still = load_recipe(bench.folder / "tiny.toml").synthesis
    assert still is not None
    spec = replace(
        still, flip_probability=0.0, affine=replace(still.affine, rotation_degrees=(0.0, 0.0, 0.0))
    )
    scan, labels = SyntheticCases(load_card(bench.folder / "maps.toml"), spec, 0).read(files(bench))
    labels.grid.require(scan.grid, "labels and scan", source="map_0")
    for value, expected in centre.items():
        found = nib.affines.apply_affine(labels.grid.affine, np.argwhere(labels.array == value).mean(0))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert scan.array.shape[0] == 1
    assert min(scan.grid.shape) >= 2 * MARGIN_MM


def test_the_scan_of_a_map_is_its_names_and_its_seeds(bench: Bench) -> None:
    first, again, other = (maps(bench, seed).read(files(bench))[0].array for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == other.shape
    assert not np.array_equal(first, other)


def test_a_map_under_two_names_is_refused_before_anything_is_trained(bench: Bench, tmp_path: Path) -> None:
    changed = Bench(Path(shutil.copytree(bench.folder, tmp_path / "b")), bench.ran)
    split = json.loads((bench.folder / "run" / "run.json").read_text())["split"]
    for part in ("train", "validation"):
        one, other = split["train"][0], split[part][-1]
        shutil.copy(bench.data / f"{one}.nii.gz", changed.data / f"{other}.nii.gz")
        ran = medseg(*changed.words(tmp_path / "run"))
        assert ran.code == 3
        assert f"{other}.nii.gz: contains the same voxels as {one}" in ran.err
        assert not (tmp_path / "run").exists()
        shutil.copy(bench.data / f"{other}.nii.gz", changed.data / f"{other}.nii.gz")


def test_a_value_that_is_no_tissue_is_refused(bench: Bench, tmp_path: Path) -> None:
    changed = Bench(Path(shutil.copytree(bench.folder, tmp_path / "b")), bench.ran)
    edit(changed.data / "map_1.nii.gz", lambda a: np.where(a == 30, 31, a))
    ran = medseg(*changed.words(tmp_path / "run"))
    assert ran.code == 3
    assert "unknown label values 31 (1 voxel); declare them as tissues in the card" in ran.err


def test_maps_of_other_voxels_are_refused(bench: Bench, tmp_path: Path) -> None:
    changed = Bench(Path(shutil.copytree(bench.folder, tmp_path / "b")), bench.ran)
    for path in changed.data.iterdir():
        old = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(old.dataobj), old.affine @ np.diag([1.0, 1.0, 1.5, 1.0])), path)
    ran = medseg(*changed.words(tmp_path / "run"))
    assert ran.code == 3
    assert "but label maps need 1 mm; resample it to 1 mm" in ran.err


def test_label_maps_do_not_go_with_recipes_of_scans(bench: Bench, tmp_path: Path) -> None:
    recipe = (bench.folder / "tiny.toml").read_text().replace("[synthesis]\ncurriculum = 0.5\n", "")
    shutil.copy(bench.folder / "maps.toml", tmp_path)
    (tmp_path / "plain.toml").write_text(recipe)
    ran = medseg("train", tmp_path / "plain.toml", "--data", bench.data, "-o", tmp_path / "run")
    assert ran.code == 2
    assert "no [synthesis] section" in ran.err


def edit(path: Path, change: object) -> None:
    old = nib.load(path)
    array = change(np.asarray(old.dataobj)).astype(np.int16)  # type: ignore[operator]
    nib.save(nib.Nifti1Image(array, old.affine), path)


def audit_of(data: Path, bench: Bench) -> Audit:
    return check(data, load_card(bench.folder / "maps.toml"))


@pytest.fixture
def data(bench: Bench, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bench.data, tmp_path / "data"))


def test_a_good_folder_of_label_maps_has_no_issue(bench: Bench) -> None:
    audit = audit_of(bench.data, bench)
    assert audit.issues == ()
    assert [case.case_id for case in audit.cases] == [f"map_{n}" for n in range(MAPS)]
    assert set(audit.cases[0].label_voxels) == {0, 1, 2, 3, 30, 515}
    assert audit.cases[0].brightness is None
    said = done("check", bench.data, "--card", bench.folder / "maps.toml", "--json").json()
    assert isinstance(said, dict)
    assert said["issues"] == []


def test_what_is_wrong_with_label_maps_is_found(bench: Bench, data: Path) -> None:
    turned = nib.as_closest_canonical(nib.load(data / "map_0.nii.gz")).slicer[::-1]
    nib.save(turned, data / "map_1.nii.gz")
    edit(data / "map_2.nii.gz", lambda a: np.where(a == 30, 99, a))
    edit(data / "map_3.nii.gz", np.zeros_like)
    (data / "map_4.nii.gz").write_bytes(b"no image")
    found = {(f.severity, f.case_id): f.text for f in reversed(audit_of(data, bench).issues)}
    assert found["error", "map_1"] == "contains the same voxels as map_0"
    assert found["error", "map_2"] == "labels: unknown label values 99 (1 voxel)"
    assert found["error", "map_3"] == "labels: contains no label"
    assert found["error", "map_4"].startswith("labels: ")
    ran = medseg("check", data, "--card", bench.folder / "maps.toml")
    assert ran.code == 3
    assert "4 errors" in ran.err


def test_every_fault_of_a_label_map_is_told_at_once(bench: Bench, data: Path) -> None:
    old = nib.load(data / "map_2.nii.gz")
    array = np.asarray(old.dataobj)
    changed = np.where(array == 30, 99, array).astype(np.int16)
    nib.save(nib.Nifti1Image(changed, old.affine @ np.diag([1, 1, 2, 1])), data / "map_2.nii.gz")
    found = [issue.text for issue in audit_of(data, bench).errors if issue.case_id == "map_2"]
    assert len(found) == 2
    assert "labels: unknown label values 99 (1 voxel)" in found
    assert any("need 1 mm" in text and " 2" in text for text in found)


def test_a_structure_is_all_of_its_tissues(bench: Bench, data: Path) -> None:
    edit(data / "map_0.nii.gz", lambda a: np.where(a == 3, 30, a))
    assert audit_of(data, bench).issues == ()
