"""`medseg predict`: scans in; labels, a summary and, if asked for, probabilities and a report out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg import __version__
from medseg.errors import InputError, MedsegError, PartialBatchError, ResourceError, UsageError
from medseg.inference.planner import Forecast
from medseg.io import ReadOptions, files_of, inspect, read_volume, write_image, write_labels
from medseg.io.atomic import write_text
from medseg.io.memory import peak_memory_bytes
from medseg.io.options import ImageInfo
from medseg.stopwatch import Stopwatch
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows import pipeline
from medseg.workflows.inputs import InputCase, check_out, find_cases, is_batch
from medseg.workflows.outputs import SCHEMA, Outputs, digest, require_writable
from medseg.workflows.segment import Segmentation, Segmenter


@dataclass(frozen=True)
class PredictOptions:
    """What is written, and how strictly.

    Attributes:
        reading: decisions an input file leaves open.
        channels: names of the volumes of a 4D file.
        probabilities: write the probabilities of each structure.
        report: write a page about each case.
        strict: a doubtful result is an error, and is not written.
        overwrite: replace results that exist.
        shard: which part of the cases, from 1, and of how many.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    channels: tuple[str, ...] = ()
    probabilities: bool = False
    report: bool = False
    strict: bool = False
    overwrite: bool = False
    shard: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        stem: its name.
        target: its label file.
        summary: the content of its `.json`; empty when it failed.
        skipped: a result made from the same input, models and settings was there.
        error: why it failed.
    """

    stem: str
    target: Path
    summary: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False
    error: MedsegError | None = None


def predict(
    words: Sequence[str],
    segmenter: Callable[[], Segmenter],
    out: Path | None,
    options: PredictOptions,
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
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

    Raises:
        PartialBatchError: of several cases some failed; the others are written.
        MedsegError: the only case failed.
    """
    cases = find_cases(words)
    batch = is_batch(words, cases)
    check_out(words, out, batch)
    targets = _targets(cases, out)
    for target in targets:
        require_writable(target)
    if not batch:
        Outputs.of(targets[0], report=options.report).refuse_existing(options.overwrite, cases[0].files)
    ready = segmenter()
    part, parts = options.shard
    mine = list(zip(cases, targets, strict=True))[part - 1 :: parts]
    jobs = [_Job(case, target, ready, options, batch) for case, target in mine]
    run = pipeline.overlapped if batch and ready.options.max_memory is None else pipeline.one_by_one
    outcomes = []
    for number, outcome in enumerate(run(jobs), start=1):
        if outcome.error is not None and not batch:
            raise outcome.error
        outcomes.append(outcome)
        on_case(outcome, number, len(jobs))
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        names = ", ".join(outcome.stem for outcome in failed)
        raise PartialBatchError(f"{len(failed)} of {len(outcomes)} cases failed: {names}")
    return tuple(outcomes)


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
                "strategy": plan.strategy,
                "tiles": len(plan.tiles),
                "tile_shape": list(plan.tile_shape),
                "redundancy": round(plan.redundancy, 2),
            }
            for plan in self.forecast.plans
        ]
        return {
            "case": self.stem,
            "grid": _grid(self.grid),
            "plans": plans,
            "memory_bytes": self.forecast.bytes,
            "engine_seconds": round(self.seconds, 2),
        }


def dry_run(words: Sequence[str], segmenter: Segmenter, options: PredictOptions) -> tuple[CasePlan, ...]:
    """How every case that the words name would be predicted; nothing is written, no voxel is read.

    Raises:
        ResourceError: there is no room for one of them.
        MedsegError: a header cannot be read.
    """
    plans = []
    for case in find_cases(words):
        info = inspect(case.first, options=options.reading)
        forecast = _forecast(info, segmenter)
        plans.append(CasePlan(case.stem, info.grid, forecast, segmenter.tile_seconds(forecast)))
    return tuple(plans)


def _forecast(info: ImageInfo, segmenter: Segmenter) -> Forecast:
    """What a scan's header promises.

    Raises:
        ResourceError: there is no room for it.
    """
    scaled = (info.slope, info.inter) != (1.0, 0.0) or not info.dtype
    try:
        return segmenter.forecast(info.grid, 4 if scaled else np.dtype(info.dtype).itemsize)
    except ResourceError as fault:
        fault.source = str(info.path)
        raise


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


@dataclass
class _Job:
    """One case: read, segmented, written; its failure contained, in a batch even one that is a fault of ours.

    What one step leaves the next is dropped as soon as it has been used.
    """

    case: InputCase
    target: Path
    segmenter: Segmenter
    options: PredictOptions
    batch: bool
    watch: Stopwatch = field(default_factory=Stopwatch)
    identity: dict[str, Any] = field(default_factory=dict)
    volume: Volume | None = None
    found: Segmentation | None = None
    outcome: Outcome | None = None

    @property
    def outputs(self) -> Outputs:
        names = self.segmenter.structures.names if self.options.probabilities else ()
        return Outputs.of(self.target, names, report=self.options.report)

    def read(self) -> None:
        """Read the scan, unless its result is there already."""
        with self._contained(), self.watch.step("read"):
            self.identity = _identity(self.case, self.segmenter, self.options)
            stored = self.outputs.finished(self.identity) if self.batch else None
            if stored is not None:
                self.outcome = Outcome(self.case.stem, self.target, stored, skipped=True)
                return
            self.outputs.refuse_existing(self.options.overwrite, self.case.files)
            reading = self.options.reading
            _forecast(inspect(self.case.first, options=reading), self.segmenter)
            names = self.options.channels or None
            self.volume = read_volume(self.case.source, channels=names, options=reading)

    def segment(self) -> None:
        """Find the structures."""
        if self.volume is None:
            return
        with self._contained():
            self.found = self.segmenter(self.volume, self.watch)
            doubts = (*self.found.quality.reasons, *self.found.warnings)
            if self.options.strict and doubts:
                raise InputError(f"doubtful: {doubts[0]}", mend="drop --strict")

    def write(self) -> Outcome:
        """Write what was found; what became of the case."""
        volume, found, self.volume, self.found = self.volume, self.found, None, None
        if self.outcome is None and volume is not None and found is not None:
            with self._contained():
                summary = self._written(volume, found)
                self.outcome = Outcome(self.case.stem, self.target, summary)
        return self.outcome or Outcome(self.case.stem, self.target)

    def _written(self, volume: Volume, found: Segmentation) -> dict[str, Any]:
        outputs, inputs, overwrite = self.outputs, self.case.files, self.options.overwrite
        with self.watch.step("report"):
            page = _page(outputs.case, volume, found, self.segmenter, self.identity) if outputs.report else ""
        outputs.labels.parent.mkdir(parents=True, exist_ok=True)
        with outputs.all_or_none():
            with self.watch.step("write"):
                for name, path in outputs.probabilities.items():
                    image = found.probabilities[name]
                    write_image(
                        path, image, volume.grid, form=volume.form, overwrite=overwrite, inputs=inputs
                    )
                if outputs.report:
                    write_text(outputs.report, page, overwrite=overwrite)
                write_labels(outputs.labels, found.labels, overwrite=overwrite, inputs=inputs)
            summary = _summary(volume, found) | {
                "labels_sha256": digest(files_of(outputs.labels)),
                "seconds": round(sum(self.watch.seconds.values()), 2),
                "timing_s": {step: round(taken, 3) for step, taken in self.watch.seconds.items()},
                "peak_memory_bytes": peak_memory_bytes(),
                "provenance": self.identity,
            }
            text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
            write_text(outputs.summary, text, overwrite=True)
        return summary

    @contextmanager
    def _contained(self) -> Iterator[None]:
        """Make a fault the outcome, and name the case where it names no file."""
        try:
            yield
        except MedsegError as fault:
            if fault.source is None:
                fault.source = str(self.case.first)
            self._failed(fault)
        except MemoryError as fault:
            self._failed(ResourceError("out of memory", source=self.case.first), fault)
        except Exception as fault:
            if not self.batch:
                raise
            text = f"{type(fault).__name__}: {fault}; this is a fault of medseg"
            self._failed(MedsegError(text, source=self.case.first), fault)

    def _failed(self, error: MedsegError, cause: Exception | None = None) -> None:
        error.__cause__ = cause
        self.volume = self.found = None
        self.outcome = Outcome(self.case.stem, self.target, error=error)


def _identity(case: InputCase, segmenter: Segmenter, options: PredictOptions) -> dict[str, Any]:
    """What the result depends on: the bytes read, the models, the settings."""
    channels = list(options.channels) if isinstance(case.source, Path) else list(case.source)
    return {
        "input": {"sha256": digest(case.files), "channels": channels},
        "models": [{"name": m.spec.name, "sha256": m.sha256} for m in segmenter.models],
        "settings": {
            "engines": list(segmenter.engine_names),
            "tta": segmenter.options.tta,
            "reading": asdict(options.reading) | {"series": _hidden(options.reading.series)},
        },
        "software": {"name": "medseg", "version": __version__},
    }


def _hidden(series: str | None) -> str | None:
    """A series as chosen; its UID, which identifies an examination, as a hash."""
    if series is None or series.isdigit():
        return series
    return hashlib.sha256(series.encode()).hexdigest()


def _summary(volume: Volume, found: Segmentation) -> dict[str, Any]:
    """What `scan_seg.json` says of the result; nothing about the patient, no path."""
    return {
        "schema": SCHEMA,
        "intended_use": "research only; not a medical device",
        "grid": _grid(volume.grid),
        "quality": found.quality.content(),
        "structures": _rows(found),
        "totals": [
            {"name": t.name, "values": list(t.values), "volume_ml": round(ml, 6)}
            for t, ml in zip(found.totals, found.totals_ml().values(), strict=True)
        ],
        "warnings": list(found.warnings),
    }


def _rows(found: Segmentation) -> list[dict[str, Any]]:
    """One row a structure."""
    volumes, cut = found.volumes_ml(), found.truncated()
    voxel_ml = found.labels.grid.voxel_volume_mm3 / 1000
    rows = []
    for s in found.structures:
        row = {
            "value": s.value,
            "name": s.name,
            "voxels": round(volumes[s.name] / voxel_ml),
            "volume_ml": round(volumes[s.name], 6),
            "truncated": cut[s.name],
        }
        rows.append(row | {"members": list(s.members)} if s.members else row)
    return rows


def _grid(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "orientation": grid.axis_codes,
    }


def _page(
    stem: str, volume: Volume, found: Segmentation, segmenter: Segmenter, identity: dict[str, Any]
) -> str:
    """The report page; what draws it is imported only for it."""
    from medseg.report import html
    from medseg.workflows.report import ReportOptions, case_of

    ranges = segmenter.models[0].spec.evidence.get("volumes_ml", {})
    facts = {
        "Model": ", ".join(m["name"] for m in identity["models"]),
        "Model SHA-256": ", ".join(m["sha256"] for m in identity["models"]),
        "Input SHA-256": identity["input"]["sha256"],
        "Engine": ", ".join(identity["settings"]["engines"]),
    }
    options = ReportOptions(
        case_id=stem,
        facts=facts,
        expected_ml={name: (r["min"], r["max"]) for name, r in ranges.items()},
        warnings=(*found.quality.reasons, *found.warnings),
        totals=found.totals,
    )
    labels = LabelMap(found.labels.array, found.labels.grid, found.labels.form)
    return html.case_page(case_of(volume, labels, found.structures, options=options))
