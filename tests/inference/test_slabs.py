"""A large tile in slabs: the same answer, in less memory, and only where the graph allows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import torch
from models import tiny_model

from medseg.core.errors import ModelError
from medseg.inference import engines, planner
from medseg.inference.engines.base import RowEngine
from medseg.inference.engines.openvino import OpenVinoEngine
from medseg.inference.engines.slabs import find_cut
from medseg.inference.engines.torch import to_graph, torch_engine
from medseg.inference.predictor import Predictor
from medseg.model.spec import NetworkSpec
from medseg.networks import registry


def engine_of(name: str, channels: int = 2, **more: object) -> OpenVinoEngine:
    torch.manual_seed(0)
    network = registry.build(NetworkSpec(name, channels, 3, **more)).eval()  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return OpenVinoEngine(*to_graph(network, channels, 3), threads=1)


def tile_of(*shape: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, channels, *shape)).astype(np.float32)


NETWORKS = {
    "U-Net": {"name": "unet3d", "widths": (4, 8, 16), "norm": "batch"},
    "U-Net, leaky": {
        "name": "unet3d", "widths": (4, 8), "norm": "batch", "options": {"activation": "leaky_relu"}
    },
    "U-Net, anisotropic": {
        "name": "unet3d", "widths": (4, 8, 16), "norm": "batch",
        "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "strides": ((1, 2, 2), (2, 2, 2)),
    },
    "fast": {"name": "fast_unet", "widths": (4, 8), "norm": "batch"},
    "fast, detail": {"name": "fast_unet", "widths": (4, 8), "norm": "batch", "options": {"detail": 4}},
    "fast, instance norm below": {"name": "fast_unet", "widths": (4, 8), "norm": "instance"},
}  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_slabs_join_to_the_answer(network: str) -> None:
    engine = engine_of(**NETWORKS[network])  # type: ignore[arg-type]
    assert isinstance(engine, RowEngine)
    tile = tile_of(40, 8, 16)
    runs = [(rows, logits.copy()) for rows, logits in engine.rows(tile, 1)]
    assert len(runs) > 1
    assert [rows.start for rows, _ in runs] == [0, *(rows.stop for rows, _ in runs[:-1])]
    found = np.concatenate([logits for _, logits in runs], axis=1)
    np.testing.assert_allclose(found, engine(tile)[0], atol=1e-5)


def test_a_tile_no_longer_than_a_slab_is_one() -> None:
    engine = engine_of("fast_unet", widths=(4, 8), norm="batch")
    tile = tile_of(8, 8, 8)
    ((rows, logits),) = [(rows, logits.copy()) for rows, logits in engine.rows(tile, 2**20)]
    assert rows == slice(0, 8)
    np.testing.assert_allclose(logits, engine(tile)[0], atol=1e-5)


def test_levels_below_are_cut_too() -> None:
    engine = engine_of("unet3d", widths=(4, 8, 16, 32), norm="batch")
    shape = (128, 16, 16)
    one = engine.slab_bytes(shape, 2**30)
    many = engine.slab_bytes(shape, 1)
    assert one is not None
    assert many is not None
    assert many < 0.4 * one
    tile = tile_of(*shape)
    found = np.concatenate([logits.copy() for _, logits in engine.rows(tile, 1)], axis=1)
    np.testing.assert_allclose(found, engine(tile)[0], atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        {"name": "unet3d", "widths": (4, 8), "norm": "instance"},
        {"name": "unet3d", "widths": (4, 8), "norm": "group"},
        {"name": "unet3d", "widths": (4, 8), "norm": "batch", "spatial_dims": 2},
    ],
)
def test_what_cannot_be_cut_is_left_alone(network: dict[str, object]) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec(in_channels=2, out_channels=3, **network)  # type: ignore[arg-type]
    engine = OpenVinoEngine(*to_graph(registry.build(spec).eval(), 2, spec.spatial_dims), threads=1)
    assert engine.slab_bytes((32, 16, 16), 1) is None
    with pytest.raises(ModelError, match="slabs"):
        next(engine.rows(tile_of(32, 16, 16), 1))


def test_a_graph_without_levels_is_not_cut() -> None:
    torch.manual_seed(0)
    flat = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.Conv3d(4, 3, 1)).eval()
    graph = ov.Core().read_model(*to_graph(flat, 2, 3))
    graph.reshape([1, 2, 16, 16, 16])
    assert find_cut(graph) is None


def test_a_predictor_in_slabs_gives_the_same_probabilities() -> None:
    model = tiny_model()
    whole = Predictor.of(model.spec, [engines.load(model, threads=1)])
    image = np.random.default_rng(1).normal(size=(1, 45, 38, 21)).astype(np.float32)
    slabs = replace(whole, slab_voxels=1)
    assert slabs.streams
    parts = list(slabs.rows(image))
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert parts[-1][0].stop == 45
    np.testing.assert_allclose(slabs.probabilities(image), whole.probabilities(image), atol=1e-5)


def test_mirrored_predictions_and_torch_do_not_stream() -> None:
    model = tiny_model()
    engine = engines.load(model, threads=1)
    assert not Predictor.of(model.spec, [engine, engine]).streams
    assert not replace(Predictor.of(model.spec, [engine]), flips=((0,),)).streams
    net = torch.nn.Conv3d(1, 2, 1)
    assert not replace(Predictor.of(model.spec, [engine]), engines=[torch_engine(net)]).streams


def test_the_planner_takes_slabs_before_it_cuts_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    predictor = Predictor.of(model.spec, [engines.load(model, threads=1)])
    shape = (256, 64, 64)
    monkeypatch.setattr(planner, "SLAB_VOXELS", (2**17, 2**16))
    whole = planner.load_with(predictor, model.spec, shape, shape).total
    chosen = planner.with_tiles_that_fit(predictor, model.spec, shape, shape, whole)
    assert chosen.slab_voxels == 0
    assert len(chosen.plan(shape).tiles) == 1
    room = int(0.8 * whole)
    chosen = planner.with_tiles_that_fit(predictor, model.spec, shape, shape, room)
    assert chosen.slab_voxels > 0
    assert len(chosen.plan(shape).tiles) == 1
    assert planner.load_with(chosen, model.spec, shape, shape).total <= room
