"""Corrections by scribbles: what changes, what stays; and `medseg refine`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, names, refused
from io_files import save
from scipy.ndimage import binary_dilation, distance_transform_edt

import medseg
from medseg.classical.refine import METHODS, refine
from medseg.core.boxes import bounding_box
from medseg.core.errors import GridMismatchError, UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.io import digest_of
from medseg.metrics.functions import dice
from medseg.segmentation.prediction import PredictionSummary, read_summary
from medseg.segmentation.rows import StructureSummary, TotalSummary

SPACING_MM = (1.0, 1.2, 1.5)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two balls of different brightness that touch, and their labels."""
    i, j, k = np.indices((22, 20, 16))
    labels = np.zeros(i.shape, np.uint8)
    labels[(i - 7) ** 2 + (j - 10) ** 2 + (k - 8) ** 2 < 28] = 1
    labels[(i - 15) ** 2 + (j - 10) ** 2 + (k - 8) ** 2 < 25] = 3
    image = np.array([10.0, 60.0, 0.0, 100.0])[labels]
    return image + 6 * np.random.default_rng(0).normal(size=image.shape), labels


def scribbled(labels: np.ndarray, start: np.ndarray | None = None, count: int = 6) -> np.ndarray:
    """Some voxels of each label, and of background near them (255), where a start is wrong."""
    rng = np.random.default_rng(1)
    seeds = np.zeros_like(labels)
    box = bounding_box(labels) or ()
    for value in np.unique(labels):
        inside = np.zeros(labels.shape, bool)
        inside[box] = labels[box] == value
        if start is not None:
            inside &= start != value
        voxels = np.argwhere(inside)
        chosen = rng.choice(len(voxels), min(count, len(voxels)), replace=False)
        seeds[tuple(voxels[chosen].T)] = value or 255
    return seeds


def mean_dice(found: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([dice(labels, found, label=value) for value in (1, 3)]))


def spoilt(labels: np.ndarray) -> np.ndarray:
    """One ball cut in half, the other grown by a voxel."""
    start = labels.copy()
    start[:7][labels[:7] == 1] = 0
    start[binary_dilation(labels == 3) & (labels != 1)] = 3
    return start


@pytest.mark.parametrize("method", METHODS)
def test_a_few_scribbles_better_a_spoilt_start(method: str) -> None:
    image, labels = scene()
    start = spoilt(labels)
    seeds = scribbled(labels, start)
    found = refine(image, seeds, start, SPACING_MM, method, reach_mm=6.0)
    before, after = mean_dice(start, labels), mean_dice(found, labels)
    assert before < 0.8
    assert after > before + 0.02
    assert ((found == np.where(seeds == 255, 0, seeds)) | (seeds == 0)).all(), "a scribble is obeyed"
    assert set(np.unique(found)) == {0, 1, 3}


@pytest.mark.parametrize("method", METHODS)
def test_a_few_scribbles_alone_find_the_structures(method: str) -> None:
    image, labels = scene()
    found = refine(image, scribbled(labels), None, SPACING_MM, method, reach_mm=8.0)
    assert mean_dice(found, labels) > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_a_start_that_lacks_the_structures_is_as_good_as_none(method: str) -> None:
    image, labels = scene()
    seeds = scribbled(labels)
    alone = refine(image, seeds, None, SPACING_MM, method)
    empty = refine(image, seeds, np.zeros_like(labels), SPACING_MM, method)
    assert mean_dice(empty, labels) > mean_dice(alone, labels) - 0.05


def test_labels_far_from_scribbles_and_nearer_to_scribbles_that_agree_stay() -> None:
    image, labels = scene()
    start = spoilt(labels)
    seeds = np.zeros_like(labels)
    seeds[4, 10, 8] = 1  # where the start has lost a half
    near = refine(image, seeds, start, SPACING_MM, "graph_cut", reach_mm=5.0)
    changed = np.argwhere(near != start)
    assert len(changed) > 20
    assert (np.linalg.norm((changed - (4, 10, 8)) * SPACING_MM, axis=1) <= 5).all()
    seeds[7, 10, 8] = 1  # agrees
    kept = refine(image, seeds, start, SPACING_MM, "graph_cut", reach_mm=5.0)
    assert ((kept != start).sum()) < len(changed)
    assert not (kept != start)[6:].any()


@pytest.mark.parametrize("method", METHODS)
def test_an_error_at_the_border_says_little_of_the_middle(method: str) -> None:
    """Background scribbled in a shell that was added may take back the shell, and no more of the ball."""
    image, labels = scene()
    start = labels.copy()
    shell = binary_dilation(labels == 3) & (labels == 0)
    start[shell] = 3
    seeds = np.zeros_like(labels)
    seeds[tuple(np.argwhere(shell)[::9].T)] = 255
    found = refine(image, seeds, start, SPACING_MM, method)
    inner = distance_transform_edt(start == 3, SPACING_MM) > 4
    assert inner.sum() > 20
    assert (found[inner] == 3).all()
    assert (found[start == 1] == 1).all(), "no scribble denies the other ball"
    assert (found[start == 0] == 0).all(), "nor the background"
    assert dice(labels, found, label=3) > dice(labels, start, label=3)


@pytest.mark.parametrize("method", METHODS)
def test_a_voxel_takes_what_was_scribbled_or_keeps_its_label(method: str) -> None:
    """One stroke of another structure amid a right one says nothing for the background, nor for a third."""
    image, labels = scene()
    seeds = np.zeros_like(labels)
    seeds[7, 10, 8] = 3
    found = refine(image, seeds, labels, SPACING_MM, method)
    changed = found != labels
    assert set(found[changed]) == {3}
    assert set(labels[changed]) == {1}
    assert (found == 1).sum() > 0.5 * (labels == 1).sum()


def test_scribbles_that_all_agree_change_nothing() -> None:
    image, labels = scene()
    seeds = scribbled(labels)
    np.testing.assert_array_equal(refine(image, seeds, labels, SPACING_MM, "graph_cut"), labels)


@pytest.mark.parametrize("method", METHODS)
def test_a_slice_and_a_constant_image_will_do(method: str) -> None:
    image, labels = scene()
    flat, part = image[:, :, 8:9], labels[:, :, 8:9]
    assert mean_dice(refine(flat, scribbled(part), None, SPACING_MM, method, reach_mm=8.0), part) > 0.7
    same = refine(np.zeros_like(image), scribbled(labels), None, SPACING_MM, method, reach_mm=8.0)
    assert mean_dice(same, labels) > 0.5


def test_scribbles_on_the_background_alone_label_nothing_and_are_refused() -> None:
    image, labels = scene()
    scribbles = np.where(np.indices(labels.shape)[0] == 0, 255, 0)
    with pytest.raises(UsageError, match="only the background is scribbled on"):
        refine(image, scribbles, None, SPACING_MM, "graph_cut")
    found = refine(image, scribbles, labels, SPACING_MM, "graph_cut")
    np.testing.assert_array_equal(found, labels)


def test_an_unknown_method_is_named() -> None:
    image, labels = scene()
    with pytest.raises(UsageError, match=r"'graphcut' does not exist; did you mean 'graph_cut'"):
        refine(image, labels, None, SPACING_MM, "graphcut")


# The command and the Python interface


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Scan, start with its sidecar, and scribbles, on a grid that runs to the left."""
    image, labels = scene()
    start = spoilt(labels)
    affine = np.diag([-1.0, 1.2, 1.5, 1.0])
    arrays = {"scan": image.astype(np.float32), "scan_seg": start, "seeds": scribbled(labels, start)}
    paths = {name: save(tmp_path / f"{name}.nii.gz", array, affine) for name, array in arrays.items()}
    rows = (StructureSummary(1, "left ball", "#112233"), StructureSummary(3, "right ball", "#445566"))
    rows += (StructureSummary(5, "absent ball"),)
    said = {"labels_sha256": digest_of(paths["scan_seg"]), "totals": (TotalSummary("balls", (1, 3)),)}
    PredictionSummary(structures=rows, **said).write(tmp_path / "scan_seg.json")
    return paths


def test_a_correction_keeps_grid_names_and_colours_and_states_no_verdict(
    files: dict[str, Path], tmp_path: Path
) -> None:
    ran = done("refine", files["scan"], "--seeds", files["seeds"], "--start", files["scan_seg"], "--reach", 8)
    assert names(tmp_path) >= {"scan_refined_seg.nii.gz", "scan_refined_seg.json"}
    written = nib.load(tmp_path / "scan_refined_seg.nii.gz")
    np.testing.assert_array_equal(written.affine, nib.load(files["scan"]).affine)
    found = np.asarray(written.dataobj)
    same = medseg.refine(files["scan"], files["seeds"], start=files["scan_seg"], reach_mm=8.0)
    np.testing.assert_array_equal(found, same.array)
    summary = read_summary(tmp_path / "scan_refined_seg.json")
    assert summary is not None
    assert [(s.value, s.name) for s in summary.structures] == [
        (1, "left ball"),
        (3, "right ball"),
        (5, "absent ball"),
    ]
    assert summary.structures[0].colour == "#112233"
    assert summary.structures[0].voxels == (found == 1).sum()
    assert summary.totals[0].volume_ml == pytest.approx(1.8e-3 * (found > 0).sum(), rel=1e-4)
    assert summary.stated_findings() is None
    assert summary.fits(tmp_path / "scan_refined_seg.nii.gz")
    assert "left ball: " in ran.out
    done("report", tmp_path / "scan_refined_seg.nii.gz", files["scan"], "-o", tmp_path / "page.html")
    assert "left ball" in (tmp_path / "page.html").read_text("utf-8")


def test_without_a_start_values_are_labels(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "mine.nii.gz"
    ran = done("refine", files["scan"], "--seeds", files["seeds"], "-o", out, "--method", "grow")
    assert names(out.parent) == {"mine.nii.gz"}
    assert "label 1: " in ran.out
    assert "exists already" in refused(2, "refine", files["scan"], "--seeds", files["seeds"], "-o", out)


def test_a_start_is_never_written_over(files: dict[str, Path]) -> None:
    words = ("refine", files["scan"], "--seeds", files["seeds"], "--start", files["scan_seg"], "--overwrite")
    for target in ("scan_seg", "seeds", "scan"):
        assert "would replace an input" in refused(2, *words, "-o", files[target])


def test_scribbles_on_another_grid_are_refused_with_both(files: dict[str, Path], tmp_path: Path) -> None:
    array = np.asarray(nib.load(files["seeds"]).dataobj)
    mirrored = save(tmp_path / "mirrored.nii.gz", array, np.diag([1.0, 1.2, 1.5, 1.0]))
    smaller = save(tmp_path / "smaller.nii.gz", array[1:], np.diag([-1.0, 1.2, 1.5, 1.0]))
    for seeds, text in (
        (mirrored, "22x20x16 LAS at 1x1.2x1.5 mm against 22x20x16 RAS"),
        (smaller, "21x20x16"),
    ):
        line = refused(4, "refine", files["scan"], "--seeds", seeds)
        assert str(seeds) in line
        assert text in line
        assert "scan and scribbles lie on different grids" in line
        with pytest.raises(GridMismatchError):
            medseg.refine(files["scan"], seeds)
    line = refused(4, "refine", files["scan"], "--seeds", files["seeds"], "--start", smaller)
    assert "scan and start lie on different grids" in line
    assert not list(tmp_path.glob("*refined*"))


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0, 3, "nothing is scribbled: every voxel is 0; mark some voxels of each structure by its value"),
        (2, 3, "unknown label values 2 (1 voxel); the start has 1 left ball, 3 right ball and 5 absent ball"),
        (-4, 3, "unknown label values -4 (1 voxel)"),
        (5, 0, ""),
        (255, 0, ""),
    ],
)
def test_scribbles_name_structures_of_the_start(
    files: dict[str, Path], tmp_path: Path, value: int, code: int, text: str
) -> None:
    array = np.zeros((22, 20, 16), np.int16)
    array[15, 10, 8] = value
    seeds = save(tmp_path / "s.nii.gz", array, np.diag([-1.0, 1.2, 1.5, 1.0]))
    words = ("refine", files["scan"], "--seeds", seeds, "--start", files["scan_seg"], "--reach", 3)
    if code:
        assert text in refused(code, *words)
    else:
        done(*words)
        assert nib.load(tmp_path / "scan_refined_seg.nii.gz").dataobj[15, 10, 8] == value % 255


def test_an_image_is_no_map_of_scribbles(files: dict[str, Path], tmp_path: Path) -> None:
    values = np.arange(24 * 20 * 16).reshape(24, 20, 16) % 250
    image = save(tmp_path / "image.nii.gz", values.astype(np.int16))
    said = refused(3, "refine", image, "--seeds", image, "-o", tmp_path / "out.nii.gz")
    assert "image.nii.gz: 100% of the voxels are scribbled, with 249 values" in said


def test_settings_that_cannot_be_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    words = ("refine", files["scan"], "--seeds", files["seeds"], "--start", files["scan_seg"])
    assert "'cut'" in refused(2, *words, "--method", "cut")
    assert "must be positive, not 0.0 mm" in refused(2, *words, "--reach", 0)
    for value in (3, 0):
        assert f"the value {value} cannot mean background" in refused(2, *words, "--background", value)
    assert "--seeds" in refused(2, "refine", files["scan"])
    assert "no such file" in refused(3, "refine", files["scan"], "--seeds", tmp_path / "none.nii.gz")
    (tmp_path / "dicom").mkdir()
    for line in (
        refused(3, "refine", files["scan"], "--seeds", tmp_path / "dicom"),
        refused(3, "refine", tmp_path / "dicom", "--seeds", files["seeds"]),
    ):
        assert str(tmp_path / "dicom") in line


def test_scans_in_memory_of_several_channels_and_segmentations_of_slicer(tmp_path: Path) -> None:
    image, labels = scene()
    grid = Grid(image.shape, np.diag([-1.0, 1.2, 1.5, 1.0]))
    scan = medseg.read(image, affine=grid.affine)
    seeds = LabelMap(scribbled(labels), grid)
    found = medseg.refine(scan, seeds, reach_mm=8.0)
    medseg.write(tmp_path / "seeds.seg.nrrd", seeds, structures=from_labels({1: "a", 3: "b", 255: "none"}))
    again = medseg.refine(scan, tmp_path / "seeds.seg.nrrd", reach_mm=8.0)
    np.testing.assert_array_equal(found.array, again.array)
    two = medseg.read(np.stack([image, image]), affine=grid.affine, channels=("t1", "t2"))
    for call in (lambda: medseg.refine(two, seeds), lambda: medseg.partition(two)):
        with pytest.raises(medseg.MedsegError, match="channels t1 and t2, and one is needed"):
            call()


def test_sides_of_a_phantom_stay_what_they_were(tmp_path: Path) -> None:
    """A correction in the left lobe, of a scan that is stored the other way round, stays in the left lobe."""
    for order in ("RAS", "LPS"):
        scan, truth = tmp_path / f"{order}.nii.gz", tmp_path / f"{order}_truth.nii.gz"
        labels = write_phantom_scan(scan, shape=(20, 24, 18), order=order, labels_path=truth)
        left = STRUCTURES["left lobe"].value
        start = np.where(labels.array == left, 0, labels.array)
        voxels = np.argwhere(labels.array == left)
        seeds = np.zeros_like(labels.array)
        seeds[tuple(voxels[:: len(voxels) // 12].T)] = left
        found = medseg.refine(
            scan, replace(labels, array=seeds), start=replace(labels, array=start), reach_mm=4.0
        )
        assert dice(labels.array, found.array, label=left) > 0.8
        right = STRUCTURES["right lobe"].value
        assert not (found.array[labels.array == right] == left).any()
        assert not (found.array[labels.array == left] == right).any()
