"""What is computed in bf16 agrees with float32, where the processor's library computes it wrongly too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from medseg.model.spec import NetworkSpec
from medseg.networks import arithmetic
from medseg.networks.arithmetic import guard_convolutions
from medseg.networks.registry import build


def results(conv: nn.Module, image: Tensor, upstream: Tensor, *, bf16: bool) -> list[Tensor]:
    """The map, and the gradients of image and weights."""
    image = image.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        said = conv(image)
    return [said.detach().float(), *torch.autograd.grad(said.float(), (image, conv.weight), upstream)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv3d(16, 16, 5, padding=2), (4, 4, 4)),
        (nn.Conv3d(16, 16, 3, padding=1), (2, 8, 8)),
        (nn.Conv3d(16, 16, 5, padding=2), (3, 8, 8)),
        (nn.Conv3d(16, 16, 3, padding=1), (8, 8, 8)),
        (nn.Conv3d(3, 3, 3, 2, padding=1), (16, 16, 16)),
        (nn.Conv3d(8, 8, 2, 4), (16, 16, 16)),
        (nn.ConvTranspose3d(4, 4, 16, 8, padding=4), (3, 3, 3)),
        (nn.ConvTranspose2d(4, 4, 16, 8, padding=4), (4, 4)),
        (nn.Conv2d(4, 4, 16, padding=7), (24, 24)),
    ],
)
def test_maps_and_gradients_in_bf16_are_those_of_f32(conv: nn.Module, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    channels = conv.in_channels
    image = torch.randn(2, channels, *size)  # type: ignore[call-overload]
    upstream = torch.randn(conv(image).shape)
    exact = results(conv, image, upstream, bf16=False)
    guard_convolutions(conv)
    for a, b in zip(exact, results(conv, image, upstream, bf16=True), strict=True):
        assert (a - b).norm() < 0.02 * a.norm()


def test_a_convolution_that_is_wrong_in_bf16_computes_in_f32(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(twin: nn.Module, image: Tensor, *, bf16: bool, learns: bool) -> list[Tensor]:
        return [torch.full((4,), 2.0 if bf16 else 1.0)]

    monkeypatch.setattr(arithmetic, "_RIGHT", {})
    conv, image = nn.Conv3d(4, 4, 3, padding=1), torch.randn(1, 4, 8, 8, 8)
    guard_convolutions(conv)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(image).dtype is torch.bfloat16
        assert len(arithmetic._RIGHT) == 1
        conv(image)
        assert len(arithmetic._RIGHT) == 1
    monkeypatch.setattr(arithmetic, "_RIGHT", {})
    monkeypatch.setattr(arithmetic, "_results", spoilt)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(image).dtype is torch.float32


def test_a_guarded_network_is_the_same_network() -> None:
    network = build(NetworkSpec("vnet", widths=(4, 8)))
    image = torch.randn(1, 1, 8, 8, 8)
    network.eval()
    before, keys = network(image), list(network.state_dict())
    guarded = copy.deepcopy(network)
    guard_convolutions(guarded)
    guard_convolutions(guarded)
    assert list(copy.deepcopy(guarded).state_dict()) == keys
    assert torch.equal(guarded(image), before)
