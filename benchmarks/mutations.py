"""What a mutant is: a module that differs from the code in one place, and how it is imported in its stead."""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module: its place, what runs when its statement does, and how it is made again."""

    path: Path
    line: int
    lines: tuple[int, ...]
    text: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.source}: {self.text}"


def mutants_of(path: Path) -> list[Mutant]:
    """Every change there is of a module."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(node) for node in _not_run(tree)}
    lines = _lines(tree)
    places = [node for node in ast.walk(tree) if id(node) not in skipped]
    found = []
    for number, node in enumerate(places):
        for way, changed in enumerate(_changed(node)):
            text = f"{_short(node)} -> {_short(changed)}"
            line = getattr(node, "lineno", 0)
            found.append(Mutant(path, line, lines.get(id(node), ()), text, f"{number}/{way}"))
    return found


def _lines(tree: ast.Module) -> dict[int, tuple[int, ...]]:
    """The lines of each node's statement, without its body; none, where it runs as the module is imported."""
    found: dict[int, tuple[int, ...]] = {}

    def visit(node: ast.AST, lines: tuple[int, ...], within: bool) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            lines = tuple(range(node.lineno, max(end, node.lineno + 1))) if within else ()
        found[id(node)] = lines
        function = isinstance(node, ast.FunctionDef)
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, lines, within or (function and name == "body"))

    visit(tree, (), False)
    return found


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:70]


def _not_run(tree: ast.Module) -> Iterator[ast.AST]:
    """Annotations, docstrings, imports, decorators, what is for the type checker, and sentences."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            parts = [node.returns, *node.decorator_list, *(a.annotation for a in _arguments(node.args))]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.ClassDef):
            parts = list(node.decorator_list)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            parts = [node]
        elif isinstance(node, ast.Raise) and node.exc is not None:
            parts = [node.exc]
        for part in parts:
            if part is not None:
                yield from ast.walk(part)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    more = [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """The node in other forms, each a copy."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield _with(node, ops=[COMPARED[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
        yield _with(node, op=COMPUTED[type(node.op)]())
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield _with(node, test=ast.Constant(False))
        if not isinstance(node, ast.While):
            yield _with(node, test=ast.Constant(True))
    elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        value = not node.value if isinstance(node.value, bool) else node.value * 2 + 1
        yield _with(node, value=value)


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def source_of(mutant: Mutant) -> ast.Module:
    """The module as the mutant has it."""
    tree = ast.parse(mutant.path.read_text("utf-8"))
    skipped = {id(node) for node in _not_run(tree)}
    number, way = map(int, mutant.source.split("/"))
    node = [n for n in ast.walk(tree) if id(n) not in skipped][number]
    changed = list(_changed(node))[way]

    class Put(ast.NodeTransformer):
        def visit(self, found: ast.AST) -> Any:
            return changed if found is node else super().visit(found)

    return ast.fix_missing_locations(Put().visit(tree))


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module as its mutant."""

    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.path, self.code = mutant.path, compile(source_of(mutant), str(mutant.path), "exec")

    def find_spec(self, name: str, *_: Any) -> Any:
        return (
            importlib.util.spec_from_file_location(name, self.path, loader=self)
            if name == self.name
            else None
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)
