"""Terminal output: messages and progress on stderr, results on stdout."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medseg.core.errors import UsageError, printable

if TYPE_CHECKING:
    from medseg.findings.finding import Finding

SAID = {"doubt": "doubtful", "warning": "warning", "note": "note"}
"""What a line about a finding begins with."""


def say(text: str) -> None:
    """Print a message on stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def say_findings(findings: Iterable[Finding], case: str = "") -> None:
    """Print findings on stderr, one a line: the severity, the case if there is a name, the sentence."""
    of_case = f"{case}: " if case else ""
    for finding in findings:
        say(f"{SAID[finding.severity]}: {of_case}{finding.sentence}")


def refuse_doubts(findings: Iterable[Finding]) -> None:
    """End as `--strict` does where anything speaks against results that are written already.

    Raises:
        InputError: there is a doubt or a warning; every one is named.
    """
    from medseg.findings.finding import refuse

    refuse(findings, hint="inspect these segmentations, or drop --strict")


def result(text: str) -> None:
    """Print a line of the result on stdout."""
    sys.stdout.write(f"{text}\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: words to the left, numbers to the right.

    >>> print(table([["structure", "Dice"], ["core", "0.9"]]))
    structure  Dice
    core        0.9
    """
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in ([printable(cell) for cell in row] for row in rows)
    )


def rewrite(text: str) -> None:
    """Show progress on the last line of a terminal; print nothing if stderr is not a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{printable(text)}")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """A duration as text.

    >>> duration(75), duration(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seconds_of(text: str) -> float:
    """`90`, `90s`, `20m` or `1.5h` as seconds.

    >>> seconds_of("20m"), seconds_of("1.5h"), seconds_of("90")
    (1200.0, 5400.0, 90.0)
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    return float(number) * units[unit]


def bytes_of(text: str) -> int:
    """An amount of memory as bytes; units are powers of 1024.

    >>> bytes_of("3G"), bytes_of("800m"), bytes_of("1.5 GiB")
    (3221225472, 838860800, 1610612736)

    Raises:
        UsageError: it is not an amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(f"{text!r} is not an amount of memory", hint="give one such as 3G or 800M")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
