"""The verdict on a result: the list of its findings.

Every check is driven by what the model knows of its own training (`ModelSpec.evidence`) and is silent where
it knows nothing. The findings themselves, their sentences and limits are those of `medseg.findings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import LabelMap, Volume
from medseg.findings import finding, prediction
from medseg.findings.finding import Finding
from medseg.findings.labels import Expected, check_label_map
from medseg.findings.scan import check_grid, check_scan
from medseg.inference.predictor import labels_from_probabilities
from medseg.inference.restore import Labels
from medseg.inference.tiles import FloatArray
from medseg.model.spec import ModelSpec
from medseg.preparation.intensity import rescaled
from medseg.segmentation.rows import BudgetSummary


@dataclass(frozen=True)
class Quality:
    """The verdict on one result.

    Attributes:
        findings: all that a reader must know, the gravest first.
        confidence: mean probability of the winning output over the labelled voxels, in [0, 1].
        sides: share of lateral voxels that keep their side when the scan is mirrored; None where there
            was no doubt, and no second prediction.
    """

    findings: tuple[Finding, ...] = ()
    confidence: float | None = None
    sides: float | None = None

    @property
    def flag(self) -> Literal["ok", "doubtful"]:
        """Whether any finding is a doubt."""
        return "doubtful" if finding.is_doubtful(self.findings) else "ok"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the result is doubtful, in sentences."""
        return finding.sentences(self.findings, "doubt")


@dataclass
class ConfidenceTally:
    """Accumulates what a verdict needs of probabilities while they are streamed.

    Attributes:
        structures: what the outputs are.
        promised: whether to gather what `estimated_dice` needs.
        quick: where (i, j, k) a time budget left only the quick look; None without a budget.
        runs: label values of the rows seen so far, each (rows, j, k).
        total: sum over the labelled voxels of the probability of the winning output.
        voxels: how many are labelled.
        shares: of each structure, three sums: voxels labelled, their probability, all probability.
        guessed: of each structure, two sums: voxels labelled, those of a quick look that are unsure.
    """

    structures: StructureSet
    promised: bool = False
    quick: NDArray[np.bool_] | None = None
    runs: list[Labels] = field(default_factory=list)
    total: float = 0.0
    voxels: int = 0
    shares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    guessed: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, rows: Iterable[tuple[slice, FloatArray]]) -> Iterator[tuple[slice, FloatArray]]:
        """Yield the probabilities unchanged, and accumulate."""
        for run, part in rows:
            labels = labels_from_probabilities(part, self.structures)
            highest = part.max(axis=0)
            sure = highest[labels != 0]
            self.runs.append(labels)
            self.total += float(sure.sum(dtype=np.float64))
            self.voxels += sure.size
            if self.promised:
                self._share(part, labels, highest)
            if self.quick is not None:
                self._guess(labels, self.quick[run] & (highest < self._certain))
            yield run, part

    @property
    def _certain(self) -> float:
        """The least probability of a label that is not unsure."""
        return prediction.UNSURE_REGION if self.structures.are_regions else prediction.UNSURE

    def _guess(self, labels: Labels, unsure: NDArray[np.bool_]) -> None:
        """Add these rows to the sums of each structure."""
        every, doubted = (self.structures.voxels(value_counts(found)) for found in (labels, labels[unsure]))
        for name, voxels in every.items():
            sums = np.array((voxels, doubted[name]), np.int64)
            self.guessed[name] = self.guessed.get(name, 0) + sums

    def _share(self, part: FloatArray, labels: Labels, highest: FloatArray) -> None:
        """Add these rows to the sums of each structure."""
        regions = self.structures.are_regions
        size = max(*self.structures.known_values, *self.structures.values) + 1
        flat = labels.ravel()
        voxels = np.bincount(flat, minlength=size)
        within = np.bincount(flat, highest.ravel(), minlength=size)
        for structure, output in zip(self.structures, part[-len(self.structures) :], strict=True):
            inside = output > 0.5
            labelled, sure = (
                (inside.sum(), output[inside].sum(dtype=np.float64))
                if regions
                else (voxels[structure.value], within[structure.value])
            )
            sums = np.array((labelled, sure, output.sum(dtype=np.float64)), dtype=np.float64)
            self.shares[structure.name] = self.shares.get(structure.name, 0) + sums

    @classmethod
    def all_of(cls, rows: Iterable[tuple[slice, FloatArray]], structures: StructureSet) -> ConfidenceTally:
        """What there is to see of a prediction that nobody else wants."""
        seen = cls(structures)
        for _ in seen.add(rows):
            pass
        return seen

    @property
    def labels(self) -> Labels:
        """On the prepared grid, (i, j, k), axis i to the right."""
        return np.concatenate(self.runs)

    @property
    def estimated_dice(self) -> dict[str, float]:
        """The Dice that the model's own probabilities promise for each structure it labelled.

        Were each voxel's probability right, the shared volume would be their sum over the labelled voxels,
        and the volume of the reference their sum over all. Networks promise too much: see
        `metrics.conformal`.
        """
        return {
            name: float(2 * within / (labelled + everywhere))
            for name, (labelled, within, everywhere) in self.shares.items()
            if labelled
        }

    @property
    def unsure(self) -> dict[str, float]:
        """Share of each structure that was labelled, where a quick look was unsure of it."""
        return {name: float(doubted / voxels) for name, (voxels, doubted) in self.guessed.items() if voxels}

    @property
    def confidence(self) -> float:
        """Mean probability of the winning output over the labelled voxels; 0 where none is labelled."""
        return self.total / self.voxels if self.voxels else 0.0


def assess(
    volume: Volume,
    labels: LabelMap,
    specs: Sequence[ModelSpec],
    seen: ConfidenceTally,
    features: Mapping[str, float],
    contrast: Mapping[str, float],
    mirrored: Callable[[], ConfidenceTally],
    budget: BudgetSummary | None = None,
) -> Quality:
    """Check one result and collect its findings.

    Args:
        volume: the scan as it was read.
        labels: what was found, on its grid.
        specs: of the models; the first one's evidence is that of the result.
        seen: of the prediction.
        features: of scan and result, see `features`.
        contrast: of the tissues, see `refine.Refined`.
        mirrored: predicts the mirrored scan; called only where the sides are in doubt.
        budget: what a time budget left of the prediction.
    """
    spec = specs[0]
    known = volume.form.orientation_known
    found = [*_check_scans(volume, specs), *check_grid(volume.grid, orientation_known=known)]
    found += prediction.check_contrast(contrast)
    if seen.voxels:
        found += prediction.check_confidence(seen.confidence, spec)
    found += check_label_map(
        labels.array, volume.grid, spec.structure_set, expected_of(spec), orientation_known=known
    )
    found += _check_evidence(spec)
    if budget is not None:
        computed = len(budget.tiles)
        found += prediction.check_budget(budget.seconds, computed, budget.of, seen.unsure)
    found += prediction.check_likeness(features, spec)
    sides = None
    if _sides_in_doubt(found, labels, spec.structure_set):
        sides = sides_agreement(seen.labels, mirrored().labels, spec.structure_set)
        found += prediction.check_sides(sides)
    found += finding.from_warnings(volume.warnings)
    return Quality(finding.ordered(found), seen.confidence, sides)


def expected_of(spec: ModelSpec) -> Expected:
    """What a model knows of label maps, as its evidence says: volumes, and pieces, any number of lesions."""
    evidence = spec.evidence
    lesions = dict.fromkeys(spec.structure_set.lesions, math.inf)
    return Expected(
        evidence.volume_ranges,
        lesions | (evidence.pieces or {}),
        f"the training data of {spec.name}",
    )


def _check_scans(volume: Volume, specs: Sequence[ModelSpec]) -> list[Finding]:
    """Findings that make the scan unsuitable for these models, of which one may be unsuitable.

    Of a further one only what none before it said.
    """
    found: list[Finding] = []
    for spec in specs:
        codes = {f.code for f in found}
        scan = check_scan(volume, spec, spec.network.spatial_dims)
        about = [*scan, *_check_units(volume, spec), *prediction.check_scores(spec)]
        found += [f for f in about if f.code not in codes]
    return found


def require_units(volume: Volume, specs: Sequence[ModelSpec]) -> None:
    """Refuse a scan whose values were rescaled, for a model that takes Hounsfield units.

    Raises:
        InputError: which channel, with its values.
    """
    for spec in specs:
        if text := rescaled(volume.array, spec.preparation.normalisation, volume.channels):
            raise InputError(text, hint="give the scan with its original values, or add --force")


def _check_evidence(spec: ModelSpec) -> Iterator[Finding]:
    """What a model cannot know of its own results."""
    if spec.evidence.volumes_ml == {}:
        yield Finding(
            "volumes_unknown",
            "note",
            f"The volumes were not checked: no case in the training data of {spec.name} was "
            "labelled in full.",
        )


def _check_units(volume: Volume, spec: ModelSpec) -> Iterator[Finding]:
    """Findings about the values of a scan that was accepted with --force, see `require_units`."""
    if text := rescaled(volume.array, spec.preparation.normalisation, volume.channels):
        yield Finding("rescaled", "doubt", finding.sentence(text))


def sides_agreement(first: Labels, mirrored: Labels, structures: StructureSet) -> float:
    """Share of the voxels with a side in both predictions that have the same one; 1 where there is none.

    Args:
        first: labels (i, j, k), axis i to the right.
        mirrored: of the mirrored scan, as they were predicted.
        structures: with twins.
    """
    one, other = _sides(first, structures), -_sides(mirrored, structures)[::-1]
    both = (one != 0) & (other != 0)
    return float((one[both] == other[both]).mean()) if both.any() else 1.0


def _sides(labels: Labels, structures: StructureSet) -> NDArray[np.int8]:
    """-1 left, 1 right, 0 neither."""
    table = np.zeros(int(max(structures.known_values)) + 1, np.int8)
    for s in structures:
        for value in s.label_values:
            table[value] = {"left": -1, "right": 1, "none": 0}[s.side]
    found: NDArray[np.int8] = table[labels]
    return found


def _sides_in_doubt(found: Iterable[Finding], labels: LabelMap, structures: StructureSet) -> bool:
    """Whether the sides of twins, if any were labelled, deserve a second look.

    They do where anything speaks against the result, and where one of two is so much larger that it may hold
    a part of the other.
    """
    voxels = structures.voxels(value_counts(labels.array))
    pairs = [(voxels[s.name], voxels[s.twin]) for s in structures if s.side == "left" and s.twin]
    if not any(map(any, pairs)):
        return False
    return finding.is_doubtful(found) or any(max(pair) > prediction.PAIR_RATIO * min(pair) for pair in pairs)
