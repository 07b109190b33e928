"""Receptive fields against hand calculations and spoilt voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.networks.layers import Enlarge
from medseg.networks.reach import AxisReach, trace

START = AxisReach(1, np.zeros(1, np.int64), np.zeros(1, np.int64))


def test_two_convolutions_of_three_see_five_voxels() -> None:
    reach = START.window(3, 1, 1).window(3, 1, 1)
    assert (reach.left, reach.right, reach.field, reach.period) == (2, 2, 5, 1)


def test_pooling_and_back_sees_the_pair_it_stands_in() -> None:
    reach = START.window(2, 2, 0).transposed(2, 2, 0)
    assert (reach.low.tolist(), reach.high.tolist()) == ([0, 0], [1, 1])
    assert (reach.field, reach.period, reach.halo) == (3, 2, 0)


def test_a_shared_window_moves_nothing() -> None:
    reach = START.shared(4)
    assert (reach.low.tolist(), reach.high.tolist(), reach.origin) == ([0] * 4, [3] * 4, 0)


def test_valid_convolutions_stand_for_the_middle_of_what_they_see() -> None:
    reach = START.window(5, 1, 0)
    assert (reach.origin, reach.left, reach.right, reach.halo) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv3d(1, 1, 3, padding=2, dilation=2)],
        [nn.Conv3d(1, 1, 3, stride=2, padding=1), nn.ConvTranspose3d(1, 1, 4, stride=2, padding=1)],
        [nn.AvgPool3d(2), nn.ConvTranspose3d(1, 1, 3, stride=2, padding=1, output_padding=1)],
        [nn.AvgPool3d(3, stride=3), nn.ConvTranspose3d(1, 1, 3, stride=3), nn.Conv3d(1, 1, 3, padding=1)],
        [nn.AvgPool3d(3, stride=3), Enlarge((3, 3, 3), "nearest"), nn.Conv3d(1, 1, 3, padding=1)],
        [nn.AvgPool3d((4, 2, 1), stride=(4, 2, 1)), Enlarge((4, 2, 1), "linear")],
    ],
    ids=["dilated", "overlapping", "odd", "thirds", "copied", "blended"],
)
def test_single_layers_see_what_spoils_them(layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*layers).double()
    reach = list(trace(network, 3).values())[-1][0]
    length, middle = 36, 12
    seen: dict[int, list[int]] = {}
    for voxel in range(length):
        x = torch.ones(1, 1, length, 6, 6, dtype=torch.float64)
        x[:, :, voxel] = torch.nan
        for output in network(x).isnan().any(4).any(3)[0, 0].nonzero().flatten().tolist():
            seen.setdefault(output, []).append(voxel)
    for phase in range(len(reach.low)):
        found = seen[middle + phase]
        assert (found[0], found[-1]) == (middle + reach.low[phase], middle + reach.high[phase])


def test_linear_interpolation_sees_the_two_nearest() -> None:
    # Centres of thirds lie at -1/3, 0 and 1/3 of a coarse position, which stands for 3 voxels.
    thirds = START.window(3, 3, 0).blended(3)
    assert (thirds.low.tolist(), thirds.high.tolist()) == ([-3, 0, 0], [2, 2, 5])
    assert START.window(2, 2, 0).blended(1).low.tolist() == [0]
    with pytest.raises(TypeError, match="resolution"):
        START.blended(2)


def test_an_operation_without_a_rule_is_refused() -> None:
    class Shuffled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(2)

    with pytest.raises(TypeError, match="flip"):
        trace(Shuffled(), 3)
    with pytest.raises(TypeError, match="Bilinear"):
        trace(nn.Sequential(nn.UpsamplingBilinear2d(scale_factor=2)), 2)


def test_maps_of_unlike_grids_do_not_meet() -> None:
    with pytest.raises(TypeError, match="different grids"):
        START.union(START.window(2, 2, 0))
    with pytest.raises(TypeError, match="resolution"):
        START.transposed(2, 2, 0)
