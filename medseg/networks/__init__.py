"""Networks for segmentation (B, C, *S) -> logits (B, K, *S), each as its paper describes it.

The first arguments of each are `spatial_dims` (2 or 3), `in_channels` and `out_channels`; all others are
keywords, whose defaults are the paper's. `create` makes one by name. Only the names listed here are public.

>>> from medseg.networks import available, create
>>> [name for name in available() if "net3" in name or name.startswith("deeplab")]
['deeplabv1', 'deeplabv2', 'deeplabv3', 'deeplabv3plus', 'unet3d']
>>> import torch
>>> network = create("unet3d", in_channels=1, out_channels=3, widths=(8, 16))
>>> network(torch.zeros(1, 1, 16, 16, 16)).shape
torch.Size([1, 3, 16, 16, 16])
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg.networks.attention_unet import AttentionUNet
    from medseg.networks.fast_unet import FastUNet
    from medseg.networks.plain_unet import PlainUNet
    from medseg.networks.registry import available, create
    from medseg.networks.resunet import ResUNet
    from medseg.networks.unet import UNet
    from medseg.networks.unet3d import UNet3D
    from medseg.networks.unetpp import UNetPlusPlus
    from medseg.networks.vnet import VNet

__all__ = [
    "AttentionUNet",
    "FastUNet",
    "PlainUNet",
    "ResUNet",
    "UNet",
    "UNet3D",
    "UNetPlusPlus",
    "VNet",
    "available",
    "create",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AttentionUNet": "medseg.networks.attention_unet",
        "FastUNet": "medseg.networks.fast_unet",
        "PlainUNet": "medseg.networks.plain_unet",
        "ResUNet": "medseg.networks.resunet",
        "UNet": "medseg.networks.unet",
        "UNet3D": "medseg.networks.unet3d",
        "UNetPlusPlus": "medseg.networks.unetpp",
        "VNet": "medseg.networks.vnet",
        "available": "medseg.networks.registry",
        "create": "medseg.networks.registry",
    },
)
