"""Processes that train one network together, as `torchrun` starts them.

Each computes its share of every batch, and the gradients are averaged (Li et al. 2020, PyTorch Distributed,
arXiv:2006.15704). The first process keeps the run: it alone writes, validates and measures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medseg.core.errors import UsageError, plural

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""For which the others wait while the first process reads, validates or measures."""

BACKEND = "cpu:gloo,cuda:nccl"


@dataclass(frozen=True)
class Team:
    """The processes of a training, and which of them this is.

    Attributes:
        rank: of this process; the first is 0.
        size: how many there are.
        local_rank: of this process among those of its machine, which is also the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process keeps the run."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """The device of this process, where "auto" and "cuda" give each a GPU of its own."""
        if self.size == 1 or wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            return wanted
        return f"cuda:{self.local_rank}"

    def agreed(self, value: T) -> T:
        """What the first process has."""
        if self.size == 1:
            return value
        box = [value if self.leads else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return cast(T, box[0])

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.size

    def require_shares(self, batch: int) -> None:
        """Refuse a batch that the processes cannot share.

        Raises:
            UsageError: its size is no multiple of their number.
        """
        if batch % self.size:
            more = -(-batch // self.size) * self.size
            raise UsageError(
                f"{self.size} processes cannot share a batch of {batch} {plural(batch, 'patch', 'patches')}",
                hint=f"set training.batch = {more} in the recipe, or start another number of processes",
            )

    def share(self, batch: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch."""
        return batch[self.rank :: self.size]

    def joined(self, module: nn.Module, *, some_unused: bool) -> nn.Module:
        """The module, its gradients averaged over the processes.

        Args:
            module: the same in all, on this process's device.
            some_unused: whether a step leaves parameters without a gradient.
        """
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        own = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=own, find_unused_parameters=some_unused)


ALONE = Team()


@contextmanager
def started() -> Iterator[Team]:
    """The team that `torchrun` started this process in, by its environment; a process by itself is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        yield ALONE
        return
    team = Team(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(team.local_rank % torch.cuda.device_count())
    dist.init_process_group(BACKEND if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield team
    finally:
        dist.destroy_process_group()
