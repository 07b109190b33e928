"""What a model's numbers are worth: learnt from made-up cases whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from medseg.core.specs import from_mapping, to_mapping
from medseg.core.structures import from_labels
from medseg.findings.prediction import distances
from medseg.model.evidence import Coverage, Evidence
from medseg.model.spec import InferenceSpec
from medseg.prediction.summary import expected_of
from medseg.segmentation.calibration import Observation, calibrated, coverage, expectations, may_show_dice
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.rows import BudgetSummary
from medseg.training.calibrate import table_rows

STRUCTURES = from_labels({1: "a", 2: "b"})


def observation(generator: np.random.Generator, shift: float = 0.0) -> Observation:
    predicted = {n: float(generator.uniform(1, 3)) for n in "ab"}
    reference = {n: ml * math.exp(generator.normal(0.1, 0.05)) for n, ml in predicted.items()}
    promised = {n: float(generator.uniform(0.8, 0.95)) for n in "ab"}
    dice = {n: min(1.0, 0.1 + 0.8 * v + generator.normal(0, 0.01) - shift) for n, v in promised.items()}
    return Observation(predicted, reference, dice, promised, {"noise": float(generator.normal(2, 0.3))})


def cases(n: int, seed: int, shift: float = 0.0) -> list[Observation]:
    generator = np.random.default_rng(seed)
    return [observation(generator, shift) for _ in range(n)]


def test_intervals_hold_what_they_promise() -> None:
    evidence = calibrated(cases(60, 0), STRUCTURES)
    found = coverage(cases(500, 1), evidence)
    assert 0.84 < found.volume_coverage < 0.97
    assert 0.84 < found.dice_coverage < 0.97
    assert (found.volumes, found.dices) == (1000, 1000)


def test_a_bias_is_taken_back() -> None:
    """References are a tenth larger: so is the middle of the interval."""
    found = expectations({"a": 2.0, "b": 0.0}, {"a": 0.9}, calibrated(cases(100, 0), STRUCTURES))
    low, high = found["a"].interval_ml or (0, 0)
    assert math.sqrt(low * high) == pytest.approx(2 * math.exp(0.1), rel=0.03)
    assert found["a"].dice == pytest.approx(0.82, abs=0.01)
    assert found["b"].interval_ml is None
    assert found["b"].dice is None


def test_too_few_cases_promise_nothing() -> None:
    evidence = calibrated(cases(18, 0), STRUCTURES)
    assert evidence.usual is None
    found = expectations({"a": 2.0}, {"a": 0.9}, evidence)["a"]
    assert (found.interval_ml, found.dice) == (None, None)
    assert expectations({"a": 2.0}, {"a": 0.9}, Evidence())["a"].interval_ml is None


@pytest.mark.parametrize(
    ("mirrors", "options", "shown"),
    [
        (False, {}, True),
        (True, {}, True),
        (True, {"tta": True}, True),
        (False, {"tta": False}, True),
        (False, {"tta": True}, False),
        (True, {"tta": False}, False),
        (False, {"refine": False}, True),
        (False, {"scales": (1.0, 0.9)}, False),
        (False, {"prune": 1}, False),
    ],
)
def test_an_interval_is_shown_where_the_model_ran_as_it_was_calibrated(
    mirrors: bool, options: dict[str, Any], shown: bool
) -> None:
    inference = InferenceSpec(flips=((0,),) if mirrors else ())
    evidence = calibrated(cases(60, 0), STRUCTURES)
    model = SimpleNamespace(spec=SimpleNamespace(evidence=evidence, inference=inference, refinement=None))
    segmenter = SimpleNamespace(models=[model], options=SegmenterOptions(**options))
    found = SimpleNamespace(
        verdict=SimpleNamespace(flag="ok"),
        volumes_ml=lambda: {"a": 2.0},
        estimated_dice={"a": 0.9},
        budget=None,
    )
    known = expected_of(cast(Any, found), cast(Any, segmenter))["a"].interval_ml
    assert (known is not None) == shown
    found.budget = BudgetSummary(5.0, 2, (0, 1))
    assert expected_of(cast(Any, found), cast(Any, segmenter))["a"].interval_ml == known
    found.budget = BudgetSummary(5.0, 2, (0,))
    assert expected_of(cast(Any, found), cast(Any, segmenter))["a"].interval_ml is None


def test_a_structure_that_is_often_not_there_has_no_lower_end() -> None:
    known = cases(40, 0)
    for case in known[:6]:
        case.reference_ml["a"] = 0.0  # type: ignore[index]
    evidence = calibrated(known, STRUCTURES)
    assert evidence.calibration.structures["a"].volume_log_ratio[0] is None
    low, _ = expectations({"a": 2.0}, {}, evidence)["a"].interval_ml or (None, None)
    assert low == 0.0


def test_evidence_is_json() -> None:
    evidence = calibrated(cases(30, 0), STRUCTURES)
    again = from_mapping(Evidence, json.loads(json.dumps(to_mapping(evidence), allow_nan=False)), source="x")
    assert again == evidence
    one, two = (expectations({"a": 2.0}, {"a": 0.9}, e)["a"] for e in (evidence, again))
    assert one == two


def test_dice_is_shown_only_if_it_was_right_on_shifted_scans() -> None:
    evidence = calibrated(cases(40, 0), STRUCTURES)
    assert not may_show_dice(evidence)
    for shift, shown in ((0.0, True), (0.1, False)):
        held = coverage(cases(200, 1, shift), evidence)
        assert may_show_dice(with_shifted(evidence, held)) is shown


def with_shifted(evidence: Evidence, held: Coverage) -> Evidence:
    return replace(evidence, calibration=replace(evidence.calibration, shifted=held))


def test_no_dice_is_shown_where_no_shifted_case_had_an_interval() -> None:
    """It once raised a TypeError at each prediction."""
    evidence = calibrated(cases(40, 0), STRUCTURES)
    assert not may_show_dice(with_shifted(evidence, Coverage()))


def test_a_structure_that_no_reference_has_is_expected_to_be_empty() -> None:
    """Both ends of its interval are 0; the upper one once raised a TypeError."""
    known = cases(40, 0)
    for case in known:
        case.reference_ml["a"] = 0.0  # type: ignore[index]
    evidence = calibrated(known, STRUCTURES)
    assert expectations({"a": 2.0}, {}, evidence)["a"].interval_ml == (0.0, 0.0)
    assert ("a", "40", "-100 % to -100 %") in [row[:3] for row in table_rows(evidence)]


def test_the_usual_is_what_was_seen() -> None:
    usual = calibrated(cases(60, 0), STRUCTURES).usual
    assert usual.n == 60
    far = [max(distances(c.features, usual.features).values()) for c in cases(300, 1)]
    assert np.mean(np.array(far) > usual.limit) < 0.03
    assert distances({"noise": 5.0}, usual.features)["noise"] > usual.limit
    assert distances({"another": 5.0}, usual.features) == {}
