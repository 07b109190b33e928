"""Two label maps in memory, measured as files are. Private: the public name is `medseg.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import LabelMap
from medseg.evaluation import protocols
from medseg.evaluation.evaluate import challenge_of, with_rules
from medseg.evaluation.label_names import ignoring, of_one_kind, require_some
from medseg.evaluation.measure import EvaluationOptions, measure_maps
from medseg.evaluation.reading import Maps
from medseg.evaluation.result import Evaluation
from medseg.findings.finding import Finding
from medseg.metrics.case import SurfaceMode, Tolerance, ignored_nowhere
from medseg.metrics.counts import present_values
from medseg.metrics.instances import InstanceRule
from medseg.segmentation.label_sources import named_structures


def evaluate_maps(
    predicted: LabelMap,
    reference: LabelMap,
    *,
    structures: StructureSet | Path | None = None,
    ignore: int | None = None,
    tolerance_mm: Tolerance = None,
    surface: bool = True,
    mode: SurfaceMode | None = None,
    protocol: str = "",
    lesions: Sequence[str] = (),
    instances: InstanceRule | None = None,
    threads: int = 1,
    findings: tuple[Finding, ...] = (),
) -> Evaluation:
    """Measure a prediction in memory; arguments as `evaluate`, which measures files.

    Args:
        findings: doubts and warnings about the prediction.

    Raises:
        InputError: neither map holds a label, and nobody says what to measure.
        GridMismatchError: they lie on different grids.
        UsageError: settings do not go together.
    """
    challenge = challenge_of(protocol, None, mode, surface)
    mode = challenge.mode if challenge else mode or "surfel"
    protocols.require_surface(tolerance_mm, surface, mode)
    if isinstance(structures, Path):
        structures = named_structures(structures)
    if structures is None and challenge and challenge.regions:
        structures = challenge.regions
    if structures is None:
        values = {v for m in (predicted, reference) for v in present_values(m.array)} - {0}
        structures = from_labels({value: str(value) for value in sorted(values)})
        require_some(structures, Path("labels"))
    left_out: tuple[str, ...] = ()
    if ignore is not None:
        structures, left_out = ignoring(structures, ignore)
    if structures.ignore is not None:
        reference = replace(reference, ignore=structures.ignore)
    if instances and instances.of == "maps":
        raise UsageError("maps of instances lie beside files, and labels in memory do not", hint="give files")
    if instances and instances.of == "values":
        structures = of_one_kind(structures)
    options = EvaluationOptions(tolerance_mm, "", surface, mode, threads, challenge)
    options = with_rules(options, structures, lesions, instances)
    case, rows, _ = measure_maps(Maps(predicted, reference), structures, options)
    lost = (*left_out, *ignored_nowhere(ignore, (case,)))
    lesions_of, stated = {case.case_id: rows}, {case.case_id: findings}
    return Evaluation((case,), structures, options, warnings=lost, lesions=lesions_of, stated=stated)
