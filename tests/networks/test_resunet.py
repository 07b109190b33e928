"""The residual U-Net."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.networks.resunet import ResidualPair, ResUNet


def pair(in_channels: int, channels: int, stride: int = 1, **settings: object) -> ResidualPair:
    return ResidualPair(
        2, in_channels, channels, kernel=(3, 3), stride=(stride, stride), bias=True,
        **({"norm": "none", "activation": "relu"} | settings),  # type: ignore[arg-type]
    )  # fmt: skip


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "prelu"])
def test_a_pair_that_has_learnt_nothing_hands_its_input_on(activation: str) -> None:
    same = pair(3, 3, activation=activation)
    last = same.body[1].conv
    nn.init.zeros_(last.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(last.bias)  # type: ignore[union-attr, arg-type]
    x = image(1, 3, 4, 4)
    before = x.clone()
    torch.testing.assert_close(same(x), before, rtol=0, atol=0)


def test_a_pair_is_what_its_layers_make_of_it() -> None:
    torch.manual_seed(0)
    strided = pair(2, 3, stride=2, norm="batch").eval()
    first, second = strided.body
    x = image(1, 2, 8, 8)
    with torch.no_grad():
        inner = nn.functional.conv2d(first.norm(x).relu(), first.conv.weight, first.conv.bias, 2, 1)
        outer = nn.functional.conv2d(second.norm(inner).relu(), second.conv.weight, second.conv.bias, 1, 1)
        beside = nn.functional.conv2d(x, strided.shortcut.weight, stride=2)
        torch.testing.assert_close(strided(x), outer + beside)


def test_the_parameters_are_counted_by_hand() -> None:
    # Widths 4 and 8, 1 -> 2 channels, no norm: pairs 1-4, 4-8 and 12-4, their shortcuts, and the head.
    pairs = 9 * (1 * 4 + 4 * 4) + 8 + 9 * (4 * 8 + 8 * 8) + 16 + 9 * (12 * 4 + 4 * 4) + 8
    shortcuts, head = 1 * 4 + 4 * 8 + 12 * 4, 4 * 2 + 2
    network = ResUNet(2, 1, 2, widths=(4, 8), norm="none")
    assert sum(p.numel() for p in network.parameters()) == pairs + shortcuts + head


def test_the_papers_widths_are_three_strides_deep() -> None:
    with torch.device("meta"):
        network = ResUNet(2, 3, 1)
        assert network.stride == (8, 8)
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, 1, 224, 224)
    assert sum(p.numel() for p in network.parameters()) == 8_219_585
