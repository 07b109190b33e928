"""A measured case as plain values of strict JSON, from which it is read back to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.core import specs
from medseg.core.errors import InputError
from medseg.core.volume import Grid
from medseg.findings.finding import Finding
from medseg.metrics.case import CaseResult, StructureResult, SurfaceMode
from medseg.metrics.value import Value

INFINITE = "inf"
"""In the place of the infinite number, which JSON has not."""


@dataclass(frozen=True)
class _Stored:
    """The fields of a `CaseResult`, its grid taken apart."""

    case_id: str
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]
    rows: tuple[StructureResult, ...]
    overall: Mapping[str, Value]
    failure: str | None
    warnings: tuple[str, ...]
    mode: SurfaceMode
    ignored: int
    doubts: tuple[Finding, ...]
    reference_doubts: tuple[Finding, ...]


def case_mapping(case: CaseResult) -> dict[str, Any]:
    """Everything of a measured case; an infinite value is the text `inf`."""
    stored = _Stored(
        case.case_id,
        case.grid.shape,
        tuple(tuple(row) for row in case.grid.affine.tolist()),
        case.rows,
        case.overall,
        case.failure,
        case.warnings,
        case.mode,
        case.ignored,
        case.doubts,
        case.reference_doubts,
    )
    mapping: dict[str, Any] = _exchanged(specs.to_mapping(stored), math.inf, INFINITE)
    return mapping


def case_from_mapping(mapping: Mapping[str, Any], *, source: str) -> CaseResult:
    """The case that `case_mapping` took apart.

    Raises:
        InputError: it is something else.
    """
    data = _exchanged(dict(mapping), INFINITE, math.inf)
    stored = specs.from_mapping(_Stored, data, source=source, error=InputError)
    grid = Grid(stored.shape, stored.affine)
    return CaseResult(
        stored.case_id,
        stored.rows,
        grid,
        stored.failure,
        stored.warnings,
        stored.overall,
        stored.mode,
        stored.ignored,
        stored.doubts,
        stored.reference_doubts,
    )


def _exchanged(data: Any, old: object, new: object) -> Any:
    """Plain values in which one is replaced, where it is the `value` of a metric."""
    if isinstance(data, Mapping):
        return {
            key: new if key == "value" and inner == old else _exchanged(inner, old, new)
            for key, inner in data.items()
        }
    return [_exchanged(inner, old, new) for inner in data] if isinstance(data, list | tuple) else data
