"""Units of length that files state in words, and the warning if they are not millimetres."""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import InputError, printable

MM_PER = {"nanometres": 1e-6, "micrometres": 1e-3, "millimetres": 1.0, "centimetres": 10.0, "metres": 1e3}
SPELLINGS = {
    "nanometres": ("nm", "nanometer", "nanometre"),
    "micrometres": ("um", "\u00b5m", "\u03bcm", "micron", "micrometer", "micrometre"),
    "millimetres": ("mm", "millimeter", "millimetre", "", "?", "???"),
    "centimetres": ("cm", "centimeter", "centimetre"),
    "metres": ("m", "meter", "metre"),
}
"""Of each unit; a unit that is left out is millimetres, as in every medical format."""
LONGEST_SHOWN = 20


def unit_of(text: str, source: Path) -> str:
    """The unit, a key of `MM_PER`, that a header names.

    Raises:
        InputError: it is no unit of length, such as pixels.

    >>> unit_of("Microns", Path("a")), unit_of("mm", Path("a"))
    ('micrometres', 'millimetres')
    """
    word = text.strip().casefold()
    for unit, spellings in SPELLINGS.items():
        if word in spellings or (len(word) > 2 and word.removesuffix("s") in spellings):
            return unit
    raise InputError(
        f"the header's unit of length {printable(text)[:LONGEST_SHOWN]!r} is unknown",
        source=source,
        hint="export it again in millimetres",
    )


def converted(*units: str) -> tuple[str, ...]:
    """The warning for a file that measures in other units than millimetres.

    >>> converted("micrometres", "micrometres")
    ('The file measures in micrometres; its grid was converted to millimetres.',)
    >>> converted("millimetres")
    ()
    """
    if all(unit == "millimetres" for unit in units):
        return ()
    named = " and ".join(dict.fromkeys(units))
    return (f"The file measures in {named}; its grid was converted to millimetres.",)
