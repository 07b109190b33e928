"""What a worker does with a job: predict, refine, correct. Models stay loaded between jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medseg.api.classical import refine
from medseg.core.errors import InputError, MedsegError
from medseg.core.stopwatch import Stopwatch
from medseg.core.structuring import structured
from medseg.core.volume import Volume
from medseg.data.store import Store
from medseg.io import ReadOptions, read_volume
from medseg.prediction.job import Job, PredictOptions
from medseg.prediction.requests import InputCase
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader, Segmenter
from medseg.serving.job import BEFORE, Request, stated
from medseg.serving.keeping import Keeper, add, correct, keep, known_values, require_known, show_kept
from medseg.serving.settings import SETTINGS, PredictSettings, RefineSettings
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
            tell("read", 0.0)
            before, drawn = only(inputs, LABELS), inputs / "labels.gz"
            correct(self._keeper(model), chosen, before, drawn, _scan(inputs), out)
        elif kind == "keep":
            tell("read", 0.0)
            keep(self._keeper(model), chosen, only(inputs, "label"), out)
        else:
            tell("read", 0.0)
            add(self._keeper(model), chosen, only(inputs, SCAN))

    def _store(self, model: str) -> Store:
        """The corrected cases of a model."""
        return Store(self.cases / model)

    def _keeper(self, model: str) -> Keeper:
        """What keeps cases of a model."""
        return Keeper(model, self._store(model), self.segmenter(model))

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
                show_kept(self._store(model), job.identity, labels, out)
        outcome = job.write()
        if outcome.error is not None:
            raise outcome.error


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
    known = known_values(only(inputs, LABELS))
    require_known(start, known)
    require_known(seeds, known | {settings.background})
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


def _reading(settings: PredictSettings) -> ReadOptions:
    return ReadOptions(
        settings.use_form, settings.assume_ras, settings.fill_nan, settings.volume, settings.series
    )


def _source(inputs: Path, channels: tuple[str, ...]) -> Path | dict[str, Path]:
    """What was received: one file, a folder of slices, or a file a channel."""
    if not channels:
        return only(inputs, SCAN)
    return {name: only(inputs, f"channel{number}") for number, name in enumerate(channels)}


def only(inputs: Path, stem: str) -> Path:
    """The one file or folder of a job that is called so, whatever its suffix."""
    found = [p for p in sorted(inputs.iterdir()) if p.name == stem or p.name.startswith(f"{stem}.")]
    found = [p for p in found if p.suffix != ".json"]
    if len(found) != 1:
        raise InputError(f"{len(found)} files were received as {stem}, and one is needed")
    return found[0]


def told(fault: MedsegError) -> dict[str, Any]:
    """A fault as a message; its source, which may be a path, is left out."""
    return {"fault": fault.fault, "hint": fault.hint, "exit_code": fault.exit_code}
