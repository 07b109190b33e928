"""The whole: parameters first, application second, the same seed the same bits."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from medseg.augment.affine import AffineParams
from medseg.augment.compose import Augmenter, Params
from medseg.augment.elastic import ElasticParams
from medseg.augment.spec import (
    AffineSpec,
    AugmentSpec,
    BiasFieldSpec,
    BlurSpec,
    ContrastSpec,
    ElasticSpec,
    FlipSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
)
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels

VOLUME = (24, 28, 20)
PATCH = (16, 20, 12)
CENTRE = (11.5, 13.5, 9.5)
MM = (1.0, 1.0, 1.5)
SIDED = from_labels({1: "left kidney", 2: "right kidney", 3: "liver"})
EVERYTHING = AugmentSpec(
    ElasticSpec(1.0),
    AffineSpec(1.0, shear=0.1, translation_mm=(2.0, 2.0, 2.0), isotropic=False),
    FlipSpec(),
    ContrastSpec(
        BlurSpec(), LowResolutionSpec(), BiasFieldSpec(1.0), GammaSpec(), LinearSpec(), NoiseSpec(1.0)
    ),
)
STILL = AugmentSpec(
    ElasticSpec(1.0, sigma_mm=(0.0, 0.0)),
    AffineSpec(1.0, (0.0, 0.0, 0.0), (1.0, 1.0)),
    FlipSpec(probability=0.0),
    ContrastSpec(
        low_resolution=LowResolutionSpec(1.0, (1.0, 1.0)),
        bias_field=BiasFieldSpec(1.0, sigma=(0.0, 0.0)),
        gamma=GammaSpec(1.0, (1.0, 1.0)),
        linear=LinearSpec(1.0, (1.0, 1.0), (0.0, 0.0)),
        noise=NoiseSpec(1.0, (0.0, 0.0)),
    ),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(99)
    image = torch.randn((channels, *VOLUME), generator=generator)
    labels = torch.randint(0, 4, VOLUME, generator=generator, dtype=torch.uint8)
    return image, labels


@pytest.mark.parametrize("spec", [AugmentSpec(), STILL], ids=["nothing", "zero magnitudes"])
def test_zero_magnitude_is_the_plain_crop_bit_for_bit(spec: AugmentSpec) -> None:
    image, labels = case()
    augmenter = Augmenter(spec, SIDED, MM)
    params = augmenter.sample(seeded(), PATCH, channels=2)
    patch, cut = augmenter.apply(params, image, labels, CENTRE, PATCH)
    assert torch.equal(patch, image[:, 4:20, 4:24, 4:16])
    assert cut is not None
    assert torch.equal(cut, labels[4:20, 4:24, 4:16])


def test_the_result_is_never_a_view_of_the_volume() -> None:
    image, labels = case()
    patch, cut = Augmenter(AugmentSpec(), SIDED, MM).apply(Params(), image, labels, CENTRE, VOLUME)
    assert cut is not None
    patch.zero_()
    cut.zero_()
    assert bool(image.any())
    assert bool(labels.any())


def test_the_same_seed_gives_the_same_params_and_the_same_bits() -> None:
    image, labels = case()
    augmenter = Augmenter(EVERYTHING, SIDED, MM)
    first, second = (augmenter.sample(seeded(4), PATCH, channels=2) for _ in range(2))
    assert first == second
    assert first != augmenter.sample(seeded(5), PATCH, channels=2)
    one = augmenter.apply(first, image, labels, CENTRE, PATCH)
    two = augmenter.apply(second, image, labels, CENTRE, PATCH)
    assert torch.equal(one[0], two[0])
    assert one[1] is not None
    assert two[1] is not None
    assert torch.equal(one[1], two[1])


def test_applying_draws_no_random_number_and_changes_no_input() -> None:
    image, labels = case()
    augmenter = Augmenter(EVERYTHING, SIDED, MM)
    params = augmenter.sample(seeded(4), PATCH, channels=2)
    before = image.clone(), labels.clone(), torch.get_rng_state()
    patch, cut = augmenter.apply(params, image, labels, CENTRE, PATCH)
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert patch.shape == (2, *PATCH)
    assert cut is not None
    assert cut.shape == PATCH
    assert not patch.requires_grad


@pytest.mark.parametrize("seed", range(3))
def test_params_are_plain_values_for_json(seed: int) -> None:
    params = Augmenter(EVERYTHING, SIDED, MM).sample(seeded(seed), PATCH, channels=2)
    stored = json.loads(json.dumps(dataclasses.asdict(params), allow_nan=False))
    assert params.affine is not None
    assert params.elastic is not None
    assert tuple(stored["affine"]["scale"]) == params.affine.scale
    assert tuple(stored["elastic"]["displacements_mm"]) == params.elastic.displacements_mm
    assert tuple(stored["flips"]) == params.flips


def test_a_left_right_flip_mirrors_image_and_labels_and_exchanges_twins() -> None:
    image, labels = case()
    patch, cut = Augmenter(AugmentSpec(), SIDED, MM).apply(Params(flips=(0,)), image, labels, CENTRE, PATCH)
    assert torch.equal(patch, image[:, 4:20, 4:24, 4:16].flip(1))
    twin = torch.tensor([0, 2, 1, 3], dtype=torch.uint8)
    assert cut is not None
    assert torch.equal(cut, twin[labels[4:20, 4:24, 4:16].flip(0).long()])


def test_a_left_right_flip_without_twins_is_refused_in_the_spec_and_in_params() -> None:
    lone = from_labels({1: "left lung"})
    with pytest.raises(UsageError, match="left lung"):
        Augmenter(AugmentSpec(flip=FlipSpec()), lone, MM)
    Augmenter(AugmentSpec(flip=FlipSpec(axes=(1, 2))), lone, MM)
    image, _ = case()
    with pytest.raises(UsageError, match="left lung"):
        Augmenter(AugmentSpec(), lone, MM).apply(Params(flips=(0,)), image, None, CENTRE, PATCH)


def test_a_slice_moves_within_its_plane() -> None:
    image = torch.randn((1, 40, 40, 1), generator=seeded())
    labels = torch.randint(0, 4, (40, 40, 1), generator=seeded(), dtype=torch.uint8)
    augmenter = Augmenter(EVERYTHING, SIDED, (1.0, 1.0, 1.0))
    params = augmenter.sample(seeded(3), (32, 32, 1))
    assert params.affine is not None
    assert params.affine.rotation_degrees[:2] == (0.0, 0.0)
    assert params.affine.scale[2] == 1.0
    patch, cut = augmenter.apply(params, image, labels, (19.5, 19.5, 0.0), (32, 32, 1))
    assert patch.shape == (1, 32, 32, 1)
    assert bool(patch.isfinite().all())
    assert cut is not None
    assert len(cut.unique()) == 4


def test_params_drawn_for_a_smaller_patch_are_refused() -> None:
    image, _ = case()
    params = Params(elastic=ElasticParams(8.0, (4, 4, 4), (1.0,) * 192))
    with pytest.raises(UsageError, match="the lattice of 4 points"):
        Augmenter(AugmentSpec(), SIDED, MM).apply(params, image, None, CENTRE, PATCH)


@pytest.mark.parametrize(
    ("image", "labels", "shape"),
    [
        (torch.zeros(4, 4, 4), None, (2, 2, 2)),
        (torch.zeros(1, 4, 4, 4, dtype=torch.float64), None, (2, 2, 2)),
        (torch.zeros(1, 4, 4, 4), torch.zeros(4, 4, 5, dtype=torch.uint8), (2, 2, 2)),
        (torch.zeros(1, 4, 4, 4), torch.zeros(4, 4, 4), (2, 2, 2)),
        (torch.zeros(1, 4, 4, 4), None, (2, 2)),
    ],
)
def test_what_does_not_fit_is_refused(
    image: torch.Tensor, labels: torch.Tensor | None, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError):
        Augmenter(AugmentSpec(), SIDED, MM).apply(Params(), image, labels, (1.0, 1.0, 1.0), shape)


def test_affine_values_are_drawn_within_their_ranges() -> None:
    spec = AffineSpec(1.0, (10.0, 0.0, 5.0), (0.8, 1.25), True, 0.1, (1.0, 2.0, 3.0))
    augmenter = Augmenter(AugmentSpec(affine=spec), SIDED, MM)
    generator = seeded()
    drawn = [augmenter.sample(generator, PATCH).affine or AffineParams() for _ in range(200)]
    assert 9.0 < max(p.rotation_degrees[0] for p in drawn) <= 10.0
    assert {p.rotation_degrees[1] for p in drawn} == {0.0}
    assert all(len(set(p.scale)) == 1 for p in drawn)
    assert 0.8 <= min(p.scale[0] for p in drawn) < 0.82
    assert -3.0 <= min(p.translation_mm[2] for p in drawn) < -2.8
    assert all(abs(v) <= 0.1 for p in drawn for v in p.shear)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ElasticSpec(probability=1.5),
        lambda: ElasticSpec(sigma_mm=(3.0, 1.0)),
        lambda: ElasticSpec(spacing_mm=0.0),
        lambda: ElasticSpec(min_jacobian=0.0),
        lambda: AffineSpec(scale=(0.0, 1.0)),
        lambda: AffineSpec(rotation_degrees=(-5.0, 0.0, 0.0)),
        lambda: FlipSpec(axes=(0, 3)),
        lambda: FlipSpec(axes=(1, 1)),
        lambda: GammaSpec(gamma=(0.0, 1.0)),
        lambda: LowResolutionSpec(factor=(0.5, 1.0)),
        lambda: NoiseSpec(sigma=(-0.1, 0.1)),
        lambda: LinearSpec(shift=(0.0, float("nan"))),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError):
        make()
