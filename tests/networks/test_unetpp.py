"""UNet++ against the figures of its paper, and its ways to answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medseg.core.errors import UsageError
from medseg.networks.unetpp import MeanProbability, UNetPlusPlus, pruned_weights

PRUNED = {
    2: (100_961, 511_105, 2_204_961, 9_041_601),
    3: (294_049, 1_482_433, 6_389_601, 26_198_273),
}


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def small(**settings: object) -> UNetPlusPlus:
    torch.manual_seed(2)
    return UNetPlusPlus(2, 1, 3, widths=(2, 4, 4, 6), **settings).double().eval()  # type: ignore[arg-type]


def image() -> Tensor:
    return torch.randn(1, 1, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_pruned_networks_count_what_the_paper_counts(spatial_dims: int, level: int) -> None:
    with torch.device("meta"):
        network = UNetPlusPlus(spatial_dims, 1, 1, prune=level)  # type: ignore[arg-type]
    assert count(network) == PRUNED[spatial_dims][level - 1]
    assert network.stride == (2**level,) * spatial_dims


@pytest.mark.parametrize("mode", ["accurate", "fast"])
def test_four_heads_cost_99_weights_more_than_one(mode: str) -> None:
    with torch.device("meta"):
        assert count(UNetPlusPlus(2, 1, 1, mode=mode)) == 9_041_700  # type: ignore[arg-type]


@pytest.mark.parametrize("exclusive", [True, False])
def test_accurate_mode_answers_with_the_mean_probability_of_the_heads(exclusive: bool) -> None:
    network = small(exclusive=exclusive)
    with torch.no_grad():
        answer, heads = network(image()), network.heads(image())
    assert len(heads) == 3
    squash = (lambda x: x.softmax(1)) if exclusive else torch.sigmoid
    mean = torch.stack([squash(head) for head in heads]).mean(0)
    torch.testing.assert_close(squash(answer), mean, rtol=0, atol=1e-8)


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_mean_of_certain_heads_is_finite_in_value_and_gradient(exclusive: bool) -> None:
    heads = [torch.full((1, 2, 1, 1), 300.0).mul(torch.tensor([s, -s]).view(1, 2, 1, 1)) for s in (1, 1)]
    for head in heads:
        head.requires_grad_()
    answer = MeanProbability(exclusive=exclusive)(*heads)
    assert (answer[:, 0] - answer[:, 1]).item() == pytest.approx(600)
    answer.sum().backward()
    assert all(head.grad is not None and head.grad.isfinite().all() for head in heads)


def test_one_output_is_a_sigmoid_whatever_is_said() -> None:
    torch.manual_seed(0)
    network = UNetPlusPlus(2, 1, 1, widths=(2, 4, 4), exclusive=True).eval()
    x = image().float()
    with torch.no_grad():
        mean = torch.stack(network.heads(x)).sigmoid().mean(0)
        torch.testing.assert_close(network(x).sigmoid(), mean)


def test_fast_mode_is_the_last_head() -> None:
    network = small(mode="fast")
    with torch.no_grad():
        torch.testing.assert_close(network(image()), network.heads(image())[0], rtol=0, atol=0)
    assert network.head_weights == (1 / 3,) * 3


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_pruned_network_answers_as_its_head_of_the_whole(level: int) -> None:
    whole, pruned = small(), small(prune=level)
    weights = pruned_weights(whole.state_dict(), level)
    pruned.load_state_dict(weights)
    with torch.no_grad():
        expected = whole.heads(image())[3 - level]
        torch.testing.assert_close(pruned(image()), expected, rtol=0, atol=1e-12)
        assert [head.shape for head in pruned.heads(image())] == [expected.shape]
    assert pruned.head_weights == (1.0,)
    kept = pruned_weights(weights, level)
    assert list(kept) == list(weights)


def test_level_0_prunes_nothing_and_a_missing_head_is_told() -> None:
    weights = small().state_dict()
    assert pruned_weights(weights, 0) == dict(weights)
    with pytest.raises(UsageError, match=r"level 4; choose one of the levels 1, 2, 3"):
        pruned_weights(weights, 4)


def test_a_node_sees_every_node_of_its_row() -> None:
    # Node (0, 3) joins 3 maps of its row and one from below, of widths[0] each.
    network = small()
    first = network.node["0_3"][0]  # type: ignore[index]
    assert first.conv.in_channels == 4 * 2
    assert sorted(network.node) == ["0_0", "0_1", "0_2", "0_3", "1_0", "1_1", "1_2", "2_0", "2_1", "3_0"]


def test_the_blocks_are_those_of_the_authors_code() -> None:
    units = [m for m in UNetPlusPlus(2, 1, 1, widths=(2, 4)).modules() if type(m).__name__ == "ConvUnit"]
    assert {type(u.activation).__name__ for u in units} == {"ELU"}
    assert {u.dropout.p for u in units} == {0.5}  # type: ignore[union-attr]


@pytest.mark.parametrize("settings", [{"mode": "slow"}, {"prune": 4}, {"prune": -1}, {"dropout": 1.0}])
def test_arguments_that_make_no_network_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        small(**settings)
