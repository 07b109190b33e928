"""The published networks against torchvision and segmentation_models.pytorch, of the extra `bench`.

Weights of theirs are given to ours, convolution by convolution in the order they are computed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build
from medseg.networks.parts import Style
from medseg.networks.registry import create

LEAVES = (nn.Conv2d, nn.BatchNorm2d)
OPERATORS = ("nms", "qnms")


def library(name: str) -> ModuleType:
    """A library, or the test is skipped. torchvision of another build than torch lacks its operators, which
    no network here needs, and which it asks for where it is imported."""
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for operator in OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            declared.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    return pytest.importorskip(name)


def settled(network: nn.Module) -> nn.Module:
    """The network with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def image() -> Tensor:
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def computed(network: nn.Module) -> list[nn.Module]:
    """Convolutions and norms, in the order they are computed."""
    found: list[nn.Module] = []
    hooks = [
        m.register_forward_hook(lambda m, _, __: found.append(m))
        for m in network.modules()
        if isinstance(m, LEAVES)
    ]
    with torch.no_grad():
        network(image())
    for hook in hooks:
        hook.remove()
    return found


def shapes(module: nn.Module) -> dict[str, Any]:
    return {"": isinstance(module, nn.Conv2d)} | {name: v.shape for name, v in module.state_dict().items()}


def give(theirs: nn.Module, ours: nn.Module) -> None:
    """Every weight of theirs to the next of ours that has its shape; none is left."""
    left = computed(ours)
    for module in computed(theirs):
        place = next(n for n, own in enumerate(left) if shapes(own) == shapes(module))
        left.pop(place).load_state_dict(module.state_dict())
    assert not left


def encoder(name: str, norm: Any, output_stride: int = 0) -> nn.Module:
    return ENCODERS[name](Build(Style(2, norm), 3, (), (), (), output_stride, "paper")).eval()


class Features(nn.Module):
    """The maps of the four layers of torchvision's ResNet."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        net: Any = self.network
        maps = [net.maxpool(net.relu(net.bn1(net.conv1(x))))]
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            maps.append(layer(maps[-1]))
        return maps[1:]


@pytest.mark.parametrize(
    ("name", "dilated"), [("resnet18", 0), ("resnet50", 2), ("resnet101", 1), ("resnet152", 0)]
)
def test_resnet_is_torchvisions(name: str, dilated: int) -> None:
    models = library("torchvision.models")
    asked = {"replace_stride_with_dilation": [False, dilated > 1, dilated > 0]} if dilated else {}
    theirs = Features(settled(getattr(models, name)(**asked)))
    ours = encoder(name, "batch", 32 >> dilated if dilated else 0)
    give(theirs, ours)
    with torch.no_grad():
        for one, other in zip(theirs(image()), ours(image())[-4:], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn"])
def test_vgg_is_torchvisions(name: str) -> None:
    theirs = settled(getattr(library("torchvision.models"), name)().features)
    ours = encoder(name.removesuffix("_bn"), "batch" if name.endswith("_bn") else "none")
    give(theirs, ours)
    with torch.no_grad():
        torch.testing.assert_close(ours(image())[-1], theirs(image()), rtol=1e-4, atol=1e-5)


def test_deeplabv3_is_torchvisions() -> None:
    models = library("torchvision.models.segmentation")
    theirs = settled(models.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21))
    options = {"encoder": "resnet50", "output_stride": 8, "rates": (12, 24, 36)}
    ours = create("deeplabv3", 3, 21, spatial_dims=2, options=options).eval()
    give(theirs, ours)
    with torch.no_grad():
        expected = theirs(image())["out"]
        torch.testing.assert_close(
            ours(image()), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_unet_on_an_encoder_is_segmentation_models(name: str) -> None:
    library("torchvision")
    smp = library("segmentation_models_pytorch")
    theirs = settled(smp.Unet(name, encoder_weights=None, classes=5))
    ours = create("unet_encoder", 3, 5, spatial_dims=2, options={"encoder": name}).eval()
    give(theirs, ours)
    with torch.no_grad():
        expected = theirs(image())
        torch.testing.assert_close(
            ours(image()), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )
