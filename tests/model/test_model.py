"""Model files: what is saved is loaded, bit for bit, and nothing else ever is."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import done
from safetensors.numpy import save as save_tensors

from medseg.core import specs
from medseg.core.errors import ModelError, UsageError
from medseg.core.structures import from_labels
from medseg.model import file as model_module
from medseg.model.evidence import Confidence, Evidence
from medseg.model.file import Model, find_model, load_model, packaged_models
from medseg.model.provenance import CaseCounts, Provenance
from medseg.model.spec import ModelSpec, NetworkFacts, NetworkSpec

SPEC = ModelSpec(
    "tiny",
    NetworkSpec("unet3d", out_channels=3, widths=(4, 8)),
    NetworkFacts((2, 2, 2), (7, 7, 7), True),
    ("MRI",),
    from_labels({1: "anterior", 2: "posterior"}).items,
    training=Provenance(cases=CaseCounts(12), fold=0),
    evidence=Evidence(confidence=Confidence(0.75)),
)


def tiny_model() -> Model:
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "conv.weight": rng.normal(size=(4, 1, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(size=4).astype(np.float32),
        "norm.num_batches_tracked": np.array(7),
        "turned.weight": rng.normal(size=(3, 2)).astype(np.float32).T,
    }
    return Model(SPEC, weights, (b"<xml/>", bytes(range(256))))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    tiny_model().save(path)
    return path


def same(first: Model, second: Model) -> bool:
    return (
        first.spec == second.spec
        and first.graph == second.graph
        and first.weights.keys() == second.weights.keys()
        and all(
            (first.weights[k].shape, first.weights[k].dtype) == (v.shape, v.dtype)
            and np.array_equal(first.weights[k], v)
            for k, v in second.weights.items()
        )
    )


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])


def craft(path: Path, changes: dict[str, str | None], tensors: dict[str, Any] | None = None) -> None:
    """A model file with other header entries (None leaves one out), its digest as it should be."""
    weights = {f"weight/{k}": np.asarray(v, order="C") for k, v in tiny_model().weights.items()}
    weights |= tensors or {}
    header = {"schema": model_module.SCHEMA, "spec": json.dumps(specs.to_mapping(SPEC))}
    header |= {k: v for k, v in changes.items() if v is not None}
    header.setdefault("digest", model_module._digest(header["spec"], weights))
    header = {k: v for k, v in header.items() if k not in changes or changes[k] is not None}
    path.write_bytes(save_tensors(weights, metadata=header))


def refused(path: Path, match: str) -> ModelError:
    with pytest.raises(ModelError, match=match) as fault:
        load_model(path)
    assert fault.value.exit_code == 5
    assert str(path) in str(fault.value)
    return fault.value


def test_a_saved_model_comes_back_whole(saved: Path) -> None:
    loaded = load_model(saved)
    assert same(loaded, tiny_model())
    assert loaded.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_a_model_without_a_graph_comes_back_without_one(tmp_path: Path) -> None:
    replace(tiny_model(), graph=None).save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").graph is None


def test_the_same_model_makes_the_same_bytes(tmp_path: Path, saved: Path) -> None:
    """The library that writes the file puts the entries of its header in a random order."""
    for n in range(8):
        again = tmp_path / f"again{n}.safetensors"
        (tiny_model() if n % 2 else load_model(saved)).save(again)
        assert again.read_bytes() == saved.read_bytes()


def test_the_header_holds_what_the_design_says(saved: Path) -> None:
    metadata = header_of(saved)["__metadata__"]
    assert set(metadata) == {"schema", "spec", "digest"}
    assert metadata["schema"] == "medseg.model/1"
    assert json.loads(metadata["spec"]) == json.loads(json.dumps(specs.to_mapping(SPEC)))


def test_an_old_model_is_replaced_only_when_asked(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        replace(tiny_model(), graph=None).save(saved)
    assert saved.read_bytes() == before
    replace(tiny_model(), graph=None).save(saved, overwrite=True)
    assert load_model(saved).graph is None


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.sentinel, "executed")


@pytest.mark.fault("reliability 65")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("kind", ["pickle", "archive of torch", "archive of numpy"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str, kind: str) -> None:
    path, sentinel = tmp_path / f"model{suffix}", tmp_path / "sentinel"
    payload = Payload(sentinel)
    with path.open("wb") as file:
        if kind == "pickle":
            pickle.dump(payload, file)
        elif kind == "archive of torch":
            torch.save({"network": payload}, file)
        else:
            np.savez(file, weights=np.array([payload], dtype=object))
    refused(path, "is not a readable model file")
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 8,
        b"PK\x03\x04" + b"\x00" * 100,
        b"\xff" * 64,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (19).to_bytes(8, "little") + b'{"__metadata__": 3}',
        (2).to_bytes(8, "little") + b"\xff\xfe",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
    ],
    ids=range(11),
)
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    refused(tmp_path / "m.safetensors", "is not a readable model file")


@pytest.mark.fault("reliability 66")
def test_every_truncation_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for kept in [*range(16), *range(16, len(data), 97), len(data) - 1]:
        saved.write_bytes(data[:kept])
        refused(saved, "is not a readable model file")


def test_anything_after_the_tensors_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\x00" * 8)
    refused(saved, "is not a readable model file")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to four of them changed, a piece cut out, doubled, or zeroed."""
    out = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    at = int(rng.integers(header if rng.random() < 0.6 else len(out)))
    length = int(rng.integers(1, 40))
    kind = rng.integers(4)
    if kind == 0:
        for _ in range(rng.integers(1, 5)):
            place = int(rng.integers(header if rng.random() < 0.6 else len(out)))
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del out[at : at + length]
    elif kind == 2:
        out[at:at] = out[at : at + length]
    else:
        out[at : at + length] = bytes(rng.integers(0, 256, len(out[at : at + length]), dtype=np.uint8))
    return bytes(out)


@pytest.mark.fault("reliability 66")
def test_no_mutation_passes_for_a_model_or_breaks_the_reader(saved: Path) -> None:
    data, original = saved.read_bytes(), load_model(saved)
    rng = np.random.default_rng(7)
    refusals = 0
    for _ in range(400):
        saved.write_bytes(mutated(data, rng))
        try:
            found = load_model(saved)
        except ModelError:
            refusals += 1
        else:
            assert same(found, original)
    assert refusals > 390


@pytest.mark.fault("reliability 66")
def test_every_bit_of_a_weight_counts(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    for bit in range(8):
        data[-300] ^= 1 << bit
        saved.write_bytes(data)
        refused(saved, "digest")
        data[-300] ^= 1 << bit


def test_a_changed_description_is_noticed(saved: Path) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data.replace(b"posterior", b"pasterior"))
    refused(saved, "digest")


@pytest.mark.fault("reliability 69")
def test_a_model_without_a_digest_is_refused(tmp_path: Path) -> None:
    craft(tmp_path / "m.safetensors", {"digest": None})
    refused(tmp_path / "m.safetensors", "'digest'")


@pytest.mark.parametrize("schema", ["medseg.model/2", "medseg.checkpoint/1", None])
@pytest.mark.fault("reliability 69")
def test_another_schema_is_refused(tmp_path: Path, schema: str | None) -> None:
    craft(tmp_path / "m.safetensors", {"schema": schema})
    assert "medseg.model/1" in str(refused(tmp_path / "m.safetensors", "this medseg reads"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.fault("reliability 68")
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensors = {"weight/conv.bias": np.array([0.0, value], np.float32)}
    craft(tmp_path / "m.safetensors", {}, tensors)
    refused(tmp_path / "m.safetensors", r"the weight conv.bias contains values that are not finite")


def spec_with(**changes: Any) -> str:
    return json.dumps(specs.to_mapping(SPEC) | changes)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("{", "readable"),
        ("[" * 200_000, "readable"),
        ("[]", "must be a table"),
        ("{}", "is missing"),
        (spec_with(colour="red"), "colour is not a setting"),
        (spec_with(channels=["MRI", "CT"]), "needs 2 and 3"),
        (spec_with(structures=[{"value": 1, "name": "a"}]), "needs 1 and 2"),
        (spec_with(structures=[{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]), "the same name"),
        (spec_with(structures=[{"value": 1, "name": "a"}, {"value": 2, "name": "b", "side": "x"}]), "side"),
        (
            spec_with(facts={"stride": [0, 2, 2], "receptive_radius": [1, 1, 1], "tile_independent": True}),
            "0",
        ),
        (spec_with(facts={"stride": [2, 2], "receptive_radius": [1, 1], "tile_independent": True}), "3 axes"),
    ],
    ids=range(11),
)
@pytest.mark.fault("reliability 69")
def test_a_description_that_makes_no_sense_is_refused(tmp_path: Path, spec: str, fault: str) -> None:
    craft(tmp_path / "m.safetensors", {"spec": spec})
    refused(tmp_path / "m.safetensors", fault)


@pytest.mark.parametrize("name", list(packaged_models()))
def test_a_packaged_model_has_one_name_and_its_recipe_another(name: str) -> None:
    shown = done("info", name, "--json").json()
    assert isinstance(shown, dict)
    assert (shown["name"], shown["recipe"]) == (name, load_model(name).spec.training.recipe)


def test_a_model_is_found_by_path_or_packaged_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(saved) == saved
    monkeypatch.setattr(model_module, "packaged_models", lambda: {"tiny": saved})
    assert find_model("tiny") == saved
    assert load_model("tiny").spec.name == "tiny"
    monkeypatch.setattr(model_module, "packaged_models", lambda: {"head": saved})
    assert load_model("head").spec.name == load_model(saved).spec.name == "head"
    monkeypatch.setattr(model_module, "packaged_models", lambda: {"tiny": saved})
    with pytest.raises(ModelError, match=r"packaged model; .* choose from tiny"):
        find_model("tinier")


@pytest.mark.parametrize("name", ["", "/", "missing.safetensors"])
def test_a_model_that_is_not_there_is_a_model_error(name: str) -> None:
    with pytest.raises(ModelError, match="is neither a model file nor"):
        load_model(name)
