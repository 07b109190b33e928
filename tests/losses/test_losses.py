"""Losses against hand calculations, finite differences and MONAI."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import UsageError
from medseg.losses.registry import LOSSES, build
from medseg.losses.spec import LossSpec

DENOMINATORS = ("linear", "squared")
KINDS = [(name, regions) for name, takes in LOSSES.items() for regions in takes]
OUTPUTS = 3


def loss(name: str, regions: bool, **settings: Any) -> torch.nn.Module:
    return build(LossSpec(name, **settings), regions=regions)  # type: ignore[arg-type]


def case(
    regions: bool, *, batch: int = 2, size: tuple[int, ...] = (3, 4, 5), dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Random logits (B, K, *S), and labels (B, *S) or regions (B, K, *S)."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(batch, OUTPUTS, *size, generator=generator, dtype=dtype)
    if regions:
        return logits, torch.randint(0, 2, logits.shape, generator=generator)
    return logits, torch.randint(0, OUTPUTS, (batch, *size), generator=generator)


def perfect(regions: bool, target: Tensor) -> Tensor:
    """Logits that leave no doubt."""
    if regions:
        return (target.double() - 0.5) * 400
    return functional.one_hot(target, OUTPUTS).movedim(-1, 1).double() * 400


@pytest.mark.parametrize(("name", "regions"), KINDS)
class TestEveryLoss:
    @pytest.mark.parametrize("batch", [True, False])
    @pytest.mark.parametrize("denominator", DENOMINATORS)
    def test_the_gradient_is_that_of_finite_differences(
        self, name: str, regions: bool, denominator: str, batch: bool
    ) -> None:
        logits, target = case(regions, size=(2, 3, 2))
        weights = (0.5, 2.0, 1.0)
        function = loss(name, regions, denominator=denominator, batch=batch, class_weights=weights)
        assert torch.autograd.gradcheck(lambda z: function(z, target), logits.requires_grad_())

    @pytest.mark.parametrize("denominator", DENOMINATORS)
    @pytest.mark.parametrize("batch", [True, False])
    def test_the_order_of_the_batch_does_not_matter(
        self, name: str, regions: bool, batch: bool, denominator: str
    ) -> None:
        logits, target = case(regions, batch=3)
        function = loss(name, regions, batch=batch, denominator=denominator)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(function(logits[order], target[order]), function(logits, target))

    @pytest.mark.parametrize("denominator", DENOMINATORS)
    def test_a_perfect_prediction_costs_nothing(self, name: str, regions: bool, denominator: str) -> None:
        _, target = case(regions)
        value = loss(name, regions, denominator=denominator)(perfect(regions, target), target)
        assert float(value) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("batch", [True, False])
    @pytest.mark.parametrize("denominator", DENOMINATORS)
    @pytest.mark.parametrize("scale", [1.0, 500.0])
    @pytest.mark.parametrize("full", [False, True])
    def test_empty_and_full_masks_cost_a_finite_amount(
        self, name: str, regions: bool, full: bool, scale: float, denominator: str, batch: bool
    ) -> None:
        logits, target = case(regions, dtype=torch.float32)
        logits = (logits * scale).requires_grad_()
        whole = torch.full_like(target, int(full))
        value = loss(name, regions, denominator=denominator, batch=batch)(logits, whole)
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_narrow_logits_are_computed_in_float32(
        self, name: str, regions: bool, dtype: torch.dtype
    ) -> None:
        logits, target = case(regions, size=(20, 40, 40), dtype=torch.float32)
        narrow = logits.to(dtype).requires_grad_()
        function = loss(name, regions)
        value = function(narrow, target)
        torch.testing.assert_close(value, function(narrow.detach().float(), target))
        value.backward()
        assert narrow.grad is not None
        assert narrow.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
    def test_the_integer_type_of_the_target_does_not_matter(
        self, name: str, regions: bool, dtype: torch.dtype
    ) -> None:
        logits, target = case(regions)
        function = loss(name, regions)
        assert torch.equal(function(logits, target.to(dtype)), function(logits, target))

    @pytest.mark.parametrize("size", [(7,), (5, 4), (3, 4, 5)])
    def test_it_takes_any_number_of_axes(self, name: str, regions: bool, size: tuple[int, ...]) -> None:
        logits, target = case(regions, size=size)
        flat = loss(name, regions)(logits.flatten(2), target.flatten(2 if regions else 1))
        torch.testing.assert_close(loss(name, regions)(logits, target), flat)

    def test_the_memory_format_does_not_matter(self, name: str, regions: bool) -> None:
        logits, target = case(regions)
        last = logits.to(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(loss(name, regions)(last, target), loss(name, regions)(logits, target))

    def test_nor_does_it_for_the_gradient(self, name: str, regions: bool) -> None:
        logits, target = case(regions)
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            leaf = logits.clone(memory_format=layout).requires_grad_()
            loss(name, regions)(leaf, target).backward()
            assert leaf.grad is not None
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients)

    def test_shapes_that_do_not_belong_together_are_refused(self, name: str, regions: bool) -> None:
        logits, target = case(regions)
        with pytest.raises(UsageError) as refusal:
            loss(name, regions)(logits, target[..., 1:])
        assert str(tuple(target[..., 1:].shape)) in str(refusal.value)
        assert str(tuple(logits.shape)) in str(refusal.value)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("background", [True, False])
def test_label_losses_equal_monais(background: bool, denominator: str, batch: bool) -> None:
    import monai.losses

    logits, target = case(False)
    settings = {"batch": batch, "include_background": background}
    theirs: dict[str, Any] = {
        "softmax": True,
        "to_onehot_y": True,
        "squared_pred": denominator == "squared",
        "smooth_nr": 0.5,
        "smooth_dr": 0.5,
        **settings,
    }
    ours: dict[str, Any] = {"denominator": denominator, "smooth": 0.5, **settings}
    expected = monai.losses.DiceLoss(**theirs)(logits, target[:, None])
    torch.testing.assert_close(loss("dice", False, **ours)(logits, target), expected)
    both = monai.losses.DiceCELoss(**theirs, lambda_dice=0.3, lambda_ce=2.0)(logits, target[:, None])
    found = loss("dice_ce", False, **ours, dice_weight=0.3, ce_weight=2.0)(logits, target)
    torch.testing.assert_close(found, both)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_region_losses_equal_monais(denominator: str, batch: bool) -> None:
    import monai.losses

    logits, target = case(True)
    squared = denominator == "squared"
    theirs = monai.losses.DiceLoss(
        sigmoid=True, squared_pred=squared, batch=batch, smooth_nr=1.0, smooth_dr=1.0
    )
    found = loss("dice", True, denominator=denominator, batch=batch)(logits, target)
    torch.testing.assert_close(found, theirs(logits, target.double()))


@pytest.mark.parametrize(("denominator", "predicted"), [("linear", 0.8 + 0.4), ("squared", 0.64 + 0.16)])
def test_a_hand_calculated_dice(denominator: str, predicted: float) -> None:
    # Two voxels: the first is the structure and has p = 0.8, the second is not and has p = 0.4.
    p = torch.tensor([0.8, 0.4], dtype=torch.float64)
    expected = 1 - (2 * 0.8 + 1) / (predicted + 1 + 1)
    regions = loss("dice", True, denominator=denominator)
    found = regions(torch.logit(p).reshape(1, 1, 2), torch.tensor([[[1, 0]]]))
    assert float(found) == pytest.approx(expected)
    labels = loss("dice", False, denominator=denominator)
    found = labels(torch.stack([(1 - p).log(), p.log()])[None], torch.tensor([[1, 0]]))
    assert float(found) == pytest.approx(expected)


def test_hand_calculated_sums_of_dice_and_cross_entropy() -> None:
    p = torch.tensor([0.8, 0.4], dtype=torch.float64)
    dice = 1 - (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1)
    entropy = -(math.log(0.8) + math.log(1 - 0.4)) / 2
    found = loss("bce_dice", True, dice_weight=3.0, ce_weight=0.5)(
        torch.logit(p).reshape(1, 1, 2), torch.tensor([[[1, 0]]])
    )
    assert float(found) == pytest.approx(3 * dice + 0.5 * entropy)
    logits = torch.stack([(1 - p).log(), p.log()])[None]
    weighted = -(4 * math.log(0.8) + 1 * math.log(1 - 0.4)) / (4 + 1)
    found = loss("dice_ce", False, class_weights=(1.0, 4.0))(logits, torch.tensor([[1, 0]]))
    assert float(found) == pytest.approx(dice + weighted)


def test_the_squared_gradient_is_vnets() -> None:
    # dD/dp_j = 2 [g_j (sum p^2 + sum g^2) - 2 p_j sum p g] / (sum p^2 + sum g^2)^2, without smoothing.
    generator = torch.Generator().manual_seed(2)
    p = torch.rand(50, generator=generator, dtype=torch.float64).requires_grad_()
    g = (torch.rand(50, generator=generator) > 0.6).double()
    function = loss("dice", True, denominator="squared", smooth=1e-300)
    function.of_regions(p.reshape(1, 1, -1), g.reshape(1, 1, -1)).backward()  # type: ignore[operator]
    below = p.square().sum() + g.square().sum()
    expected = 2 * (g * below - 2 * p * (p * g).sum()) / below.square()
    torch.testing.assert_close(p.grad, -expected.detach())


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_an_absent_structure_costs_by_its_false_positives(denominator: str) -> None:
    function = loss("dice", True, denominator=denominator)
    target = torch.zeros(1, 1, 1000)
    sizes = [0, 1, 10, 1000]
    values = []
    for size in sizes:
        logits = torch.full((1, 1, 1000), -200.0)
        logits[..., :size] = 200.0
        values.append(float(function(logits, target)))
    assert values == pytest.approx([1 - 1 / (size + 1) for size in sizes])
    assert all(a < b for a, b in itertools.pairwise(values))


def test_an_absent_structure_never_pulls_harder_than_one_over_smooth() -> None:
    function = loss("dice", True, smooth=0.5)
    p = torch.full((1, 1, 10), 1e-9, dtype=torch.float64).requires_grad_()
    function.of_regions(p, torch.zeros(1, 1, 10)).backward()  # type: ignore[operator]
    assert p.grad is not None
    assert float(p.grad.max()) == pytest.approx(1 / 0.5)


def test_pooling_the_batch_weighs_voxels_and_not_samples() -> None:
    target = torch.zeros(2, 1, 100, dtype=torch.float64)
    target[0] = 1
    target[1, :, 0] = 1
    logits = torch.where(target > 0, 200.0, -200.0).double()
    logits[1] = -200.0  # the one voxel of the second sample is missed
    pooled = float(loss("dice", True, batch=True)(logits, target))
    each = float(loss("dice", True, batch=False)(logits, target))
    assert pooled == pytest.approx(1 - 201 / 202)
    assert each == pytest.approx((0 + 1 - 1 / 2) / 2)


def test_a_million_voxels_are_counted_to_the_last_digits() -> None:
    logits, target = case(False, batch=1, size=(64, 128, 128), dtype=torch.float32)
    logits = logits * 0.01
    logits[:, 1] += 6  # probabilities just below 1, which a running float32 sum would round up
    target = torch.ones_like(target)
    wide = float(loss("dice", False)(logits.double(), target))
    assert float(loss("dice", False)(logits, target)) == pytest.approx(wide, abs=2e-7)


def test_a_spec_is_json_and_its_defaults_are_dice_and_cross_entropy() -> None:
    spec = LossSpec(denominator="squared", class_weights=(1.0, 2.0))
    read = json.loads(json.dumps(asdict(spec)))
    assert LossSpec(**{**read, "class_weights": tuple(read["class_weights"])}) == spec
    assert LossSpec().name == "dice_ce"


@pytest.mark.parametrize(
    "settings",
    [{"denominator": "cubed"}, {"smooth": 0.0}, {"dice_weight": -1.0}, {"class_weights": (1.0, math.inf)}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LossSpec(**settings)


@pytest.mark.parametrize(
    ("name", "regions", "says"),
    [
        ("focal", False, "no loss named 'focal'; there are dice, dice_ce, bce_dice"),
        ("dice_ce", True, "the loss 'dice_ce' does not take regions; choose one of dice, bce_dice"),
        ("bce_dice", False, "the loss 'bce_dice' does not take labels; choose one of dice, dice_ce"),
    ],
)
def test_unknown_and_unfitting_names_are_refused(name: str, regions: bool, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        loss(name, regions)
    assert str(refusal.value) == says


@pytest.mark.parametrize(
    ("logits", "target", "says"),
    [
        ((1, 1, 4), torch.zeros(1, 4, dtype=torch.int64), "two outputs or more"),
        ((1, 3, 4), torch.zeros(1, 4), "must be integers, not torch.float32"),
        ((1, 3, 4), torch.tensor([[0, 1, 2, 3]]), "labels from 0 to 3 do not fit 3 outputs"),
        ((1, 3, 4), torch.tensor([[0, 1, -1, 2]]), "labels from -1 to 2 do not fit 3 outputs"),
    ],
)
def test_labels_that_are_no_outputs_are_refused(logits: tuple[int, ...], target: Tensor, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        loss("dice_ce", False)(torch.zeros(logits), target)


def test_a_batch_whose_labels_all_weigh_nothing_has_no_cross_entropy() -> None:
    logits, target = case(False)
    function = loss("dice_ce", False, class_weights=(0.0, 1.0, 1.0), dice_weight=0.0)
    assert float(function(logits, torch.zeros_like(target))) == 0


@pytest.mark.parametrize(("name", "regions"), [("dice_ce", False), ("bce_dice", True)])
def test_class_weights_that_do_not_match_the_outputs_are_refused(name: str, regions: bool) -> None:
    with pytest.raises(UsageError, match="2 class weights do not fit 3 outputs"):
        loss(name, regions, class_weights=(1.0, 2.0))(*case(regions))
