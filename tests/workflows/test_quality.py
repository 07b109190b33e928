"""What speaks against a result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medseg.model import ModelSpec, NetworkFacts, NetworkSpec
from medseg.structures import Structure, StructureSet, from_labels
from medseg.volume import Grid, Volume
from medseg.workflows.quality import Quality, Seen, judge, sides_agreement

STRUCTURES = from_labels({1: "left lobe", 2: "right lobe", 3: "stem"})
SHAPE = (12, 8, 8)
RANGES = {name: {"n": 3, "min": 0.1, "max": 0.2} for name in STRUCTURES.names}
FINE = dict.fromkeys(STRUCTURES.names, 0.15)
UNCUT = dict.fromkeys(STRUCTURES.names, False)


def spec(**evidence: Any) -> ModelSpec:
    return ModelSpec(
        "tiny",
        NetworkSpec("unet3d", out_channels=4),
        NetworkFacts((4, 4, 4), (5, 5, 5), True),
        ("MR",),
        STRUCTURES.items,
        evidence=evidence,
    )


def scan(low: float = 0.0, spacing: float = 2.0) -> Volume:
    array = np.linspace(low, 900, int(np.prod(SHAPE)), dtype=np.float32).reshape(1, *SHAPE)
    return Volume(array, Grid(SHAPE, np.diag([spacing, spacing, spacing, 1.0])), ("MR",))


def outputs(*, swapped: bool = False, sure: float = 0.9) -> np.ndarray[Any, Any]:
    """Left lobe at low i (towards the patient's left), right lobe at high i, between them the stem."""
    labels = np.zeros(SHAPE, int)
    labels[1:4], labels[5:7], labels[8:11] = (2, 3, 1) if swapped else (1, 3, 2)
    found = np.full((4, *SHAPE), (1 - sure) / 3, np.float32)
    np.put_along_axis(found, labels[None], np.float32(sure), axis=0)
    return found


def verdict(
    model: ModelSpec, *, volume: Volume | None = None, volumes: dict[str, float] | None = None, **more: Any
) -> Quality:
    found = more.get("found", outputs())
    mirrored = seen(more.get("mirrored", mirror_image(found)))
    cut, features, contrast = (
        more.get(n, d) for n, d in (("cut", UNCUT), ("features", {}), ("contrast", {}))
    )
    return judge(
        volume or scan(), model, volumes or FINE, cut, seen(found), features, contrast, lambda: mirrored
    )


def seen(found: np.ndarray[Any, Any]) -> Seen:
    return watched([(slice(0, 5), found[:, :5]), (slice(5, 12), found[:, 5:])], STRUCTURES)


def watched(rows: list[tuple[slice, np.ndarray[Any, Any]]], structures: StructureSet) -> Seen:
    seen = Seen(structures, promised=True)
    assert len(list(seen.watch(rows))) == len(rows)
    return seen


def mirror_image(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a network that sees no difference says of the mirrored scan: twins exchanged."""
    return found[[0, 2, 1, 3], ::-1]


def test_a_result_like_the_training_is_not_doubted() -> None:
    quality = verdict(spec(volumes_ml=RANGES, confidence={"min": 0.9}))
    assert (quality.flag, quality.reasons, quality.sides) == ("ok", (), None)
    assert quality.confidence == pytest.approx(0.9, abs=1e-5)
    assert quality.content()["flag"] == "ok"


def test_a_model_without_evidence_doubts_nothing() -> None:
    assert verdict(spec(), volumes=dict.fromkeys(STRUCTURES.names, 99.0)).reasons == ()


@pytest.mark.parametrize(
    ("changes", "cut", "says"),
    [
        ({"stem": 0.0}, False, "stem: not found"),
        ({"stem": 0.05}, False, "stem: far smaller"),
        ({"stem": 0.05}, True, "stem: cut by the edge"),
        ({"stem": 0.4}, False, "stem: far larger"),
    ],
)
def test_implausible_volumes_are_named(changes: dict[str, float], cut: bool, says: str) -> None:
    quality = verdict(spec(volumes_ml=RANGES), volumes=FINE | changes, cut=UNCUT | {"stem": cut})
    assert quality.flag == "doubtful"
    assert len(quality.reasons) == 1
    assert quality.reasons[0].startswith(says)


def test_a_cut_structure_of_plausible_size_is_not_doubted() -> None:
    assert verdict(spec(volumes_ml=RANGES), cut=dict.fromkeys(STRUCTURES.names, True)).flag == "ok"


def test_many_implausible_structures_speak_against_the_scan() -> None:
    quality = verdict(spec(volumes_ml=RANGES), volumes=dict.fromkeys(STRUCTURES.names, 1.0))
    assert quality.reasons[0] == "3 of 3 structures are implausible: this is unlike what tiny was trained on"


def test_hounsfield_units_are_recognised_by_models_for_mr_alone() -> None:
    ct = scan(low=-1000.0)
    assert "look like a CT" in verdict(spec(), volume=ct).reasons[0]
    assert verdict(replace(spec(), channels=("CT",)), volume=ct).reasons == ()


def test_a_scan_too_small_to_show_everything_is_doubted() -> None:
    assert "cannot show them whole" in verdict(spec(volumes_ml=RANGES), volume=scan(spacing=0.5)).reasons[0]


def test_low_confidence_is_doubted() -> None:
    quality = verdict(spec(confidence={"min": 0.9}), found=outputs(sure=0.8))
    assert quality.reasons[0].startswith("tiny is unsure: its mean confidence is 0.80")


def test_confidence_is_that_of_the_labelled_voxels() -> None:
    found = outputs(sure=0.7)
    found[:, 0] = np.array([1.0, 0, 0, 0], np.float32)[:, None, None]  # sure background counts for nothing
    assert seen(found).confidence == pytest.approx(0.7, abs=1e-6)
    found[0] = 2.0
    assert seen(found).confidence == 0.0


def test_sides_are_looked_at_twice_only_in_doubt() -> None:
    calls: list[int] = []

    def mirrored() -> Any:
        calls.append(1)
        return seen(mirror_image(outputs()))

    judge(scan(), spec(volumes_ml=RANGES), FINE, UNCUT, seen(outputs()), {}, {}, mirrored)
    assert not calls
    judge(
        scan(), spec(volumes_ml=RANGES), FINE | {"left lobe": 0.35}, UNCUT, seen(outputs()), {}, {}, mirrored
    )
    assert len(calls) == 1


def test_sides_that_change_when_the_scan_is_mirrored_are_uncertain() -> None:
    wrong = outputs(swapped=True)
    first, other = seen(outputs()).labels, seen(mirror_image(wrong)).labels
    assert sides_agreement(first, other, STRUCTURES) == 0.0
    assert sides_agreement(first, seen(mirror_image(outputs())).labels, STRUCTURES) == 1.0
    quality = verdict(spec(), found=wrong, mirrored=mirror_image(outputs()))
    assert quality.sides == 0.0
    assert quality.reasons[-1].startswith("left and right are uncertain: 100 %")


def test_sides_the_wrong_way_round_that_stay_so_are_measured() -> None:
    wrong = outputs(swapped=True)
    assert verdict(spec(), found=wrong, mirrored=mirror_image(wrong)).sides == 1.0


USUAL = {"n": 40, "limit": 4.0, "features": {"noise": [1.0, 0.5], "sharpness": [2.0, 0.1]}}


def test_what_is_unlike_the_calibration_is_named() -> None:
    near, far = {"noise": 2.9, "sharpness": 2.0}, {"noise": 4.0, "sharpness": 1.2}
    assert verdict(spec(usual=USUAL), features=near).reasons == ()
    reasons = verdict(spec(usual=USUAL), features=far).reasons
    assert len(reasons) == 1
    assert "unlike the 40 scans" in reasons[0]
    assert "sharpness, noise (8.0 standard deviations from the mean; 4.0 are allowed)" in reasons[0]


def test_the_promised_dice_by_hand() -> None:
    """Sure of 0.9 in the voxels labelled, of 1/30 elsewhere: 2 * 0.9 n / (n + 0.9 n + (N - n) / 30)."""
    found = seen(outputs())
    voxels, all_voxels = 3 * SHAPE[1] * SHAPE[2], int(np.prod(SHAPE))
    everywhere = 0.9 * voxels + (all_voxels - voxels) * 0.1 / 3
    assert found.estimated_dice["left lobe"] == pytest.approx(1.8 * voxels / (voxels + everywhere), rel=1e-5)


def test_the_promised_dice_of_regions_counts_each_for_itself() -> None:
    regions = StructureSet(
        (Structure(2, "whole", members=(1, 2)), Structure(1, "core", members=(1,))),
    )
    part = np.zeros((2, 2, 2, 1), np.float32)
    part[0], part[1, 0] = 0.8, 0.6
    promised = watched([(slice(0, 2), part)], regions).estimated_dice
    assert promised == {"whole": pytest.approx(6.4 / 7.2), "core": pytest.approx(2.4 / 3.2)}


def test_tissues_of_one_brightness_are_a_reason_for_doubt() -> None:
    found = verdict(spec(), contrast={"white and grey": 0.2, "grey and fluid": 0.4})
    (reason,) = found.reasons
    assert reason.startswith(
        "the tissues have almost the same brightness in this scan: even the means of grey"
    )
    assert verdict(spec(), contrast={"white and grey": 0.2, "grey and fluid": 2.0}).flag == "ok"
