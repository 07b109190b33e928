"""The stored measurements of one case, with its report and thumbnail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core import specs
from medseg.core.errors import InputError, MedsegError
from medseg.core.software import MADE_BY
from medseg.evaluation.detections import Detected, restored, taken_apart
from medseg.io.atomic import write_text
from medseg.metrics.case import CaseResult
from medseg.metrics.export import report_json
from medseg.metrics.lesions import LesionRow
from medseg.metrics.stored import case_from_mapping, case_mapping

CASE_SCHEMA = "medseg.case/1"
COHORT_PAGE = "cohort.html"


@dataclass(frozen=True)
class StoredCase:
    """What the file of a case keeps of it.

    Attributes:
        result: the measurements.
        lesions: of the structures that were asked for.
        detections: objects with scores, by structure, where these were asked for and are stated.
        shown: digest of what its page shows beside the label files; None where it has no page.
    """

    result: CaseResult
    lesions: tuple[LesionRow, ...] = ()
    detections: Mapping[str, Detected] = field(default_factory=dict)
    shown: str | None = None


@dataclass(frozen=True)
class _Listed:
    """Lesions as the file lists them."""

    rows: tuple[LesionRow, ...]


@dataclass(frozen=True)
class CaseStore:
    """Where one case goes: what was measured of it, and its page.

    Attributes:
        path: a JSON file of the schema `medseg.case/1`.
        settings: how it is measured; a file of other settings is not read.
    """

    path: Path
    settings: Mapping[str, Any]

    @property
    def page(self) -> Path:
        return self.path.with_suffix(".html")

    def read(self, case_id: str, digests: Mapping[str, str]) -> StoredCase | None:
        """What the file keeps, if it was made of the same bytes, in the same way, by the same version.

        Args:
            case_id: of the case.
            digests: of its label files.
        """
        stored = read_json(self.path)
        wanted = self._made_of(digests)
        if stored is None or {key: stored.get(key) for key in wanted} != wanted:
            return None
        try:
            case = case_from_mapping(stored["result"], source=case_id)
            rows = {"rows": stored["lesions"]}
            lesions = specs.from_mapping(_Listed, rows, source=case_id, error=InputError).rows
            detections = restored(stored["detections"])
        except (MedsegError, LookupError, TypeError, ValueError):
            return None
        shown = stored.get("page") if self.page.is_file() else None
        return StoredCase(case, lesions, detections, shown) if case.case_id == case_id else None

    def write(self, digests: Mapping[str, str], stored: StoredCase) -> None:
        """Write the case; whatever stood there is replaced."""
        content = {
            **self._made_of(digests),
            "page": stored.shown,
            "result": case_mapping(stored.result),
            "lesions": specs.to_mapping(_Listed(stored.lesions))["rows"],
            "detections": taken_apart(stored.detections),
        }
        write_text(self.path, report_json(content), overwrite=True)

    def _made_of(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """What the numbers depend on, as the file states it."""
        software, settings = dict(MADE_BY), dict(self.settings)
        return {"schema": CASE_SCHEMA, "software": software, "settings": settings, "sha256": dict(digests)}


def picture(page: Path) -> Path:
    """Where the small picture of a case lies, beside its page."""
    return page.with_suffix(".png")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None where there is none, or it is torn."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) else None
