"""One case of a prediction: read, segmented, written, its faults contained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg import __version__
from medseg.errors import InputError, MedsegError, ResourceError
from medseg.inference.planner import Forecast
from medseg.io import (
    ReadOptions,
    files_of,
    inspect,
    read_volume,
    require_holds,
    write_image,
    write_labels,
    write_overlay,
)
from medseg.io.atomic import write_text
from medseg.io.memory import peak_memory_bytes
from medseg.io.options import ImageInfo
from medseg.stopwatch import Stopwatch
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows.inputs import InputCase
from medseg.workflows.outputs import SCHEMA, Outputs, digest
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


@dataclass
class Job:
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
            info = inspect(self.case.first, options=reading)
            require_holds(self.target, info.grid)
            forecast_of(info, self.segmenter)
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
                if outputs.overlay:
                    write_overlay(
                        outputs.overlay,
                        volume,
                        found.labels,
                        found.structures,
                        overwrite=overwrite,
                        inputs=inputs,
                    )
                write_labels(
                    outputs.labels,
                    found.labels,
                    structures=found.structures,
                    overwrite=overwrite,
                    inputs=inputs,
                )
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
        "grid": grid_content(volume.grid),
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


def grid_content(grid: Grid) -> dict[str, Any]:
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


def forecast_of(info: ImageInfo, segmenter: Segmenter) -> Forecast:
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
