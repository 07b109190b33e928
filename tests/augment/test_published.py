"""Elastic deformation as four papers have it: their numbers, against oracles, image and labels together."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.interpolate import BSpline, CubicSpline

from medseg.augment import elastic, published, warp
from medseg.augment.affine import AffineParams
from medseg.augment.compose import Augmenter, Params
from medseg.augment.published import MeshParams, NoiseParams
from medseg.augment.spec import ELASTIC_PRESETS, AffineSpec, AugmentSpec, ElasticSpec
from medseg.core import specs
from medseg.core.errors import UsageError
from medseg.core.structures import from_labels

PRESETS = tuple(ELASTIC_PRESETS)
MESHES = tuple(name for name in PRESETS if name != "simard2003")
PATCH = (40, 33, 24)
VOLUME = (52, 41, 30)
CENTRE = (25.5, 20.0, 14.5)
SPACING_MM = (1.0, 1.0, 1.5)
STRUCTURES = from_labels({1: "liver", 2: "spleen"})
MOVED = AffineParams((10.0, -20.0, 30.0), (1.2, 0.9, 1.1), (0.1, -0.05, 0.02), (1.5, -2.0, 0.7))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(name: str, seed: int = 0, shape: tuple[int, int, int] = PATCH) -> MeshParams | NoiseParams:
    return published.sample(name, seeded(seed), shape, SPACING_MM)


def gentle(name: str, seed: int = 0) -> MeshParams | NoiseParams:
    """A field that does not fold in a patch this small: the paper's vectors, an eighth as long."""
    params = drawn(name, seed)
    if isinstance(params, MeshParams):
        return published.from_vectors(name, params.tensor() / 8, params.patch_shape)
    return params


def augmenter(name: str | None = None, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Augmenter:
    return Augmenter(AugmentSpec(elastic=name), STRUCTURES, spacing_mm)


def volume() -> torch.Tensor:
    noise = np.random.default_rng(1).normal(size=(2, *VOLUME))
    return torch.from_numpy((ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.0)) * 10).astype(np.float32))


def blocks() -> torch.Tensor:
    labels = np.zeros(VOLUME, np.uint8)
    labels[8:30, 6:20, 3:21] = 1
    labels[26:44, 18:34, 8:26] = 2
    return torch.from_numpy(labels)


def field_of(params: MeshParams | NoiseParams) -> np.ndarray:
    """Displacements (i, j, k, 3) in voxels, read off the map that is applied."""
    if isinstance(params, NoiseParams):
        return params.field().double().numpy()
    control, bases = warp.spatial_control(params, None, params.patch_shape, SPACING_MM)
    axes = [elastic.control_positions(n) for n in params.patch_shape]
    return (elastic.evaluate(control, bases) - torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)).numpy()


# The papers' numbers


@pytest.mark.parametrize(
    ("name", "shape", "mesh", "sigma", "draws"),
    [
        ("unet2015", (388, 388, 1), (3, 3, 1), 10.0, 16),
        ("unet2015", (64, 64, 64), (3, 3, 3), 10.0, 16),
        ("vnet2016", (128, 128, 64), (5, 5, 5), 15.0, 8),
        ("unet3d2016", (132, 132, 116), (8, 8, 7), 4.0, 4),
    ],
)
def test_vectors_are_as_many_and_deviate_as_the_paper_says(
    name: str, shape: tuple[int, int, int], mesh: tuple[int, int, int], sigma: float, draws: int
) -> None:
    assert published.mesh_of(name, shape) == mesh
    generator = seeded()
    vectors = torch.stack(
        [published.sample(name, generator, shape, SPACING_MM).tensor() for _ in range(draws)]  # type: ignore[union-attr]
    )
    moving = [axis for axis in range(3) if shape[axis] > 1 and not (name == "vnet2016" and axis == 2)]
    for axis in range(3):
        if axis in moving:
            assert float(vectors[..., axis].std()) == pytest.approx(sigma, rel=0.08)
            assert abs(float(vectors[..., axis].mean())) < 0.15 * sigma
        else:
            assert not vectors[..., axis].any()


@pytest.mark.parametrize(("shape", "expected"), [((96, 90, 1), 1.385), ((70, 60, 50), 0.368)])
def test_simards_field_deviates_as_smoothed_uniform_noise_does_up_to_the_border(
    shape: tuple[int, int, int], expected: float
) -> None:
    """34 / sqrt(3) times the square root of the kernel's sum of squares, once an axis."""
    axes = sum(n > 1 for n in shape)
    assert expected == pytest.approx(34 / math.sqrt(3) / (8 * math.sqrt(math.pi)) ** (axes / 2), rel=0.01)
    fields = torch.stack([published.smoothed_noise(seed, shape) for seed in range(8)])
    assert float(fields[..., :2].std()) == pytest.approx(expected, rel=0.05)
    assert float(fields[:, 0, ..., :2].std()) == pytest.approx(expected, rel=0.25)
    assert (axes == 3) == bool(fields[..., 2].any())


def test_presets_are_applied_as_often_as_their_papers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    still = drawn("unet2015", shape=(1, 1, 1))
    monkeypatch.setattr(published, "sample", lambda *_: still)
    for name, probability in {"unet2015": 1.0, "vnet2016": 0.5}.items():
        generator, bending = seeded(), augmenter(name)
        count = sum(bending.sample(generator, (8, 8, 8)).elastic is not None for _ in range(200))
        assert count / 200 == pytest.approx(probability, abs=0.1)


def test_v_net_leaves_the_axis_across_the_slices_as_it_is() -> None:
    assert published.across_slices((9, 9, 9), (0.5, 3.0, 0.5)) == 1
    params = published.sample("vnet2016", seeded(), (24, 24, 24), (0.5, 3.0, 0.5))
    field = field_of(params)
    assert np.abs(field[..., 1]).max() < 1e-9
    assert min(np.abs(field[..., a]).max() for a in (0, 2)) > 1.0


@pytest.mark.parametrize("name", PRESETS)
def test_an_image_moves_within_its_plane(name: str) -> None:
    params = published.sample(name, seeded(), (30, 1, 26), (1.0, 5.0, 1.0))
    field = field_of(params)
    assert np.abs(field[..., 1]).max() < 1e-9
    assert min(np.abs(field[..., a]).max() for a in (0, 2)) > 0.5


# Interpolation


def test_u_nets_field_goes_through_its_vectors() -> None:
    shape = (41, 33, 25)
    params = published.sample("unet2015", seeded(), shape, SPACING_MM)
    assert isinstance(params, MeshParams)
    nodes = field_of(params)[::20, ::16, ::12]
    np.testing.assert_allclose(nodes, params.tensor().numpy(), atol=1e-9)


def keys_kernel(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution, a = -1/2."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def test_u_nets_bicubic_is_cubic_convolution_and_the_not_a_knot_spline() -> None:
    shape = (41, 33, 1)
    params = published.sample("unet2015", seeded(3), shape, SPACING_MM)
    assert isinstance(params, MeshParams)
    vectors, field = params.tensor().numpy()[:, :, 0], field_of(params)[:, :, 0]
    splines = CubicSpline([0, 20, 40], vectors, axis=0, bc_type="not-a-knot")(np.arange(41))
    expected = CubicSpline([0, 16, 32], splines, axis=1, bc_type="not-a-knot")(np.arange(33))
    np.testing.assert_allclose(field, expected, atol=1e-9)

    def convolved(values: np.ndarray, fine: int) -> np.ndarray:
        """Along axis 0, with one node more a side, by Keys's rule for the border."""
        low = 3 * values[0] - 3 * values[1] + values[2]
        high = 3 * values[2] - 3 * values[1] + values[0]
        padded = np.stack([low, *values, high])
        weights = keys_kernel(np.linspace(0, 2, fine)[:, None] - np.arange(-1, 4))
        return np.tensordot(weights, padded, axes=1)

    rows = convolved(vectors, 41)
    keys = convolved(rows.swapaxes(0, 1), 33).swapaxes(0, 1)
    np.testing.assert_allclose(field, keys, atol=1e-9)


def test_v_nets_field_is_that_of_itks_b_spline_transform() -> None:
    params = drawn("vnet2016")
    assert isinstance(params, MeshParams)
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainOrigin((-0.5, -0.5, -0.5))
    transform.SetTransformDomainPhysicalDimensions([float(n) for n in PATCH])
    transform.SetTransformDomainMeshSize([2, 2, 2])
    transform.SetParameters(params.tensor().permute(3, 2, 1, 0).flatten().tolist())
    field = field_of(params)
    for voxel in ((0, 0, 0), (39, 32, 23), (20, 16, 12), (7, 30, 3), (31, 2, 19)):
        expected = np.subtract(transform.TransformPoint([float(v) for v in voxel]), voxel)
        np.testing.assert_allclose(field[voxel], expected, atol=1e-6)


def test_3d_u_nets_field_is_a_b_spline_with_a_vector_every_32_voxels() -> None:
    shape = (70, 40, 24)
    params = published.sample("unet3d2016", seeded(), shape, (2.0, 1.0, 0.5))
    assert isinstance(params, MeshParams)
    element = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    weights = []
    for n, count in zip(shape, params.tensor().shape, strict=False):
        voxels, knots = np.arange(n) - (n - 1) / 2, 32 * (np.arange(count) - (count - 1) / 2)
        weights.append(np.nan_to_num(element((voxels[:, None] - knots) / 32)))
    expected = np.einsum("ia,jb,kc,abcd->ijkd", *weights, params.tensor().numpy())
    np.testing.assert_allclose(field_of(params), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(36, 30, 20), (50, 44, 1)])
def test_simards_field_is_scipys_gaussian_of_its_noise(shape: tuple[int, int, int]) -> None:
    size = [n if n == 1 else n + 32 for n in shape]
    noise = torch.rand((3, *size), generator=seeded(11)).double().numpy() * 2 - 1
    sigma = [0.0 if n == 1 else 4.0 for n in shape]
    inner = tuple(slice(None) if n == 1 else slice(16, -16) for n in shape)
    smooth = np.stack([ndimage.gaussian_filter(c, sigma, truncate=4.0)[inner] for c in noise], -1)
    smooth[..., [n == 1 for n in shape]] = 0.0
    np.testing.assert_allclose(published.smoothed_noise(11, shape).numpy(), 34 * smooth, atol=1e-4)


# Folding


@pytest.mark.parametrize("name", PRESETS)
def test_the_smallest_jacobian_is_that_of_finite_differences(name: str) -> None:
    params = gentle(name)
    field = field_of(params)
    if isinstance(params, NoiseParams):
        slopes = [np.diff(field, axis=a)[tuple(slice(n - 1) for n in PATCH)] for a in range(3)]
        tolerance = 1e-4
    else:
        slopes = [np.gradient(field, axis=a, edge_order=2) for a in range(3)]
        tolerance = 0.01
    naive = np.linalg.det(np.stack(slopes, -1) + np.eye(3))
    assert params.min_jacobian == pytest.approx(naive.min(), abs=tolerance)
    assert 0.0 < params.min_jacobian < 1.0


def test_a_field_that_folds_is_kept_and_says_so() -> None:
    params = drawn("unet2015")
    assert params.min_jacobian < 0
    assert isinstance(params, MeshParams)
    assert float(params.tensor().std()) == pytest.approx(10.0, rel=0.2)


# Applied


def oracle_positions(params: MeshParams | NoiseParams, moves: AffineParams | None) -> np.ndarray:
    """Positions (3, i, j, k) in the volume: the field, then the affine map in millimetres."""
    axes = [np.arange(n) - (n - 1) / 2 for n in PATCH]
    mm = (np.stack(np.meshgrid(*axes, indexing="ij"), -1) + field_of(params)) * SPACING_MM
    if moves is not None:
        mm = mm @ moves.matrix().numpy().T + moves.translation_mm
    centre = np.add(warp.patch_start(CENTRE, PATCH), (np.array(PATCH) - 1) / 2)
    return np.moveaxis(mm / SPACING_MM + centre, -1, 0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("moves", [None, MOVED], ids=["still", "moved"])
@pytest.mark.parametrize("make", [drawn, gentle], ids=["as published", "gentle"])
def test_image_and_labels_are_what_scipy_reads(name: str, moves: AffineParams | None, make: object) -> None:
    assert callable(make)
    bends, image, labels = make(name), volume(), blocks()
    patch, cut = augmenter().apply(Params(elastic=bends, affine=moves), image, labels, CENTRE, PATCH)
    at = oracle_positions(bends, moves)
    for channel, found in zip(image.numpy(), patch.numpy(), strict=True):
        expected = ndimage.map_coordinates(channel, at, order=1, mode="nearest")
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert cut is not None
    nearest = ndimage.map_coordinates(labels.numpy(), np.round(at), order=0, mode="constant")
    near_a_tie = np.any(np.abs(at - np.floor(at) - 0.5) < 1e-3, axis=0)
    assert np.all((cut.numpy() == nearest) | near_a_tie)
    assert near_a_tie.mean() < 0.02


@pytest.mark.parametrize("name", PRESETS)
def test_image_and_labels_go_through_the_same_field(name: str) -> None:
    """The nearest of eight neighbours weighs at least an eighth: a larger share decides the label."""
    labels = blocks()
    image = (labels == 1).float()[None]
    patch, cut = augmenter().apply(Params(elastic=gentle(name)), image, labels, CENTRE, PATCH)
    assert cut is not None
    share, inside = patch[0], cut == 1
    assert torch.all(inside[share > 7 / 8 + 1e-3])
    assert not torch.any(inside[share < 1 / 8 - 1e-3])
    assert 0.05 < float(inside.float().mean()) < 0.9


@pytest.mark.parametrize("name", MESHES)
def test_vectors_of_zero_give_the_plain_crop_bit_for_bit(name: str) -> None:
    mesh = published.mesh_of(name, PATCH)
    still = published.from_vectors(name, torch.zeros(*mesh, 3), PATCH)
    assert still.min_jacobian == 1.0
    image, labels = volume(), blocks()
    patch, cut = augmenter().apply(Params(elastic=still), image, labels, CENTRE, PATCH)
    plain, plain_cut = augmenter().apply(Params(), image, labels, CENTRE, PATCH)
    assert cut is not None
    assert plain_cut is not None
    assert torch.equal(patch, plain)
    assert torch.equal(cut, plain_cut)


@pytest.mark.parametrize("name", PRESETS)
def test_a_patch_of_one_voxel_is_the_plain_crop(name: str) -> None:
    params = published.sample(name, seeded(), (1, 1, 1), SPACING_MM)
    assert params.moves_nothing
    assert params.min_jacobian == 1.0
    patch, _ = augmenter().apply(Params(elastic=params), volume(), None, (5.0, 6.0, 7.0), (1, 1, 1))
    assert torch.equal(patch, volume()[:, 5:6, 6:7, 7:8])


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_seed_gives_the_same_params_which_are_plain_json_and_bits(name: str) -> None:
    image, labels = volume(), blocks()
    spec = AugmentSpec(name, AffineSpec(1.0))
    maker = Augmenter(spec, STRUCTURES, SPACING_MM)
    seed = next(s for s in range(20) if maker.sample(seeded(s), PATCH).elastic is not None)
    first, second = (maker.sample(seeded(seed), PATCH) for _ in range(2))
    assert first == second
    text = json.dumps(dataclasses.asdict(first), allow_nan=False)
    assert len(text) < 20_000
    one, two = (maker.apply(p, image, labels, CENTRE, PATCH) for p in (first, second))
    assert torch.equal(one[0], two[0])
    assert one[1] is not None
    assert two[1] is not None
    assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_change_no_more_than_rounding(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = Params(elastic=drawn("simard2003"), affine=MOVED)
    expected, _ = augmenter().apply(params, volume(), None, CENTRE, PATCH)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(warp, "CHUNK_VOXELS", 3000)
    found, _ = augmenter().apply(params, volume(), None, CENTRE, PATCH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_drawing_advances_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for name in PRESETS:
        augmenter().apply(Params(elastic=drawn(name)), volume(), None, CENTRE, PATCH)
    assert torch.equal(torch.get_rng_state(), before)


# Refused


@pytest.mark.parametrize("name", PRESETS)
def test_a_field_serves_its_own_patch_alone(name: str) -> None:
    smaller = tuple(n - 2 for n in PATCH)
    for params in (drawn(name), *([gentle(name)] if name in MESHES else [])):
        with pytest.raises(UsageError, match=f"{name} was drawn for a patch of"):
            augmenter().apply(Params(elastic=params), volume(), None, CENTRE, smaller)


def test_vectors_that_do_not_fill_the_mesh_are_refused() -> None:
    with pytest.raises(UsageError, match=r"5 displacements do not fit a mesh of \(3, 3, 3\), which needs 81"):
        MeshParams("unet2015", PATCH, 1.0, (0.0,) * 5).tensor()


def test_an_unknown_preset_is_refused_wherever_it_is_named() -> None:
    with pytest.raises(UsageError, match=r"unet2016.*did you mean 'unet3d2016'"):
        AugmentSpec(elastic="unet2016")
    with pytest.raises(UsageError, match="unet2016"):
        published.sample("unet2016", seeded(), PATCH, SPACING_MM)
    with pytest.raises(
        UsageError, match=r"r.toml: augmentation: .*'unet2016' does not exist; did you mean 'unet3d2016'"
    ):
        specs.from_mapping(Holder, {"augmentation": {"elastic": "unet2016"}}, source="r.toml")


@dataclasses.dataclass(frozen=True)
class Holder:
    """What a recipe is for this purpose."""

    augmentation: AugmentSpec


@pytest.mark.parametrize("value", [*PRESETS, {"spacing_mm": 8.0}])
def test_a_recipe_names_a_preset_or_has_a_table(value: object) -> None:
    held = specs.from_mapping(Holder, {"augmentation": {"elastic": value}}, source="r.toml")
    expected = ElasticSpec(spacing_mm=8.0) if isinstance(value, dict) else value
    assert held.augmentation.elastic == expected
    assert specs.from_mapping(Holder, specs.to_mapping(held), source="x") == held
