"""The V-Net against the figures of its paper."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.reach import trace
from medseg.networks.vnet import ResidualStage, TileChannels, VNet


def test_the_paper_has_65171858_weights_and_3456_slopes() -> None:
    with torch.device("meta"):
        network = VNet(3, 1, 2)
    slopes = sum(p.numel() for key, p in network.named_parameters() if "activation" in key)
    assert slopes == 3_456
    assert sum(p.numel() for p in network.parameters()) == 65_171_858 + slopes


def test_the_receptive_fields_are_those_of_the_papers_table() -> None:
    with torch.device("meta"):
        network = VNet(3, 1, 2)
    reaches = trace(network, 3)
    left = [reaches[f"encoder.{n}.activation"][0].field for n in range(5)]
    right = [reaches[f"decoder.{n}.activation"][0].field for n in reversed(range(4))]
    assert left == [5, 22, 72, 172, 372]
    assert right == [476, 528, 546, 551]
    assert network.receptive_radius == (275, 275, 275)
    assert network.stride == (16, 16, 16)


def test_the_residual_joins_before_the_last_activation() -> None:
    stage = ResidualStage(2, 1, 3, depth=1, kernel=(3, 3), norm="none", activation="relu", bias=True)
    torch.nn.init.zeros_(stage.body[0].conv.weight)  # type: ignore[union-attr, arg-type]
    torch.nn.init.zeros_(stage.body[0].conv.bias)  # type: ignore[union-attr, arg-type]
    x = torch.tensor([[[[-1.0, 2.0]]]])
    torch.testing.assert_close(stage(x), torch.tensor([[[[0.0, 2.0]]] * 3]).reshape(1, 3, 1, 2))


@pytest.mark.parametrize(("channels", "expected"), [(2, [0, 1, 0, 1]), (3, [0, 1, 2, 0]), (5, [0, 1, 2, 3])])
def test_channels_are_tiled_in_turn(channels: int, expected: list[int]) -> None:
    x = torch.arange(channels, dtype=torch.float32).reshape(1, channels, 1, 1)
    assert TileChannels(channels, 4)(x).flatten().tolist() == expected


def test_the_names_of_the_weights_are_stable() -> None:
    network = VNet(3, 1, 2, widths=(2, 4, 6), bias=False)
    assert list(network.state_dict()) == [
        "encoder.0.body.0.conv.weight",
        "encoder.0.activation.weight",
        "encoder.1.body.0.conv.weight",
        "encoder.1.body.0.activation.weight",
        "encoder.1.body.1.conv.weight",
        "encoder.1.activation.weight",
        "encoder.2.body.0.conv.weight",
        "encoder.2.body.0.activation.weight",
        "encoder.2.body.1.conv.weight",
        "encoder.2.body.1.activation.weight",
        "encoder.2.body.2.conv.weight",
        "encoder.2.activation.weight",
        "down.0.conv.weight",
        "down.0.activation.weight",
        "down.1.conv.weight",
        "down.1.activation.weight",
        "up.0.conv.weight",
        "up.0.activation.weight",
        "up.1.conv.weight",
        "up.1.activation.weight",
        "decoder.0.body.0.conv.weight",
        "decoder.0.activation.weight",
        "decoder.1.body.0.conv.weight",
        "decoder.1.body.0.activation.weight",
        "decoder.1.body.1.conv.weight",
        "decoder.1.activation.weight",
        "head.weight",
        "head.bias",
    ]
