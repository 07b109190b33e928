"""A straight line with the interval that new points lie in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x, and how far from it a new case may lie.

    Attributes:
        slope: never negative: the estimate is not trusted backwards.
        intercept: of the line.
        low, high: ends of the interval of a new y, as distances above the line (see `metrics.conformal`).
    """

    slope: float
    intercept: float
    low: float
    high: float

    def at(self, x: float) -> tuple[float, float, float]:
        """The expected y and the ends of its interval."""
        y = self.intercept + self.slope * x
        return y, y + self.low, y + self.high
