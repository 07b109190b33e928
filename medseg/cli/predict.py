"""`medseg predict`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medseg.cli import options as opt
from medseg.cli.terminal import bytes_of, duration, result, say, say_findings, table
from medseg.core.errors import UsageError
from medseg.core.stopwatch import process_seconds

if TYPE_CHECKING:
    from medseg.findings.finding import Finding
    from medseg.io.dicom.write_seg import SegmentationKind
    from medseg.prediction.job import Outcome
    from medseg.prediction.predict import CasePlan
    from medseg.segmentation.prediction import PredictionSummary
    from medseg.segmentation.rows import StructureSummary
    from medseg.segmentation.segmenter import Loader


def command(
    inputs: opt.Inputs,
    model: opt.Models = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    threads: opt.Threads = 0,
    channels: opt.Channels = "",
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    tta: opt.Tta = None,
    refine: opt.Refine = None,
    prune: opt.Prune = 0,
    scales: opt.Scales = "",
    least_score: opt.LeastScore = None,
    time_budget: opt.ScanBudget = "",
    probabilities: opt.Probabilities = False,
    report: opt.Report = False,
    report_file: opt.ReportFile = None,
    dicom: opt.Dicom = False,
    bids: opt.Bids = False,
    dicom_seg: opt.DicomSeg = "binary",
    strict: opt.Strict = False,
    force: opt.Force = False,
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    overwrite: opt.Overwrite = False,
    shard: opt.Shard = "1/1",
    scheduler: opt.Scheduler = None,
    max_memory: opt.MaxMemory = None,
    dry_run: opt.DryRun = False,
    timing: opt.Timing = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Segment scans. Writes SCAN_seg.nii.gz and SCAN_seg.json beside the scan, or to -o."""
    from medseg.prediction import predict as predicting
    from medseg.prediction.job import PredictOptions

    limits = (threads, max_memory, time_budget)
    ran = (device, engine, precision, *limits, tta, refine, prune, scales, least_score)
    reading = opt.reading(use_form, assume_ras, fill_nan, volume, series)
    kept = (probabilities, _page(report_file) or report, dicom, strict, overwrite, _shard(shard), bids)
    options = PredictOptions(reading, _names(channels), *kept, dicom_seg=_kind(dicom_seg))
    outcomes: list[Outcome] = []
    segmenter = _loader(model, quiet, keep_probabilities=probabilities, force=force, **_settings(*ran))
    told, aloud = partial(_tell, outcomes, quiet, verbose), (lambda _: None) if quiet else say
    if dry_run:
        plans = predicting.dry_run(inputs, segmenter, out, options, told, scheduler, aloud)
        _tell_plans(plans, as_json)
        predicting.refuse_failed(outcomes, len(plans) + len(outcomes))
        return
    try:
        predicting.predict(inputs, segmenter, out, options, told, scheduler, aloud)
    finally:
        if as_json and outcomes:
            result(json.dumps([_content(outcome) for outcome in outcomes]))
    _tell_end(outcomes, quiet, volumes_too=not (as_json or quiet), timing=timing)


def _settings(
    device: str,
    engine: str,
    precision: str,
    threads: int,
    max_memory: str | None,
    time_budget: str,
    tta: bool | None,
    refine: bool | None,
    prune: int,
    scales: str,
    least_score: float | None,
) -> dict[str, Any]:
    """How the models run, as `SegmenterOptions` takes it."""
    return {
        "device": device,
        "engine": _one_of("--engine", engine, ("auto", "openvino", "torch")),
        "precision": _one_of("--precision", precision, ("auto", "f32", "bf16", "f16")),
        "threads": threads,
        "max_memory": None if max_memory is None else bytes_of(max_memory),
        "time_budget": opt.budget(time_budget),
        "tta": tta,
        "refine": refine,
        "prune": prune,
        "scales": opt.numbers("--scales", scales),
        "least_score": least_score,
    }


def _kind(text: str) -> SegmentationKind:
    """What kind of DICOM segmentation."""
    return cast("SegmentationKind", _one_of("--dicom-seg", text, ("binary", "labelmap")))


def _page(path: Path | None) -> Path | None:
    """The file of the report.

    Raises:
        UsageError: the suffix is not that of a report.
    """
    if path is not None:
        from medseg.io.names import require_page

        require_page(path)
    return path


def spelled(words: Sequence[str]) -> list[str]:
    """The arguments with `--report x.pdf` as `--report-file x.pdf`: no option has an optional value.

    What follows is a page by its suffix; so is what is neither there nor an image of voxels, to be refused.

    >>> spelled(["scan.nii.gz", "--report", "x.pdf"]), spelled(["--report", "scan.nii.gz"])
    (['scan.nii.gz', '--report-file', 'x.pdf'], ['--report', 'scan.nii.gz'])
    """
    out = list(words)
    for n, word in enumerate(out[:-1]):
        if word == "--report" and _names_page(out[n + 1]):
            out[n] = "--report-file"
    return [word.replace("--report=", "--report-file=", 1) for word in out]


def _names_page(word: str) -> bool:
    from medseg.io.names import format_of, stem_and_suffix

    found = format_of(word)
    if found.kind == "page":
        return True
    is_scan = not stem_and_suffix(word)[1] or (bool(found.reader) and not found.is_picture)
    return not is_scan and word[:1] != "-" and "=" not in word and not Path(word).exists()


def _tell_end(outcomes: Sequence[Outcome], quiet: bool, *, volumes_too: bool, timing: bool) -> None:
    """What is said when all is done; that pictures have no size in mm, once for all of a batch."""
    from medseg.io.pictures.slices import NO_SIZE

    made = [outcome.summary for outcome in outcomes if outcome.summary and not outcome.skipped]
    count = sum(map(_unsized, made))
    if count and len(outcomes) > 1 and not quiet:
        say(f"warning: {count} of {len(outcomes)} cases: {NO_SIZE}")
    if volumes_too and len(outcomes) == 1 and (summary := outcomes[0].summary):
        result(volumes(summary))
    if timing:
        _tell_times(made)


def _loader(names: list[str] | None, quiet: bool, **settings: Any) -> Loader:
    """The models to use; prints the name of the default model."""
    from medseg.model.file import DEFAULT_MODEL
    from medseg.segmentation.member import SegmenterOptions
    from medseg.segmentation.segmenter import Loader

    if not names and not quiet:
        say(f"using the model {DEFAULT_MODEL} (choose another with -m)")
    return Loader(tuple(names or [DEFAULT_MODEL]), SegmenterOptions(**settings)).absolute()


def _tell_plans(plans: Sequence[CasePlan], as_json: bool) -> None:
    """Print the estimates of `--dry-run`."""
    if as_json:
        result(json.dumps([plan.content() for plan in plans]))
        return
    rows = [("case", "tiles", "of voxels", "computed", "memory", "engine")]
    for case in plans:
        for plan, slabs in zip(case.forecast.plans, case.forecast.in_slabs, strict=True):
            shape = "x".join(map(str, plan.tile_shape)) + (" in slabs" if slabs else "")
            memory = f"{case.forecast.bytes / 2**30:.2f} GiB"
            times = f"{plan.redundancy:.2f} times"
            rows.append((case.stem, str(len(plan.tiles)), shape, times, memory, f"{case.seconds:.1f} s"))
    result(table(rows))
    say("These are estimates; nothing was written.")


def _content(outcome: Outcome) -> dict[str, Any]:
    error = None if outcome.error is None else str(outcome.error)
    more = {"case": outcome.stem, "output": str(outcome.target), "skipped": outcome.skipped, "error": error}
    return more if outcome.summary is None else outcome.summary.content() | more


def _tell(
    outcomes: list[Outcome], quiet: bool, verbose: bool, outcome: Outcome, number: int, of: int
) -> None:
    """Keep an outcome, and say what came of the case."""
    outcomes.append(outcome)
    count = f"[{number}/{of}] " if of > 1 else ""
    if outcome.error:
        say(f"{count}failed: {outcome.error}")
    elif quiet:
        return
    elif outcome.skipped:
        say(f"{count}{outcome.target} exists already for the same input and model")
    elif outcome.summary:
        _tell_result(outcome, outcome.summary, count, alone=of == 1, verbose=verbose)


def _tell_result(
    outcome: Outcome, summary: PredictionSummary, count: str, *, alone: bool, verbose: bool
) -> None:
    """Say where a result lies, what it took, and its verdict; of many no notes."""
    from medseg.findings.finding import NO_DOUBT

    ok = not summary.is_doubtful
    peak = f", {summary.peak_memory_bytes / 2**30:.2f} GiB at most" if summary.peak_memory_bytes else ""
    say(f"{count}{outcome.target} ({duration(summary.seconds)}{peak}){', ok' if ok and not alone else ''}")
    if budget := summary.budget:
        over = "; it took longer" if summary.seconds > budget.seconds else ""
        say(f"{budget.in_words()}{over}")
    if ok and alone:
        say(f"ok: {outcome.stem}: {NO_DOUBT}")
    told = (f for f in summary.findings or () if alone or not (f.severity == "note" or _is_of_size(f)))
    say_findings(told, outcome.stem)
    if verbose:
        say(f"engine: {', '.join(summary.provenance.engines)}")


def _unsized(summary: PredictionSummary) -> bool:
    """Whether the scan is a picture, and nothing states its size in mm; said once of all of a batch."""
    return any(map(_is_of_size, summary.findings or ()))


def _is_of_size(finding: Finding) -> bool:
    from medseg.io.pictures.slices import states_no_size

    return states_no_size([finding.sentence])


def volumes(summary: PredictionSummary) -> str:
    """The table of what was found; areas in pixels where nothing states a size in mm."""
    from medseg.core.numbers import millilitres

    found, totals = summary.structures, summary.totals
    if _unsized(summary):
        return table(
            [("structure", "label", "pixels"), *((s.name, str(s.value), str(s.voxels)) for s in found)]
        )
    rows: list[tuple[str, ...]] = [("structure", "label", "voxels", "ml")]
    rows += [(s.name, str(s.value), str(s.voxels), millilitres(s.volume_ml)) for s in found]
    rows += [(t.name, "", "", millilitres(t.volume_ml)) for t in totals]
    if any(s.interval_ml for s in found):
        column = ["90 % interval", *map(_interval, found), *("" for _ in totals)]
        rows = [(*row, cell) for row, cell in zip(rows, column, strict=True)]
    return table(rows)


def _interval(structure: StructureSummary) -> str:
    """Within which the volume by a reference is expected."""
    from medseg.core.numbers import millilitres

    ends = structure.interval_ml
    return "n/a" if ends is None else f"{millilitres(ends[0])} to {millilitres(ends[1])}"


def _tell_times(summaries: Sequence[PredictionSummary]) -> None:
    """What the steps of all cases took; the rest, the start, is imports, models and looking at files."""
    total = process_seconds()
    steps: dict[str, float] = {}
    for summary in summaries:
        for step, taken in summary.timing_s.items():
            steps[step] = steps.get(step, 0.0) + taken
    steps = {"start": max(0.0, total - sum(steps.values())), **steps, "total": total}
    peak = max((summary.peak_memory_bytes or 0 for summary in summaries), default=0)
    rows = [("step", "seconds"), *((step, f"{taken:.2f}") for step, taken in steps.items())]
    for line in table(rows).splitlines():
        say(line)
    if peak:
        say(f"peak memory {peak / 2**30:.2f} GiB")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _shard(text: str) -> tuple[int, int]:
    """`2/8` as (2, 8)."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"--shard must be i/n, such as 1/8 to 8/8, not {text!r}")
    return int(part), int(parts)


def _one_of(option: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"{option} must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}")
    return value
