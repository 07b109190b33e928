"""Reading a patch through a smooth map: one interpolation for elastic, affine and crop together.

A B-spline reproduces affine functions, so the whole map from a voxel of the patch to a position in the
volume is one B-spline: its coefficients are the control points, moved, turned and scaled. Only those
few points are transformed; the positions of the patch's voxels follow from one small matrix an axis.
A field that is no spline is given voxel by voxel (`read_dense`), and read in the same single interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.augment import elastic
from medseg.augment.affine import AffineParams
from medseg.augment.elastic import ElasticParams
from medseg.augment.published import MeshParams

CHUNK_VOXELS = 250_000
"""Voxels whose positions a thread holds at once: three megabytes, about a cache, and few enough chunks."""

Shape = Sequence[int]


def patch_start(centre_voxels: Sequence[float], patch_shape: Shape) -> tuple[int, ...]:
    """First voxel of the patch: patches lie on whole voxels, a centre between two is rounded up.

    >>> patch_start((10.0, 9.5, 0.0), (5, 4, 1))
    (8, 8, 0)
    """
    return tuple(math.floor(c - (n - 1) / 2 + 0.5) for c, n in zip(centre_voxels, patch_shape, strict=True))


def crop(image: Tensor, labels: Tensor | None, start: Shape, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """Copy of a patch (C, *shape), (*shape); beyond the volume, edge values and background."""
    size = image.shape[1:]
    inside = all(s >= 0 and s + n <= m for s, n, m in zip(start, shape, size, strict=True))
    if inside:
        box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
        cut = None if labels is None else labels[box].clone(memory_format=torch.contiguous_format)
        return image[:, *box].clone(memory_format=torch.contiguous_format), cut
    wanted = [torch.arange(s, s + n, device=image.device) for s, n in zip(start, shape, strict=True)]
    rows, columns, planes = (w.clamp(0, m - 1) for w, m in zip(wanted, size, strict=True))
    index = (rows[:, None, None], columns[None, :, None], planes[None, None, :])
    if labels is None:
        return image[:, *index], None
    x, y, z = (((w >= 0) & (w < m)) for w, m in zip(wanted, size, strict=True))
    known = x[:, None, None] & y[None, :, None] & z[None, None, :]
    return image[:, *index], labels[index] * known.to(labels.dtype)


def spatial_control(
    displacements: ElasticParams | MeshParams | None,
    affine: AffineParams | None,
    patch_shape: Shape,
    spacing_mm: Sequence[float],
) -> tuple[Tensor, list[Tensor]]:
    """Coefficients (a, b, c, 3) and weights of the map from patch voxels to voxels from its centre.

    The map is x -> (A (x + u(x)) + t) / spacing with x in mm from the patch's centre. Without an
    elastic field the spline is linear between the patch's corners.
    """
    moved = None
    if displacements is None:
        points = [_corners(n) * mm for n, mm in zip(patch_shape, spacing_mm, strict=True)]
        bases = [_linear_basis(n) for n in patch_shape]
    else:
        knots, moved = displacements.spline(spacing_mm)
        lattice = moved.shape[:3]
        points = [elastic.control_positions(n) * knot for n, knot in zip(lattice, knots, strict=True)]
        sizes = zip(patch_shape, lattice, spacing_mm, knots, strict=True)
        bases = [elastic.patch_basis(n, count, mm, knot) for n, count, mm, knot in sizes]
    control = torch.stack(torch.meshgrid(*points, indexing="ij"), dim=-1)
    if moved is not None:
        control = control + moved
    return _placed(control, affine, spacing_mm), bases


def dense_positions(
    displacements_voxels: Tensor, affine: AffineParams | None, spacing_mm: Sequence[float]
) -> Tensor:
    """The map of `spatial_control` for a field given at every voxel of the patch.

    Args:
        displacements_voxels: (i, j, k, 3).
        affine: applied after it.
        spacing_mm: voxel size.

    Returns:
        Where each voxel is read, (i, j, k, 3), in voxels from the patch's centre.
    """
    kind = displacements_voxels.dtype
    points = [elastic.control_positions(n).to(kind) for n in displacements_voxels.shape[:3]]
    positions = torch.stack(torch.meshgrid(*points, indexing="ij"), dim=-1) + displacements_voxels
    if affine is None:
        return positions
    return _placed(positions * torch.tensor(spacing_mm, dtype=kind), affine, spacing_mm)


def _placed(positions_mm: Tensor, affine: AffineParams | None, spacing_mm: Sequence[float]) -> Tensor:
    """Positions (..., 3) in mm after the affine map, in voxels; both from the patch's centre."""
    kind = positions_mm.dtype
    if affine is not None:
        shift = torch.tensor(affine.translation_mm, dtype=kind)
        positions_mm = positions_mm @ affine.matrix().T.to(kind) + shift
    return positions_mm / torch.tensor(spacing_mm, dtype=kind)


def read(
    image: Tensor, labels: Tensor | None, control_voxels: Tensor, bases: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Read the volume where a spline says.

    Args:
        image: (C, I, J, K) float32.
        labels: (I, J, K) uint8, or None.
        control_voxels: coefficients (a, b, c, 3), voxel positions in the volume, float64.
        bases: weights (i, a), (j, b), (k, c) of the patch's voxels.

    Returns:
        Image (C, i, j, k), trilinear, continued by its edge; labels (i, j, k), nearest, 0 outside.
    """
    box, control = _source_box(control_voxels, image.shape[1:])
    half, last = _folded_bases(control, bases, image.device)
    return _sampled(image, labels, box, [len(b) for b in bases], (half, last))


def read_dense(
    image: Tensor, labels: Tensor | None, positions_voxels: Tensor
) -> tuple[Tensor, Tensor | None]:
    """`read`, with the position (i, j, k, 3) in the volume of every voxel given."""
    box, positions = _source_box(positions_voxels, image.shape[1:])
    half = positions.flatten(2).to(image.device, torch.float32)
    return _sampled(image, labels, box, positions.shape[:3], (half, None))


def _sampled(
    image: Tensor,
    labels: Tensor | None,
    box: tuple[slice, ...],
    shape: Shape,
    folded: tuple[Tensor, Tensor | None],
) -> tuple[Tensor, Tensor | None]:
    """Image and labels in `box`, read at the positions that `_grid` makes of `folded`, chunk by chunk."""
    source = image[:, *box].float()
    tags = None if labels is None else labels[box].float()[None]
    rows, columns, planes = shape
    lanes = torch.get_num_threads() if image.device.type == "cpu" else 1
    per_chunk = min(-(-rows // lanes), max(1, CHUNK_VOXELS // (columns * planes)))
    out = torch.empty(len(source), rows, columns, planes, device=image.device)
    out_tags = None if labels is None else labels.new_empty(rows, columns, planes)
    half, last = folded
    for first in range(0, rows, per_chunk * lanes):
        stop = min(rows, first + per_chunk * lanes)
        grid = _grid(half[first:stop], last, lanes, columns, planes)
        out[:, first:stop] = _gather(source, grid, "bilinear", "border", stop - first)
        if tags is not None and out_tags is not None:
            out_tags[first:stop] = _gather(tags, grid, "nearest", "zeros", stop - first)[0]
    return out, out_tags


def _gather(source: Tensor, grid: Tensor, mode: str, padding: str, rows: int) -> Tensor:
    """`grid_sample` (C, rows, j, k); a thread works on each lane, for torch splits by batch alone."""
    lanes = source[None].expand(len(grid), *source.shape)
    found = F.grid_sample(lanes, grid, mode=mode, padding_mode=padding, align_corners=False)
    return found.transpose(0, 1).flatten(1, 2)[:, :rows]


def _grid(half: Tensor, last: Tensor | None, lanes: int, columns: int, planes: int) -> Tensor:
    """Normalised positions (lanes, r, j, k, 3) of some rows; the last lane is filled up with repeats.

    They are `half` (r, j, 3 c) times `last` (3 c, 3 k), or `half` (r, j, 3 k) itself.
    """
    rows = len(half)
    per_lane = -(-rows // lanes)
    if per_lane * lanes != rows:
        half = torch.cat((half, half[-1:].expand(per_lane * lanes - rows, -1, -1)))
    flat = half.flatten(0, 1)
    return (flat if last is None else flat @ last).view(lanes, per_lane, columns, planes, 3)


def _folded_bases(control: Tensor, bases: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """The spline with two axes expanded, (i, j, 3 c), and the matrix (3 c, 3 k) that expands the third.

    The third matrix carries the three coordinates side by side, so that the product is laid out the
    way `grid_sample` reads it, without a transposition of the full field.
    """
    half = elastic.expanded(bases[0], elastic.expanded(bases[1], control, axis=1), axis=0).flatten(2)
    last = torch.kron(bases[2].T.contiguous(), torch.eye(3, dtype=torch.float64))
    return half.to(device, torch.float32), last.to(device, torch.float32)


def _source_box(control_voxels: Tensor, size: Shape) -> tuple[tuple[slice, ...], Tensor]:
    """Part of the volume a map can reach, and its coefficients in `grid_sample`'s coordinates there.

    A B-spline stays within the hull of its coefficients, so their extremes bound every position; those
    of positions themselves do so too.
    """
    flat = control_voxels.reshape(-1, 3)
    low, high = flat.amin(0).tolist(), flat.amax(0).tolist()
    starts = [min(max(0, math.floor(a) - 1), n - 1) for a, n in zip(low, size, strict=True)]
    stops = [max(min(n, math.ceil(b) + 2), s + 1) for b, n, s in zip(high, size, starts, strict=True)]
    start = torch.tensor(starts, dtype=flat.dtype)
    length = torch.tensor(stops, dtype=flat.dtype) - start
    normalised = (2 * (control_voxels - start) + 1) / length - 1
    return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True)), normalised.flip(-1)


def _corners(voxels: int) -> Tensor:
    reach = (voxels - 1) / 2
    return torch.tensor([0.0] if voxels == 1 else [-reach, reach], dtype=torch.float64)


def _linear_basis(voxels: int) -> Tensor:
    if voxels == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    share = torch.linspace(0, 1, voxels, dtype=torch.float64)
    return torch.stack((1 - share, share), dim=1)
