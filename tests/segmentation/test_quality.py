"""What speaks against a result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import evidence_of

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.model.spec import ModelSpec, NetworkFacts, NetworkSpec
from medseg.segmentation.verdict import ConfidenceTally, Quality, assess, sides_agreement

STRUCTURES = from_labels({1: "left lobe", 2: "right lobe", 3: "stem"})
SHAPE = (12, 8, 8)
ML = {"left lobe": 0.864, "right lobe": 0.864, "stem": 0.576}
"""Of `outputs`: 3, 3 and 2 rows of 6 x 6 voxels of 8 mm³."""
RANGES = {name: {"n": 3, "min": 0.9 * ml, "max": 1.1 * ml} for name, ml in ML.items()}


def spec(**evidence: Any) -> ModelSpec:
    return ModelSpec(
        "tiny",
        NetworkSpec("unet3d", out_channels=4),
        NetworkFacts((4, 4, 4), (5, 5, 5), True),
        ("MR",),
        STRUCTURES.items,
        evidence=evidence_of(evidence),
    )


def scan(low: float = 0.0, spacing: float = 2.0) -> Volume:
    array = np.linspace(low, 900, int(np.prod(SHAPE)), dtype=np.float32).reshape(1, *SHAPE)
    return Volume(array, Grid(SHAPE, np.diag([spacing, spacing, spacing, 1.0])), ("MR",))


def label_array(*, swapped: bool = False) -> np.ndarray[Any, Any]:
    """Left lobe at low i (towards the patient's left), right lobe at high i, between them the stem."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4], labels[5:7], labels[8:11] = (2, 3, 1) if swapped else (1, 3, 2)
    labels[:, [0, -1]] = labels[:, :, [0, -1]] = 0
    return labels


def label_map(array: np.ndarray[Any, Any] | None = None) -> LabelMap:
    return LabelMap(label_array() if array is None else array, scan().grid)


def outputs(*, swapped: bool = False, sure: float = 0.9) -> np.ndarray[Any, Any]:
    """Probabilities of that label map."""
    labels = label_array(swapped=swapped)
    found = np.full((4, *SHAPE), (1 - sure) / 3, np.float32)
    np.put_along_axis(found, labels[None].astype(int), np.float32(sure), axis=0)
    return found


def verdict(
    model: ModelSpec, *, volume: Volume | None = None, labels: LabelMap | None = None, **more: Any
) -> Quality:
    found = more.get("found", outputs())
    mirrored = seen(more.get("mirrored", mirror_image(found)))
    features, contrast = more.get("features", {}), more.get("contrast", {})
    volume = volume or scan()
    labels = labels or LabelMap(seen(found).labels, volume.grid)
    return assess(volume, labels, [model], seen(found), features, contrast, lambda: mirrored)


def seen(found: np.ndarray[Any, Any]) -> ConfidenceTally:
    return watched([(slice(0, 5), found[:, :5]), (slice(5, 12), found[:, 5:])], STRUCTURES)


def watched(rows: list[tuple[slice, np.ndarray[Any, Any]]], structures: StructureSet) -> ConfidenceTally:
    seen = ConfidenceTally(structures, promised=True)
    assert len(list(seen.add(rows))) == len(rows)
    return seen


def mirror_image(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a network that sees no difference says of the mirrored scan: twins exchanged."""
    return found[[0, 2, 1, 3], ::-1]


def test_a_result_like_the_training_is_not_doubted() -> None:
    quality = verdict(spec(volumes_ml=RANGES, confidence={"min": 0.9}))
    assert (quality.flag, quality.reasons, quality.sides) == ("ok", (), None)
    assert quality.confidence == pytest.approx(0.9, abs=1e-5)


def test_a_model_that_learnt_no_volumes_says_so() -> None:
    codes = [f.code for f in verdict(spec(volumes_ml={}, confidence={"min": 0.9})).findings]
    assert "volumes_unknown" in codes
    assert "volumes_unknown" not in [f.code for f in verdict(spec(volumes_ml=RANGES)).findings]


def test_a_model_without_evidence_doubts_nothing() -> None:
    assert verdict(spec(), volume=scan(spacing=20.0)).findings == ()


@pytest.mark.parametrize(
    ("factor", "edge", "code"),
    [
        (0.0, False, "not_found"),
        (0.1, False, "small_volume"),
        (0.1, True, "cut_short"),
        (1.0, True, "at_edge"),
    ],
)
def test_volumes_are_judged_by_the_training(factor: float, edge: bool, code: str) -> None:
    labels = label_array()
    inside = np.argwhere(labels == 3)
    labels[tuple(inside[round(factor * len(inside)) :].T)] = 0
    if edge:
        labels[5, 0, 1] = 3
    quality = verdict(spec(volumes_ml=RANGES), labels=label_map(labels))
    assert [f.code for f in quality.findings] == [code]
    assert quality.findings[0].structures == ("stem",)
    assert (quality.flag, len(quality.reasons)) == (("ok", 0) if code == "at_edge" else ("doubtful", 1))


def test_many_implausible_structures_speak_against_the_scan() -> None:
    tenth = {name: {"min": r["min"] / 10, "max": r["max"] / 10} for name, r in RANGES.items()}
    quality = verdict(spec(volumes_ml=tenth))
    assert quality.reasons[0] == (
        "3 of 3 structures have a volume outside the range of the training data of tiny, so the "
        "scan is probably unlike them."
    )


def test_hounsfield_units_are_recognised_by_models_for_mr_alone() -> None:
    ct = scan(low=-1000.0)
    (reason,) = verdict(spec(), volume=ct).reasons
    assert "look like a CT" in reason
    assert verdict(replace(spec(), channels=("CT",)), volume=ct).reasons == ()


def test_a_scan_too_small_to_show_everything_is_doubted() -> None:
    quality = verdict(spec(volumes_ml=RANGES), volume=scan(spacing=0.5))
    assert "cannot show them whole" in quality.reasons[0]


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

    def judged(labels: LabelMap, **evidence: Any) -> Quality:
        return assess(scan(), labels, [spec(**evidence)], seen(outputs()), {}, {}, mirrored)

    judged(label_map(), volumes_ml=RANGES)
    assert not calls
    unlike = label_array()
    unlike[2:4] = 0  # a third of the left lobe is left
    assert judged(label_map(unlike)).flag == "ok"
    assert len(calls) == 1
    judged(label_map(), confidence={"min": 0.99})
    assert len(calls) == 2
    judged(label_map(np.zeros_like(unlike)))
    assert len(calls) == 2


def test_sides_that_change_when_the_scan_is_mirrored_are_uncertain() -> None:
    wrong = outputs(swapped=True)
    first, other = seen(outputs()).labels, seen(mirror_image(wrong)).labels
    assert sides_agreement(first, other, STRUCTURES) == 0.0
    assert sides_agreement(first, seen(mirror_image(outputs())).labels, STRUCTURES) == 1.0
    quality = verdict(spec(), found=wrong, mirrored=mirror_image(outputs()))
    assert quality.sides == 0.0
    assert [f.code for f in quality.findings] == ["sides_exchanged", "sides_uncertain"]
    assert quality.reasons[-1].startswith("Left and right are uncertain: 100 %")


def test_sides_the_wrong_way_round_that_stay_so_are_a_doubt_all_the_same() -> None:
    wrong = outputs(swapped=True)
    quality = verdict(spec(), found=wrong, mirrored=mirror_image(wrong))
    assert (quality.flag, quality.sides) == ("doubtful", 1.0)
    assert [f.code for f in quality.findings] == ["sides_exchanged"]


def test_nothing_labelled_is_one_doubt_and_the_only_one_about_the_labels() -> None:
    blind = outputs(sure=0.1)
    blind[0] = 0.7
    quality = verdict(spec(volumes_ml=RANGES, confidence={"min": 0.9}), found=blind)
    assert [f.code for f in quality.findings] == ["nothing_found"]
    assert quality.flag == "doubtful"


def test_voxels_unlike_the_training_and_single_slices_are_doubts() -> None:
    """They took no interval away once, being warnings."""
    trained = {"spacing_mm": {"min": [0.9, 0.9, 0.9], "max": [0.95, 0.95, 0.95]}}
    quality = verdict(spec(**trained))
    assert [(f.code, f.severity, f.limit) for f in quality.findings] == [("voxel_size", "doubt", 2.0)]
    assert quality.reasons[0] == (
        "The shortest, middle and longest side of a voxel are 2, 2 and 2 mm; tiny was trained on 0.9 to "
        "0.95, 0.9 to 0.95 and 0.9 to 0.95 mm."
    )
    flat = Volume(scan().array[..., :1], Grid((*SHAPE[:2], 1), np.diag([2.0, 2.0, 2.0, 1.0])), ("MR",))
    found = outputs()[..., 3:4]
    assert [f.code for f in verdict(spec(), volume=flat, found=found).findings] == ["single_slice"]


def scored(**dice: float | None) -> list[dict[str, Any]]:
    """The scores of structures, as a training stores them."""
    return [
        {"structure": n, "metric": m, "n": 4, "mean": v} for n, v in dice.items() for m in ("dice", "nsd")
    ]


def test_a_model_that_did_badly_on_its_own_held_out_cases_is_doubted_in_every_result() -> None:
    quality = verdict(spec(validation=scored(left=0.02, right=0.3)))
    (found,) = (f for f in quality.findings if f.code == "low_scores")
    assert (found.severity, found.limit, found.structures) == ("doubt", 0.3, ("left",))
    assert found.evidence == {"held_out_dice": {"left": 0.02}}
    assert found.sentence == "The held-out Dice of left is 0.02 for tiny; below 0.3, a result is doubtful."
    assert quality.flag == "doubtful"
    both = verdict(spec(validation=scored(left=0.0, right=0.1)))
    assert (
        "The held-out Dice of left (0.00) and right (0.10) is too low for tiny; below 0.3, "
        in both.reasons[0]
    )


def test_scores_that_suffice_or_are_not_known_are_no_doubt() -> None:
    for scores in ([], scored(left=0.3, right=0.9), scored(left=None, right=None)):
        assert verdict(spec(validation=scores)).flag == "ok"


def test_a_bad_member_of_several_models_is_doubted_too() -> None:
    models = [spec(), replace(spec(validation=scored(left=0.1)), name="second")]
    quality = assess(scan(), label_map(), models, seen(outputs()), {}, {}, lambda: seen(outputs()))
    assert ["second" in f.sentence for f in quality.findings if f.code == "low_scores"] == [True]


def test_of_several_models_each_fact_is_told_once() -> None:
    trained = {"spacing_mm": {"min": [2.0] * 3, "max": [2.0] * 3}}
    second = replace(spec(spacing_mm={"min": [0.5] * 3, "max": [0.6] * 3}), name="second")
    models = [spec(**trained), second, replace(second, name="third")]
    quality = assess(scan(), label_map(), models, seen(outputs()), {}, {}, lambda: seen(outputs()))
    assert [f.code for f in quality.findings] == ["voxel_size"]
    assert all("second" in f.sentence for f in quality.findings)


def test_warnings_of_the_files_come_after_doubts_and_before_notes() -> None:
    volume = replace(scan(), warnings=("both forms disagree", "both forms disagree"))
    labels = label_array()
    labels[5, 0, 1] = 3
    quality = verdict(spec(confidence={"min": 0.99}), volume=volume, labels=label_map(labels))
    assert [f.severity for f in quality.findings] == ["doubt", "warning", "note"]
    assert quality.findings[1].sentence == "Both forms disagree."
    assert len(quality.reasons) == 1


USUAL = {"n": 40, "limit": 4.0, "features": {"noise": [1.0, 0.5], "sharpness": [2.0, 0.1]}}


def test_what_is_unlike_the_calibration_is_named() -> None:
    near, far = {"noise": 2.9, "sharpness": 2.0}, {"noise": 4.0, "sharpness": 1.2}
    assert verdict(spec(usual=USUAL), features=near).reasons == ()
    reasons = verdict(spec(usual=USUAL), features=far).reasons
    assert len(reasons) == 1
    assert "unlike the 40 scans" in reasons[0]
    assert "sharpness and noise: 8.0 standard deviations from the mean, and 4.0 are allowed" in reasons[0]


def test_the_promised_dice_by_hand() -> None:
    """Sure of 0.9 in the voxels labelled, of 1/30 elsewhere: 2 * 0.9 n / (n + 0.9 n + (N - n) / 30)."""
    found = seen(outputs())
    voxels, all_voxels = 3 * 6 * 6, int(np.prod(SHAPE))
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


def test_an_output_of_one_half_is_not_in_its_region() -> None:
    regions = StructureSet((Structure(1, "core", members=(1,)),))
    part = np.zeros((1, 2, 2, 1), np.float32)
    part[0, 0], part[0, 1] = 0.75, 0.5
    promised = watched([(slice(0, 2), part)], regions).estimated_dice
    assert promised == {"core": pytest.approx(2 * 1.5 / (2 + 2.5))}


def test_labels_without_a_side_agree() -> None:
    stem = np.full(SHAPE, 3, np.uint8)
    assert sides_agreement(stem, stem, STRUCTURES) == 1.0


def test_tissues_of_one_brightness_are_a_reason_for_doubt() -> None:
    found = verdict(spec(), contrast={"white and grey": 0.2, "grey and fluid": 0.43217})
    (reason,) = found.reasons
    assert reason.startswith(
        "The tissues have almost the same brightness in this scan: even the means of grey"
    )
    (finding,) = found.findings
    assert finding.evidence == {"contrast": {"white and grey": 0.2, "grey and fluid": 0.432}}
    assert verdict(spec(), contrast={"white and grey": 0.2, "grey and fluid": 2.0}).flag == "ok"
