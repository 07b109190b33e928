"""What holds for every network of the registry."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.structures import Structure
from medseg.inference import engines
from medseg.inference.engines.torch import to_onnx
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.networks.layers import Segmenter, Supervised
from medseg.networks.registry import build
from medseg.training.setup import facts_of

NORMS = ("batch", "instance", "group", "layer", "none")
TILE_INDEPENDENT = ("batch", "layer", "none")
WIDTHS = (4, 8, 16)
ANISOTROPIC: dict[int, dict[str, Any]] = {
    2: {"kernels": ((1, 3), (3, 3), (3, 5)), "strides": ((1, 2), (2, 2))},
    3: {"kernels": ((1, 3, 3), (3, 3, 3), (3, 1, 5)), "strides": ((1, 2, 2), (2, 2, 1))},
}


STEM = {"fast_unet": 2}
"""Stride before the first level, of the networks that have one."""

WEIGHTS = {
    "unet3d": "28e6ea50aa67c3244c748d69245f300873f736881e974ce818d98bd53cf28cec",
    "vnet": "23667f64108b5e10797ea3de23511d6eef7e4c27c86f52911823f8093950bc1e",
    "fast_unet": "77dfb4698ed4d55c39ab2f6a7caa2d118b8931ba13f4048a60df779d8391db66",
    "unet": "dbee188e83f4f05172176052db1741f98c03e78b02d76aff6eeefaa622189de7",
    "unetpp": "0ad5960fb129fe7c86dc22e99811d4853a92c4299a0fe383a88437453482cd81",
    "resunet": "47c0289dbd707e41ad0d22aafdf81c2110f809822f5b921f66e105637e78967f",
    "attention_unet": "4ad309c85ee57aa80a6e8269cdda3ab152b79313242f7b2d7d16101d1fbf970c",
    "plain_unet": "f725660670de62317f34b72ac246c35e0b2023dfd5eb8445b27a50e87675dd39",
}
"""SHA-256 of the sorted names and shapes of the weights of `network(name)`: trained ones must still fit."""


def anisotropic(name: str, spatial_dims: int) -> dict[str, Any]:
    """Unlike kernels and strides; a network with a stem has its stride first."""
    settings = ANISOTROPIC[spatial_dims]
    stem = ((STEM[name],) * spatial_dims,) if name in STEM else ()
    return settings | {"strides": stem + settings["strides"]}


def network(name: str, spatial_dims: int = 3, **changes: Any) -> Segmenter:
    torch.manual_seed(7)
    settings: dict[str, Any] = {"in_channels": 2, "out_channels": 3, "widths": WIDTHS} | changes
    return build(NetworkSpec(name, spatial_dims=spatial_dims, **settings))


def numbers(net: Segmenter) -> dict[str, Any]:
    return {key: value.numpy() for key, value in net.state_dict().items()}


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("name", WEIGHTS)
class TestEveryNetwork:
    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_the_output_has_the_shape_of_the_input(self, name: str, spatial_dims: int, norm: str) -> None:
        size = (8, 16, 24)[:spatial_dims]
        logits = network(name, spatial_dims, norm=norm)(image(2, 2, *size))
        assert logits.shape == (2, 3, *size)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_kernels_and_strides_may_differ_per_axis_and_level(self, name: str, spatial_dims: int) -> None:
        net = network(name, spatial_dims, **anisotropic(name, spatial_dims)).eval()
        stem = STEM.get(name, 1)
        assert net.stride == {2: (2 * stem, 4 * stem), 3: (2 * stem, 4 * stem, 2 * stem)}[spatial_dims]
        size = (2 * stem, 8 * stem, 6 * stem)[:spatial_dims]
        assert net(image(1, 2, *size)).shape == (1, 3, *size)

    @pytest.mark.parametrize("norm", NORMS)
    def test_every_parameter_learns(self, name: str, norm: str) -> None:
        net = network(name, 2, norm=norm)
        x = image(2, 2, 16, 16)
        answers = net.heads(x) if isinstance(net, Supervised) else [net(x)]
        torch.stack([answer.square().mean() for answer in answers]).sum().backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            has_no_say = norm != "none" and key.endswith("conv.bias")  # a normalisation takes it out again
            assert has_no_say or parameter.grad.abs().max() > 0, key

    def test_trained_weights_fit_later_versions(self, name: str) -> None:
        with torch.device("meta"):
            weights = network(name).state_dict()
        told = "\n".join(f"{key} {tuple(value.shape)}" for key, value in sorted(weights.items()))
        assert hashlib.sha256(told.encode()).hexdigest() == WEIGHTS[name]

    def test_each_weight_has_one_name(self, name: str) -> None:
        weights = list(network(name).state_dict(keep_vars=True).values())
        assert len({id(weight) for weight in weights}) == len(weights)

    def test_the_heads_of_a_supervised_network_answer_for_every_nth_voxel(self, name: str) -> None:
        net = network(name, 2).eval()
        if not isinstance(net, Supervised):
            assert not hasattr(net, "heads")
            return
        assert sum(net.head_weights) == pytest.approx(1)
        answers = net.heads(image(1, 2, 16, 16))
        assert len(answers) == len(net.head_weights)
        assert answers[0].shape == (1, 3, 16, 16)
        for answer in answers:
            assert answer.shape[:2] == (1, 3)
            assert all(n % m == 0 for n, m in zip((16, 16), answer.shape[2:], strict=True))

    def test_the_same_seed_builds_the_same_weights(self, name: str) -> None:
        first, second = network(name).state_dict(), network(name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_evaluation_is_deterministic_and_leaves_the_input_alone(self, name: str) -> None:
        net = network(name).eval()
        x = image(1, 2, 8, 8, 8)
        before = x.clone()
        with torch.no_grad():
            assert torch.equal(net(x), net(x))
        assert torch.equal(x, before)

    def test_a_copy_computes_the_same(self, name: str) -> None:
        net = network(name).eval()
        assert net.receptive_radius  # found before the copy, and copied with it
        twin = copy.deepcopy(net)
        twin.load_state_dict(net.state_dict())
        x = image(1, 2, 8, 8, 8)
        torch.testing.assert_close(net(x), twin(x), rtol=0, atol=0)

    def test_the_memory_format_does_not_change_the_answer(self, name: str) -> None:
        net = network(name).eval()
        x = image(2, 2, 8, 8, 8)
        expected = net(x)
        found = net.to(memory_format=torch.channels_last_3d)(x.to(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("uneven", [False, True], ids=["paper", "anisotropic"])
    @pytest.mark.parametrize("norm", TILE_INDEPENDENT)
    def test_the_reach_is_what_a_spoilt_voxel_spoils(self, name: str, norm: str, uneven: bool) -> None:
        settings = anisotropic(name, 2) if uneven else {}
        net = network(name, 2, in_channels=1, widths=(2, 4, 4), norm=norm, **settings).double().eval()
        for axis in range(2):
            reach = net.output_reach[axis]
            length = net.stride[axis] * 4 * max(1, net.receptive_radius[axis] // 4 // net.stride[axis])
            shape = [net.stride[1 - axis]] * 2
            shape[axis] = length
            x = image(1, 1, *shape, dtype=torch.float64).repeat(length, 1, 1, 1)
            for voxel in range(length):
                x[voxel].select(axis + 1, voxel).fill_(torch.nan)
            with torch.no_grad():
                spoilt = net(x).isnan().any(1).any(2 - axis).numpy()  # (spoilt input, output)
            period = len(reach.low)
            turn = np.arange(length) // period * reach.period
            phase = np.arange(length) % period
            place = np.arange(length)[:, None]
            expected = (place >= reach.low[phase] + turn) & (place <= reach.high[phase] + turn)
            np.testing.assert_array_equal(spoilt, expected)
            assert np.abs(np.argwhere(spoilt) @ [1, -1]).max() <= net.receptive_radius[axis]

    @pytest.mark.parametrize("norm", NORMS)
    def test_a_block_with_its_halo_says_what_the_whole_image_says(self, name: str, norm: str) -> None:
        net = network(name, 2, widths=(2, 4, 4), norm=norm).double().eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        stride, length = net.stride[0], 3 * net.stride[0]
        halo = -(-net.halo[0] // stride) * stride
        x = image(1, 2, 4 * halo + length, stride, dtype=torch.float64)
        tile = x[:, :, halo : 3 * halo + length]
        with torch.no_grad():
            whole, part = net(x)[:, :, 2 * halo :][:, :, :length], net(tile)[:, :, halo:][:, :, :length]
        assert net.tile_independent == (norm in TILE_INDEPENDENT)
        assert net.halo[0] <= net.receptive_radius[0]
        assert torch.allclose(whole, part, rtol=0, atol=1e-10) == net.tile_independent

    @pytest.mark.parametrize("shape", [(1, 1, 8, 8, 8), (1, 2, 8, 8), (1, 2, 8, 8, 6), (2, 8, 8, 8)])
    def test_an_input_that_does_not_fit_is_refused(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match=r"the network takes .*, not ") as refusal:
            network(name)(torch.zeros(shape))
        assert ", ".join(map(str, shape[2:])) in str(refusal.value)

    @pytest.mark.parametrize(
        "settings",
        [
            {"widths": (8,)},
            {"widths": (8, 0)},
            {"kernels": ((3, 3, 3),)},
            {"kernels": ((3, 3, 2),) * 3},
            {"kernels": ((3, 3),) * 3},
            {"strides": ((2, 2, 2),) * 4},
            {"strides": ((2, 2, 0),) * 2},
            {"norm": "spectral"},
            {"options": {"activation": "sine"}},
        ],
    )
    def test_arguments_that_make_no_network_are_refused(self, name: str, settings: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            network(name, **settings)

    @pytest.mark.slow
    @pytest.mark.filterwarnings(r"ignore::torch.jit.TracerWarning:torch\.nn\.")  # its own norms
    @pytest.mark.parametrize("norm", NORMS)
    def test_openvino_says_what_torch_says(self, name: str, norm: str) -> None:
        import openvino as ov

        net = network(name, norm=norm).eval()
        x = image(1, 2, 16, 16, 16)
        compiled = ov.compile_model(
            ov.convert_model(net, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        with torch.no_grad():
            expected = net(x).numpy()
        np.testing.assert_allclose(compiled(x.numpy())[0], expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_onnx_says_what_torch_says(self, name: str, spatial_dims: int, tmp_path: Path) -> None:
        pytest.importorskip("onnx")
        net = network(name, spatial_dims).eval()
        spec = NetworkSpec(name, in_channels=2, out_channels=3, spatial_dims=spatial_dims, widths=WIDTHS)  # type: ignore[arg-type]
        structures = (Structure(1, "a"), Structure(2, "b"))
        model = Model(ModelSpec("m", spec, facts_of(net), ("p", "q"), structures), numbers(net))
        path = tmp_path / "x.onnx"
        path.write_bytes(to_onnx(model, (16,) * spatial_dims, "image", "logits"))
        x = image(2, 2, *(16,) * spatial_dims, *(1,) * (3 - spatial_dims))
        with torch.no_grad():
            expected = net(x if spatial_dims == 3 else x[..., 0]).reshape(2, 3, *x.shape[2:]).numpy()
        found = engines.run_file(path, x.numpy())
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
