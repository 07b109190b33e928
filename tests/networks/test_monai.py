"""Networks of MONAI by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import UsageError
from medseg.core.structures import Structure
from medseg.inference import engines
from medseg.inference.engines.openvino import OpenVinoEngine
from medseg.inference.engines.torch import to_graph, to_onnx, torch_engine
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.networks.monai import MonaiNetwork
from medseg.networks.registry import build
from medseg.training.setup import facts_of

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's own, as it is imported

DYNUNET = {
    "kernel_size": (3, 3, 3),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "upsample_kernel_size": ((1, 2, 2), (2, 2, 2)),
    "filters": (4, 6, 8),
    "stride": (2, 4, 4),
}
SMALL: dict[str, dict[str, Any]] = {
    "SegResNet": {"init_filters": 8, "stride": 8},
    "SwinUNETR": {"feature_size": 12, "depths": (1, 1, 1, 1)},
    "DynUNet": DYNUNET,
}


def network(name: str, **options: Any) -> MonaiNetwork:
    torch.manual_seed(1)
    built = build(NetworkSpec(f"monai:{name}", 2, 3, options=SMALL.get(name, {}) | options))
    assert isinstance(built, MonaiNetwork)
    return built


@pytest.mark.parametrize("name", SMALL)
def test_a_network_answers_in_the_shape_of_the_image(name: str) -> None:
    net = network(name)
    stride = {"SegResNet": (8, 8, 8), "SwinUNETR": (32, 32, 32), "DynUNet": (2, 4, 4)}[name]
    assert facts_of(net).stride == stride
    assert not facts_of(net).tile_independent
    # Two positions at the coarsest level: a norm over one would be over nothing.
    x = torch.randn(1, 2, 2 * stride[0], *stride[1:], generator=torch.Generator().manual_seed(0))
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(x).shape == (1, 3, *x.shape[2:])
    with pytest.raises(UsageError, match="multiples of"):
        net(x[..., :-1])


@pytest.mark.parametrize(("filters", "count"), [(16, 4_702_227), (32, 18_798_627)])
def test_segresnet_has_monais_count(filters: int, count: int) -> None:
    spec = NetworkSpec("monai:SegResNet", 4, 3, options={"init_filters": filters})
    with torch.device("meta"):
        assert sum(p.numel() for p in build(spec).parameters()) == count


def test_two_axes_reach_the_class() -> None:
    spec = NetworkSpec("monai:SegResNet", 1, 2, spatial_dims=2, options={"stride": 8})
    with torch.no_grad():
        assert build(spec)(torch.zeros(1, 1, 16, 24)).shape == (1, 2, 16, 24)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            {"name": "monai:SegResnt"},
            "MONAI does not define the network 'SegResnt'; did you mean SegResNet",
        ),
        ({"name": "monai:xyzzy"}, "MONAI does not define the network 'xyzzy'; see "),
        ({"name": "monai:SegResNet", "options": {"init_filter": 8}}, "did you mean init_filters"),
        ({"name": "monai:SegResNet", "options": {"in_channels": 8}}, "no option in_channels"),
        (
            {"name": "monai:SegResNet", "options": {"blocks_up": (1,)}, "widths": (4, 8)},
            "does not take widths",
        ),
        (
            {"name": "monai:SegResNet", "options": {"stride": (8, 8)}},
            "one positive integer or 3 of them, not (8, 8)",
        ),
        ({"name": "monai:SegResNet", "options": {"stride": 0.5}}, "3 of them, not 0.5"),
        ({"name": "monai:SegResNet", "options": {"norm": "spectral"}}, "monai:SegResNet cannot be built"),
        ({"name": "monai:DynUNet"}, "monai:DynUNet cannot be built"),
    ],
)
def test_what_makes_no_network_is_refused_with_a_mend(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        build(NetworkSpec(**spec))
    assert says in str(refusal.value)


def test_deep_supervision_of_another_make_is_refused_where_it_answers() -> None:
    net = network("DynUNet", deep_supervision=True)
    x = torch.zeros(1, 2, 4, 8, 8)
    with pytest.raises(UsageError, match=r"returns \(1, 2, 3, 4, 8, 8\) instead of .* \(1, 3, 4, 8, 8\)"):
        net(x)
    with torch.no_grad():
        assert net.eval()(x).shape == (1, 3, 4, 8, 8)


def test_a_network_that_does_not_segment_is_refused_where_it_answers() -> None:
    spec = NetworkSpec("monai:AutoEncoder", options={"channels": (2, 4), "strides": (2, 2), "stride": 4})
    assert build(spec).eval()(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    spec = NetworkSpec("monai:DenseNet121", options={"init_features": 8})
    with pytest.raises(UsageError, match=r"returns \(1, 2\) instead of logits"):
        build(spec).eval()(torch.zeros(1, 1, 32, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SegResNet", "DynUNet"])
def test_its_graph_answers_as_it_does(name: str) -> None:
    xml, _ = to_graph(network(name), 2, 3)  # which compares the two on two shapes
    assert xml


@pytest.mark.slow
def test_a_trained_segresnet_is_exact_on_both_engines_on_a_large_tile() -> None:
    """Its settings are MONAI's own; half of the tile is air, and the truth is computed in float64."""
    torch.manual_seed(1)
    net = build(NetworkSpec("monai:SegResNet", 2, 3)).eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = torch.randn(1, 2, 96, 96, 96, generator=torch.Generator().manual_seed(0))
    x[:, :, :48] = -2.7182817
    found = {
        "openvino": OpenVinoEngine(*to_graph(net, 2, 3), threads=1)(x.numpy()),
        "torch": torch_engine(copy.deepcopy(net), threads=1)(x.numpy()),
    }
    with torch.inference_mode():
        expected = net.double()(x.double()).softmax(1)
    for name, logits in found.items():
        probabilities = torch.from_numpy(logits).double().softmax(1)
        assert float((probabilities - expected).abs().max()) < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_onnx_for_one_tile_answers_as_it_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    net = network(name).eval()
    x = torch.randn(1, 2, 2 * net.stride[0], *net.stride[1:], generator=torch.Generator().manual_seed(0))
    spec = NetworkSpec(f"monai:{name}", 2, 3, options=SMALL[name])
    structures = (Structure(1, "a"), Structure(2, "b"))
    weights: dict[str, Any] = {key: value.numpy() for key, value in net.state_dict().items()}
    model = Model(ModelSpec("m", spec, facts_of(net), ("p", "q"), structures), weights)
    (tmp_path / "x.onnx").write_bytes(to_onnx(model, x.shape[2:], "image", "logits"))
    with torch.no_grad():
        expected = net(x).numpy()
    np.testing.assert_allclose(engines.run_file(tmp_path / "x.onnx", x.numpy()), expected, atol=1e-3)
