"""Names between backticks, in docstrings, comments and pages, are names of the code."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import sys
import tokenize
from collections.abc import Collection, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from medseg.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "medseg"
GENERATED = {*ROOT.glob("docs/reference/*.md")}  # by `make docs`, from what is checked where it stands
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {ROOT / "docs/extending.md"} - GENERATED)
"""The page of how to extend the package names files of another one, and has a test of its own."""

QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
PLAIN = re.compile(r"[a-z]\w*_\w+|[A-Z]+[a-z]+[A-Z]\w*|[A-Z][A-Z0-9]*_\w+")
"""Words that are names by their form: `of_this`, `OfThis` or `OF_THIS`."""
SOURCE = re.compile(r"[\w/]+/\w+\.py")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
FILES = ("json", "toml", "csv", "txt", "html", "css", "png", "nii", "nhdr", "gz", "safetensors")
"""What a dotted name ends with that is that of a file."""
LIBRARIES = {"nibabel", "numpy", "pandas", "scipy", "stats", "torch", "SimpleITK"} | sys.stdlib_module_names
PROMISE12 = re.compile(r"(whole|base|apex)_\w+")
"""Columns whose names are put together from a part of the prostate and what is measured."""
SECTIONS = {field.name for field in dataclasses.fields(Recipe)}
"""Of a recipe; pages name settings by them."""
FOREIGN = {"MetaTensor", "DataLoader", "compute_robust_hausdorff", "X_seg"}
"""Names of other people's code, and of files in examples, which the package does not use."""


def words(text: str) -> Collection[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


@cache
def parts(source: str) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The code of a module without comments and docstrings; these, with their lines."""
    documented = {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    code, said = [], []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        comment = token.type == tokenize.COMMENT or token.start in documented
        if comment:
            said.append((token.start[0], token.string))
        else:
            code.append(token.string)
    return " ".join(code), tuple(said)


@cache
def modules() -> dict[str, Collection[str]]:
    """The names that each module uses or defines, under its dotted path."""
    sources = {path.relative_to(ROOT): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    paths = (".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in sources)
    return dict(zip(paths, (words(parts(source)[0]) for source in sources.values()), strict=True))


@cache
def names() -> Collection[str]:
    """Every name of the package."""
    return frozenset(chain(*modules().values(), *(path.split(".") for path in modules())))


@cache
def classes() -> dict[str, Collection[str]]:
    """The names in the modules that define a class, under its name."""
    found: dict[str, Collection[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text("utf-8")
        for name in re.findall(r"^class (\w+)", source, re.MULTILINE):
            found[name] = frozenset(found.get(name, ())) | frozenset(words(source))
    return found


@cache
def names_elsewhere() -> Collection[str]:
    """What is written in tests, benchmarks, cards and recipes."""
    folders = ("tests", "benchmarks", "docs", "datasets", "pipelines")
    files = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return words(" ".join(path.read_text("utf-8") for path in files if path.suffix in (".py", ".toml")))


def exists(name: str, local: Collection[str]) -> bool:
    """Whether a name is one of the package; `local` are those that mean something where it stands."""
    if not DOTTED.fullmatch(name):
        return name in names() or name in local or name in FOREIGN or bool(PROMISE12.fullmatch(name))
    first, *rest = name.split(".")
    if rest[-1] in FILES or first in LIBRARIES:
        return True
    if first in classes():
        return set(rest) <= set(classes()[first])
    if first in local:
        return set(rest) <= set(names())
    if set(rest) <= set(classes().get(first.capitalize(), ())):
        return True  # an instance, called after its class
    return any(_of_module(name, path) for path in modules())


def _of_module(name: str, path: str) -> bool:
    """Whether a dotted name is the end of a module's path, or that and a name in the module."""
    place, _, last = name.rpartition(".")
    return f".{path}".endswith(f".{name}") or (f".{path}".endswith(f".{place}") and last in modules()[path])


def quoted(text: str) -> Iterator[tuple[int, str]]:
    """What looks like a name between backticks, with the number of its line."""
    for match in QUOTED.finditer(text):
        name = match[1].removesuffix("()")
        if DOTTED.fullmatch(name) or PLAIN.fullmatch(name):
            yield text.count("\n", 0, match.start()), name


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("requests.find_cases", True), ("inputs.find_cases", False), ("requests.find_nothing", False),
        ("metrics.conformal", True), ("Grid.volume_ml", True), ("Grid.volume_pints", False),
        ("grid.spacing_mm", True), ("grid.spacing_pints", False),
        ("dataset.json", True), ("json.loads", True), ("stem_and_suffix", True), ("stem_and_prefix", False),
        ("here.array", True), ("here.no_array", False),
    ],
)  # fmt: skip
def test_a_name_that_is_gone_is_found(name: str, there: bool) -> None:
    assert exists(name, {"here"}) is there


def test_docstrings_and_comments_name_what_exists() -> None:
    stale = []
    for path in sorted(PACKAGE.rglob("*.py")):
        code, said = parts(path.read_text("utf-8"))
        local = words(code)
        stale += [
            f"{path.relative_to(ROOT)}:{first + line}: {name}"
            for first, text in said
            for line, name in quoted(text)
            if not exists(name, local)
        ]
    assert stale == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    examples = words(" ".join(FENCED.findall(text)))
    text = FENCED.sub(lambda block: "\n" * block[0].count("\n"), text)
    stale = [
        f"{line + 1}: {name}"
        for line, name in quoted(text)
        if not exists(name, {*examples, *SECTIONS}) and name not in names_elsewhere()
    ]
    sources = {name for name in QUOTED.findall(text) if SOURCE.fullmatch(name)}
    stale += [name for name in sources if not any((folder / name).is_file() for folder in (ROOT, PACKAGE))]
    assert stale == []
