"""Named segmentations and pictures on the road of every command: predicted, measured, reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import done, names, refused
from PIL import Image

import medseg
from medseg import io
from medseg.core.affine import shifted
from medseg.core.structures import from_labels
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.pairs import pair_files
from medseg.segmentation.label_sources import known_structures

NAMED = from_labels({1: "left lobe", 2: "right lobe", 3: "core"})


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=(20, 24, 18))
    return path


@pytest.fixture
def picture(scan: Path) -> Path:
    """A slice of the phantom."""
    volume = io.read_volume(scan).array[0, :, :, 9]
    image = np.rint(255 * (volume - volume.min()) / np.ptp(volume)).astype(np.uint8)
    path = scan.parent / "pictures" / "eye.png"
    path.parent.mkdir()
    Image.fromarray(np.ascontiguousarray(image.T)).save(path)
    return path


def labelled(path: Path) -> Path:
    """A label map of the named structures, in the middle of a grid."""
    array = np.zeros((10, 11, 12), np.uint8)
    array[3:7, 4:8, 5:9] = 1 + np.arange(64).reshape(4, 4, 4) % 3
    io.write_labels(path, LabelMap(array, Grid(array.shape, np.diag([1.0, 2.0, 3.0, 1.0]))))
    return path


def cropped(whole: Path, path: Path, values: dict[int, str]) -> Path:
    """The box of the labels alone, with other values for the same names."""
    labels = io.read_labels(whole)
    part = labels.array[3:7, 4:8, 5:9]
    table = np.array([0, *(value for name in NAMED.names for value in values if values[value] == name)])
    grid = Grid(part.shape, shifted(labels.grid.affine, (3, 4, 5)))
    io.write_labels(path, LabelMap(table[part], grid), structures=from_labels(values))
    return path


def test_predict_writes_names_and_colours(scan: Path, model_path: Path) -> None:
    target = scan.parent / "mine" / "scan.seg.nrrd"
    done("predict", scan, "-m", model_path, "-o", target, "--probabilities", "-q")
    done("predict", scan, "-m", model_path, "-q")
    fractions = {f"scan_prob-{name.replace(' ', '-')}.nrrd" for name in STRUCTURES.names}
    assert names(target.parent) == {"scan.seg.nrrd", "scan.json"} | fractions
    plain = io.read_labels(scan.parent / "scan_seg.nii.gz")
    labels = io.read_labels(target)
    np.testing.assert_array_equal(labels.array, plain.array)
    assert labels.grid.matches(plain.grid)
    found = io.read_segments(target)
    assert [(s.value, s.name, s.colour) for s in found] == [(s.value, s.name, s.colour) for s in STRUCTURES]
    again = done("predict", scan, "-m", model_path, "-o", target, "--overwrite", "--json", "-q")
    assert json.loads(again.out)


def test_predict_on_a_picture_gives_a_mask_and_an_overlay(picture: Path, model_path: Path) -> None:
    done("predict", picture, "-m", model_path, "-q")
    assert names(picture.parent) == {"eye.png", "eye_seg.png", "eye_seg.json", "eye_overlay.png"}
    with Image.open(picture) as image, Image.open(picture.with_name("eye_seg.png")) as mask:
        assert (mask.size, mask.mode) == (image.size, "L")
        shown = np.asarray(image)
    labels = io.read_labels(picture.with_name("eye_seg.png"))
    assert set(np.unique(labels.array).tolist()) <= {0, *STRUCTURES.values}
    with Image.open(picture.with_name("eye_overlay.png")) as drawn:
        changed = (np.asarray(drawn) != shown[..., None]).any(axis=-1)
    assert changed.any()
    assert not changed[labels.array[..., 0].T == 0].any()
    summary = json.loads(picture.with_name("eye_seg.json").read_text())
    assert any("no size in mm" in text for text in summary["warnings"])
    assert summary["grid"]["shape"] == [20, 24, 1]
    ran = refused(2, "predict", picture, "-m", model_path)
    assert "exists already" in ran


def test_a_volume_is_not_predicted_into_a_png(scan: Path, model_path: Path) -> None:
    ran = refused(2, "predict", scan, "-m", model_path, "-o", scan.parent / "out" / "a.png")
    assert "a PNG stores one slice, and the grid has 18; end the name in .tif or .nii.gz" in ran
    assert not (scan.parent / "out").exists()


def test_what_a_tiff_loses_of_its_scan_is_told(scan: Path, model_path: Path) -> None:
    told = "A TIFF stores no size, place and orientation: the result lacks those of its scan"
    assert told in done("predict", scan, "-m", model_path, "-o", scan.parent / "a.tif").err
    assert told in refused(3, "predict", scan, "-m", model_path, "-o", scan.parent / "b.tif", "--strict")
    assert not (scan.parent / "b.tif").exists()
    labels = LabelMap(np.zeros((4, 5, 6), np.uint8), Grid((4, 5, 6), np.eye(4)))
    with pytest.warns(UserWarning, match="stores no size, place and orientation"):
        medseg.write(scan.parent / "c.tif", labels)
    assert "--assume-ras" in refused(4, "info", scan.parent / "c.tif")


@pytest.mark.parametrize("role", ["prediction", "reference"])
def test_a_cropped_segmentation_is_measured_by_its_names_on_the_others_grid(
    tmp_path: Path, role: str
) -> None:
    whole = labelled(tmp_path / "case.nii.gz")
    part = cropped(whole, tmp_path / "case.seg.nrrd", {7: "left lobe", 1: "core", 2: "right lobe"})
    pred, ref = (part, whole) if role == "prediction" else (whole, part)
    result = evaluate(pred, ref, structures=NAMED, surface=False)
    assert [row.metrics["dice"].value for row in result.cases[0].rows] == [1.0, 1.0, 1.0]
    shift = cropped(whole, tmp_path / "off.seg.nrrd", {1: "left lobe", 2: "right lobe", 3: "core"})
    moved = io.read_labels(shift)
    grid = Grid(moved.grid.shape, shifted(moved.grid.affine, (0.5, 0, 0)))
    io.write_labels(shift, LabelMap(moved.array, grid), structures=NAMED, overwrite=True)
    ran = refused(4, "evaluate", shift, whole)
    assert "different grids" in ran


def test_without_names_given_those_of_the_file_are_taken(tmp_path: Path) -> None:
    whole = labelled(tmp_path / "case.nii.gz")
    part = cropped(whole, tmp_path / "case.seg.nrrd", {1: "left lobe", 2: "right lobe", 3: "core"})
    assert evaluate(part, whole, surface=False).structures.names == NAMED.names
    assert known_structures(part).structures.names == NAMED.names
    other = cropped(whole, tmp_path / "other.seg.nrrd", {2: "left lobe", 1: "right lobe", 3: "core"})
    ran = refused(3, "evaluate", part, other)
    assert "--labels" in ran


def test_pictures_beside_volumes_are_not_evaluated(tmp_path: Path) -> None:
    for folder in ("pred", "ref"):
        (tmp_path / folder).mkdir()
        labelled(tmp_path / folder / "a.nii.gz")
        (tmp_path / folder / "a.png").write_bytes(b"x")
    pairs, _ = pair_files(tmp_path / "pred", tmp_path / "ref")
    assert [pair.reference.name for pair in pairs] == ["a.nii.gz"]


def test_masks_that_are_pictures_are_evaluated(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 1), np.uint8)
    array[1:4, 2:4] = 1
    for folder in ("pred", "ref"):
        (tmp_path / folder).mkdir()
        labels = LabelMap(array, Grid(array.shape, np.eye(4)), FileForm(".png"))
        io.write_labels(tmp_path / folder / "a.png", labels)
    result = evaluate(tmp_path / "pred", tmp_path / "ref", surface=False)
    assert result.cases[0].rows[0].metrics["dice"].value == 1.0
