"""Networks by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.model.spec import NetworkSpec
from medseg.networks.registry import build

# Two more input channels of 16 kernels of 5^3, and one more output of 32 weights and a bias.
VNET_OF_THREE = 65_175_314 + 2 * 16 * 125 + 33


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("unet3d", 19_069_955 + 4_672),
        ("vnet", VNET_OF_THREE),
        ("unet", 90_292_738 + 2 * 64 * 27 + 64 + 1),
        ("unetpp", 26_198_273 + 3 * 33 + 2 * 32 * 27 + 4 * 2 * 33),
    ],
)
def test_an_empty_spec_is_the_papers_network(name: str, count: int) -> None:
    with torch.device("meta"):
        network = build(NetworkSpec(name, in_channels=3, out_channels=3))
    assert sum(p.numel() for p in network.parameters()) == count


def test_options_reach_the_constructor() -> None:
    network = build(NetworkSpec("unet3d", widths=(4, 8), options={"padding": False, "activation": "elu"}))
    assert network(torch.zeros(1, 1, 20, 20, 20)).shape == (1, 2, 4, 4, 4)
    assert any(isinstance(m, torch.nn.ELU) for m in network.modules())


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "unet4d"}, "the network 'unet4d' does not exist; did you mean 'unet3d'"),
        (
            {"name": "xyz"},
            "the network 'xyz' does not exist; choose from unet3d, vnet, fast_unet, unet, unetpp",
        ),
        (
            {"name": "vnet", "options": {"padding": False}},
            "vnet has no option padding; choose from activation, bias",
        ),
        ({"name": "unet3d", "options": {"widths": 3}}, "unet3d has no option widths"),
        ({"name": "unet3d", "spatial_dims": 1}, "2 or 3 spatial dimensions, not 1"),
        ({"name": "monai:SegResNet", "spatial_dims": 1}, "2 or 3 spatial dimensions, not 1"),
        ({"name": "unet3d", "options": {"bias": (True,)}}, "unet3d: bias must be true or false, not (True,)"),
        ({"name": "unetpp", "options": {"prune": True}}, "unetpp: prune must be a whole number, not True"),
        (
            {"name": "unetpp", "options": {"mode": "slow"}},
            "unetpp: mode = 'slow' is not an allowed value; choose from accurate, fast",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        build(NetworkSpec(**spec))
    assert says in str(refusal.value)
