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
    names: Annotated[
        list[str] | None, typer.Argument(help="Show the options of these networks; all networks without.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List the networks that a recipe can name, or the options of some."""
    from medseg.networks.registry import NETWORKS

    if names:
        _show(names, as_json)
        return
    rows = {known: _first_line(NETWORKS.find(known)) for known in sorted(NETWORKS)}
    result(json.dumps(rows) if as_json else _listed(rows))
    if not as_json:
        say('A recipe names one: [network] name = "segnet". medseg networks NAME lists its options.')


def _show(names: list[str], as_json: bool) -> None:
    """The options of networks, and for those composed of parts the names of the parts."""
    told = [_part(name) or _options(name) for name in names]
    if as_json:
        result(json.dumps(told[0] if len(told) == 1 else told))
        return
    for number, facts in enumerate(told):
        if number:
            result("")
        _tell(facts)


def _options(name: str) -> dict[str, Any]:
    """What a network is, and what may be chosen of it."""
    from medseg.networks.composed import TABLES, Composed
    from medseg.networks.registry import NETWORKS

    network = NETWORKS.find(name)
    types = {key: kind for key, kind in network.keywords({}).items() if key not in FIXED}
    rows = {key: _said(kind) for key, kind in types.items()}
    if issubclass(network, Composed):
        rows |= {part: ", ".join(TABLES[part]) for part in TABLES}
    row = getattr(network, "row", None)
    usual = _defaults(network) | {part: getattr(row, part, "") for part in TABLES}
    defaults = {key: usual[key] for key in rows if usual.get(key)}
    return {"name": name, "is": _first_line(network), "options": rows, "defaults": defaults}


def _defaults(network: type) -> dict[str, Any]:
    """What is taken where an option is not given; nothing of options whose default depends on others."""
    given = inspect.signature(network).parameters.values()
    return {p.name: p.default for p in given if isinstance(p.default, int | float | str) and p.default != ""}


def _part(name: str) -> dict[str, Any] | None:
    """What is said of a word that means a part of networks, or a network of MONAI."""
    from medseg.networks.composed import TABLES

    for kind, table in TABLES.items():
        if name in table:
            text = f'{kind} of a composed network, such as deeplabv3plus: options = {{ {kind} = "{name}" }}'
            return {"name": name, "is": text, "options": {}}
    if name.startswith("monai:"):
        text = (
            "network of MONAI; its options are the arguments of the class of that name in monai.networks.nets"
        )
        return {"name": name, "is": text, "options": {}}
    return None


def _tell(facts: Mapping[str, Any]) -> None:
    from medseg.networks.registry import NETWORKS

    name, rows = facts["name"], facts["options"]
    result(f"{name}: {facts['is']}")
    if not rows:
        return
    usual = facts["defaults"]
    result("\n" + _listed({k: f"{v} (default {usual[k]})" if k in usual else v for k, v in rows.items()}))
    text = inspect.cleandoc(NETWORKS.find(name).__doc__ or "").partition("Args:")[2].partition("Raises:")[0]
    lines = inspect.cleandoc(text).splitlines()
    result("\n" + "\n".join(line for line in lines if not line.startswith((*FIXED, "settings:"))))
    own = [key for key in ("widths", "norm", "kernels", "strides") if key in rows]
    say(f"{' and '.join(own)} stand in [network] itself, all others in its options = {{ ... }}.")


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
