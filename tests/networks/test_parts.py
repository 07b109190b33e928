"""Parts of the published networks against hand calculations, torch's layers and what their papers state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.networks.contexts.atrous import AtrousPyramid, AtrousSum
from medseg.networks.contexts.dual_attention import ChannelAttention, DualAttention, PositionAttention
from medseg.networks.contexts.pooled import Bins, PyramidPooling
from medseg.networks.contexts.smoothed_dilation import smooth_dilations
from medseg.networks.decoders.score_sum import ScoreSum
from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build
from medseg.networks.parts import FirstMaximum, Maps, StreamDropout, Style, Transposed, Unpool, bilinear_
from medseg.networks.registry import create

PLAIN = {dims: Style(dims, "none") for dims in (2, 3)}  # type: ignore[arg-type]


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_unpooling_is_torchs_max_unpooling(dims: int, ties: bool) -> None:
    fine = random(2, 3, *(8, 6, 4)[:dims])
    fine = fine.round() if ties else fine
    pool, unpool = {
        2: (functional.max_pool2d, functional.max_unpool2d),
        3: (functional.max_pool3d, functional.max_unpool3d),
    }[dims]
    pooled, indices = pool(fine, 2, return_indices=True)
    values = random(*pooled.shape, seed=4)
    expected = unpool(values, indices, 2, output_size=fine.shape[2:])  # type: ignore[operator]
    assert torch.equal(Unpool((2,) * dims)(values, fine), expected)


def test_a_window_of_zeros_is_unpooled_to_its_first_cell() -> None:
    marks = FirstMaximum((2, 2))(torch.zeros(1, 1, 2, 2))
    assert marks.tolist() == [[[[1, 0], [0, 0]]]]


@pytest.mark.parametrize(("dims", "stride"), [(2, (2, 2)), (2, (4, 8)), (3, (2, 2, 2)), (3, (1, 4, 2))])
def test_bilinear_weights_interpolate_linearly_inside(dims: int, stride: tuple[int, ...]) -> None:
    own = ScoreSum(PLAIN[dims], Maps((3,), (stride,)), 3, skips=0)
    own.begin()
    (up,) = own.end[:1]
    x = random(1, 3, *(6,) * dims)
    mode = "bilinear" if dims == 2 else "trilinear"
    expected = functional.interpolate(x, scale_factor=[float(s) for s in stride], mode=mode)
    inside = (..., *(slice(s, -s) for s in stride))
    torch.testing.assert_close(up(x)[inside], expected[inside])


def test_the_kernel_that_doubles_is_the_tent() -> None:
    up = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    bilinear_(up)
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(up.weight[0, 0], tent[:, None] * tent)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (4, 4)])
def test_transposed_convolutions_give_whole_multiples(kernel: int, stride: tuple[int, int]) -> None:
    x = random(1, 2, 4, 6)
    grown = Transposed(PLAIN[2], 2, 3, kernel=kernel, stride=stride)(x)
    assert grown.shape == (1, 3, 4 * stride[0], 6 * stride[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_that_has_not_learned_passes_its_input(dims: int) -> None:
    x = random(2, 8, *(4,) * dims)
    assert torch.equal(PositionAttention(PLAIN[dims], 8)(x), x)
    assert torch.equal(ChannelAttention()(x), x)


def test_attention_over_positions_is_the_sum_over_all_pairs() -> None:
    attention = PositionAttention(PLAIN[2], 8)
    attention.requires_grad_(False).gamma.fill_(0.5)
    x = random(1, 8, 3, 4)
    q, k, v = (part(x)[0].flatten(1).double() for part in (attention.query, attention.key, attention.value))
    expected = torch.zeros(8, 12, dtype=torch.float64)
    for i in range(12):
        energy = torch.stack([q[:, i] @ k[:, j] for j in range(12)])
        weights = energy.exp() / energy.exp().sum()
        expected[:, i] = sum(weights[j] * v[:, j] for j in range(12))
    torch.testing.assert_close(attention(x)[0].flatten(1), (0.5 * expected + x[0].flatten(1)).float())


def test_attention_over_channels_favours_unlike_channels() -> None:
    attention = ChannelAttention()
    attention.gamma.data.fill_(1)
    x = torch.zeros(1, 2, 1, 2)
    x[0, 0, 0], x[0, 1, 0] = torch.tensor([1.0, 0]), torch.tensor([0, 2.0])
    # e = [[1, 0], [0, 4]]; max - e = [[0, 1], [4, 0]]; the softmax of a row follows.
    first, second = 1 / (1 + torch.e), 1 / (1 + torch.e**4)
    expected = torch.tensor([[first, 2 * (1 - first)], [1 - second, 2 * second]]) + x[0, :, 0]
    torch.testing.assert_close(attention(x)[0, :, 0], expected)


def test_pooling_by_one_bin_keeps_a_constant() -> None:
    pooling = PyramidPooling(PLAIN[3], Maps((4,), ((8, 8, 8),)), 2, bins=(1,))
    nn.init.eye_(pooling.branches[0][1].conv.weight.view(4, 4))  # type: ignore[index, union-attr]
    nn.init.zeros_(pooling.branches[0][1].conv.bias)  # type: ignore[index, union-attr]
    x = torch.full((1, 4, 3, 3, 3), 2.0)
    assert torch.equal(pooling(x), torch.full((1, 8, 3, 3, 3), 2.0))


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (4, 9, 5), (2, 3, 1)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_bins_are_torchs_adaptive_pooling(size: tuple[int, ...], count: int) -> None:
    x = random(2, 3, *size)
    pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool3d
    torch.testing.assert_close(Bins(count)(x), pool(x, count))


def test_bins_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="pyramid pooling of 6 channels cannot share them among 4 bins"):
        PyramidPooling(PLAIN[2], Maps((6,), ((8, 8),)), 2)


@pytest.mark.parametrize("kind", [AtrousSum, AtrousPyramid])
def test_a_rate_beyond_the_map_leaves_the_centre_of_the_kernel(kind: Any) -> None:
    maps = Maps((2,), ((8, 8),))
    wide, point = kind(PLAIN[2], maps, 3, rates=(5,)), kind(PLAIN[2], maps, 3, rates=(5,))
    point.load_state_dict(wide.state_dict())
    for name, weight in point.named_parameters():
        if name.startswith("branches") and weight.ndim == 4:
            centre = weight.data[..., 1:2, 1:2].clone()
            weight.data.zero_()[..., 1:2, 1:2] = centre
    x = random(1, 2, 4, 4)
    torch.testing.assert_close(wide.eval()(x), point.eval()(x))


def test_rates_fit_the_output_stride() -> None:
    def rates(dims: int, stride: int) -> list[int]:
        pyramid = AtrousPyramid(PLAIN[dims], Maps((4,), ((stride,) * dims,)), 2, width=4)
        return [branch.conv.dilation[0] for branch in pyramid.branches]  # type: ignore[union-attr, index]

    assert (rates(2, 16), rates(2, 8)) == ([6, 12, 18], [12, 24, 36])
    assert (rates(3, 16), rates(3, 8)) == ([1, 2, 3], [2, 4, 6])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16"])
def test_dilation_in_place_of_strides_takes_the_same_weights(name: str) -> None:
    build = {s: Build(Style(2, "batch"), 1, output_stride=s) for s in (8, 16, 32)}
    encoders = {s: ENCODERS[name](made) for s, made in build.items()}
    for stride, encoder in encoders.items():
        encoder.load_state_dict(encoders[32].state_dict())
        assert max(encoder.maps.strides[-1]) == stride
        with torch.no_grad():
            found = encoder.eval()(torch.zeros(1, 1, 64, 64))
        assert [64 // x.shape[2] for x in found] == [s[0] for s in encoder.maps.strides]
        assert [x.shape[1] for x in found] == list(encoder.maps.widths)


def test_the_first_block_of_a_dilated_stage_keeps_the_dilation_before() -> None:
    encoder: Any = ENCODERS["resnet18"](Build(Style(2, "batch"), 1, output_stride=8))
    dilations = [[block.body[0].conv.dilation[0] for block in stage] for stage in encoder.stages]
    assert dilations == [[1, 1], [1, 1], [1, 2], [2, 4]]


def test_strides_are_left_out_along_the_axes_that_have_them() -> None:
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    build = Build(Style(3, "batch"), 1, (2, 2, 2, 2), strides=strides, output_stride=8, stem="volume")
    encoder: Any = ENCODERS["resnet18"](build)
    assert encoder.maps.strides[-1] == (4, 8, 8)
    assert encoder.stages[3][1].body[0].conv.dilation == (1, 2, 2)


@pytest.mark.parametrize("kind", ["shared", "interaction"])
def test_smoothing_begins_as_the_identity(kind: Any) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"encoder": "resnet18", "widths": (4, 4, 4, 4)}
    network = create("deeplabv2", spatial_dims=2, **settings).eval()
    x = random(1, 1, 32, 32)
    with torch.no_grad():
        before = network(x)
        smooth_dilations(network, kind)
        torch.testing.assert_close(network(x), before)
    names = [name for name, _ in network.named_parameters()]
    smoothed = create("deeplabv2", spatial_dims=2, smoothing=kind, **settings)
    assert [name for name, _ in smoothed.named_parameters()] == names
    for axis in range(2):
        assert smoothed.output_reach[axis].left > 0


def test_a_stream_is_dropped_as_a_whole() -> None:
    torch.manual_seed(0)
    drop = StreamDropout(0.25)
    kept = drop(torch.ones(4000, 2, 3)).flatten(1)
    assert ((kept == 0).all(1) | (kept == 4 / 3).all(1)).all()
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(kept), kept)


def test_dual_attention_answers_for_each_attention() -> None:
    attention = DualAttention(PLAIN[2], Maps((8,), ((8, 8),)), 3).eval()
    x = random(1, 8, 4, 4)
    found, answers = attention.answers(x)
    assert torch.equal(found, attention(x))
    assert [tuple(a.shape) for a in answers] == [(1, 3, 4, 4)] * 2


def test_fcn_adds_the_scores_of_the_poolings() -> None:
    network: Any = create("fcn8s", 1, 2, spatial_dims=2, widths=(2, 4, 4, 8, 8), fc=4, fc_kernel=3)
    taken = [network.encoder.maps.strides[n] for n in network.decoder.taken[:-1]]
    assert taken == [(8, 8), (16, 16)]
    assert [type(network.encoder.pools[n // 2]).__name__ for n in network.decoder.taken[:-1]] == [
        "MaxPool2d"
    ] * 2
    assert all(n % 2 == 1 for n in network.decoder.taken)  # behind a pooling


def test_a_gridnet_without_its_coarse_rows_is_a_residual_network() -> None:
    torch.manual_seed(0)
    network: Any = create("gridnet", 1, 2, spatial_dims=2, widths=(4, 8), columns=2).eval()
    for columns in network.up:
        for weight in columns.parameters():
            weight.data.zero_()
    x = random(1, 1, 8, 8)
    with torch.no_grad():
        stream = network.start(x)
        for units in network.lateral:
            stream = stream + units[0](stream)
        torch.testing.assert_close(network(x), network.end(stream))


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("fpn", {"encoder": "resnet19"}, "the encoder 'resnet19' does not exist; did you mean"),
        ("fpn", {"decoder": "sum"}, "the decoder 'sum' does not exist"),
        ("fpn", {"rates": (1, 2)}, "fpn has no option rates"),
        ("deeplabv3", {"rates": "many"}, "deeplabv3: rates "),
        ("fpn", {"decoder": "none"}, "a network without decoder cannot be built"),
        ("fpn", {"widths": (8, 8)}, "a ResNet has 4 widths, not"),
        ("hrnet", {"modules": (1, 1)}, "an HRNet has 4 widths and modules of 3 stages"),
        ("vnet", {"in_chanels": 1}, "vnet has no option in_chanels"),
        ("tiramisu", {"widths": (8, 8)}, "tiramisu takes no widths"),
        ("tiramisu", {"depth": 57}, "a Tiramisu has a depth of 56, 67, 103"),
        ("gridnet", {"columns": 0}, "a GridNet has one column down or more, not 0"),
    ],
)
def test_what_makes_no_network_is_refused(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        create(name, **settings)
    assert told in str(refusal.value)


@pytest.mark.parametrize("encoder", ["vgg11", "resnet18"])
@pytest.mark.parametrize(
    "decoder",
    ["score", "score_sum", "unpooling", "concatenation", "ternaus", "addition", "low_level", "refinement"],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_any_encoder_goes_with_any_decoder(encoder: str, decoder: str, dims: Any) -> None:
    widths = (2, 2, 2, 2, 2) if encoder == "vgg11" else (2, 2, 2, 2)
    with torch.device("meta"):
        network = create(
            "unet_encoder",
            1,
            2,
            spatial_dims=dims,
            widths=widths,
            encoder=encoder,
            decoder=decoder,
        )
        size = (64,) * dims
        assert network(torch.zeros(1, 1, *size)).shape == (1, 2, *size)
