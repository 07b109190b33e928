"""What the page of a follow-up says of many structures."""

from __future__ import annotations

from medseg.metrics.followup import Change
from medseg.reporting.comparison.followup import SHOWN_ALONE, ReportFollowup, sentences


def test_many_changes_share_one_sentence_a_direction() -> None:
    larger = [Change(f"large {n}", 1.0, 2.0, 0.1) for n in range(SHOWN_ALONE)]
    changes = (*larger, Change("small", 2.0, 1.0, 0.1, cut=True), Change("same", 1.0, 1.01, 0.1))
    first, second, third = sentences(ReportFollowup("a", "b", changes, noise_known=True))
    assert first.startswith(
        "These structures are larger by more than the measurement noise: large 0 (+1.00 ml,"
    )
    assert first.count("+100.0 %") == SHOWN_ALONE
    assert second.startswith("These structures are smaller")
    assert "small (−1.00 ml, −50.0 %; it reaches the edge of a scan" in second
    assert third == "No change was shown in same: the changes do not exceed the noise."


def test_few_changes_have_a_sentence_each() -> None:
    changes = tuple(Change(f"large {n}", 1.0, 2.0, 0.1) for n in range(SHOWN_ALONE))
    assert len(sentences(ReportFollowup("a", "b", changes, noise_known=True))) == SHOWN_ALONE
