"""Plans: what a dataset is like, and what is chosen for it."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import ct_slices
from numpy.typing import NDArray

from medseg.cli.plan import understood
from medseg.core import specs
from medseg.core.errors import UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.data.cards import Card
from medseg.data.fingerprint import CasePrint, Fingerprint, Intensities
from medseg.data.phantom import write_phantoms
from medseg.data.symmetry import Place, thumbnail
from medseg.io import inspect
from medseg.training.planning.dataset import PlanOptions, survey, write_plan
from medseg.training.planning.plan import Limits, Plan, plan
from medseg.training.planning.speed import Speed
from medseg.training.recipe import Recipe, coarse_stage, load_recipe
from medseg.training.setup import build_network, check_trainable

SPEED = Speed(1e-6)
HOUR = Limits(3600.0, 16 << 30, SPEED)
MR = Intensities(0.0, 1000.0, 0.0, whole=True, inside_low=100.0, inside_high=800.0)
CT = Intensities(-1000.0, 900.0, -1024.0, whole=True, inside_low=-120.0, inside_high=240.0)


def like(
    structures: StructureSet | None = None,
    count: int = 6,
    intensities: Intensities = MR,
    empty: float = 0.0,
    scans: Sequence[NDArray[np.float64]] = (np.zeros((1, 1, 1)),),
    places: Sequence[dict[str, float]] = ({},),
    compact: Sequence[tuple[str, ...]] = ((),),
) -> Fingerprint:
    """A dataset of cases that are all alike: 100 x 100 x 50 mm at 1 mm; what they look like comes in turn.

    So does where structures are from left to right, whose spread is 0.1.
    """
    structures = structures or from_labels({1: "liver"})
    cases = [
        CasePrint(
            f"case {n}",
            f"case {n}",
            (100, 100, 50),
            (1.0, 1.0, 1.0),
            (60, 60, 50),
            empty,
            (intensities,),
            dict.fromkeys(structures.names, 8.0),
            dict.fromkeys(structures.names, 8000),
            dict.fromkeys(structures.names, 25.0),
            {k: Place((x, 0.5, 0.5), (0.1, 0.1, 0.1)) for k, x in places[n % len(places)].items()},
            (),
            thumbnail(scans[n % len(scans)]),
            compact[n % len(compact)],
        )
        for n in range(count)
    ]
    return Fingerprint(tuple(cases), ("image",), structures)


def made(fingerprint: Fingerprint, limits: Limits = HOUR) -> Plan:
    card = Card("set", "A set.", "folder", ("image",), fingerprint.structures.items)
    return plan(fingerprint, card, limits)


def large(extent: tuple[int, int, int], count: int = 8) -> Fingerprint:
    """Cases of another extent in mm, with structures so small that voxels stay as they are."""
    whole = like(count=count)
    cases = [replace(c, shape=extent, kept=extent, thickness_mm={"liver": 5.0}) for c in whole.cases]
    return replace(whole, cases=tuple(cases))


def reason(found: Plan, setting: str) -> str:
    (only,) = [f"{r.value}: {r.why}" for r in found.reasons if r.setting == setting]
    return only


def test_fingerprint_of_a_folder(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "nnunet", 3, 0, (20, 24, 16))
    (tmp_path / "dataset.json").unlink()
    seen = survey(tmp_path, PlanOptions())
    assert seen.layout == "folder"
    assert seen.like.spacing_mm == (1.0, 1.0, 1.0)
    assert {case.shape for case in seen.like.cases} == {(20, 24, 16)}
    first = seen.like.cases[0]
    assert first.volumes_ml["label 1"] == pytest.approx(first.voxels["label 1"] / 1000)


def test_names_of_values_bring_their_sides(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "nnunet", 3, 0, (20, 24, 16))
    (tmp_path / "dataset.json").unlink()
    seen = survey(tmp_path, PlanOptions(names={1: "left lobe", 2: "right lobe"}))
    assert seen.found.structures.twins() == ((1, 2),)
    with pytest.raises(UsageError, match="no label has the value 9; there are 1"):
        survey(tmp_path, PlanOptions(names={9: "left lobe"}))


def flips(found: Plan) -> tuple[int, ...]:
    flip = found.recipe.augmentation.flip
    return () if flip is None else flip.axes


def test_scans_are_mirrored_along_axes_where_they_look_like_their_mirror_images() -> None:
    noise = np.random.default_rng(0)
    heads = [noise.normal(size=(40, 50, 30)) for _ in range(4)]
    heads = [scan + scan[::-1] for scan in heads]
    assert flips(made(like(scans=heads))) == (0,)
    assert flips(made(like(scans=[*noise.normal(size=(4, 40, 50, 30))]))) == ()
    assert flips(made(like(scans=[np.ones((40, 50, 30))]))) == ()


def test_left_and_right_are_not_mirrored_where_names_have_sides() -> None:
    scans = [np.random.default_rng(0).normal(size=(24, 24, 24))]
    scans = [scan + scan[::-1] + scan[:, ::-1] + scan[::-1, ::-1] for scan in scans]
    lungs = from_labels({1: "left lung", 2: "right lung"})
    sided, plain = (made(like(names, count=1, scans=scans)) for names in (lungs, None))
    assert (flips(sided), flips(plain)) == ((1,), (0, 1))
    heads = [scan + scan[::-1] for scan in np.random.default_rng(1).normal(size=(1, 24, 24, 24))]
    assert "names have sides" in reason(made(like(lungs, count=1, scans=heads)), "augmentation")


HEADS = [scan + scan[::-1] for scan in np.random.default_rng(1).normal(size=(1, 24, 24, 24))]


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ([{"a": 0.3, "b": 0.7}], "a lies on one side of the middle"),
        ([{"a": 0.47, "b": 0.67}, {"a": 0.33, "b": 0.53}], "b lies on one side of a"),
    ],
)
def test_what_labels_refute_is_not_mirrored(places: list[dict[str, float]], why: str) -> None:
    found = made(like(from_labels({1: "a", 2: "b"}), scans=HEADS, places=places))
    assert flips(found) == ()
    assert reason(found, "augmentation").endswith(f"no mirror from left to right, where {why}")


@pytest.mark.parametrize(
    "places",
    [
        [{"whole": 0.3, "core": 0.32}, {"whole": 0.7, "core": 0.72}],  # a tumour on either side
        [{"whole": 0.48, "core": 0.52}],  # a prostate and its zones
        [{"whole": 0.5, "core": 0.9}, {"whole": 0.5}, {"whole": 0.5}],  # seen in too few patients to say
    ],
)
def test_structures_of_either_side_are_mirrored(places: list[dict[str, float]]) -> None:
    found = made(like(from_labels({1: "whole", 2: "core"}), scans=HEADS, places=places))
    assert flips(found) == (0,)
    assert reason(found, "augmentation").endswith("scans look like their mirror images from left to right")


def test_places_are_shares_of_the_scan(tmp_path: Path) -> None:
    voxels = np.zeros((20, 10, 10), np.uint8)
    voxels[2:6, 4:6, 9] = 1
    voxels[14:18, 4:6, 9] = 2
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    to_left = nib.Nifti1Image(voxels, np.diag([-1.0, 1.0, 1.0, 1.0]))
    nib.save(to_left, tmp_path / "masks" / "a.nii.gz")
    noise = np.random.default_rng(0).normal(size=voxels.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, to_left.affine), tmp_path / "images" / "a.nii.gz")
    places = survey(tmp_path, PlanOptions(fold=None)).like.cases[0].places
    assert places["label 1"].centre == pytest.approx((0.8, 0.5, 0.95))
    assert places["label 2"].centre == pytest.approx((0.2, 0.5, 0.95))
    assert places["label 1"].spread == pytest.approx((np.std([2, 3, 4, 5]) / 20, 0.05, 0.0))


def test_ct_is_told_by_its_numbers_and_windowed_by_its_structures() -> None:
    of_ct, of_mr = made(like(intensities=CT)), made(like())
    assert of_ct.recipe.preparation.normalisation.window == (-120, 240)
    assert of_mr.recipe.preparation.normalisation.kind == "zscore"
    stated = replace(MR, low=-50.0, high=178.0, least=-60.0, modality="CT")
    assert made(like(intensities=stated)).recipe.preparation.normalisation.window == (100, 800)
    for other in (replace(CT, modality="MR"), replace(stated, low=0.0, high=1.0)):
        assert made(like(intensities=other)).recipe.preparation.normalisation.kind == "zscore"
    fractions = replace(CT, whole=False)
    assert made(like(intensities=fractions)).recipe.preparation.normalisation.kind == "zscore"


def test_scans_of_another_kind_are_told() -> None:
    found = like(intensities=replace(CT, modality="CT"))
    assert found.doubts == ()
    other = replace(found.cases[3], intensities=(replace(MR, modality="MR"),))
    mixed = replace(found, cases=(*found.cases[:3], other, *found.cases[4:]))
    assert mixed.doubts == ("image is CT in 5 cases, and not in case 3: separate them",)
    assert "not all scans or channels are CT" in reason(made(mixed), "intensities")


def test_structures_without_a_voxel_are_told_with_what_hides_them() -> None:
    found = like(from_labels({1: "liver", 2: "body"}))
    hidden = "60 voxels lie in both liver and body, and count as body."
    other = "8 voxels lie in both spleen and liver, and count as liver."
    lacking = (("spleen", other), ("liver", hidden))
    cases = [replace(c, voxels={"body": 9}, lacking=lacking) for c in found.cases]
    assert replace(found, cases=tuple(cases)).doubts == (
        "no case has a voxel of liver, so it cannot be learned",
        f"case 0: {hidden}",
    )


def test_a_dicom_header_states_the_modality(tmp_path: Path) -> None:
    ct_slices(tmp_path / "scan")
    assert inspect(tmp_path / "scan").modality == "CT"


def test_a_plan_shows_small_volumes_and_warns(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "nnunet", 3, 0, (20, 24, 16))
    found = survey(tmp_path, PlanOptions())
    names = found.like.structures.names
    cases = [replace(c, volumes_ml={names[0]: 0.0123}, voxels={names[0]: 12}) for c in found.like.cases]
    text = understood(replace(found, like=replace(found.like, cases=tuple(cases))))
    assert "0.0123" in text
    assert f"warning: no case has a voxel of {names[1]}, so it cannot be learned" in text


@pytest.mark.parametrize(("channel", "modality"), [("CT", "CT"), ("T2_MRI", "MR"), ("image", "")])
def test_the_name_of_a_channel_states_its_modality(tmp_path: Path, channel: str, modality: str) -> None:
    write_phantoms(tmp_path, "nnunet", 3, 0, (20, 24, 16))
    stated = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(stated | {"channel_names": {"0": channel}}))
    assert survey(tmp_path, PlanOptions()).like.cases[0].intensities[0].modality == modality


def test_scans_that_were_cut_out_are_cropped() -> None:
    cut = made(like(empty=0.6))
    assert cut.recipe.preparation.crop == "foreground"
    assert made(like(empty=0.1)).recipe.preparation.crop == "none"
    assert "60x60x50 mm" in reason(cut, "patch")


def test_regions_are_learnt_with_sigmoid_outputs() -> None:
    regions = StructureSet((Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,))))
    assert made(like(regions)).recipe.loss.name == "bce_dice"
    assert made(like()).recipe.loss.name == "dice_ce"


def test_less_time_and_less_memory_mean_smaller_patches() -> None:
    wide = np.prod(made(like()).recipe.training.patch)
    hasty = made(like(), replace(HOUR, seconds=180.0))
    small = made(like(), replace(HOUR, memory_bytes=300 << 20))
    assert np.prod(hasty.recipe.training.patch) < wide
    assert np.prod(small.recipe.training.patch) < wide
    assert "memory" in reason(small, "patch")


@pytest.mark.parametrize(
    ("ml", "limits", "share", "side"),
    [
        (8.0, HOUR, 1.0, 72),
        (524.0, HOUR, 0.38, 100),
        (8000.0, HOUR, 0.25, 115),
        (524.0, replace(HOUR, memory_bytes=1 << 30), 1.0, 63),
    ],
    ids=["a small one fits", "a large one", "one too large", "memory bounds the patch"],
)
def test_steps_are_fewer_where_a_patch_is_smaller_than_the_largest_structure(
    ml: float, limits: Limits, share: float, side: float
) -> None:
    scans = large((300, 300, 300))
    cases = [replace(case, volumes_ml={"liver": ml}) for case in scans.cases]
    found = made(replace(scans, cases=tuple(cases)), limits)
    assert found.recipe.training.epochs * found.recipe.training.steps_per_epoch == pytest.approx(
        share * 4000, rel=0.02
    )
    assert math.prod(found.recipe.training.patch) == pytest.approx(side**3, rel=0.15)
    assert ("to see more of liver (100 mm across)" in reason(found, "length")) == (share == 0.38)


def test_a_coarse_stage_comes_first_where_a_patch_sees_little_of_a_scan() -> None:
    found = made(large((400, 400, 300)))
    cascade = found.recipe.cascade
    assert cascade is not None
    assert found.recipe.preparation.spacing_mm is None
    sides = zip(cascade.patch, cascade.spacing_mm, (400, 400, 300), strict=True)
    assert all(n * mm >= 0.9 * extent for n, mm, extent in sides)
    assert np.prod(cascade.patch) <= 1.15 * np.prod(found.recipe.training.patch)
    assert len(cascade.widths) == len(cascade.kernels) == len(cascade.strides) + 1
    assert "a patch sees 0.85 % of a scan, less than 10 %" in reason(found, "cascade")


@pytest.mark.parametrize("extent", [(100, 100, 50), (150, 150, 120)])
def test_no_coarse_stage_is_needed_where_a_patch_sees_a_tenth(extent: tuple[int, int, int]) -> None:
    found = made(large(extent))
    assert found.recipe.cascade is None
    assert "cascade" not in [r.setting for r in found.reasons]


@pytest.mark.parametrize(("shape", "across"), [((40, 48, 1), 2), ((1, 48, 40), 0)])
def test_single_slices_get_a_network_of_slices(shape: tuple[int, int, int], across: int) -> None:
    heads = [
        scan + scan[::-1] + scan[:, :, ::-1] for scan in np.random.default_rng(1).normal(size=(1, *shape))
    ]
    whole = like(scans=heads)
    mm = [1.0, 1.0, 1.0]
    mm[across] = 8.0
    cases = [replace(c, shape=shape, kept=shape, spacing_mm=(mm[0], mm[1], mm[2])) for c in whole.cases]
    found = made(replace(whole, cases=tuple(cases)))
    recipe = found.recipe
    assert recipe.network.spatial_dims == 2
    assert recipe.slices.axes == (across,)
    assert recipe.preparation.spacing_mm is None
    assert sorted(recipe.training.patch) == [1, 40, 48]
    assert recipe.training.patch[2] == 1
    assert recipe.training.batch == 16
    assert recipe.metrics.tolerance_mm == 2.0
    assert across not in flips(found)
    assert "every scan is a single slice" in reason(found, "network")
    fitted = recipe.fitted_to(found.card)
    network = build_network(fitted.network, seed=0, device="cpu", threads=1)
    check_trainable(network, found.card.structure_set, recipe.loss, recipe.training)


def test_few_patients_have_no_coarse_stage() -> None:
    found = made(large((400, 400, 300), count=7))
    assert found.recipe.cascade is None
    assert (
        reason(found, "cascade")
        == "none: a patch sees 0.85 % of a scan, but 7 patients would be learnt by heart"
    )


def test_both_stages_of_a_planned_cascade_can_be_trained() -> None:
    found = made(large((400, 400, 300)), replace(HOUR, seconds=60.0))
    assert found.recipe.cascade is not None
    fitted = found.recipe.fitted_to(found.card)
    for recipe in (fitted, coarse_stage(fitted, found.recipe.cascade).fitted_to(found.card)):
        network = build_network(recipe.network, seed=0, device="cpu", threads=1)
        check_trainable(network, found.card.structure_set, recipe.loss, recipe.training)


def test_a_faster_machine_gets_a_wider_network() -> None:
    fast = made(like(), replace(HOUR, speed=replace(SPEED, seconds_per_voxel=1e-8)))
    assert fast.recipe.network.widths[0] > made(like()).recipe.network.widths[0]


def test_few_patients_all_train() -> None:
    assert made(like(count=6)).recipe.training.selection_share == 0.0
    assert made(like(count=40)).recipe.training.selection_share == 0.1


def test_files_of_a_plan_say_what_was_planned(tmp_path: Path) -> None:
    found = made(like(from_labels({1: "left lung", 2: "right lung"}, ignore=9), intensities=CT, empty=0.5))
    with_stages = replace(found.recipe, cascade=made(large((400, 400, 300))).recipe.cascade)
    found = replace(found, recipe=with_stages)
    path = write_plan(found, tmp_path)
    written = [tomllib.loads((tmp_path / name).read_text("utf-8")) for name in ("recipe.toml", "card.toml")]
    assert specs.from_mapping(Recipe, written[0], source="recipe") == found.recipe
    assert specs.from_mapping(Card, written[1], source="card") == found.card
    assert load_recipe(path).card == str(tmp_path / "card.toml")


def test_the_largest_component_is_kept_of_what_is_compact_in_every_case() -> None:
    both = from_labels({1: "liver", 2: "vessels"})
    found = made(like(both, compact=[("liver", "vessels"), ("liver",)]))
    assert found.recipe.postprocess.largest_component == ("liver",)
    assert "compact piece" in reason(found, "post-processing")
    few = made(like(both, count=4, compact=[("liver",)]))
    assert few.recipe.postprocess.largest_component == ()
    folds = made(like(both, compact=[("liver",)]), replace(HOUR, trainings=5))
    assert folds.recipe.postprocess.largest_component == (), "which is decided over all cases then"


def test_a_network_that_saw_whole_scans_predicts_in_windows_of_its_patch() -> None:
    assert made(like(), replace(HOUR, speed=Speed(1e-7))).recipe.inference.strategy == "sliding_window"
    small = replace(HOUR, memory_bytes=100_000_000)
    assert made(like(), small).recipe.inference.strategy == "auto"


def test_what_is_compact_hangs_together_and_has_a_core(tmp_path: Path) -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[2:12, 2:12, 2:12] = 1  # a block
    labels[2:12, 16:26, 2:7] = labels[2:12, 16:26, 9:14] = 2  # two blocks
    labels[20:22, 2:28, 20:22] = 3  # a thread
    labels[28, 28, 28] = 1  # a slip
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    scan = np.random.default_rng(0).normal(100, 10, labels.shape).astype(np.float32)
    for n in range(5):
        nib.save(nib.Nifti1Image(scan + n, np.eye(4)), tmp_path / "images" / f"c{n}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "masks" / f"c{n}.nii.gz")
    assert survey(tmp_path, PlanOptions()).like.compact == ("label 1",)
