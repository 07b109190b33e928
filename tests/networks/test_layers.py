"""Convolutions give what torch gives, and never ask oneDNN for what it computes wrongly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.model.spec import NetworkSpec
from medseg.networks.arithmetic import Conv2d
from medseg.networks.registry import build


class AskedConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Kernels and strides of the convolutions asked of torch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args = tuple(args)
        if func.overloadpacket is torch.ops.aten.convolution:
            self.found.append((tuple(args[1].shape[2:]), tuple(args[3])))
        return func(*args, **(kwargs or {}))


def gradients(conv: nn.Conv2d, image: Tensor, upstream: Tensor) -> list[Tensor]:
    image = image.clone().requires_grad_()
    conv.zero_grad()
    conv(image).backward(upstream)
    return [image.grad, *(parameter.grad.clone() for parameter in conv.parameters())]


@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("kernel", [1, 3, (1, 3)])
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_a_convolution_is_torchs(kernel: Any, stride: Any, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pad = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    theirs = nn.Conv2d(4, 8, kernel, stride=stride, padding=pad)  # in this layout, oneDNN is not at fault
    ours = Conv2d(4, 8, kernel, stride=stride, padding=pad)
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 4, *size)
    upstream = torch.randn(theirs(image).shape)
    torch.testing.assert_close(ours(image), theirs(image))
    torch.testing.assert_close(gradients(ours, image, upstream), gradients(theirs, image, upstream))


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec("resunet", 1, 2, spatial_dims=2, widths=(4, 8, 16)),
        NetworkSpec("resunet", 1, 2, spatial_dims=2, widths=(4, 8), kernels=((3, 3), (1, 1))),
        NetworkSpec("plain_unet", 1, 2, spatial_dims=2, widths=(4, 8), kernels=((3, 3), (1, 1))),
        NetworkSpec(
            "monai:DynUNet", 1, 2, spatial_dims=2,
            options={
                "kernel_size": (3,) * 3, "strides": (1, 2, 2), "upsample_kernel_size": (2, 2),
                "filters": (4, 8, 16), "res_block": True, "stride": 4,
            },
        ),
    ],
    ids=["resunet", "resunet-pointwise", "plain_unet-pointwise", "monai"],
)  # fmt: skip
def test_no_network_asks_for_a_strided_convolution_of_single_pixels(spec: NetworkSpec) -> None:
    with AskedConvolutions() as asked:
        build(spec)(torch.zeros(2, 1, 16, 16))
    assert ((1, 1), (1, 1)) in asked.found
    assert not [stride for kernel, stride in asked.found if kernel == (1, 1) and max(stride) > 1]
