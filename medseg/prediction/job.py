"""One case of a prediction: read, segment and write it; faults become part of its outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg import __version__
from medseg.core.digest import hexdigest
from medseg.core.errors import MedsegError, ResourceError, out_of_memory, unexpected
from medseg.core.stopwatch import Stopwatch
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data import bids
from medseg.findings.finding import refuse
from medseg.inference.planner import Forecast
from medseg.io import (
    ReadOptions,
    digest_of,
    inspect,
    inspect_channels,
    lost_in,
    read_volume,
    require_holds,
    write_image,
    write_labels,
    write_overlay,
)
from medseg.io.atomic import write_text
from medseg.io.dicom.source import left_out, require_slices
from medseg.io.dicom.write_seg import SegmentationKind
from medseg.io.dicom.write_sr import Volumes
from medseg.io.names import COLOURS, format_of
from medseg.io.options import ImageInfo
from medseg.model.file import Model
from medseg.prediction import dicom as dicom_out
from medseg.prediction.outputs import Outputs
from medseg.prediction.requests import InputCase
from medseg.prediction.summary import expected_of, intervals_of, page_options, summary_of
from medseg.segmentation.calibration import Expected
from medseg.segmentation.prediction import (
    ModelIdentity,
    PredictionSummary,
    Provenance,
    ScanIdentity,
    Settings,
    Software,
)
from medseg.segmentation.result import Segmentation
from medseg.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from medseg.reporting.case.content import ReportCase


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Attributes:
        reading: decisions an input file leaves open.
        channels: names of the volumes of a 4D file.
        probabilities: write the probabilities of each structure.
        report: write a page about each case; a file, `.html` or `.pdf`, where it is to go elsewhere than
            beside the labels.
        dicom: write DICOM objects of the series' study too: segmentation, volumes, contours, page, picture.
        dicom_seg: what kind of DICOM segmentation.
        strict: a doubtful result is an error, and is not written.
        overwrite: replace results that exist.
        shard: which part of the cases, from 1, and of how many.
        bids: the results are a BIDS derivative, with a table of the labels beside each.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    channels: tuple[str, ...] = ()
    probabilities: bool = False
    report: bool | Path = False
    dicom: bool = False
    strict: bool = False
    overwrite: bool = False
    shard: tuple[int, int] = (1, 1)
    bids: bool = False
    dicom_seg: SegmentationKind = "binary"

    def outputs(self, labels: Path, structures: Iterable[str] = (), *, instances: bool = False) -> Outputs:
        """The files of a case beside its label file; of `structures` the probabilities, if they are wanted.

        >>> [path.name for path in PredictOptions(bids=True).outputs(Path("sub-01_dseg.nii"), ["stem"]).paths]
        ['sub-01_dseg.tsv', 'sub-01_dseg.nii', 'sub-01_dseg.json']
        """
        names = structures if self.probabilities else ()
        return Outputs.of(
            labels, names, report=self.report, dicom=self.dicom, bids=self.bids, instances=instances
        )


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case.

    Attributes:
        stem: its name.
        target: its label file.
        summary: the content of its `.json`; None when it failed.
        skipped: a result made from the same input, models and settings was there.
        error: why it failed.
    """

    stem: str
    target: Path
    summary: PredictionSummary | None = None
    skipped: bool = False
    error: MedsegError | None = None


@dataclass(frozen=True)
class Looked:
    """Estimates from the headers of a scan.

    Attributes:
        grid: of its voxels.
        channels: names to read its volumes by; None takes those of the file.
        forecast: tiles and memory.
    """

    grid: Grid
    channels: Sequence[str] | None
    forecast: Forecast


@dataclass
class Job:
    """One case: read, segmented, written; its failure contained, in a batch even a bug in medseg.

    What one step leaves the next is dropped as soon as it has been used.
    """

    case: InputCase
    target: Path
    segmenter: Segmenter
    options: PredictOptions
    batch: bool
    watch: Stopwatch = field(default_factory=Stopwatch)
    looked: Looked | None = None
    volume: Volume | None = None
    found: Segmentation | None = None
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        if self.case.of_dataset:
            self.case = self.case.taking(self.segmenter.channels)

    @property
    def outputs(self) -> Outputs:
        names, instances = self.segmenter.structures.names, self.segmenter.tells_instances
        return self.options.outputs(self.target, names, instances=instances)

    @cached_property
    def identity(self) -> Provenance:
        """What the result depends on: the bytes read, the models, the settings."""
        ran, reading = self.segmenter.options, self.options.reading
        return Provenance(
            self._scan,
            tuple(map(_identity, self.segmenter.models)),
            Settings(
                tuple(self.segmenter.engine_names),
                ran.tta,
                ran.refine,
                reading.content() | {"series": _hidden(reading.series)},
                ran.scales,
                ran.least_score,
                ran.time_budget,
            ),
            self.options.dicom_seg if self.options.dicom else None,
            Software("medseg", __version__),
        )

    @cached_property
    def _scan(self) -> ScanIdentity:
        """The bytes of the scan, and what its channels are called."""
        source = self.case.source
        channels = self.options.channels if isinstance(source, Path) else tuple(source)
        return ScanIdentity(digest_of(source), channels)

    def look(self) -> Looked | None:
        """What the headers say of the scan; None if `outcome` states why it is not predicted.

        This refuses everything that can be refused before a voxel is read, also in a dry run.
        """
        with self._contained():
            self.looked = self._looked()
        return self.looked

    def _looked(self) -> Looked | None:
        if self.options.dicom:
            structures, kind = self.segmenter.structures, self.options.dicom_seg
            dicom_out.require_dicom(self.case.first, structures, kind, self.options.reading)
        identity = self.identity if self.outputs.summary.is_file() else None
        stored = self.outputs.finished(identity) if self.batch and identity is not None else None
        if stored is not None:
            self.outcome = Outcome(self.case.stem, self.target, stored, skipped=True)
            return None
        self.outputs.refuse_existing(self.options.overwrite, self.case.files, identity)
        reading = self.options.reading
        wanted = self.options.channels or self._grey()
        info, names = inspect_channels(self.case.source, wanted, reading)
        if self.options.dicom:
            require_slices(info)
        require_holds(self.target, info.grid)
        self.segmenter.require(names, info.grid)
        return Looked(info.grid, wanted, forecast_of(info, self.segmenter))

    def read(self) -> None:
        """Read the scan, unless its result exists."""
        with self.watch.step("read"), self._contained():
            looked = self._looked()
            if looked is not None:
                _ = self.identity  # of the bytes as they are read
                reading = self.options.reading
                volume = read_volume(self.case.source, channels=looked.channels, options=reading)
                said = left_out(self.case.first, reading) if self.options.dicom else ()
                said += lost_in(self.target, volume.form)
                self.volume = replace(volume, warnings=(*volume.warnings, *self.case.warnings, *said))

    def _grey(self) -> tuple[str, ...] | None:
        """The model's one channel, where the scan is a picture in colour, which may be grey."""
        source, channels = self.case.source, self.segmenter.channels
        if len(channels) > 1 or isinstance(source, Mapping):
            return None
        if not format_of(source).is_picture:
            return None
        return channels if inspect(source, options=self.options.reading).names == COLOURS else None

    def segment(self) -> None:
        """Find the structures."""
        if self.volume is None:
            return
        with self._contained():
            self.found = self.segmenter(self.volume, watch=self.watch)
            if self.options.strict:
                refuse(self.found.findings)

    def write(self) -> Outcome:
        """Write the result, and return the outcome of the case."""
        volume, found, self.volume, self.found = self.volume, self.found, None, None
        if self.outcome is None and volume is not None and found is not None:
            with self._contained():
                summary = self._written(volume, found)
                self.outcome = Outcome(self.case.stem, self.target, summary)
        return self.outcome or Outcome(self.case.stem, self.target)

    def _written(self, volume: Volume, found: Segmentation) -> PredictionSummary:
        outputs, inputs, overwrite = self.outputs, self.case.files, self.options.overwrite
        expected = expected_of(found, self.segmenter)
        with self.watch.step("report"):
            page = self._page(volume, found, expected) if outputs.report or outputs.dicom else None
        outputs.labels.parent.mkdir(parents=True, exist_ok=True)
        with outputs.all_or_none():
            with self.watch.step("write"):
                for name, path in outputs.probabilities.items():
                    image = found.probabilities[name]
                    write_image(
                        path, image, volume.grid, form=volume.form, overwrite=overwrite, inputs=inputs
                    )
                if page is not None:
                    self._write_page(found, page, expected)
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
                if outputs.instances and found.instances is not None:
                    write_labels(
                        outputs.instances, found.instances.labels, overwrite=overwrite, inputs=inputs
                    )
                if outputs.table:
                    write_text(outputs.table, bids.table(found.structures), overwrite=overwrite)
            summary = summary_of(
                volume,
                found,
                expected,
                provenance=self.identity,
                labels_sha256=digest_of(outputs.labels),
                dicom_sha256=tuple(map(digest_of, outputs.dicom)),
                timing_s=self.watch.seconds,
            )
            summary.write(outputs.summary)
        return summary

    def _page(self, volume: Volume, found: Segmentation, expected: Mapping[str, Expected]) -> ReportCase:
        """What the page says; what draws it is imported only for it."""
        from medseg.reporting.case.page import case_of

        models = self.segmenter.models
        facts = {
            "Model": ", ".join(m.spec.name for m in models),
            "Model SHA-256": ", ".join(m.sha256 for m in models),
            "Input SHA-256": self._scan.sha256,
            "Engine": ", ".join(self.segmenter.engine_names),
            **self.identity.switched,
        }
        evidence = models[0].spec.evidence
        page = self.outputs.report
        scroll = page is not None and page.suffix.lower() != ".pdf"
        options = page_options(self.outputs.case, facts, found, expected, evidence, viewer=scroll)
        labels = LabelMap(found.labels.array, found.labels.grid, found.labels.form)
        return case_of(volume, labels, found.structures, options=options)

    def _write_page(self, found: Segmentation, page: ReportCase, expected: Mapping[str, Expected]) -> None:
        """The page itself, and the objects of the series' study, among which it is too."""
        from medseg.reporting.case.page import write_page

        models, outputs = self.segmenter.models, self.outputs
        if outputs.report:
            write_page(outputs.report, page, overwrite=self.options.overwrite)
        if not outputs.dicom:
            return
        from medseg.reporting.pdf import case_pdf

        dicom_out.write_dicom(
            outputs.labels.with_name(outputs.case),
            self.case.first,
            found.labels,
            found.structures,
            model=", ".join(m.spec.name for m in models),
            model_sha256=models[0].sha256,
            kind=self.options.dicom_seg,
            findings=found.findings,
            volumes=Volumes(intervals_of(expected), page.coverage, found.totals),
            pdf=case_pdf(page),
            picture=page.pictures[0].png,
            reading=self.options.reading,
            overwrite=self.options.overwrite,
        )

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
            self._failed(out_of_memory(self.case.first), fault)
        except Exception as fault:
            if not self.batch:
                raise
            self._failed(unexpected(fault, self.case.first), fault)

    def _failed(self, error: MedsegError, cause: Exception | None = None) -> None:
        error.__cause__ = cause
        self.volume = self.found = None
        self.outcome = Outcome(self.case.stem, self.target, error=error)


def _hidden(series: str | None) -> str | None:
    """A series as chosen; its UID, which identifies an examination, as a hash."""
    if series is None or series.isdigit():
        return series
    return hexdigest(series)


def _identity(model: Model) -> ModelIdentity:
    """What a result states of a model."""
    coarse = None if model.coarse is None else model.coarse.sha256
    return ModelIdentity(model.spec.name, model.sha256, coarse)


def forecast_of(info: ImageInfo, segmenter: Segmenter) -> Forecast:
    """The forecast from a scan's header.

    Raises:
        ResourceError: there is not enough memory for it.
    """
    scaled = (info.slope, info.inter) != (1.0, 0.0) or not info.dtype
    try:
        return segmenter.forecast(info.grid, 4 if scaled else np.dtype(info.dtype).itemsize)
    except ResourceError as fault:
        fault.source = str(info.path)
        raise
