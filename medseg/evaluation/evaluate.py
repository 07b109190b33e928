"""`medseg evaluate`: measure predictions against references, files or folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.core.errors import GeometryError, InputError, UsageError
from medseg.core.structures import StructureSet
from medseg.evaluation import pool, protocols
from medseg.evaluation.detections import without_scores
from medseg.evaluation.folder import EvaluationFolder
from medseg.evaluation.label_names import ignoring, known_values, of_one_kind
from medseg.evaluation.measure import EvaluationOptions, Measured, Scan, Task, died, measure
from medseg.evaluation.pairs import FilePair, has_several, pair_files, references_of
from medseg.evaluation.result import Evaluation, settings_content
from medseg.io import ReadOptions
from medseg.metrics.case import SurfaceMode, Tolerance, ignored_nowhere
from medseg.metrics.instances import InstanceRule
from medseg.metrics.promise12 import Anchors
from medseg.prediction.requests import find_cases

FIRST_CHANNEL = "_0000"
"""Ending of a scan's name, as nnU-Net has it."""

Progress = Callable[[int, int, str], None]


def evaluate(
    pred: Path,
    ref: Path | None = None,
    *,
    structures: StructureSet | Path | None = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    tolerance_source: str = "",
    surface: bool = True,
    mode: SurfaceMode | None = None,
    threads: int = 1,
    protocol: str = "",
    anchors: Anchors | Path | None = None,
    lesions: Sequence[str] = (),
    instances: InstanceRule | None = None,
    model: str = "",
    workers: int = 1,
    out: Path | None = None,
    images: Path | None = None,
    reading: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a prediction, or a folder of them, against the reference of the same name.

    In folders, the prediction of the reference `X.nii.gz` is `X_seg` or `X` with any image suffix. The
    references may be a dataset in a layout that is known.
    A reference without a prediction is a failure: its structures are missed, and it stays in the
    denominator of every mean. So is, in a folder, a prediction that cannot be read or lies on another grid.
    A case of a folder whose reference cannot be read is excluded.

    Args:
        pred: a label file, or a folder of them.
        ref: likewise, or a table of a dataset. None where `pred` is a table of predictions and label files.
        structures: what the label values mean, or a JSON file that says so (see
            `named_structures`); without, every value found is a structure, named as the folder of references
            says where it does, else by its value.
        ignore: value of the references' voxels that nobody labelled, which count in no number; that which
            `structures` or the folder of references states, if None.
        tolerance_mm: of the NSD, in mm, for all structures or by name; it has no default.
        tolerance_source: where the tolerance comes from.
        surface: whether to measure distances.
        mode: definition of a surface, "surfel" or "voxel"; the protocol's if None, "surfel" without one.
        threads: that work on one case.
        protocol: of a challenge, one of `protocols.NAMES`, to measure by beside the usual.
        anchors: what a second observer reached, or a file that says so, for the PROMISE12 score.
        lesions: structures to measure lesion by lesion, by the protocol's rule where it has one.
        instances: how to match the connected components of each structure; None leaves them alone.
        model: name of the model that predicted, for the record.
        workers: processes that measure, a case each; 1 is this process. No number depends on it.
        out: a folder, to which everything is written: each case as soon as it is measured. A case that is
            there, of the same files, settings and version, is not measured again.
        images: scans under the names of the references, or the one scan, for a page of each case in `out`.
        reading: decisions that label files and scans leave open.
        overwrite: whether another evaluation in `out` may be replaced.
        progress: called with cases done, cases in all, and the id of the next, before the first and
            after each but the last.

    Raises:
        UsageError: file against folder, no reference has a prediction, names are ambiguous, the
            protocol or the tolerance does not go with the other settings, or `out` holds something else.
        InputError: the only file, or every file, cannot be read as labels, or no file holds a label.
        GridMismatchError: the two grids of a single pair differ; both files are named.
    """
    challenge = challenge_of(protocol, anchors, mode, surface)
    mode = challenge.mode if challenge else mode or "surfel"
    protocols.require_surface(tolerance_mm, surface, mode)
    if images is not None and out is None:
        raise UsageError("reports of cases are written to a folder", hint="give -o FOLDER")
    ref = references_of(Path(pred), ref)
    pairs, warnings = pair_files(Path(pred), ref, reading)
    pairs, structures, more = known_values(pairs, structures, ref, challenge, workers)
    structures, left_out = (structures, ()) if ignore is None else ignoring(structures, ignore)
    more = (*more, *left_out)
    if instances and instances.of == "values":
        structures = of_one_kind(structures)
    options = EvaluationOptions(tolerance_mm, tolerance_source, surface, mode, threads, challenge)
    options = with_rules(options, structures, lesions, instances)
    options = replace(options, reading=(reading or ReadOptions()).of_labels(2))
    settings = settings_content(structures, options)
    tasks = [Task(pair, structures, options, alone=not has_several(ref)) for pair in pairs]
    if images is not None:
        tasks, unseen = _with_scans(tasks, images)
        more = (*more, *unseen)
    folder = None if out is None else EvaluationFolder(Path(out), overwrite)
    if folder is not None:
        folder.begin(settings, pairs, [path for path in (pred, ref, images) if path is not None])
        files = folder.case_files(_identity(settings, structures), pairs)
        tasks = [replace(task, file=file) for task, file in zip(tasks, files, strict=True)]
    measured = _measured(tasks, workers, progress)
    cases = [found.case for found in measured if found.case is not None]
    warnings = (*warnings, *more, *(challenge.warnings if challenge else ()), *ignored_nowhere(ignore, cases))
    found = _evaluation(tasks, measured, warnings, model, ref.resolve().name)
    if folder is not None:
        folder.write(found)
    return found


def _evaluation(
    tasks: Sequence[Task], measured: Sequence[Measured], warnings: tuple[str, ...], model: str, title: str
) -> Evaluation:
    """What became of all cases.

    Raises:
        MedsegError: no prediction could be measured.
    """
    by_id = {task.pair.case_id: found for task, found in zip(tasks, measured, strict=True)}
    pairs = {task.pair.case_id: task.pair for task in tasks}
    faults = [found.fault for found in measured if found.fault is not None]
    if faults and all(found.case is None or found.case.failure for found in measured):
        raise faults[0]
    cases = tuple(found.case for found in measured if found.case is not None)
    detections = {case: found.detections for case, found in by_id.items() if found.detections}
    return Evaluation(
        cases,
        tasks[0].structures,
        tasks[0].options,
        {case: found.digests for case, found in by_id.items()},
        (*warnings, *without_scores(cases, detections)),
        model,
        title,
        excluded={case: _reason(found, pairs[case]) for case, found in by_id.items() if found.case is None},
        files={
            t.pair.case_id: (t.pair.reference.name, t.pair.prediction.name if t.pair.prediction else "")
            for t in tasks
        },
        stated={case: found.stated for case, found in by_id.items()},
        lesions={case: found.lesions for case, found in by_id.items() if found.case is not None},
        detections=detections,
        pages={case: found.page for case, found in by_id.items() if found.page},
        without_page={case: found.no_page for case, found in by_id.items() if found.no_page},
    )


def _reason(found: Measured, pair: FilePair) -> str:
    """Why a case could not be measured."""
    fault = found.fault
    if fault is None:
        return ""
    of_file = isinstance(fault, InputError | GeometryError)
    return f"the reference cannot be used: {pair.said(fault)}" if of_file else fault.fault


def _measured(tasks: Sequence[Task], workers: int, progress: Progress | None) -> list[Measured]:
    """What became of each case, in their order."""
    found: dict[int, Measured] = {}

    def tell() -> None:
        if progress is not None and len(found) < len(tasks):
            here = next(n for n in range(len(tasks)) if n not in found)
            progress(len(found), len(tasks), tasks[here].pair.case_id)

    tell()
    with closing(pool.each(measure, tasks, min(workers, len(tasks)), died)) as results:
        for number, result in results:
            found[number] = result
            tell()
    return [found[number] for number in range(len(tasks))]


def with_rules(
    options: EvaluationOptions,
    structures: StructureSet,
    lesions: Sequence[str],
    instances: InstanceRule | None,
) -> EvaluationOptions:
    """The options with lesions and instances; a protocol of lesions lists those of all structures.

    Raises:
        UsageError: there is no structure of a name.
    """
    rule = protocols.LESION_RULES.get(options.protocol.name) if options.protocol else None
    names = tuple(dict.fromkeys(structures[name].name for name in lesions))
    names = names or (structures.names if rule else ())
    return replace(options, lesions=names, rule=rule or options.rule, instances=instances)


def _identity(settings: Mapping[str, Any], structures: StructureSet) -> dict[str, Any]:
    """What the numbers of a case depend on beside its files."""
    left_out = ("tau_source", "bootstrap", "empty_policy", "failure_policy")
    named = [[s.value, s.name, s.side, list(s.members)] for s in structures]
    return {k: v for k, v in settings.items() if k not in left_out} | {"structures": named}


def _with_scans(tasks: Sequence[Task], images: Path) -> tuple[list[Task], tuple[str, ...]]:
    """The tasks with their scans, and what is to be said of cases without one.

    Raises:
        MedsegError: there are no scans.
    """
    scans: dict[str, Scan] = {case.stem: case.source for case in find_cases([str(images)])}
    if len(tasks) == 1 and images in scans.values():
        return [replace(tasks[0], scan=images)], ()
    ids = [task.pair.case_id for task in tasks]
    found = {case: scans.get(case, scans.get(f"{case}{FIRST_CHANNEL}")) for case in ids}
    lacking = [case for case in ids if found[case] is None]
    said = (f"no report was written for cases without a scan: {', '.join(lacking)}",) if lacking else ()
    return [replace(task, scan=found[task.pair.case_id]) for task in tasks], said


def challenge_of(
    name: str, anchors: Anchors | Path | None, mode: SurfaceMode | None, surface: bool
) -> protocols.Protocol | None:
    """The protocol asked for, if any; its distances need the surface, and define it."""
    if not name:
        if anchors is not None:
            raise UsageError("anchors need the protocol promise12, and no protocol is given")
        return None
    anchors = protocols.read_anchors(anchors) if isinstance(anchors, Path) else anchors
    found = protocols.protocol(name, anchors=anchors)
    if not surface or mode not in (None, found.mode):
        raise UsageError(
            f"the protocol {name} measures distances between surfaces, and needs the mode {found.mode}"
        )
    return found
