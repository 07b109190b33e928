"""The page of a training: plan, curves, how well it does on cases it did not see, the worst of them, time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from medseg.reporting.case.content import Picture
from medseg.reporting.case.sections import Figure, Numbers, Pairs, Text
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.sections import Block, CohortSection, Gallery, Thumbnail, cohort_sections
from medseg.reporting.drawing.plotting import STYLE, png
from medseg.reporting.drawing.style import BANNER, drawable
from medseg.reporting.html import page
from medseg.reporting.tables import Table

WIDTH_IN, HEIGHT_IN = 7.4, 3.0
INK, FAINT = "#1f2328", "#59636e"
MOST_CURVES = 8
"""Structures whose Dice is drawn apart; of more, the mean alone is."""

NOTHING_MEASURED = (
    "Every case was used for training, so no case is left to measure the model on. Train with --folds 5 to "
    "measure every case once, or evaluate the model on other cases."
)

PLAN_NOTE = (
    "This is what was planned. Settings edited in recipe.toml, and options such as --epochs, take its place: "
    "what was trained is stated under Training."
)

SUSPECTS_NOTE = (
    "These cases have a far lower Dice than the others with a model that did not see them. Look at their "
    "labels before you trust the numbers."
)


@dataclass(frozen=True)
class Curve:
    """What one fold's training came to, an epoch a value.

    Attributes:
        name: of the fold.
        loss: mean over the steps of an epoch.
        scores: on the cases that choose the checkpoint, by structure; empty without such cases.
        measure: that these are of.
    """

    name: str
    loss: tuple[float, ...]
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    measure: str = "Dice"


@dataclass(frozen=True)
class TrainingReport:
    """Everything that the page of a training says.

    Attributes:
        title: name of the training.
        facts: data, length and time, as pairs.
        plan: setting, value and reason of every choice; empty where a recipe was given.
        curves: of every fold.
        cohort: the cases that did not train, measured; None where every case trained.
        suspects: of each case that stands out, name, Dice, median of all, Dice when learnt, what it may be.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    plan: tuple[tuple[str, str, str], ...]
    curves: tuple[Curve, ...]
    cohort: ReportCohort | None
    suspects: tuple[tuple[str, str, str, str, str], ...] = ()


def training_page(report: TrainingReport) -> str:
    """The page as HTML, complete in itself."""
    return page("training.html", None, title=report.title, sections=_sections(report))


def _sections(report: TrainingReport) -> tuple[CohortSection, ...]:
    measured = () if report.cohort is None else cohort_sections(report.cohort)
    head = ("Setting", "Value", "Reason")
    plan = Table(head, tuple(report.plan), texts=head) if report.plan else None
    drawn = curves_png(report.curves)
    sections = (
        CohortSection("Training", (Pairs(report.facts),)),
        CohortSection("Plan", () if plan is None else (Text(PLAN_NOTE), Numbers(plan))),
        CohortSection("Curves", () if drawn is None else (Figure(_picture(report, drawn)),)),
        CohortSection("Cases to look at", _suspects(report)),
        *measured,
        *(() if measured else (CohortSection("Accuracy", (Text(NOTHING_MEASURED),)),)),
    )
    return tuple(section for section in sections if section.blocks)


def _suspects(report: TrainingReport) -> tuple[Block, ...]:
    """Cases that stand out, with their pictures; nothing where none does."""
    if not report.suspects:
        return ()
    head = ("Case", "Mean Dice", "Median of all", "When learnt", "What it may be")
    pictures = {} if report.cohort is None else report.cohort.thumbnails
    items = tuple(
        Thumbnail(name, f"mean Dice {dice}", pictures[name])
        for name, dice, *_ in report.suspects
        if name in pictures
    )
    table = Numbers(Table(head, report.suspects, texts=("What it may be",)))
    return (Text(SUSPECTS_NOTE), table, Gallery("Prediction (solid) and reference (dashed)", items))


SCORED = " The {} is measured with the averaged weights, on the cases that choose the checkpoint."


def _picture(report: TrainingReport, drawn: bytes) -> Picture:
    measure = next((curve.measure for curve in report.curves if curve.scores), "")
    return Picture(
        f"Loss and {measure} by epoch" if measure else "Loss by epoch",
        drawn,
        "Curves of the training loss" + (f" and of the {measure} of each structure" if measure else ""),
        "The loss is the mean over the steps of an epoch." + (SCORED.format(measure) if measure else ""),
    )


def curves_png(curves: Sequence[Curve]) -> bytes | None:
    """Loss, and what chooses the checkpoint where it is known, over the epochs, as a PNG; None without."""
    if not any(curve.loss for curve in curves):
        return None
    measure = next((curve.measure for curve in curves if curve.scores), "")
    with matplotlib.rc_context(dict(STYLE)):
        figure = Drawing(figsize=(WIDTH_IN, HEIGHT_IN), facecolor="white")
        FigureCanvasAgg(figure)
        width = 0.38 if measure else 0.84
        left = figure.add_axes((0.09, 0.22, width, 0.66))
        for curve in curves:
            _draw(left, curve.loss, curve.name if len(curves) > 1 else "")
        _dress(left, "Loss", legend=len(curves) > 1)
        if measure:
            right = figure.add_axes((0.57, 0.22, width, 0.66))
            for curve in curves:
                _draw_scores(right, curve, several=len(curves) > 1)
            right.set_ylim(0, 1)
            _dress(right, measure, legend=True)
        figure.text(0.5, 0.03, BANNER, size=7, color="#7a5a00", ha="center", va="center")
        return png(figure)


def _draw(axes: Axes, values: Sequence[float], name: str) -> None:
    single = "o" if len(values) == 1 else None
    axes.plot(range(1, len(values) + 1), values, linewidth=1.2, marker=single, label=drawable(name) or None)


def _draw_scores(axes: Axes, curve: Curve, *, several: bool) -> None:
    """Of one training every structure; of several, or of many structures, the mean."""
    if not curve.scores:
        return
    if several or len(curve.scores) > MOST_CURVES:
        means = [_mean(values) for values in zip(*curve.scores.values(), strict=True)]
        _draw(axes, means, f"{curve.name}, mean" if several else "mean of all structures")
        return
    for name, values in curve.scores.items():
        _draw(axes, values, name)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _dress(axes: Axes, title: str, *, legend: bool) -> None:
    axes.set_title(title, size=9, color=INK, loc="left")
    axes.set_xlabel("Epoch", size=8, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = axes.get_xlim()
    if high - low < 1:  # one epoch: an axis that reaches from the one before to the one after
        axes.set_xlim(0, 2)
    axes.tick_params(labelsize=7, colors=FAINT)
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)
