"""Write the pages of docs/reference/: commands, public names, recipes and cards.

python docs/reference.py          # `make docs` runs it; no page of them is kept in the repository
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from medseg.cli.main import application

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
READMES = {"recipes.md": "pipelines", "cards.md": "datasets"}
"""Pages that are the README of a folder."""

PUBLIC = ("medseg", "medseg.losses", "medseg.networks", "medseg.augment", "medseg.metrics")
"""Modules whose `__all__` is public."""

COMMANDS = """# Commands

Every command takes `--help` and `--debug` (show where an error comes from); `medseg --version` prints the
version. [Exit codes](../how-to/segment.md#exit-codes) say how a command ended.
"""

PYTHON = """# Python

These names are public: they stay, or leave with a note in the changelog. What is not listed here may change
at any time.
"""

OVERVIEW = """
::: {path}
    options:
      members: []
      show_root_heading: false
      show_root_toc_entry: false
"""

BLOCK = """
::: {path}
    options:
      heading: {name}
      toc_label: {name}
"""

SHARED = """
### What they share

The arguments below are those of several of these classes. These base classes are not public themselves.
"""


def commands() -> str:
    """The page of the commands: usage, description, arguments and options of each."""
    parts = [COMMANDS]
    for name, command in get_command(application()).commands.items():  # type: ignore[attr-defined]
        parts.append(f"\n## medseg {name}\n\n{inspect.cleandoc(command.help or '')}\n")
        parts.append("\n| argument or option | meaning | default |\n|---|---|---|\n")
        parts += [_row(parameter) for parameter in command.params if not parameter.hidden]
    return "".join(parts)


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    many = " (several)" if parameter.multiple or parameter.nargs != 1 else ""
    meaning = (parameter.help or "").replace("|", "\\|")
    empty = parameter.default in (None, "", False, (), []) or callable(parameter.default)
    default = "required" if parameter.required else "" if empty else f"`{parameter.default}`"
    return f"| {names}{many} | {meaning} | {default} |\n"


def python() -> str:
    """The page of the public names, in the notation of mkdocstrings."""
    parts = [PYTHON]
    for name in PUBLIC:
        parts += [f"\n## {name}\n", OVERVIEW.format(path=name)]
        parts += [BLOCK.format(name=shown, path=_path(thing)) for shown, thing in _documented(name)]
        shared = _shared([thing for _, thing in _documented(name)])
        parts += [SHARED] * bool(shared)
        parts += [BLOCK.format(name=thing.__name__, path=_path(thing)) for thing in shared]
    return "".join(parts)


def _documented(module: str) -> Iterator[tuple[str, Any]]:
    """The public name of each function and class of a module, and the thing itself."""
    home = importlib.import_module(module)
    for name in getattr(home, "__all__", ()):
        thing = getattr(home, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield f"{module}.{name}", thing


def _shared(things: list[Any]) -> list[type]:
    """The base classes of our own that explain arguments, and are not among the things."""
    bases = [base for thing in things if inspect.isclass(thing) for base in thing.__mro__]
    ours = [base for base in bases if base.__module__.startswith("medseg.") and base not in things]
    return [base for base in dict.fromkeys(ours) if "Args:" in (base.__doc__ or "")]


def _path(thing: Any) -> str:
    """Where a function or a class is defined."""
    return f"{thing.__module__}.{thing.__qualname__}"


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "commands.md").write_text(commands(), "utf-8")
    (FOLDER / "python.md").write_text(python(), "utf-8")
    for page, folder in READMES.items():
        text = (ROOT / folder / "README.md").read_text("utf-8")
        (FOLDER / page).write_text(text.replace("../docs/", "../"), "utf-8")


if __name__ == "__main__":
    main()
