"""Messages are plain English: phrases that a reader would have to translate do not return."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "medseg"
ODD = re.compile(
    r"(?<!there )\b(is|are) no (?!longer\b)|\bif not said\b|\bnobody knows\b"
    r"|\bis none of (ours|its)\b|\bno .* of ours\b"
    r"|\bgoes on\b(?! after)|\bbegun\b|\bas told\b|\bdata set\b"
    r"|\bin no [a-z ]+ that\b|\bmust lie\b|\bthe model says\b|\bis of (labels|regions|the)\b"
    r"|\bagain and again\b|\bbeside the scan,|\bno such engine\b",
    re.IGNORECASE,
)


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings of several words that are not docstrings; what is inserted into them reads `{}`."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def test_no_message_uses_an_odd_phrase() -> None:
    sources = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path, source in sources.items()
        if ODD.search(source)  # most files need no parsing
        for line, text in messages(ast.parse(source))
        if ODD.search(text)
    ]
    assert found == []
