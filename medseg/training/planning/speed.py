"""What a training step costs on this machine, measured on a small network of the kind that is planned."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from medseg.inference.engines.torch import best_device, find_device
from medseg.losses import registry as losses
from medseg.losses.spec import LossSpec
from medseg.model.spec import NetworkSpec
from medseg.networks.layers import MEMORY_FORMATS
from medseg.training.processor import autocast_dtype
from medseg.training.setup import build_network

SIDE, BATCH, WARM, ROUNDS = 48, 2, 2, 12
MOST_SECONDS = 10.0
BASE = 16
"""Width of the first level of the network that is measured."""


@dataclass(frozen=True)
class Speed:
    """What a step costs.

    Attributes:
        seconds_per_voxel: of a batch; where no network was given, for one whose first level has `BASE`
            channels.
    """

    seconds_per_voxel: float


def measured_network() -> NetworkSpec:
    """The network that is measured where none is given."""
    widths = tuple(BASE * n for n in (1, 2, 4, 8))
    return NetworkSpec("unet3d", widths=widths, norm="batch", options={"bias": False})


def measured_speed(spec: NetworkSpec, *, device: str, threads: int) -> Speed:
    """Train a few steps on noise, and time the fastest, which other work disturbed least; seconds at most.

    Args:
        spec: the network, of three dimensions.
        device: "cpu", "cuda", "cuda:N", "mps" or "auto".
        threads: of the processor; 0 takes what there is.
    """
    where = find_device(best_device() if device == "auto" else device)
    with torch.random.fork_rng():
        network = build_network(spec, seed=0, device=device, threads=threads).train()
        loss = losses.build(LossSpec("dice_ce"), regions=False)
        optimizer = torch.optim.AdamW(network.parameters())
        images = torch.randn(BATCH, spec.in_channels, SIDE, SIDE, SIDE, device=where)
        images = images.to(memory_format=MEMORY_FORMATS[3])
        labels = torch.randint(spec.out_channels, (BATCH, SIDE, SIDE, SIDE), device=where)
    dtype = autocast_dtype(where, "auto")
    times = []
    began = time.monotonic()
    for number in range(WARM + ROUNDS):
        if number > WARM and time.monotonic() - began > MOST_SECONDS:
            break
        start = time.monotonic()
        with torch.autocast(where.type, dtype=dtype, enabled=dtype is not None):
            answer = network(images)
        optimizer.zero_grad(set_to_none=True)
        loss(answer.float(), labels).backward()
        optimizer.step()
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    return Speed(min(times[WARM:]) / (BATCH * SIDE**3))
