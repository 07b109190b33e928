"""Whether a result can be believed: what speaks against it, in words.

Every check is driven by what the model knows of its own training (`ModelSpec.evidence`) and is silent where
it knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.inference.predictor import labels_from_probabilities
from medseg.inference.restore import Labels
from medseg.inference.tiles import FloatArray
from medseg.model import ModelSpec
from medseg.structures import StructureSet
from medseg.volume import Volume

VOLUME_SLACK = 1.6
"""How many times beyond the volumes met in training a structure is doubted."""

UNLIKE_SHARE = 1 / 3
"""Share of doubted structures from which the scan itself is."""

CONFIDENCE_MARGIN = 0.05
"""How far below the least confidence on its own validation scans a model is doubted."""

LEAST_CONTRAST = 0.5
"""Distance of the means of two kinds of tissue, over their spread, that one pair of kinds must have."""

PAIR_RATIO = 2.0
"""Ratio of the volumes of twins from which the sides are looked at twice."""

SIDES_AGREE = 0.9
"""Share of lateral voxels that must keep their side when the scan is mirrored."""

HOUNSFIELD_LOW, HOUNSFIELD_AIR, AIR_SHARE = -200.0, -500.0, 0.15
"""A scan with values below the first, and this share of them below the second, is in Hounsfield units."""

MR_CHANNELS = ("MR", "MRI")

NAMED = 3
"""Structures a sentence names before it counts the rest."""


@dataclass(frozen=True)
class Quality:
    """The verdict on one result.

    Attributes:
        flag: "doubtful" when there is a reason.
        reasons: sentences, the gravest first.
        confidence: mean probability of the winning output over the labelled voxels, in [0, 1].
        sides: share of lateral voxels that keep their side when the scan is mirrored; None where there
            was no doubt, and no second prediction.
    """

    reasons: tuple[str, ...] = ()
    confidence: float | None = None
    sides: float | None = None

    @property
    def flag(self) -> Literal["ok", "doubtful"]:
        return "doubtful" if self.reasons else "ok"

    def content(self) -> dict[str, Any]:
        """What `scan_seg.json` says of it."""
        return {
            "flag": self.flag,
            "reasons": list(self.reasons),
            "confidence": None if self.confidence is None else round(self.confidence, 4),
            "sides_agreement": None if self.sides is None else round(self.sides, 4),
        }


@dataclass
class Seen:
    """What a verdict needs of probabilities that are not kept, gathered while they pass.

    Attributes:
        structures: what the outputs are.
        promised: whether to gather what `estimated_dice` needs.
        runs: label values of the rows seen so far, each (rows, j, k).
        total: sum over the labelled voxels of the probability of the winning output.
        voxels: how many are labelled.
        shares: of each structure, three sums: voxels labelled, their probability, all probability.
    """

    structures: StructureSet
    promised: bool = False
    runs: list[Labels] = field(default_factory=list)
    total: float = 0.0
    voxels: int = 0
    shares: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def watch(self, rows: Iterable[tuple[slice, FloatArray]]) -> Iterator[tuple[slice, FloatArray]]:
        """Pass on what comes by."""
        for run, part in rows:
            labels = labels_from_probabilities(part, self.structures)
            highest = part.max(axis=0)
            sure = highest[labels != 0]
            self.runs.append(labels)
            self.total += float(sure.sum(dtype=np.float64))
            self.voxels += sure.size
            if self.promised:
                self._share(part, labels, highest)
            yield run, part

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
    def all_of(cls, rows: Iterable[tuple[slice, FloatArray]], structures: StructureSet) -> Seen:
        """What there is to see of a prediction that nobody else wants."""
        seen = cls(structures)
        for _ in seen.watch(rows):
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
    def confidence(self) -> float:
        """Mean probability of the winning output over the labelled voxels; 0 where none is labelled."""
        return self.total / self.voxels if self.voxels else 0.0


def judge(
    volume: Volume,
    spec: ModelSpec,
    volumes_ml: Mapping[str, float],
    cut: Mapping[str, bool],
    seen: Seen,
    features: Mapping[str, float],
    contrast: Mapping[str, float],
    mirrored: Callable[[], Seen],
) -> Quality:
    """Look at one result from every side.

    Args:
        volume: the scan as it was read.
        spec: the model.
        volumes_ml: of each structure, 0 where there is none.
        cut: whether a structure reaches the edge of the scan.
        seen: of the prediction.
        features: of scan and result, see `features`.
        contrast: of the tissues, see `refine.Refined`.
        mirrored: predicts the mirrored scan; called only where the sides are in doubt.
    """
    ranges = spec.evidence.get("volumes_ml", {})
    reasons = [*_about_units(volume, spec), *_about_the_field(volume, ranges)]
    reasons += _about_contrast(contrast)
    reasons += _about_confidence(seen.confidence, spec)
    reasons += _about_volumes(spec.name, volumes_ml, cut, ranges)
    reasons += _about_likeness(features, spec)
    sides = None
    if spec.structure_set.twins() and (
        reasons or _sides_in_doubt(seen.labels, volumes_ml, spec.structure_set)
    ):
        sides = sides_agreement(seen.labels, mirrored().labels, spec.structure_set)
        if sides < SIDES_AGREE:
            reasons.append(
                f"left and right are uncertain: {100 * (1 - sides):.0f} % of what has a side changes it when "
                "the scan is mirrored"
            )
    return Quality(tuple(reasons), seen.confidence, sides)


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
        for value in s.members or (s.value,):
            table[value] = {"left": -1, "right": 1, "none": 0}[s.side]
    found: NDArray[np.int8] = table[labels]
    return found


def _about_units(volume: Volume, spec: ModelSpec) -> Iterator[str]:
    if spec.channels[0] not in MR_CHANNELS or len(spec.channels) > 1:
        return
    low = float(volume.array.min())
    air = float(np.less(volume.array, HOUNSFIELD_AIR).mean()) if low < HOUNSFIELD_LOW else 0.0
    if air > AIR_SHARE:
        yield (
            f"the intensities look like a CT in Hounsfield units (lowest {low:.0f}, {100 * air:.0f} % below "
            f"{HOUNSFIELD_AIR:.0f}); {spec.name} was made for MR"
        )


def _about_the_field(volume: Volume, ranges: Mapping[str, Any]) -> Iterator[str]:
    least = sum(r["min"] for r in ranges.values())
    seen = volume.grid.voxels * volume.grid.voxel_volume_mm3 / 1000
    if seen < least:
        yield (
            f"the scan shows {seen:.0f} ml, and all structures together are {least:.0f} ml or more: "
            "it cannot show them whole"
        )


def _about_contrast(contrast: Mapping[str, float]) -> Iterator[str]:
    if contrast and max(contrast.values()) < LEAST_CONTRAST:
        pair = max(contrast, key=contrast.__getitem__)
        yield (
            "the tissues have almost the same brightness in this scan: even the means of "
            f"{pair} lie {contrast[pair]:.1f} standard deviations apart, and {LEAST_CONTRAST} are needed"
        )


def _about_confidence(sure: float, spec: ModelSpec) -> Iterator[str]:
    known = spec.evidence.get("confidence")
    if known and sure < known["min"] - CONFIDENCE_MARGIN:
        yield (
            f"{spec.name} is unsure: its mean confidence is {sure:.2f}, and was {known['min']:.2f} or more "
            "on the scans it was checked with"
        )


def _about_volumes(
    name: str, volumes_ml: Mapping[str, float], cut: Mapping[str, bool], ranges: Mapping[str, Any]
) -> Iterator[str]:
    known = {s: v for s, v in volumes_ml.items() if s in ranges}
    small = {s: v / ranges[s]["min"] for s, v in known.items() if v * VOLUME_SLACK < ranges[s]["min"]}
    large = {s: v / ranges[s]["max"] for s, v in known.items() if v > VOLUME_SLACK * ranges[s]["max"]}
    if known and len(small) + len(large) > UNLIKE_SHARE * len(known):
        count = len(small) + len(large)
        yield f"{count} of {len(known)} structures are implausible: this is unlike what {name} was trained on"
    missing = [s for s, ratio in small.items() if ratio == 0]
    lost = sorted((s for s in small if s not in missing and cut.get(s)), key=small.__getitem__)
    tiny = sorted((s for s in small if s not in missing and not cut.get(s)), key=small.__getitem__)
    great = sorted(large, key=large.__getitem__, reverse=True)
    for found, text in (
        (missing, "not found"),
        (lost, "cut by the edge of the scan and smaller than any in the training data"),
        (tiny, "far smaller than any in the training data"),
        (great, "far larger than any in the training data"),
    ):
        if found:
            yield f"{_listed(found)}: {text}"


def _about_likeness(features: Mapping[str, float], spec: ModelSpec) -> Iterator[str]:
    """What of scan and result lies further from the usual than in any case the model was calibrated with."""
    usual = spec.evidence.get("usual")
    if not usual:
        return
    far = {name: d for name, d in distances(features, usual["features"]).items() if d > usual["limit"]}
    if far:
        strange = sorted(far, key=far.__getitem__, reverse=True)
        yield (
            f"unlike the {usual['n']} scans that {spec.name} was calibrated with: {_listed(strange)} "
            f"({far[strange[0]]:.1f} standard deviations from the mean; {usual['limit']:.1f} are allowed)"
        )


def distances(features: Mapping[str, float], usual: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """How many standard deviations each feature is from its mean, of those that are known.

    Args:
        features: of one scan.
        usual: mean and standard deviation of each, by name.
    """
    return {n: abs(features[n] - mean) / spread for n, (mean, spread) in usual.items() if n in features}


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _sides_in_doubt(labels: Labels, volumes_ml: Mapping[str, float], structures: StructureSet) -> bool:
    """Whether twins are unlike in volume, or lie the wrong way round (axis i grows to the right)."""
    place = np.arange(labels.shape[0])
    for left in (s for s in structures if s.side == "left" and s.twin):
        right = structures[str(left.twin)]
        sizes = sorted((volumes_ml.get(left.name, 0.0), volumes_ml.get(right.name, 0.0)))
        if sizes[1] > PAIR_RATIO * sizes[0]:
            return True
        rows = [structures.mask(labels, s).sum(axis=(1, 2)) for s in (left, right)]
        if all(r.any() for r in rows) and np.average(place, weights=rows[0]) >= np.average(
            place, weights=rows[1]
        ):
            return True
    return False
