"""The callables of `medseg.augment`, on what pipelines hand them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from medseg.augment import ElasticDeformation, RandomAffine, RandomFlip, RandomIntensity
from medseg.augment.compose import Augmenter
from medseg.augment.spec import AugmentSpec, ElasticSpec
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet

SHAPE = (20, 18, 12)


def pair() -> dict[str, Any]:
    """A ball in noise, and its label 7, with another, -3."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) - n / 2 for n in SHAPE), indexing="ij"))
    ball = grid.square().sum(0) < 20
    label = torch.where(ball, 7, 0)
    label[:2] = -3
    generator = torch.Generator().manual_seed(0)
    return {
        "image": ball[None].float() + 0.01 * torch.rand(1, *SHAPE, generator=generator),
        "label": label[None],
    }


class TestKinds:
    @pytest.mark.parametrize("make", [ElasticDeformation, RandomAffine, RandomFlip, RandomIntensity])
    def test_what_goes_in_comes_out(self, make: Any) -> None:
        data = pair()
        for image in (data["image"], data["image"].numpy(), data["image"][..., 0], data["image"].double()):
            found = make(seed=1)(image)
            assert type(found) is type(image)
            assert found.shape == image.shape
        before = copy.deepcopy(data)
        changed = make(seed=1)({**data, "name": "case"})
        assert changed["name"] == "case"
        assert changed["label"].dtype == torch.int64
        assert set(changed["label"].unique().tolist()) <= {-3, 0, 7}
        assert all(torch.equal(data[key], before[key]) for key in data)

    def test_image_and_label_move_together(self) -> None:
        data = pair()
        found = ElasticDeformation(sigma_mm=(8.0, 8.0), spacing_control_mm=8.0, seed=3)(data)
        assert not torch.equal(found["label"], data["label"])
        inside = found["image"][found["label"] == 7].mean()
        outside = found["image"][found["label"] == 0].mean()
        assert inside > 0.8
        assert outside < 0.2

    def test_it_is_the_augmenter_of_the_training(self) -> None:
        image = pair()["image"]
        augmenter = Augmenter(AugmentSpec(elastic=ElasticSpec(1.0)), StructureSet(), (1.0, 1.0, 2.0))
        params = augmenter.sample(torch.Generator().manual_seed(5), SHAPE, 1)
        wanted, _ = augmenter.apply(params, image, None, [(n - 1) / 2 for n in SHAPE], SHAPE)
        assert torch.equal(ElasticDeformation(seed=5, spacing_mm=(1, 1, 2))(image), wanted)

    def test_labels_as_masks_and_as_floats(self) -> None:
        data = pair()
        for label in ((data["label"] == 7), data["label"].float(), data["label"][0].numpy().astype(np.int16)):
            found = RandomAffine(seed=2)({"image": data["image"], "label": label})["label"]
            assert found.dtype == label.dtype
            assert found.shape == label.shape


class TestSeeds:
    def test_a_seed_begins_a_sequence(self) -> None:
        image = pair()["image"]
        one, other = ElasticDeformation(seed=4), ElasticDeformation(seed=4)
        first, second = one(image), one(image)
        assert torch.equal(first, other(image))
        assert not torch.equal(first, second)
        one.set_seed(4)
        assert torch.equal(one(image), first)

    def test_without_a_seed_it_is_torchs(self) -> None:
        image, change = pair()["image"], RandomAffine()
        torch.manual_seed(1)
        first = change(image)
        torch.manual_seed(1)
        assert torch.equal(change(image), first)
        assert not torch.equal(change(image), first)


def test_it_goes_to_another_process_with_its_sequence() -> None:
    image, change = pair()["image"], ElasticDeformation(seed=7)
    change(image)
    other = pickle.loads(pickle.dumps(change))
    again = copy.deepcopy(change)
    wanted = change(image)
    assert torch.equal(other(image), wanted)
    assert torch.equal(again(image), wanted)


class Image:
    """What a transform needs of an image of TorchIO."""

    def __init__(self, data: torch.Tensor, kind: str) -> None:
        self.data, self.type, self.affine = data, kind, np.diag([1.0, 1.0, 2.0, 1.0])

    def set_data(self, data: torch.Tensor) -> None:
        self.data = data


class Subject(dict[str, Any]):
    """What a transform needs of a subject of TorchIO."""

    def get_images_dict(self, intensity_only: bool = True) -> dict[str, Image]:
        return {k: v for k, v in self.items() if isinstance(v, Image)}


class TestOtherLibraries:
    def test_compose_of_monai_takes_them(self) -> None:
        from monai.data import MetaTensor
        from monai.transforms import Compose, EnsureChannelFirstd

        affine = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=torch.float64))
        data = {key: MetaTensor(value, affine=affine) for key, value in pair().items()}
        bend = ElasticDeformation(sigma_mm=(5.0, 6.0), seed=5)
        steps = Compose(
            [EnsureChannelFirstd(["image", "label"], channel_dim=0), bend, RandomIntensity(noise=1)]
        )
        found = steps(data)
        assert isinstance(found["image"], MetaTensor)
        assert torch.equal(found["image"].affine, affine)
        again = ElasticDeformation(sigma_mm=(5.0, 6.0), seed=5, spacing_mm=(1, 1, 2))(pair())
        assert torch.equal(found["label"].as_tensor(), again["label"])

    def test_a_subject_of_torchio(self) -> None:
        data = pair()
        subject = Subject(t1=Image(data["image"], "intensity"), seg=Image(data["label"], "label"), age=3)
        found = RandomAffine(seed=6)(subject)
        alone = RandomAffine(seed=6, spacing_mm=(1, 1, 2))(data)
        assert torch.equal(found["t1"].data, alone["image"])
        assert torch.equal(found["seg"].data, alone["label"])
        assert torch.equal(subject["t1"].data, data["image"])
        assert found["age"] == 3


def test_twins_trade_places_and_only_across_the_middle() -> None:
    data = pair()
    for axis, values in ((0, {-3, 0, 9}), (1, {-3, 0, 7})):
        found = RandomFlip(axes=(axis,), probability=1.0, swap=[(7, 9)])(data)["label"]
        assert set(found.unique().tolist()) == values


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'sigma_mm'"):
        ElasticDeformation(sigma=(1, 2))
    with pytest.raises(UsageError, match="did you mean 'vnet2016'"):
        ElasticDeformation(preset="vnet")
    with pytest.raises(UsageError, match=r"not \(20, 18\)"):
        RandomAffine()(torch.zeros(20, 18))
    with pytest.raises(UsageError, match="image_keys="):
        RandomAffine()({"scan": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(UsageError, match="do not fit the image"):
        RandomAffine()({"image": torch.zeros(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 5)})
