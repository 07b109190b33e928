"""Number formats: volumes with three significant figures, signs, no minus zero; amounts of memory."""

from __future__ import annotations

import math

MINUS = "−"

FIGURES = 3
"""Significant figures of a volume."""


def three_figures(value: float | None, *, signed: bool = False) -> str:
    """A number to three significant figures, without an exponent.

    >>> three_figures(1234.56), three_figures(2.0), three_figures(0.01234), three_figures(0.0)
    ('1230', '2.00', '0.0123', '0')
    >>> three_figures(-0.1764, signed=True), three_figures(9.996), three_figures(None)
    ('−0.176', '10.0', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    if abs(value) < NOTHING:
        return "0"
    rounded = float(f"{value:.{FIGURES - 1}e}")
    digits = FIGURES - 1 - math.floor(math.log10(abs(rounded)))
    return number(rounded, max(0, digits), signed=signed)


NOTHING = 1e-9
"""What is smaller is the rounding of a difference, and no volume."""


def millilitres(value: float | None, *, signed: bool = False) -> str:
    """A volume in ml: three significant figures, on every page, in every table and sentence.

    >>> millilitres(1463.2), millilitres(-2.0, signed=True)
    ('1460', '−2.00')
    """
    return three_figures(value, signed=signed)


def decimals(value: float) -> int:
    """How many decimals a volume in ml has.

    >>> decimals(1463.2), decimals(2.0), decimals(0.01234)
    (0, 2, 4)
    """
    return len(millilitres(value).partition(".")[2])


def memory(count: int) -> str:
    """An amount of memory, in GiB or, below one, in MiB.

    >>> memory(3 * 2**30), memory(105 * 2**20)
    ('3.00 GiB', '105 MiB')
    """
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{math.ceil(count / 2**20)} MiB"


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A fixed number of decimals, with a minus as long as a plus, and never minus zero.

    >>> number(-0.04, 1), number(0.5, 2, signed=True), number(None, 1)
    ('0.0', '+0.50', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text
