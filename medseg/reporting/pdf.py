"""A case's page as a PDF for A4: the sections of the HTML, fonts embedded, only text and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape

import PIL.Image
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFDictionary, PDFInfo, PDFString
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    TableStyle,
)
from reportlab.platypus import Table as Grid

from medseg.reporting.case.content import Picture, ReportCase
from medseg.reporting.case.sections import Block, Figure, Flags, Pairs, Section, Text, case_sections
from medseg.reporting.drawing.fonts import font_file
from medseg.reporting.drawing.style import BANNER, FAINT, INK, RULE, font_only, readable_colour, visible
from medseg.reporting.tables import Table

REGULAR, BOLD = "medseg-regular", "medseg-bold"
AMBER, AMBER_PAPER, AMBER_INK, GREY_PAPER = "#e0c88a", "#fdf8ea", "#5c4400", "#f6f8fa"

SIDE, TOP, FOOT = 15 * mm, 24 * mm, 17 * mm
WIDE, HIGH = A4
ACROSS = WIDE - 2 * SIDE
TALLEST = HIGH - TOP - FOOT - 30 * mm
"""Most that a picture takes of a page, so that its title and caption stand with it."""
LABEL_WIDE = 36 * mm
LEAST_ROOM = 34 * mm
"""What must be left of a page for a section to begin on it."""
NAME_WIDE, COLUMN_WIDE = 62 * mm, 22 * mm
"""Widest column of names, and least width of the others, where there is room."""
SWATCH, LEADING = 5.5, 1.35


def case_pdf(case: ReportCase, created: str | None = None) -> bytes:
    """The page about one case, as a PDF.

    Args:
        case: what to say; every text of it is escaped.
        created: a date to print; without one the same case gives the same bytes.

    Returns:
        The file. It states its title and nothing else about itself.
    """
    _register_fonts()
    story: list[Flowable] = [_paragraph("Segmentation report", _style(18, bold=True, after=2))]
    subtitle = f"Case {case.case_id}" + (f" · {created}" if created else "")
    story.append(_paragraph(subtitle, _style(10.5, colour=FAINT, after=4)))
    for section in case_sections(case):
        story += _section(section)
    with io.BytesIO() as file:
        _document(file, f"Segmentation report: {case.case_id}").build(story, canvasmaker=_Numbered)
        return file.getvalue()


@lru_cache(maxsize=1)
def _register_fonts() -> None:
    for name, bold in ((REGULAR, False), (BOLD, True)):
        pdfmetrics.registerFont(TTFont(name, str(font_file(bold=bold))))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


class _Title(PDFInfo):  # type: ignore[misc]
    """The document's title, without dates, author or programs."""

    def format(self, document: Any) -> Any:
        return PDFDictionary({"Title": PDFString(self.title)}).format(document)


class _Numbered(Canvas):  # type: ignore[misc]
    """Pages that know how many there are: they are drawn when the last one is known."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"invariant": 1, "initialFontName": REGULAR})
        title = self._doc.info.title
        self._doc.info = _Title()
        self._doc.info.title = title
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self._frame(number)
            super().showPage()
        super().save()

    def _frame(self, number: int) -> None:
        """The banner on top, and the page's number below."""
        self.setFillColor(HexColor(AMBER_PAPER))
        self.setStrokeColor(HexColor(AMBER))
        bottom = HIGH - 18 * mm
        self.rect(SIDE, bottom, ACROSS, 8 * mm, stroke=1, fill=1)
        self.setFillColor(HexColor(AMBER))
        self.rect(SIDE, bottom, 1.4 * mm, 8 * mm, stroke=0, fill=1)
        self.setFillColor(HexColor(AMBER_INK))
        self.setFont(BOLD, 8.5)
        self.drawString(SIDE + 4 * mm, bottom + 2.8 * mm, BANNER)
        self.setFillColor(HexColor(FAINT))
        self.setFont(REGULAR, 7.5)
        self.drawRightString(WIDE - SIDE, 9 * mm, f"{number} / {len(self._pages)}")
        self.drawString(SIDE, 9 * mm, self._doc.info.title[:90])


def _document(file: io.BytesIO, title: str) -> BaseDocTemplate:
    document = BaseDocTemplate(file, pagesize=A4, title=_safe(title), invariant=1)
    frame = Frame(SIDE, FOOT, ACROSS, HIGH - TOP - FOOT, leftPadding=0, rightPadding=0, topPadding=0,
                  bottomPadding=0)  # fmt: skip
    document.addPageTemplates([PageTemplate("page", [frame])])
    return document


def _section(section: Section) -> list[Flowable]:
    """A heading that stays with what follows it, and the blocks."""
    heading = _paragraph(section.title, _style(11.5, bold=True, before=9, after=4))
    first, *others = section.blocks
    flowables = [KeepTogether([heading, *_block(first)]) if isinstance(first, Figure) else heading]
    flowables += [] if isinstance(first, Figure) else _block(first)
    for block in others:
        flowables += [KeepTogether(_block(block))] if isinstance(block, Figure) else _block(block)
    return [CondPageBreak(LEAST_ROOM), *flowables]


def _block(block: Block) -> list[Flowable]:
    if isinstance(block, Text):
        return [_paragraph(block.text, _style(8.5, colour=FAINT if block.faint else INK, after=4))]
    if isinstance(block, Flags):
        return [_flag(f"{finding.word}: {finding.sentence}") for finding in block.findings]
    if isinstance(block, Pairs):
        return [_pairs(block.items)]
    if isinstance(block, Figure):
        return _figure(block.picture)
    return [_grid(block.table), Spacer(1, 2 * mm)]


def _flag(text: str) -> Flowable:
    cell = Grid([[_paragraph(text, _style(8.5))]], colWidths=[ACROSS], spaceAfter=3)
    cell.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), HexColor(GREY_PAPER)),
                ("LINEBEFORE", (0, 0), (0, -1), 2, HexColor("#b08800")),
                *_padding(2),
                ("LEFTPADDING", (0, 0), (-1, -1), 7),
            ]
        )
    )
    return cell


def _pairs(items: Sequence[tuple[str, str]]) -> Flowable:
    label, value = _style(8, colour=FAINT), _style(8)
    lines = [[_paragraph(a, label), _paragraph(b, value)] for a, b in items]
    table = Grid(lines, colWidths=[LABEL_WIDE, ACROSS - LABEL_WIDE])
    table.setStyle(TableStyle([*_padding(1.5), ("VALIGN", (0, 0), (-1, -1), "TOP")]))
    return table


def _figure(picture: Picture) -> list[Flowable]:
    """Title, picture and caption, which are to stay on one page."""
    with PIL.Image.open(io.BytesIO(picture.png)) as opaque, io.BytesIO() as file:
        scale = min(ACROSS / opaque.width, TALLEST / opaque.height)
        wide, high = opaque.width * scale, opaque.height * scale
        opaque.convert("RGB").save(file, "PNG")
        image = Image(io.BytesIO(file.getvalue()), wide, high)
    title = _paragraph(picture.title, _style(9, bold=True, before=3, after=3))
    caption = _paragraph(picture.caption, _style(7.5, colour=FAINT, before=3, after=6))
    return [title, image, caption]


def _grid(table: Table) -> Flowable:
    """A table of numbers; its head is repeated on every page it runs over."""
    size = 7.0 if len(table.head) > 8 else 8.0
    text = [title in table.texts for title in table.head]
    head = [
        _paragraph(title, _style(size, bold=True, right=n > 0 and not text[n]))
        for n, title in enumerate(table.head)
    ]
    lines: list[list[Any]] = [head]
    style = [
        *_padding(2),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("VALIGN", (0, 1), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.9, HexColor(FAINT)),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, HexColor(RULE)),
        ("FONTSIZE", (0, 0), (-1, -1), size),
        ("LEADING", (0, 0), (-1, -1), size * LEADING),
        ("TEXTCOLOR", (0, 0), (-1, -1), HexColor(INK)),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("LEFTPADDING", (1, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-2, -1), 3),
    ]
    for n, row in enumerate(table.rows, 1):
        colour = table.colours[n - 1] if n <= len(table.colours) else None
        line: list[Any] = [""] * len(row)
        line[0] = _paragraph(row[0], _style(size)) if colour is None else _Named(row[0], colour, size)
        for cell, column, span in Table.merged(row)[1:]:
            line[column] = _safe(cell)  # a plain string keeps the blank figures behind a number
            if cell.startswith("n/a"):
                line[column] = _paragraph(cell, _style(size - 0.5, colour=FAINT, right=True))
            elif text[column]:
                line[column] = _paragraph(cell, _style(size))
            if span > 1:
                style.append(("SPAN", (column, n), (column + span - 1, n)))
        lines.append(line)
    grid = Grid(lines, colWidths=_widths(table, size), repeatRows=1, hAlign="LEFT")
    grid.setStyle(TableStyle(style))
    return grid


class _Named(Paragraph):  # type: ignore[misc]
    """A structure's name behind a square of its colour."""

    def __init__(self, name: str, colour: str, size: float) -> None:
        super().__init__(_markup(name), _style(size, indent=SWATCH + 4))
        self._colour, self._size = HexColor(readable_colour(colour)), size

    def draw(self) -> None:
        super().draw()
        self.canv.setFillColor(self._colour)
        self.canv.setStrokeColor(HexColor(FAINT))
        self.canv.setLineWidth(0.4)
        self.canv.rect(0, self.height - self._size * 0.98, SWATCH, SWATCH, stroke=1, fill=1)


def _widths(table: Table, size: float) -> list[float]:
    """Columns as wide as their longest word or number; the names have what is left, within reason."""
    columns = []
    for n, title in enumerate(table.head[1:], 1):
        words = [(word, BOLD) for word in title.split()]
        for row in table.rows:
            parts = row[n].split() if row[n].startswith("n/a") or title in table.texts else [row[n]]
            words += [(part, REGULAR) for part in parts]
        columns.append(max(pdfmetrics.stringWidth(_safe(word), font, size) for word, font in words) + 8)
    if sum(max(COLUMN_WIDE, wide) for wide in columns) + NAME_WIDE <= ACROSS:
        columns = [max(COLUMN_WIDE, wide) for wide in columns]
    shrunk = min(1.0, (ACROSS - NAME_WIDE / 2) / sum(columns))
    columns = [wide * shrunk for wide in columns]
    return [min(NAME_WIDE, ACROSS - sum(columns)), *columns]


def _padding(points: float) -> list[tuple[Any, ...]]:
    everything = ((0, 0), (-1, -1))
    return [
        ("FONTNAME", *everything, REGULAR),
        ("TOPPADDING", *everything, points),
        ("BOTTOMPADDING", *everything, points + 0.5),
        ("LEFTPADDING", *everything, 0),
        ("RIGHTPADDING", *everything, 0),
    ]


@lru_cache(maxsize=64)
def _style(
    size: float, *, bold: bool = False, colour: str = INK, right: bool = False, before: float = 0,
    after: float = 0, indent: float = 0,
) -> ParagraphStyle:  # fmt: skip
    return ParagraphStyle(
        "medseg",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=size * LEADING,
        textColor=HexColor(colour),
        alignment=TA_RIGHT if right else TA_LEFT,
        spaceBefore=before,
        spaceAfter=after,
        leftIndent=indent,
        splitLongWords=1,
    )


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_markup(text), style)


def _markup(text: str) -> str:
    """Text as reportlab's small markup has it: nothing in it is markup."""
    return escape(_safe(text))


def _safe(text: str) -> str:
    return font_only(visible(text))
