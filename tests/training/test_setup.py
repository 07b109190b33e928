"""From settings to a trainer: targets, facts, and a model file that names nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NETWORK, TRAINING, model_spec, phantom, take_step, tiny_trainer

from medseg.core.errors import ModelError, SelfCheckError, UsageError
from medseg.core.structures import Structure, StructureSet
from medseg.data.cards import load_card
from medseg.data.phantom import STRUCTURES
from medseg.inference import engines
from medseg.losses.spec import LossSpec
from medseg.model.file import Model, load_model
from medseg.model.spec import NetworkSpec
from medseg.training import setup
from medseg.training.loop import Trainer
from medseg.training.package import provenance
from medseg.training.processor import autocast_dtype
from medseg.training.recipe import load_recipe
from medseg.training.setup import best_of, build_network, check_trainable, facts_of
from medseg.training.spec import TrainingSpec
from medseg.training.split import make_split
from medseg.training.transfer import Wanted, start_from

REGIONS = StructureSet((Structure(1, "all", members=(1, 2, 3)), Structure(3, "core", members=(3,))))


def test_the_seed_draws_the_weights() -> None:
    first, again, other = (build_network(NETWORK, seed=s, device="cpu", threads=0) for s in (1, 1, 2))
    key = "output.weight" if "output.weight" in first.state_dict() else next(iter(first.state_dict()))
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_facts_are_what_the_network_says() -> None:
    network = build_network(NETWORK, seed=0, device="cpu", threads=0)
    facts = facts_of(network)
    assert facts.stride == (2, 2, 2)
    assert facts.tile_independent
    assert facts.receptive_radius == network.receptive_radius


def test_targets_of_labels_are_class_indices(tmp_path: Path) -> None:
    labels = phantom(0).labels[None]
    target = tiny_trainer(tmp_path).target(labels)
    assert target.dtype == torch.int64
    assert torch.equal(target, labels.long())


def test_targets_of_regions_are_their_masks(tmp_path: Path) -> None:
    labels = torch.stack([phantom(0).labels, phantom(1).labels])
    trainer = tiny_trainer(
        tmp_path,
        structures=REGIONS,
        network=replace(NETWORK, out_channels=2),
        loss=LossSpec("bce_dice"),
    )
    target = trainer.target(labels)
    assert target.shape == (2, 2, 16, 16, 16)
    assert target.dtype == torch.float32
    for sample in range(2):
        for n, region in enumerate(REGIONS):
            expected = np.isin(labels[sample].numpy(), region.members)
            np.testing.assert_array_equal(target[sample, n].numpy(), expected)


def test_a_training_on_regions_takes_a_step(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        structures=REGIONS,
        network=replace(NETWORK, out_channels=2),
        loss=LossSpec("bce_dice"),
    )
    assert take_step(trainer, [0, 1]) > 0


@pytest.mark.fault("reliability 76")
def test_a_model_file_names_no_case(tmp_path: Path) -> None:
    card, recipe = load_card("phantom"), load_recipe("phantom_unet3d")
    cases = {f"jane-doe-{n}": f"jane-doe-{n}" for n in range(10)}
    split = make_split(cases, folds=5, fold=0, selection_share=0.1, seed=0)
    trainer = tiny_trainer(tmp_path)
    weights = {key: value.numpy() for key, value in trainer.best_weights().items()}
    spec = replace(model_spec(), training=provenance(recipe, card, split))
    Model(spec, weights).save(tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes().lower()
    for name in (b"jane", b"doe", b"patient", str(tmp_path).lower().encode()):
        assert name not in data
    assert load_model(tmp_path / "m.safetensors").spec.structures == STRUCTURES.items


@pytest.mark.parametrize(("precision", "dtype"), [("f32", None), ("bf16", torch.bfloat16)])
def test_a_stated_precision_is_taken(precision: str, dtype: torch.dtype | None) -> None:
    assert autocast_dtype(torch.device("cpu"), precision) == dtype  # type: ignore[arg-type]


def test_precision_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert autocast_dtype(torch.device("cpu"), "auto") == (torch.bfloat16 if has else None)
    assert autocast_dtype(torch.device("mps"), "auto") is None


def unlike_new(folder: Path, norm: str = "instance") -> Trainer:
    """A tiny training after two steps, so that no weight is a round number."""
    trainer = tiny_trainer(folder, network=replace(NETWORK, norm=norm))  # type: ignore[arg-type]
    for n in range(2):
        take_step(trainer, [n])
    return trainer


@pytest.mark.filterwarnings(r"ignore::torch.jit.TracerWarning:torch\.nn\.")
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_half_weights_are_rounded_stored_in_half_and_computed_in_float32(tmp_path: Path, norm: str) -> None:
    trainer = unlike_new(tmp_path, norm)
    whole, whole_graph = best_of(trainer, 1)
    weights, graph = best_of(trainer, 1, "float16")
    parameters = {name for name, _ in trainer.network.named_parameters()}
    for key, value in whole.items():
        assert weights[key].dtype == (np.float16 if key in parameters else value.dtype)
        np.testing.assert_array_equal(weights[key], value.astype(weights[key].dtype))
    assert any(not np.array_equal(weights[k].astype(np.float32), whole[k]) for k in parameters)
    if norm == "instance":  # of a batch norm, the conversion unites weights and statistics
        assert len(graph[1]) < 0.55 * len(whole_graph[1])
    path = tmp_path / "half.safetensors"
    spec = model_spec(replace(NETWORK, norm=norm))  # type: ignore[arg-type]
    Model(spec, weights, graph).save(path)
    model = load_model(path)
    assert all(model.weights[key].dtype == value.dtype for key, value in weights.items())
    wide = Model(spec, {k: v.astype(np.float32) if k in parameters else v for k, v in weights.items()})
    tiles = np.random.default_rng(0).normal(size=(1, 1, 16, 16, 16)).astype(np.float32)
    expected = engines.load(wide, "torch")(tiles)
    np.testing.assert_array_equal(engines.load(model, "torch")(tiles), expected)
    np.testing.assert_allclose(engines.load(model, "openvino")(tiles), expected, rtol=1e-4, atol=1e-4)
    exact = engines.load(Model(spec, whole), "torch")(tiles)
    assert 0 < float(np.abs(exact - expected).max()) < 0.05 * float(np.abs(exact).max())


def test_a_training_begins_from_half_weights_in_float32(tmp_path: Path) -> None:
    weights, _ = best_of(unlike_new(tmp_path), 1, "float16")
    spec = replace(NETWORK, norm="instance")
    network = build_network(spec, seed=5, device="cpu", threads=0)
    assert start_from(network, Wanted(spec, STRUCTURES, ("image",)), Model(model_spec(spec), weights)) == ()
    for key, value in network.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        np.testing.assert_array_equal(value.numpy(), weights[key])


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    trainer = unlike_new(tmp_path)
    trainer.averaged.tensors["head.bias"][0] = 70_000.0
    with pytest.raises(SelfCheckError, match=r"head\.bias is too large for float16: it reaches 70000"):
        best_of(trainer, 1, "float16")


@pytest.mark.parametrize("fault", [ModelError, SelfCheckError])
def test_only_a_network_of_monai_may_lack_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise fault("not the same")

    monkeypatch.setattr(setup, "to_graph", refuse)
    trainer = tiny_trainer(tmp_path)
    with pytest.raises(fault, match="not the same"):
        best_of(trainer, 1)
    monkeypatch.setattr(setup, "MonaiNetwork", type(trainer.network))
    assert best_of(trainer, 1)[1] is None


def told(network: NetworkSpec, training: TrainingSpec, loss: LossSpec | None = None) -> str:
    """How settings are refused that go with no data."""
    built = build_network(network, seed=0, device="cpu", threads=0)
    with pytest.raises(UsageError) as refusal:
        check_trainable(built, STRUCTURES, loss or LossSpec(), training)
    return str(refusal.value)


def test_deep_supervision_of_one_head_is_refused() -> None:
    assert "needs a network with several heads" in told(NETWORK, replace(TRAINING, deep_supervision=True))


def test_deep_supervision_of_parts_without_a_further_head_is_refused() -> None:
    parts = replace(NETWORK, name="linknet", widths=(4, 4, 4, 4), options={"encoder": "resnet18"})
    training = replace(TRAINING, deep_supervision=True)
    assert "needs a network with several heads" in told(parts, training)


def test_a_batch_of_one_with_batch_norm_of_a_mean_is_refused() -> None:
    parts = replace(NETWORK, name="pspnet", widths=(4, 4, 4, 4), options={"encoder": "resnet18", "share": 1})
    one = replace(TRAINING, batch=1, patch=(32, 32, 32))
    assert "takes the mean of a whole patch" in told(parts, one)
    built = build_network(parts, seed=0, device="cpu", threads=0)
    check_trainable(built, STRUCTURES, LossSpec(), replace(one, batch=2))


def test_a_random_field_over_regions_is_refused() -> None:
    built = build_network(replace(NETWORK, options={"crf_rnn": 1}), seed=0, device="cpu", threads=0)
    regions = StructureSet((Structure(1, "all", members=(1, 2)), Structure(2, "part", members=(2,))))
    with pytest.raises(UsageError, match=r"leave network\.options\.crf_rnn out"):
        check_trainable(built, regions, LossSpec("bce_dice"), TRAINING)


def test_a_loss_that_does_not_take_the_outputs_is_refused() -> None:
    assert "'bce_dice' does not take labels" in told(NETWORK, TRAINING, LossSpec("bce_dice"))


def test_a_network_without_padding_is_refused() -> None:
    assert "leave network.options.padding out" in told(replace(NETWORK, options={"padding": False}), TRAINING)


@pytest.mark.parametrize(
    ("patch", "hint"),
    [
        ((16, 15, 18), "[4, 4, 1] along each axis, not [16, 15, 18]; use [16, 12, 18] or [16, 16, 18]"),
        ((2, 3, 7), "not [2, 3, 7]; use [4, 4, 7]"),
        ((6, 3, 7), "not [6, 3, 7]; use [4, 4, 7] or [8, 4, 7]"),
    ],
)
def test_a_patch_that_is_no_multiple_of_the_stride_is_answered_with_the_nearest(
    patch: tuple[int, int, int], hint: str
) -> None:
    network = replace(NETWORK, widths=(2, 2, 2), strides=((2, 2, 1), (2, 2, 1)))
    assert told(network, replace(TRAINING, patch=patch)).endswith(hint)


def test_a_patch_of_slices_is_judged_along_the_slice() -> None:
    flat = NetworkSpec("unet", 1, 4, 2, widths=(2, 2))
    said = told(flat, replace(TRAINING, patch=(16, 15, 1)))
    assert said.endswith("not [16, 15, 1]; use [16, 14, 1] or [16, 16, 1]")


def test_settings_that_go_together_are_not_refused() -> None:
    check_trainable(build_network(NETWORK, seed=0, device="cpu", threads=0), STRUCTURES, LossSpec(), TRAINING)


@pytest.mark.fault("reports 25")
@pytest.mark.parametrize(
    ("norm", "batch", "patch", "told"),
    [
        ("batch", 1, (2, 2, 2), r"such as \[4, 4, 4\], or training.batch of 2 or more"),
        ("instance", 2, (2, 2, 2), r"in this network \(stride \[2, 2, 2\]\), and instance"),
        ("batch", 2, (2, 2, 2), ""),
        ("batch", 1, (2, 2, 4), ""),
        ("instance", 1, (4, 2, 2), ""),
    ],
)  # fmt: skip
def test_a_patch_that_shrinks_to_one_voxel_is_refused_where_a_norm_cannot_take_it(
    tmp_path: Path, norm: str, batch: int, patch: tuple[int, int, int], told: str
) -> None:
    """What is let through trains, and what is refused does not."""
    network = replace(NETWORK, norm=norm)  # type: ignore[arg-type]
    training = replace(TRAINING, batch=batch, patch=patch)
    built = build_network(network, seed=0, device="cpu", threads=0)
    trainer = tiny_trainer(tmp_path, network=network, training=training)
    if told:
        with pytest.raises(UsageError, match=told):
            check_trainable(built, STRUCTURES, LossSpec(), training)
        with pytest.raises(ValueError, match="more than 1"):
            take_step(trainer, [0, 1][:batch])
    else:
        check_trainable(built, STRUCTURES, LossSpec(), training)
        take_step(trainer, [0, 1][:batch])
