"""Elastic deformation as four papers describe it: their grids, deviations and interpolation, in voxels.

    unet2015    3 x 3 (x 3) vectors over the patch, N(0, 10 voxels), bicubic between them
    vnet2016    cubic B-spline of 2 x 2 x 2 intervals over the patch, N(0, 15 voxels), applied to half
    unet3d2016  cubic B-spline, a vector every 32 voxels, N(0, 4 voxels)
    simard2003  U(-1, 1) at every voxel, smoothed by a Gaussian of 4 voxels, times 34

U-Net: Ronneberger et al. 2015, arXiv:1505.04597, section 3.1. V-Net: Milletari et al. 2016,
arXiv:1606.04797, section 3. 3D U-Net: Cicek et al. 2016, arXiv:1606.06650, section 3. Simard et al. 2003,
doi:10.1109/ICDAR.2003.1227801, section 2. Images are then read linearly, labels by the nearest voxel.

The two of 2D are taken to volumes with one more axis of the same. A patch one voxel thick is an image, and
moves within its plane. Lengths are voxels, as in the papers, so the same preset bends a finer scan less in
millimetres; `ElasticSpec` has them in millimetres. A field that folds is kept, as in the papers, and
`min_jacobian` says so: sizes are those of the papers' patches (V-Net's 128 x 128 x 64), and a far smaller
patch folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.augment import elastic
from medseg.augment.contrast import along_axes
from medseg.augment.elastic import WEIGHTS, Lattice, Spline
from medseg.core.errors import UsageError, unknown_name

UNET_NODES, UNET_SIGMA = 3, 10.0
VNET_INTERVALS, VNET_SIGMA = 2, 15.0
UNET3D_SPACING, UNET3D_SIGMA = 32.0, 4.0
SIMARD_SIGMA, SIMARD_ALPHA = 4.0, 34.0

KERNEL_RADIUS = 16
"""Voxels that Simard's Gaussian reaches: four standard deviations."""

MOST_SAMPLES = 17
"""Points an axis at which the determinant of a spline is looked for, at most; else at every voxel."""


@dataclass(frozen=True)
class PublishedParams:
    """Base class of the published fields.

    Attributes:
        preset: name of the paper's deformation.
        patch_shape: the patch it was drawn for, and serves.
        min_jacobian: smallest determinant found in the patch; the field folds where it is not positive.
    """

    preset: str
    patch_shape: Lattice
    min_jacobian: float

    def require(self, patch_shape: Sequence[int]) -> None:
        """Refuse a patch of another shape.

        Raises:
            UsageError: the shapes differ.
        """
        if tuple(patch_shape) != tuple(self.patch_shape):
            raise UsageError(
                f"the field {self.preset} was drawn for a patch of {tuple(self.patch_shape)} voxels, "
                f"not {tuple(patch_shape)}",
                hint="sample the parameters for the patch they are applied to",
            )


@dataclass(frozen=True)
class MeshParams(PublishedParams):
    """A field of vectors on a coarse mesh, ready for JSON.

    Attributes:
        displacements_voxels: the vectors as drawn, (*mesh, 3) flattened in C order (see `mesh_of`).
    """

    displacements_voxels: tuple[float, ...]

    @property
    def moves_nothing(self) -> bool:
        """True when no vector is displaced."""
        return not any(self.displacements_voxels)

    def tensor(self) -> Tensor:
        """The vectors (*mesh, 3), voxels, float64.

        Raises:
            UsageError: the preset has no mesh, or their number is not three a node.
        """
        mesh = mesh_of(self.preset, self.patch_shape)
        if len(self.displacements_voxels) != 3 * math.prod(mesh):
            raise UsageError(
                f"{len(self.displacements_voxels)} displacements do not fit a mesh of {mesh}, "
                f"which needs {3 * math.prod(mesh)}"
            )
        return torch.tensor(self.displacements_voxels, dtype=torch.float64).reshape(*mesh, 3)

    def spline(self, spacing_mm: Sequence[float]) -> Spline:
        """The field as a B-spline in millimetres, for voxels of `spacing_mm`."""
        i, j, k = (
            knot * mm for knot, mm in zip(knots_of(self.preset, self.patch_shape), spacing_mm, strict=True)
        )
        vectors = coefficients(self.preset, self.tensor())
        return Spline((i, j, k), vectors * torch.tensor(spacing_mm, dtype=torch.float64))


@dataclass(frozen=True)
class NoiseParams(PublishedParams):
    """A field of smoothed noise, ready for JSON.

    Attributes:
        seed: of the noise alone; a million numbers need no storing.
    """

    seed: int

    @property
    def moves_nothing(self) -> bool:
        """True for a patch of one voxel."""
        return max(self.patch_shape) == 1

    def field(self) -> Tensor:
        """Displacements (i, j, k, 3), voxels, float32."""
        return smoothed_noise(self.seed, self.patch_shape)


def sample(
    preset: str, generator: torch.Generator, patch_shape: Sequence[int], spacing_mm: Sequence[float]
) -> MeshParams | NoiseParams:
    """Sample a field as the paper does.

    Args:
        preset: a name of `ELASTIC_PRESETS`.
        generator: its state decides everything.
        patch_shape: (I, J, K) voxels; nothing moves along an axis of one voxel.
        spacing_mm: says which axis lies across the slices, that V-Net's does not displace along.

    Raises:
        UsageError: the preset does not exist.
    """
    i, j, k = patch_shape
    if preset == "simard2003":
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        return NoiseParams(preset, (i, j, k), _least_determinant(smoothed_noise(seed, (i, j, k))), seed)
    mesh = mesh_of(preset, patch_shape)
    sigma = {"unet2015": UNET_SIGMA, "vnet2016": VNET_SIGMA, "unet3d2016": UNET3D_SIGMA}[preset]
    drawn = sigma * torch.randn((*mesh, 3), generator=generator, dtype=torch.float64)
    drawn[..., [n == 1 for n in patch_shape]] = 0.0
    if preset == "vnet2016":
        drawn[..., across_slices(patch_shape, spacing_mm)] = 0.0
    return from_vectors(preset, drawn, patch_shape)


def from_vectors(preset: str, vectors_voxels: Tensor, patch_shape: Sequence[int]) -> MeshParams:
    """Params for given vectors (*mesh, 3), with their smallest determinant."""
    i, j, k = patch_shape
    knots = torch.tensor(knots_of(preset, patch_shape), dtype=torch.float64)
    control = coefficients(preset, vectors_voxels.double()) / knots
    counts = control.shape[:3]
    places = [_places(*of_axis) for of_axis in zip((i, j, k), knots.tolist(), counts, strict=True)]
    plain, slope = (
        [elastic.basis(p, n, derivative=derivative) for p, n in zip(places, counts, strict=True)]
        for derivative in (False, True)
    )
    least = float(elastic.determinants(elastic.gradient(control, plain, slope)).min())
    values = tuple(vectors_voxels.double().flatten().tolist())
    return MeshParams(preset, (i, j, k), least, values)


def mesh_of(preset: str, patch_shape: Sequence[int]) -> Lattice:
    """How many vectors are drawn along each axis; 1 along an axis of one voxel.

    >>> mesh_of("unet2015", (388, 388, 1)), mesh_of("vnet2016", (128, 128, 64))
    ((3, 3, 1), (5, 5, 5))
    >>> mesh_of("unet3d2016", (132, 132, 116))
    (8, 8, 7)

    Raises:
        UsageError: the preset does not exist or has no mesh.
    """
    if preset == "unet3d2016":
        return elastic.lattice_for(patch_shape, (1.0, 1.0, 1.0), UNET3D_SPACING)
    counts = {"unet2015": UNET_NODES, "vnet2016": VNET_INTERVALS + 3}
    if preset not in counts:
        raise unknown_name("mesh field", preset, ("unet3d2016", *counts))
    i, j, k = (1 if n == 1 else counts[preset] for n in patch_shape)
    return i, j, k


def knots_of(preset: str, patch_shape: Sequence[int]) -> tuple[float, float, float]:
    """Voxels between control points along each axis.

    U-Net's outer nodes are the outer voxels' centres. V-Net's intervals share the patch from edge to edge,
    as ITK's initialiser, which its authors call, lays them (but for an eighth of a voxel of slack).
    """
    i, j, k = (
        UNET3D_SPACING if preset == "unet3d2016" else n / 2 if preset == "vnet2016" else max(1.0, n - 1.0)
        for n in patch_shape
    )
    return i, j, k


def coefficients(preset: str, vectors: Tensor) -> Tensor:
    """Coefficients (a, b, c, 3) of the cubic B-spline that a paper's vectors (*mesh, 3) stand for.

    V-Net's and 3D U-Net's are the coefficients themselves. U-Net's are values that its bicubic
    interpolation goes through. Which one is not said; the usual two agree on three nodes: the cubic
    convolution of Keys 1981 (doi:10.1109/TASSP.1981.1163711, a = -1/2, continued beyond the border by his
    rule) and the not-a-knot spline are both the parabola through the three. That is one B-spline interval
    of four points, whose hull bounds it, though weights of the nodes are negative in places.
    """
    if preset != "unet2015":
        return vectors
    turns = [_through_nodes() if n > 1 else torch.ones(1, 1, dtype=torch.float64) for n in vectors.shape[:3]]
    return elastic.evaluate(vectors, turns)


def across_slices(patch_shape: Sequence[int], spacing_mm: Sequence[float]) -> int:
    """The axis across the slices: of one voxel, else of the largest spacing, the last of those alike.

    Spacings within a tenth are alike: resampling to whole voxels leaves them a little apart.

    V-Net's paper does not state it; its authors' code displaces only along the other two.

    >>> across_slices((128, 128, 64), (1.004, 1.0, 1.0)), across_slices((64, 128, 128), (3.0, 1.0, 1.0))
    (2, 0)
    """
    flat = [axis for axis, n in enumerate(patch_shape) if n == 1]
    thick = [axis for axis, mm in enumerate(spacing_mm) if mm > 0.9 * max(spacing_mm)]
    return (flat or thick)[-1]


def smoothed_noise(seed: int, patch_shape: Sequence[int]) -> Tensor:
    """Simard's field: displacements (i, j, k, 3), voxels, float32, of the seed's noise.

    The noise goes on beyond the patch as far as the kernel reaches, so that the border moves as the rest.
    A component deviates by 34 / sqrt(3) / (8 sqrt(pi)) ** (d / 2) voxels in d axes: 1.38 in an image, 0.37
    in a volume.
    """
    flat = [n == 1 for n in patch_shape]
    size = [1 if n == 1 else n + 2 * KERNEL_RADIUS for n in patch_shape]
    generator = torch.Generator().manual_seed(seed)
    field = torch.rand((3, *size), generator=generator).mul_(2).sub_(1)
    field = along_axes(field, [None if n == 1 else _window(n) for n in patch_shape])
    field[flat] = 0.0
    return field.mul_(SIMARD_ALPHA).permute(1, 2, 3, 0).contiguous()


def _window(voxels: int) -> Tensor:
    """Weights (voxels, voxels + 2 reaches) of the Gaussian; rows sum to one."""
    offsets = torch.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / SIMARD_SIGMA) ** 2)
    matrix = torch.zeros(voxels, voxels + 2 * KERNEL_RADIUS, dtype=torch.float64)
    columns = torch.arange(voxels)[:, None] + torch.arange(len(kernel))
    return matrix.scatter_(1, columns, (kernel / kernel.sum()).expand(voxels, -1))


def _through_nodes() -> Tensor:
    """From values at 0, 1/2 and 1 to the coefficients (4, 3) of the parabola on one B-spline interval."""
    at = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    parabola = torch.linalg.inv(torch.stack((torch.ones_like(at), at, at * at), dim=1))
    powers = torch.cat((parabola, torch.zeros(1, 3, dtype=torch.float64)))
    coefficients_of: Tensor = torch.linalg.inv(WEIGHTS.T)
    return coefficients_of @ powers


def _places(voxels: int, knot: float, count: int) -> Tensor:
    """Lattice positions over the patch's extent at which its determinant is looked for."""
    if voxels == 1:
        return torch.zeros(1, dtype=torch.float64)
    reach = (voxels - 1) / 2 / knot
    middle = (count - 3) / 2
    return torch.linspace(middle - reach, middle + reach, min(voxels, MOST_SAMPLES), dtype=torch.float64)


def _least_determinant(field: Tensor) -> float:
    """Smallest determinant of x -> x + u(x), u (i, j, k, 3), by differences of neighbouring voxels."""
    steps = [n - 1 if n > 1 else 1 for n in field.shape[:3]]
    columns = []
    for axis, n in enumerate(field.shape[:3]):
        slope = field.diff(dim=axis) if n > 1 else torch.zeros_like(field)
        columns.append(slope[: steps[0], : steps[1], : steps[2]])
    return float(elastic.determinants(columns).min())
