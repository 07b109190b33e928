"""Memory of a training: what it needs beside its steps, and what a limit leaves for these."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medseg.core.errors import ResourceError
from medseg.core.numbers import memory
from medseg.data.fingerprint import CasePrint, Fingerprint, Lengths
from medseg.inference.tiles import MAPS_ALIVE, MAX_VOXELS, MOST_MAPS_ALIVE
from medseg.io.memory import available_bytes, held_bytes
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.training.planning.limits import LEAST_VOXELS
from medseg.training.planning.patches import geometry

MEMORY_SHARE = 0.5
"""Share of the memory that is free which a training may take, where nobody stated how much."""

USUAL_BYTES = 8 << 30
"""Memory of a machine that does not tell what is free."""

LIBRARIES = 400 << 20
"""What torch, OpenVINO, a small network and the page take once they are in use, or a little more."""

PROBE = 420 << 20
"""What measuring the speed of the machine takes for some seconds, or a little more."""

READING = 72
"""Bytes that come and go with each voxel of a channel, where a scan is read and prepared."""

STEP = 10 << 20
"""To a multiple of which the memory that is needed is rounded up."""

FLOAT, INDEX = 4, 1
"""Bytes of a voxel of a prepared channel, and of its label."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training needs in addition to what the process holds when it is planned.

    Attributes:
        kept: to the end: libraries, and prepared cases.
        predicted: for a scan that is predicted whole, in a thread that shares no memory with the steps.
        passing: for a scan that is read, or for measuring the speed: steps use the same memory later.
    """

    kept: int
    predicted: int = 0
    passing: int = PROBE

    def with_steps(self, step_bytes: int) -> int:
        """All of it, where a step needs so much."""
        return self.kept + self.predicted + max(step_bytes, self.passing)


def need(like: Fingerprint, spacing_mm: Lengths, network: NetworkSpec) -> Need:
    """What a training needs beside its steps.

    Args:
        like: what the cases are like.
        spacing_mm: voxels that the network sees.
        network: with its channels and outputs.
    """
    channels = len(like.channels)
    voxels = [prepared_voxels(case, like, spacing_mm) for case in like.cases]
    maps = MAPS_ALIVE.get(network.name, MOST_MAPS_ALIVE)[1] * network.widths[0]
    largest = max(voxels)
    predicted = FLOAT * (maps * min(largest, MAX_VOXELS) + 3 * network.out_channels * largest)
    read = READING * channels * max(math.prod(case.shape) for case in like.cases)
    kept = LIBRARIES + sum(voxels) * (FLOAT * channels + INDEX)
    return Need(kept, int(predicted), max(PROBE, read))


def longest_voxels(like: Fingerprint, start: ModelSpec | None) -> Lengths:
    """The voxels that a plan with the smallest patches chooses, or those of a model to start from."""
    if start is not None:
        return start.preparation.spacing_mm or like.spacing_mm
    return geometry(like.extent_mm, like.spacing_mm, like.thinnest_mm, LEAST_VOXELS).spacing_mm


def prepared_voxels(case: CasePrint, like: Fingerprint, spacing_mm: Lengths) -> int:
    """Voxels of a case of a dataset when it is prepared."""
    sizes = case.kept if like.has_background else case.shape
    sides = zip(sizes, case.spacing_mm, spacing_mm, strict=True)
    return math.prod(max(1, round(n * mm / wanted)) for n, mm, wanted in sides)


def memory_of_steps(limit: int | None, needed: Need, least_bytes: int) -> int:
    """Memory that steps may take: what a limit leaves, or half of what is free less what is kept.

    Args:
        limit: bytes that the process may use; None where nobody stated any.
        needed: beside the steps, with the longest voxels that a plan may choose.
        least_bytes: of a step with the smallest patches.

    Raises:
        ResourceError: the limit does not suffice for the smallest patches and all else, or what is free does
            not hold libraries, cases and a step.
    """
    if limit is None:
        free, least = available_bytes() or USUAL_BYTES, needed.kept + least_bytes
        if free < least:
            raise ResourceError(
                f"{memory(free)} of memory are free, and the training needs {memory(least)} at least",
                hint="close other programs, or use a machine with more memory",
            )
        left = int(MEMORY_SHARE * free)
    else:
        held, least = held_bytes(), needed.with_steps(least_bytes)
        left = limit - held
        if left < least:
            raise _too_little(limit, held + least)
    return max(least_bytes, left - needed.kept - needed.predicted)


def require_some(limit: int | None, least_bytes: int) -> None:
    """Refuse a limit that is too little whatever the cases are, before any is read.

    Raises:
        ResourceError: it is.
    """
    least = held_bytes() + Need(LIBRARIES).with_steps(least_bytes)
    if limit is not None and limit < least:
        raise _too_little(limit, least, "at least ")


def _too_little(limit: int, least: int, about: str = "") -> ResourceError:
    """The error of a memory that is not enough, with one that is, also if the process holds a little more."""
    least = math.ceil(1.02 * least / STEP) * STEP
    return ResourceError(
        f"a memory of {memory(limit)} is too little: with the smallest patches, this training needs "
        f"{about}{memory(least)}",
        hint=f"give --max-memory {least >> 20}M or more",
    )
