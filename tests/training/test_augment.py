"""`medseg augment`: a picture of what a preset or a recipe makes of a scan."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from commands import apart, done, refused, tree
from io_files import save

from medseg.augment.compose import Params
from medseg.augment.contrast import ContrastParams
from medseg.augment.published import MeshParams
from medseg.augment.spec import ELASTIC_PRESETS, AugmentSpec
from medseg.core.errors import GeometryError, InputError
from medseg.data.cards import available
from medseg.data.phantom import write_phantom_scan
from medseg.reporting.drawing.draws import Column
from medseg.training import preview as workflow
from medseg.training.preview import LARGEST_PATCH, Plan, _part, augment, plan_of_preset, plan_of_recipe, words
from medseg.training.recipe import load_recipe


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    write_phantom_scan(path, labels_path=tmp_path / "labels.nii.gz")
    return path


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> list[Column]:
    """What is drawn, in the place of the picture, which takes a second."""
    drawn: list[Column] = []

    def collect(found: list[Column], *_: object, **__: object) -> bytes:
        drawn[:] = found
        return b"\x89PNG"

    monkeypatch.setattr(workflow, "draws_png", collect)
    return drawn


def test_a_picture_is_written(scan: Path) -> None:
    out = scan.with_name("grid.png")
    done("augment", scan, "--preset", "simard2003", "-o", out, "--count", 1)
    picture = matplotlib.image.imread(io.BytesIO(out.read_bytes()))
    assert min(picture.shape[:2]) > 300
    assert float(picture[..., :3].std()) > 0.1


@pytest.mark.parametrize("preset", ELASTIC_PRESETS)
def test_each_preset_says_what_it_did(preset: str, scan: Path, columns: list[Column]) -> None:
    ran = done("augment", scan, "--preset", preset, "--count", 2)
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert [line.split(";")[0] for line in lines] == ["draw 1: deformed", "draw 2: deformed", str(lines[-1])]
    assert "smallest Jacobian " in lines[0]
    assert [column.title for column in columns] == ["original", "draw 1", "draw 2"]
    assert [panel.plane.name for panel in columns[1].panels] == ["axial", "coronal", "sagittal"]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(24, 20, 1)).astype(np.float32)
    save(tmp_path / "scan.nii.gz", array, np.eye(4))
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.png"
        augment(tmp_path / "scan.nii.gz", plan_of_preset("unet3d2016"), out=out, count=1, seed=seed)
        written.append(out.read_bytes())
    assert written[0] == written[1]
    assert written[0][-2000:] != written[2][-2000:]


def test_the_first_column_is_the_scan_as_radiologists_see_it(tmp_path: Path, columns: list[Column]) -> None:
    """A bright block at the patient's left and front is on the right and above, however it is stored."""
    array = np.random.default_rng(0).normal(size=(40, 40, 40)) * 0.01
    array[6:14, 26:34, 12:28] = 1.0
    for turned, flip in ((array, 1.0), (array[::-1], -1.0)):
        name = tmp_path / f"scan{flip:g}.nii.gz"
        save(name, np.ascontiguousarray(turned, np.float32), np.diag([flip, 1.0, 1.0, 1.0]))
        augment(name, plan_of_preset("unet3d2016"), out=tmp_path / f"{flip:g}.png", count=1)
        axial = columns[0].panels[0]
        rows, places = np.nonzero(axial.pixels > axial.pixels.mean() + axial.pixels.std())
        assert rows.mean() < 20 < places.mean()
        assert axial.plane.letters == ("R", "L", "A", "P")


def test_labels_move_with_the_scan_and_the_slices_pass_through_them(
    scan: Path, columns: list[Column]
) -> None:
    labels = scan.with_name("labels.nii.gz")
    done("augment", scan, "--preset", "unet3d2016", "--count", 1, "--labels", labels)
    first, second = columns[0].panels[0], columns[1].panels[0]
    assert {1, 2} <= set(np.unique(first.labels).tolist()) <= {0, 1, 2, 3}
    assert set(np.unique(second.labels).tolist()) <= {0, 1, 2, 3}
    moved = first.labels != second.labels
    assert 0.005 < moved.mean() < 0.2


@pytest.mark.parametrize(
    ("size", "patch", "start", "point"),
    [
        ((40, 40, 40), (40, 40, 40), (0, 0, 0), (30, 20, 4)),
        ((40, 40, 40), (16, 16, 16), (22, 12, 0), (8, 8, 4)),
        ((40, 40, 40), (64, 40, 3), (-12, 0, 3), (42, 20, 1)),
    ],
)
def test_the_patch_lies_around_the_labels_as_far_as_there_is_room(
    size: tuple[int, ...], patch: tuple[int, ...], start: tuple[int, ...], point: tuple[int, ...]
) -> None:
    indices = np.zeros(size, np.uint8)
    indices[29:32, 19:22, 3:6] = 1
    assert _part(indices, patch) == (start, point)


@pytest.mark.usefixtures("columns")
def test_a_large_scan_is_shown_in_part(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(200, 30, 1)).astype(np.float32)
    save(tmp_path / "scan.nii.gz", array, np.eye(4))
    (params,) = augment(tmp_path / "scan.nii.gz", plan_of_preset("vnet2016"), out=tmp_path / "x.png", count=1)
    assert isinstance(params.elastic, MeshParams)
    assert params.elastic.patch_shape == (LARGEST_PATCH, 30, 1)


@pytest.mark.parametrize("name", [n for n in available("pipelines") if n != "brain"])
def test_a_recipe_is_shown_on_a_patch_of_its_own(name: str, scan: Path) -> None:
    recipe, plan = load_recipe(name), plan_of_recipe(name)
    assert plan.what == recipe.augmentation
    assert plan.patch is not None
    if recipe.network.spatial_dims == 3:
        assert plan.patch == recipe.training.patch
    else:
        assert plan.across == recipe.slices.axes[0]
        assert plan.patch[plan.across] == 1 + 2 * recipe.slices.context


@pytest.mark.parametrize("recipe", ["phantom_unet3d", "slices_unet2d"])
def test_a_recipe_draws_all_of_its_section(recipe: str, scan: Path, columns: list[Column]) -> None:
    told = done("augment", scan, "--recipe", recipe, "--count", 4, "--seed", 1).err
    assert "mirrored" in told
    assert "rotated and scaled" in told
    assert scan.with_name("scan_augment.png").exists()
    names = [panel.plane.name for panel in columns[0].panels]
    assert names == (["axial"] if recipe == "slices_unet2d" else ["axial", "coronal", "sagittal"])


def test_words_name_everything_that_was_drawn() -> None:
    field = MeshParams("unet2015", (4, 4, 4), -0.25, (1.0,) * 81)
    changes = ContrastParams(gamma=(1.2,), linear_scale=(1.1,), linear_shift=(0.0,))
    assert words(Params(field, flips=(0,), contrast=changes)) == (
        "deformed, mirrored",
        "smallest Jacobian -0.25, so the field folds",
        "gamma, contrast",
    )


def test_help_and_bad_words_need_no_library(tmp_path: Path) -> None:
    for words_ in (("augment", "--help"), ("augment", "scan.nii.gz")):
        found = apart(tmp_path, *words_)
        assert not found.modules & {"torch", "numpy", "matplotlib", "nibabel"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "either a preset or a recipe"),
        (("--preset", "unet2015", "--recipe", "phantom_unet3d"), "either a preset or a recipe"),
        (("--preset", "unet"), "did you mean 'unet2015'"),
        (("--recipe", "nonesuch"), "the recipe 'nonesuch' does not exist"),
        (("--recipe", "brain"), "synthesises its scans from label maps"),
        (("--preset", "unet2015", "--count", 0), "count"),
        (("--preset", "unet2015", "--count", 9), "count"),
        (("--preset", "unet2015", "-o", "grid.jpg"), "ends in .png"),
        (("--preset", "unet2015", "-o", "there.png"), "exists already; add --overwrite"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_written(
    options: tuple[object, ...], told: str, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan.parent)
    Path("there.png").write_text("kept")
    before = tree(scan.parent)
    assert told in refused(2, "augment", scan, *options)
    assert tree(scan.parent) == before


@pytest.mark.usefixtures("columns")
def test_an_old_picture_is_replaced_when_asked(scan: Path) -> None:
    out = scan.with_name("there.png")
    out.write_text("old")
    done("augment", scan, "--preset", "unet3d2016", "-o", out, "--count", 1, "--overwrite")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_bad_files_are_named(scan: Path, tmp_path: Path) -> None:
    plan, out = plan_of_preset("unet3d2016"), tmp_path / "x.png"
    with pytest.raises(InputError, match="no such file"):
        augment(tmp_path / "absent.nii.gz", plan, out=out)
    save(tmp_path / "flat.nii.gz", np.zeros((9, 9, 9), np.float32), np.eye(4))
    with pytest.raises(InputError, match="constant") as fault:
        augment(tmp_path / "flat.nii.gz", plan, out=out)
    assert "flat.nii.gz" in str(fault.value)
    save(tmp_path / "small.nii.gz", np.ones((9, 9, 9), np.uint8), np.eye(4))
    with pytest.raises(GeometryError, match="image and labels"):
        augment(scan, plan, out=out, labels=tmp_path / "small.nii.gz")
    assert not out.exists()


def test_labels_that_a_recipes_card_does_not_know_are_refused(scan: Path, tmp_path: Path) -> None:
    plan = plan_of_recipe("hippocampus_unet3d")
    with pytest.raises(InputError, match=r"labels.nii.gz: unknown label values 3"):
        augment(scan, plan, out=tmp_path / "x.png", labels=scan.with_name("labels.nii.gz"))


@pytest.mark.usefixtures("columns")
def test_a_scan_thinner_than_a_recipes_patch_is_continued_by_its_edge(scan: Path, tmp_path: Path) -> None:
    (params,) = augment(
        scan, Plan("wide", AugmentSpec("unet3d2016"), patch=(64, 48, 80)), out=tmp_path / "x.png", count=1
    )
    assert isinstance(params.elastic, MeshParams)
    assert params.elastic.patch_shape == (64, 48, 80)
