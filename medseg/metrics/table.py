"""The metrics of a structure: what each is called, its unit, how it ranks, and how it is computed.

A metric is a function in the file of its family and one row here: with that it is measured of every
structure, and stands in the tables and JSON of `evaluate`. What a definition says is in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medseg.core.volume import Grid
from medseg.metrics import overlap
from medseg.metrics import surface as sd
from medseg.metrics.counts import Counts
from medseg.metrics.value import Status, Value, measured, not_evaluated

HAUSDORFF_PERCENT = 95.0

OfCounts = Callable[[Counts, Grid], float]
OfDistances = Callable[[sd.SurfaceDistances, float], float]


@dataclass(frozen=True)
class Scale:
    """How a metric ranks.

    Attributes:
        best: of a structure that is rightly absent.
        worst: of a structure that was missed; None for the diagonal of the image.
    """

    best: float
    worst: float | None

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.worst is None else 1


FRACTION, DISTANCE = Scale(1.0, 0.0), Scale(0.0, None)


@dataclass(frozen=True)
class Metric:
    """One metric of one structure; NaN where it is undefined.

    Attributes:
        title: what it is called within a sentence.
        unit: see `Value`.
        scale: how it ranks; None where it cannot be compared.
        of_counts: computes it from voxels, and the grid they lie on.
        of_surfels, of_voxels: computes it from distances between surfaces of either definition, and the
            tolerance in mm (NaN without one); None where it has no meaning there.
        needs_tolerance: whether it is not evaluated without one.
    """

    title: str
    unit: str = "1"
    scale: Scale | None = None
    of_counts: OfCounts | None = None
    of_surfels: OfDistances | None = None
    of_voxels: OfDistances | None = None
    needs_tolerance: bool = False

    @property
    def by_mode(self) -> Mapping[sd.Mode, OfDistances]:
        """How it is computed from distances, in each mode in which it has a meaning."""
        both: dict[sd.Mode, OfDistances | None] = {"surfel": self.of_surfels, "voxel": self.of_voxels}
        return {mode: compute for mode, compute in both.items() if compute is not None}


METRICS: Mapping[str, Metric] = {
    "dice": Metric("Dice", scale=FRACTION, of_counts=lambda n, _: overlap.dice(n)),
    "jaccard": Metric("Jaccard", scale=FRACTION, of_counts=lambda n, _: overlap.jaccard(n)),
    "recall": Metric("recall", of_counts=lambda n, _: overlap.recall(n)),
    "precision": Metric("precision", of_counts=lambda n, _: overlap.precision(n)),
    "volume_diff_ml": Metric(
        "volume difference",
        "ml",
        of_counts=lambda n, grid: grid.volume_ml(n.predicted - n.reference),
    ),
    "rvd_percent": Metric(
        "relative volume difference",
        "%",
        of_counts=lambda n, _: overlap.relative_volume_difference_percent(n),
    ),
    "volume_similarity": Metric("volume similarity", of_counts=lambda n, _: overlap.volume_similarity(n)),
    "hd95_mm": Metric(
        "HD95",
        "mm",
        DISTANCE,
        of_surfels=lambda d, _: sd.hausdorff_mm(d, HAUSDORFF_PERCENT),
        of_voxels=lambda d, _: sd.voxel_hausdorff_mm(d, HAUSDORFF_PERCENT),
    ),
    "hd100_mm": Metric(
        "HD100",
        "mm",
        DISTANCE,
        of_surfels=lambda d, _: sd.hausdorff_mm(d),
        of_voxels=lambda d, _: sd.voxel_hausdorff_mm(d),
    ),
    "hd95_pooled_mm": Metric(
        "pooled HD95", "mm", of_voxels=lambda d, _: sd.pooled_hausdorff_mm(d, HAUSDORFF_PERCENT)
    ),
    "assd_mm": Metric(
        "ASSD",
        "mm",
        DISTANCE,
        of_surfels=lambda d, _: sd.average_mm(d),
        of_voxels=lambda d, _: sd.average_mm(d),
    ),
    "masd_mm": Metric("MASD", "mm", of_voxels=lambda d, _: sd.mean_of_means_mm(d)),
    "nsd": Metric(
        "surface Dice", scale=FRACTION, of_surfels=sd.normalised_surface_dice, needs_tolerance=True
    ),
}
"""One row a metric, in the order of the tables (see docs/extending.md)."""

SCALES: Mapping[str, Scale] = {name: m.scale for name, m in METRICS.items() if m.scale is not None}
"""The metrics that can be compared."""

SURFACE_METRICS = frozenset(name for name, m in METRICS.items() if m.of_counts is None)
"""Those that depend on what a surface is."""


def overlap_values(counts: Counts, grid: Grid) -> dict[str, Value]:
    """Every metric of one structure's voxels, by name."""
    return {
        name: measured(metric.of_counts(counts, grid), metric.unit, counts.status)
        for name, metric in METRICS.items()
        if metric.of_counts is not None
    }


def surface_values(
    distances: sd.SurfaceDistances | None, mode: sd.Mode, tolerance_mm: float | None, status: Status
) -> dict[str, Value]:
    """Every metric of one structure's surfaces, by name; not evaluated where there are no distances."""
    values = {}
    for name, metric in METRICS.items():
        if (compute := metric.by_mode.get(mode)) is None:
            continue
        if distances is None or (metric.needs_tolerance and tolerance_mm is None):
            values[name] = not_evaluated(metric.unit)
        else:
            number = compute(distances, math.nan if tolerance_mm is None else tolerance_mm)
            values[name] = measured(number, metric.unit, status)
    return values
