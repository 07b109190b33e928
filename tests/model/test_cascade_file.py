"""The file of a cascade: both stages in one, and refused where one of them is not what it should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import tiny_model

from medseg.core.errors import ModelError
from medseg.core.structures import from_labels
from medseg.model.file import Model, load_model
from medseg.preparation.preparation import PreparationSpec


@pytest.fixture(scope="module")
def cascade() -> Model:
    coarse = tiny_model(1, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 2.0)))
    return tiny_model(2, coarse=coarse)


def alike(one: Model, other: Model) -> bool:
    keys = one.weights.keys() | other.weights.keys()
    return (
        one.spec == other.spec
        and one.graph == other.graph
        and all(np.array_equal(one.weights[key], other.weights[key]) for key in keys)
    )


def saved(model: Model, folder: Path) -> Path:
    path = folder / "model.safetensors"
    model.save(path)
    return path


def test_both_stages_come_back_with_their_digests(cascade: Model, tmp_path: Path) -> None:
    found = load_model(saved(cascade, tmp_path))
    assert cascade.coarse is not None
    assert found.coarse is not None
    assert alike(found, cascade)
    assert alike(found.coarse, cascade.coarse)
    alone = tmp_path / "coarse.safetensors"
    cascade.coarse.save(alone)
    assert found.coarse.sha256 == load_model(alone).sha256
    assert found.sha256 != found.coarse.sha256


def test_the_same_cascade_makes_the_same_bytes(cascade: Model) -> None:
    assert cascade.to_bytes() == cascade.to_bytes()


def test_a_file_of_one_stage_does_not_mention_the_other(tmp_path: Path) -> None:
    model = tiny_model(1)
    assert b"coarse" not in model.to_bytes()
    assert load_model(saved(model, tmp_path)).coarse is None


def test_a_missing_coarse_stage_is_refused(cascade: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its coarse stage is missing"):
        load_model(saved(replace(cascade, coarse=None), tmp_path))


def test_a_coarse_stage_that_nothing_takes_is_refused(cascade: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="contains a coarse stage for a network that takes none"):
        load_model(saved(replace(tiny_model(3), coarse=cascade.coarse), tmp_path))


def test_a_damaged_coarse_stage_is_refused_by_name(
    cascade: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cascade.to_bytes
    content = bytearray(cascade.coarse.to_bytes() if cascade.coarse else b"")
    content[len(content) // 2] ^= 1
    monkeypatch.setattr(Model, "to_bytes", lambda model: bytes(content))
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole.__func__(cascade))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="digest does not match") as caught:
        load_model(path)
    assert str(caught.value.source).endswith("model.safetensors, coarse stage")


def test_a_cascade_has_two_stages(cascade: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the coarse stage is a cascade itself"):
        load_model(saved(tiny_model(3, coarse=cascade), tmp_path))


def test_stages_must_go_together(tmp_path: Path) -> None:
    others = {
        "structures": tiny_model(1, structures=from_labels({1: "a", 2: "b", 3: "c"})),
        "channels": tiny_model(1, channels=("t1",)),
        "crop": tiny_model(1, preparation=PreparationSpec(crop="nonzero")),
    }
    for number, (name, coarse) in enumerate(others.items()):
        path = tmp_path / f"{number}.safetensors"
        tiny_model(2, coarse=coarse).save(path)
        with pytest.raises(ModelError, match=f"the {name} of the coarse stage"):
            load_model(path)
