"""What follows from volumes: left against right, shares of the head, differences from a reference."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medseg.core.structures import StructureSet

INTRACRANIAL = re.compile(r"(?i)\bintracranial\b")


@dataclass(frozen=True)
class Asymmetry:
    """The volumes of one structure on both sides.

    Attributes:
        left: name of the structure on the left.
        left_ml, right_ml: its volumes.
    """

    left: str
    left_ml: float
    right_ml: float

    @property
    def percent(self) -> float | None:
        """100 (L - R) / ((L + R) / 2), in [-200, 200]; None when a side has no voxels."""
        if not (self.left_ml and self.right_ml):
            return None
        return 100 * (self.left_ml - self.right_ml) / ((self.left_ml + self.right_ml) / 2)


def asymmetries(volumes_ml: Mapping[str, float], structures: StructureSet) -> tuple[Asymmetry, ...]:
    """Each pair of twins of which at least one has a volume, in the order of the left ones.

    Args:
        volumes_ml: of the structures, by name.
        structures: with their sides and twins.
    """
    pairs = [(s.name, s.twin) for s in structures if s.side == "left" and s.twin in volumes_ml]
    found = (Asymmetry(left, volumes_ml[left], volumes_ml[right]) for left, right in pairs if right)
    return tuple(pair for pair in found if pair.left_ml or pair.right_ml)


def intracranial_ml(totals: Sequence[tuple[str, float]], volumes_ml: Mapping[str, float]) -> float | None:
    """The volume of the total, or else of the structure, that is called intracranial; None where it is 0.

    Args:
        totals: name and volume of what structures make up together.
        volumes_ml: of the structures, by name.
    """
    named = (ml for name, ml in (*totals, *volumes_ml.items()) if INTRACRANIAL.search(name))
    return next(named, 0.0) or None


def relative_difference_percent(predicted: float, reference: float) -> float:
    """100 (P - R) / R of two volumes or numbers of voxels, in [-100, inf); NaN when R is 0.

    >>> relative_difference_percent(8, 10)
    -20.0
    """
    return 100.0 * ((predicted - reference) / reference) if reference else math.nan
