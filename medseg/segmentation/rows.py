"""The rows of a prediction's `.json`: grid, verdict, structures, instances, totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.core.colours import COLOUR
from medseg.core.specs import left_out
from medseg.core.structures import Structure
from medseg.core.volume import Grid


@dataclass(frozen=True)
class GridSummary:
    """Shape, spacing and orientation of a scan's voxels; where in the room they lie is left out."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str

    @classmethod
    def of(cls, grid: Grid) -> GridSummary:
        return cls(grid.shape, tuple(round(s, 6) for s in grid.spacing_mm), grid.axis_codes)


@dataclass(frozen=True)
class QualitySummary:
    """The verdict: its reasons in sentences, and two shares in [0, 1] as `Quality` has them."""

    flag: Literal["ok", "doubtful"]
    reasons: tuple[str, ...]
    confidence: float | None = None
    sides_agreement: float | None = None


@dataclass(frozen=True)
class StructureSummary:
    """One structure as it was found, and what to expect of it where the model was calibrated.

    Attributes:
        value, name, colour, members: as a `Structure` has them.
        voxels, volume_ml: how large it is.
        truncated: whether it reaches the edge of the scan.
        interval_ml: contains the volume of a reference segmentation with the calibrated probability.
        expected_dice, expected_dice_interval: with a reference segmentation.
    """

    value: int
    name: str
    colour: str = ""
    voxels: int = 0
    volume_ml: float = 0.0
    truncated: bool = False
    interval_ml: tuple[float, float] | None = left_out()
    expected_dice: float | None = left_out()
    expected_dice_interval: tuple[float, float] | None = left_out()
    members: tuple[int, ...] = left_out(())

    @property
    def structure(self) -> Structure:
        """What the value means, in the colour of its page; without colour where none is stated."""
        colour = self.colour if COLOUR.fullmatch(self.colour) else ""
        return Structure(self.value, self.name, colour=colour, members=self.members)


@dataclass(frozen=True)
class InstanceSummary:
    """One object of a structure.

    Attributes:
        number, structure, voxels, volume_ml, longest_mm, score: as an `Instance` has them.
        box_mm: where it begins and ends along the axes of the array, from the outer edge of the first voxel.
    """

    number: int
    structure: str
    box_mm: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    voxels: int = 0
    volume_ml: float = 0.0
    longest_mm: float = 0.0
    score: float | None = left_out()


@dataclass(frozen=True)
class TotalSummary:
    """A volume that several structures make up together."""

    name: str
    values: tuple[int, ...]
    volume_ml: float = 0.0


@dataclass(frozen=True)
class BudgetSummary:
    """What a time budget left of a prediction.

    Attributes:
        seconds: that were allowed.
        of: tiles that there are, each counted once a mirrored view.
        tiles: those computed at full quality, by number; the rest is of a quick look.
    """

    seconds: float
    of: int
    tiles: tuple[int, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the result is that of a prediction without a budget."""
        return len(self.tiles) == self.of

    def in_words(self) -> str:
        """What was computed.

        >>> BudgetSummary(10.0, 8, (1, 5)).in_words()
        'time budget 10 s: 2 of 8 tiles at full quality'
        """
        return f"time budget {self.seconds:g} s: {len(self.tiles)} of {self.of} tiles at full quality"
