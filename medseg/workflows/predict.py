"""`medseg predict`: scans in; labels, a summary and, if asked for, probabilities and a report out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.errors import InputError, MedsegError, PartialBatchError
from medseg.io import ReadOptions, read_volume, stem_and_suffix, write_image, write_labels
from medseg.io.atomic import refuse_existing, write_text
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows.inputs import InputCase, find_cases, is_batch, require_outside
from medseg.workflows.segment import Segmentation, Segmenter

SCHEMA = "medseg.prediction/1"


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
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    channels: tuple[str, ...] = ()
    probabilities: bool = False
    report: bool = False
    strict: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        stem: its name.
        target: its label file.
        summary: the content of its `.json`; empty when it failed.
        skipped: a result made from the same input, model and settings was there.
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

    Args:
        words: of the command line, see `inputs.find_cases`.
        segmenter: makes the segmenter, once the inputs and outputs are known to be in order.
        out: a file, a folder, or None for beside the input.
        options: what is written.
        on_case: called after each case with the outcome, its number and how many there are.

    Raises:
        PartialBatchError: of several cases some failed; the others are written.
        MedsegError: the only case failed.
    """
    cases = find_cases(words)
    batch = is_batch(words, cases)
    if batch:
        require_outside(words, out)
    targets = _targets(cases, out)
    if not batch:
        refuse_existing(targets[0], options.overwrite, cases[0].files)
    ready = segmenter()
    outcomes = []
    for number, (case, target) in enumerate(zip(cases, targets, strict=True), start=1):
        outcome = _one(case, target, ready, options, batch)
        outcomes.append(outcome)
        on_case(outcome, number, len(cases))
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and not batch and failed[0].error is not None:
        raise failed[0].error
    if failed:
        names = ", ".join(outcome.stem for outcome in failed)
        raise PartialBatchError(f"{len(failed)} of {len(outcomes)} cases failed: {names}")
    return tuple(outcomes)


def _targets(cases: Sequence[InputCase], out: Path | None) -> list[Path]:
    """Where each case goes; two cases never to one place."""
    targets = [case.target(out) for case in cases]
    twice = {str(target) for target in targets if targets.count(target) > 1}
    if twice:
        raise InputError(f"two cases would both be written to {', '.join(sorted(twice))}", mend="rename one")
    return targets


def _one(
    case: InputCase, target: Path, segmenter: Segmenter, options: PredictOptions, batch: bool
) -> Outcome:
    """One case, its failure contained."""
    try:
        identity = _identity(case, segmenter, options)
        if batch and not options.overwrite and _is_done(target, identity):
            return Outcome(case.stem, target, skipped=True)
        return _segment(case, target, segmenter, options, identity)
    except MedsegError as fault:
        if fault.source is None:
            fault.source = str(_first(case))
        return Outcome(case.stem, target, error=fault)


def _segment(
    case: InputCase, target: Path, segmenter: Segmenter, options: PredictOptions, identity: dict[str, Any]
) -> Outcome:
    start = time.monotonic()
    refuse_existing(target, options.overwrite, case.files)
    volume = read_volume(case.source, channels=options.channels or None, options=options.reading)
    found = segmenter(volume)
    if options.strict and found.warnings:
        raise InputError(f"doubtful: {found.warnings[0]}", source=_first(case), mend="drop --strict")
    summary = _summary(volume, found, segmenter, identity)
    summary["seconds"] = round(time.monotonic() - start, 2)
    target.parent.mkdir(parents=True, exist_ok=True)
    stem = _base(target)
    if options.probabilities:
        for name, probability in found.probabilities.items():
            path = target.with_name(f"{stem}_prob-{_plain(name)}{stem_and_suffix(target)[1]}")
            write_image(path, probability, volume.grid, form=volume.form, overwrite=options.overwrite)
    if options.report:
        path = target.with_name(f"{stem}_report.html")
        write_text(path, _page(stem, volume, found, segmenter, identity), overwrite=options.overwrite)
    write_labels(target, found.labels, overwrite=options.overwrite, inputs=case.files)
    summary_text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_text(summary_path(target), summary_text, overwrite=True)
    return Outcome(case.stem, target, summary)


def summary_path(target: Path) -> Path:
    """`scan_seg.nii.gz` -> `scan_seg.json`."""
    return target.with_name(f"{stem_and_suffix(target)[0]}.json")


def _base(target: Path) -> str:
    return stem_and_suffix(target)[0].removesuffix("_seg")


def _plain(name: str) -> str:
    """A structure's name as part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in name)


def _first(case: InputCase) -> Path:
    return next(iter(case.source.values())) if not isinstance(case.source, Path) else case.source


def _identity(case: InputCase, segmenter: Segmenter, options: PredictOptions) -> dict[str, Any]:
    """What the result depends on: the bytes read, the models, the settings."""
    channels = list(case.source) if not isinstance(case.source, Path) else list(options.channels)
    return {
        "input": {"sha256": _digest(case.files), "channels": channels},
        "models": [{"name": m.spec.name, "sha256": m.sha256} for m in segmenter.models],
        "settings": {
            "engines": list(segmenter.engine_names),
            "tta": segmenter.options.tta,
            "reading": asdict(options.reading),
        },
        "software": {"name": "medseg", "version": __version__},
    }


def _is_done(target: Path, identity: dict[str, Any]) -> bool:
    """Whether the target was made from the same input, models and settings."""
    if not (target.exists() and summary_path(target).exists()):
        return False
    try:
        stored = json.loads(summary_path(target).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(stored.get("provenance") == identity)


def _summary(
    volume: Volume, found: Segmentation, segmenter: Segmenter, identity: dict[str, Any]
) -> dict[str, Any]:
    """What `scan_seg.json` says; nothing about the patient, no path."""
    voxel_ml = volume.grid.voxel_volume_mm3 / 1000
    rows = []
    for structure in found.structures:
        mask = found.structures.mask(found.labels.array, structure)
        count = int(mask.sum())
        rows.append(
            {
                "value": structure.value,
                "name": structure.name,
                "voxels": count,
                "volume_ml": round(count * voxel_ml, 6),
                "touches_edge": _touches_edge(mask),
            }
        )
    return {
        "schema": SCHEMA,
        "intended_use": "research only; not a medical device",
        "grid": _grid(volume.grid),
        "structures": rows,
        "warnings": list(found.warnings),
        "provenance": identity,
    }


def _grid(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 6) for s in grid.spacing_mm],
        "orientation": grid.axis_codes,
    }


def _touches_edge(mask: Any) -> bool:
    """Whether a structure reaches the edge of the scan, so that part of it may be missing."""
    faces = [mask.take(end, axis=axis) for axis in range(3) if mask.shape[axis] > 1 for end in (0, -1)]
    return any(bool(face.any()) for face in faces)


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
        warnings=found.warnings,
    )
    labels = LabelMap(found.labels.array, found.labels.grid, found.labels.form)
    return html.case_page(case_of(volume, labels, found.structures, options=options))


def _digest(files: Sequence[Path]) -> str:
    """SHA-256 of all files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
