"""The attention U-Net: what its gates pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.networks.attention_unet import AttentionGate, AttentionUNet
from medseg.networks.unet import UNet


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 3)])
def test_a_gate_is_the_papers_equation(stride: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    gate = AttentionGate(3, 4, 6, stride)
    coarse = (2, 3, 4)
    x, g = noise(1, 4, *(n * s for n, s in zip(coarse, stride, strict=True))), noise(1, 6, *coarse)
    with torch.no_grad():
        joined = functional.conv3d(x, gate.shortcut.weight, stride=stride) + gate.gating(g)
        weight = gate.psi.weight.reshape(4)
        shares = torch.sigmoid(torch.einsum("bcijk,c->bijk", joined.relu(), weight) + gate.psi.bias)
        passed = functional.interpolate(shares[:, None], size=x.shape[2:], mode="trilinear")
        torch.testing.assert_close(gate(x, g), x * passed)


def test_a_shut_gate_passes_nothing_and_an_open_one_everything() -> None:
    gate = AttentionGate(2, 2, 3, (2, 2))
    x, g = noise(1, 2, 8, 8), noise(1, 3, 4, 4)
    for bias, share in ((-100.0, 0.0), (100.0, 1.0)):
        nn.init.constant_(gate.psi.bias, bias)  # type: ignore[arg-type]
        nn.init.zeros_(gate.psi.weight)
        torch.testing.assert_close(gate(x, g), share * x)


def test_gates_begin_open() -> None:
    network = AttentionUNet(2, 1, 2, widths=(2, 4, 8))
    assert [gate.psi.bias.item() for gate in network.attention] == [3.0]


def test_with_open_gates_it_is_the_u_net() -> None:
    torch.manual_seed(0)
    gated = AttentionUNet(2, 1, 2, widths=(2, 4, 8)).eval()
    plain = UNet(2, 1, 2, widths=(2, 4, 8), norm="batch").eval()
    shared = {key: value for key, value in gated.state_dict().items() if not key.startswith("attention")}
    plain.load_state_dict(shared)
    nn.init.constant_(gated.attention[0].psi.bias, 100.0)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        torch.testing.assert_close(gated(noise(1, 1, 8, 8)), plain(noise(1, 1, 8, 8)))


def test_every_shortcut_but_the_finest_has_a_gate() -> None:
    # Of widths w, w' and stride 2: 8 w w + (w' + 1) w + w + 1 parameters a gate.
    with torch.device("meta"):
        gated = AttentionUNet(3, 1, 2)
        plain = UNet(3, 1, 2, widths=(16, 32, 64, 128, 256), norm="batch")
    extra = sum(8 * w * w + (2 * w + 1) * w + w + 1 for w in (32, 64, 128))
    counted = [sum(p.numel() for p in network.parameters()) for network in (gated, plain)]
    assert counted[0] == counted[1] + extra == 5_863_365
