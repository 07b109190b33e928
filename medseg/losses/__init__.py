"""Losses for segmentation, each a module (logits (B, K, *S), target) -> scalar, from its paper.

A target is labels (B, *S) or (B, 1, *S), or one-hot (B, K, *S); with `regions=True`, where a loss has it, the
outputs overlap (sigmoid), and the target is (B, K, *S). Every loss takes `reduction`, and runs on any
device and under autocast. Only the names listed here are public.

>>> import torch
>>> from medseg.losses import DiceCELoss
>>> logits = torch.randn(2, 3, 8, 8, 8, requires_grad=True)
>>> loss = DiceCELoss()(logits, torch.randint(0, 3, (2, 1, 8, 8, 8)))
>>> loss.backward()
>>> logits.grad.shape
torch.Size([2, 3, 8, 8, 8])
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg.losses.bce_dice import BCEDiceLoss
    from medseg.losses.boundary import BoundaryLoss
    from medseg.losses.cross_entropy import CrossEntropyLoss
    from medseg.losses.dice import DiceLoss
    from medseg.losses.dice_ce import DiceCELoss
    from medseg.losses.focal import FocalLoss
    from medseg.losses.generalised_dice import GeneralisedDiceLoss
    from medseg.losses.lovasz import LovaszLoss
    from medseg.losses.scheduled import WeightedSum
    from medseg.losses.top_k import TopKLoss
    from medseg.losses.tversky import FocalTverskyLoss, JaccardLoss, TverskyLoss

__all__ = [
    "BCEDiceLoss",
    "BoundaryLoss",
    "CrossEntropyLoss",
    "DiceCELoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralisedDiceLoss",
    "JaccardLoss",
    "LovaszLoss",
    "TopKLoss",
    "TverskyLoss",
    "WeightedSum",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BCEDiceLoss": "medseg.losses.bce_dice",
        "BoundaryLoss": "medseg.losses.boundary",
        "CrossEntropyLoss": "medseg.losses.cross_entropy",
        "DiceCELoss": "medseg.losses.dice_ce",
        "DiceLoss": "medseg.losses.dice",
        "FocalLoss": "medseg.losses.focal",
        "FocalTverskyLoss": "medseg.losses.tversky",
        "GeneralisedDiceLoss": "medseg.losses.generalised_dice",
        "JaccardLoss": "medseg.losses.tversky",
        "LovaszLoss": "medseg.losses.lovasz",
        "TopKLoss": "medseg.losses.top_k",
        "TverskyLoss": "medseg.losses.tversky",
        "WeightedSum": "medseg.losses.scheduled",
    },
)
