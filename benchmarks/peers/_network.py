"""The network of a model file as torch has it, for peers that bring none."""

from __future__ import annotations

from pathlib import Path

import torch

from medseg.model.file import load_model
from medseg.networks import registry


def network_of(model: Path, threads: int) -> torch.nn.Module:
    torch.set_num_threads(threads)
    loaded = load_model(str(model))
    network = registry.build(loaded.spec.network)
    network.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in loaded.weights.items()})
    return network.eval()
