"""Scans made from label maps: repeatable, true to the map, and with left and right where they belong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.augment.affine import AffineParams
from medseg.augment.contrast import thick_voxel_matrices, thick_voxel_matrix
from medseg.augment.spec import AffineSpec, ElasticSpec, SynthesisSpec, Tissue
from medseg.augment.synthesis import BRIGHTNESS, Synthesiser, SynthesisParams, TissueTable
from medseg.core.errors import InputError, UsageError
from medseg.core.structures import from_labels

STRUCTURES = from_labels({1: "left lobe", 2: "right lobe", 3: "core", 4: "outer fluid"})
TISSUES = (
    Tissue(1, 1, 1, "white"),
    Tissue(2, 1, 2, "white"),
    Tissue(3, 2, 3, "grey"),
    Tissue(4, 3, 4, "fluid", outer_fluid=True),
    Tissue(5, 5, 1),
    Tissue(6, 5, 2),
    Tissue(515, 4, 0, "bone"),
)
TABLE = TissueTable(TISSUES, STRUCTURES)
LEFT, RIGHT, CORE, FLUID, LEFT_SPOT, RIGHT_SPOT, BONE = range(1, 8)
SHAPE = (24, 20, 22)
CENTRE = tuple((n - 1) / 2 for n in SHAPE)
SPACING = (1.0, 1.0, 1.0)


def head() -> Tensor:
    """Generation indices (24, 20, 22): shells of bone and fluid, two lobes with a spot each, a core."""
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    out = np.zeros(SHAPE, np.uint8)
    for limit, index in ((0.95, BONE), (0.8, FLUID), (0.65, LEFT)):
        out[radius < limit] = index
    out[(radius < 0.65) & (x > 0)] = RIGHT
    out[5:8, 9:12, 9:12], out[16:19, 9:12, 9:12] = LEFT_SPOT, RIGHT_SPOT
    out[(radius < 0.25) & (y > 0)] = CORE
    return torch.from_numpy(out)


HEAD = head()


def where(index: int) -> Tensor:
    """Voxels of the head with a generation index."""
    return torch.eq(HEAD, index)


def maker(spec: SynthesisSpec | None = None, spacing: tuple[float, ...] = SPACING) -> Synthesiser:
    return Synthesiser(spec or SynthesisSpec(), TABLE, spacing)


def drawn(seed: int, spec: SynthesisSpec | None = None) -> SynthesisParams:
    return maker(spec).sample(torch.Generator().manual_seed(seed), SHAPE)


def quiet(**changes: Any) -> SynthesisParams:
    """Nothing moves, nothing is blurred, noisy or cut; every class has one brightness."""
    params = replace(
        drawn(0),
        elastic=None,
        affine=AffineParams(),
        flipped=False,
        stripped=0,
        means=(0.0, 0.9, 0.6, 0.2, 0.4, 0.75),
        spreads=(0.0,) * 6,
        texture=0.0,
        bias=None,
        blur_mm=(0.0, 0.0, 0.0),
        acquired_mm=SPACING,
        noise=0.0,
        gamma=1.0,
        low_cut=(0.0, 0.0, 0.0),
        high_cut=(0.0, 0.0, 0.0),
    )
    return replace(params, **changes)


def made(params: SynthesisParams, labels: Tensor = HEAD) -> tuple[Tensor, Tensor]:
    return maker().apply(params, labels, CENTRE, SHAPE)


@pytest.mark.parametrize("seed", range(12))
def test_a_scan_has_shape_type_and_range_and_leaves_the_map_alone(seed: int) -> None:
    labels = HEAD.clone()
    image, target = maker().draw(torch.Generator().manual_seed(seed), torch.empty(0), labels, CENTRE, SHAPE)
    assert (image.shape, image.dtype) == ((1, *SHAPE), torch.float32)
    assert (target.shape, target.dtype) == (SHAPE, torch.uint8)
    assert image.isfinite().all()
    assert 0.0 <= float(image.min()) < float(image.max()) <= 1.0
    assert int(target.max()) < len(STRUCTURES.index_values)
    assert torch.equal(labels, HEAD)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_state_makes_the_same_scan_and_another_does_not(seed: int) -> None:
    first, again, other = (torch.Generator().manual_seed(s) for s in (seed, seed, seed + 100))
    scans = [maker().draw(g, torch.empty(0), HEAD, CENTRE, SHAPE) for g in (first, again, other)]
    assert torch.equal(scans[0][0], scans[1][0])
    assert torch.equal(scans[0][1], scans[1][1])
    assert not torch.equal(scans[0][0], scans[2][0])
    assert torch.equal(first.get_state(), again.get_state())


def test_params_say_everything_and_are_json() -> None:
    params = drawn(3)
    assert json.loads(json.dumps(asdict(params)))["seed"] == params.seed
    first, second = made(params), made(params)
    assert torch.equal(first[0], second[0])


def test_where_nothing_moves_the_target_is_the_maps() -> None:
    image, target = made(quiet())
    expected = torch.tensor([0, 1, 2, 3, 4, 1, 2, 0], dtype=torch.uint8)[HEAD.int()]
    assert torch.equal(target, expected)
    brightness = [image[0][where(index)] for index in range(8)]
    assert all(float(b.max() - b.min()) == 0 for b in brightness)
    order = [float(b[0]) for b in brightness]
    assert order[LEFT] == order[RIGHT] == 1.0
    assert order[LEFT_SPOT] == order[RIGHT_SPOT] == pytest.approx(0.75 / 0.9)
    assert order[0] == 0.0
    assert order[FLUID] == pytest.approx(0.2 / 0.9)


@pytest.mark.fault("reliability 53")
def test_a_flip_mirrors_the_scan_and_swaps_the_twins() -> None:
    image, target = made(quiet())
    flipped_image, flipped = made(quiet(flipped=True))
    assert torch.equal(flipped_image, image.flip(1))
    swapped = torch.tensor([0, 2, 1, 3, 4], dtype=torch.uint8)[target.flip(0).int()]
    assert torch.equal(flipped, swapped)
    assert int((flipped[: SHAPE[0] // 2] == 2).sum()) == 0  # left stays at low indices
    assert int((flipped[: SHAPE[0] // 2] == 1).sum()) > 100


@pytest.mark.parametrize("seed", range(20))
def test_twins_share_their_mean_in_every_contrast(seed: int) -> None:
    params = drawn(seed)
    image, _ = made(quiet(means=params.means))
    for one, other in ((LEFT, RIGHT), (LEFT_SPOT, RIGHT_SPOT)):
        assert float(image[0][where(one)][0]) == float(image[0][where(other)][0])


@pytest.mark.parametrize("name", BRIGHTNESS)
def test_realistic_scans_have_the_order_of_a_contrast(name: str) -> None:
    """With four contrasts drawn alike, the one asked for comes up among 40 seeds, near its figures."""
    spec = replace(SynthesisSpec(), realistic=1.0)
    typical = [BRIGHTNESS[name][like] for like in ("white", "grey", "fluid", "bone")]
    near = [np.abs(np.subtract(drawn(s, spec).means[1:5], typical)).max() for s in range(40)]
    assert min(near) < 0.15
    assert max(drawn(s, spec).means[0] for s in range(10)) <= 0.04


def test_only_the_contrasts_that_are_listed_come_up() -> None:
    spec = replace(SynthesisSpec(), realistic=1.0, contrasts=("t2",))
    typical = [BRIGHTNESS["t2"][like] for like in ("white", "grey", "fluid", "bone")]
    far = [np.abs(np.subtract(drawn(s, spec).means[1:5], typical)).max() for s in range(40)]
    assert max(far) < 0.25
    with pytest.raises(UsageError, match="contrasts is empty"):
        SynthesisSpec(contrasts=())


def test_a_curriculum_begins_with_sharp_t1_scans_and_fades() -> None:
    """Over half of the training: all scans are easy at first, half of them midway, none from there on."""
    spec = replace(SynthesisSpec(), realistic=0.0, coarse=1.0, stripped=1.0, curriculum=0.5)

    def easy(progress: float) -> list[SynthesisParams]:
        every = [
            maker(spec).sample(torch.Generator().manual_seed(seed), SHAPE, progress) for seed in range(60)
        ]
        return [p for p in every if p.acquired_mm == SPACING and p.stripped == 0]

    shares = [len(easy(progress)) / 60 for progress in (0.0, 0.25, 0.5, 1.0)]
    assert shares[0] == 1.0
    assert 0.3 < shares[1] < 0.7
    assert shares[2:] == [0.0, 0.0]
    typical = [BRIGHTNESS["t1"][like] for like in ("white", "grey", "fluid", "bone")]
    for params in easy(0.0):
        assert np.abs(np.subtract(params.means[1:5], typical)).max() < 0.3
        assert max(*params.low_cut, *params.high_cut) == 0.0


@pytest.mark.parametrize(("level", "gone"), [(1, (BONE,)), (2, (BONE, FLUID))])
def test_stripping_removes_what_it_says(level: int, gone: tuple[int, ...]) -> None:
    whole_image, whole = made(quiet())
    image, target = made(quiet(stripped=level))
    removed = torch.isin(HEAD, torch.tensor(gone, dtype=torch.uint8))
    assert float(image[0][removed].abs().max()) == 0.0
    assert int(target[removed].max()) == 0
    assert torch.equal(target[~removed], whole[~removed])
    assert torch.equal(image[0][~removed], whole_image[0][~removed])


def test_a_cut_leaves_nothing_beyond_the_field_of_view() -> None:
    params = quiet(low_cut=(0.25, 0.0, 0.0), high_cut=(0.0, 0.0, 0.5))
    whole_image, whole = made(quiet())
    image, target = made(params)
    kept = torch.zeros(SHAPE, dtype=torch.bool)
    kept[6:, :, :11] = True
    assert float(image[0][~kept].abs().max()) == 0.0
    assert int(target[~kept].max()) == 0
    assert torch.equal(target[kept], whole[kept])
    assert torch.equal(image[0][kept], whole_image[0][kept])


def test_coarse_voxels_smear_along_their_own_axis_alone() -> None:
    """Slices 4 mm thick along the third axis: planes across it change, lines along the others do not mix."""
    stripes = torch.zeros(SHAPE, dtype=torch.uint8)
    stripes[::2] = LEFT
    kept, _ = made(quiet(acquired_mm=(1.0, 1.0, 4.0)), stripes)
    torch.testing.assert_close(kept, made(quiet(), stripes)[0])
    layers = torch.zeros(SHAPE, dtype=torch.uint8)
    layers[:, :, ::2] = LEFT
    smeared, _ = made(quiet(acquired_mm=(1.0, 1.0, 4.0), noise=0.0), layers)
    sharp, _ = made(quiet(), layers)
    assert float((smeared[0, :, :, 1:] - smeared[0, :, :, :-1]).abs().mean()) < 0.5
    assert float((sharp[0, :, :, 1:] - sharp[0, :, :, :-1]).abs().mean()) == 1.0


def test_noise_and_spread_are_what_they_are_asked_to_be() -> None:
    """In one class of mean 0.5, flanked by air and white that fix the range to [0, 1]."""
    labels = torch.full((48, 48, 48), CORE, dtype=torch.uint8)
    labels[:4], labels[-4:] = 0, LEFT
    params = quiet(means=(0.0, 1.0, 0.5, 0, 0, 0), spreads=(0.0, 0.0, 0.1, 0, 0, 0))
    made_by = maker().apply
    centre, shape = (23.5,) * 3, (48, 48, 48)
    image, _ = made_by(params, labels, centre, shape)
    assert float(image[0, 4:-4].std()) == pytest.approx(0.1, rel=0.02)
    smooth, _ = made_by(replace(params, texture=1.0), labels, centre, shape)
    assert float(smooth[0, 4:-4].std()) == pytest.approx(0.1, rel=0.05)
    step = (smooth[0, 5:-4] - smooth[0, 4:-5]).std()
    assert step < (image[0, 5:-4] - image[0, 4:-5]).std() / 2
    noisy, _ = made_by(replace(params, spreads=(0.0,) * 6, noise=0.005), labels, centre, shape)
    assert float(noisy[0, 4:-4].std()) == pytest.approx(0.005, rel=0.05)


def test_a_scan_of_larger_voxels_spans_more_of_the_map() -> None:
    coarse = maker(spacing=(2.0, 2.0, 2.0))
    assert coarse.source_shape((12, 10, 11)) == (24, 20, 22)
    params = quiet(acquired_mm=(2.0, 2.0, 2.0))
    _, target = coarse.apply(params, HEAD, CENTRE, (12, 10, 11))
    share = [float((t > 0).float().mean()) for t in (target, made(quiet())[1])]
    assert share[0] == pytest.approx(share[1], rel=0.1)
    assert [int((target[a:b] == v).sum()) for a, b, v in ((0, 6, 2), (6, 12, 1))] == [0, 0]


@pytest.mark.parametrize("voxels", [1, 7, 24])
@pytest.mark.parametrize("factor", [1.3, 2.0, 5.0, 40.0])
def test_thick_voxels_average_and_come_back(voxels: int, factor: float) -> None:
    whole = thick_voxel_matrix(voxels, factor)
    found = thick_voxel_matrices(voxels, factor)
    if found is None:
        assert whole is None
        assert round(voxels / factor) >= voxels or voxels == 1
        return
    down, up = found
    thick = max(1, round(voxels / factor))
    assert (down.shape, up.shape) == ((thick, voxels), (voxels, thick))
    for matrix in (down, up):
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    assert whole is not None
    torch.testing.assert_close(up @ down, whole)


def test_no_thick_voxel_where_there_is_nothing_to_average() -> None:
    assert thick_voxel_matrices(24, 1.0) is None


def test_maps_are_encoded_and_unknown_values_named() -> None:
    found = TABLE.encode(np.array([[0, 515], [3, 6]], np.int16))
    np.testing.assert_array_equal(found, [[0, BONE], [CORE, RIGHT_SPOT]])
    assert found.dtype == np.uint8
    with pytest.raises(InputError, match=r"values 7 \(1 voxel\), 99 \(1 voxel\); declare them as tissues"):
        TABLE.encode(np.array([0, 7, 99, 1]))


@pytest.mark.parametrize(
    ("tissues", "fault"),
    [
        ((Tissue(1, 1, 1), Tissue(1, 2, 2)), "tissues need at most 255 values, all different"),
        ((Tissue(0, 1),), "tissues need at most 255 values, all different"),
        ((Tissue(1, 1, 9),), "tissue 1 belongs to structure 9, which does not exist"),
        (
            (Tissue(1, 1, 1, "jelly"), Tissue(2, 1, 2)),
            "the kind of tissue 'jelly' does not exist; choose from white, grey",
        ),
        ((Tissue(1, 1, 1), Tissue(2, 2, 2)), "left lobe and right lobe .* intensity classes"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tissues: tuple[Tissue, ...], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        TissueTable(tissues, STRUCTURES)


def test_sides_without_twins_are_refused_unless_nothing_is_flipped() -> None:
    table = TissueTable((Tissue(1, 1, 1),), from_labels({1: "left lobe"}))
    with pytest.raises(UsageError, match="left lobe"):
        Synthesiser(SynthesisSpec(), table, SPACING)
    Synthesiser(SynthesisSpec(flip_probability=0.0), table, SPACING)


@pytest.mark.parametrize(
    "settings",
    [
        {"coarse": 1.2},
        {"flip_probability": -0.1},
        {"gamma": (0.0, 1.0)},
        {"noise": (0.2, 0.1)},
        {"slice_mm": (-1.0, 3.0)},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SynthesisSpec(**settings)


def test_moving_parts_do_move() -> None:
    """A turn of a whole map by the spec's own draw changes the target, and keeps its structures."""
    spec = SynthesisSpec(
        affine=AffineSpec(1.0, (20.0,) * 3, (0.9, 1.1)), elastic=ElasticSpec(1.0, 8.0, (1.0, 1.0))
    )
    still = made(quiet())[1]
    for seed in range(3):
        params = drawn(seed, spec)
        _, target = made(quiet(elastic=params.elastic, affine=params.affine))
        assert 0.02 < float((target != still).float().mean()) < 0.5
        assert set(target.unique().tolist()) == set(range(5))
