"""Elastic deformation: a uniform cubic B-spline whose coefficients are control-point displacements.

The free-form deformation of Rueckert et al. 1999 (doi:10.1109/42.796284), equations 1 to 3, with the
lattice centred on the patch. 3D U-Net (arXiv:1606.06650) and V-Net (arXiv:1606.04797) augment with
fields of this kind. All functions work in lattice units or millimetres, never in voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medseg.augment.spec import ElasticSpec
from medseg.core.errors import UsageError

SHRINK = 0.85
"""Factor a folding field is scaled by until it no longer folds."""

SAMPLES_PER_INTERVAL = 4
"""Points per lattice interval and axis at which the Jacobian is evaluated."""

WEIGHTS = torch.tensor(
    [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]], dtype=torch.float64
) / 6  # fmt: skip
"""Row n: the polynomial in t (constant first) of the n-th of four control points around a position."""

Lattice = tuple[int, int, int]


class Spline(NamedTuple):
    """A field as one B-spline: distance between control points along each axis, and their (a, b, c, 3)."""

    knots_mm: tuple[float, float, float]
    displacements_mm: Tensor


@dataclass(frozen=True)
class ElasticParams:
    """One elastic field, ready for JSON.

    Attributes:
        spacing_mm: distance between control points, the same along all axes.
        lattice: control points along each axis; 1 along an axis without extent.
        displacements_mm: displacement of each point, (*lattice, 3) flattened in C order.
        shrunk: what the drawn displacements were multiplied by so as not to fold; 1 as drawn.
        min_jacobian: smallest determinant found (see `sampled_gradient`).
    """

    spacing_mm: float
    lattice: Lattice
    displacements_mm: tuple[float, ...]
    shrunk: float = 1.0
    min_jacobian: float = 1.0

    def tensor(self) -> Tensor:
        """Displacements (*lattice, 3), mm, float64.

        Raises:
            UsageError: the number of displacements is not three for each control point.
        """
        if len(self.displacements_mm) != 3 * math.prod(self.lattice):
            raise UsageError(
                f"{len(self.displacements_mm)} displacements do not fit a lattice of {self.lattice}, "
                f"which needs {3 * math.prod(self.lattice)}"
            )
        return torch.tensor(self.displacements_mm, dtype=torch.float64).reshape(*self.lattice, 3)

    @property
    def moves_nothing(self) -> bool:
        """True when no control point is displaced."""
        return not any(self.displacements_mm)

    def spline(self, _spacing_mm: Sequence[float]) -> Spline:
        """The field; in millimetres it is the same for every voxel size."""
        return Spline((self.spacing_mm,) * 3, self.tensor())


def lattice_for(patch_shape: Sequence[int], spacing_mm: Sequence[float], control_mm: float) -> Lattice:
    """Control points along each axis that a patch needs: one interval more than it spans, and two.

    >>> lattice_for((49, 48, 1), (1.0, 1.0, 1.0), 24.0)
    (5, 5, 1)
    """
    i, j, k = (
        1 if n == 1 else max(1, math.ceil((n - 1) * mm / control_mm - 1e-9)) + 3
        for n, mm in zip(patch_shape, spacing_mm, strict=True)
    )
    return i, j, k


def sample(
    spec: ElasticSpec, generator: torch.Generator, patch_shape: Sequence[int], spacing_mm: Sequence[float]
) -> ElasticParams:
    """Draw a field that does not fold.

    The displacements are N(0, sigma) with sigma drawn from its range; a field whose smallest
    determinant is below `spec.min_jacobian` is multiplied by `SHRINK` until it is not.
    """
    lattice = lattice_for(patch_shape, spacing_mm, spec.spacing_mm)
    low, high = spec.sigma_mm
    sigma = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
    drawn = sigma * torch.randn((*lattice, 3), generator=generator, dtype=torch.float64)
    drawn[..., [n == 1 for n in lattice]] = 0.0
    shrunk, found = unfolding_factor(drawn, spec.spacing_mm, spec.min_jacobian)
    values = tuple((shrunk * drawn).flatten().tolist())
    return ElasticParams(spec.spacing_mm, lattice, values, shrunk, found)


def basis(positions: Tensor, count: int, *, derivative: bool = False) -> Tensor:
    """Weights (n, count) of `count` control points at lattice positions (n,).

    Position 0 is the second control point, `count - 3` the last but one: the lattice reaches one
    interval beyond the positions it serves. Rows sum to one (to zero for the derivative, which is
    per lattice interval). A single point is constant.

    Raises:
        UsageError: a position is outside the lattice.
    """
    positions = positions.double()
    if count == 1:
        return torch.full((len(positions), 1), 0.0 if derivative else 1.0, dtype=torch.float64)
    intervals = count - 3
    if len(positions) and not (-1e-6 <= float(positions.min()) <= float(positions.max()) <= intervals + 1e-6):
        raise UsageError(
            f"the lattice of {count} points covers positions from 0 to {intervals}, "
            f"not {float(positions.min()):g} to {float(positions.max()):g}",
            hint="sample the parameters for the patch they are applied to",
        )
    cell = positions.floor().clamp(0, intervals - 1)
    t = positions - cell
    powers = torch.stack((torch.ones_like(t), t, t * t, t * t * t))
    if derivative:
        powers = torch.stack((torch.zeros_like(t), torch.ones_like(t), 2 * t, 3 * t * t))
    matrix = torch.zeros(len(positions), count, dtype=torch.float64)
    columns = cell.long()[:, None] + torch.arange(4)
    return matrix.scatter_(1, columns, (WEIGHTS @ powers).T)


def control_positions(count: int) -> Tensor:
    """Positions (count,) of the control points themselves, in intervals from the lattice's centre."""
    return torch.arange(count, dtype=torch.float64) - (count - 1) / 2


def patch_basis(voxels: int, count: int, voxel_mm: float, control_mm: float) -> Tensor:
    """Weights (voxels, count) at the centres of a patch's voxels along one axis."""
    from_centre = (torch.arange(voxels, dtype=torch.float64) - (voxels - 1) / 2) * (voxel_mm / control_mm)
    return basis(from_centre + (count - 3) / 2 if count > 1 else from_centre, count)


def evaluate(control: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Spline (I, J, K, c) of coefficients (a, b, c', c), one weight matrix an axis."""
    return expanded(bases[0], expanded(bases[1], bases[2] @ control, axis=1), axis=0)


def expanded(basis: Tensor, control: Tensor, axis: Literal[0, 1]) -> Tensor:
    """Coefficients (a, b, ...) with one axis at the positions of a weight matrix (positions, points)."""
    shape = (*control.shape[:axis], len(basis), *control.shape[axis + 1 :])
    return (basis @ control.flatten(axis + 1)).reshape(shape)


def unfolding_factor(displacements_mm: Tensor, spacing_mm: float, min_jacobian: float) -> tuple[float, float]:
    """Largest power of `SHRINK` that keeps every determinant at `min_jacobian` or more, and the smallest.

    Scaling the field by s turns its determinant into a cubic in s, so the derivatives are taken once.
    """
    one, two, three = invariants(sampled_gradient(displacements_mm, spacing_mm))
    factor = 1.0
    while True:
        found = float((1 + factor * (one + factor * (two + factor * three))).min())
        if found >= min_jacobian:
            return factor, found
        factor *= SHRINK


def gradient(displacements: Tensor, plain: Sequence[Tensor], slope: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives (i, j, k, 3) of a spline (a, b, c, 3) along each axis, per lattice interval.

    `plain` and `slope` are the weights of its values and of its derivatives, a matrix an axis.
    """
    return [
        evaluate(displacements, [slope[d] if d == axis else plain[d] for d in range(3)]) for axis in range(3)
    ]


def invariants(columns: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Trace, sum of principal minors and determinant of the gradient du/dx, given its columns (..., 3)."""
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = (c.unbind(-1) for c in columns)
    minor_x, minor_y, minor_z = yy * zz - yz * zy, xx * zz - xz * zx, xx * yy - xy * yx
    determinant = xx * minor_x - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)
    return xx + yy + zz, minor_x + minor_y + minor_z, determinant


def determinants(columns: Sequence[Tensor]) -> Tensor:
    """Determinants of x -> x + u(x), given the columns (..., 3) of the gradient du/dx.

    A field folds where one is zero or less. The whole map's determinant is this times that of the affine
    part, which is positive.
    """
    one, two, three = invariants(columns)
    return 1 + one + two + three


def sampled_gradient(displacements_mm: Tensor, spacing_mm: float) -> list[Tensor]:
    """The gradient on a sample of the lattice, a column an axis.

    The derivatives are the B-spline's own, taken at `SAMPLES_PER_INTERVAL` points per interval and
    axis over all the lattice serves: the patch, and up to an interval more.
    """
    counts = displacements_mm.shape[:3]
    plain, slope = ([_sampled_basis(n, derivative) for n in counts] for derivative in (False, True))
    return [column / spacing_mm for column in gradient(displacements_mm, plain, slope)]


@lru_cache(maxsize=64)
def _sampled_basis(count: int, derivative: bool) -> Tensor:
    steps = 1 if count == 1 else (count - 3) * SAMPLES_PER_INTERVAL + 1
    return basis(torch.arange(steps) / SAMPLES_PER_INTERVAL, count, derivative=derivative)
