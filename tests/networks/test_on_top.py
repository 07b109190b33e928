"""What is put on top of any network: other scales of the image, and CRF-RNN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.inference.engines.torch import to_graph
from medseg.networks.across_scales import AcrossScales
from medseg.networks.crf_rnn import Bilateral, CrfRnn, MeanField, Spatial
from medseg.networks.layers import Segmenter
from medseg.networks.registry import create

Dims = Literal[2, 3]
SMALL = {2: "unet", 3: "unet3d"}


def small(dims: Dims = 3, name: str = "", **more: Any) -> Segmenter:
    torch.manual_seed(1)
    return create(name or SMALL[dims], 2, 3, spatial_dims=dims, widths=(4, 8), norm="batch", **more).eval()


def image(network: Segmenter, *, times: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    size = [times * s for s in network.stride]
    return torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(2), dtype=dtype)


class Told(nn.Module):
    """Logits of a network with an attention that is the same everywhere."""

    def __init__(self, network: nn.Module, attention: float) -> None:
        super().__init__()
        self.network, self.attention = network, attention

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x).clone()
        out[:, -1] = self.attention
        return out


def alone(network: AcrossScales, x: Tensor, scale: int) -> Tensor:
    """Logits of one scale, 0 being the finest."""
    return cast(Tensor, network.to_image[scale](network.network(network.to_scale[scale](x))[:, :-1]))


class TestAcrossScales:
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize(("attention", "scale"), [(100.0, 1), (-100.0, 0)])
    def test_full_attention_is_the_coarse_scale_and_none_the_fine_one(
        self, dims: Dims, attention: float, scale: int
    ) -> None:
        network = cast(AcrossScales, small(dims, scales=(0.5, 1.0)))
        x = image(network)
        expected = alone(network, x, scale)
        network.network = cast(Segmenter, Told(network.network, attention))
        torch.testing.assert_close(network(x), expected)

    def test_each_coarser_scale_is_blended_over_the_finer_ones(self) -> None:
        network = cast(AcrossScales, small(2, scales=(1.0, 0.25, 0.5)))
        x = image(network)
        fine, middle, coarse = (network.network(shrink(x)) for shrink in network.to_scale)
        blended = fine[:, :-1]
        for enlarge, answer in zip(list(network.to_image)[1:], (middle, coarse), strict=True):
            trust = answer[:, -1:].sigmoid()
            blended = enlarge(trust * answer[:, :-1]) + (1 - enlarge(trust)) * blended
        torch.testing.assert_close(network(x), blended)

    def test_explicit_attention_is_a_softmax_over_scales(self) -> None:
        network = cast(AcrossScales, small(2, scales=(0.5, 1.0, 2.0), fusion="explicit"))
        x = image(network)
        answers = [
            to(network.network(scale(x)))
            for to, scale in zip(network.to_image, network.to_scale, strict=True)
        ]
        weights = torch.stack([a[:, -1] for a in answers]).softmax(0)
        expected = sum(w[:, None] * a[:, :-1] for w, a in zip(weights, answers, strict=True))
        torch.testing.assert_close(network(x), expected)

    def test_what_it_sees_is_traced_through_all_scales(self) -> None:
        network = small(2, scales=(0.5, 1.0)).double()
        assert network.tile_independent
        assert network.stride == (4, 4)
        radius = network.receptive_radius[0]
        assert radius > small(2).receptive_radius[0]
        size = 8 * (radius // 4 + 2)
        middle = size // 2
        low, high = network.output_reach[0].low, network.output_reach[0].high
        for voxel in range(middle + int(low.min()) - 2, middle + int(high.max()) + 3):
            x = torch.zeros(1, 2, size, 8, dtype=torch.float64)
            x[:, :, voxel] = torch.nan
            seen = network(x).isnan().any(1).any(2)[0, middle : middle + len(low)].numpy()
            np.testing.assert_array_equal(seen, (voxel - middle >= low) & (voxel - middle <= high))

    def test_a_finer_scale_is_not_traced_and_says_so(self) -> None:
        network = small(scales=(1.0, 2.0))
        assert (network.tile_independent, network.receptive_radius) == (False, (0, 0, 0))
        assert network.stride == small().stride

    def test_further_heads_lose_their_attention(self) -> None:
        options = {"encoder": "resnet18", "auxiliary": True, "scales": (0.5, 1.0)}
        network = create("pspnet", 2, 3, spatial_dims=2, widths=(4, 4, 8, 16), options=options).eval()
        heads = cast(AcrossScales, network).heads(image(network, times=2))
        assert [head.shape[1] for head in heads] == [3, 3]
        assert cast(AcrossScales, network).head_weights == pytest.approx((1 / 1.4, 0.4 / 1.4))

    def test_a_network_of_monai_looks_at_several_scales(self) -> None:
        network = create(
            "monai:BasicUNet",
            2,
            3,
            options={"features": (4, 4, 8, 8, 8, 4), "stride": 16, "scales": (0.5, 1.0)},
        )
        assert network.stride == (32, 32, 32)
        assert not network.tile_independent
        assert network.eval()(torch.zeros(1, 2, 64, 64, 64)).shape == (1, 3, 64, 64, 64)

    @pytest.mark.parametrize(
        "scales", [(0.5,), (0.3, 1.0), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (16.0, 1.0), ()]
    )
    def test_other_scales_are_refused(self, scales: tuple[float, ...]) -> None:
        with pytest.raises(UsageError, match="scales must be 1 and whole numbers"):
            small(scales=scales)

    def test_a_size_that_does_not_fit_every_scale_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"multiples of \(4, 4\)"):
            small(2, scales=(0.5, 1.0))(torch.zeros(1, 2, 6, 6))

    def test_valid_convolutions_are_refused(self) -> None:
        with pytest.raises(UsageError, match="valid convolutions"):
            small(2, padding=False, scales=(0.5, 1.0))


def by_hand(values: NDArray[Any], features: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Sums (K, N) of values over all voxels, by the exact distance of their features, in deviations."""
    squares = sum((f[:, None] - f[None]) ** 2 for f in features)
    return np.asarray(values @ np.exp(-0.5 * squares))


class TestCrfRnn:
    @pytest.mark.parametrize("size", [(9, 7), (5, 6, 4)])
    def test_the_spatial_filter_is_the_exact_sum(self, size: tuple[int, ...]) -> None:
        values = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        places = [axis.ravel() / 1.7 for axis in np.indices(size)]
        found = Spatial(values, 1.7)(values)
        np.testing.assert_allclose(found.flatten(2)[0], by_hand(values.flatten(2)[0].numpy(), places))

    @pytest.mark.parametrize(("size", "position"), [((24, 20), 6.0), ((9, 8, 10), 3.0), ((9, 8, 10), 40.0)])
    def test_the_bilateral_filter_is_near_the_exact_sum(self, size: tuple[int, ...], position: float) -> None:
        generator = torch.Generator().manual_seed(4)
        x = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64).clamp(-2.9, 2.9)
        values = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
        both = torch.cat((values, torch.ones_like(values[:, :1])), dim=1)
        features = [axis.ravel() / position for axis in np.indices(size)] + [x[0, 0].numpy().ravel() / 0.5]
        exact = by_hand(both.flatten(2)[0].numpy(), features)
        found = Bilateral(x, position, 0.5)(both).flatten(2)[0].numpy()
        error = np.abs(found[:2] / found[2] - exact[:2] / exact[2])
        assert error.max() < 0.03
        assert error.mean() < 0.008

    def test_a_constant_image_makes_the_bilateral_filter_spatial(self) -> None:
        values = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        one = torch.ones_like(values[:, :1])
        alike, near = Bilateral(0.3 * one, 6.0, 0.5), Spatial(one, 6.0)
        torch.testing.assert_close(alike(values) / alike(one), near(values) / near(one), atol=0.01, rtol=0)

    def test_no_weights_leave_the_logits(self) -> None:
        network = cast(CrfRnn, small(crf_rnn=3))
        with torch.no_grad():
            network.rounds.spatial_weight.zero_()
            network.rounds.bilateral_weight.zero_()
        x = image(network)
        torch.testing.assert_close(network(x), network.network(x))

    def test_one_round_is_the_equation(self) -> None:
        field = MeanField(3, 1, 4.0, 0.5, 2.0).double().train()
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for matrix in field.parameters():
                matrix += 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        u, x = (torch.randn(1, c, 6, 5, generator=generator, dtype=torch.float64) for c in (3, 1))
        q, one = u.softmax(1), torch.ones_like(x)
        near, alike = Spatial(x, 2.0), Bilateral(x, 4.0, 0.5)
        message = torch.einsum("kl,blij->bkij", field.spatial_weight, near(q) / near(one))
        message = message + torch.einsum("kl,blij->bkij", field.bilateral_weight, alike(q) / alike(one))
        torch.testing.assert_close(
            field(u, x), u + torch.einsum("kl,blij->bkij", field.compatibility, message)
        )

    def test_it_smooths_what_looks_alike(self) -> None:
        x = torch.ones(1, 1, 12, 12)
        x[..., :6] = -1
        u = torch.cat((x, -x), dim=1)
        u[0, :, 3, 3] *= -0.5
        found = MeanField(2, 5, 8.0, 0.5, 2.0)(u, x).argmax(1)[0]
        assert torch.equal(found, (x[0, 0] < 0).long())

    @pytest.mark.parametrize("size", [(3, 4), (3, 2, 2)])
    def test_its_gradient_is_right(self, size: tuple[int, ...]) -> None:
        field = MeanField(2, 2, 2.0, 0.5, 1.0).double()
        generator = torch.Generator().manual_seed(7)
        u, x = (torch.randn(1, c, *size, generator=generator, dtype=torch.float64) for c in (2, 1))
        matrices = [p.detach().clone().requires_grad_() for p in field.parameters()]
        names = [name for name, _ in field.named_parameters()]

        def answer(logits: Tensor, *weights: Tensor) -> Tensor:
            given = dict(zip(names, weights, strict=True))
            return cast(Tensor, torch.func.functional_call(field, given, (logits, x)))

        assert torch.autograd.gradcheck(answer, (u.requires_grad_(), *matrices))

    def test_it_learns_three_matrices_and_sees_the_tile(self) -> None:
        network = cast(CrfRnn, small(crf_rnn=2))
        further = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in small().parameters())
        assert further == 3 * 3 * 3
        assert not network.tile_independent

    def test_twice_as_many_rounds_where_it_predicts(self) -> None:
        once, twice = MeanField(2, 2, 4.0, 0.5, 2.0).eval(), MeanField(2, 4, 4.0, 0.5, 2.0).train()
        u = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(8))
        assert torch.equal(once(u, u), twice(u, u))

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"crf_rnn": 0}, "crf_rnn must be 1 to 100 rounds, not 0"),
            ({"crf_rnn": 1, "crf_position": 0.5}, "crf_position must be at least 1 voxel, not 0.5"),
            ({"crf_rnn": 1, "crf_intensity": 0.0}, "crf_intensity must be from 0.05 to 3, not 0"),
            ({"crf_position": 9.0}, "unet3d has no option crf_position; it goes with crf_rnn"),
            ({"fusion": "explicit"}, "unet3d has no option fusion; it goes with scales"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, options: dict[str, float], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            small(**options)


@pytest.mark.parametrize(("dims", "number"), product([2, 3], range(4)))
def test_graphs_say_what_torch_says(dims: Dims, number: int) -> None:
    options: tuple[dict[str, Any], ...] = (
        {"scales": (0.5, 1.0)},
        {"scales": (0.5, 1.0, 2.0), "fusion": "explicit"},
        {"crf_rnn": 1},
        {"crf_rnn": 1, "scales": (1.0, 0.5)},
    )
    to_graph(small(dims, **options[number]), 2, dims)  # compares on two sizes, and raises
