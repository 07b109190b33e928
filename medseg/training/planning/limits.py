"""What a training may use: time and memory, and the steps and patches for which these are enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from medseg.training.planning.speed import Speed

HOUR_STEPS = 4000.0
"""Steps of a training of an hour; of another length, by the square root of its hours: the rest of the time
goes into larger patches."""

LEAST_STEPS = 0.25
"""Share of these steps that are left at least where patches grow to hold the largest structure."""

STEPS_SHARE = 0.85
"""Share of the time that steps take at most; the rest goes into reading, validation and the end."""

LEAST_VOXELS, MOST_VOXELS = 32**3, 160**3
"""Of a patch."""

BYTES_PER_VOXEL, BYTES_PER_OUTPUT = 2000.0, 16.0
"""Memory that a step needs for a voxel of a batch, for a network whose first level has 16 channels, and for
each of its outputs; 1940 were measured with 4 outputs, and 2380 with 33, on patches of 48^3."""

BATCH = 2
"""Patches of a step, or one for each process where there are more."""


def own_batch(processes: int) -> int:
    """Patches of a batch that are a process's own."""
    return max(1, BATCH // processes)


def voxel_bytes(processes: int, outputs: int) -> float:
    """Memory that a step needs for a voxel of its patches."""
    return own_batch(processes) * (BYTES_PER_VOXEL + BYTES_PER_OUTPUT * outputs)


def least_step_bytes(processes: int, outputs: int) -> int:
    """Memory that a step with the smallest patches needs."""
    return int(LEAST_VOXELS * voxel_bytes(processes, outputs))


@dataclass(frozen=True)
class Limits:
    """What a training may use.

    Attributes:
        seconds: it may take.
        memory_bytes: its steps may need.
        speed: of the machine.
        processes: that share every batch, with so much memory each.
        trainings: of the plan; of more than one, each leaves cases for the others to compare settings on.
        outputs: of the network.
        beside_s: of the seconds, that it takes to read the cases and to measure them.
        fewer: share of the usual steps that there are to be, each with larger patches.
    """

    seconds: float
    memory_bytes: int
    speed: Speed
    processes: int = 1
    trainings: int = 1
    outputs: int = 2
    beside_s: float = 0.0
    fewer: float = 1.0

    @property
    def own_batch(self) -> int:
        """Patches of a batch that are a process's own."""
        return own_batch(self.processes)

    @property
    def batch(self) -> int:
        """Patches of a step."""
        return self.own_batch * self.processes

    @property
    def learning_s(self) -> float:
        """Seconds that the steps may take; 0 where reading and measuring take them all."""
        return max(0.0, min(STEPS_SHARE * self.seconds, self.seconds - self.beside_s))

    @property
    def step_s(self) -> float:
        """Seconds that a step should take."""
        return self.learning_s / max(1.0, self._wanted_steps)

    @property
    def _wanted_steps(self) -> float:
        return self.fewer * HOUR_STEPS * math.sqrt(self.learning_s / STEPS_SHARE / 3600.0)

    @property
    def by_time(self) -> float:
        """Voxels of a patch that a step has time for."""
        return self.step_s / (self.own_batch * self.speed.seconds_per_voxel)

    @property
    def by_memory(self) -> float:
        """Voxels of a patch that a step has memory for."""
        return self.memory_bytes / voxel_bytes(self.processes, self.outputs)

    @property
    def voxels(self) -> float:
        """Voxels of a patch, as time and memory allow, and no fewer than the smallest has."""
        return min(max(min(self.by_time, self.by_memory), LEAST_VOXELS), MOST_VOXELS)

    def allowing(self, voxels: float) -> Limits:
        """With fewer steps, `LEAST_STEPS` of them at least, whose patches may have so many voxels."""
        wanted = min(voxels, self.by_memory)
        return replace(self, fewer=max(LEAST_STEPS, min(1.0, self.by_time / wanted)))

    @property
    def steps(self) -> int:
        """Steps of the training: as many as it should have, and as there is time for; at least one."""
        possible = self.learning_s / (self.own_batch * self.voxels * self.speed.seconds_per_voxel)
        return max(1, round(min(self._wanted_steps, possible)))
