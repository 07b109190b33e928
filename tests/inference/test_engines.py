"""Engines agree with the network they were made from, and leave everything else alone."""

from __future__ import annotations

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medseg.core.errors import ModelError, SelfCheckError, UsageError
from medseg.inference import engines
from medseg.inference.engines import base
from medseg.inference.engines.openvino import MAX_COMPILED, OpenVinoEngine
from medseg.inference.engines.torch import to_graph, torch_engine
from medseg.model.evidence import EngineAgreement, Evidence
from medseg.model.file import Model
from medseg.model.spec import NetworkSpec
from medseg.networks import registry
from medseg.networks.arithmetic import CONVOLUTIONS, RoundedConvolutions
from medseg.networks.layers import MEMORY_FORMATS


def network(norm="batch", spatial_dims=3, seed=0):
    torch.manual_seed(seed)
    spec = NetworkSpec("unet3d", 2, 3, spatial_dims=spatial_dims, widths=(4, 8), norm=norm)
    return registry.build(spec).eval(), spec


def as_trained(net, spatial_dims):
    """In the layout training leaves a network in."""
    return net.to(memory_format=MEMORY_FORMATS[spatial_dims])


def tiles(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def graph():
    net, _ = network()
    return to_graph(net, 2, 3)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_openvino_agrees_with_torch(norm, graph):
    net, _ = network(norm)
    content = tiles(2, 2, 12, 16, 10)
    expected = torch_engine(net)(content)
    found = OpenVinoEngine(*(graph if norm == "batch" else to_graph(net, 2, 3)))(content)
    assert found.shape == expected.shape == (2, 3, 12, 16, 10)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_moments_of_a_tile_that_is_mostly_one_value_are_exact(kind, norm, spatial_dims):
    """The air around a head: summed in one go in float32, roundings of its value add up."""
    net = as_trained(network(norm, spatial_dims)[0], spatial_dims)
    content = tiles(1, 2, *((64, 64, 64) if spatial_dims == 3 else (512, 512, 1)))
    content[:, :, : content.shape[2] // 2] = -2.7182817
    if kind == "torch":
        engine = torch_engine(copy.deepcopy(net), threads=1, spatial_dims=spatial_dims)
    else:
        engine = OpenVinoEngine(*to_graph(net, 2, spatial_dims), threads=1)
    found = engine(content)
    seen = torch.from_numpy(content[..., 0] if spatial_dims == 2 else content).double()
    with torch.inference_mode():
        expected = net.double()(seen).numpy().reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_graph_is_compared_with_exact_moments():
    """In the layout of training, torch's own group norm of a large slice errs by more than a graph may."""
    net = as_trained(network("group", 2)[0], 2)
    xml, _ = to_graph(net, 2, 2, stride=(256, 256))  # which compares the two, on two shapes
    assert xml


def test_the_torch_engine_gives_the_networks_own_answer():
    net, _ = network()
    content = tiles(2, 2, 8, 12, 10)
    with torch.inference_mode():
        expected = net(torch.from_numpy(content)).numpy()
    np.testing.assert_allclose(torch_engine(net)(content), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_a_2d_network_sees_each_slice_by_itself(kind):
    net, _ = network(spatial_dims=2)
    engine = torch_engine(net, spatial_dims=2) if kind == "torch" else OpenVinoEngine(*to_graph(net, 2, 2))
    content = tiles(2, 2, 8, 6, 3)
    found = engine(content)
    assert found.shape == (2, 3, 8, 6, 3)
    with torch.inference_mode():
        for k in range(3):
            alone = net(torch.from_numpy(content[..., k])).numpy()
            np.testing.assert_allclose(found[..., k], alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_a_mirrored_view_is_taken_and_not_changed(kind, graph):
    engine = torch_engine(network()[0]) if kind == "torch" else OpenVinoEngine(*graph)
    content = tiles(1, 2, 8, 8, 8)
    before = content.copy()
    mirrored = np.flip(content, 2)
    np.testing.assert_array_equal(engine(mirrored), engine(np.ascontiguousarray(mirrored)))
    np.testing.assert_array_equal(content, before)


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_an_answer_outlives_the_next_call(kind, graph):
    engine = torch_engine(network()[0]) if kind == "torch" else OpenVinoEngine(*graph)
    first = engine(tiles(1, 2, 8, 8, 8))
    kept = first.copy()
    engine(np.zeros((1, 2, 8, 8, 8), np.float32))
    np.testing.assert_array_equal(first, kept)


def test_openvino_runs_in_the_precision_asked_for(graph):
    engine = OpenVinoEngine(*graph, threads=1)
    engine(tiles(1, 2, 8, 8, 8))
    compiled = next(iter(engine._requests.values())).get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("CPU_DENORMALS_OPTIMIZATION") is True
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_bf16_is_near_f32(kind, graph):
    if kind == "torch":
        exact, near = torch_engine(network()[0]), torch_engine(network()[0], precision="bf16")
    else:
        exact, near = OpenVinoEngine(*graph), OpenVinoEngine(*graph, precision="bf16")
    content = tiles(1, 2, 16, 16, 16)
    found, expected = near(content), exact(content)
    assert (exact.precision, near.precision) == ("f32", "bf16")
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_without_instructions_for_bf16_rounded_factors_are_summed_in_f32(monkeypatch):
    """Torch's own emulation takes 50 times as long."""
    monkeypatch.setattr("medseg.inference.engines.torch.computes_in_bf16", lambda _: False)
    image, weight = torch.randn(1, 3, 6, 6, 6).bfloat16(), torch.randn(4, 3, 3, 3, 3).bfloat16()
    with RoundedConvolutions(), torch.inference_mode():
        found = nn.functional.conv3d(image, weight, padding=1)
        expected = nn.functional.conv3d(image.float(), weight.float(), padding=1).bfloat16()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    content, net = tiles(1, 2, 16, 16, 16), as_trained(network()[0], 3)
    told = []
    honest = RoundedConvolutions.__torch_dispatch__

    def counted(self, func, *rest):
        told.append(func.overloadpacket in CONVOLUTIONS)
        return honest(self, func, *rest)

    monkeypatch.setattr(RoundedConvolutions, "__torch_dispatch__", counted)
    own = torch_engine(net, precision="bf16")(content)
    assert sum(told) > 4
    monkeypatch.setattr("medseg.inference.engines.torch.computes_in_bf16", lambda _: True)
    torchs, exact = torch_engine(net, precision="bf16")(content), torch_engine(net)(content)
    assert not np.array_equal(own, exact)
    assert np.abs(own - torchs).mean() < np.abs(torchs - exact).mean()


def test_openvino_keeps_few_shapes_of_large_tiles_compiled(graph, monkeypatch):
    monkeypatch.setattr("medseg.inference.engines.openvino.SMALL_VOXELS", 0)
    engine = OpenVinoEngine(*graph)
    for size in (4, 6, 8, 10, 6):
        assert engine(tiles(1, 2, size, 8, 8)).shape == (1, 3, size, 8, 8)
    assert list(engine._requests) == [(1, 2, 10, 8, 8), (1, 2, 6, 8, 8)]
    assert len(engine._requests) == MAX_COMPILED


def test_a_tile_the_graph_cannot_take_is_refused(graph):
    with pytest.raises(ModelError, match=r"\(1, 3, 8, 8, 8\)"):
        OpenVinoEngine(*graph)(tiles(1, 3, 8, 8, 8))


@pytest.mark.parametrize("xml", [b"", b"not a graph", b"<net/>"])
@pytest.mark.fault("reliability 66")
def test_a_damaged_graph_is_refused(xml, graph):
    with pytest.raises(ModelError, match="cannot read the model's graph"):
        OpenVinoEngine(xml, graph[1])


class Shifted(nn.Module):
    """Traces to another function than it computes: half the size it was traced with is a constant."""

    def forward(self, x):
        return x + int(x.shape[2]) / 2


def test_a_conversion_that_changes_the_answer_is_found_out():
    with pytest.raises(SelfCheckError, match="differ"):
        to_graph(Shifted(), 2, 3)


class Faint(nn.Module):
    """On its way to 1e-10 it passes through 1e-40, which is denormal."""

    def forward(self, x):
        return x * 1e-20 * 1e-20 * 1e30


def test_the_torch_engine_flushes_denormals_in_every_thread():
    assert np.count_nonzero(torch_engine(Faint())(np.ones((1, 1, 64, 64, 64), np.float32))) == 0


@pytest.mark.parametrize("kind", ["torch", "openvino"])
def test_the_callers_denormals_stay(kind, graph):
    engine = torch_engine(network()[0]) if kind == "torch" else OpenVinoEngine(*graph)
    engine(tiles(1, 2, 8, 8, 8))
    assert np.float32(1e-20) * np.float32(1e-20) > 0
    assert torch.count_nonzero(torch.full((100_000,), 1e-20) * 1e-20) == 100_000


def test_an_unknown_device_or_precision_is_refused(graph):
    net, _ = network()
    with pytest.raises(UsageError, match="the device 'cuda:7' is not available"):
        torch_engine(net, "cuda:7")
    with pytest.raises(UsageError, match="cannot compute in 'f8'"):
        torch_engine(net, precision="f8")
    with pytest.raises(UsageError, match="cannot compute in 'f8'"):
        OpenVinoEngine(*graph, precision="f8")


def model(net, spec, graph=None):
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    return Model(SimpleNamespace(network=spec), weights, graph)


def test_loading_gives_the_engine_of_a_model(graph):
    net, spec = network()
    content = tiles(1, 2, 8, 8, 8)
    described = model(net, spec, graph)
    answers = [engines.load(described, name)(content) for name in ("torch", "openvino")]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    np.testing.assert_allclose(answers[0], torch_engine(net)(content), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "fault", "error"),
    [
        ({}, "contains no OpenVINO graph", ModelError),
        ({"device": "cuda"}, "runs on the CPU", UsageError),
        ({"name": "onnx"}, "the engine 'onnx' does not exist", UsageError),
    ],
)
def test_engines_that_cannot_be_had_are_refused(settings, fault, error):
    with pytest.raises(error, match=fault):
        engines.load(model(*network()), **settings)


@pytest.mark.fault("reliability 67")
@pytest.mark.parametrize("fault", ["missing", "left over", "another shape"])
def test_weights_that_do_not_fit_are_refused(fault):
    net, spec = network()
    described = model(net, spec)
    name, value = described.weights.popitem()
    if fault == "left over":
        described.weights.update({name: value, "further.weight": value})
    elif fault == "another shape":
        described.weights[name] = np.zeros((*np.shape(value), 2), np.float32)
    with pytest.raises(ModelError, match="do not fit the network 'unet3d'"):
        engines.load(described, "torch")


@pytest.mark.parametrize(
    ("quota", "threads"), [("100000 100000", 1), ("max 100000", 8), ("250000 100000", 2), ("", 8)]
)
def test_threads_keep_within_the_quota(tmp_path, monkeypatch, quota, threads):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(base, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(base.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert base.available_threads() == threads


def test_the_predictor_and_openvino_do_without_torch():
    code = (
        "import sys; import medseg.inference.predictor, medseg.inference.engines.openvino; "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def measured(**changes):
    found = {name.replace("_", " "): EngineAgreement(*figures) for name, figures in changes.items()}
    return SimpleNamespace(spec=SimpleNamespace(evidence=Evidence(engines=found or None)))


@pytest.mark.parametrize(
    ("found", "able", "chosen"),
    [
        ({"torch_bf16": (0.002, 0.01)}, ("f32", "bf16"), "bf16"),
        ({"torch_bf16": (0.002, 0.01)}, ("f32",), "f32"),
        ({"torch_bf16": (0.0021, 0.0)}, ("f32", "bf16"), "f32"),
        ({"torch_bf16": (0.0, 0.011)}, ("f32", "bf16"), "f32"),
        ({"torch_bf16": (0.0, 0.0), "openvino_bf16": (0.1, 0.0)}, ("f32", "bf16"), "f32"),
        ({"torch_bf16": (0.1, 0.0), "openvino_bf16": (0.0, 0.0)}, ("f32", "bf16"), "bf16"),
        ({}, ("f32", "bf16"), "f32"),
    ],
)
def test_bf16_is_taken_where_the_processor_has_it_and_evidence_allows_it(monkeypatch, found, able, chosen):
    monkeypatch.setattr(engines, "precisions", lambda *_: able)
    assert engines.best_precision(measured(**found), "openvino") == chosen


def test_what_the_processor_computes_in_begins_with_f32():
    for name in ("openvino", "torch"):
        assert engines.precisions(name)[0] == "f32"
