"""`medseg.predict`: what the command does, from Python. Private: the name is `medseg.predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, overload

from medseg.api.options import silent
from medseg.core.errors import UsageError, counted
from medseg.core.keywords import hinted
from medseg.findings.finding import Finding, is_doubtful
from medseg.io import ReadOptions
from medseg.io.names import require_page
from medseg.io.objects import is_path
from medseg.model.file import DEFAULT_MODEL
from medseg.prediction.job import Outcome, PredictOptions
from medseg.prediction.predict import predict as predict_cases
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.prediction import PredictionSummary
from medseg.segmentation.segmenter import Loader

Scan = str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, str | PathLike[str]]
"""A scan or a folder of scans, several of them, or a file for each channel by name."""


@dataclass(frozen=True)
class Prediction:
    """The files of one case, and what they say.

    Attributes:
        case: what it is called.
        labels: the label file.
        summary: structures, volumes and provenance, as JSON.
        report: the page, if one was asked for.
        probabilities: of each structure by name, if asked for.
        volumes_ml: of each structure.
        findings: all that a reader must know, the gravest first.
        skipped: the same result was there already.
    """

    case: str
    labels: Path
    summary: Path
    report: Path | None
    probabilities: Mapping[str, Path]
    volumes_ml: Mapping[str, float]
    findings: tuple[Finding, ...]
    skipped: bool = False

    @property
    def verdict(self) -> Literal["ok", "doubtful"]:
        """Whether any finding speaks against the result."""
        return "doubtful" if is_doubtful(self.findings) else "ok"


class Predictions(Sequence[Prediction]):
    """The cases of one call; of an only one, its attributes are here too."""

    def __init__(self, cases: Sequence[Prediction]) -> None:
        self.cases = tuple(cases)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.cases[index]

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.cases)

    def __repr__(self) -> str:
        return f"Predictions({', '.join(f'{c.case}: {c.verdict}' for c in self.cases)})"

    @property
    def only(self) -> Prediction:
        """The one case.

        Raises:
            UsageError: there are several.
        """
        if len(self.cases) != 1:
            raise UsageError(f"there are {counted(len(self.cases), 'case')}", hint="choose one by its number")
        return self.cases[0]

    @property
    def labels(self) -> Path:
        """The label file of the one case."""
        return self.only.labels

    @property
    def report(self) -> Path | None:
        """The page of the one case."""
        return self.only.report

    @property
    def volumes_ml(self) -> Mapping[str, float]:
        """Volumes of the one case."""
        return self.only.volumes_ml

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What a reader of the one case must know."""
        return self.only.findings

    @property
    def verdict(self) -> Literal["ok", "doubtful"]:
        """Whether anything speaks against the result of the one case."""
        return self.only.verdict


@hinted
def predict(
    scan: Scan,
    output: str | Path | None = None,
    *,
    model: str | Path | Sequence[str | Path] = DEFAULT_MODEL,
    channels: Sequence[str] = (),
    probabilities: bool = False,
    report: bool | str | Path = False,
    dicom: bool = False,
    dicom_seg: Literal["binary", "labelmap"] = "binary",
    bids: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    engine: Literal["auto", "openvino", "torch"] = "auto",
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto",
    threads: int = 0,
    max_memory: int | None = None,
    tta: bool | None = None,
    refine: bool | None = None,
    prune: int = 0,
    scales: Sequence[float] = (),
    least_score: float | None = None,
    force: bool = False,
    time_budget: float | None = None,
    use_form: Literal["sform", "qform"] | None = None,
    assume_ras: bool = False,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Predictions:
    """Segment scans into files, as `medseg predict` does.

    Args:
        scan: a scan, a DICOM series, a folder of scans, several of them, or a file for each channel by name.
        output: a file or a folder; None writes beside the scan.
        model: a model file, the name of a packaged model, or several of them.
        channels: what the volumes of a 4D file are called.
        probabilities: write those of each structure too.
        report: write a page about each case; a path, `.html` or `.pdf`, where it is to go elsewhere.
        dicom: write DICOM objects of the series' study too.
        dicom_seg: what kind of DICOM segmentation.
        bids: write a BIDS derivative.
        strict: a doubtful result is an error, and is not written.
        overwrite: replace results that exist.
        device, engine, precision, threads, max_memory, tta, refine, prune, scales, least_score, force,
            time_budget: see `medseg.load`.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
        say: called with sentences about a folder that is read.

    Returns:
        A sequence of `Prediction`; of an only case, `labels`, `report`, `volumes_ml`, `findings` and
        `verdict` are attributes of it.

    Raises:
        UsageError: the inputs, places or settings make no sense together.
        PartialBatchError: of several cases some failed; the others are written.
        MedsegError: the only case failed.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg
    >>> medseg.predict("scan.nii.gz", raport=True)
    Traceback (most recent call last):
    TypeError: predict() has no keyword 'raport'; did you mean 'report'?
    """
    page = report if isinstance(report, bool) else Path(report)
    if isinstance(page, Path):
        require_page(page)
    reading = ReadOptions(use_form, assume_ras, fill_nan, volume, series)
    kept = (probabilities, page, dicom, strict, overwrite)
    options = PredictOptions(reading, tuple(channels), *kept, bids=bids, dicom_seg=dicom_seg)
    running = (device, engine, precision, threads, max_memory, tta, refine, prune, tuple(scales))
    settings = SegmenterOptions(
        *running, least_score, keep_probabilities=probabilities, force=force, time_budget=time_budget
    )
    names = [model] if isinstance(model, str | Path) else list(model)
    loader = Loader(tuple(map(str, names)), settings).absolute()
    out = None if output is None else Path(output)
    outcomes = predict_cases(_words(scan), loader, out, options, say=say or silent)
    return Predictions([_prediction(outcome, options) for outcome in outcomes])


def _words(scan: Scan) -> list[str]:
    """The scan as a command line names it."""
    if isinstance(scan, Mapping):
        return [f"{name}={_path(path)}" for name, path in scan.items()]
    return [_path(part) for part in (scan if isinstance(scan, list | tuple) else [scan])]


def _path(scan: object) -> str:
    if not is_path(scan):
        raise UsageError(
            f"a scan to predict into files is a path, not {type(scan).__name__}",
            hint="segment images and arrays with medseg.load(MODEL)(scan)",
        )
    return fspath(scan)


def _prediction(outcome: Outcome, options: PredictOptions) -> Prediction:
    """What became of a case that did not fail."""
    summary = outcome.summary or PredictionSummary()
    volumes = {row.name: row.volume_ml for row in summary.structures}
    files = options.outputs(outcome.target, volumes)
    return Prediction(
        outcome.stem,
        files.labels,
        files.summary,
        files.report,
        files.probabilities,
        volumes,
        summary.stated_findings() or (),
        outcome.skipped,
    )
