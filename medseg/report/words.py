"""What every page says of its numbers and of itself."""

from __future__ import annotations

from collections.abc import Mapping

from medseg.metrics.case import SurfaceMode
from medseg.metrics.lesions import GLIOMA, MENINGIOMA, METASTASES, LesionRule
from medseg.report.content import ReportCase

Pair = tuple[str, str]

VOLUME: Pair = (
    "Volume",
    "Number of voxels times the volume of one voxel, in ml, to three significant figures.",
)
ACCURACY: tuple[Pair, ...] = (
    ("Reference", "A segmentation by other means, against which this one is measured. It can be wrong too."),
    ("Difference, %", "Volume of the prediction less that of the reference; in per cent of the reference."),
    (
        "Dice",
        "Twice the shared volume over the sum of both volumes: 1 when identical, 0 when nothing is "
        "shared. It measures overlap; it is not the share of cases or voxels that are right. Small "
        "structures score lower for the same error in millimetres.",
    ),
)
JACCARD: Pair = ("Jaccard", "The shared volume over the volume of both together: Dice / (2 − Dice).")
SURFACE_DICE: Pair = (
    "Surface Dice",
    "Share of both surfaces that lies within the stated tolerance of the other. The tolerance was "
    "chosen by whoever made this report.",
)
SURFACE: Mapping[SurfaceMode, tuple[Pair, ...]] = {
    "surfel": (
        (
            "HD95",
            "In mm: 95 % of each surface lies within this distance of the other (the worse of the two "
            "directions, weighted by area).",
        ),
        SURFACE_DICE,
    ),
    "voxel": (
        (
            "HD95",
            "In mm: 95th percentile of the distances from the border voxels of each to the nearest border "
            "voxel of the other (the worse of the two directions; every voxel counts once).",
        ),
    ),
}
"""Of the distances, by the definition of a surface that they were measured with."""
EMPTY: Pair = (
    "Empty structures",
    "Absent in both: no value, and not part of any mean. In one of the two only: Dice, Jaccard and surface "
    "Dice are 0; HD95 does not exist.",
)
RECALL: Pair = (
    "Recall, precision",
    "Share of the reference that the prediction has; share of the prediction that the reference has.",
)
MEAN: Mapping[SurfaceMode, Pair] = {
    "surfel": (
        "Mean, largest",
        "Mean distance of both surfaces to the other (ASSD), weighted by area, and the largest distance, in "
        "mm.",
    ),
    "voxel": (
        "Mean, largest",
        "Mean distance of the border voxels of both to the nearest border voxel of the other (ASSD), and the "
        "largest distance, in mm.",
    ),
}
SIGNED: Pair = (
    "Signed distance",
    "From each point of either surface to the nearest point of the other, in mm; positive where the "
    "prediction reaches beyond the reference, negative where it falls short.",
)
INTRACRANIAL: Pair = (
    "% of ICV",
    "Volume in per cent of the intracranial volume, which is here what the model labels within the skull. "
    "Where that reaches the edge of the scan, the percentages may be too high.",
)
ASYMMETRY: Pair = (
    "Asymmetry",
    "100 (L − R) / ((L + R) / 2), of the volumes L on the patient’s left and R on the right, in per cent: "
    "positive when the left is larger. Healthy people are not symmetric either.",
)
EXPECTED_DICE: Pair = (
    "Expected Dice",
    "What the Dice would be with a reference, as predicted from cases the model was tested on. It is an "
    "estimate, not a measurement.",
)
LESION: Pair = (
    "Lesion",
    "Connected voxels of the reference, satellites within a few voxels included. Found: at least one "
    "piece of the prediction touches it. Missed: none does. Extra: a piece that touches no lesion. Left "
    "out: too small to count. Dice and HD95 compare it with all pieces that touch it.",
)
PIECE: Pair = ("Piece", "Connected voxels of one structure.")

USE = "This page helps people who develop and study segmentation software to look at its output."
LIMITS = (
    "The outlines come from a statistical model and can be wrong without any flag above: on scans unlike "
    "those it was trained on, with implants, motion or unusual anatomy, and next to disease. A structure "
    "without voxels means that the model labelled none, not that the patient has none. No flag means that"
    " no automatic check failed, not that the outlines are right."
)


RULES = {
    GLIOMA: "BraTS 2023, gliomas",
    MENINGIOMA: "BraTS 2023, meningiomas",
    METASTASES: "BraTS 2023, metastases",
}
"""Protocols by how they find lesions."""


def lesion_rule(rule: LesionRule) -> str:
    """By which protocol lesions are found."""
    return RULES.get(rule, "none of a known protocol")


def penalty(rule: LesionRule) -> str:
    """What a mean over lesions holds for those that have no value."""
    return (
        "A missed lesion and an extra piece enter the lesion-wise means with a Dice of "
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
        shown += [*ACCURACY, *SURFACE[case.mode], RECALL, EMPTY]
    shown += [ASYMMETRY] if case.asymmetry else []
    shown += [SIGNED, MEAN[case.mode]] if case.surfaces else []
    if case.lesions:
        shown.append(LESION if case.has_reference else PIECE)
    return tuple(shown)


def _interval(coverage: float) -> Pair:
    percent = f"{100 * coverage:.0f} %"
    return (
        f"{percent} interval",
        "On cases like those the model was tested on, the volume by their reference segmentation lies "
        f"within such an interval about {percent} of the time. On other scans it need not.",
    )


def limits(what: str) -> str:
    """Intended use and limits; `what` says in a sentence what the page describes."""
    return f"{USE} {what} {LIMITS}"
