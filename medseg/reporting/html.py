"""One self-contained page: escaped, with no script but the viewer's, without a request to anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from medseg.core.digest import digest
from medseg.reporting import words
from medseg.reporting.case.content import PageViewer, ReportCase
from medseg.reporting.case.sections import Numbers, Section, case_sections
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.sections import CohortSection, cohort_sections
from medseg.reporting.drawing.style import BANNER, readable_colour, visible
from medseg.reporting.tables import Table

POLICY = (
    "default-src 'none'; connect-src 'none'; img-src data:; style-src 'sha256-{style}'; "
    "script-src {script}; base-uri 'none'; form-action 'none'"
)
"""What a browser may load for the page: its own style and script, known by their hashes, and its pictures."""


def case_page(case: ReportCase, *, created: str | None = None, cohort: str = "") -> str:
    """The page about one case, as HTML.

    Args:
        case: what to say; every text of it is escaped.
        created: a date to print; without one the same case gives the same page.
        cohort: relative address of the page about all cases, to which this one links; "" for none.
    """
    content: dict[str, Any] = {"case": case, "sections": case_sections(case), "cohort": cohort}
    return page("case.html", None, viewer=case.viewer, created=created, **content)


def cohort_page(
    cohort: ReportCohort, links: Mapping[str, str] | None = None, *, created: str | None = None
) -> str:
    """The page about many cases, as HTML; cases without a result are counted and named.

    Args:
        cohort: what to say; every text of it is escaped.
        links: name of each case's page relative to this one, by case id, not quoted.
        created: a date to print; without one the same cohort gives the same page.

    Raises:
        UsageError: a link leads elsewhere than to a file beside or below the page.
    """
    sections = cohort_sections(cohort, links)
    return page("cohort.html", None, cohort=cohort, sections=sections, created=created)


def page(template: str, table: Table | None, *, viewer: PageViewer | None = None, **content: Any) -> str:
    """A page of a template; the colours of all tables in its content get a class in its style."""
    style = _style(dict.fromkeys(_colours((table, content))), viewer)
    script = "" if viewer is None else f"\n{viewer.script.strip()}\n"
    policy = POLICY.format(style=_digest(style), script=f"'sha256-{_digest(script)}'" if script else "'none'")
    return (
        _environment()
        .get_template(template)
        .render(
            banner=BANNER,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            viewer=None if viewer is None else Markup(viewer.html),
            table=table,
            **content,
        )
    )


def _digest(text: str) -> str:
    return base64.b64encode(digest(text)).decode("ascii")


def _style(colours: Iterable[str], viewer: PageViewer | None) -> str:
    """The style sheet with a class for each structure's colour; nothing of it is a user's text."""
    environment = _environment()
    source, _, _ = environment.loader.get_source(environment, "style.css")  # type: ignore[union-attr]
    swatches = (f".{_swatch(c)}{{background:{readable_colour(c)}}}" for c in colours)
    own = "" if viewer is None else viewer.style.strip()
    return "\n" + "\n".join((source.strip(), own, *swatches)) + "\n"


def _colours(content: object) -> Iterator[str]:
    """Colours of the tables in a page's content, however deep in it."""
    if isinstance(content, Table):
        yield from map(readable_colour, content.colours)
    elif isinstance(content, Section | CohortSection):
        yield from _colours([block.table for block in content.blocks if isinstance(block, Numbers)])
    elif isinstance(content, Mapping):
        yield from _colours(list(content.values()))
    elif isinstance(content, list | tuple):
        for part in content:
            yield from _colours(part)


def _swatch(colour: str) -> str:
    """The class of a colour."""
    return "k" + readable_colour(colour)[1:]


def _data_uri(png: bytes | None) -> str | None:
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _visible(value: object) -> object:
    return visible(value) if type(value) is str else value


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medseg.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.globals |= {"words": words}
    environment.filters |= {"swatch": _swatch, "data_uri": _data_uri}
    return environment
