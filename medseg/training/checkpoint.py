"""Checkpoints: the whole state of a training in one safetensors file, written completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.optim import Optimizer

from medseg.core.digest import tensor_digest
from medseg.core.errors import InputError
from medseg.io.atomic import atomic_write

SCHEMA = "medseg.checkpoint/1"
MEND = "train into another folder, or add --overwrite"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name and the plain values beside them."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def section(self, name: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `name/`, without it."""
        start = f"{name}/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically; the checkpoint that was there is kept as `<stem>.previous.safetensors`."""
    tensors = {key: value.detach().contiguous() for key, value in checkpoint.tensors.items()}
    values = json.dumps(checkpoint.values, sort_keys=True)
    header = {"schema": SCHEMA, "values": values, "digest": _digest(tensors, values)}
    data = save_tensors(tensors, metadata=header)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(data)
        if path.exists():
            _keep(path)


def _keep(path: Path) -> None:
    """Give the checkpoint at `path` the name of the one before it too; neither name is ever without one."""
    with atomic_write(previous_of(path), overwrite=True) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        InputError: it cannot be read, is damaged, or was not written by medseg.
    """
    try:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        schema, text, stated = metadata["schema"], metadata["values"], metadata["digest"]
        tensors = load_tensors(data)
        values = json.loads(text)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as fault:
        raise InputError(f"the checkpoint is damaged ({fault})", source=path) from None
    if schema != SCHEMA:
        raise InputError(
            f"the checkpoint has the schema {schema!r}, but this medseg reads {SCHEMA!r}", source=path
        )
    if stated != _digest(tensors, text):
        raise InputError("the checkpoint is damaged (its digest does not match its content)", source=path)
    return Checkpoint(tensors, values)


def load_latest(path: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint at `path`, or the one before it when that is damaged.

    Returns:
        The checkpoint, or None where there is none; and a warning, or None.

    Raises:
        InputError: there are checkpoints but none can be read: a training never starts again
            from nothing in silence.
    """
    present = [p for p in (path, previous_of(path)) if p.exists()]
    faults = []
    for candidate in present:
        try:
            found = load(candidate)
        except InputError as fault:
            faults.append(str(fault))
            continue
        return found, ("; ".join([*faults, "the checkpoint before it is used"]) if faults else None)
    if faults:
        raise InputError(
            "none of the checkpoints can be read",
            source=path.parent,
            hint=MEND,
        )
    return None, None


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's running values, flat: `<parameter number>/<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value)
        for number, entry in state.items()
        for name, value in entry.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser the running values of `optimizer_tensors`, each laid out like its parameter.

    Raises:
        IndexError: there are values of more parameters than it has.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        like = parameters[int(number)]
        fits = value.shape == like.shape
        state.setdefault(int(number), {})[name] = torch.empty_like(like).copy_(value) if fits else value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _digest(tensors: dict[str, Tensor], values: str) -> str:
    """SHA-256 of the values and of the tensors' names, types, shapes and bytes."""
    return tensor_digest(
        values, ((key, str(v.dtype), tuple(v.shape), _bytes(v)) for key, v in sorted(tensors.items()))
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
