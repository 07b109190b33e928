"""`medseg predict`: scans in; labels, a summary and, if asked for, probabilities and a report out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import PartialBatchError, UsageError, counted
from medseg.inference.planner import Forecast
from medseg.io import inspect
from medseg.volume import Grid
from medseg.workflows import bids, cluster, pipeline
from medseg.workflows.inputs import InputCase, Say, check_out, find_cases, is_batch
from medseg.workflows.job import Job, Outcome, PredictOptions, forecast_of
from medseg.workflows.outputs import Outputs, require_writable
from medseg.workflows.segment import Segmenter
from medseg.workflows.summary import grid_content


def predict(
    words: Sequence[str],
    segmenter: Callable[[], Segmenter],
    out: Path | None,
    options: PredictOptions,
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
    scheduler: str | None = None,
    say: Say = lambda _: None,
) -> tuple[Outcome, ...]:
    """Segment every case that the words name.

    In a batch, a case that is finished is passed over, and one that fails holds up no other.

    Args:
        words: of the command line, see `inputs.find_cases`.
        segmenter: makes the segmenter, once the inputs and outputs are known to be in order.
        out: a file, a folder, or None for beside the input.
        options: what is written.
        on_case: called after each case with the outcome, its number and how many there are; not
            after an only case that failed.
        scheduler: address of a Dask cluster that the cases of a batch are sent to.
        say: called with what is to be known of a folder that is read.

    Raises:
        UsageError: the words, the places or the scheduler make no sense.
        PartialBatchError: of several cases some failed; the others are written.
        MedsegError: the only case failed.
    """
    cases = find_cases(words, say)
    batch = is_batch(words, cases)
    if options.bids:
        targets = bids.targets(words, [case.first for case in cases], out)
    else:
        check_out(words, out, batch)
        targets = _targets(cases, out)
    for target in targets:
        require_writable(target)
    if not batch:
        outputs = Outputs.of(targets[0], report=options.report, dicom=options.dicom)
        outputs.refuse_existing(options.overwrite, cases[0].files)
    elif isinstance(options.report, Path):
        raise UsageError(
            "one page cannot be that of several cases",
            source=options.report,
            mend="give --report alone, or make each with medseg report",
        )
    part, parts = options.shard
    mine = list(zip(cases, targets, strict=True))[part - 1 :: parts]
    outcomes: list[Outcome] = []
    for outcome in _run(mine, segmenter, options, batch, scheduler):
        if outcome.error is not None and not batch:
            raise outcome.error
        outcomes.append(outcome)
        on_case(outcome, len(outcomes), len(mine))
    failed = [outcome for outcome in outcomes if outcome.error]
    if options.bids and len(failed) < len(outcomes):
        bids.describe(words, out)
    if failed:
        names = ", ".join(outcome.stem for outcome in failed)
        raise PartialBatchError(f"{len(failed)} of {counted(len(outcomes), 'case')} failed: {names}")
    return tuple(outcomes)


def _run(
    places: Sequence[tuple[InputCase, Path]],
    segmenter: Callable[[], Segmenter],
    options: PredictOptions,
    batch: bool,
    scheduler: str | None,
) -> Iterator[Outcome]:
    """What became of each case: on a cluster, or here, and then overlapping where memory is not limited."""
    if scheduler is not None:
        if not batch:
            raise UsageError("--scheduler sends the cases of a folder", mend="leave it out for one scan")
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
        """What `--dry-run --json` says."""
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
            "grid": grid_content(self.grid),
            "plans": plans,
            "memory_bytes": self.forecast.bytes,
            "engine_seconds": round(self.seconds, 2),
        }


def dry_run(
    words: Sequence[str], segmenter: Segmenter, options: PredictOptions, say: Say = lambda _: None
) -> tuple[CasePlan, ...]:
    """How every case that the words name would be predicted; nothing is written, no voxel is read.

    One case is timed, and another for those that run in slabs; the rest take as long for each voxel computed.

    Raises:
        ResourceError: there is no room for one of them.
        MedsegError: a header cannot be read.
    """
    plans = []
    seconds: dict[tuple[bool, ...], float] = {}
    for case in find_cases(words, say):
        info = inspect(case.first, options=options.reading)
        forecast = forecast_of(info, segmenter)
        voxels = sum(len(plan.tiles) * math.prod(plan.tile_shape) for plan in forecast.plans)
        if forecast.in_slabs not in seconds:
            seconds[forecast.in_slabs] = segmenter.tile_seconds(forecast) / voxels
        plans.append(CasePlan(case.stem, info.grid, forecast, seconds[forecast.in_slabs] * voxels))
    return tuple(plans)


def _targets(cases: Sequence[InputCase], out: Path | None) -> list[Path]:
    """Where each case goes; two cases never to one place, nor to files that differ by suffix only."""
    targets = [case.target(out) for case in cases]
    summaries = [Outputs.of(target).summary for target in targets]
    twice = [str(t) for t, summary in zip(targets, summaries, strict=True) if summaries.count(summary) > 1]
    if twice:
        raise UsageError(
            f"two cases would be written to one place: {', '.join(dict.fromkeys(twice))}",
            mend="rename one, or predict them into different folders",
        )
    return targets
