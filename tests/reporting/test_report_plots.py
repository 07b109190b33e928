"""Every case is a point of every plot; lines and boxes come with enough cases."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from cohorts import cohort, many
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medseg.core.structures import from_labels
from medseg.core.volume import Grid
from medseg.metrics.lesions import LesionRow
from medseg.reporting.case.content import Picture, ReportCase, StructureRow
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots import boxes, distances, heatmap, lesions, panels, volumes
from medseg.reporting.cohort.plots.every import cohort_pictures
from medseg.reporting.drawing.style import BANNER
from medseg.reporting.drawing.thumbnails import thumbnail_png

EVIL = "<script>$x_{alert(1)}$</script>\n\u200b肝"
MISSED, EXTRA, ABSENT = (0.0, 8.0, 0.0, math.inf), (8.0, 0.0, 0.0, math.inf), (0.0, 0.0, None, None)
MIXED = cohort([{"liver": m} for m in [(9.0, 8.0, 0.9, 2.0), MISSED, EXTRA, ABSENT] * 4])

Drawing = Callable[[ReportCohort], Picture | None]
PLOTS: dict[str, Drawing] = {
    "boxes": boxes.dice_boxes,
    "bland-altman": volumes.bland_altman,
    "volumes": volumes.volume_pairs,
    "dice by volume": volumes.dice_by_volume,
    "hd95": distances.distance_steps,
}
EXPECTED = {"boxes": 12, "bland-altman": 12, "volumes": 12, "dice by volume": 12, "hd95": 4}
"""Points that `MIXED` has in each plot: absent cases have none, and no distance exists without a surface."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures drawn, instead of their files."""
    figures: list[Figure] = []

    def keep(figure: Figure, *_: object) -> bytes:
        figures.append(figure)
        return b"\x89PNG"

    for module in (boxes, distances, heatmap, lesions, volumes):
        monkeypatch.setattr(module, "png", keep)
    return figures


def count(axes: Axes) -> int:
    return sum(len(points.get_offsets()) for points in axes.collections if hasattr(points, "get_sizes"))


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize("name", PLOTS)
def test_every_case_is_a_point(name: str, drawn: list[Figure]) -> None:
    PLOTS[name](many(7, ["a", "b", "c"]))
    assert [count(axes) for axes in drawn[0].axes] == ([21] if name == "boxes" else [7, 7, 7])
    PLOTS[name](MIXED)
    assert [count(axes) for axes in drawn[1].axes] == [EXPECTED[name]]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_has_the_banner_in_it(name: str, drawn: list[Figure]) -> None:
    PLOTS[name](many(12))
    assert BANNER in texts(drawn[0])


@pytest.mark.parametrize("name", PLOTS)
def test_the_same_cohort_gives_the_same_bytes(name: str) -> None:
    assert PLOTS[name](many(11, ["liver"])) == PLOTS[name](many(11, ["liver"]))


@pytest.mark.parametrize(("cases", "lines"), [(9, 0), (10, 3)])
def test_limits_are_drawn_from_ten_cases_on(cases: int, lines: int, drawn: list[Figure]) -> None:
    picture = volumes.bland_altman(many(cases, ["liver"]))
    assert picture is not None
    axes = drawn[0].axes[0]
    across = [line for line in axes.lines if list(line.get_xdata()) == [0, 1] and line.get_ydata()[0]]
    assert (len(across), len(axes.patches)) == (lines, lines)
    assert ("limits of agreement" in picture.caption) == (cases >= 10)


@pytest.mark.parametrize(("cases", "least"), [(9, 0), (10, 1)])
def test_boxes_and_steps_are_drawn_from_ten_cases_on(cases: int, least: int, drawn: list[Figure]) -> None:
    boxed = boxes.dice_boxes(many(cases, ["liver"]))
    distances.distance_steps(many(cases, ["liver"]))
    assert boxed is not None
    assert min(len(drawn[0].axes[0].lines), 1) == least
    assert ("quartiles" in boxed.caption) == bool(least)
    steps = [line for line in drawn[1].axes[0].lines if len(line.get_xdata()) > 2]
    assert len(steps) == least


def test_the_share_of_infinite_distances_is_missing_at_the_top(drawn: list[Figure]) -> None:
    picture = distances.distance_steps(MIXED)
    assert picture is not None
    (steps,) = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) > 2]
    assert max(steps.get_ydata()) == pytest.approx(4 / 12)
    assert "8 of 12 infinite" in texts(drawn[0])
    assert "above the dotted line" in picture.caption
    none = cohort([{"liver": MISSED}, {"liver": EXTRA}])
    assert distances.distance_steps(none) is None


def test_per_cent_are_drawn_only_where_the_spread_grows_with_size(drawn: list[Figure]) -> None:
    generator = np.random.default_rng(3)
    sizes = np.exp(generator.uniform(0, 4, 60))
    relative = [
        (float(s * (1 + 0.1 * e)), float(s), 0.9, 1.0)
        for s, e in zip(sizes, generator.normal(size=60), strict=True)
    ]
    constant = [
        (float(s + 0.1 * e), float(s), 0.9, 1.0)
        for s, e in zip(sizes, generator.normal(size=60), strict=True)
    ]
    both = cohort([{"grows": r, "constant": c} for r, c in zip(relative, constant, strict=True)])
    assert volumes.bland_altman_percent(both) is not None
    (figure,) = drawn
    assert len(figure.axes) == 1
    assert "grows" in texts(figure)
    assert volumes.bland_altman_percent(many(40)) is None


def test_the_worst_twelve_of_many_structures_are_drawn_and_this_is_said(drawn: list[Figure]) -> None:
    names = [f"s{n}" for n in range(20)]
    many_of = cohort([{name: (9.0, 8.0, 0.5 + n / 50, 1.0) for n, name in enumerate(reversed(names))}] * 3)
    picture = volumes.volume_pairs(many_of)
    assert picture is not None
    assert len(drawn[0].axes) == 12
    assert "s19" in texts(drawn[0])
    assert "s3" not in texts(drawn[0]).split()
    assert "The 12 of 20 structures" in picture.caption


def test_volumes_that_differ_much_are_drawn_on_logarithmic_scales(drawn: list[Figure]) -> None:
    wide = [{"cyst": (s, 1.1 * s, 0.9, 1.0)} for s in (0.01, 0.1, 1.0, 10.0)] + [{"cyst": MISSED}]
    for cases in (wide, wide[:2]):
        volumes.volume_pairs(cohort(cases))
    assert [figure.axes[0].get_xscale() for figure in drawn] == ["log", "linear"]
    low, high = drawn[0].axes[0].get_ylim()
    for points in drawn[0].axes[0].collections:
        assert np.all((low <= points.get_offsets()[:, 1]) & (points.get_offsets()[:, 1] <= high))


def test_a_map_has_the_worst_case_on_top_and_continues_after_sixty(drawn: list[Figure]) -> None:
    cases = [{"liver": (9.0, 8.0, 0.99 - n / 1000, 1.0)} for n in range(70)]
    pictures = heatmap.heat_maps(cohort([*cases, {"liver": MISSED}, {"liver": ABSENT}]))
    assert [picture.title[-8:] for picture in pictures] == ["(1 of 2)", "(2 of 2)"]
    names = [label.get_text() for figure in drawn for label in figure.axes[0].get_yticklabels()]
    assert names[:2] == ["case 70", "case 69"]
    assert (len(names), names[-1]) == (72, "case 71")
    assert "Hatched" in pictures[-1].caption
    assert "cross" in pictures[-1].caption
    top, bottom = drawn[0].axes[0].get_ylim()
    assert top > bottom  # row 0 on top


def test_colours_of_the_map_grow_lighter() -> None:
    colours = matplotlib.colormaps[heatmap.COLOURS](np.linspace(0, 1, 64))[:, :3]
    assert np.all(np.diff(colours @ (0.2126, 0.7152, 0.0722)) > 0)


def test_lesions_are_drawn_where_they_were_looked_for(drawn: list[Figure]) -> None:
    found = many(3, ["liver", "tumour"])
    assert lesions.lesion_points(found) is None
    rows = (LesionRow("tumour", "found", 0.2), LesionRow("tumour", "extra"), LesionRow("tumour", "extra"))
    looked = replace(
        found, cases=(replace(found.cases[0], lesions=rows), *found.cases[1:]), lesions_of=("tumour",)
    )
    lesions.lesion_points(looked)
    recall, extra = drawn[0].axes
    assert "1 of 1" in texts(drawn[0])
    assert count(recall) == 1
    offsets = np.concatenate([points.get_offsets() for points in extra.collections])
    assert sorted(offsets[:, 0].tolist()) == [0.0, 0.0, 2.0]  # cases without a row count too


def test_recall_by_size_is_a_count() -> None:
    rows = [LesionRow("t", "found", 0.05), LesionRow("t", "missed", 0.09), LesionRow("t", "missed", 0.1)]
    rows += [LesionRow("t", "found", 50.0), LesionRow("t", "left out", 0.01), LesionRow("t", "extra")]
    assert lesions.size_bins(rows) == [("< 0.1", 1, 2), ("0.1–0.3", 0, 1), ("≥ 30", 1, 1)]


def test_without_references_there_are_volumes_alone(drawn: list[Figure]) -> None:
    cases = tuple(ReportCase(str(n), (StructureRow("liver", "#ff0000", float(n)),)) for n in range(5))
    pictures = cohort_pictures(ReportCohort("c", cases))
    assert [picture.title for picture in pictures] == ["Volumes"]
    assert count(drawn[0].axes[0]) == 4  # not labelled in one
    assert cohort_pictures(ReportCohort("c", ())) == ()


def test_a_point_for_each_case_is_drawn_of_three_cases() -> None:
    two, three = ([picture.title for picture in cohort_pictures(many(count, ["liver"]))] for count in (2, 3))
    assert two == ["Dice", "Dice, case by structure"]
    assert set(three) - set(two) == {
        "Difference of the volumes in ml (Bland–Altman)",
        "Predicted against reference volume",
        "Dice against volume",
        "Distribution of HD95",
    }


def test_names_are_drawn_as_text() -> None:
    pictures = cohort_pictures(many(11, [EVIL, "$\\frac$"]))
    assert len(pictures) >= 6
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.slow
def test_the_pictures_of_ten_structures_in_forty_cases_are_small() -> None:
    pictures = cohort_pictures(many(40, [f"organ {n}" for n in range(10)]))
    assert sum(len(picture.png) for picture in pictures) * 4 / 3 < 2_000_000


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.52), (6.96, 9.2), (1.0, 3.0), (0.001, 1e5), (7.0, 300.0)])
def test_ticks_of_a_logarithmic_axis_lie_on_it_and_are_few(low: float, high: float) -> None:
    ticks = panels.log_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert low <= min(ticks) < max(ticks) <= high


def test_a_thumbnail_is_small_the_same_every_time_and_shows_the_outline() -> None:
    labels = np.zeros((40, 40, 20), np.uint8)
    labels[12:28, 12:28, 5:15] = 1
    grid, structures = Grid(labels.shape, np.eye(4)), from_labels({1: "liver"})
    first = thumbnail_png(labels, grid, structures, reference=labels)
    assert first == thumbnail_png(labels, grid, structures, reference=labels)
    assert len(first) < 25_000
    pixels = matplotlib.image.imread(io.BytesIO(first))[..., :3]
    assert np.ptp(pixels[: int(pixels.shape[0] * 0.8)], axis=-1).max() > 0.3  # a coloured line
