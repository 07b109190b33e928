"""The network of the packaged hippocampus model, traced into a file for `monailabel_app`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _network import network_of

from medseg.model.file import find_model

TILE = (40, 56, 40)

if __name__ == "__main__":
    network = network_of(Path(find_model("hippocampus")), threads=2)
    torch.jit.trace(network, torch.zeros(1, 1, *TILE), check_trace=False).save(sys.argv[1])
