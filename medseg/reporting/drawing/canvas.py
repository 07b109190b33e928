"""A sheet to draw on: greys, smooth lines and text, at places in inches from the lower left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medseg.reporting.drawing.fonts import font

Line = NDArray[np.float64]
"""Points (n, 2) of a line: inches from the left and from the lower edge."""
Rectangle = tuple[float, float, float, float]
"""Left, lower edge, width and height in inches."""

POINTS = 72
"""To an inch, for sizes of text and widths of lines."""
FINER = 4
"""Dots of a line's mask along each side of a pixel, which the pixel averages."""
RISE = 0.38
"""How far the middle of a line of text lies above its baseline: a share of its size."""
DASH, GAP = 3.0, 2.2
"""Length of dashes and of what is between them, in widths of the line."""
ROUND = np.stack([f(np.linspace(0, 2 * np.pi, 73)) for f in (np.cos, np.sin)], axis=1)
"""Points around a circle of radius 1."""

ANCHORS = {"left": "ls", "center": "ms"}


class Canvas:
    """A picture of one colour at first.

    Attributes:
        picture: what is drawn so far, in red, green and blue.
    """

    def __init__(self, wide_in: float, high_in: float, dots_per_inch: int, background: str) -> None:
        self._dots = dots_per_inch
        size = int(wide_in * dots_per_inch), int(high_in * dots_per_inch)
        self.picture = Image.new("RGB", size, background)
        self._pen = ImageDraw.Draw(self.picture)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        colour: str,
        align: Literal["left", "center"] = "left",
        bold: bool = False,
    ) -> None:
        """Plain text on one line whose middle is at height y; it begins at x, or x is its middle."""
        pixels = size * self._dots / POINTS
        at = x * self._dots, round(self.picture.height - y * self._dots + RISE * pixels)
        face = font(pixels, bold=bold, plain=text.isascii())
        self._pen.text(at, text, fill=colour, font=face, anchor=ANCHORS[align])

    def snapped(self, place: Rectangle) -> Rectangle:
        """The place whose edges lie between pixels, nearest to a place."""
        left, upper, right, lower = self._box(place)
        sides = left, self.picture.height - lower, right - left, lower - upper
        x, y, wide, high = (side / self._dots for side in sides)
        return x, y, wide, high

    def greys(self, pixels: NDArray[Any], window: tuple[float, float], place: Rectangle) -> None:
        """An image that fills a place; where a value is not finite, the background stays.

        Args:
            pixels: intensities (rows, columns), row 0 on top.
            window: intensities shown black and white.
            place: where; one of `snapped`, so that what is drawn over it lies where it should.
        """
        left, upper, right, lower = self._box(place)
        low, high = window
        known = np.isfinite(pixels)
        shares = (np.where(known, np.clip(pixels, low, high), low) - low) * (255 / (high - low))
        how = Image.Resampling.BILINEAR if min(pixels.shape) > 1 else Image.Resampling.NEAREST
        size = right - left, lower - upper
        shown = _resized(shares, size, how)
        if known.all():
            self.picture.paste(Image.fromarray(_bytes(shown)), (left, upper))
            return
        share = _resized(known, size, how)
        shown = np.divide(shown, share, out=np.zeros_like(shown), where=share > 0)
        self.picture.paste(
            Image.fromarray(_bytes(shown)), (left, upper), Image.fromarray(_bytes(255 * share))
        )

    def lines(
        self,
        lines: Iterable[Line],
        *,
        colour: str,
        width: float,
        dashed: bool = False,
        opacity: float = 1.0,
        within: Rectangle | None = None,
    ) -> None:
        """Lines, smooth at their sides.

        Args:
            lines: each of two points or more.
            colour: of all of them.
            width: in points.
            dashed: whether they are broken.
            opacity: share of what is below that they cover.
            within: a place beyond which nothing is drawn.
        """
        thick = width * self._dots / POINTS
        drawn = [line * (self._dots, -self._dots) + (0, self.picture.height) for line in lines]
        if not drawn:
            return
        left, upper, right, lower = (0, 0, *self.picture.size) if within is None else self._box(within)
        ends = np.concatenate(drawn)
        left, upper = np.maximum((left, upper), np.floor(ends.min(axis=0) - thick).astype(int)).tolist()
        right, lower = np.minimum((right, lower), np.ceil(ends.max(axis=0) + thick).astype(int)).tolist()
        if left >= right or upper >= lower:
            return
        mask = Image.new("L", (FINER * (right - left), FINER * (lower - upper)))
        pen, across = ImageDraw.Draw(mask), max(1, round(FINER * thick))
        for line in _dashes(drawn, thick) if dashed else drawn:
            points = np.rint((line - (left, upper)) * FINER - 0.5).astype(int)
            pen.line(points.ravel().tolist(), fill=round(255 * opacity), width=across)
        self.picture.paste(colour, (left, upper, right, lower), mask.reduce(FINER))

    def _box(self, place: Rectangle) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge in pixels; no box is empty."""
        x, y, wide, high = place
        left, right = round(x * self._dots), round((x + wide) * self._dots)
        upper, lower = (round(self.picture.height - edge * self._dots) for edge in (y + high, y))
        return left, upper, max(left + 1, right), max(upper + 1, lower)


def _resized(pixels: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, how))


def _bytes(greys: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (greys + 0.5).clip(0, 255).astype(np.uint8)


def _dashes(lines: Iterable[Line], thick: float) -> Iterator[Line]:
    """The dashes of lines in pixels; each line begins with one."""
    on, period = DASH * thick, (DASH + GAP) * thick
    for line in lines:
        along = np.append(0.0, np.cumsum(np.hypot(*np.diff(line, axis=0).T)))
        starts = np.arange(0.0, along[-1], period)
        cuts = np.concatenate((starts, starts + on))
        at = np.union1d(along, cuts[cuts < along[-1]])
        points = np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], axis=1)
        inked = np.append((at[:-1] + at[1:]) / 2 % period < on, False)
        begins = np.flatnonzero(inked & ~np.append(False, inked[:-1]))
        ends = np.flatnonzero(~inked & np.append(False, inked[:-1]))
        yield from (points[begin : end + 1] for begin, end in zip(begins, ends, strict=True))
