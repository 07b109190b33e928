"""Encoders by name: an image (B, C, *S) -> maps, finest first, whose widths and strides are `maps`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medseg.networks.encoders.encoder import Encoder
from medseg.networks.encoders.hrnet import HRNet
from medseg.networks.encoders.resnet import BLOCKS, ResNet
from medseg.networks.encoders.spinenet import SpineNet
from medseg.networks.encoders.vgg import CONVOLUTIONS, VGG

ENCODERS: dict[str, Callable[..., Encoder]] = {
    **{f"vgg{depth}": partial(VGG, depth=depth) for depth in CONVOLUTIONS},
    **{f"resnet{depth}": partial(ResNet, depth=depth) for depth in BLOCKS},
    **{f"hrnet{width}": partial(HRNet, width=width) for width in (8, 18, 32, 48)},
    "spinenet49s": partial(SpineNet, scale=0.65, end=128),
    "spinenet49": SpineNet,
    "spinenet96": partial(SpineNet, repeats=2),
    "spinenet143": partial(SpineNet, alpha=1, repeats=3),
    "spinenet190": partial(SpineNet, scale=1.3, alpha=1, repeats=4, end=512),
}
