"""The reading order of the house: a module imports only from rooms to its left."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medseg"

ORDER = (
    ("errors",), ("specs", "stopwatch", "numbers"), ("affine",), ("volume", "structures"), ("findings",),
    ("io",), ("geometry",), ("intensity",), ("preparation",), ("metrics",),
    ("model",), ("augment", "networks", "losses"), ("sampling",), ("inference",), ("layouts",),
    ("phantom",), ("cards",), ("training",), ("recipes",), ("report",), ("workflows",), ("cli",),
)  # fmt: skip
RANK = {room: n for n, rooms in enumerate(ORDER) for room in rooms}

TORCH_ROOMS = ("augment", "networks", "losses", "sampling", "training", "inference/engines/torch.py")
LINES_PER_MODULE = 400
LINES_PER_FUNCTION = 60


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_left(path: Path) -> None:
    here = room(path)
    if here == "__init__":  # the public names, loaded lazily
        return
    assert here in RANK, f"{here} is not a room of the house"
    for name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "medseg" or len(parts) < 2 or parts[1] not in RANK:
            continue
        there = parts[1]
        assert there == here or RANK[there] < RANK[here], f"{here} imports {name}, which is to its right"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_imported_only_in_its_rooms(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    if relative.startswith(TORCH_ROOMS):
        return
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert not names & {"torch", "monai"}, f"{relative} imports torch or monai"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_can_be_read_in_a_glance(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES_PER_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LINES_PER_FUNCTION + _docstring_lines(node), f"{node.name} has {length} lines"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    has_one = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if has_one else 0
