"""Settings of the refinement: which structures share a brightness, and how closely they follow the scan.

What is done with them is in `inference.refine`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet


@dataclass(frozen=True)
class IntensityClass:
    """Structures of one brightness.

    Attributes:
        kind: of tissue, such as "white", "grey" or "fluid". A voxel on a border mixes two kinds; the first
            class of a kind gives it its brightness there.
        structures: names, without "left" and "right" where both sides are meant.
    """

    kind: str
    structures: tuple[str, ...]


@dataclass(frozen=True)
class Trust:
    """How far a structure follows the scan.

    Attributes:
        likelihood: 1 follows the scan's intensities; 0 takes no note of them, and gives way only where they
            speak for another structure.
        width_mm: standard deviation of the Gaussian that the network's probability is blurred with.
        scale: factor of the network's probability; below 1 where a network makes a structure too large.

    Raises:
        UsageError: a value is out of range.
    """

    likelihood: float = 1.0
    width_mm: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.likelihood <= 1:
            raise UsageError(f"refinement.likelihood must be in [0, 1], not {self.likelihood}")
        if not 0 <= self.width_mm <= 10:
            raise UsageError(f"refinement.width_mm must be in [0, 10], not {self.width_mm}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"refinement.scale must be positive, not {self.scale}")


@dataclass(frozen=True)
class RefinementSpec:
    """Refinement of a network's answer by the scan's own intensities.

    Attributes:
        classes: of intensity; a card with tissues has its own, which serve where these are empty.
        usual: of the background, and of every structure that `structures` does not name.
        structures: by name, without "left" and "right" where both sides are meant.
        channel: of the scan; empty for the first.
    """

    classes: tuple[IntensityClass, ...] = ()
    usual: Trust = field(default_factory=Trust)
    structures: dict[str, Trust] = field(default_factory=dict)
    channel: str = ""

    def trust(self, structures: StructureSet, name: str) -> Trust:
        """That of the structure `name`."""
        return self.structures.get(name, self.structures.get(structures.unsided(name), self.usual))

    def class_numbers(self, structures: StructureSet) -> tuple[int, ...]:
        """For each structure, the class it belongs to.

        Raises:
            UsageError: a structure is in no class or in two, or a name is unknown.
        """
        owners: dict[str, list[int]] = {s.name: [] for s in structures}
        for number, group in enumerate(self.classes):
            for name in group.structures:
                for structure in structures.meant(name):
                    owners[structure.name].append(number)
        for name in self.structures:
            structures.meant(name)
        wrong = next((name for name, found in owners.items() if len(found) != 1), None)
        if wrong is not None:
            raise UsageError(
                f"refinement.classes has {wrong!r} in {len(owners[wrong])} classes, not in one",
                hint="name each structure in exactly one class",
            )
        return tuple(found[0] for found in owners.values())
