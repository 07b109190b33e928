"""The segmentation of one scan, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import counted
from medseg.core.instances import InstanceMap
from medseg.core.structures import StructureSet, Total, value_counts
from medseg.core.volume import LabelMap
from medseg.findings.finding import Finding, sentences
from medseg.segmentation.rows import BudgetSummary
from medseg.segmentation.verdict import Quality


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmentation of one scan.

    Attributes:
        labels: on the scan's own grid, in its own axis order.
        structures: what the values mean.
        verdict: whether it can be believed (its `flag`, "ok" or "doubtful"), and why not.
        totals: volumes that several structures make up together.
        features: of scan and result, see `segmentation.features`.
        estimated_dice: what the model's own probabilities promise for each structure it labelled.
        probabilities: per structure name, (I, J, K) float32 on the scan's grid, if kept.
        instances: the single objects of structures, if the model tells them apart.
        budget: what a time budget left of the prediction; None without one.
    """

    labels: LabelMap
    structures: StructureSet
    verdict: Quality = field(default_factory=Quality)
    totals: tuple[Total, ...] = ()
    features: dict[str, float] = field(default_factory=dict)
    estimated_dice: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    instances: InstanceMap | None = None
    budget: BudgetSummary | None = None

    def __repr__(self) -> str:
        found = counted(len(self.structures), "structure")
        return f"Segmentation({self.verdict.flag}, {found}, {self.labels!r})"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is doubtful about the result or must be known by its reader, the most severe first."""
        return self.verdict.findings

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the file readers."""
        return sentences(self.findings, "warning")

    @cached_property
    def _counts(self) -> dict[int, int]:
        """Voxels of each label value; the labels are read-only."""
        return value_counts(self.labels.array)

    def voxels(self) -> dict[str, int]:
        """Voxels of each structure, 0 if it is absent."""
        return self.structures.voxels(self._counts)

    def volumes_ml(self) -> dict[str, float]:
        """Volume of each structure, 0 if it is absent."""
        return self.structures.volumes_ml(self._counts, self.labels.grid)

    def totals_ml(self) -> dict[str, float]:
        """Volume of each total."""
        return {t.name: self.labels.grid.volume_ml(t.voxels(self.labels.array)) for t in self.totals}

    def truncated(self) -> dict[str, bool]:
        """Whether each structure reaches the edge of the scan, so that part of it may be missing."""
        edge = self.structures.at_edge(self.labels.array)
        return {name: name in edge for name in self.structures.names}
