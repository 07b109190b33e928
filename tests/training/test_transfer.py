"""Beginning from a model of other structures or channels: by their names, not by their numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NETWORK, TRAINING, model_spec, tiny_trainer

from medseg.core.errors import ModelError, UsageError
from medseg.core.structures import StructureSet, from_labels
from medseg.model.file import Model
from medseg.model.spec import NetworkSpec
from medseg.networks.layers import Segmenter
from medseg.training.setup import build_network
from medseg.training.transfer import Wanted, freeze, start_from

OURS = from_labels({1: "liver", 2: "spleen", 3: "left kidney"})
CHANNELS = ("image",)


def network_of(spec: NetworkSpec, seed: int) -> Segmenter:
    return build_network(spec, seed=seed, device="cpu", threads=0)


def model(
    structures: StructureSet = OURS, channels: tuple[str, ...] = CHANNELS, spec: NetworkSpec = NETWORK
) -> Model:
    """A model of these structures and channels, all of whose weights are known."""
    spec = replace(spec, out_channels=structures.output_channels, in_channels=len(channels))
    weights = {k: v.numpy() for k, v in network_of(spec, 7).state_dict().items()}
    return Model(replace(model_spec(spec, structures), channels=channels), weights)


def begun(
    structures: StructureSet, channels: tuple[str, ...], given: Model, spec: NetworkSpec = NETWORK
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], tuple[str, ...]]:
    """The weights before and after, and what is said."""
    spec = replace(spec, out_channels=structures.output_channels, in_channels=len(channels))
    network = network_of(spec, 1)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    said = start_from(network, Wanted(spec, structures, channels), given)
    assert torch.equal(torch.get_rng_state(), state)
    return before, dict(network.state_dict()), said


def head(weights: dict[str, torch.Tensor]) -> str:
    return next(name for name in reversed(weights) if name.endswith("weight") and weights[name].ndim > 1)


def test_a_model_of_the_same_is_taken_bit_for_bit_without_a_word() -> None:
    given = model()
    _, after, said = begun(OURS, CHANNELS, given)
    assert said == ()
    for name, value in after.items():
        np.testing.assert_array_equal(value.numpy(), given.weights[name])


@pytest.mark.fault("reports 26")
def test_structures_keep_their_own_weights_where_their_numbers_are_others() -> None:
    given = model()
    turned = from_labels({1: "spleen", 2: "liver", 3: "left kidney"})
    _, after, said = begun(turned, CHANNELS, given)
    name = head(after)
    np.testing.assert_array_equal(after[name].numpy(), given.weights[name][[0, 2, 1, 3]])
    assert said == (
        "structures are in another order in this model; each keeps its weights: spleen, liver, left kidney",
    )


@pytest.mark.fault("reports 26")
def test_other_structures_begin_from_nothing_and_the_rest_is_taken() -> None:
    given = model()
    other = from_labels({1: "spleen", 2: "pancreas"})
    before, after, said = begun(other, CHANNELS, given)
    name = head(after)
    np.testing.assert_array_equal(after[name].numpy()[:2], given.weights[name][[0, 2]])
    np.testing.assert_array_equal(after[name].numpy()[2], before[name].numpy()[2])
    assert said == (
        "new structures start from random weights: pancreas",
        "structures that are not in the recipe are left out: liver and left kidney",
    )
    for key in after:
        if not key.startswith(name.split(".")[0]):
            np.testing.assert_array_equal(after[key].numpy(), given.weights[key])


@pytest.mark.fault("reports 26")
def test_channels_are_told_by_their_names() -> None:
    given = model(channels=("flair", "t1"))
    before, after, said = begun(OURS, ("t1", "t2", "flair"), given)
    (name,) = (n for n, v in after.items() if v.shape != torch.Size(given.weights[n].shape))
    np.testing.assert_array_equal(after[name][:, 0].numpy(), given.weights[name][:, 1])
    np.testing.assert_array_equal(after[name][:, 2].numpy(), given.weights[name][:, 0])
    np.testing.assert_array_equal(after[name][:, 1].numpy(), before[name][:, 1].numpy())
    assert said == (
        "channels are in another order in this model; each keeps its weights: t1, flair",
        "new channels start from random weights: t2",
    )


@pytest.mark.fault("reports 26")
def test_what_does_not_fit_is_listed_and_a_model_of_which_nothing_fits_is_refused() -> None:
    wider = replace(NETWORK, widths=(4, 12))
    _, after, said = begun(OURS, CHANNELS, model(), wider)
    assert len(said) == 1
    assert "weights are not there, or of another shape, and start as new: " in said[0]
    assert set(after) == set(network_of(wider, 0).state_dict())
    with pytest.raises(ModelError, match="none of its weights fits the recipe's network; give a model of"):
        begun(OURS, CHANNELS, model(spec=replace(NETWORK, widths=(2, 6))))


def test_the_only_channel_is_taken_whatever_it_is_called() -> None:
    given = model(channels=("MRI",))
    _, after, said = begun(OURS, ("image",), given)
    assert said == ("the channel image starts from the weights of MRI",)
    for name, value in after.items():
        np.testing.assert_array_equal(value.numpy(), given.weights[name])


@pytest.mark.parametrize("onto", [True, False])
def test_a_network_at_several_scales_and_one_alone_start_each_other(onto: bool) -> None:
    scaled = replace(NETWORK, options={**NETWORK.options, "scales": (0.5, 1.0)})
    before, after, said = begun(
        OURS, CHANNELS, model(spec=NETWORK if onto else scaled), scaled if onto else NETWORK
    )
    given = model(spec=NETWORK if onto else scaled).weights
    name = head(after)
    for key, value in after.items():
        source = given[key.removeprefix("network.") if onto else f"network.{key}"]
        outputs = slice(4) if key.startswith(name.rpartition(".")[0]) else slice(None)
        np.testing.assert_array_equal(
            value[outputs].numpy() if value.ndim else value, source[outputs] if value.ndim else source
        )
    if onto:
        np.testing.assert_array_equal(after[name][4].numpy(), before[name][4].numpy())
        assert said == ("new outputs start from random weights: attention",)
    else:
        assert said == ("outputs that are not in the recipe are left out: attention",)


def test_parts_of_a_network_below_another_can_be_frozen() -> None:
    network = network_of(replace(NETWORK, options={"crf_rnn": 1}), 1)
    (part,) = freeze(network, ["encoder"])
    assert part is network.network.encoder  # type: ignore[union-attr]


def test_a_network_of_slices_starts_one_of_volumes() -> None:
    """A volume of equal slices gives what each slice gave, away from its ends."""
    flat = replace(NETWORK, spatial_dims=2)
    spec = replace(flat, out_channels=OURS.output_channels)
    slices = network_of(spec, 7).eval()
    given = Model(
        replace(model_spec(spec, OURS), channels=CHANNELS),
        {k: v.numpy() for k, v in slices.state_dict().items()},
    )
    solid = replace(NETWORK, out_channels=OURS.output_channels)
    volumes = network_of(solid, 1)
    assert start_from(volumes, Wanted(solid, OURS, CHANNELS), given) == ()
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = slices(image)
        found = volumes.eval()(image[..., None].repeat(1, 1, 1, 1, 48))[..., 24]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_frozen_parts_do_not_change(tmp_path: Path) -> None:
    made = tiny_trainer(tmp_path, training=replace(TRAINING, epochs=1, frozen=("encoder",)))
    before = {k: v.clone() for k, v in made.network.state_dict().items()}
    made.run(lambda _: None)
    after = made.network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if k.startswith("encoder."))
    assert any(not torch.equal(after[k], v) for k, v in before.items() if k.startswith("decoder."))


def test_unknown_part_to_freeze_is_refused() -> None:
    network = network_of(NETWORK, 1)
    with pytest.raises(UsageError, match="the part of the network 'encode' does not exist"):
        freeze(network, ("encode",))
    with pytest.raises(UsageError, match="nothing is left to train"):
        freeze(network, tuple(dict(network.named_children())))
