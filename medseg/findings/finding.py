"""A finding: one fact that a reader must know about a result, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

from medseg.core.errors import InputError, listed

Severity = Literal["doubt", "warning", "note"]
"""A doubt makes the result doubtful, so that no interval is stated; a warning concerns the files that were
read; a note states what a reader must know to use the numbers. `--strict` refuses the first two."""

REFUSED: tuple[Severity, ...] = ("doubt", "warning")
"""What `--strict` refuses."""

STRICT_HINT = "check the scan and the model, or drop --strict and inspect the result"

WORDS: Mapping[Severity, str] = {"doubt": "Doubt", "warning": "Warning", "note": "Note"}
"""What stands before a finding's sentence where findings of several severities are listed."""

TITLES = {
    "at_edge": "Reaches the edge of the scan",
    "cut_short": "Cut by the edge of the scan and too small",
    "small_volume": "Volume smaller than in the training data",
    "large_volume": "Volume larger than in the training data",
    "not_found": "Not found, although present in the training data",
    "absent": "Not found",
    "nothing_found": "Nothing found",
    "pieces": "Several connected components",
    "low_scores": "Low Dice on the model's own held-out cases",
    "sides_exchanged": "Left and right may be exchanged",
}
"""Short titles of findings about structures, by code, for tables."""

NO_DOUBT = "No automatic check raised a flag. The outlines can still be wrong; inspect the slices."
"""The verdict on a result of which no finding is a doubt."""

DOUBTFUL = "Doubtful: an automatic check speaks against this result, which promises nothing."
"""The verdict on a result of which any finding is a doubt."""

CASES_NAMED = 3
"""Cases that a sentence names before it counts the rest."""


class ScoreRow(Protocol):
    """One metric of one structure on cases held out of a training."""

    @property
    def structure(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def mean(self) -> float | None: ...


class Least(Protocol):
    """The least of what a training met."""

    @property
    def min(self) -> float: ...


class Sides(Protocol):
    """The least and the largest of what a training met: shortest, middle and longest side, in mm."""

    @property
    def min(self) -> tuple[float, float, float]: ...
    @property
    def max(self) -> tuple[float, float, float]: ...


class Likeness(Protocol):
    """Mean and standard deviation of features, and how many of the latter a new case may be away."""

    @property
    def n(self) -> int: ...
    @property
    def limit(self) -> float: ...
    @property
    def features(self) -> Mapping[str, tuple[float, float]]: ...


class Known(Protocol):
    """What the checks read of a model's evidence; None for what was not measured."""

    @property
    def validation(self) -> Sequence[ScoreRow] | None: ...
    @property
    def confidence(self) -> Least | None: ...
    @property
    def volumes_ml(self) -> Mapping[str, Least] | None: ...
    @property
    def spacing_mm(self) -> Sides | None: ...
    @property
    def usual(self) -> Likeness | None: ...


class Trained(Protocol):
    """What the checks read of a model, such as a `ModelSpec`."""

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def evidence(self) -> Known: ...


@dataclass(frozen=True)
class Finding:
    """One fact that a reader must know.

    Attributes:
        code: the kind of finding, the same in every version of the software.
        severity: doubt, warning or note.
        sentence: the fact in words, as every output states it.
        structures: names of the structures it is about; empty for the whole scan.
        limit: the threshold of the check; None if it has none.
        evidence: what was measured, as plain values with the unit in the name.
    """

    code: str
    severity: Severity
    sentence: str
    structures: tuple[str, ...] = ()
    limit: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """What its severity is called before its sentence."""
        return WORDS[self.severity]

    def content(self) -> dict[str, Any]:
        """The finding as `scan_seg.json` states it: plain values, and only what there is."""
        rest = {"structures": list(self.structures), "limit": self.limit, "evidence": dict(self.evidence)}
        said = {"code": self.code, "severity": self.severity, "sentence": self.sentence}
        return said | {key: value for key, value in rest.items() if value not in (None, [], {})}


def sentences(findings: Iterable[Finding], *severities: Severity) -> tuple[str, ...]:
    """The sentences of the findings of these severities, of all where none is named."""
    return tuple(f.sentence for f in findings if not severities or f.severity in severities)


def about(findings: Iterable[Finding], structure: str) -> tuple[Finding, ...]:
    """The findings that are about one structure."""
    return tuple(f for f in findings if structure in f.structures)


def is_doubtful(findings: Iterable[Finding]) -> bool:
    """Whether any finding is a doubt."""
    return any(f.severity == "doubt" for f in findings)


def refused(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The doubts and warnings, which `--strict` refuses."""
    return tuple(f for f in findings if f.severity in REFUSED)


def refuse(findings: Iterable[Finding], hint: str = STRICT_HINT) -> None:
    """Refuse what `--strict` refuses.

    Raises:
        InputError: there is a doubt or a warning; every one is named.
    """
    if found := refused(findings):
        said = "; ".join(f.sentence.removesuffix(".") for f in found)
        raise InputError(f"doubtful: {said}", hint=hint)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, most severe first, each sentence once; within a severity the order is kept."""
    rank = get_args(Severity).index
    once = {f.sentence: f for f in sorted(findings, key=lambda f: rank(f.severity))[::-1]}
    return tuple(once.values())[::-1]


def at_edge(findings: Iterable[Finding]) -> frozenset[str]:
    """Names of the structures that reach the edge of the scan, doubtful or not."""
    return frozenset(name for f in findings if f.code in ("at_edge", "cut_short") for name in f.structures)


def from_warnings(warnings: Iterable[str], code: str = "file") -> tuple[Finding, ...]:
    """Warnings of the file readers, as findings."""
    return tuple(Finding(code, "warning", sentence(text)) for text in dict.fromkeys(warnings))


def sentence(text: str) -> str:
    """The text with an initial capital and a full stop.

    >>> sentence("both forms disagree")
    'Both forms disagree.'
    """
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def who(names: Sequence[str], of: int) -> str:
    """Which cases something holds for: how many, and the first by name where it does not hold for all.

    >>> who(["a"], 3), who(["a", "b"], 3), who(["a", "b"], 2)
    ('a', '2 of 3 cases (a and b)', '2 of 2 cases')
    """
    if len(names) == 1:
        return names[0]
    return f"{len(names)} of {of} cases" + (
        f" ({listed(names, most=CASES_NAMED)})" if len(names) < of else ""
    )


def gathered(sentences: Iterable[tuple[str, str]], of: int) -> list[str]:
    """Sentences with the name of their case; what holds for several cases once, see `who`.

    >>> gathered([("a", "x"), ("b", "x"), ("b", "y")], of=3)
    ['2 of 3 cases (a and b): x', 'b: y']
    """
    names: dict[str, list[str]] = {}
    for name, text in dict.fromkeys(sentences):
        names.setdefault(text, []).append(name)
    return [f"{who(cases, of)}: {text}" for text, cases in names.items()]


def from_cases(
    findings: Iterable[tuple[str, Finding]], name: Callable[[list[str]], str]
) -> tuple[Finding, ...]:
    """Findings about several cases, most severe first, each with whose it is before its sentence.

    Args:
        findings: each with the name of its case, which may have none; what holds for several cases is one
            finding.
        name: puts the names of cases into words, such as `who`.

    >>> told = from_cases([("a", Finding("x", "note", "It."))], "".join)
    >>> [f.sentence for f in told]
    ['a: It.']
    """
    found: dict[tuple[Severity, str], tuple[Finding, list[str]]] = {}
    for case, finding in findings:
        names = found.setdefault((finding.severity, finding.sentence), (finding, []))[1]
        names += [case] if case not in names else []
    told = ((finding, name(names)) for finding, names in found.values())
    return ordered(replace(f, sentence=f"{of}: {f.sentence}") if of else f for f, of in told)
