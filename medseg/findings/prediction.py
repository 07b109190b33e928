"""Checks of a prediction: held-out scores, tissue contrast, confidence, similarity to the training, sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medseg.core.errors import listed
from medseg.findings.finding import Finding, Trained

CONFIDENCE_MARGIN = 0.05
"""Allowed difference below the lowest mean confidence on the model's own validation scans."""

LEAST_CONTRAST = 0.5
"""Distance of the means of two kinds of tissue, over their spread, that one pair of kinds must have."""

SIDES_AGREE = 0.9
"""Share of lateral voxels that must keep their side when the scan is mirrored."""

PAIR_RATIO = 2.0
"""Ratio of the volumes of twins from which the sides are looked at twice."""

LIKENESS_SLACK = 1.25
"""How much further from the usual than any calibration case a scan may be."""

LEAST_DICE = 0.3
"""Mean Dice on a model's own held-out cases below which every result of it is doubtful.

Of two volumes of one size, less than a third of each then lies in the other: the structure is not found. What
is thin, and lies a voxel off, has more and is of use still: of the packaged models the lowest is the fluid
around the brain, with 0.44."""

UNSURE, UNSURE_REGION, UNSURE_SHARE = 0.5, 0.6, 0.1
"""Where a time budget left only a quick look, a voxel is unsure whose label has a probability below the
first, or the second where each region has its own; of a structure a share above the third must not be so."""

NAMED = 3
"""Features that a sentence names before it counts the rest."""


def check_scores(spec: Trained) -> Iterator[Finding]:
    """Structures that the model segmented poorly in its own held-out cases.

    Args:
        spec: the model; silent where it was not measured.
    """
    rows = spec.evidence.validation or ()
    means = {row.structure: row.mean for row in rows if row.metric == "dice"}
    low = {name: mean for name, mean in means.items() if mean is not None and mean < LEAST_DICE}
    if low:
        names = tuple(low)
        alone = f"{names[0]} is {low[names[0]]:.2f}"
        several = f"{listed(names, lambda name: f'{low[name]:.2f}')} is too low"
        yield Finding(
            "low_scores",
            "doubt",
            f"The held-out Dice of {alone if len(names) == 1 else several} for {spec.name}; "
            f"below {LEAST_DICE}, a result is doubtful.",
            names,
            LEAST_DICE,
            {"held_out_dice": {name: round(mean, 4) for name, mean in low.items()}},
        )


def check_contrast(contrast: Mapping[str, float]) -> Iterator[Finding]:
    """Tissues with almost the same brightness, whose border the scan does not show.

    Args:
        contrast: of each pair of kinds of tissue, in standard deviations; empty where it was not looked at.
    """
    if contrast and max(contrast.values()) < LEAST_CONTRAST:
        pair = max(contrast, key=contrast.__getitem__)
        yield Finding(
            "low_contrast",
            "doubt",
            "The tissues have almost the same brightness in this scan: even the means of "
            f"{pair} lie {contrast[pair]:.1f} standard deviations apart, and {LEAST_CONTRAST} are needed.",
            limit=LEAST_CONTRAST,
            evidence={"contrast": {name: round(value, 3) for name, value in contrast.items()}},
        )


def check_confidence(confidence: float, spec: Trained) -> Iterator[Finding]:
    """A confidence below that of every validation scan of the model, by more than the margin.

    Args:
        confidence: mean probability of the winning output over the labelled voxels.
        spec: the model.
    """
    known = spec.evidence.confidence
    if known is not None and confidence < known.min - CONFIDENCE_MARGIN:
        limit = known.min - CONFIDENCE_MARGIN
        yield Finding(
            "low_confidence",
            "doubt",
            f"{spec.name} is unsure: its mean confidence is {confidence:.2f}, and was {known.min:.2f} or "
            f"more on the scans it was checked with; below {limit:.2f} is too low.",
            limit=round(limit, 4),
            evidence={"confidence": round(confidence, 4)},
        )


def check_likeness(features: Mapping[str, float], spec: Trained) -> Iterator[Finding]:
    """Features of scan and result further from their mean than in any calibration case.

    Args:
        features: of scan and result, by name.
        spec: the model.
    """
    usual = spec.evidence.usual
    if usual is None:
        return
    away = distances(features, usual.features)
    far = sorted((n for n, d in away.items() if d > usual.limit), key=away.__getitem__, reverse=True)
    if far:
        yield Finding(
            "unlike_calibration",
            "doubt",
            f"The scan is unlike the {usual.n} scans that {spec.name} was calibrated with in "
            f"{listed(far, most=NAMED)}: {away[far[0]]:.1f} standard deviations from the "
            f"mean, and {usual.limit:.1f} are allowed.",
            limit=usual.limit,
            evidence={"standard_deviations": {name: round(away[name], 2) for name in far}},
        )


def distances(features: Mapping[str, float], usual: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Distance of each known feature from its mean, in standard deviations.

    Args:
        features: of one scan.
        usual: mean and standard deviation of each, by name.
    """
    return {n: abs(features[n] - mean) / spread for n, (mean, spread) in usual.items() if n in features}


def check_sides(agreement: float) -> Iterator[Finding]:
    """Left and right labels that change when the scan is mirrored.

    Args:
        agreement: share of the voxels with a side that keep it, in [0, 1].
    """
    if agreement < SIDES_AGREE:
        yield Finding(
            "sides_uncertain",
            "doubt",
            f"Left and right are uncertain: {100 * (1 - agreement):.0f} % of the voxels with a side "
            "change it when "
            f"the scan is mirrored; {100 * (1 - SIDES_AGREE):.0f} % may.",
            limit=SIDES_AGREE,
            evidence={"sides_agreement": round(agreement, 4)},
        )


def check_budget(seconds: float, computed: int, of: int, unsure: Mapping[str, float]) -> Iterator[Finding]:
    """A prediction that a time budget ended early, and structures that would need more time.

    Args:
        seconds: of the budget.
        computed: tiles at full quality.
        of: tiles that there are.
        unsure: share of each structure's voxels that only a quick look saw, and was unsure of.
    """
    if computed == of:
        return
    yield Finding(
        "time_budget",
        "note",
        f"The time budget of {seconds:g} s ended the prediction early: {computed} of {of} tiles were "
        "computed at full quality, and the rest is of a quick look.",
        evidence={"tiles": computed, "of": of},
    )
    names = tuple(name for name, share in unsure.items() if share > UNSURE_SHARE)
    if names:
        yield Finding(
            "unsure_in_haste",
            "doubt",
            f"The time budget of {seconds:g} s was too short for "
            f"{listed(names, lambda name: f'{100 * unsure[name]:.0f} %', most=NAMED)}: so much of the "
            f"structure only a quick look saw, and was unsure of; {100 * UNSURE_SHARE:.0f} % may be.",
            names,
            UNSURE_SHARE,
            {"unsure_share": {name: round(unsure[name], 4) for name in names}},
        )
