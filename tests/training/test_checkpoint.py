"""Checkpoints: whole or refused, and the one before the last serves when the last is damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from medseg.core.errors import InputError
from medseg.training import checkpoint as checkpoints
from medseg.training.checkpoint import Checkpoint


def state(seed: int = 0) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {
        "network/conv.weight": torch.randn(4, 2, 3, 3, 3, generator=generator).to(
            memory_format=torch.channels_last_3d
        ),
        "network/norm.count": torch.tensor(seed),
        "averaged/conv.weight": torch.randn(4, 2, 3, generator=generator),
        "averaged/empty": torch.zeros(0, 3),
        "generator": generator.get_state(),
    }
    return Checkpoint(tensors, {"epoch": seed, "best": 0.1 + 0.2, "seconds": 1.5, "none": None})


def same(first: Checkpoint, second: Checkpoint) -> bool:
    return (
        first.values == second.values
        and first.tensors.keys() == second.tensors.keys()
        and all(
            torch.equal(first.tensors[k], v) and first.tensors[k].dtype == v.dtype
            for k, v in second.tensors.items()
        )
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two checkpoints: that of epoch 2, and before it that of epoch 1."""
    path = tmp_path / "last.safetensors"
    checkpoints.save(path, state(1))
    checkpoints.save(path, state(2))
    return path


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)


def test_a_checkpoint_comes_back_whole(path: Path) -> None:
    assert same(checkpoints.load(path), state(2))
    assert same(checkpoints.load(checkpoints.previous_of(path)), state(1))
    assert sorted(p.name for p in path.parent.iterdir()) == ["last.previous.safetensors", "last.safetensors"]


def test_a_section_is_found_under_its_own_names(path: Path) -> None:
    assert checkpoints.load(path).section("averaged").keys() == {"conv.weight", "empty"}
    assert checkpoints.load(path).section("optimizer") == {}


def test_minus_infinity_survives(path: Path) -> None:
    checkpoints.save(path, Checkpoint({}, {"best": float("-inf")}))
    assert checkpoints.load(path).values == {"best": float("-inf")}


def test_the_latest_serves_without_a_warning(path: Path) -> None:
    found, warning = checkpoints.load_latest(path)
    assert found is not None
    assert same(found, state(2))
    assert warning is None


@pytest.mark.fault("reliability 84")
def test_a_damaged_latest_is_told_and_the_one_before_it_serves(path: Path) -> None:
    damage(path)
    found, warning = checkpoints.load_latest(path)
    assert found is not None
    assert same(found, state(1))
    assert warning is not None
    assert "the checkpoint is damaged" in warning
    assert "the checkpoint before it is used" in warning


@pytest.mark.fault("reliability 82")
@pytest.mark.parametrize("links", [True, False])
def test_there_is_a_checkpoint_of_its_name_at_every_moment_of_a_save(
    path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Whenever a kill comes; on file systems without links too."""
    moments: list[int] = []

    def watched(do: Any) -> Any:
        def act(*words: Any) -> Any:
            done = do(*words)
            moments.append(checkpoints.load(path).values["epoch"])
            return done

        return act

    def none(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    if not links:
        monkeypatch.setattr(os, "link", none)
    checkpoints.save(path, state(3))
    assert {2, 3} <= set(moments)
    assert same(checkpoints.load(checkpoints.previous_of(path)), state(2))
    assert len(list(path.parent.iterdir())) == 2


def test_when_only_the_one_before_is_there_it_serves(path: Path) -> None:
    path.unlink()
    found, warning = checkpoints.load_latest(path)
    assert found is not None
    assert same(found, state(1))
    assert warning is None


def test_nothing_there_is_nothing_found(tmp_path: Path) -> None:
    assert checkpoints.load_latest(tmp_path / "last.safetensors") == (None, None)


@pytest.mark.fault("reliability 84")
def test_two_damaged_ones_are_never_a_fresh_start(path: Path) -> None:
    damage(path)
    damage(checkpoints.previous_of(path))
    with pytest.raises(InputError, match=r"none of the checkpoints can be read.*--overwrite"):
        checkpoints.load_latest(path)


@pytest.mark.fault("reliability 79")
def test_a_save_that_fails_leaves_both_as_they_were(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="the disk is full"):
        checkpoints.save(path, state(3))
    assert same(checkpoints.load(path), state(2))
    assert same(checkpoints.load(checkpoints.previous_of(path)), state(1))
    assert len(list(path.parent.iterdir())) == 2


def rewritten(path: Path, **changes: Any) -> None:
    """The checkpoint with other header entries; None leaves one out."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    merged = header["__metadata__"] | changes
    header["__metadata__"] = {k: v for k, v in merged.items() if v is not None}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": None},
        {"digest": "0" * 64},
        {"schema": None},
        {"schema": "medseg.checkpoint/2"},
        {"values": None},
        {"values": "{"},
        {"values": '{"epoch": 3}'},
    ],
    ids=str,
)
def test_a_changed_header_is_noticed(path: Path, changes: dict[str, Any]) -> None:
    rewritten(path, **changes)
    with pytest.raises(InputError, match="checkpoint"):
        checkpoints.load(path)


def test_a_tensor_of_another_type_with_the_same_bytes_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    assert b'"F32"' in data
    path.write_bytes(data.replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(InputError, match="digest"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 8, b"PK\x03\x04" + b"\x00" * 99, b"\xff" * 40, b"\x04" + b"\x00" * 7 + b"null"]
)
def test_garbage_is_an_input_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        checkpoints.load(path)


def test_no_change_of_bytes_is_missed(path: Path) -> None:
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    header = 8 + int.from_bytes(data[:8], "little")
    refusals = 0
    for n in range(300):
        out = bytearray(data)
        place = int(rng.integers(header if n % 2 else len(data)))
        if n % 10 == 0:
            del out[place:]
        else:
            out[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(out)
        try:
            found = checkpoints.load(path)
        except InputError:
            refusals += 1
        else:
            assert same(found, state(2))
    assert refusals > 290


OPTIMIZERS = {
    "adamw": lambda p: AdamW(
        [{"params": p[:1], "weight_decay": 0.1}, {"params": p[1:]}], lr=0.01, fused=True
    ),
    "sgd": lambda p: SGD([{"params": p[:1]}, {"params": p[1:]}], lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: RMSprop([{"params": p[:1]}, {"params": p[1:]}], lr=0.01),
    "plain sgd": lambda p: SGD([{"params": p[:1]}, {"params": p[1:]}], lr=0.01),
}


def steps(network: nn.Module, optimizer: Optimizer, seeds: range) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        network(torch.randn(2, 2, 4, 4, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Through a file, with parameters in the memory layout training uses."""

    def fresh() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv3d(2, 5, 3), nn.BatchNorm3d(5), nn.PReLU(5))
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return network, OPTIMIZERS[name](list(network.parameters()))

    network, optimizer = fresh()
    steps(network, optimizer, range(3))
    tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"optimizer/{k}": v for k, v in checkpoints.optimizer_tensors(optimizer).items()}
    checkpoints.save(tmp_path / "last.safetensors", Checkpoint(tensors, {}))
    steps(network, optimizer, range(3, 6))

    again, other = fresh()
    found = checkpoints.load(tmp_path / "last.safetensors")
    again.load_state_dict(found.section("network"))
    checkpoints.restore_optimizer(other, found.section("optimizer"))
    steps(again, other, range(3, 6))
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    expected = checkpoints.optimizer_tensors(optimizer)
    restored = checkpoints.optimizer_tensors(other)
    assert restored.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(restored[key], value)
        assert restored[key].stride() == value.stride()


def test_values_for_parameters_an_optimizer_has_not_are_refused() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    with pytest.raises(IndexError):
        checkpoints.restore_optimizer(SGD([parameter], lr=1.0), {"1/momentum_buffer": torch.zeros(3)})
