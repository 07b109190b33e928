"""Changes of the probabilities that a coarse stage found, the last channels of a fine stage's patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.augment.flip import LEFT_RIGHT
from medseg.augment.spec import CoarseSpec


@dataclass(frozen=True)
class CoarseParams:
    """Drawn changes; the default is none.

    Attributes:
        exponents: of each structure, or none.
        missed: number of the structure that is missed; None where none is.
    """

    exponents: tuple[float, ...] = ()
    missed: int | None = None


def sample(spec: CoarseSpec, generator: torch.Generator, structures: int) -> CoarseParams:
    """Draw the changes of one patch, of so many structures."""
    moves, misses, which, *each = torch.rand(
        3 + structures, generator=generator, dtype=torch.float64
    ).tolist()
    low, high = map(math.log, spec.exponent)
    exponents = tuple(math.exp(low + draw * (high - low)) for draw in each)
    return CoarseParams(
        exponents if moves < spec.moved else (), int(which * structures) if misses < spec.missed else None
    )


def apply(params: CoarseParams, found: Tensor) -> Tensor:
    """The changed probabilities (structures, i, j, k)."""
    if params.exponents:
        powers = torch.tensor(params.exponents, dtype=found.dtype, device=found.device)
        found = found.clamp(0, 1) ** powers[:, None, None, None]
    if params.missed is not None:
        found = found.clone()
        found[params.missed] = 0
    return found


def swapped(found: Tensor, axes: Sequence[int], twins: Sequence[int]) -> Tensor:
    """The channels (structures, i, j, k) of a patch that was flipped; twins trade places with their sides."""
    return found[list(twins)] if LEFT_RIGHT in axes else found
