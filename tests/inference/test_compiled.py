"""Compiled graphs are kept, found again, and never trusted when they are not whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.inference.engines import compiled
from medseg.inference.engines.openvino import OpenVinoEngine
from medseg.inference.engines.torch import to_graph, torch_engine
from medseg.model.spec import NetworkSpec
from medseg.networks import registry

TILES = np.random.default_rng(0).normal(size=(1, 2, 8, 12, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return registry.build(NetworkSpec("unet3d", 2, 3, widths=(4, 8), norm="batch")).eval()


@pytest.fixture(scope="module")
def graph(network: torch.nn.Module) -> tuple[bytes, bytes]:
    return to_graph(network, 2, 3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*" + compiled.SUFFIX))


def test_a_graph_is_compiled_once(
    graph: tuple[bytes, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = OpenVinoEngine(*graph, identity="one")(TILES)
    assert len(kept(cache)) == 1
    monkeypatch.setattr(OpenVinoEngine, "_compiled", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(OpenVinoEngine(*graph, identity="one")(TILES), first)


def test_what_a_graph_depends_on_is_in_its_name(graph: tuple[bytes, bytes], cache: Path) -> None:
    OpenVinoEngine(*graph, identity="one")(TILES)
    OpenVinoEngine(*graph, identity="two")(TILES)
    OpenVinoEngine(*graph, identity="one", threads=1)(TILES)
    OpenVinoEngine(*graph, identity="one")(TILES[:, :, :4])
    assert len(kept(cache)) == 4


def test_only_the_first_shape_of_an_engine_is_kept(graph: tuple[bytes, bytes], cache: Path) -> None:
    engine = OpenVinoEngine(*graph, identity="one")
    for size in (4, 8, 12):
        engine(np.zeros((1, 2, size, 4, 4), np.float32))
    assert len(kept(cache)) == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"", lambda b: b[:99] + b"\0" + b[100:]])
def test_a_damaged_file_is_compiled_anew(
    graph: tuple[bytes, bytes], cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    first = OpenVinoEngine(*graph, identity="one")(TILES)
    path = kept(cache)[0]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(OpenVinoEngine(*graph, identity="one")(TILES), first)
    assert len(path.read_bytes()) == len(whole)


def test_a_foreign_file_that_is_whole_is_compiled_anew(graph: tuple[bytes, bytes], cache: Path) -> None:
    first = OpenVinoEngine(*graph, identity="one")(TILES)
    compiled.keep(kept(cache)[0].name.removesuffix(compiled.SUFFIX), b"no graph at all")
    np.testing.assert_array_equal(OpenVinoEngine(*graph, identity="one")(TILES), first)


@pytest.mark.parametrize("unusable", ["", "/proc/no/such/folder"])
def test_without_a_folder_everything_works(
    graph: tuple[bytes, bytes], cache: Path, unusable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, unusable)
    OpenVinoEngine(*graph, identity="one")(TILES)
    assert not cache.exists()


def test_the_one_not_used_for_longest_goes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT", 2)
    for name, stamp in (("a", 1000), ("b", 2000)):
        compiled.keep(name, b"graph")
        os.utime(cache / (name + compiled.SUFFIX), (stamp, stamp))
    assert compiled.read("a") == b"graph"  # used now
    compiled.keep("c", b"graph")
    assert [path.stem for path in kept(cache)] == ["a", "c"]


def test_two_processes_may_write_at_once(cache: Path) -> None:
    code = (
        "from medseg.inference.engines import compiled\n"
        "for n in range(200):\n"
        "    compiled.keep('same', b'x' * 100_000)\n"
        "    assert compiled.read('same') == b'x' * 100_000\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert [path.name for path in cache.iterdir()] == ["same" + compiled.SUFFIX]


def test_maps_are_not_put_together_before_a_convolution(
    network: torch.nn.Module, graph: tuple[bytes, bytes]
) -> None:
    engine = OpenVinoEngine(*graph)
    kinds = [node.get_type_name() for node in engine._graph.get_ordered_ops()]
    assert "Concat" not in kinds
    assert kinds.count("Convolution") == sum(isinstance(m, torch.nn.Conv3d) for m in network.modules()) + 1
    np.testing.assert_allclose(engine(TILES), torch_engine(network)(TILES), atol=1e-5)


def test_the_users_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(compiled.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(compiled.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.folder() == tmp_path / "medseg"


def test_threads_are_not_tied_to_processors(graph: tuple[bytes, bytes]) -> None:
    engine = OpenVinoEngine(*graph, threads=1)
    made = engine._worker.submit(engine._compiled, TILES.shape).result()
    assert made.get_property("ENABLE_CPU_PINNING") is False


def test_small_tiles_of_many_shapes_share_a_graph(
    network: torch.nn.Module, graph: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, reference = OpenVinoEngine(*graph, threads=1), torch_engine(network)
    compiled_shapes: list[tuple[int, ...]] = []
    honest = OpenVinoEngine._compiled

    def counting(self: OpenVinoEngine, shape: tuple[int, ...]) -> object:
        compiled_shapes.append(shape)
        return honest(self, shape)

    monkeypatch.setattr(OpenVinoEngine, "_compiled", counting)
    for size in (8, 12, 16, 8, 20):
        tiles = np.random.default_rng(size).normal(size=(1, 2, size, 8, 4)).astype(np.float32)
        np.testing.assert_allclose(engine(tiles), reference(tiles), atol=1e-5)
    assert compiled_shapes == [(1, 2, 8, 8, 4), (-1, 2, -1, -1, -1)]
