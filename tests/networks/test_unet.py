"""The U-Net against the figures of its paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.networks.layers import Enlarge
from medseg.networks.registry import create
from medseg.networks.unet import UNet


@pytest.mark.parametrize(
    ("spatial_dims", "channels", "settings", "count"),
    [
        (2, (1, 2), {}, 31_030_658),
        (2, (1, 1), {}, 31_030_593),
        (2, (1, 2), {"padding": False}, 31_030_658),
        (2, (3, 2), {"norm": "batch", "bias": False}, 31_037_698),
        (3, (1, 2), {}, 90_292_738),
        (3, (1, 2), {"widths": (32, 64, 128, 256, 512)}, 22_575_362),
    ],
)
def test_the_parameters_are_those_of_the_paper(
    spatial_dims: int, channels: tuple[int, int], settings: dict[str, object], count: int
) -> None:
    with torch.device("meta"):
        network = UNet(spatial_dims, *channels, **settings)  # type: ignore[arg-type]
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("size", "output"), [(572, 388), (188, 4), (60 + 16 * 13, 84)])
def test_valid_convolutions_take_60_plus_16m_and_cost_184(size: int, output: int) -> None:
    with torch.device("meta"):
        network = UNet(2, 1, 2, padding=False)
        assert network(torch.empty(1, 1, size, 188)).shape == (1, 2, output, 4)


@pytest.mark.parametrize("size", [172, 187, 189, 571, 573])
def test_valid_convolutions_refuse_sizes_off_the_lattice(size: int) -> None:
    with torch.device("meta"):
        network = UNet(2, 1, 2, padding=False)
        with pytest.raises(UsageError, match=r"\(12, 12\) plus a multiple of \(16, 16\), not "):
            network(torch.empty(1, 1, size, 188))


def test_valid_and_padded_convolutions_agree_where_no_padding_is_seen() -> None:
    torch.manual_seed(1)
    padded = UNet(2, 1, 2, widths=(2, 4, 4)).double().eval()
    valid = UNet(2, 1, 2, widths=(2, 4, 4), padding=False).double().eval()
    valid.load_state_dict(padded.state_dict())
    x = torch.randn(1, 1, 72, 72, dtype=torch.float64)
    # A valid U-Net of three levels costs 40 voxels; from index 2 on, both pool the same pairs.
    with torch.no_grad():
        torch.testing.assert_close(valid(x[:, :, 2:70, 2:70]), padded(x)[:, :, 22:50, 22:50])


def test_the_contracting_path_ends_in_dropout() -> None:
    network = UNet(2, 1, 2, widths=(2, 2, 2, 2))
    assert [type(m).__name__ for m in network.dropout] == ["Identity", "Identity", "Dropout", "Dropout"]
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        still = UNet(2, 1, 2, widths=(2, 2, 2, 2), dropout=0.0)
        still.load_state_dict(network.state_dict())
        torch.testing.assert_close(still(x), network.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_dropout_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"dropout must be in \[0, 1\)"):
        UNet(2, 1, 2, dropout=share)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("up", ["nearest", "linear", "nails", "unpool"])
def test_maps_are_enlarged_as_asked(up: str, dims: Any) -> None:
    torch.manual_seed(0)
    network = create("unet", 1, 2, spatial_dims=dims, widths=(4, 8), up=up).eval()
    x = torch.randn(1, 1, *(8,) * dims)
    with torch.no_grad():
        assert network(x).shape == (1, 2, *x.shape[2:])
    assert network.stride == (2,) * dims


def test_nails_stand_at_the_first_place_of_their_block() -> None:
    x = torch.arange(1.0, 5).reshape(1, 1, 2, 2)
    assert Enlarge((1, 2), "nails")(x)[0, 0].tolist() == [[1, 0, 2, 0], [3, 0, 4, 0]]
    assert Enlarge((2, 2), "nails")(x)[0, 0].tolist() == [[1, 0, 2, 0], [0] * 4, [3, 0, 4, 0], [0] * 4]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"up": "cubic"}, "unet: up "),
        ({"up": "unpool", "padding": False}, "a U-Net that unpools needs padding"),
    ],
)
def test_enlargements_that_do_not_fit_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        create("unet", widths=(4, 8), **settings)
    assert told in str(refusal.value)
