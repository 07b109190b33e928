"""What is drawn lies where it should, to a fraction of a pixel."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray

from medseg.core.structures import Structure, StructureSet
from medseg.reporting.drawing import fonts
from medseg.reporting.drawing.canvas import DASH, GAP, ROUND, Canvas
from medseg.reporting.drawing.figures import outlines

BLACK, RED = "#000000", "#ff0000"
DOTS = 100


def pixels(canvas: Canvas) -> NDArray[np.int64]:
    return np.asarray(canvas.picture).astype(np.int64)


def inked(canvas: Canvas) -> float:
    """Pixels of red, a half covered one counted as half."""
    return float(pixels(canvas)[..., 0].sum() / 255)


@pytest.mark.parametrize("angle", [0, 17, 45, 90])
def test_a_line_is_as_long_and_as_wide_as_it_should_be(angle: int) -> None:
    canvas = Canvas(2, 2, DOTS, BLACK)
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    canvas.lines([np.array([1 - 0.4 * along, 1 + 0.4 * along])], colour=RED, width=2.16)  # 80 by 3 pixels
    assert inked(canvas) == pytest.approx(240, rel=0.1)
    rows, columns = np.nonzero(pixels(canvas)[..., 0])
    assert (rows.mean(), columns.mean()) == pytest.approx((99.5, 99.5), abs=0.5)


def test_dashes_are_so_much_of_a_line_and_it_begins_with_one() -> None:
    canvas = Canvas(9, 0.2, DOTS, BLACK)
    line = np.array([[0.5, 0.1], [3.0, 0.1], [3.01, 0.1], [8.5, 0.1]])
    canvas.lines([line], colour=RED, width=2.16, dashed=True)
    row = pixels(canvas)[10, :, 0] > 127
    assert row[52:58].all()
    assert not row[:49].any()
    assert row.sum() / 800 == pytest.approx(DASH / (DASH + GAP), abs=0.04)
    assert np.flatnonzero(np.diff(row.astype(int)) == 1).size == pytest.approx(800 / 3 / (DASH + GAP), abs=1)


def test_a_short_ring_is_closed_and_lies_around_its_middle() -> None:
    canvas = Canvas(1, 1, DOTS, BLACK)
    canvas.lines([np.array([0.5, 0.5]) + 0.2 * ROUND], colour=RED, width=1.44)
    lit = pixels(canvas)[..., 0]
    assert inked(canvas) == pytest.approx(2 * np.pi * 20 * 2, rel=0.12)
    away = np.hypot(*(np.argwhere(lit > 127) - 49.5).T)
    assert (away.min(), away.max()) == pytest.approx((20, 20), abs=1.5)


def test_nothing_is_drawn_beyond_a_place() -> None:
    canvas = Canvas(1, 1, DOTS, BLACK)
    line = np.array([[-3.0, -3.0], [4.0, 4.0]])
    canvas.lines([line], colour=RED, width=1.44, within=(0.2, 0.3, 0.4, 0.4))
    rows, columns = np.nonzero(pixels(canvas)[..., 0])
    assert (rows.max(), columns.max()) == (69, 59)
    assert (rows.min(), columns.min()) == pytest.approx((38, 28), abs=1)
    canvas.lines([line + np.array([3, -3])], colour=RED, width=3, within=(0.2, 0.3, 0.4, 0.4))
    canvas.lines([], colour=RED, width=3)
    assert (np.nonzero(pixels(canvas)[..., 0])[0] == rows).all()


def test_half_a_line_lets_through_half_of_what_is_below() -> None:
    canvas = Canvas(1, 0.2, DOTS, BLACK)
    canvas.lines([np.array([[0, 0.1], [1, 0.1]])], colour=RED, width=6, opacity=0.5)
    assert pixels(canvas)[10, 50, 0] == pytest.approx(128, abs=1)


@pytest.mark.parametrize("place", [(0.2, 0.2, 1.0, 1.6), (0.233, 0.181, 1.017, 1.583)])
def test_an_outline_lies_on_the_border_of_what_it_outlines(place: tuple[float, float, float, float]) -> None:
    labels = np.zeros((8, 5), np.uint8)
    labels[2:5, 1:4] = 1
    canvas = Canvas(2, 2, DOTS, BLACK)
    place = canvas.snapped(place)
    canvas.greys(labels.repeat(20, axis=0).repeat(20, axis=1), (0, 1), place)
    white = np.argwhere(pixels(canvas)[..., 1] > 127)
    one = StructureSet((Structure(1, "one", colour=RED),))
    outlines(canvas, labels, one, place, dashed=False)
    shown = pixels(canvas)
    red = np.argwhere((shown[..., 0] > 200) & (shown[..., 1] < 60))
    low, high = (red.min(axis=0) + 0.5, red.max(axis=0) - 0.5)  # a line is two pixels wide
    np.testing.assert_allclose((low, high), (white.min(axis=0), white.max(axis=0)), atol=1)


def test_greys_fill_their_place_and_leave_what_is_not_finite() -> None:
    canvas = Canvas(1, 1, DOTS, "#102030")
    image = np.array([[0.0, 50.0, 100.0, 900.0, np.nan, np.inf, -np.inf]] * 2).repeat(10, axis=1)
    canvas.greys(image, (0, 100), canvas.snapped((0.1, 0.1, 0.7, 0.2)))
    shown = pixels(canvas)
    assert (shown[85, 15:80:10] == [[0] * 3, [128] * 3, [255] * 3, [255] * 3, *[[16, 32, 48]] * 3]).all()
    assert (shown[[69, 90], 10:80] == [16, 32, 48]).all()
    assert (shown[85, [9, 80]] == [16, 32, 48]).all()


@pytest.mark.parametrize("align", ["left", "center"])
def test_a_text_stands_where_it_should(align: str) -> None:
    canvas = Canvas(2, 1, DOTS, BLACK)
    canvas.text(1, 0.5, "HHHH", size=14.4, colour=RED, align=align)  # type: ignore[arg-type]
    rows, columns = np.nonzero(pixels(canvas)[..., 0] > 60)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(49.5, abs=1)
    middle = 100 if align == "center" else 100 + np.ptp(columns) / 2
    assert (columns.min() + columns.max()) / 2 == pytest.approx(middle, abs=2.5)


def test_dollars_and_line_breaks_are_drawn_as_they_are() -> None:
    drawn = [Canvas(2, 1, DOTS, BLACK) for _ in range(2)]
    for canvas, text in zip(drawn, ("$x$", "x"), strict=True):
        canvas.text(0.2, 0.5, text, size=12, colour=RED)
    assert inked(drawn[0]) > 1.5 * inked(drawn[1])


def test_the_font_is_the_one_that_matplotlib_would_find(monkeypatch: pytest.MonkeyPatch) -> None:
    for bold, weight in ((False, "normal"), (True, "bold")):
        assert fonts.font_file(bold=bold) == Path(findfont(FontProperties(family=fonts.FONT, weight=weight)))
    elsewhere = importlib.machinery.ModuleSpec("matplotlib", None, origin="/nowhere/matplotlib/__init__.py")
    monkeypatch.setattr(fonts, "find_spec", lambda _: elsewhere)
    assert fonts.font_file.__wrapped__(bold=True) == fonts.font_file(bold=True)


def test_a_shape_is_missing_where_the_font_has_none() -> None:
    assert all(map(fonts.in_font, "a °–…²←αЖ"))
    assert not any(map(fonts.in_font, "肝臓中\uffff\ue123"))
    assert fonts.in_font(" ")
