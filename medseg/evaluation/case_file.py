"""The stored measurements of one case, with its report and thumbnail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg import __version__
from medseg.io.atomic import write_text
from medseg.metrics.export import report_json

if TYPE_CHECKING:
    pass


CASE_SCHEMA = "medseg.case/1"
SOFTWARE = {"name": "medseg", "version": __version__}
COHORT_PAGE = "cohort.html"


@dataclass(frozen=True)
class CaseFile:
    """The files of one case: its measurements and its report.

    Attributes:
        path: a JSON file of the schema `medseg.case/1`.
        settings: how it is measured; a file of other settings is not read.
    """

    path: Path
    settings: Mapping[str, Any]

    @property
    def page(self) -> Path:
        return self.path.with_suffix(".html")

    def content(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """What the numbers depend on, as the file states it."""
        software, settings = dict(SOFTWARE), dict(self.settings)
        return {"schema": CASE_SCHEMA, "software": software, "settings": settings, "sha256": dict(digests)}

    def finished(self, digests: Mapping[str, str], scan: str | None) -> dict[str, Any] | None:
        """What the file holds, if it was made of the same bytes, in the same way, by the same version.

        Args:
            digests: of the label files.
            scan: digest of the scan and the doubts that the page must show; None wants no page.
        """
        stored = read_json(self.path)
        wanted = self.content(digests)
        if stored is None or {key: stored.get(key) for key in wanted} != wanted:
            return None
        result = stored.get("result")
        failed = isinstance(result, dict) and result.get("failure") is not None
        shown = stored.get("page") == scan and self.page.is_file()
        return stored if scan is None or failed or shown else None

    def write(self, digests: Mapping[str, str], more: Mapping[str, Any]) -> None:
        """Write the case; whatever stood there is replaced."""
        write_text(self.path, report_json({**self.content(digests), **more}), overwrite=True)


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
