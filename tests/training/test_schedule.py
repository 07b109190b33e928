"""Learning rate, weight decay and averaged weights, against the formulas worked by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, RMSprop

from medseg.core.errors import UsageError
from medseg.training.schedule import (
    AveragedWeights,
    build_optimizer,
    freeze_norms,
    frozen_from,
    learning_rate,
)
from medseg.training.spec import TrainingSpec

SPEC = TrainingSpec(learning_rate=0.1, warmup_steps=4, schedule_power=0.5)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.PReLU(2))


def test_the_rate_warms_up_in_a_line_and_decays_to_nothing() -> None:
    rates = [learning_rate(step, 12, SPEC) for step in range(13)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.1 * 0.25**0.5)
    assert rates[12] == 0.0
    assert max(rates) == pytest.approx(0.1)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_the_rate_falls_by_a_factor_an_epoch() -> None:
    """As of Tiramisu: RMSprop at 1e-3, times 0.995 after each epoch (arXiv:1611.09326, section 4)."""
    spec = TrainingSpec(
        learning_rate=1e-3, warmup_steps=0, schedule_power=0.0, epoch_decay=0.995, steps_per_epoch=10
    )
    rates = [learning_rate(step, 1000, spec) for step in (0, 9, 10, 25, 999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3 * 0.995, 1e-3 * 0.995**2, 1e-3 * 0.995**99])
    for wrong in (0.0, 1.1):
        with pytest.raises(UsageError, match="epoch_decay must be above 0 and at most 1"):
            TrainingSpec(epoch_decay=wrong)


def test_steps_beyond_the_last_and_trainings_shorter_than_the_warm_up_have_a_rate() -> None:
    assert learning_rate(20, 12, SPEC) == 0.0
    assert learning_rate(2, 3, SPEC) == pytest.approx(0.075)
    assert learning_rate(0, 1, TrainingSpec(warmup_steps=0, learning_rate=0.5)) == 0.5


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("sgd", SGD), ("rmsprop", RMSprop)])
def test_weight_decay_acts_on_convolutions_only(name: str, kind: type) -> None:
    network = small_network()
    optimizer = build_optimizer(network, TrainingSpec(optimizer=name, weight_decay=0.3))  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decayed) == len(list(network.parameters()))
    assert {n: decayed[id(p)] for n, p in network.named_parameters()} == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.0,
    }


def test_adamw_takes_each_gradient_for_its_own_weight() -> None:
    """Its fused kernel reads memory in order, in whatever layout weights and gradients lie."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 4, 3, bias=False), nn.ReLU(), nn.ConvTranspose3d(4, 3, 2, stride=2))
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizers = (
        build_optimizer(network, TrainingSpec(learning_rate=0.01, weight_decay=0.0)),
        AdamW(plain.parameters(), lr=0.01, weight_decay=0.0, foreach=False),
    )
    for _ in range(4):
        images = torch.randn(2, 2, 6, 6, 6)
        for each, optimizer in zip((network, plain), optimizers, strict=True):
            optimizer.zero_grad()
            each(images).square().mean().backward()
            optimizer.step()
    for found, wanted in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_rmsprop_takes_each_gradient_over_its_own_running_size() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    spec = TrainingSpec(optimizer="rmsprop", learning_rate=0.1, weight_decay=0.0)
    optimizer = build_optimizer(nn.ParameterList([weight]), spec)
    weight.grad = torch.tensor([100.0, -0.01])
    optimizer.step()
    torch.testing.assert_close(
        weight.detach(), torch.tensor([-1.0, 1.0]), rtol=1e-4, atol=0
    )  # 0.1 / 0.01^0.5


def test_sgd_without_momentum_is_plain() -> None:
    optimizer = build_optimizer(small_network(), TrainingSpec(optimizer="sgd", momentum=0.0))
    assert not optimizer.param_groups[0]["nesterov"]


def set_all(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)


def test_the_average_follows_the_recursion_worked_by_hand() -> None:
    network = small_network()
    set_all(network, 1.0)
    averaged = AveragedWeights(network, 0.25)
    set_all(network, 3.0)
    averaged.update(network)  # decay 2/11: 2/11 * 1 + 9/11 * 3
    expected = 2 / 11 + 27 / 11
    torch.testing.assert_close(averaged.tensors["0.weight"], torch.full((2, 1, 1, 1, 1), expected))
    set_all(network, 5.0)
    averaged.update(network)  # decay min(1/4, 3/12): 1/4
    expected = expected / 4 + 5 * 3 / 4
    torch.testing.assert_close(averaged.tensors["1.running_var"], torch.full((2,), expected))
    set_all(network, 7.0)
    averaged.update(network)  # decay min(1/4, 4/13): 1/4 still
    torch.testing.assert_close(averaged.tensors["2.weight"], torch.full((2,), expected / 4 + 7 * 3 / 4))
    assert averaged.tensors["1.num_batches_tracked"] == 7
    assert averaged.updates == 3


def test_without_decay_the_average_is_the_network() -> None:
    network = small_network()
    averaged = AveragedWeights(network, 0.0)
    for seed in range(3):
        torch.manual_seed(seed)
        nn.init.normal_(network[0].weight)
        averaged.update(network)
    for key, value in network.state_dict().items():
        assert torch.equal(averaged.tensors[key], value)


def test_the_average_neither_moves_with_the_network_nor_moves_it() -> None:
    network = small_network()
    averaged = AveragedWeights(network, 0.9)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    averaged.update(network)
    averaged.tensors["0.weight"].zero_()
    for key, value in network.state_dict().items():
        assert torch.equal(before[key], value)


def test_a_loaded_average_goes_on_where_it_was() -> None:
    network = small_network()
    first, second = AveragedWeights(network, 0.9), AveragedWeights(network, 0.9)
    set_all(network, 3.0)
    first.update(network)
    second.load({key: value.clone() for key, value in first.tensors.items()}, first.updates)
    set_all(network, 5.0)
    first.update(network)
    second.update(network)
    for key, value in first.tensors.items():
        assert torch.equal(second.tensors[key], value)
    with pytest.raises(KeyError):
        second.load({}, 1)


def test_frozen_statistics_are_the_averaged_ones_and_stay() -> None:
    network = small_network()
    averaged = AveragedWeights(network, 0.5)
    for _ in range(4):
        network.train()(torch.randn(2, 1, 5, 5, 5) + 3)
        averaged.update(network)
    expected = {k: averaged.tensors[f"1.{k}"].clone() for k in ("running_mean", "running_var")}
    assert not torch.equal(network[1].running_mean, expected["running_mean"])
    for first in (True, False, False):
        network.train()
        freeze_norms(network, averaged, first=first)
        network(torch.randn(2, 1, 5, 5, 5) - 7)
        averaged.update(network)
        for key, value in expected.items():
            assert torch.equal(getattr(network[1], key), value)
            torch.testing.assert_close(averaged.tensors[f"1.{key}"], value)
    assert network[0].training
    network.train()(torch.randn(2, 1, 5, 5, 5) - 7)
    assert not torch.equal(network[1].running_mean, expected["running_mean"])


@pytest.mark.parametrize(("share", "step"), [(0.0, 40), (0.25, 30), (1.0, 0)])
def test_the_share_of_frozen_steps_is_the_last_one(share: float, step: int) -> None:
    assert frozen_from(40, TrainingSpec(frozen_norm_share=share)) == step


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_frozen_steps_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="frozen_norm_share must be in"):
        TrainingSpec(frozen_norm_share=share)
