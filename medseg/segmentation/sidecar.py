"""Reading the sidecar, the `.json` file that `predict` writes beside its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.core.structures import Structure
from medseg.findings.finding import Finding, from_content, of_files, ordered, sentence
from medseg.io.names import stem_and_suffix

SCHEMA = "medseg.prediction/1"

COLOUR = re.compile("#[0-9a-fA-F]{6}")

TITLES = {"engines": "engines or precisions", "tta": "mirroring (tta)", "refine": "refinement"}
"""What settings are called; the others have their own name."""

UNSET = "as the model says"
"""In the place of a setting that was not chosen."""


def summary_path(labels: Path) -> Path:
    """Where the summary of a label file lies.

    >>> summary_path(Path("scan_seg.nii.gz")).name
    'scan_seg.json'
    """
    return labels.with_name(f"{stem_and_suffix(labels)[0]}.json")


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a summary; empty if there is none, or medseg did not write it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and content.get("schema") == SCHEMA else {}


def summaries(path: Path) -> list[dict[str, Any]]:
    """Of a label file the summary beside it, of a folder all in it, sorted by name."""
    found = sorted(path.glob("*.json")) if path.is_dir() else [summary_path(path)]
    return [content for content in map(read_summary, found) if content]


def structures_of(summary: Mapping[str, Any]) -> tuple[Structure, ...]:
    """The structures that a summary lists, in the colours that its page has.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it lists none as `predict` does.
    """
    return tuple(map(_structure, summary["structures"]))


def _structure(row: Mapping[str, Any]) -> Structure:
    colour = str(row.get("colour", ""))
    return Structure(
        int(row["value"]),
        str(row["name"]),
        colour=colour if COLOUR.fullmatch(colour) else "",
        members=tuple(int(value) for value in row.get("members", ())),
    )


def stated_findings(summary: Mapping[str, Any]) -> tuple[Finding, ...] | None:
    """The findings that a summary states, or its doubts and warnings, as older ones do; None without."""
    try:
        if "findings" in summary:
            return from_content(summary["findings"])
        doubts = [Finding("stated", "doubt", sentence(str(text))) for text in summary["quality"]["reasons"]]
        return ordered([*doubts, *of_files(map(str, summary.get("warnings", ())))])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def settings_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a prediction in plain words, by title; not what is `UNSET` or the file decides.

    >>> settings_of({"provenance": {"settings": {"tta": True, "engines": ["torch f32"], "reading": {}}}})
    {'mirroring (tta)': 'yes', 'engines or precisions': 'torch f32'}
    """
    provenance = summary.get("provenance")
    settings = provenance.get("settings") if isinstance(provenance, dict) else None
    if not isinstance(settings, dict):
        return {}
    return {
        TITLES.get(key, str(key)): _in_words(value)
        for key, value in settings.items()
        if key != "reading" and value is not None
    }


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def models_of(summary: dict[str, Any]) -> str:
    """Names and hashes of the models that predicted; nothing where they are not stated."""
    try:
        return ", ".join(f"{m['name']} (SHA-256 {m['sha256']})" for m in summary["provenance"]["models"])
    except (KeyError, TypeError):
        return ""
