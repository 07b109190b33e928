"""What computing in bf16 changes in whole results, structure by structure (see `engines.rounding`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from medseg.core.volume import LabelMap, Volume
from medseg.inference import engines
from medseg.inference.engines.base import EngineName
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.model.evidence import Rounding, RoundingChange
from medseg.model.file import Model
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter


def rounding(
    model: Model, cases: Iterable[tuple[Volume, LabelMap]], *, threads: int = 0
) -> dict[str, Rounding]:
    """What bf16 changes of each structure that is found in all scans; 0 of Dice where references have none.

    Args:
        model: the model.
        cases: scans with references on their grids, one at a time held.
        threads: of the processor; 0 takes what there is.

    Returns:
        By engine and precision.
    """
    name: EngineName = "openvino" if "bf16" in engines.precisions("openvino") else "torch"
    exact = Segmenter([model], SegmenterOptions(precision="f32", threads=threads))
    rounded = Segmenter([model], SegmenterOptions(engine=name, precision="bf16", threads=threads))
    rows = []
    for volume, reference in cases:
        counts = [
            joint_counts(
                reference.array, found(volume).labels.array, model.spec.structure_set, reference.labelled
            )
            for found in (exact, rounded)
        ]
        rows.append({s: _change(counts[0][s], counts[1][s]) for s in counts[0]})
    structures = {s: _summed([row[s] for row in rows]) for s in model.spec.structure_set.names}
    kept = {s: change for s, change in structures.items() if change is not None}
    return {f"{name} bf16": Rounding(len(rows), kept)}


def _change(exact: Any, rounded: Any) -> tuple[float, float] | None:
    """Change of Dice and of the logarithm of the volume; None where there is no volume."""
    if not (exact.predicted and rounded.predicted):
        return None
    change = dice(rounded) - dice(exact) if exact.reference else 0.0
    return change, math.log(rounded.predicted / exact.predicted)


def _summed(changes: list[tuple[float, float] | None]) -> RoundingChange | None:
    if not changes or None in changes:
        return None
    found = np.array(changes)
    return RoundingChange(
        dice=round(float(found[:, 0].mean()), 5),
        log_volume=round(float(np.sqrt((found[:, 1] ** 2).mean())), 6),
    )
