"""What a training does after its last step, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

ENDING_S = 10.0
"""To make the model, convert it, and write the page."""

COMPARED_CASES = 5
"""Cases on which the engines are compared."""

COMPARISON, MEASUREMENT = 3.0, 0.6
"""Time to compare the engines on a whole scan, and to predict and measure one, in the time that the voxels of
the scan take in training steps: about what they are with torch and OpenVINO on a processor, or more."""

FINDING = 3.0
"""Time to find the objects of a scan, by torch in tiles that overlap, in that of measuring one."""


@dataclass(frozen=True)
class Ending:
    """The whole scans that are predicted after the last step.

    Attributes:
        voxels: of a usual prepared scan.
        training: cases that train.
        measured: cases that are measured.
    """

    voxels: float
    training: int
    measured: float

    def seconds(self, voxel_s: float) -> float:
        """How long it takes, where a training step takes so many seconds for a voxel.

        It is an estimate for a training on the processor: with an accelerator, steps take less time, and this
        does not.
        """
        scans = COMPARISON * min(self.training, COMPARED_CASES) + MEASUREMENT * self.measured
        return ENDING_S + scans * self.voxels * voxel_s
