"""Whether --precision auto may use bf16: effect of rounding compared with repeated scans.

A result in bf16 differs from one in f32. So do two scans of one head: the variance of the logarithm of a
volume within a head, s_w^2, is in the model's evidence (`training.repeatability`). What rounding changes
is measured scan by scan (`training.rounding`), as the root of the mean square r of the difference of
logarithms, bias included. The variance of a measurement then is s_w^2 + r^2; with r at a third of s_w, its
standard deviation grows by 5 %, which nobody could find without hundreds of repeated scans. Beside that, no
structure may lose Dice against references, on average over scans.
"""

from __future__ import annotations

import math

from medseg.model.evidence import Evidence, RoundingChange, SmallestChange

SHARE_OF_NOISE = 1 / 3
"""What rounding may change of a volume, as a share of the standard deviation between repeated scans."""

DICE_LOST = 0.002
"""Mean Dice that a structure may lose by rounding."""

DICE_CHANGE, VOLUME_CHANGE = 0.002, 0.01
"""What rounding may change of any structure in any scan, where nothing is known of repeated scans."""

REPEATABILITY = 1.96 * math.sqrt(2)
"""Standard deviations within a head that two measurements differ by in 95 % of pairs at most."""


def harmless(evidence: Evidence, engine: str) -> bool:
    """Whether the evidence of a model allows bf16.

    Args:
        evidence: of the model.
        engine: "openvino bf16"; where a model was made on a processor on which that engine has no bf16,
            "torch bf16" stands in, which rounds in the same places.
    """
    measured = evidence.rounding or {}
    found = measured.get(engine) or measured.get("torch bf16")
    if found is not None:
        within = {} if evidence.repeatability is None else evidence.repeatability.structures
        return all(
            _within_noise(change, within.get(name, SmallestChange()))
            for name, change in found.structures.items()
        )
    compared = evidence.engines or {}
    agreement = compared.get(engine) or compared.get("torch bf16")
    return agreement is not None and agreement.dice <= DICE_CHANGE and agreement.volume <= VOLUME_CHANGE


def share_of_noise(log_volume: float, smallest_change_percent: float) -> float:
    """Ratio of the effect of rounding to the standard deviation between repeated scans.

    Args:
        log_volume: root mean square of the difference of logarithms.
        smallest_change_percent: between two measurements, as the evidence states repeatability.
    """
    return log_volume * REPEATABILITY / math.log1p(smallest_change_percent / 100)


def _within_noise(change: RoundingChange, repeated: SmallestChange) -> bool:
    percent = repeated.smallest_change_percent
    return (
        change.dice >= -DICE_LOST
        and percent is not None
        and share_of_noise(change.log_volume, percent) <= SHARE_OF_NOISE
    )
