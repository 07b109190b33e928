"""The reading order of the house: a module imports only from rooms to its left."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "medseg"

ORDER = (
    ("core",), ("findings",), ("io",), ("preparation",), ("metrics",), ("classical",), ("model",),
    ("augment", "networks", "losses"), ("instances",), ("inference",), ("data",), ("segmentation",),
    ("reporting",), ("prediction",), ("training",), ("evaluation",), ("api",), ("serving",), ("cli",),
)  # fmt: skip
RANK = {room: n for n, rooms in enumerate(ORDER) for room in rooms}

TORCH_ROOMS = ("augment", "networks", "losses", "instances", "training", "inference/engines/torch.py")
OWNERS = {
    r"\bhashlib\b": ("core/digest.py", "io/digest.py"),
    r"\bfind_objects\b": ("core/boxes.py",),
    r"\bcc3d\b": ("core/components.py",),
    r"members or \(": ("core/structures.py",),
    r"\[0-9a-fA-F\]\{6\}|\bcolour\[": ("core/colours.py",),
    r"mm3[ \w.]*/ (1000|MM3)": ("core/volume.py",),
}
"""How a fact is spelled, and the modules that own it: all others ask them."""
LINES_PER_MODULE = 400
LINES_PER_FUNCTION = 60


@cache
def modules() -> dict[str, str]:
    """The text of each module, under its path within the package."""
    return {p.relative_to(PACKAGE).as_posix(): p.read_text("utf-8") for p in sorted(PACKAGE.rglob("*.py"))}


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(modules()[module])


def room(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_module_imports_only_from_the_left() -> None:
    wrong = []
    for module in modules():
        here = room(module)
        if here in ("__init__", "__main__"):  # the public names, loaded lazily; the command line
            continue
        assert here in RANK, f"{here} is not a room of the house"
        for name in imports(parsed(module)):
            parts = name.split(".")
            if parts[0] != "medseg" or len(parts) < 2 or parts[1] not in RANK:
                continue
            there = parts[1]
            if there != here and RANK[there] >= RANK[here]:
                wrong.append(f"{module} imports {name}, which is to its right")
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """Kahn's order: files whose imports are all placed are placed, until none is left."""
    named = {_dotted(module): module for module in modules()}
    needs = {
        name: (set(_files(parsed(module), named)) & named.keys()) - {name, "medseg"}
        for name, module in named.items()
    }
    while placed := {name for name, needed in needs.items() if not needed}:
        needs = {name: needed - placed for name, needed in needs.items() if name not in placed}
    assert sorted(needs) == []


def _dotted(module: str) -> str:
    parts = [part for part in module.removesuffix(".py").split("/") if part != "__init__"]
    return ".".join(["medseg", *parts])


def _files(tree: ast.AST, named: Container[str]) -> Iterator[str]:
    """The files that are imported: of `from medseg.io import dicom` the second, where that is a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in named else str(node.module) for name in full)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_torch_is_imported_only_in_its_rooms() -> None:
    others = [module for module in modules() if not module.startswith(TORCH_ROOMS)]
    heavy = {"torch", "monai"}
    assert [m for m in others if heavy & {name.split(".")[0] for name in imports(parsed(m))}] == []


def test_a_fact_is_spelled_by_its_owner_alone() -> None:
    spelled = {how: tuple(name for name, text in modules().items() if re.search(how, text)) for how in OWNERS}
    assert spelled == OWNERS


def test_modules_and_functions_can_be_read_in_a_glance() -> None:
    lengths = {module: text.count("\n") for module, text in modules().items()}
    assert {module: n for module, n in lengths.items() if n > LINES_PER_MODULE} == {}
    long = []
    for module in modules():
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LINES_PER_FUNCTION + _docstring_lines(node):
                    long.append(f"{module}: {node.name} has {length} lines")
    assert long == []


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    has_one = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if has_one else 0
