"""The 3D U-Net against the figures of its paper."""

from __future__ import annotations

import math

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.networks.unet3d import UNet3D


def counted(network: torch.nn.Module, *, norm: bool) -> int:
    return sum(p.numel() for key, p in network.named_parameters() if norm or "norm" not in key)


@pytest.mark.parametrize("padding", [True, False])
def test_the_paper_counts_19069955_parameters(padding: bool) -> None:
    with torch.device("meta"):
        network = UNet3D(3, 3, 3, padding=padding)
    assert counted(network, norm=False) == 19_069_955
    assert counted(network, norm=True) == 19_074_627


def test_without_biases_only_the_head_keeps_one() -> None:
    network = UNet3D(3, 1, 2, widths=(4, 8), bias=False)
    assert [key for key, _ in network.named_parameters() if "conv.bias" in key] == []
    assert network.head.bias is not None


def test_valid_convolutions_turn_the_papers_tile_into_the_papers_output() -> None:
    with torch.device("meta"):
        network = UNet3D(3, 3, 3, padding=False)
        assert network(torch.empty(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)


@pytest.mark.parametrize("m", [8, 9, 12])
def test_valid_convolutions_take_28_plus_8m_and_cost_88(m: int) -> None:
    with torch.device("meta"):
        network = UNet3D(2, 1, 2, padding=False)
        assert network(torch.empty(1, 1, 28 + 8 * m, 92)).shape == (1, 2, 28 + 8 * m - 88, 4)


@pytest.mark.parametrize("size", [84, 91, 93, 131])
def test_valid_convolutions_refuse_sizes_off_the_lattice(size: int) -> None:
    with torch.device("meta"):
        network = UNet3D(2, 1, 2, padding=False)
        with pytest.raises(UsageError, match=rf"\(4, 4\) plus a multiple of \(8, 8\), not \({size}, 92\)"):
            network(torch.empty(1, 1, size, 92))


def test_valid_and_padded_convolutions_agree_where_no_padding_is_seen() -> None:
    torch.manual_seed(1)
    padded = UNet3D(2, 1, 2, widths=(2, 4, 4, 6)).double().eval()
    valid = UNet3D(2, 1, 2, widths=(2, 4, 4, 6), padding=False).double().eval()
    valid.load_state_dict(padded.state_dict())
    x = torch.randn(1, 1, 120, 120, dtype=torch.float64)
    # From index 2 on, the valid network pools the same pairs as the padded one.
    with torch.no_grad():
        torch.testing.assert_close(valid(x[:, :, 2:102, 2:102]), padded(x)[:, :, 46:58, 46:58])


def test_the_radius_is_half_the_receptive_field() -> None:
    # Levels cost 2 + 2 voxels each way times 1, 2, 4 and 2 times 8 at the bottom; poolings see up to 7 more.
    with torch.device("meta"):
        network = UNet3D(3, 1, 2)
    assert network.stride == (8, 8, 8)
    assert network.receptive_radius == (51, 51, 51)
    assert all(44 <= halo <= 48 for halo in network.halo)


def test_weights_are_drawn_as_he_says() -> None:
    torch.manual_seed(0)
    network = UNet3D(3, 1, 2, widths=(16, 32, 64))
    inputs = {"encoder.2.1.conv.weight": 32 * 27, "up.1.weight": 64, "decoder.0.0.conv.weight": 48 * 27}
    for key, count in inputs.items():
        weight = network.state_dict()[key]
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / count), rel=0.05), key
        assert abs(float(weight.mean())) < 4 * math.sqrt(2 / count / weight.numel()), key


def test_the_names_of_the_weights_are_stable() -> None:
    network = UNet3D(3, 1, 2, widths=(4, 8), norm="group")
    units = [f"{stage}.{n}" for stage in ("encoder.0", "encoder.1") for n in (0, 1)]
    after = [f"decoder.0.{n}" for n in (0, 1)]
    parts = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    assert list(network.state_dict()) == [
        *(f"{unit}.{part}" for unit in units for part in parts),
        "up.0.weight",
        *(f"{unit}.{part}" for unit in after for part in parts),
        "head.weight",
        "head.bias",
    ]
