"""What a comparison says, and its figure."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medseg.metrics.paired import PairedCase, PairedRow
from medseg.metrics.ranking import ranking_stability
from medseg.reporting.comparison.comparison import (
    ReportComparison,
    comparison_page,
    difference_table,
    sentences,
)
from medseg.reporting.comparison.plots import paired_differences


def row(differences: list[float], metric: str = "dice", **statistics: object) -> PairedRow:
    cases = tuple(PairedCase(f"c{n}", 0.5, 0.5 + d, "ok", "ok") for n, d in enumerate(differences))
    unit = "mm" if metric.endswith("_mm") else "1"
    return PairedRow("core", metric, unit, cases, mean_a=0.5, mean_b=0.5, **statistics)  # type: ignore[arg-type]


def said(*rows: PairedRow) -> str:
    return " ".join(sentences(ReportComparison("x", "y", len(rows[0].cases), rows)))


GAIN = {
    "difference": 0.012,
    "ci_low": 0.004,
    "ci_high": 0.02,
    "p": 0.01,
    "p_holm": 0.01,
    "rank_biserial": 0.6,
}


def test_the_sentence_has_the_difference_its_interval_and_p() -> None:
    assert said(row([0.01] * 25, **GAIN)) == (
        "B is better for core (Dice, B − A: +0.012, 95 % CI +0.004 to +0.020, Holm-corrected p = "
        "0.010, 25 cases)."
    )


def test_fewer_mm_are_better() -> None:
    change = GAIN | {"difference": -0.4, "ci_low": -0.9, "ci_high": -0.1}
    assert said(row([-0.4] * 25, "hd95_mm", **change)).startswith(
        "B is better for core (HD95, B − A: −0.40 mm"
    )
    worse = GAIN | {"difference": 0.4, "ci_low": 0.1, "ci_high": 0.9, "rank_biserial": -0.6}
    assert said(row([0.4] * 25, "hd95_mm", **worse)).startswith("A is better for core (HD95, B − A: +0.40 mm")


@pytest.mark.parametrize(
    "change",
    [{"p_holm": 0.05}, {"ci_low": -0.001}, {"rank_biserial": -0.2}, {"ci_high": 0.02, "ci_low": 0.0}],
)
def test_no_claim_without_the_test_the_mean_and_its_interval(change: dict[str, float]) -> None:
    text = said(row([0.01] * 25, **(GAIN | change)))
    assert text.startswith("No difference was shown for core (Dice, B − A: +0.012")
    assert ("disagree" in text) == ("p_holm" not in change)


def test_failures_are_told_without_zeros_and_with_the_structures_they_are_of() -> None:
    fine, lost = row([0.01] * 25, **GAIN), PairedCase("c", 0.5, 0.0, "ok", "pred_empty", True)
    failed = replace(fine, cases=(*fine.cases, lost))
    assert "26 cases, of which B failed in 1)" in said(failed)
    open_ = [
        replace(r, p_holm=1.0, structure=name) for r, name in ((failed, "x"), (fine, "y"), (failed, "z"))
    ]
    assert "(25 to 26 cases, of which B failed in 1 for x and z; the table" in said(*open_)


def test_names_of_structures_and_cases_are_escaped_in_the_page() -> None:
    evil = replace(row([0.01] * 12, **GAIN), structure="<script>alert(1)</script>")
    cases = tuple(replace(case, case_id="<b>") for case in evil.cases)
    stable = ranking_stability(np.full(12, 0.01))
    whole = ReportComparison("<i>", "y", 12, (replace(evil, cases=cases, stability=stable),))
    page = comparison_page(whole)
    assert not {"<script>alert", "<b>", "<i>"} & set(page.split())
    assert "<script>alert" not in page
    assert "&lt;b&gt;: &lt;script&gt;" in page


def test_the_table_lines_up_and_says_how_often_each_is_better() -> None:
    table = difference_table(
        ReportComparison("x", "y", 3, (row([0.1, -0.2, 0.0], difference=-0.03),)), "dice"
    )
    assert table.head[-2:] == ("A better in", "B better in")
    assert table.rows[0][-2:] == ("1", "1")
    assert table.rows[0][4] == "−0.030"
    assert table.rows[0][5] == "n/a"


def test_the_figure_is_a_png_that_is_the_same_each_time() -> None:
    rows = [row([0.1, -0.2, 0.05] * 4, difference=-0.02, ci_low=-0.1, ci_high=0.05)]
    picture = paired_differences(rows, {"core": "#e6194b"})
    assert picture is not None
    assert picture == paired_differences(rows, {"core": "#e6194b"})
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
    assert paired_differences([row([])], {}) is None


def test_a_failure_does_not_squeeze_the_other_points() -> None:
    """It is drawn at the edge, so that the axis is that of the figure without it."""
    plain = row([0.01, -0.02] * 6, difference=0.0)
    lost = PairedCase("lost", 0.9, 0.0, "ok", "pred_empty", True)
    with_it = replace(plain, cases=(*plain.cases, lost))
    from medseg.reporting.comparison.plots import _reach

    assert _reach([with_it]) == _reach([plain])
    assert _reach([replace(plain, cases=(lost,))]) > 0.9
