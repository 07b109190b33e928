"""The plain U-Net of nnU-Net, against MONAI's."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.plain_unet import PlainUNet


def test_without_biases_and_further_heads_it_counts_31189410_parameters() -> None:
    with torch.device("meta"):
        network = PlainUNet(3, 1, 2, bias=False)
    further = sum(p.numel() for key, p in network.named_parameters() if "head" in key and "head.0" not in key)
    assert further == 2 * (64 + 128 + 256) + 3 * 2
    assert sum(p.numel() for p in network.parameters()) - further == 31_189_410


def test_it_computes_what_monais_computes() -> None:
    from monai.networks.nets import DynUNet

    torch.manual_seed(0)
    ours = PlainUNet(3, 1, 2, widths=(4, 6, 8), bias=False, strides=((1, 2, 2), (2, 2, 2)))
    strides = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    theirs = DynUNet(3, 1, 2, [3, 3, 3], strides, strides[1:], filters=(4, 6, 8))
    weights = [value for key, value in ours.state_dict().items() if key != "head.1.weight"]
    order = [
        *(f"{block}.{part}" for block in ("input_block", "downsamples.0", "bottleneck") for part in UNIT),
        *(f"upsamples.{n}.transp_conv.conv.weight" for n in (1, 0)),
        *(f"upsamples.{n}.conv_block.{part}" for n in (1, 0) for part in UNIT),
        "output_block.conv.conv.weight",
        "output_block.conv.conv.bias",
    ]
    named = dict(theirs.named_parameters())
    assert sorted(order) == sorted(named)
    with torch.no_grad():
        for key, value in zip(order, weights, strict=True):
            named[key].copy_(value)
        x = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(ours(x), theirs(x))


UNIT = (
    "conv1.conv.weight", "norm1.weight", "norm1.bias", "conv2.conv.weight", "norm2.weight", "norm2.bias",
)  # fmt: skip


@pytest.mark.parametrize(("levels", "weights"), [(2, (1.0,)), (3, (1.0,)), (5, (4 / 7, 2 / 7, 1 / 7))])
def test_weights_halve_and_the_lowest_level_has_no_head(levels: int, weights: tuple[float, ...]) -> None:
    network = PlainUNet(2, 1, 3, widths=(2,) * levels).eval()
    assert network.head_weights == pytest.approx(weights)
    x = torch.randn(1, 1, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        heads = network.heads(x)
        torch.testing.assert_close(heads[0], network(x), rtol=0, atol=0)
    assert [tuple(h.shape) for h in heads] == [(1, 3, 64 >> n, 32 >> n) for n in range(len(weights))]
