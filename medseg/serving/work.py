"""What a worker does with a job: predict, refine, correct. Models stay loaded between jobs."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.api.classical import refine
from medseg.core.errors import InputError, MedsegError
from medseg.core.stopwatch import Stopwatch
from medseg.core.structures import StructureSet, Total
from medseg.core.structuring import structured
from medseg.core.volume import LabelMap, Volume
from medseg.data.layouts.case import plain
from medseg.data.layouts.writing import ENDING, label_names, revalued
from medseg.data.store import Store, case_of
from medseg.io import ReadOptions, digest_of, read_label_file, read_volume, write_labels
from medseg.io.atomic import write_text
from medseg.prediction.job import Job, PredictOptions
from medseg.prediction.requests import InputCase
from medseg.prediction.summary import corrected
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.prediction import PredictionSummary, Provenance, read_summary, summary_path
from medseg.segmentation.segmenter import Loader, Segmenter
from medseg.serving.job import BEFORE, Request, stated
from medseg.serving.settings import SETTINGS, CorrectSettings, KeepSettings, PredictSettings, RefineSettings
from medseg.serving.view import show, shown, write_shown

WARM = 3
"""Models that stay loaded at most."""
TILES = (0.1, 0.8)
"""Share of a job that is done before its first tile, and that its tiles are."""
STEPS = {
    "read": 0.0,
    "prepare": 0.05,
    "restore": 0.9,
    "objects": 0.9,
    "check": 0.92,
    "report": 0.94,
    "write": 0.97,
}
"""Share of a job that is done when a step begins."""
SCAN, LABELS = "scan", "scan_seg"
"""What the files of a job are called: not as those that were sent, whose names may say whom they show."""
Tell = Callable[[str, float], None]
"""Takes a step and the share of the job that is done."""


class TellingWatch(Stopwatch):
    """A stopwatch that says where the job is."""

    def __init__(self, tell: Tell, rows: int) -> None:
        super().__init__()
        self._tell, self._rows = tell, rows

    def step(self, name: str) -> Any:
        if name in STEPS:
            self._tell(name, STEPS[name])
        return super().step(name)

    def over(self, name: str, items: Any) -> Any:
        for item in super().over(name, items):
            if name == "tiles":
                before, share = TILES
                self._tell(name, before + share * min(1.0, item[0].stop / self._rows))
            yield item


class Workshop:
    """The models that are loaded, and how they run.

    Args:
        models: files by name.
        cases: folder with a folder for the corrected cases of each model.
        threads: of the processor; 0 takes what there is.
        max_memory: bytes; None takes most of what is free.
    """

    def __init__(self, models: Mapping[str, str], cases: Path, threads: int, max_memory: int | None) -> None:
        self.models, self.cases, self.threads, self.max_memory = models, cases, threads, max_memory
        self._warm: OrderedDict[tuple[Any, ...], Segmenter] = OrderedDict()

    def segmenter(self, name: str, tta: bool | None = None, refine: bool | None = None) -> Segmenter:
        """A model ready to run; of those that are loaded the one that was used longest ago makes room."""
        key = (name, tta, refine)
        if key not in self._warm:
            while len(self._warm) >= WARM:
                self._warm.popitem(last=False)
            options = SegmenterOptions(
                threads=self.threads, max_memory=self.max_memory, tta=tta, refine=refine
            )
            self._warm[key] = Loader((self.models[name],), options)()
        self._warm.move_to_end(key)
        return self._warm[key]

    def do(
        self, kind: str, model: str, settings: Mapping[str, Any], inputs: Path, out: Path, tell: Tell
    ) -> None:
        """Do a job.

        Args:
            kind: a key of `SETTINGS`.
            model: that predicts, or predicted.
            settings: as plain values.
            inputs: folder with what was received.
            out: folder for the result.
            tell: called with what is being done.

        Raises:
            MedsegError: it cannot be done.
        """
        chosen = structured(SETTINGS[kind], dict(settings))
        if kind == "predict":
            self._predict(model, chosen, inputs, out, tell)
        elif kind == "refine":
            _refine(chosen, inputs, out, tell)
        elif kind == "correct":
            self._correct(model, chosen, inputs, out, tell)
        else:
            self._keep(model, chosen, inputs, out, tell)

    def _predict(self, model: str, settings: PredictSettings, inputs: Path, out: Path, tell: Tell) -> None:
        tell("load", 0.0)
        segmenter = self.segmenter(model, settings.tta, settings.refine)
        reading = _reading(settings)
        options = PredictOptions(
            reading,
            report=settings.report,
            dicom=settings.dicom,
            strict=settings.strict,
        )
        source = _source(inputs, settings.channels)
        case = InputCase(source, SCAN, inputs)
        job = Job(case, out / f"{LABELS}{case.suffix}", segmenter, options, batch=True)
        looked = job.look()
        if looked is not None:
            job.watch = TellingWatch(tell, looked.forecast.plans[0].shape[0])
            job.read()
            volume = job.volume
            job.segment()
            labels = None if job.found is None else job.found.labels
            if settings.view and volume is not None and labels is not None:
                show(out, volume, labels, segmenter.structures)
                self._show_kept(model, job.identity, labels, out)
        outcome = job.write()
        if outcome.error is not None:
            raise outcome.error

    def _show_kept(self, model: str, identity: Provenance, labels: LabelMap, out: Path) -> None:
        """Write what somebody made of this scan before, beside what is shown."""
        store = Store(self.cases / model)
        case = name_of_scan(identity)
        path = store.labels().get(case)
        kept = None if path is None else read_label_file(path, ReadOptions())
        if path is not None and kept is not None and kept.grid.shape == labels.grid.shape:
            write_shown(out / "kept.gz", replace(kept, grid=labels.grid))
            write_text(out / "kept.json", json.dumps({"digest": digest_of(path)}))

    def _correct(self, model: str, settings: CorrectSettings, inputs: Path, out: Path, tell: Tell) -> None:
        """Labels as somebody drew them, on the grid and in the format of the prediction; kept as a case."""
        tell("read", 0.0)
        before_path = _only(inputs, LABELS)
        before = read_label_file(before_path, ReadOptions())
        drawn = shown(inputs / "labels.gz", before)
        summary = read_summary(summary_path(before_path)) or PredictionSummary()
        _require_known(drawn, _known(before_path))
        tell("write", 0.5)
        target = out / before_path.name
        sidecar = _write_drawn(target, drawn, summary.structure_set, summary.totals_stated)
        changes = _changes(before, drawn, summary.structure_set, settings.accepted)
        write_text(out / "changes.json", json.dumps(changes, indent=1))
        tell("keep", 0.8)
        store, case = Store(self.cases / model), name_of_scan(summary.provenance)
        scan, segmenter = _scan(inputs), self.segmenter(model)
        store.describe(model, segmenter.channels, segmenter.structures)
        store.add(case, in_order(scan, segmenter.channels))
        store.keep_predicted(case, before_path, summary_path(before_path))
        base = None if settings.replace else settings.base
        store.keep_corrected(case, target, sidecar, base=base, changes=changes)

    def _keep(self, model: str, settings: KeepSettings, inputs: Path, out: Path, tell: Tell) -> None:
        """Labels of a stored case that another program sends, with the values that the model has for them."""
        tell("read", 0.0)
        segmenter, store = self.segmenter(model), Store(self.cases / model)
        scan = read_volume(_only(inputs, SCAN))
        sent = read_label_file(_only(inputs, "label"), ReadOptions(), like=scan.grid)
        drawn = replace(as_named(sent, settings.names, segmenter.structures), form=scan.form)
        tell("keep", 0.5)
        target = out / f"{LABELS}{ENDING}"
        sidecar = _write_drawn(target, drawn, segmenter.structures, segmenter.models[0].spec.totals)
        store.describe(model, segmenter.channels, segmenter.structures)
        if settings.tag != "final":
            store.keep_predicted(settings.case, target, sidecar)
            return
        original = store.labels("original").get(settings.case)
        before = replace(drawn, array=np.zeros_like(drawn.array))
        if (
            original is not None
            and (read := read_label_file(original, ReadOptions())).grid.shape == scan.grid.shape
        ):
            before = read
        changes = _changes(before, drawn, segmenter.structures, ())
        store.keep_corrected(settings.case, target, sidecar, base=None, changes=changes)


def as_named(labels: LabelMap, names: Mapping[str, int], structures: StructureSet) -> LabelMap:
    """Labels with the values that a model has for their names.

    Args:
        labels: as they were sent.
        names: values in them by name; empty where they are those of the model.
        structures: of the model.

    Raises:
        InputError: a name or a value means nothing to the model.
    """
    own = {plain(name): value for value, name in label_names(structures).items()}
    used = {name: value for name, value in names.items() if (labels.array == value).any()}
    if unknown := [name for name in used if plain(name) not in own]:
        hint = f"call them {', '.join(label_names(structures).values())}"
        raise InputError(f"the model has no {', '.join(map(repr, unknown))}", hint=hint)
    if names:
        labels = revalued(labels, {value: own[plain(name)] for name, value in used.items()})
    _require_known(labels, {0, *structures.known_values} if not names else {0, *own.values()})
    return labels


def _write_drawn(target: Path, drawn: LabelMap, structures: StructureSet, totals: tuple[Total, ...]) -> Path:
    """Labels that somebody drew, and their sidecar; its path."""
    write_labels(target, drawn, structures=structures)
    corrected(drawn, structures, totals, digest_of(target)).write(summary_path(target))
    return summary_path(target)


def _changes(
    before: LabelMap, after: LabelMap, structures: StructureSet, accepted: Sequence[str]
) -> dict[str, dict[str, int | bool]]:
    """Of each structure voxels that became and ceased to be it, and whether somebody took it as it is."""
    return {
        s.name: {**_change(before, after, s.label_values), "accepted": s.name in accepted} for s in structures
    }


def name_of_scan(of: Provenance) -> str:
    """What the case of a prediction is called.

    Raises:
        InputError: the prediction does not say what it is of.
    """
    if of.input is None:
        raise InputError("the prediction does not state the digest of its scan")
    return case_of(of.input.sha256)


def in_order(scan: Volume, channels: Sequence[str]) -> Volume:
    """A scan with its channels in the order of a model; an only one is called as the model calls it."""
    if len(channels) == len(scan.channels) == 1 or scan.channels == tuple(channels):
        return scan
    return replace(scan, array=scan.array[[scan.channels.index(name) for name in channels]])


def _scan(inputs: Path) -> Volume:
    """The scan of a prediction that is corrected, read as it was then."""
    was: Request = stated(Request, inputs / BEFORE)
    settings = structured(PredictSettings, dict(was.settings))
    return read_volume(_source(inputs, settings.channels), options=_reading(settings))


def _refine(settings: RefineSettings, inputs: Path, out: Path, tell: Tell) -> None:
    """Labels that follow scribbles, as the browser shows them."""
    tell("read", 0.0)
    volume = _scan(inputs)
    start = shown(inputs / "start.gz", volume)
    seeds = shown(inputs / "scribbles.gz", volume)
    known = _known(_only(inputs, LABELS))
    _require_known(start, known)
    _require_known(seeds, known | {settings.background})
    tell("refine", 0.3)
    found = refine(
        volume,
        seeds,
        start=start,
        method=settings.method,
        background=settings.background,
        reach_mm=settings.reach_mm,
    )
    tell("write", 0.9)
    write_shown(out / "labels.gz", found)


def _known(labels: Path) -> set[int]:
    """The values that labels of a scan may have, by the sidecar of its prediction."""
    summary = read_summary(summary_path(labels)) or PredictionSummary()
    return {0, *summary.structure_set.known_values}


def _require_known(labels: LabelMap, known: set[int]) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: there is one.
    """
    if strange := sorted(set(np.unique(labels.array).tolist()) - known):
        raise InputError(f"the labels have values that no structure has: {strange[:8]}")


def _change(before: LabelMap, after: LabelMap, values: tuple[int, ...]) -> dict[str, int]:
    """Voxels that became and ceased to be a structure."""
    then, now = np.isin(before.array, values), np.isin(after.array, values)
    return {"added": int((now & ~then).sum()), "removed": int((then & ~now).sum())}


def _reading(settings: PredictSettings) -> ReadOptions:
    return ReadOptions(
        settings.use_form, settings.assume_ras, settings.fill_nan, settings.volume, settings.series
    )


def _source(inputs: Path, channels: tuple[str, ...]) -> Path | dict[str, Path]:
    """What was received: one file, a folder of slices, or a file a channel."""
    if not channels:
        return _only(inputs, SCAN)
    return {name: _only(inputs, f"channel{number}") for number, name in enumerate(channels)}


def _only(inputs: Path, stem: str) -> Path:
    """The one file or folder of a job that is called so, whatever its suffix."""
    found = [p for p in sorted(inputs.iterdir()) if p.name == stem or p.name.startswith(f"{stem}.")]
    found = [p for p in found if p.suffix != ".json"]
    if len(found) != 1:
        raise InputError(f"{len(found)} files were received as {stem}, and one is needed")
    return found[0]


def told(fault: MedsegError) -> dict[str, Any]:
    """A fault as a message; its source, which may be a path, is left out."""
    return {"fault": fault.fault, "hint": fault.hint, "exit_code": fault.exit_code}
