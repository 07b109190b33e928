"""The predictor gives back what one look at the whole volume would, and refuses what is not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from medseg.core.errors import InputError, ModelError, SelfCheckError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.inference.engines.torch import torch_engine
from medseg.inference.predictor import Predictor, labels_from_probabilities
from medseg.model.spec import NetworkSpec
from medseg.networks import registry


@dataclass
class Toy:
    """An engine from a function of tiles."""

    function: object
    name: str = "toy"
    precision: str = "f32"

    def __call__(self, tiles):
        return self.function(tiles)


IDENTITY = Toy(lambda tiles: tiles)
SIZES = np.random.default_rng(5).integers(1, 71, size=(12, 3)).tolist()


def predictor(*engines, **settings) -> Predictor:
    usual = {
        "stride": (4, 4, 4), "radius": (5, 5, 5), "tile": (16, 16, 16), "tile_independent": True,
        "regions": True, "max_voxels": 24**3,
    }  # fmt: skip
    return Predictor(engines=engines or (IDENTITY,), **{**usual, **settings})


def image(*shape, channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def unet(out_channels=3, widths=(4, 8), strides=(), seed=0, in_channels=2):
    """A batch-norm U-Net whose statistics are not those of an untrained one."""
    torch.manual_seed(seed)
    network = registry.build(
        NetworkSpec("unet3d", in_channels, out_channels, widths=widths, norm="batch", strides=strides)
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return network.eval()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [5, 8, 13])
@pytest.mark.parametrize("weight", ["gaussian", "constant"])
def test_sliding_an_identity_network_returns_the_volume(overlap, size, weight):
    volume = image(size, size, size)
    settings = {"strategy": "sliding_window", "tile": (8, 8, 8), "overlap": overlap, "weight": weight}
    found = predictor(**settings).probabilities(volume)
    np.testing.assert_allclose(found, expit(volume), atol=1e-6)


@pytest.mark.parametrize("shape", [*SIZES, [1, 1, 1], [70, 1, 16], [3, 17, 70]], ids=str)
@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
@pytest.mark.fault("reliability 36")
@pytest.mark.fault("reliability 37")
def test_an_identity_network_returns_volumes_of_any_size(shape, strategy):
    volume = image(*shape, channels=2)
    found = predictor(strategy=strategy, batch=3).probabilities(volume)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expit(volume), atol=1e-6)


NETWORKS = [
    ({"widths": (4, 8)}, (37, 51, 43), 0.4),
    ({"widths": (4, 8), "strides": ((1, 2, 2),)}, (29, 37, 41), 0.6),
    ({"widths": (2, 4, 4)}, (97, 21, 18), 0.8),
]


@pytest.mark.parametrize(("network", "shape", "share"), NETWORKS, ids=["exact", "uneven", "deep"])
@pytest.mark.parametrize("border", [(0, 0, 0), (8, 8, 8), (3, 5, 7)], ids=str)
def test_overlap_tile_equals_one_tile(network, shape, share, border):
    net = unet(**network)
    whole = predictor(
        torch_engine(net), stride=net.stride, radius=net.receptive_radius, border=border, regions=False,
        max_voxels=10**8,
    )  # fmt: skip
    (only,) = whole.plan(shape).tiles
    tiled = replace(whole, max_voxels=int(share * np.prod(only.read.shape)))
    assert len(tiled.plan(shape).tiles) > 1
    volume = image(*shape, channels=2)
    expected = whole.probabilities(volume)
    assert expected.std(axis=(1, 2, 3)).min() > 0.01
    np.testing.assert_allclose(tiled.probabilities(volume), expected, atol=1e-5)


def test_one_tile_is_the_network_on_the_mirrored_volume():
    net = unet()
    volume = image(21, 18, 15, channels=2)
    found = predictor(
        torch_engine(net), stride=net.stride, radius=net.receptive_radius, border=(2, 2, 2), regions=False
    ).probabilities(volume)
    padded = np.pad(volume, [(0, 0), (2, 3), (2, 2), (2, 3)], mode="reflect")
    with torch.inference_mode():
        logits = net(torch.from_numpy(padded)[None])[0].numpy()
    np.testing.assert_allclose(found, softmax(logits, axis=0)[:, 2:-3, 2:-2, 2:-3], atol=1e-5)


def test_a_halo_too_small_is_noticed_by_the_exactness_test():
    net = unet()
    engine = torch_engine(net)
    volume = image(37, 51, 43, channels=2)
    settings = {"stride": net.stride, "regions": False}
    whole = predictor(engine, radius=net.receptive_radius, max_voxels=10**8, **settings).probabilities(volume)
    short = predictor(engine, radius=(2, 2, 2), border=(2, 2, 2), max_voxels=24**3, **settings)
    assert np.abs(short.probabilities(volume) - whole).max() > 1e-4


@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
def test_the_batch_size_changes_nothing(strategy):
    net = unet()
    volume = image(36, 17, 25, channels=2)
    single = predictor(
        torch_engine(net), stride=(2, 2, 2), radius=net.receptive_radius, strategy=strategy, max_voxels=30**3
    )
    expected = single.probabilities(volume)
    for batch in (2, 100):
        found = replace(single, batch=batch).probabilities(volume)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
def test_rows_follow_each_other_and_make_the_whole(strategy):
    volume = image(70, 20, 19)
    each = predictor(strategy=strategy)
    parts = list(each.rows(volume))
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert parts[-1][0].stop == 70
    assert all(part.shape == (1, rows.stop - rows.start, 20, 19) for rows, part in parts)
    np.testing.assert_array_equal(np.concatenate([p for _, p in parts], axis=1), each.probabilities(volume))


def test_neither_image_nor_answer_is_written_to():
    volume = image(30, 20, 20)
    volume.flags.writeable = False
    kept = []

    def frozen(tiles):
        kept.append((tiles, tiles.copy()))
        return tiles

    predictor(Toy(frozen), strategy="sliding_window", flips=((0,), (1, 2))).probabilities(volume)
    assert all(np.array_equal(now, then) for now, then in kept)


def left_right(tiles):
    """Outputs: background, dark on the left, dark on the right, told apart by brightness slope in i."""
    slope = np.gradient(tiles[:, 0], axis=1)
    return np.stack([np.zeros_like(slope), slope, -slope, tiles[:, 0] ** 2], axis=1).astype(np.float32)


@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
def test_flips_change_nothing_for_a_network_that_knows_left_from_right(strategy):
    twins = from_labels({1: "left kidney", 2: "right kidney", 3: "liver"}).twin_channels()
    plain = predictor(Toy(left_right), regions=False, strategy=strategy)
    volume = image(30, 21, 18)
    expected = plain.probabilities(volume)
    flips = tuple(c for c in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
    found = replace(plain, flips=flips, twin_channels=twins).probabilities(volume)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    forgotten = replace(plain, flips=flips).probabilities(volume)
    assert np.abs(forgotten - expected).max() > 0.1


def test_flips_average_probabilities():
    ramp = Toy(lambda tiles: tiles + np.arange(tiles.shape[2], dtype=np.float32)[:, None, None])
    volume = image(16, 16, 16)
    found = predictor(ramp, strategy="sliding_window", flips=((0,),)).probabilities(volume)
    up = np.arange(16, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(found, (expit(volume + up) + expit(volume + up[::-1])) / 2, atol=1e-6)


def test_an_ensemble_averages_probabilities():
    volume = image(20, 20, 20)
    engines = [Toy(lambda tiles, f=f: tiles * np.float32(f)) for f in (1, 2, -3)]
    found = predictor(*engines).probabilities(volume)
    np.testing.assert_allclose(found, sum(expit(volume * f) for f in (1, 2, -3)) / 3, atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
@pytest.mark.fault("reliability 41")
def test_an_answer_that_is_not_finite_is_refused(poison, strategy):
    def poisoned(tiles):
        logits = tiles.copy()
        logits[-1, 0, 3, 2, 1] = poison
        return logits

    with pytest.raises(SelfCheckError, match=r"not finite \(engine toy, precision f32\)") as caught:
        predictor(Toy(poisoned), strategy=strategy).probabilities(image(20, 20, 20))
    assert caught.value.exit_code == 8


@pytest.mark.fault("reliability 41")
def test_poisoned_weights_are_found_out():
    net = unet()
    with torch.no_grad():
        net.head.weight[0, 0] = torch.nan
    with pytest.raises(SelfCheckError, match="not finite"):
        predictor(torch_engine(net), stride=(2, 2, 2)).probabilities(image(20, 20, 20, channels=2))


def test_large_finite_answers_pass():
    found = predictor(Toy(lambda tiles: np.full_like(tiles, 3e38)), regions=False).probabilities(
        image(9, 9, 9)
    )
    np.testing.assert_array_equal(found, 1)


def test_an_answer_of_another_size_is_refused():
    with pytest.raises(ModelError, match="toy returned the shape"):
        predictor(Toy(lambda tiles: tiles[:, :, 1:])).probabilities(image(9, 9, 9))


@pytest.mark.parametrize("shape", [(9, 9, 9), (0, 9, 9, 9), (1, 9, 0, 9)])
def test_an_image_without_voxels_or_channels_is_refused(shape):
    with pytest.raises(InputError, match="shape"):
        predictor().probabilities(np.zeros(shape, np.float32))


def test_a_predictor_needs_an_engine():
    with pytest.raises(UsageError, match="at least 1, not 0 and 1"):
        Predictor(engines=(), stride=(1,) * 3, radius=(0,) * 3, tile_independent=True, tile=(8,) * 3)


def test_a_2d_network_has_two_axes_of_tiling():
    settings = {"stride": (4, 4), "radius": (5, 5), "tile": (16, 16)}
    volume = image(41, 30, 1)
    for strategy in ("overlap_tile", "sliding_window"):
        each = predictor(strategy=strategy, max_voxels=24**2, **settings)
        assert each.plan((41, 30, 1)).tile_shape[2] == 1
        np.testing.assert_allclose(each.probabilities(volume), expit(volume), atol=1e-6)


def test_labels_are_the_dataset_values_of_the_most_probable_output():
    structures = StructureSet((Structure(17, "left"), Structure(300, "b")))
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(size=(3, 6, 7, 8)), axis=0).astype(np.float32)
    labels = labels_from_probabilities(probabilities, structures)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, np.array([0, 17, 300])[probabilities.argmax(axis=0)])


def test_equal_probabilities_give_the_earlier_output():
    labels = labels_from_probabilities(
        np.full((3, 1, 1, 1), 1 / 3, np.float32), from_labels({1: "a", 2: "b"})
    )
    assert labels.item() == 0


def test_regions_are_painted_in_the_order_listed():
    structures = StructureSet(
        (
            Structure(1, "whole", members=(1, 2, 4)),
            Structure(2, "core", members=(2, 4)),
            Structure(4, "inner", members=(4,)),
        )
    )
    combinations = np.array(list(product([0.2, 0.9], repeat=3)), np.float32).T.reshape(3, 8, 1, 1)
    labels = labels_from_probabilities(combinations, structures).ravel()
    assert labels.dtype == np.uint8
    assert labels.tolist() == [0, 4, 2, 4, 1, 4, 2, 4]


def test_a_probability_of_exactly_one_half_is_not_painted():
    structures = StructureSet((Structure(1, "whole", members=(1,)),))
    assert labels_from_probabilities(np.full((1, 1, 1, 1), 0.5, np.float32), structures).item() == 0


def test_outputs_must_be_as_many_as_the_structures_make():
    with pytest.raises(ModelError, match="2 outputs, but its structures need 3"):
        labels_from_probabilities(np.zeros((2, 1, 1, 1), np.float32), from_labels({1: "a", 2: "b"}))


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("weight", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(41, 37, 53), (20, 50, 9)])
def test_sliding_window_agrees_with_monai(overlap, weight, shape):
    from monai.inferers.utils import sliding_window_inference

    torch.manual_seed(0)
    net = registry.build(NetworkSpec("unet3d", 2, 3, widths=(4, 8), norm="instance")).eval()
    volume = image(*shape, channels=2)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(volume)[None], (24, 24, 24), 1, net, overlap=overlap, mode=weight
        )
    found = predictor(
        torch_engine(net), stride=(2, 2, 2), tile=(24, 24, 24), tile_independent=False,
        overlap=overlap, weight=weight, regions=False, batch=3,
    ).probabilities(volume)  # fmt: skip
    np.testing.assert_allclose(found, torch.softmax(theirs[0], 0).numpy(), atol=1e-4)


@pytest.mark.parametrize("strategy", ["overlap_tile", "sliding_window"])
@pytest.mark.parametrize("batch", [1, 3])
def test_empty_tiles_are_computed_once_and_nothing_changes(strategy, batch, monkeypatch):
    seen = []

    def counted(tiles):
        seen.extend(tiles)
        return network(tiles)

    network = torch_engine(unet(in_channels=1), threads=1)
    volume = np.full((1, 64, 40, 40), -3.25, np.float32)
    volume[:, 50:60, 10:30, 10:30] = image(10, 20, 20)
    settings = {"strategy": strategy, "batch": batch, "regions": False, "tile": (16, 16, 16), "overlap": 0.25}
    found = predictor(Toy(counted), **settings).probabilities(volume)
    plan = predictor(**settings).plan(volume.shape[1:])
    empty = [t for t in plan.tiles if np.ptp(plan.read(volume, t)) == 0]
    assert len(empty) > 3
    assert len(seen) < len(plan.tiles) - len(empty) + 2 + batch
    monkeypatch.setattr("medseg.inference.predictor._constants", lambda _: None)
    seen.clear()
    every = predictor(Toy(counted), **settings).probabilities(volume)
    assert len(seen) == len(plan.tiles)
    np.testing.assert_allclose(found, every, atol=3e-6)  # other tiles are computed together
    assert (found.argmax(0) != every.argmax(0)).mean() < 0.01  # outputs that are as likely in a blank tile


def test_an_answer_is_kept_when_the_engine_writes_the_next_into_its_memory():
    memory = np.empty((8, 1, 16, 16, 16), np.float32)

    def reused(tiles):
        memory[: len(tiles)] = tiles * 2
        return memory[: len(tiles)]

    volume = np.full((1, 64, 16, 16), 1.0, np.float32)
    volume[:, 20:40] = image(20, 16, 16)
    settings = {"strategy": "sliding_window", "tile": (16, 16, 16), "overlap": 0.0}
    found = predictor(Toy(reused), **settings).probabilities(volume)
    np.testing.assert_allclose(found, expit(2 * volume), atol=1e-6)
