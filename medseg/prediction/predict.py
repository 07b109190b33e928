"""`medseg predict`: segment scans; write labels, summary and, on request, probabilities and report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import MedsegError, PartialBatchError, UsageError, counted, listed
from medseg.core.volume import Grid
from medseg.data import bids
from medseg.inference.planner import Forecast
from medseg.io.atomic import require_writable
from medseg.prediction import cluster, pipeline
from medseg.prediction.job import Job, Outcome, PredictOptions
from medseg.prediction.requests import InputCase, Say, check_out, find_cases, is_batch
from medseg.segmentation.prediction import plain, summary_path
from medseg.segmentation.rows import GridSummary
from medseg.segmentation.segmenter import Segmenter


def predict(
    words: Sequence[str],
    segmenter: Callable[[], Segmenter],
    out: Path | None,
    options: PredictOptions,
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
    scheduler: str | None = None,
    say: Say = lambda _: None,
) -> tuple[Outcome, ...]:
    """Segment every case that the arguments name.

    In a batch, a finished case is skipped, and a failed case does not stop the others.

    Args:
        words: of the command line, see `requests.find_cases`.
        segmenter: makes the segmenter, once the inputs and outputs are known to be in order.
        out: a file, a folder, or None to write beside the input.
        options: what is written.
        on_case: called after each case with the outcome, its number and how many there are; not
            after an only case that failed.
        scheduler: address of a Dask cluster that the cases of a batch are sent to.
        say: called with sentences about the folder that is read.

    Raises:
        UsageError: the words, the places or the scheduler make no sense.
        PartialBatchError: of several cases some failed; the others are written.
        MedsegError: the only case failed.
    """
    mine, clashing, batch = _placed(words, out, options, scheduler, say)
    outcomes: list[Outcome] = []
    for outcome in itertools.chain(clashing, _run(mine, segmenter, options, batch, scheduler)):
        if outcome.error is not None and not batch:
            raise outcome.error
        outcomes.append(outcome)
        on_case(outcome, len(outcomes), len(clashing) + len(mine))
    if options.bids and any(outcome.error is None for outcome in outcomes):
        bids.describe(words, out)
    refuse_failed(outcomes, len(outcomes))
    return tuple(outcomes)


def refuse_failed(outcomes: Sequence[Outcome], of: int) -> None:
    """End with a fault where some of so many cases failed.

    Raises:
        PartialBatchError: which.
    """
    names = [outcome.stem for outcome in outcomes if outcome.error]
    if names:
        raise PartialBatchError(f"{len(names)} of {counted(of, 'case')} failed: {', '.join(names)}")


def _placed(
    words: Sequence[str], out: Path | None, options: PredictOptions, scheduler: str | None, say: Say
) -> tuple[list[tuple[InputCase, Path]], list[Outcome], bool]:
    """The cases of this part with their label files, those whose results clash, and whether they are a batch.

    Raises:
        UsageError: a place makes no sense, or no case has one of its own.
    """
    cases = find_cases(words, say)
    batch = is_batch(words, cases)
    if scheduler is not None and not batch:
        raise UsageError("--scheduler needs a folder of cases", hint="leave it out for one scan")
    if options.bids:
        targets = bids.targets(words, [case.first for case in cases], out)
    else:
        check_out(words, out, batch)
        targets = [case.target(out) for case in cases]
    for target in targets:
        require_writable(target)
    if not batch:
        outputs = options.outputs(targets[0])
        outputs.refuse_existing(options.overwrite, cases[0].files)
        for path in outputs.paths:
            require_writable(path)
    elif isinstance(options.report, Path):
        raise UsageError(
            "one report file cannot show several cases",
            source=options.report,
            hint="give --report alone, or write each with medseg report",
        )
    faults = _clashes(cases, targets)
    if len(faults) == len(cases):
        raise next(iter(faults.values()))
    part, parts = options.shard
    mine = range(part - 1, len(cases), parts)
    clashing = [Outcome(cases[n].stem, targets[n], error=faults[n]) for n in mine if n in faults]
    return [(cases[n], targets[n]) for n in mine if n not in faults], clashing, batch


def _run(
    places: Sequence[tuple[InputCase, Path]],
    segmenter: Callable[[], Segmenter],
    options: PredictOptions,
    batch: bool,
    scheduler: str | None,
) -> Iterator[Outcome]:
    """What became of each case: on a cluster, or here, and then overlapping where memory is not limited."""
    if scheduler is not None:
        return cluster.distributed(scheduler, places, segmenter, options)
    ready = segmenter()
    jobs = [Job(case, target, ready, options, batch) for case, target in places]
    run = pipeline.overlapped if batch and ready.options.max_memory is None else pipeline.one_by_one
    return run(jobs)


@dataclass(frozen=True)
class CasePlan:
    """How a case would be predicted.

    Attributes:
        stem: its name.
        grid: of the scan.
        forecast: tiles and memory.
        seconds: what the networks would take here.
    """

    stem: str
    grid: Grid
    forecast: Forecast
    seconds: float

    def content(self) -> dict[str, Any]:
        """The content of `--dry-run --json`."""
        plans = [
            {
                "strategy": "slabs" if slabs else plan.strategy,
                "tiles": len(plan.tiles),
                "tile_shape": list(plan.tile_shape),
                "redundancy": round(plan.redundancy, 2),
            }
            for plan, slabs in zip(self.forecast.plans, self.forecast.in_slabs, strict=True)
        ]
        return {
            "case": self.stem,
            "grid": plain(GridSummary.of(self.grid)),
            "plans": plans,
            "memory_bytes": self.forecast.bytes,
            "engine_seconds": round(self.seconds, 2),
        }


def dry_run(
    words: Sequence[str],
    segmenter: Callable[[], Segmenter],
    out: Path | None,
    options: PredictOptions,
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
    scheduler: str | None = None,
    say: Say = lambda _: None,
) -> tuple[CasePlan, ...]:
    """How `predict` would predict every case; nothing is written, no voxel is read.

    One case is timed, and another for those that run in slabs; the rest take as long for each voxel computed.

    Args:
        words, segmenter, out, options, scheduler, say: as `predict` takes them.
        on_case: called with a case that has no plan, its number and how many there are: its result is
            there already, or in a batch it would fail.

    Raises:
        MedsegError: what `predict` raises before it reads a voxel.
    """
    places, clashing, batch = _placed(words, out, options, scheduler, say)
    of = len(clashing) + len(places)
    for number, outcome in enumerate(clashing, start=1):
        on_case(outcome, number, of)
    ready = segmenter()
    plans = []
    seconds: dict[tuple[bool, ...], float] = {}
    for number, (case, target) in enumerate(places, start=len(clashing) + 1):
        job = Job(case, target, ready, options, batch)
        looked = job.look()
        if looked is None:
            if job.outcome is not None and job.outcome.error is not None and not batch:
                raise job.outcome.error
            on_case(job.outcome or Outcome(case.stem, target), number, of)
            continue
        forecast = looked.forecast
        voxels = sum(len(plan.tiles) * math.prod(plan.tile_shape) for plan in forecast.plans)
        if forecast.in_slabs not in seconds:
            seconds[forecast.in_slabs] = ready.tile_seconds(forecast) / voxels
        plans.append(CasePlan(case.stem, looked.grid, forecast, seconds[forecast.in_slabs] * voxels))
    return tuple(plans)


def _clashes(cases: Sequence[InputCase], targets: Sequence[Path]) -> dict[int, MedsegError]:
    """Why cases, by number, cannot be written: the labels or summaries of several are one file."""
    sharing: dict[Path, list[int]] = {}
    for number, target in enumerate(targets):
        sharing.setdefault(summary_path(target), []).append(number)
    faults: dict[int, MedsegError] = {}
    for summary, numbers in sharing.items():
        if len(numbers) > 1:
            names = listed([str(cases[n].first) for n in numbers])
            apart = len({targets[n] for n in numbers}) > 1
            what, file = ("summaries", summary) if apart else ("labels", targets[numbers[0]])
            fault = f"the {what} of {names} would be the same file, {file.name}"
            for n in numbers:
                faults[n] = UsageError(fault, hint="rename one, or predict them into different folders")
    return faults
