"""How numbers are written: volumes to three significant figures, signs, and why there is no value."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

from medseg.core import numbers
from medseg.metrics.value import Value
from medseg.reporting import tables

PACKAGE = Path(__file__).parents[2] / "medseg"


@pytest.mark.fault("reports 36")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.99949, "0.999"), (0.9996, "1.00"), (0.1, "0.100"), (0.09996, "0.100"),
        (0.012345, "0.0123"), (0.001, "0.00100"), (12.34, "12.3"), (1503.25, "1500"), (999.7, "1000"),
        (None, "n/a"), (math.nan, "n/a"), (math.inf, "n/a"), (1e-12, "0"),
    ],
)  # fmt: skip
def test_volumes_have_three_significant_figures(value: float | None, text: str) -> None:
    assert numbers.millilitres(value) == text


def test_signs_are_shown_on_differences_only_and_never_on_zero() -> None:
    assert [numbers.millilitres(v, signed=True) for v in (2.0, -2.0, 0.0, -0.5)] == [
        "+2.00",
        "−2.00",
        "0",
        "−0.500",
    ]
    assert numbers.number(-0.0001, 3) == "0.000"


@pytest.mark.parametrize(("status", "text"), tables.WHY_NOT.items())
def test_a_missing_value_says_why(status: str, text: str) -> None:
    for value in (None, math.nan, math.inf):
        assert tables.measure(Value(value, "mm", status), 1) == text  # type: ignore[arg-type]


@pytest.mark.fault("reports 36")
def test_nobody_else_formats_a_volume() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "numbers.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
                assert not re.search(r"(_ml|volume)\b", ast.unparse(node.value)), (path, node.lineno)
