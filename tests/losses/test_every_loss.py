"""What holds for every loss of the registry, and for their sums."""

from __future__ import annotations

import itertools

import pytest
import torch
from loss_cases import VARIANTS, Variant, case, certain

from medseg.core.errors import UsageError


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
class TestEveryLoss:
    def test_the_gradient_is_that_of_finite_differences(self, variant: Variant) -> None:
        logits, target = case(variant.regions, size=(2, 3, 2))
        function = variant.build()
        assert torch.autograd.gradcheck(lambda z: function(z, target), logits.requires_grad_())

    def test_the_order_of_the_batch_does_not_matter(self, variant: Variant) -> None:
        logits, target = case(variant.regions, batch=3)
        function = variant.build()
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(function(logits[order], target[order]), function(logits, target))

    def test_nothing_costs_less_than_the_reference_itself(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        function = variant.build()
        perfect = float(function(certain(variant.regions, target), target))
        assert perfect < float(function(logits, target))
        if variant.name != "boundary":  # whose least is below 0
            assert perfect == pytest.approx(0, abs=1e-11)

    def test_empty_and_full_masks_cost_a_finite_amount(self, variant: Variant) -> None:
        drawn, target = case(variant.regions, dtype=torch.float32)
        function = variant.build()
        for scale, label in itertools.product((1.0, 500.0), (0, 1)):
            logits = (drawn * scale).requires_grad_()
            value = function(logits, torch.full_like(target, label))
            value.backward()
            assert value.isfinite(), (scale, label)
            assert value >= 0, (scale, label)
            assert logits.grad is not None
            assert logits.grad.isfinite().all(), (scale, label)

    @pytest.mark.parametrize("full", [False, True])
    def test_of_empty_and_full_masks_the_right_answer_costs_nothing(
        self, variant: Variant, full: bool
    ) -> None:
        _, target = case(variant.regions)
        right, wrong = (torch.full_like(target, int(value)) for value in (full, not full))
        function = variant.build()
        assert float(function(certain(variant.regions, right), right)) == pytest.approx(0, abs=1e-11)
        silent = variant.name == "boundary" or (variant.name == "lovasz" and not variant.regions and not full)
        assert (float(function(certain(variant.regions, wrong), right)) > 0.01) == (not silent)

    def test_narrow_logits_are_computed_in_float32(self, variant: Variant) -> None:
        logits, target = case(variant.regions, size=(8, 12, 16), dtype=torch.float32)
        function = variant.build()
        for dtype in (torch.bfloat16, torch.float16):
            narrow = logits.to(dtype).requires_grad_()
            value = function(narrow, target)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, function(narrow.detach().float(), target))
            value.backward()
            assert narrow.grad is not None
            assert narrow.grad.isfinite().all()

    def test_the_type_of_the_target_does_not_matter(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        function = variant.build()
        regions_alone = (torch.bool, torch.float32) if variant.regions else ()
        for dtype in (torch.uint8, torch.int16, torch.int32, *regions_alone):
            assert torch.equal(function(logits, target.to(dtype)), function(logits, target))

    def test_it_takes_any_number_of_axes(self, variant: Variant) -> None:
        function = variant.build()
        for size in ((7,), (5, 4), (3, 4, 5)):
            logits, target = case(variant.regions, size=size)
            if len(size) < 3:
                thick = function(logits[..., None], target[..., None])
                torch.testing.assert_close(thick, function(logits, target))
            if not variant.measures:
                flat = function(logits.flatten(2), target.flatten(2 if variant.regions else 1))
                torch.testing.assert_close(function(logits, target), flat)

    def test_the_memory_format_does_not_matter(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        function = variant.build()
        found = []
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            leaf = logits.clone(memory_format=layout).requires_grad_()
            value = function(leaf, target)
            value.backward()
            assert leaf.grad is not None
            found.append((value, leaf.grad))
        torch.testing.assert_close(*found)

    def test_neither_outputs_nor_targets_are_changed(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        before = logits.clone(), target.clone()
        variant.build()(logits, target)
        assert torch.equal(logits, before[0])
        assert torch.equal(target, before[1])

    def test_shapes_that_do_not_belong_together_are_refused(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        with pytest.raises(UsageError) as refusal:
            variant.build()(logits, target[..., 1:])
        assert str(tuple(target[..., 1:].shape)) in str(refusal.value)
        assert str(tuple(logits.shape)) in str(refusal.value)

    def test_it_carries_no_weights_of_its_own(self, variant: Variant) -> None:
        assert not variant.build().state_dict()


def left_out(
    logits: torch.Tensor, target: torch.Tensor, kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kept voxels of one image alone, in a row."""
    return logits[0][:, kept[0]].unsqueeze(0), target[0][..., kept[0]].unsqueeze(0)


@pytest.mark.fault("reports 28")
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
class TestEveryLossWithVoxelsToBeIgnored:
    def kept(self, shape: torch.Size, share: float = 0.5) -> torch.Tensor:
        return torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share

    def test_it_is_that_of_the_other_voxels(self, variant: Variant) -> None:
        """Of an image, the loss is that of the kept voxels in a row, as if there were no others."""
        if variant.measures:
            pytest.skip("it matters where the voxels lie")
        logits, target = case(variant.regions, batch=1)
        kept = self.kept(logits[:, 0].shape)
        function = variant.build()
        torch.testing.assert_close(function(logits, target, kept), function(*left_out(logits, target, kept)))

    def test_a_pooled_batch_is_that_of_its_other_voxels(self, variant: Variant) -> None:
        if (
            variant.measures
            or variant.settings.get("batch") is False
            or variant.settings.get("form") == "unetpp"
        ):
            pytest.skip("it takes each image by itself")
        logits, target = case(variant.regions, batch=3)
        kept = self.kept(logits[:, 0].shape)
        row = logits.movedim(1, 0)[:, kept].unsqueeze(0)
        of_row = target.movedim(1, 0)[:, kept].unsqueeze(0) if variant.regions else target[kept].unsqueeze(0)
        function = variant.build()
        torch.testing.assert_close(function(logits, target, kept), function(row, of_row))

    def test_what_is_ignored_neither_counts_nor_pulls(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        kept = self.kept(logits[:, 0].shape)
        everywhere = kept.unsqueeze(1).expand_as(logits)
        other_logits = torch.where(everywhere, logits, logits.roll(1, 1) * 3)
        of_target = everywhere if variant.regions else kept
        other_target = torch.where(of_target, target, 1 - target.clamp(0, 1))
        function = variant.build()
        found = []
        for z, t in ((logits, target), (other_logits, other_target)):
            leaf = z.clone().requires_grad_()
            value = function(leaf, t, kept)
            value.backward()
            assert leaf.grad is not None
            assert not leaf.grad[~everywhere].any()
            assert leaf.grad[everywhere].any()
            found.append((value, leaf.grad))
        torch.testing.assert_close(*found)

    def test_where_all_are_kept_nothing_changes(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        function = variant.build()
        everything = torch.ones_like(logits[:, 0], dtype=torch.bool)
        torch.testing.assert_close(function(logits, target, everything), function(logits, target))

    def test_where_none_is_kept_the_cost_is_finite_and_pulls_nowhere(self, variant: Variant) -> None:
        logits, target = case(variant.regions)
        leaf = logits.clone().requires_grad_()
        value = variant.build()(leaf, target, torch.zeros_like(logits[:, 0], dtype=torch.bool))
        value.backward()
        assert value.isfinite()
        assert leaf.grad is not None
        assert not leaf.grad.any()
