"""A case without a prediction, scored as `evaluate` scores it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.metrics.case import CaseResult, evaluate_case


def missed_case(reference: LabelMap, structures: StructureSet, failure: str, **settings: Any) -> CaseResult:
    """Every structure the reference holds is missed; `failure` says why."""
    nothing = LabelMap(np.zeros(reference.grid.shape, np.uint8), reference.grid)
    return replace(evaluate_case(nothing, reference, structures, **settings), failure=failure)
