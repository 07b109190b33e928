"""Our losses in the loops of others: targets of every shape, reductions, autocast, and MONAI beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medseg import losses
from medseg.core.errors import UsageError
from medseg.networks import UNet3D

OF_LABELS = (
    "BoundaryLoss", "CrossEntropyLoss", "DiceCELoss", "DiceLoss", "FocalLoss", "FocalTverskyLoss",
    "GeneralisedDiceLoss", "JaccardLoss", "LovaszLoss", "TopKLoss", "TverskyLoss",
)  # fmt: skip


def case(batch: int = 3, outputs: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, outputs, 6, 5, 4, generator=generator)
    return logits, torch.randint(0, outputs, (batch, 6, 5, 4), generator=generator)


def one_hot(labels: Tensor, outputs: int = 3) -> Tensor:
    return functional.one_hot(labels, outputs).movedim(-1, 1)


@pytest.mark.parametrize("name", OF_LABELS)
class TestEveryLoss:
    def test_it_takes_a_target_as_labels_with_a_channel_or_one_hot(self, name: str) -> None:
        from monai.data import MetaTensor

        logits, labels = case()
        loss = getattr(losses, name)()
        wanted = loss(logits, labels)
        for target in (
            labels[:, None],
            labels[:, None].float(),
            one_hot(labels),
            one_hot(labels).float(),
            one_hot(labels).bool(),
            MetaTensor(labels[:, None].float()),
        ):
            assert torch.equal(loss(logits, target), wanted)
        kept = torch.rand(labels.shape) > 0.5
        assert torch.equal(loss(logits, labels, kept[:, None]), loss(logits, labels, kept))
        assert type(loss(MetaTensor(logits), labels)) is Tensor

    def test_reductions_are_of_images(self, name: str) -> None:
        logits, labels = case()
        make = getattr(losses, name)
        each = make(reduction="none")(logits, labels)
        alone = [make()(logits[n : n + 1], labels[n : n + 1]) for n in range(3)]
        torch.testing.assert_close(each, torch.stack(alone))
        torch.testing.assert_close(make(reduction="sum")(logits, labels), torch.stack(alone).sum())
        with pytest.raises(UsageError, match="did you mean 'mean'"):
            make(reduction="meen")

    def test_under_autocast_it_is_computed_in_float32(self, name: str) -> None:
        logits, labels = case()
        narrow = logits.bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            value = getattr(losses, name)()(narrow, labels)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, getattr(losses, name)()(narrow.detach().float(), labels))
        value.backward()
        assert narrow.grad is not None
        assert narrow.grad.isfinite().all()


class TestRefused:
    def test_soft_labels_are_not_one_hot(self) -> None:
        logits, labels = case()
        with pytest.raises(UsageError, match="must be one-hot"):
            losses.DiceLoss()(logits, one_hot(labels) * 0.5)

    def test_a_mask_of_other_shape(self) -> None:
        logits, labels = case()
        with pytest.raises(UsageError, match="does not fit logits"):
            losses.DiceLoss()(logits, labels, torch.ones(3, 6, 5, dtype=torch.bool))

    def test_losses_of_one_kind_of_outputs(self) -> None:
        with pytest.raises(UsageError, match="DiceCELoss"):
            losses.BCEDiceLoss(regions=False)
        with pytest.raises(UsageError, match="BCEDiceLoss"):
            losses.DiceCELoss(regions=True)


def test_one_region_may_lack_its_axis() -> None:
    logits, _ = case(outputs=1)
    mask = case(outputs=2)[1]
    loss = losses.BCEDiceLoss()
    assert torch.equal(loss(logits, mask), loss(logits, mask[:, None].float()))


class TestBesideMonai:
    @pytest.mark.parametrize("batch", [False, True])
    @pytest.mark.parametrize("squared", [False, True])
    @pytest.mark.parametrize("background", [False, True])
    def test_dice_is_theirs(self, batch: bool, squared: bool, background: bool) -> None:
        from monai.losses import DiceLoss

        logits, labels = case()
        shared: dict[str, Any] = {"include_background": background, "batch": batch}
        theirs = DiceLoss(
            softmax=True, to_onehot_y=True, squared_pred=squared, smooth_nr=1.0, smooth_dr=1.0, **shared
        )
        ours = losses.DiceLoss(denominator="squared" if squared else "linear", **shared)
        torch.testing.assert_close(ours(logits, labels[:, None]), theirs(logits, labels[:, None]))

    def test_regions_too(self) -> None:
        from monai.losses import DiceLoss

        logits, labels = case()
        theirs = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
        regions = one_hot(labels).float()
        torch.testing.assert_close(losses.DiceLoss(regions=True)(logits, regions), theirs(logits, regions))

    def test_dice_with_cross_entropy_is_theirs(self) -> None:
        from monai.losses import DiceCELoss

        logits, labels = case()
        weights = (0.5, 2.0, 1.0)
        theirs = DiceCELoss(
            softmax=True, to_onehot_y=True, include_background=True, batch=True, smooth_nr=1.0, smooth_dr=1.0
        )
        ours = losses.DiceCELoss(include_background=True)
        torch.testing.assert_close(ours(logits, labels), theirs(logits, labels[:, None]))
        weighted = losses.CrossEntropyLoss(class_weights=weights)(logits, labels)
        torch.testing.assert_close(weighted, functional.cross_entropy(logits, labels, torch.tensor(weights)))

    def test_tversky_is_theirs(self) -> None:
        from monai.losses import TverskyLoss

        logits, labels = case()
        theirs = TverskyLoss(
            softmax=True, to_onehot_y=True, include_background=False, alpha=0.3, beta=0.7, batch=True,
            smooth_nr=1.0, smooth_dr=1.0,
        )  # fmt: skip
        torch.testing.assert_close(losses.TverskyLoss()(logits, labels), theirs(logits, labels[:, None]))


def learns(network: torch.nn.Module, loss: Any, steps: int = 12) -> bool:
    """Whether a loop such as MONAI's tutorials have brings the loss down."""
    labels = torch.zeros(2, 1, 8, 8, 8)
    labels[:, :, 2:6, 2:6, 2:6] = 1
    images = labels + 0.1 * torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    seen = []
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(network(images), labels)
        value.backward()
        optimiser.step()
        seen.append(value.item())
    return seen[-1] < 0.7 * seen[0]


def test_a_network_of_monai_learns_with_our_loss() -> None:
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))
    assert learns(network, losses.DiceCELoss())


def test_our_network_learns_with_a_loss_of_monai() -> None:
    from monai.losses import DiceCELoss

    torch.manual_seed(0)
    network = UNet3D(3, in_channels=1, out_channels=2, widths=(4, 8), norm="instance")
    assert learns(network, DiceCELoss(softmax=True, to_onehot_y=True))
