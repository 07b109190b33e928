"""What every page says of its numbers and of itself."""

from __future__ import annotations

from collections.abc import Mapping

from medseg.metrics.case import SurfaceMode
from medseg.metrics.lesions import GLIOMA, MENINGIOMA, METASTASES, LesionRule
from medseg.reporting.case.content import ReportCase

Pair = tuple[str, str]

WARNINGS = "Automatic checks"
DEFINITIONS = "Definitions"
PROVENANCE = "Provenance"
USE_AND_LIMITS = "Intended use and limits"
"""Headings that every page has."""

VOLUME: Pair = (
    "Volume",
    "The number of labelled voxels times the volume of one voxel, in ml, with three significant figures.",
)
ACCURACY: tuple[Pair, ...] = (
    (
        "Reference",
        "The segmentation with which the prediction is compared. It can contain errors too.",
    ),
    (
        "Difference",
        "The volume of the prediction minus the volume of the reference, in ml and in per cent of the "
        "reference.",
    ),
    (
        "Dice",
        "Twice the volume of the intersection divided by the sum of both volumes: 1 if both are identical, "
        "0 if they share no voxel. Dice measures overlap; it is not the proportion of correct cases or "
        "voxels. For the same error in mm, a small structure has a lower Dice.",
    ),
)
JACCARD: Pair = (
    "Jaccard",
    "The volume of the intersection divided by the volume of the union: Dice / (2 − Dice).",
)
SURFACE_DICE: Pair = (
    "Surface Dice",
    "The proportion of both surfaces that lies within the stated tolerance of the other surface. "
    "The tolerance is a choice; another one gives another value.",
)
SURFACE: Mapping[SurfaceMode, tuple[Pair, ...]] = {
    "surfel": (
        (
            "HD95",
            "The distance in mm within which 95 % of the area of each surface lies from the other surface; "
            "the larger of the two directions counts.",
        ),
        SURFACE_DICE,
    ),
    "voxel": (
        (
            "HD95",
            "The 95th percentile in mm of the distances from the border voxels of one segmentation to the "
            "nearest border voxel of the other; every voxel has the same weight, and the larger of the two "
            "directions counts.",
        ),
    ),
}
"""Of the distances, by the definition of a surface that they were measured with."""
EMPTY: Pair = (
    "Empty structures",
    "If both prediction and reference are empty, the structure has no value and does not enter any mean. If "
    "only one of them is empty, Dice, Jaccard and surface Dice are 0 and HD95 is undefined.",
)
RECALL: Pair = (
    "Recall, precision",
    "Recall is the proportion of the reference that the prediction covers. Precision is the proportion of "
    "the prediction that lies within the reference.",
)
MEAN: Mapping[SurfaceMode, Pair] = {
    "surfel": (
        "Mean, largest",
        "The mean distance of both surfaces from each other (ASSD), weighted by area, and the largest "
        "distance (Hausdorff distance), in mm.",
    ),
    "voxel": (
        "Mean, largest",
        "The mean distance of the border voxels of both segmentations from the nearest border voxel of the "
        "other (ASSD), and the largest distance (Hausdorff distance), in mm.",
    ),
}
SIGNED: Pair = (
    "Signed distance",
    "The distance in mm from each point of either surface to the nearest point of the other: positive where "
    "the prediction extends beyond the reference, negative where it falls short.",
)
INTRACRANIAL: Pair = (
    "% of ICV",
    "The volume in per cent of the intracranial volume, which is the volume of all structures that the model "
    "labels within the skull. If the intracranial volume reaches the edge of the scan, the percentages can "
    "be too high.",
)
ASYMMETRY: Pair = (
    "Asymmetry",
    "100 (L − R) / ((L + R) / 2) in per cent, where L and R are the volumes on the patient’s left and right. "
    "It is positive if the left is larger. Healthy people have some asymmetry too.",
)
INSTANCE: Pair = (
    "Instances",
    "The single objects of a structure, numbered from the largest. The longest diameter is the largest "
    "distance between two corners of an object’s voxels, in any direction.",
)
EXPECTED_DICE: Pair = (
    "Expected Dice",
    "The Dice that a comparison with a reference would probably give, predicted from the cases on which the "
    "model was tested. It is an estimate, not a measurement.",
)
LESION: Pair = (
    "Lesion",
    "A connected component of the reference, together with satellites at a distance of a few voxels. A "
    "lesion is found if at least one component of the prediction touches it, and missed otherwise. An extra "
    "component touches no lesion. Lesions that are too small to count are left out. Dice and HD95 compare a "
    "lesion with all components that touch it.",
)
COMPONENT: Pair = ("Component", "A set of connected voxels of one structure.")

USE = "This page is for people who develop and evaluate segmentation software and inspect its output."
OF_CASES = "It describes these cases; results on other cases can differ."
LIMITS = (
    "The outlines come from a statistical model. They can be wrong even if no check above has raised a flag, "
    "above all on scans unlike the training data, with implants, motion or unusual anatomy, and next to "
    "disease. If a structure has no voxels, the model labelled none; the patient may still have the "
    "structure."
)


RULES = {
    GLIOMA: "BraTS 2023, gliomas",
    MENINGIOMA: "BraTS 2023, meningiomas",
    METASTASES: "BraTS 2023, metastases",
}
"""Protocols by how they find lesions."""


def lesion_rule(rule: LesionRule) -> str:
    """By which protocol lesions are found."""
    return RULES.get(rule, "The rule belongs to no known protocol")


def penalty(rule: LesionRule) -> str:
    """What a mean over lesions holds for those that have no value."""
    return (
        "A missed lesion and an extra component enter the lesion-wise means with a Dice of "
        f"{rule.penalty_dice:g} and an HD95 of {rule.penalty_hd95_mm:g} mm."
    )


def definitions(has_reference: bool) -> tuple[Pair, ...]:
    """Of the numbers of a comparison."""
    return (VOLUME, *ACCURACY, JACCARD, *SURFACE["surfel"], EMPTY) if has_reference else (VOLUME,)


def case_definitions(case: ReportCase) -> tuple[Pair, ...]:
    """Of the numbers that this case's page shows."""
    shown = [VOLUME]
    if any(row.interval_ml for row in case.rows):
        shown.append(_interval(case.coverage))
    shown += [INTRACRANIAL] if any(row.icv_percent is not None for row in case.rows) else []
    shown += [EXPECTED_DICE] if any(row.expected_dice is not None for row in case.rows) else []
    if case.has_reference:
        surface = [pair for pair in SURFACE[case.mode] if pair != SURFACE_DICE or case.has_surface_dice]
        shown += [*ACCURACY, *surface, RECALL, EMPTY]
    shown += [ASYMMETRY] if case.asymmetry else []
    shown += [SIGNED, MEAN[case.mode]] if case.surfaces else []
    shown += [INSTANCE] if case.instances else []
    if case.lesions:
        shown.append(LESION if case.has_reference else COMPONENT)
    return tuple(shown)


def _interval(coverage: float) -> Pair:
    percent = f"{100 * coverage:.0f} %"
    return (
        f"{percent} interval",
        "In cases similar to those on which the model was tested, the volume of the reference segmentation "
        f"lies within this interval in about {percent} of cases. This need not hold for other scans.",
    )


def limits(what: str) -> str:
    """Intended use and limits; `what` says in a sentence what the page describes."""
    return f"{USE} {what} {LIMITS}"
