"""`medseg next`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, rewrite, say, table

if TYPE_CHECKING:
    from medseg.prediction.job import Outcome
    from medseg.prediction.least_sure import Sureness


def command(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of scans, of which those in labels/final have labels of somebody."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Ask this model file or packaged model; of several, their agreement too. Default: brain.",
        ),
    ] = None,
    most: Annotated[int, typer.Option("-n", min=1, help="Print so many cases.")] = 10,
    threads: opt.Threads = 0,
    max_memory: opt.MaxMemory = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Propose the scan to label next: the one of which a model is least sure."""
    from medseg.cli.terminal import bytes_of
    from medseg.model.file import DEFAULT_MODEL
    from medseg.prediction.least_sure import least_sure
    from medseg.prediction.predict import refuse_failed
    from medseg.segmentation.member import SegmenterOptions
    from medseg.segmentation.segmenter import Loader

    limit = None if max_memory is None else bytes_of(max_memory)
    options = SegmenterOptions(threads=threads, max_memory=limit)
    loaders = [Loader((name,), options) for name in model or [DEFAULT_MODEL]]
    rows, failed = least_sure(folder, loaders, _nothing if quiet else _tell)
    if as_json:
        result(json.dumps([row.content() for row in rows[:most]]))
    elif rows:
        result(table(_table(rows[:most])))
    refuse_failed(failed, len(rows) + len(failed))


def _table(rows: list[Sureness]) -> list[list[str]]:
    """The cases, the least sure first."""
    head = ["case", "expected Dice", "confidence", "agreement", "verdict"]
    return [
        head,
        *(
            [
                row.case,
                _shown(row.expected_dice),
                _shown(row.confidence),
                _shown(row.agreement),
                "doubtful" if row.doubtful else "ok",
            ]
            for row in rows
        ),
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _tell(outcome: Outcome, number: int, of: int) -> None:
    if outcome.error is not None:
        rewrite("")
        say(f"{outcome.stem}: {outcome.error}")
    rewrite(f"{number} of {of} predicted" if number < of else "")


def _nothing(*_: object) -> None:
    """For --quiet."""
