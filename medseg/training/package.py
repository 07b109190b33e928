"""From trained weights to a model file: converted, compared with the reference engine, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

from medseg.core.errors import SelfCheckError, counted
from medseg.core.software import SOFTWARE
from medseg.core.structures import IGNORED
from medseg.core.volume import LabelMap
from medseg.data.cards import Card
from medseg.data.cases import PreparedCase, Reader, is_whole
from medseg.data.layouts import CaseFiles
from medseg.inference import engines
from medseg.inference.engines.base import EngineName, Precision
from medseg.inference.engines.torch import largest_difference
from medseg.inference.predictor import Predictor, labels_from_probabilities
from medseg.metrics.case import CaseResult, evaluate_case
from medseg.metrics.cohort import summarise
from medseg.metrics.counts import joint_counts
from medseg.metrics.instances import InstanceRule
from medseg.metrics.overlap import dice
from medseg.model.evidence import Confidence, EngineAgreement, Evidence, Score, SpacingRange, VolumeRange
from medseg.model.file import Model
from medseg.model.provenance import CaseCounts, Provenance
from medseg.model.spec import ModelSpec, PostprocessSpec, WeightType
from medseg.reporting.drawing.thumbnails import thumbnail_png
from medseg.segmentation.calibration import calibrated, observed
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.result import Segmentation
from medseg.segmentation.segmenter import Segmenter
from medseg.segmentation.verdict import ConfidenceTally
from medseg.training.ending import COMPARED_CASES
from medseg.training.largest import Gains, gains_of
from medseg.training.loop import Trainer
from medseg.training.object_validation import ObjectValidator
from medseg.training.processor import return_memory
from medseg.training.recipe import MetricsSpec, Recipe
from medseg.training.setup import best_of
from medseg.training.split import Split

Say = Callable[[str], None]

BEYOND: dict[str, Any] = {"probability": 1.0, "label_disagreement": 1.0, "dice": 1.0, "volume": 1.0}
"""How an engine differs whose answer is not finite."""
PARITY = 1e-3
"""Largest difference of a probability between OpenVINO and torch, both in float32, on a real scan."""


def provenance(recipe: Recipe, card: Card, split: Split) -> Provenance:
    """What a model was trained on; no case is named."""
    return Provenance(
        software=f"{SOFTWARE}, torch {version('torch')}",
        recipe=recipe.name,
        dataset=card.description,
        licence_of_data=card.licence,
        source_of_data=card.source,
        weights_may_be_shared=card.weights_may_be_shared,
        cases=CaseCounts(len(split.train), len(split.selection), len(split.validation)),
        fold=split.fold,
        folds=split.folds,
        seed=split.seed,
    )


def package(
    trainer: Trainer,
    spec: ModelSpec,
    cases: Sequence[PreparedCase],
    threads: int,
    kept_as: WeightType = "float32",
    spacing_mm: SpacingRange | None = None,
    coarse: Model | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Model:
    """The best weights of a training as a model, its engines compared on whole scans.

    Args:
        trainer: after its last step.
        spec: what the model is.
        cases: of the training, prepared.
        threads: of the processor; 0 takes what there is.
        kept_as: type the weights are stored in.
        spacing_mm: voxel sizes met in training, where the cases do not show them.
        coarse: the coarse stage of a cascade.
        say: called where the model keeps no graph, because the graph's answers are not the network's.

    Raises:
        SelfCheckError: the converted graph does not compute what the network does, or a weight does not fit
            the type it is kept as.
    """
    return_memory()
    weights, graph = best_of(trainer, spec.network.in_channels, kept_as)
    training = replace(
        spec.training,
        epochs=trainer.progress.epoch,
        of_epochs=trainer.epochs,
        steps=trainer.progress.step,
        seconds=round(trainer.progress.seconds),
        selection_dice=round(trainer.progress.best, 4) if trainer.measure == "Dice" else None,
    )
    spec = replace(spec, training=training, postprocess=_with_least_score(spec.postprocess, trainer))
    model = Model(spec, weights, graph, coarse=coarse)
    agreement, sure = _agreement(model, trainer.network, cases[:COMPARED_CASES], threads or None)
    parity = agreement["openvino f32"].probability if "openvino f32" in agreement else 0.0
    if parity > PARITY:
        say(
            f"OpenVINO differs from torch by {parity:.2g} in probability (limit {PARITY}), so torch runs the "
            "model"
        )
        model = replace(model, graph=None)
        agreement = {name: found for name, found in agreement.items() if not name.startswith("openvino")}
    evidence = Evidence(
        engines=agreement,
        confidence=Confidence(round(min(sure), 4), len(sure), round(float(np.median(sure)), 4)),
        volumes_ml=volume_ranges([case.volumes_ml for case in cases if case.whole]),
        spacing_mm=spacing_mm or _spacing_range(cases),
    )
    return replace(model, spec=replace(model.spec, evidence=evidence))


def _with_least_score(given: PostprocessSpec, trainer: Trainer) -> PostprocessSpec:
    """With the score from which objects are taken, where a network finds such and the recipe says none."""
    if given.least_score is not None or not isinstance(trainer.validate, ObjectValidator):
        return given
    return replace(given, least_score=trainer.validate.least_score(trainer.best_weights()))


@dataclass(frozen=True, eq=False)
class Measured:
    """A model with what its measurement showed.

    Attributes:
        model: with how well it did, and what to expect.
        results: of each case it had not seen.
        thumbnails: a picture of each, by its id.
        gains: what it would do to each to keep the largest component of a structure alone.
    """

    model: Model
    results: tuple[CaseResult, ...]
    thumbnails: dict[str, bytes]
    gains: tuple[Gains, ...]


def measure(
    model: Model,
    files: Sequence[CaseFiles],
    read: Reader,
    metrics: MetricsSpec,
    running: SegmenterOptions,
    say: Say,
) -> Measured:
    """Predict cases the model has not seen, as a user would; `running` states how."""
    say(f"measuring {counted(len(files), 'case')} outside the training")
    return_memory()
    segmenter = Segmenter([model], replace(running, observe=True))
    results, seen = [], []
    thumbnails: dict[str, bytes] = {}
    gains = []
    for case in files:
        volume, reference = read(case)
        found = segmenter(volume)
        if is_whole(reference):  # how much of a structure there is, is not known of the others
            seen.append(observed(found, reference))
        results.append(
            evaluate_case(
                found.labels,
                reference,
                segmenter.structures,
                tolerance_mm=metrics.tolerance_mm,
                case_id=case.case_id,
                **_objects(found, reference, model.spec),
            )
        )
        gains.append(gains_of(found.labels, reference, segmenter.structures))
        thumbnails[case.case_id] = thumbnail_png(
            found.labels.array,
            volume.grid,
            segmenter.structures,
            image=volume.array[0],
            reference=reference.array,
            orientation_known=volume.form.orientation_known,
        )
    learnt = replace(calibrated(seen, segmenter.structures), validation=_scores(results))
    evidence = model.spec.evidence.updated(learnt)
    spec = replace(model.spec, evidence=evidence)
    return Measured(replace(model, spec=spec), tuple(results), thumbnails, tuple(gains))


def _objects(found: Segmentation, reference: LabelMap, spec: ModelSpec) -> dict[str, Any]:
    """What `evaluate_case` takes to measure objects one by one, where all structures are told apart."""
    own = spec.postprocess.instances
    every = spec.network.finds_objects or (own is not None and not own.structures)
    if found.instances is None or reference.numbers is None or not every:
        return {}
    numbers = (found.instances.labels.array, reference.numbers)
    return {"instances": InstanceRule(of="maps"), "numbers": numbers}


def _scores(results: Sequence[CaseResult]) -> tuple[Score, ...]:
    kept = ("dice", "hd95_mm", "assd_mm", "nsd", "volume_diff_ml", "pq")
    return tuple(
        Score(
            structure=row.structure,
            metric=row.metric,
            unit=row.unit,
            n=row.n,
            mean=row.mean,
            ci95=(row.ci_low, row.ci_high),
            median=row.median,
            min=row.min,
            max=row.max,
        )
        for row in summarise(results)
        if row.metric in kept
    )


def _agreement(
    model: Model, network: nn.Module, cases: Sequence[PreparedCase], threads: int | None
) -> tuple[dict[str, EngineAgreement], list[float]]:
    """How OpenVINO in f32, and both in bf16, differ from torch in f32 on whole prepared scans.

    Returns:
        The largest differences, and how sure the model was of each scan (see `ConfidenceTally.confidence`).
    """
    structures = model.spec.structure_set
    values = structures.values_by_index

    def predictor_on(name: EngineName, precision: Precision) -> Predictor:
        return Predictor.of(model.spec, [engines.load(model, name, precision=precision, threads=threads)])

    reference = predictor_on("torch", "f32")
    others = {"torch bf16": predictor_on("torch", "bf16")}
    for precision in engines.precisions("openvino") if model.graph else ():
        others[f"openvino {precision}"] = predictor_on("openvino", precision)
    found = {name: EngineAgreement(0.0, 0.0, len(cases)) for name in others}
    sure = []
    for case in cases:
        return_memory()
        expected = reference.probabilities(case.prepared.array)
        sure.append(ConfidenceTally.all_of([(slice(None), expected)], structures).confidence)
        labels = labels_from_probabilities(expected, structures)
        truth, labelled = values[case.indices], case.indices != IGNORED
        for name, predictor in others.items():
            return_memory()
            try:
                probabilities = predictor.probabilities(case.prepared.array)
            except SelfCheckError:  # numbers beyond the range of a shorter type
                if name.endswith("f32"):
                    raise
                found[name] = replace(found[name], **BEYOND)
                continue
            other = labels_from_probabilities(probabilities, structures)
            figures = {
                "probability": largest_difference(network, probabilities, expected),
                "label_disagreement": float((other != labels).mean()),
                **_structure_changes(truth[labelled], labels[labelled], other[labelled], model),
            }
            largest = {key: max(getattr(found[name], key), value) for key, value in figures.items()}
            found[name] = replace(found[name], **largest)
    return found, sure


def _structure_changes(
    truth: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], other: np.ndarray[Any, Any], model: Model
) -> dict[str, float]:
    """Largest change over the structures of Dice against the reference, and of volume (a share)."""
    structures = model.spec.structure_set
    first, second = joint_counts(truth, labels, structures), joint_counts(truth, other, structures)
    changes = [abs(dice(second[name]) - dice(first[name])) for name in first]
    volumes = [
        abs(second[name].predicted - first[name].predicted) / max(1, first[name].predicted) for name in first
    ]
    return {"dice": float(np.nan_to_num(changes).max()), "volume": max(volumes)}


def volume_ranges(cases: Sequence[Mapping[str, float]]) -> dict[str, VolumeRange]:
    """Smallest and largest volume of each structure in reference labels that are whole.

    A structure that some of the cases lack has no smallest volume: a scan without it is nothing strange.

    Args:
        cases: of each, the volume in ml of the structures it has.

    >>> volume_ranges([{"liver": 1500.0, "tumour": 2.0}, {"liver": 1300.0}])["tumour"]
    VolumeRange(min=0.0, max=2.0, n=1)
    """
    found: dict[str, list[float]] = {}
    for case in cases:
        for name, volume in case.items():
            found.setdefault(name, []).append(volume)
    return {
        name: VolumeRange(
            min=round(min(volumes), 4) if len(volumes) == len(cases) else 0.0,
            max=round(max(volumes), 4),
            n=len(volumes),
        )
        for name, volumes in found.items()
    }


def _spacing_range(cases: Sequence[PreparedCase]) -> SpacingRange:
    """Voxel sizes met, sorted within each scan: the range of the smallest, middle and largest side."""
    sides = np.array([sorted(case.spacing_mm) for case in cases])
    low, high = (tuple(ends.round(4).tolist()) for ends in (sides.min(axis=0), sides.max(axis=0)))
    return SpacingRange(low, high)
