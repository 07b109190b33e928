"""Value: a measured number with its status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "both_empty", "ref_empty", "pred_empty", "not_evaluated"]


@dataclass(frozen=True)
class Value:
    """One metric of one structure of one case.

    Attributes:
        value: the number; None where the metric is undefined or was not evaluated, +inf for a
            distance to a surface that does not exist.
        unit: "mm", "ml", "%", "points" of a score, or "1" for a fraction or a number of lesions.
        status: which of the two masks were empty, or that the metric was not evaluated.

    >>> Value(float("inf"), "mm", "pred_empty").is_finite
    False
    """

    value: float | None
    unit: str
    status: Status

    @property
    def is_finite(self) -> bool:
        return self.value is not None and math.isfinite(self.value)


def measured(number: float, unit: str, status: Status) -> Value:
    """A `Value` in which NaN (undefined) becomes None."""
    return Value(None if math.isnan(number) else float(number), unit, status)


def not_evaluated(unit: str) -> Value:
    return Value(None, unit, "not_evaluated")
