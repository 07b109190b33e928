"""`medseg networks`."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say

FIXED = ("spatial_dims", "in_channels", "out_channels")
"""Arguments that come from the data."""
LINE = 100
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
"""What an option of a type takes."""


def command(
    name: Annotated[str, typer.Argument(help="Show this network's options; all networks without.")] = "",
    as_json: opt.Json = False,
) -> None:
    """List the networks that a recipe can name, or the options of one."""
    from medseg.networks.registry import NETWORKS

    if name:
        _show(name, as_json)
        return
    rows = {known: _first_line(NETWORKS.find(known)) for known in sorted(NETWORKS)}
    result(json.dumps(rows) if as_json else _listed(rows))
    if not as_json:
        say('A recipe names one: [network] name = "segnet". medseg networks NAME lists its options.')


def _show(name: str, as_json: bool) -> None:
    """The options of one network, and for those composed of parts the names of the parts."""
    from medseg.networks.composed import TABLES, Composed
    from medseg.networks.registry import NETWORKS

    network = NETWORKS.find(name)
    types = {key: kind for key, kind in network.keywords({}).items() if key not in FIXED}
    rows = {key: _said(kind) for key, kind in types.items()}
    if issubclass(network, Composed):
        rows |= {part: ", ".join(TABLES[part]) for part in TABLES}
    if as_json:
        result(json.dumps({"name": name, "is": _first_line(network), "options": rows}))
        return
    result(f"{name}: {_first_line(network)}\n")
    result(_listed(rows))
    text = inspect.cleandoc(network.__doc__ or "").partition("Args:")[2].partition("Raises:")[0]
    lines = inspect.cleandoc(text).splitlines()
    result("\n" + "\n".join(line for line in lines if not line.startswith(FIXED)))
    say("widths, norm, kernels and strides stand in [network] itself, all others in its options = { ... }.")


def _listed(rows: Mapping[str, str]) -> str:
    """A name and what it is on each line, long lines folded."""
    width = max(map(len, rows)) + 2
    return "\n".join(
        textwrap.fill(text, LINE, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in rows.items()
    )


def _first_line(network: type) -> str:
    return (network.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _said(kind: Any) -> str:
    """A type in words: the values of a choice, else what it is.

    >>> from typing import Literal
    >>> _said(Literal["paper", "volume"]), _said(int), _said(tuple[int, ...])
    ('paper or volume', 'a whole number', 'a list')
    """
    values = [v for one in get_args(kind) for v in (get_args(one) or (one,)) if isinstance(v, str)]
    if values:
        return " or ".join(value for value in values if value)
    return WORDS.get(kind, "a list")
