"""What validation showed of a model, typed: scores, ranges of the training, calibration, engines compared.

It is stored in the model file and holds the limits that results are judged by, so it is read as strictly as
settings are. What was not measured is None, and is left out of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medseg.core.errors import ModelError, UsageError
from medseg.core.lines import Line
from medseg.core.specs import left_out

VERSION = 1
"""Of what `Evidence` holds. A file without a version has the first."""

Ends = tuple[float | None, float | None]
"""Lower and upper end of an interval."""


@dataclass(frozen=True)
class Score:
    """One metric of one structure over cases the model was not trained on.

    Attributes:
        structure, metric: names.
        unit: of all statistics.
        n: cases with a finite value; the statistics are None where there is none.
        ci95: bootstrap interval of the mean; its ends are None below 10 cases.
    """

    structure: str
    metric: str
    unit: str = "1"
    n: int = 0
    mean: float | None = None
    ci95: Ends = (None, None)
    median: float | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class EngineAgreement:
    """Largest differences of an engine from torch in f32, over whole scans.

    Attributes:
        cases: compared.
        probability: of any output in any voxel.
        label_disagreement: share of voxels with another label.
        dice: of any structure, against the reference.
        volume: of any structure, as a share of it.
    """

    dice: float
    volume: float
    cases: int = 0
    probability: float = 0.0
    label_disagreement: float = 0.0


@dataclass(frozen=True)
class Confidence:
    """How sure the model was of its own validation scans: mean probability of the winning output, in [0, 1].

    Raises:
        UsageError: the least confidence is not in [0, 1].
    """

    min: float
    n: int = 0
    median: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min <= 1:
            raise UsageError(f"the least confidence must be in [0, 1], not {self.min}")


@dataclass(frozen=True)
class VolumeRange:
    """Smallest and largest volume of a structure in the training's references, in ml.

    Raises:
        UsageError: the two are not an ascending pair of finite volumes.
    """

    min: float
    max: float
    n: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max < math.inf:
            raise UsageError(
                f"the volumes must be an interval (min, max) from 0 upwards, not {self.min} to {self.max} ml"
            )


@dataclass(frozen=True)
class SpacingRange:
    """Voxel sizes met in training, in mm: of the shortest, middle and longest side of each scan's voxels.

    Raises:
        UsageError: a side is not positive and finite, or its range descends.
    """

    min: tuple[float, float, float]
    max: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(0 < low <= high < math.inf for low, high in zip(self.min, self.max, strict=True)):
            raise UsageError(
                f"the sides of voxels must be positive intervals (min, max), not {self.min} to {self.max} mm"
            )


@dataclass(frozen=True)
class StructureCalibration:
    """What is expected of one structure.

    Attributes:
        n: cases that it was found in.
        volume_log_ratio: ends of the interval of log(reference / predicted volume), an end of minus infinity
            as None; None where too few cases were there to tell.
        dice: the line from the Dice that the model's own probabilities promise to the Dice with a reference.
    """

    n: int = 0
    volume_log_ratio: Ends | None = left_out()
    dice: Line | None = left_out()


@dataclass(frozen=True)
class Coverage:
    """Shares, in [0, 1], of the structures of new cases that the intervals hold; None where there is none.

    Attributes:
        volumes, dices: structures that have an interval.
        shifts: how unlike the calibration cases the new ones were made; None where they were not.
    """

    volume_coverage: float | None = None
    volumes: int = 0
    dice_coverage: float | None = None
    dices: int = 0
    shifts: dict[str, float] | None = left_out()


@dataclass(frozen=True)
class Calibration:
    """How far off volumes and confidence are, learnt from `n` cases with references.

    Attributes:
        coverage: share of new cases whose value is within the intervals.
        structures: by name.
        shifted: what the intervals hold of scans made unlike those they were learnt from.
    """

    coverage: float
    n: int = 0
    structures: dict[str, StructureCalibration] = field(default_factory=dict)
    shifted: Coverage | None = left_out()


@dataclass(frozen=True)
class Usual:
    """What scans and results of the usual kind look like.

    Attributes:
        n: cases it was learnt from.
        limit: standard deviations from the mean that any feature of a new case may have.
        features: mean and standard deviation of each, by name.

    Raises:
        UsageError: a spread or the limit is not positive.
    """

    n: int
    limit: float
    features: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, (mean, spread) in self.features.items():
            if not (math.isfinite(mean) and 0 < spread < math.inf):
                raise UsageError(
                    f"{name!r} must have a finite mean and a positive spread, not {mean} and {spread}"
                )
        if not 0 <= self.limit < math.inf:
            raise UsageError(f"the limit must be at least 0 standard deviations, not {self.limit}")


@dataclass(frozen=True)
class SmallestChange:
    """The smallest change of a structure's volume that is more than noise; None where it has none.

    Attributes:
        n: scans that the structure was found in.
        smallest_change_percent: of the smaller volume.
    """

    n: int = 0
    smallest_change_ml: float | None = None
    smallest_change_percent: float | None = None
    mean_ml: float | None = None


@dataclass(frozen=True)
class Repeatability:
    """How far predictions of one scan differ when only its position and its noise do.

    Attributes:
        runs: versions of each scan.
        scans: that were predicted.
        structures: by name.
        perturbations: what the versions differed by, for the reader.
        engines: that predicted.
    """

    runs: int = 0
    scans: int = 0
    structures: dict[str, SmallestChange] = field(default_factory=dict)
    perturbations: dict[str, bool | int | float | str | tuple[float, ...]] = field(default_factory=dict)
    engines: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundingChange:
    """What bf16 changes of one structure.

    Attributes:
        dice: mean change against references; negative where bf16 is worse.
        log_volume: root mean square difference of the logarithms of the volumes.
    """

    dice: float
    log_volume: float


@dataclass(frozen=True)
class Rounding:
    """What an engine's bf16 changes over `n` scans, of each structure found in all of them."""

    n: int = 0
    structures: dict[str, RoundingChange] = field(default_factory=dict)


@dataclass(frozen=True)
class RealHeads:
    """Mean Dice on scans of another origin than the training, where one was trained on made-up scans.

    Attributes:
        what: the scans and their references, in words.
        n: heads.
        by_head: none is named.
    """

    what: str
    n: int
    mean: float
    by_head: tuple[float, ...] = ()
    by_structure: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What validation showed of a model; None for what was not measured.

    Attributes:
        validation: scores on cases the model was not trained on.
        engines: by engine and precision, such as "openvino bf16".
        confidence: on its own validation scans.
        volumes_ml: by structure; empty where no case of the training was labelled in full.
        spacing_mm: voxel sizes met in training.
        calibration: what its volumes and its confidence are worth.
        usual: what its calibration cases look like.
        pieces: most pieces of each structure in them, specks left out.
        repeatability: what change of a volume is noise.
        rounding: by engine and precision, as `engines`, scan by scan.
        real_heads: scores on scans of another origin.
        version: see `VERSION`.
    """

    validation: tuple[Score, ...] | None = left_out()
    engines: dict[str, EngineAgreement] | None = left_out()
    confidence: Confidence | None = left_out()
    volumes_ml: dict[str, VolumeRange] | None = left_out()
    spacing_mm: SpacingRange | None = left_out()
    calibration: Calibration | None = left_out()
    usual: Usual | None = left_out()
    pieces: dict[str, int] | None = left_out()
    repeatability: Repeatability | None = left_out()
    rounding: dict[str, Rounding] | None = left_out()
    real_heads: RealHeads | None = left_out()
    version: int = left_out(VERSION)

    @property
    def volume_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest volume of each structure in the training, in ml; empty where not known."""
        return {name: (found.min, found.max) for name, found in (self.volumes_ml or {}).items()}

    def updated(self, found: Evidence) -> Evidence:
        """This, with everything that was measured in `found` in the place of what was here."""
        measured = {f.name: value for f in fields(found) if (value := getattr(found, f.name)) is not None}
        return replace(self, **measured)


def require_version(spec: Any, source: str | Path) -> None:
    """Refuse a model's description whose evidence a later version of the software wrote.

    Args:
        spec: of the model, as it was read from JSON.
        source: the model's file, for the message.

    Raises:
        ModelError: of which version it is, and which this one reads.
    """
    evidence = spec.get("evidence") if isinstance(spec, Mapping) else None
    version = evidence.get("version", VERSION) if isinstance(evidence, Mapping) else VERSION
    if version != VERSION:
        raise ModelError(
            f"its evidence has version {version!r}, but this medseg reads version {VERSION}",
            source=source,
            hint="update medseg, or calibrate the model again",
        )
