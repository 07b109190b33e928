"""What validation showed of a model: read strictly, written as it was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from models import evidence_of

from medseg.core import specs
from medseg.core.errors import ModelError, UsageError
from medseg.io.digest import digest_of_files
from medseg.model import file as model_file
from medseg.model.evidence import VERSION, Confidence, Evidence, SpacingRange, VolumeRange
from medseg.model.file import Model, load_model, packaged_models
from medseg.model.spec import ModelSpec, NetworkFacts, NetworkSpec

PACKAGED = packaged_models()


def stored_spec(path: Path) -> dict[str, Any]:
    """The description in a model file, as it stands there."""
    spec: dict[str, Any] = json.loads(model_file._metadata(path.read_bytes(), path)["spec"])
    return spec


@pytest.mark.parametrize("path", PACKAGED.values(), ids=PACKAGED)
def test_a_packaged_models_evidence_is_written_as_it_was_read(path: Path) -> None:
    written = specs.to_mapping(load_model(path).spec.evidence)
    assert json.dumps(written, sort_keys=True) == json.dumps(stored_spec(path)["evidence"], sort_keys=True)


def test_the_default_model_saved_again_has_the_same_bytes(tmp_path: Path) -> None:
    model = load_model("brain")
    model.save(tmp_path / "again.safetensors")
    assert digest_of_files([tmp_path / "again.safetensors"]) == model.sha256


def test_an_older_model_saved_again_gains_the_settings_that_came_later_and_nothing_else(
    tmp_path: Path,
) -> None:
    load_model("hippocampus").save(tmp_path / "again.safetensors")
    stored, again = (stored_spec(p) for p in (PACKAGED["hippocampus"], tmp_path / "again.safetensors"))
    stored["postprocess"] |= {"one_side": False, "one_piece": []}
    assert again == stored | {"name": "hippocampus", "refinement": None}


def test_what_was_not_measured_is_left_out() -> None:
    assert specs.to_mapping(Evidence()) == {}
    written = specs.to_mapping(Evidence(confidence=Confidence(0.5, 3, 0.75), volumes_ml={}))
    assert written == {"confidence": {"min": 0.5, "n": 3, "median": 0.75}, "volumes_ml": {}}


def test_a_null_that_was_measured_stays() -> None:
    """No percentage exists of a structure that was found in some versions only."""
    plain = {"repeatability": {"structures": {"core": {"n": 2, "smallest_change_percent": None}}}}
    written = specs.to_mapping(evidence_of(plain))["repeatability"]["structures"]["core"]
    assert written == {
        "n": 2, "smallest_change_ml": None, "smallest_change_percent": None, "mean_ml": None
    }  # fmt: skip


def a_file(folder: Path, evidence: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file whose evidence is any plain values."""
    spec = ModelSpec(
        "tiny",
        NetworkSpec("unet3d", out_channels=2),
        NetworkFacts((4, 4, 4), (5, 5, 5), True),
        ("MR",),
        load_model("hippocampus").spec.structures[:1],
    )
    plain = specs.to_mapping(spec) | {"evidence": evidence}
    with monkeypatch.context() as patch:
        patch.setattr(model_file.specs, "to_mapping", lambda _: plain)
        Model(spec, {}).save(folder / "m.safetensors")
    return folder / "m.safetensors"


def test_evidence_of_a_later_version_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path, {"version": VERSION + 1, "unheard_of": 1}, monkeypatch)
    with pytest.raises(ModelError, match=r"m\.safetensors: its evidence has version 2.*; update medseg"):
        load_model(path)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"volumes": {}}, "evidence.volumes is not a setting; did you mean 'volumes_ml'"),
        ({"volumes_ml": {"core": {"min": 1.0, "max": 2.0, "mean": 1.5}}}, "volumes_ml.core.mean is not a"),
        (
            {"volumes_ml": {"core": {"min": 2.0, "max": 1.0}}},
            "the volumes must be an interval (min, max) from 0 upwards",
        ),
        ({"confidence": {"min": "0.9"}}, "evidence.confidence.min must be a number, not '0.9'"),
        ({"confidence": {"min": float("nan")}}, "confidence must be in"),
        ({"spacing_mm": {"min": [1.0, 1.0], "max": [1.0, 1.0, 1.0]}}, "evidence.spacing_mm.min"),
    ],
)
def test_evidence_is_read_strictly_at_every_depth(
    evidence: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError) as refused:
        load_model(a_file(tmp_path, evidence, monkeypatch))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Confidence(-1.0),
        lambda: VolumeRange(0.0, float("inf")),
        lambda: SpacingRange((0.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        lambda: evidence_of({"usual": {"n": 1, "limit": 4.0, "features": {"noise": [1.0, 0.0]}}}),
    ],
)
def test_limits_that_would_switch_a_check_off_are_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


def test_what_was_measured_again_takes_the_place_of_what_was_there() -> None:
    first = Evidence(confidence=Confidence(0.5), pieces={"core": 2})
    assert first.updated(Evidence(pieces={"core": 3})) == Evidence(
        confidence=Confidence(0.5), pieces={"core": 3}
    )


@pytest.mark.parametrize("path", PACKAGED.values(), ids=PACKAGED)
def test_a_packaged_models_provenance_is_written_as_it_was_read(path: Path) -> None:
    written = specs.to_mapping(load_model(path).spec.training)
    assert json.dumps(written, sort_keys=True) == json.dumps(stored_spec(path)["training"], sort_keys=True)
