"""One case of `medseg evaluate`: read, measure and write it, perhaps in its own process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medseg.core.digest import hexdigest
from medseg.core.errors import MedsegError, ResourceError
from medseg.core.structures import StructureSet
from medseg.data.objects import at_odds
from medseg.evaluation import protocols
from medseg.evaluation.case_file import COHORT_PAGE, CaseStore, StoredCase, picture
from medseg.evaluation.detections import Detected, detections_of, unscored
from medseg.evaluation.pairs import FilePair
from medseg.evaluation.reading import Maps, read_maps
from medseg.findings.finding import Finding, refused
from medseg.io import ReadOptions, digest_of, read_scan
from medseg.io.atomic import atomic_write
from medseg.io.names import instances_beside
from medseg.metrics.case import CaseResult, SurfaceMode, Tolerance, evaluate_case, without_ignored
from medseg.metrics.instances import InstanceRule
from medseg.metrics.lesions import GLIOMA, LesionRow, LesionRule, lesion_rows, lesion_values
from medseg.segmentation.instances import instances_in
from medseg.segmentation.prediction import stated_verdict

MISSING = "the prediction is missing"
UNUSABLE = "the prediction cannot be used: "

Scan = Path | Mapping[str, Path]


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation.

    Attributes:
        tolerance_mm: of the NSD, for all structures or by name; None leaves the NSD out.
        tolerance_source: where the tolerance comes from, for the record.
        surface: False leaves all distances out.
        mode: definition of a surface: "surfel" (area-weighted, primary) or "voxel".
        threads: that work on one case.
        protocol: of a challenge, whose values come beside the usual ones.
        lesions: structures that are measured lesion by lesion.
        rule: when a lesion is found.
        instances: how connected components are matched; None leaves panoptic quality out.
        reading: decisions that label files leave open.
    """

    tolerance_mm: Tolerance = None
    tolerance_source: str = ""
    surface: bool = True
    mode: SurfaceMode = "surfel"
    threads: int = 1
    protocol: protocols.Protocol | None = None
    lesions: tuple[str, ...] = ()
    rule: LesionRule = GLIOMA
    instances: InstanceRule | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class Task:
    """One case to measure.

    Attributes:
        pair: its label files.
        structures: what to measure.
        options: how.
        alone: there is no other case, and a fault is raised.
        file: where to write it, and where it may stand already; None writes nothing.
        scan: whose slices its page shows; None makes no page.
    """

    pair: FilePair
    structures: StructureSet
    options: EvaluationOptions
    alone: bool = False
    file: CaseStore | None = None
    scan: Scan | None = None

    @property
    def wants_maps(self) -> bool:
        """Whether maps of instances beside the label files are measured."""
        return self.options.instances is not None and self.options.instances.of == "maps"


@dataclass(frozen=True)
class Measured:
    """The result of one case.

    Attributes:
        case: the measurements; None where there are none, and no mean counts the case.
        digests: sha256 of the files: `reference`, `prediction`.
        lesions: of the structures that were asked for.
        detections: objects with scores, by structure, where these were asked for and are stated.
        fault: why a file cannot be used; of the prediction, `case` counts it as missed.
        stated: doubts and warnings that the prediction's summary states of it.
        page: the page of the case, if there is one.
        no_page: why the page that was wanted could not be made.
    """

    case: CaseResult | None
    digests: Mapping[str, str] = field(default_factory=dict)
    lesions: tuple[LesionRow, ...] = ()
    detections: Mapping[str, Detected] = field(default_factory=dict)
    fault: MedsegError | None = None
    stated: tuple[Finding, ...] = ()
    page: Path | None = None
    no_page: str = ""


def measure(task: Task) -> Measured:
    """Measure one case, unless it is done; faults become part of the result.

    A prediction that cannot be used counts as one that is missing. A case whose reference cannot be used, or
    for which the machine does not suffice, is not measured.

    Raises:
        MedsegError: the case is alone and at fault, or its results cannot be written.
    """
    measured, maps = _contained(task)
    measured = measured if maps is None else _written(task, measured, maps)
    return replace(measured, stated=_stated(task.pair, measured))


def died(task: Task) -> Measured:
    """The result of a case whose process died."""
    text = "the process that measured it died, perhaps for lack of memory"
    return Measured(None, fault=ResourceError(text, source=task.pair.case_id, hint="give fewer --workers"))


def _stated(pair: FilePair, measured: Measured) -> tuple[Finding, ...]:
    """Doubts and warnings that `predict` left beside a prediction that was measured."""
    if pair.prediction is None or measured.case is None or measured.case.failure:
        return ()
    return refused(stated_verdict(pair.prediction).findings)


def _contained(task: Task) -> tuple[Measured, Maps | None]:
    """What became of a case, and its maps where it has just been measured."""
    digests = _digests(task)
    found: MedsegError
    try:
        finished = _finished(task, digests)
        return (finished, None) if finished else _measured(task, digests)
    except MedsegError as fault:
        found = fault
    except MemoryError:
        found = ResourceError("out of memory", source=task.pair.case_id, hint="give fewer --workers")
    except Exception as fault:
        if task.alone:
            raise
        found = MedsegError(f"a bug in medseg ({type(fault).__name__})", source=task.pair.case_id)
    if task.alone:
        raise found
    return Measured(None, digests, fault=found), None


def _measured(task: Task, digests: Mapping[str, str]) -> tuple[Measured, Maps]:
    pair, structures = task.pair, task.structures
    maps, fault = read_maps(pair, structures, with_numbers=task.wants_maps, alone=task.alone)
    failure = None
    if pair.prediction is None:
        failure = MISSING
    elif fault is not None:
        failure = UNUSABLE + pair.said(fault)
    case, lesions, maps = measure_maps(maps, structures, task.options, case_id=pair.case_id, failure=failure)
    case = replace(case, doubts=case.doubts + unscored(pair.prediction, maps.numbers))
    found = detections_of(pair.prediction, maps[:2], maps.numbers, structures)
    return Measured(case, digests, lesions, found, fault), maps


def measure_maps(
    maps: Maps,
    structures: StructureSet,
    options: EvaluationOptions,
    *,
    case_id: str = "",
    failure: str | None = None,
) -> tuple[CaseResult, tuple[LesionRow, ...], Maps]:
    """Measure a pair in memory.

    Args:
        maps: on one grid.
        structures: what to measure.
        options: how.
        case_id: what to call the case.
        failure: why there is no prediction to measure, if so.

    Returns:
        The measurements, the lesions that were asked for, and the maps without what is to be ignored.

    Raises:
        GridMismatchError: the grids differ.
        UsageError: the options make no sense for these structures.
    """
    case = evaluate_case(
        maps.predicted,
        maps.reference,
        structures,
        tolerance_mm=options.tolerance_mm,
        surface=options.surface,
        mode=options.mode,
        case_id=case_id,
        threads=options.threads,
        instances=options.instances,
        numbers=None if maps.numbers is None else (maps.numbers[0].array, maps.numbers[1].array),
    )
    if maps.numbers is not None:
        told = [m.array[n.array > 0] for n, m in zip(maps.numbers, maps[:2], strict=True)]
        own, true = (at_odds(n, m, np.union1d(*told)) for n, m in zip(maps.numbers, maps[:2], strict=True))
        case = replace(case, doubts=case.doubts + own, reference_doubts=case.reference_doubts + true)
    if failure is not None:
        case = replace(case, failure=failure, doubts=())
    maps = Maps(*without_ignored(maps.predicted, maps.reference), maps.numbers_without_ignored())
    if options.protocol is not None:
        case = options.protocol.extended(case, maps.predicted, maps.reference, structures, options.threads)
    return *_with_lesions(case, maps, structures, options), maps


def _with_lesions(
    case: CaseResult, maps: Maps, structures: StructureSet, options: EvaluationOptions
) -> tuple[CaseResult, tuple[LesionRow, ...]]:
    """The case with lesion-wise values of the structures that were asked for, and their lesions."""
    if not options.lesions:
        return case, ()
    predicted, reference = maps.predicted.array, maps.reference.array
    rows = []
    for row, structure in zip(case.rows, structures, strict=True):
        values = dict(row.metrics)
        if row.name in options.lesions and "lesion_dice" not in values:
            masks = structures.mask(reference, structure), structures.mask(predicted, structure)
            values |= lesion_values(*masks, case.grid, options.rule, threads=options.threads)
        rows.append(replace(row, metrics=values))
    found = lesion_rows(predicted, reference, case.grid, structures, options.lesions, options.rule)
    return replace(case, rows=tuple(rows)), found


def _finished(task: Task, digests: Mapping[str, str]) -> Measured | None:
    """The case as it was measured before, where the same would come of it."""
    file, pair = task.file, task.pair
    if file is None or len(digests) < (1 if pair.prediction is None else 2):
        return None
    stored = file.read(pair.case_id, digests)
    if stored is None:
        return None
    wanted = task.scan if stored.result.failure is None else None
    if wanted is not None and stored.shown != _page_digest(task, wanted):
        return None
    page = file.page if stored.shown else None
    return Measured(stored.result, digests, stored.lesions, stored.detections, page=page)


def _written(task: Task, measured: Measured, maps: Maps) -> Measured:
    """The case with its page; both are written, the numbers last.

    Raises:
        MedsegError: a file cannot be written.
    """
    file, case = task.file, measured.case
    if file is None or case is None:
        return measured
    for stale in (file.page, picture(file.page)):
        stale.unlink(missing_ok=True)
    if task.scan is not None and case.failure is None:
        measured = _with_page(task, task.scan, file.page, measured, case, maps)
    shown = _page_digest(task, task.scan) if task.scan is not None and measured.page else None
    file.write(measured.digests, StoredCase(case, measured.lesions, measured.detections, shown))
    return measured


def _with_page(
    task: Task, scan: Scan, path: Path, measured: Measured, case: CaseResult, maps: Maps
) -> Measured:
    """The case with its page written, or why there is none; what draws it is imported only for it.

    Raises:
        MedsegError: the file cannot be written.
    """
    from medseg.metrics.measurement import Measurement
    from medseg.reporting.case.options import ReportOptions
    from medseg.reporting.case.page import case_of, write_page
    from medseg.reporting.drawing.thumbnails import thumbnail_png

    options = ReportOptions(case_id=task.pair.case_id, rule=task.options.rule)
    if task.pair.prediction is not None:
        options = options.with_verdict(stated_verdict(task.pair.prediction))
    measurement = Measurement(maps.predicted, maps.reference, task.structures, case, measured.lesions)
    try:
        if maps.numbers is not None:
            found = instances_in(maps.numbers[0], maps.predicted, task.structures)
            options = replace(options, instances=found)
        volume = read_scan(scan, task.pair.reading)
        page = case_of(volume, maps.predicted, task.structures, against=measurement, options=options)
        small = thumbnail_png(
            maps.predicted.array,
            volume.grid,
            task.structures,
            image=np.asarray(volume.array[0]),
            reference=maps.reference.array,
            orientation_known=volume.form.orientation_known,
        )
    except MedsegError as fault:
        return replace(measured, no_page=fault.fault)
    except Exception as fault:
        return replace(measured, no_page=f"a bug in medseg ({type(fault).__name__})")
    hashes = {
        "Scan SHA-256": _digest(scan),
        "Segmentation SHA-256": measured.digests["prediction"],
        "Reference SHA-256": measured.digests["reference"],
    }
    with atomic_write(picture(path), overwrite=True) as temporary:
        temporary.write_bytes(small)
    page = replace(page, facts=(*page.facts, *hashes.items()))
    write_page(path, page, cohort=f"../{COHORT_PAGE}", overwrite=True)
    return replace(measured, page=path)


def _digests(task: Task) -> dict[str, str]:
    """Of the files of a pair that can be read."""
    paths = {"reference": task.pair.reference, "prediction": task.pair.prediction}
    if task.wants_maps:
        beside = {f"{role} instances": path and instances_beside(path) for role, path in paths.items()}
        paths |= {role: path for role, path in beside.items() if path and path.is_file()}
    found = {role: _digest(path) for role, path in paths.items() if path is not None}
    return {role: text for role, text in found.items() if text}


def _page_digest(task: Task, scan: Scan) -> str:
    """Of what a case's page shows beside its label files: the scan, and what the model said of its result."""
    verdict = stated_verdict(task.pair.prediction) if task.pair.prediction else None
    said = None if verdict is None else [[f.content() for f in verdict.findings], verdict.known]
    return hexdigest(json.dumps([_digest(scan), said]))


def _digest(source: Scan) -> str:
    """Empty where a file cannot be read."""
    try:
        return digest_of(source)
    except MedsegError:
        return ""
