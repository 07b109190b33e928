"""Affine changes of a patch: rotation, scaling, shear and translation in world millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.augment.spec import AffineSpec

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class AffineParams:
    """One affine map from the patch to the volume, ready for JSON.

    The map sends a position x (mm from the patch's centre) to A x + translation, A = R H S with
    R = Rx Ry Rz counter-clockwise, H upper triangular with the shears xy, xz, yz, S the scales. It
    says where the patch's voxels are read from: a scale above 1 shows more of the volume.
    """

    rotation_degrees: Triple = (0.0, 0.0, 0.0)
    scale: Triple = (1.0, 1.0, 1.0)
    shear: Triple = (0.0, 0.0, 0.0)
    translation_mm: Triple = (0.0, 0.0, 0.0)

    def matrix(self) -> Tensor:
        """A, (3, 3) float64.

        >>> AffineParams(rotation_degrees=(0, 0, 90)).matrix().round().int().tolist()
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
        """
        xy, xz, yz = self.shear
        sheared = torch.tensor([[1, xy, xz], [0, 1, yz], [0, 0, 1]], dtype=torch.float64)
        scaled = sheared * torch.tensor(self.scale, dtype=torch.float64)
        x, y, z = (_rotation(axis, math.radians(a)) for axis, a in enumerate(self.rotation_degrees))
        return x @ y @ z @ scaled


def sample(spec: AffineSpec, generator: torch.Generator, patch_shape: Sequence[int]) -> AffineParams:
    """Draw a map; a patch one voxel thick along an axis is only moved within its plane."""
    flat = [n == 1 for n in patch_shape]
    draw = torch.rand(12, generator=generator, dtype=torch.float64).tolist()
    signed = [2 * v - 1 for v in draw]
    rotation = [
        0.0 if any(flat[other] for other in range(3) if other != axis) else signed[axis] * limit
        for axis, limit in enumerate(spec.rotation_degrees)
    ]
    low, high = (math.log(v) for v in spec.scale)
    scale = [
        1.0 if flat[axis] else math.exp(low + (high - low) * draw[3 if spec.isotropic else 3 + axis])
        for axis in range(3)
    ]
    shear = [
        0.0 if flat[one] or flat[two] else signed[6 + n] * spec.shear
        for n, (one, two) in enumerate(((0, 1), (0, 2), (1, 2)))
    ]
    shift = [
        0.0 if flat[axis] else signed[9 + axis] * limit for axis, limit in enumerate(spec.translation_mm)
    ]
    return AffineParams(_triple(rotation), _triple(scale), _triple(shear), _triple(shift))


def _rotation(axis: int, angle: float) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64)
    one, two = ((1, 2), (2, 0), (0, 1))[axis]
    matrix[one, one] = matrix[two, two] = math.cos(angle)
    matrix[two, one] = math.sin(angle)
    matrix[one, two] = -math.sin(angle)
    return matrix


def _triple(values: Sequence[float]) -> Triple:
    return (values[0], values[1], values[2])
