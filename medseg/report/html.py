"""One self-contained page: escaped, without scripts, without a request to anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from medseg.report.content import ReportCase, ReportCohort
from medseg.report.drawing import BANNER, readable_colour
from medseg.report.tables import Table, case_table, cases_table, cohort_table

POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
"""What a browser may load for the page: its own style, known by its hash, and pictures within it."""

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
"""Characters that are no text, which a file's name may hold, and what is shown for them."""


def case_page(case: ReportCase, *, created: str | None = None) -> str:
    """The page about one case, as HTML.

    Args:
        case: what to say; every text of it is escaped.
        created: a date to print; without one the same case gives the same page.
    """
    return _page("case.html", case_table(case), case=case, figure=_data_uri(case.overlay), created=created)


def cohort_page(cohort: ReportCohort, *, created: str | None = None) -> str:
    """The page about many cases, as HTML; cases without a result are counted and named.

    Args:
        cohort: what to say; every text of it is escaped.
        created: a date to print; without one the same cohort gives the same page.
    """
    return _page(
        "cohort.html",
        cohort_table(cohort),
        cohort=cohort,
        cases=cases_table(cohort),
        figure=_data_uri(cohort.figure),
        created=created,
    )


def _page(template: str, table: Table, **content: Any) -> str:
    style = _style(table)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    page = _environment().get_template(template)
    return page.render(
        banner=BANNER, policy=POLICY.format(digest=digest), style=Markup(style), table=table, **content
    )


def _style(table: Table) -> str:
    """The style sheet with a class for each structure's colour; nothing of it is a user's text."""
    environment = _environment()
    source, _, _ = environment.loader.get_source(environment, "style.css")  # type: ignore[union-attr]
    swatches = (f".c{n}{{background:{readable_colour(c)}}}" for n, c in enumerate(table.colours))
    return "\n" + "\n".join((source.strip(), *swatches)) + "\n"


def _data_uri(png: bytes | None) -> str | None:
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _visible(value: object) -> object:
    return value.translate(CONTROLS) if type(value) is str else value


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("medseg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
