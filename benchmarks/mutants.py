"""Small faults put into the readers, measures and checkpoints: what share do the tests notice?

    python benchmarks/mutants.py                                # 150 mutants, half an hour of one core
    python benchmarks/mutants.py metrics --mutants 40 --seed 1

A mutant differs from the code in one place: a comparison, an operator, a number, a condition that always or
never holds. Each runs against the tests of its room, which stop at the first failure, in a process forked
from one that has imported the libraries. One JSON line; survivors are listed with their place, on stderr all.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]

ROOMS = {
    "io": (sorted((ROOT / "medseg/io").glob("*.py")), ["tests/io"]),
    "metrics": (sorted((ROOT / "medseg/metrics").glob("*.py")), ["tests/metrics"]),
    "checkpoint": ([ROOT / "medseg/training/checkpoint.py"], ["tests/training/test_checkpoint.py"]),
}
"""What is changed, and the tests that must notice."""

SECONDS = 180
"""What a mutant may take; one that never ends was noticed."""

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
    """One change of one module."""

    path: Path
    line: int
    text: str
    source: str


def mutants_of(path: Path) -> list[Mutant]:
    """Every change there is of a module."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(node) for node in _not_run(tree)}
    places = [node for node in ast.walk(tree) if id(node) not in skipped]
    found = []
    for number, node in enumerate(places):
        for way, changed in enumerate(_changed(node)):
            line = getattr(node, "lineno", 0)
            text = f"{_short(node)} -> {_short(changed)}"
            found.append(Mutant(path, line, text, f"{number}/{way}"))
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


def survives(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Whether all tests pass; a process that takes too long or dies does not."""
    child = os.fork()
    if child == 0:
        _test(mutant, tests)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _test(mutant: Mutant | None, tests: Sequence[str]) -> None:
    import pytest

    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if mutant is not None:
        sys.meta_path.insert(0, Loader(mutant))
    os.chdir(ROOT)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not realdata", *tests])
    os._exit(int(code))


def ordered(path: Path, tests: Sequence[str]) -> list[str]:
    """Test files, those that bear the module's name first."""
    files = [
        f
        for t in tests
        for f in (sorted((ROOT / t).glob("test_*.py")) if (ROOT / t).is_dir() else [ROOT / t])
    ]
    word = path.stem.split("_")[0]
    return [str(f.relative_to(ROOT)) for f in sorted(files, key=lambda f: word not in f.stem)]


def preload() -> None:
    """Import what takes long, once; nothing of medseg."""
    import highdicom  # noqa: F401
    import monai  # noqa: F401
    import nibabel  # noqa: F401
    import pytest  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import SimpleITK  # noqa: F401
    import skimage  # noqa: F401
    import torch  # noqa: F401

    assert not any(name.split(".")[0] == "medseg" for name in sys.modules)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help="which; all of them, if not said")
    parser.add_argument("--mutants", type=int, default=150, help="drawn of all there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="after which no further one is begun")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    preload()
    every = [
        (room, m) for room in options.rooms or ROOMS for path in ROOMS[room][0] for m in mutants_of(path)
    ]
    order = np.random.default_rng(options.seed).permutation(len(every))[: options.mutants]
    for room in sorted({every[n][0] for n in order}):
        assert survives(None, ROOMS[room][1]), f"the tests of {room} fail without a mutant"
    killed, tried, lived, start = Counter[str](), Counter[str](), [], time.monotonic()
    for number in order:
        room, mutant = every[number]
        if time.monotonic() - start > 60 * options.minutes:
            break
        tried[room] += 1
        alive = survives(mutant, ordered(mutant.path, ROOMS[room][1]))
        killed[room] += not alive
        place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
        print(f"{'lives' if alive else 'dies'}  {place}  {mutant.text}", file=sys.stderr, flush=True)
        if alive:
            lived.append(f"{place}: {mutant.text}")
    share = sum(killed.values()) / max(1, sum(tried.values()))
    found = {
        "benchmark": "mutants", "python": platform.python_version(), "seed": options.seed,
        "there_are": len(every),
        "tried": dict(tried), "killed": dict(killed), "share": round(share, 3), "survivors": lived,
    }  # fmt: skip
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
