"""An exported graph computes what the network does, and says how to use it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import tiny_model

from medseg.core.errors import ModelError, SelfCheckError, UsageError
from medseg.data.phantom import STRUCTURES
from medseg.inference import engines
from medseg.model.spec import InferenceSpec
from medseg.training.export import export


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_the_graph_answers_as_the_model_does(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    model = tiny_model(inference=InferenceSpec(tile=(16, 24, 20)))
    done = export(model, tmp_path / f"x{suffix}")
    assert done.probability < 1e-5
    assert done.labels < 1e-4
    image = np.random.default_rng(1).normal(size=(2, 1, 16, 24, 20)).astype(np.float32)
    expected = engines.load(model, "torch")(image)
    np.testing.assert_allclose(engines.run_file(tmp_path / f"x{suffix}", image), expected, atol=1e-4)
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["input"]["shape"] == [None, 1, *((16, 24, 20) if suffix == ".onnx" else (None,) * 3)]
    assert [s["name"] for s in told["structures"]] == list(STRUCTURES.names)
    assert told["agreement"]["probability"] == done.probability
    assert told["preparation"]["normalisation"]["kind"] == "zscore"
    assert {p.name for p in done.files} == {p.name for p in tmp_path.iterdir()}


def test_files_in_the_way_stay(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_text("mine")
    with pytest.raises(UsageError):
        export(tiny_model(), tmp_path / "x.xml")
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]
    export(tiny_model(), tmp_path / "x.xml", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 3


def test_another_suffix_and_a_missing_graph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        export(tiny_model(), tmp_path / "x.pt")
    with pytest.raises(ModelError, match="contains no OpenVINO graph"):
        export(replace(tiny_model(), graph=None), tmp_path / "x.xml")


def test_a_graph_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelfCheckError, match="differs from torch"):
        export(replace(tiny_model(0), graph=tiny_model(1).graph), tmp_path / "x.xml")
    assert not list(tmp_path.iterdir())
