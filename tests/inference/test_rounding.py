"""When a model computes in bf16 by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from models import evidence_of

from medseg.inference.engines.rounding import REPEATABILITY, SHARE_OF_NOISE, harmless, share_of_noise
from medseg.model.evidence import EngineAgreement, Evidence, Repeatability

WITHIN = 0.03


def evidence(dice: float = 0.0, share: float = 0.2, engine: str = "openvino bf16") -> Evidence:
    """Of a model whose volumes vary by 3 % within a head, and by a share of that with rounding."""
    percent = 100 * math.expm1(REPEATABILITY * WITHIN)
    figures = {
        "core": {"dice": 0.001, "log_volume": 0.001},
        "lobe": {"dice": dice, "log_volume": share * WITHIN},
    }
    repeated = {name: {"smallest_change_percent": percent} for name in figures}
    return evidence_of(
        {"repeatability": {"structures": repeated}, "rounding": {engine: {"n": 3, "structures": figures}}}
    )


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        (evidence(), True),
        (evidence(share=0.32), True),
        (evidence(share=0.35), False),
        (evidence(dice=-0.0015), True),
        (evidence(dice=-0.0025), False),
        (evidence(engine="torch bf16"), True),
        (Evidence(), False),
        (replace(evidence(), repeatability=Repeatability()), False),
        (replace(evidence(), repeatability=None), False),
    ],
)
def test_rounding_must_drown_in_the_noise_of_repeated_scans(found: Evidence, allowed: bool) -> None:
    assert harmless(found, "openvino bf16") is allowed


def test_the_share_is_of_the_standard_deviation_within_a_head() -> None:
    percent = 100 * math.expm1(REPEATABILITY * WITHIN)
    assert share_of_noise(0.01, percent) == pytest.approx(0.01 / WITHIN)


def test_what_may_be_added_to_the_spread_is_five_percent() -> None:
    """By simulation: volumes that vary by s within a head, rounded by a third of s."""
    rng = np.random.default_rng(0)
    volumes = rng.normal(0, WITHIN, 400_000)
    rounded = volumes + rng.normal(0, SHARE_OF_NOISE * WITHIN, volumes.size)
    assert rounded.std() / volumes.std() == pytest.approx(1.054, abs=0.005)


def test_without_repeated_scans_the_largest_change_counts() -> None:
    for volume, allowed in ((0.005, True), (0.02, False)):
        compared = Evidence(engines={"openvino bf16": EngineAgreement(0.001, volume)})
        assert harmless(compared, "openvino bf16") is allowed
