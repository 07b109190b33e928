"""Write docs/reliability.md: every known fault, what is required of it, and the tests that hold it.

    python docs/reliability.py          # after a test was marked, moved or renamed

Rows lie in docs/faults.csv. A test names the rows it pins with `@pytest.mark.fault("reports 7")`. Rows
without a test are listed in docs/faults_open.txt; this script takes out those that have one by now, and adds
none.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS, OPEN = ROOT / "docs" / "faults.csv", ROOT / "docs" / "faults_open.txt"
PAGE = ROOT / "docs" / "reliability.md"

SEVERITIES = {
    "P": "patient safety", "D": "loss of data", "S": "security or privacy",
    "W": "a wrong number", "U": "unusable", "N": "a nuisance",
}  # fmt: skip

HEAD = """# What can go wrong, and which test holds it

{held} of {all} known faults have a test that pins what is required; {open} are open. Written by
`python docs/reliability.py` from the marks of the tests (`@pytest.mark.fault`) and from `docs/faults.csv`.

Severity: {severities}. Exit codes: 2 usage, 3 input, 4 geometry, 5 model, 6 memory or disk, 7 part of a
batch, 8 self-check, 130 and 143 signals.
"""

TITLES = {
    "reliability": "What a scan, a model or a machine can do",
    "reports": "What public reports, real files and fuzzers found",
}


def rows() -> list[dict[str, str]]:
    """The rows of the two tables, in order."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def marked() -> dict[str, list[str]]:
    """The tests that pin each row, as `tests/io/test_x.py::test_y`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, row in _marks(ast.parse(path.read_text("utf-8"))):
            found.setdefault(row, []).append(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return found


def _marks(holder: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, str]]:
    """Each test below a module or class, and each row among its decorators (those of parameters too)."""
    for node in holder.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            for call in ast.walk(decorator):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
                    yield within + node.name, ast.literal_eval(call.args[0])
        if isinstance(node, ast.ClassDef):
            yield from _marks(node, f"{within}{node.name}::")


def still_open() -> list[str]:
    """The rows that are allowed to have no test yet."""
    return OPEN.read_text("utf-8").splitlines()


def page() -> str:
    """What docs/reliability.md has to say."""
    tests, every = marked(), rows()
    held = sum(row["row"] in tests for row in every)
    kinds = ", ".join(f"{letter} {text}" for letter, text in SEVERITIES.items())
    parts = [HEAD.format(held=held, all=len(every), open=len(every) - held, severities=kinds)]
    for table, title in TITLES.items():
        parts.append(f"\n## {title}\n\n| # | severity | fault | required | tests |\n|---|---|---|---|---|\n")
        parts += [_line(row, tests) for row in every if row["row"].split()[0] == table]
    return "".join(parts)


def _line(row: dict[str, str], tests: dict[str, list[str]]) -> str:
    names = "<br>".join(f"`{name.removeprefix('tests/')}`" for name in tests.get(row["row"], ())) or "open"
    cells = (row["row"].split()[1], row["severity"], row["fault"], row["required"], names)
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    """Write the page, and shorten the list of what is open."""
    tests = marked()
    OPEN.write_text("".join(f"{row}\n" for row in still_open() if row not in tests), "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
