"""What is computed in bf16 agrees with float32, where the processor's library computes it wrongly too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medseg.model.spec import NetworkSpec
from medseg.networks.registry import build
from medseg.training.processor import compute_thin_maps_in_f32


@pytest.mark.parametrize(("kernel", "size"), [(5, (4, 4, 4)), (3, (2, 8, 8)), (5, (3, 8, 8)), (3, (8, 8, 8))])
def test_gradients_in_bf16_are_those_of_f32(kernel: int, size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(16, 16, kernel, padding=kernel // 2)
    image, upstream = torch.randn(2, 16, *size), torch.randn(2, 16, *size)
    conv(image).backward(upstream)
    exact = conv.weight.grad.clone()
    conv.weight.grad = None
    compute_thin_maps_in_f32(conv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conv(image)
    found.float().backward(upstream)
    assert (conv.weight.grad - exact).abs().max() < 0.02 * exact.abs().max()


def test_a_guarded_network_is_the_same_network() -> None:
    network = build(NetworkSpec("vnet", widths=(4, 8)))
    image = torch.randn(1, 1, 8, 8, 8)
    network.eval()
    before, keys = network(image), list(network.state_dict())
    guarded = copy.deepcopy(network)
    compute_thin_maps_in_f32(guarded)
    assert list(copy.deepcopy(guarded).state_dict()) == keys
    assert torch.equal(guarded(image), before)
