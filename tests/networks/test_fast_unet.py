"""The U-Net for processors."""

from __future__ import annotations

import itertools

import pytest
import torch

from medseg.core.errors import UsageError
from medseg.networks.fast_unet import FastUNet


def drawn(spatial_dims: int = 3, detail: int = 0) -> FastUNet:
    torch.manual_seed(4)
    network = FastUNet(spatial_dims, 1, 3, widths=(4, 8), norm="instance", detail=detail).eval()
    torch.nn.init.normal_(network.fine.weight, std=0.5)
    if network.mix is not None:
        torch.nn.init.normal_(network.mix.weight, std=0.5)
    return network


def test_the_first_level_works_at_half_the_resolution() -> None:
    network = drawn()
    image = torch.zeros(2, 1, 8, 12, 16)
    assert network.features(image).shape == (2, 4, 4, 6, 8)
    assert network(image).shape == (2, 3, 8, 12, 16)
    assert network.stride == (4, 4, 4)


def test_the_parameters_are_counted_by_hand() -> None:
    down = (1 * 4 + 4 * 8) * 2**3 + 4 + 8
    encoder = 27 * (4 * 4 + 2 * 8 * 8) + 2 * (4 + 2 * 8)
    up, decoder = 8 * 4 * 2**3 + 4, 27 * 4 * 4 + 2 * 4
    head = 4 * 4 * 2**3 + 4 + 4 * 3 + 3
    assert sum(p.numel() for p in drawn().parameters()) == down + encoder + up + decoder + head


@pytest.mark.parametrize("detail", [0, 5])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_phase_is_a_part_of_the_whole_answer(spatial_dims: int, detail: int) -> None:
    network = drawn(spatial_dims, detail=detail)
    image = torch.randn(1, 1, *(8, 12, 16)[:spatial_dims], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(image)
        for phase in itertools.product(*(range(s) for s in network.phases)):
            taken = whole[(..., *(slice(p, None, 2) for p in phase))]
            torch.testing.assert_close(network.at_phase(image, phase), taken, rtol=1e-5, atol=1e-5)


def test_at_first_every_phase_says_the_same() -> None:
    network = FastUNet(3, 1, 3, widths=(4, 8))
    assert network.fine.weight.reshape(4, 4, 8).std(dim=2).max() == 0


def test_detail_changes_nothing_at_first() -> None:
    image = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, more = FastUNet(3, 2, 3, widths=(4, 8)), FastUNet(3, 2, 3, widths=(4, 8), detail=6)
    missing = more.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert sorted(missing) == ["mix.weight", "near.bias", "near.weight"]
    with torch.no_grad():
        torch.testing.assert_close(more.eval()(image), plain.eval()(image), rtol=0, atol=0)
        torch.nn.init.ones_(more.mix.weight)
        assert not torch.equal(more(image), plain(image))


def test_shortcuts_are_added() -> None:
    network = FastUNet(3, 1, 2, widths=(4, 8))
    assert network.decoder[0][0].conv.in_channels == 4


@pytest.mark.parametrize("settings", [{"widths": (8,)}, {"widths": (8, 0)}, {"depth": 0}, {"detail": -1}])
def test_arguments_that_make_no_network_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="at least two widths"):
        FastUNet(3, 1, 2, **settings)  # type: ignore[arg-type]
