"""Published networks: their counts are the published ones, and what holds for any network holds for them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_networks import SMALL
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.core.structures import Structure
from medseg.inference import engines
from medseg.inference.engines.torch import to_onnx
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.networks import zoo
from medseg.networks.composed import Composed
from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build
from medseg.networks.layers import Segmenter, Supervised
from medseg.networks.parts import Style
from medseg.networks.registry import COMPOSED, build, create
from medseg.training.setup import facts_of

PAPER: dict[str, Any] = {"stem": "paper"}
VGG_32 = {"widths": (32, 64, 128, 256, 256)}
RESNET18_32: dict[str, Any] = PAPER | {"encoder": "resnet18", "widths": (32, 64, 128, 256)}

# Name, settings, spatial dimensions, input channels, outputs, trainable parameters.
COUNTS: list[tuple[str, dict[str, Any], int, int, int, int]] = [
    ("fcn32s", {}, 2, 3, 21, 136_152_917),
    ("fcn16s", {}, 2, 3, 21, 134_815_994),
    ("fcn8s", {}, 2, 3, 21, 134_489_759),
    ("fcn8s", VGG_32, 3, 1, 2, 19_182_758),
    ("deconvnet", {}, 2, 3, 21, 251_805_653),
    ("segnet", {}, 2, 3, 12, 29_449_932),
    ("segnet", {}, 2, 3, 11, 29_449_355),
    ("segnet", {}, 3, 1, 2, 88_281_410),
    ("segnet", VGG_32, 3, 1, 2, 22_077_602),
    ("ternausnet", {}, 2, 3, 1, 22_927_393),
    ("ternausnet", {"encoder": "vgg16"}, 2, 3, 1, 28_421_601),
    ("ternausnet", {}, 3, 1, 2, 68_767_810),
    ("unet_encoder", {}, 2, 3, 1, 24_436_369),
    ("unet_encoder", {}, 2, 1, 1, 24_430_097),
    ("linknet", {}, 2, 3, 11, 11_534_667),
    ("linknet", {}, 2, 3, 19, 11_535_699),
    ("linknet", {"encoder": "resnet34"}, 2, 3, 21, 21_644_117),
    ("linknet", {"encoder": "resnet50"}, 2, 3, 21, 28_764_437),
    ("linknet", PAPER, 3, 1, 2, 33_964_226),
    ("deeplabv1", {}, 2, 3, 21, 20_505_429),
    ("deeplabv1", {}, 3, 1, 2, 59_340_610),
    ("deeplabv1", VGG_32 | {"fc": 256}, 3, 1, 2, 12_870_562),
    ("deeplabv2", {}, 2, 3, 21, 44_048_532),
    ("deeplabv2", PAPER | {"encoder": "resnet50"}, 3, 1, 2, 46_597_448),
    ("deeplabv3", {}, 2, 3, 21, 39_638_869),
    ("deeplabv3", {"auxiliary": True}, 2, 3, 21, 42_004_074),
    ("deeplabv3", {"auxiliary": True, "encoder": "resnet101"}, 2, 3, 21, 60_996_202),
    ("deeplabv3", RESNET18_32 | {"width": 64, "rates": (2, 4, 6)}, 3, 1, 2, 9_789_858),
    ("deeplabv3plus", {}, 2, 3, 21, 40_352_181),
    ("deeplabv3plus", {"encoder": "resnet101"}, 2, 3, 21, 59_344_309),
    ("deeplabv3plus", PAPER, 3, 1, 2, 93_886_370),
    ("deeplabv3plus", RESNET18_32 | {"width": 64, "low": 24}, 3, 1, 2, 9_942_866),
    ("pspnet", {"encoder": "resnet101"}, 2, 3, 19, 65_583_699),
    ("pspnet", {"encoder": "resnet101", "auxiliary": True}, 2, 3, 19, 67_948_390),
    ("pspnet", PAPER, 3, 1, 2, 106_978_626),
    ("pspnet", RESNET18_32, 3, 1, 2, 9_248_930),
    ("danet", {}, 2, 3, 19, 66_454_779),
    ("danet", RESNET18_32, 3, 1, 2, 9_409_912),
    ("fastfcn", {}, 2, 3, 21, 52_692_565),
    ("fastfcn", {"neck": "none", "output_stride": 8}, 2, 3, 21, 32_957_013),
    ("fastfcn", RESNET18_32 | {"width": 64}, 3, 1, 2, 9_586_978),
    ("gcn", {}, 2, 3, 21, 59_369_620),
    ("gcn", {"size": 15}, 2, 3, 21, 60_688_084),
    ("gcn", {"encoder": "resnet50"}, 2, 3, 21, 24_733_844),
    ("gcn", {"encoder": "resnet50", "size": 15}, 2, 3, 21, 26_052_308),
    ("gcn", PAPER | {"encoder": "resnet50"}, 3, 1, 2, 46_319_076),
    ("gcn", RESNET18_32, 3, 1, 2, 8_320_772),
    ("fpn", {}, 2, 3, 54, 28_483_190),
    ("fpn", RESNET18_32 | {"width": 64, "head": 32}, 3, 1, 2, 9_076_130),
    ("hrnet", {}, 2, 3, 19, 65_859_379),
    ("hrnet", {"encoder": "hrnet18"}, 2, 3, 19, 9_641_119),
    ("hrnet", PAPER | {"encoder": "hrnet18"}, 3, 1, 2, 28_245_704),
    ("hrnet", PAPER | {"encoder": "hrnet8"}, 3, 1, 2, 6_235_994),
    ("hrnet_ocr", {}, 2, 3, 19, 70_372_678),
    ("tiramisu", {"depth": 103}, 2, 3, 12, 9_322_348),
    ("tiramisu", {"depth": 67}, 2, 3, 12, 3_463_532),
    ("tiramisu", {"depth": 56}, 2, 3, 12, 1_376_988),
    ("tiramisu", {"depth": 103}, 3, 1, 2, 26_166_626),
    ("tiramisu", {"depth": 67}, 3, 1, 2, 9_335_842),
    ("tiramisu", {"depth": 56}, 3, 1, 2, 3_661_202),
    ("gridnet", {}, 2, 3, 19, 13_181_097),
    ("gridnet", {}, 3, 1, 2, 39_469_226),
    ("gridnet", {"widths": (8, 16, 32, 64, 128)}, 3, 1, 2, 9_874_706),
]

ENCODER_COUNTS = {
    ("vgg11", 2): 9_220_480, ("vgg13", 2): 9_404_992, ("vgg16", 2): 14_714_688, ("vgg19", 2): 20_024_384,
    ("vgg11", 3): 27_652_480, ("vgg13", 3): 28_205_632, ("vgg16", 3): 44_132_160, ("vgg19", 3): 60_058_688,
    ("resnet18", 2): 11_176_512, ("resnet34", 2): 21_284_672, ("resnet50", 2): 23_508_032,
    ("resnet101", 2): 42_500_160, ("resnet152", 2): 58_143_808, ("resnet18", 3): 33_160_000,
    ("resnet34", 3): 63_469_632, ("resnet50", 3): 46_155_072, ("resnet101", 3): 85_201_216,
    ("resnet152", 3): 117_359_936, ("hrnet48", 2): 65_325_120, ("hrnet18", 3): 28_171_452,
    ("spinenet49", 2): 21_831_488, ("spinenet49s", 2): 9_089_215, ("spinenet49", 3): 44_920_896,
}  # fmt: skip


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "settings", "dims", "channels", "outputs", "count"), COUNTS)
def test_the_count_is_the_published_one(
    name: str, settings: dict[str, Any], dims: Any, channels: int, outputs: int, count: int
) -> None:
    with torch.device("meta"):
        network = create(name, channels, outputs, spatial_dims=dims, **settings)
    assert parameters(network) == count


@pytest.mark.parametrize(("name", "dims"), ENCODER_COUNTS)
def test_the_count_of_an_encoder_is_the_published_one(name: str, dims: Any) -> None:
    further = {"max_level": 7} if "spine" in name else {}
    style = Style(dims, "none" if "vgg" in name else "batch")
    with torch.device("meta"):
        encoder = ENCODERS[name](Build(style, 3 if dims == 2 else 1), **further)
    assert parameters(encoder) == ENCODER_COUNTS[name, dims]


def test_the_table_and_the_registry_agree() -> None:
    assert set(SMALL) == {*COMPOSED, "tiramisu", "gridnet"}
    rows = {name for name, made in vars(zoo).items() if isinstance(made, type) and made is not Composed}
    assert {name for name in rows if issubclass(getattr(zoo, name), Composed)} == set(COMPOSED)


def spec(name: str, dims: Any, **changes: Any) -> NetworkSpec:
    settings = SMALL[name] | changes
    shared = {key: settings.pop(key) for key in ("widths", "norm", "kernels", "strides") if key in settings}
    return NetworkSpec(name, 2, 3, dims, options=settings, **shared)


def small(name: str, dims: int, **changes: Any) -> Segmenter:
    torch.manual_seed(7)
    return build(spec(name, dims, **changes))


def image(network: Segmenter, *multiples: int, dtype: torch.dtype = torch.float32) -> Tensor:
    size = [n * s for n, s in zip(multiples, network.stride, strict=False)]
    return torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(3), dtype=dtype)


SEES_THE_TILE = {"deeplabv3", "deeplabv3plus", "pspnet", "danet", "mssa", "hrnet_ocr"}
"""By a mean or by attention; the group norm of `fpn` and `spinenet_fpn` is replaced in these tests."""


def sees_beyond_its_reach(network: Segmenter) -> bool:
    """Whether a voxel beyond the field of the first changes it, once attention says something."""
    for key, parameter in network.named_parameters():
        if key.endswith("gamma"):
            parameter.data.fill_(1)
    x = image(network, 3 + network.receptive_radius[0] // network.stride[0], 1, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, -1] += 10
    with torch.no_grad():
        return not torch.equal(network(x)[:, :, 0], network(changed)[:, :, 0])


def settled(network: Segmenter) -> Segmenter:
    """The network with the statistics of its maps, as after training, so that scores are small."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.cat((image(network, 3, 3, 3), image(network, 3, 3, 3).flip(2))))
    return network.eval()


def answer(network: Segmenter, x: Tensor) -> tuple[NDArray[np.float64], float]:
    """Scores in double precision, and what a graph in single may differ by.

    That is 1e-4 of the highest score, or five times what torch's single precision differs by itself.
    """
    with torch.no_grad():
        single = network(x).double().numpy()
        exact = copy.deepcopy(network).double()(x.double()).numpy()
    return exact, max(1e-4 * max(1, float(np.abs(exact).max())), 5 * float(np.abs(single - exact).max()))


@pytest.mark.parametrize("name", SMALL)
class TestEveryPublishedNetwork:
    @pytest.mark.parametrize("dims", [2, 3])
    def test_the_output_has_the_shape_of_the_input(self, name: str, dims: int) -> None:
        network = small(name, dims).eval()
        x = image(network, 1, 2, 1)
        before = x.clone()
        with torch.no_grad():
            logits = network(x)
            assert torch.equal(network(x), logits)
        assert logits.shape == (1, 3, *x.shape[2:])
        assert logits.isfinite().all()
        assert torch.equal(x, before)

    def test_every_parameter_learns(self, name: str) -> None:
        network = small(name, 2)
        x = torch.cat([image(network, 2, 2), image(network, 2, 2).flip(2)])
        assert isinstance(network, Supervised) == (name in COMPOSED)
        answers = network.heads(x) if isinstance(network, Supervised) else [network(x)]
        torch.stack([answer.square().mean() for answer in answers]).sum().backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key

    def test_the_heads_answer_for_every_nth_voxel(self, name: str) -> None:
        if name not in COMPOSED:
            assert not isinstance(small(name, 2), Supervised)
            return
        network = small(name, 2, auxiliary=True).eval()
        assert isinstance(network, Supervised)
        x = image(network, 2, 2)
        with torch.no_grad():
            final, *further = network.heads(x)
            assert torch.equal(final, network(x))
        assert sum(network.head_weights) == pytest.approx(1)
        assert len(network.head_weights) == 1 + len(further) > 1
        for answer in further:
            assert answer.shape[:2] == (1, 3)
            assert all(n % m == 0 for n, m in zip(x.shape[2:], answer.shape[2:], strict=True))

    def test_a_copy_computes_the_same(self, name: str) -> None:
        network = small(name, 3).eval()
        twin = copy.deepcopy(small(name, 3).eval())
        twin.load_state_dict(network.state_dict())
        x = image(network, 1, 2, 1)
        with torch.no_grad():
            torch.testing.assert_close(network(x), twin(x), rtol=0, atol=0)

    def test_the_reach_is_what_a_spoilt_voxel_spoils(self, name: str) -> None:
        """Of one axis: the voxels at the ends of each phase's field spoil it, and those beyond do not."""
        further = {"head_norm": "batch"} if "head" in SMALL[name] else {}
        network = small(name, 2, **further).double().eval()
        assert network.tile_independent == (name not in SEES_THE_TILE)
        if not network.tile_independent:
            assert sees_beyond_its_reach(network)
            return
        reach, stride = network.output_reach[0], network.stride[0]
        length = stride * -(-(2 * network.receptive_radius[0] + 2 * stride) // stride)
        middle = length // 2 // stride * stride
        places = sorted({middle + n for n in (*reach.low, *(reach.low - 1), *reach.high, *(reach.high + 1))})
        x = torch.zeros(1, 2, length, network.stride[1], dtype=torch.float64)
        for voxel in places:
            spoilt = x.clone()
            spoilt[:, :, voxel] = torch.nan
            with torch.no_grad():
                found = network(spoilt).isnan().any(1).any(2)[0, middle : middle + len(reach.low)].numpy()
            expected = (voxel - middle >= reach.low) & (voxel - middle <= reach.high)
            np.testing.assert_array_equal(found, expected)

    def test_an_input_that_does_not_fit_is_refused(self, name: str) -> None:
        network = small(name, 2)
        size = network.stride
        with pytest.raises(UsageError, match=r"the network takes .*, not "):
            network(torch.zeros(1, 1, *size))
        with pytest.raises(UsageError, match=r"the network takes .*, not "):
            network(torch.zeros(1, 2, size[0] + 1, size[1]))

    @pytest.mark.slow
    @pytest.mark.filterwarnings(r"ignore::torch.jit.TracerWarning:torch\.nn\.")  # its own norms
    @pytest.mark.parametrize("dims", [2, 3])
    def test_openvino_says_what_torch_says(self, name: str, dims: int) -> None:
        import openvino as ov

        network = settled(small(name, dims))
        x = image(network, 3, 3, 3)
        expected, tolerance = answer(network, x)
        compiled = ov.compile_model(
            ov.convert_model(network, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        np.testing.assert_allclose(compiled(x.numpy())[0], expected, rtol=1e-4, atol=tolerance)

    @pytest.mark.slow
    @pytest.mark.parametrize("dims", [2, 3])
    def test_onnx_says_what_torch_says(self, name: str, dims: Any, tmp_path: Path) -> None:
        pytest.importorskip("onnx")
        network = settled(small(name, dims))
        structures = (Structure(1, "a"), Structure(2, "b"))
        weights = {key: value.numpy() for key, value in network.state_dict().items()}
        model = Model(ModelSpec("m", spec(name, dims), facts_of(network), ("p", "q"), structures), weights)
        size = tuple(3 * s for s in network.stride)
        path = tmp_path / "x.onnx"
        path.write_bytes(to_onnx(model, size, "image", "logits"))
        x = image(network, 3, 3, 3)
        expected, tolerance = answer(network, x)
        found = engines.run_file(path, x.reshape(*x.shape, *(1,) * (3 - dims)).numpy())
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=tolerance)


PARTS = {"spatial_dims": 2, "encoder": "resnet18", "widths": (8, 8, 8, 8)}


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus", "pspnet"])
def test_instance_norm_goes_with_the_mean_of_a_map(name: str) -> None:
    network = create(name, **PARTS, norm="instance").train()  # type: ignore[arg-type]
    assert network(torch.randn(1, 1, *(2 * s for s in network.stride))).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"output_stride": 12}, "output_stride must be one of the encoder's, such as 8, not 12"),
        ({"output_stride": 64}, "output_stride must be one of the encoder's, such as 32, not 64"),
        ({"output_stride": -8}, "output_stride must be one of the encoder's, such as 2, not -8"),
        ({"widths": (0, 8, 8, 8)}, r"widths must be whole numbers of at least 1, not \(0, 8, 8, 8\)"),
        ({"widths": (8.5, 8, 8, 8)}, "widths must be whole numbers of at least 1"),
        ({"widths": 8}, "widths are the channels of each level"),
        ({"width": 0}, "width must be at least 1, not 0"),
        ({"rates": (2, -1)}, r"rates must be at least 1, not \(2, -1\)"),
        ({"multi_grid": (1, 2, 4)}, "the last stage has 2 blocks, but multi_grid"),
        ({"in_channels": 0}, "a network has one input channel or more, not 0"),
        ({"out_channels": 1.5}, "a network has one output channel or more, not 1.5"),
        ({"spatial_dims": "3"}, "a network has 2 or 3 spatial dimensions, not '3'"),
        (
            {"options": {"encoder": "resnet34"}},
            "encoder is given as an option and as a keyword; give it once",
        ),
    ],
)
def test_what_makes_no_network_is_refused_in_one_sentence(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        create("deeplabv3plus", **{**PARTS, **settings})


def test_whole_numbers_are_refused() -> None:
    network = create("unet3d", widths=(4, 8))
    with pytest.raises(UsageError, match=r"takes floating-point numbers, not torch\.int16"):
        network(torch.zeros(1, 1, 16, 16, 16, dtype=torch.int16))
