"""How patches are changed in training: bent, turned, mirrored, in other contrasts."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.augment.spec import (
    AffineSpec,
    AugmentSpec,
    ContrastSpec,
    ElasticSpec,
    FlipSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
)
from medseg.core.errors import listed
from medseg.data.fingerprint import Fingerprint
from medseg.training.planning.patches import Geometry

AXES = ("from left to right", "from front to back", "from top to bottom")
"""Along which scans may be mirrored."""


def augmentation(like: Fingerprint, seen: Geometry) -> tuple[AugmentSpec, str, str]:
    """How patches are changed, in words too, and why."""
    flips, why = _mirrors(like)
    spec = usual_augmentation(seen.patch, seen.spacing_mm, flips)
    lattice = _lattice_mm(seen.patch, seen.spacing_mm)
    mirrors = "mirrors, " if flips else ""
    return spec, f"elastic at {lattice:.0f} mm, rotation, scaling, {mirrors}contrast, noise", why


def usual_augmentation(
    patch: Sequence[int], spacing_mm: Sequence[float], flips: tuple[int, ...] = ()
) -> AugmentSpec:
    """What patches of a size and spacing are changed by; mirrored along the axes of `flips`."""
    voxels = [mm for n, mm in zip(patch, spacing_mm, strict=True) if n > 1]
    thick = max(voxels) > 3 * min(voxels)
    lattice = _lattice_mm(patch, spacing_mm)
    return AugmentSpec(
        ElasticSpec(0.3, round(lattice, 1), (0.0, round(0.25 * lattice, 1))),
        AffineSpec(0.5, (5.0, 5.0, 15.0) if thick else (15.0, 15.0, 15.0), (0.85, 1.18)),
        FlipSpec(flips) if flips else None,
        ContrastSpec(
            low_resolution=LowResolutionSpec(0.15),
            gamma=GammaSpec(0.3),
            linear=LinearSpec(0.3),
            noise=NoiseSpec(0.2, (0.0, 0.15)),
        ),
    )


def _lattice_mm(patch: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Between the points that are moved: a third of the shortest side, within limits."""
    shortest = min(n * mm for n, mm in zip(patch, spacing_mm, strict=True) if n > 1)
    return float(min(max(shortest / 3, 8.0), 32.0))


def _mirrors(like: Fingerprint) -> tuple[tuple[int, ...], str]:
    """Axes along which scans and their labels may be mirrored, and why these."""
    alike = like.mirror_axes
    against = {axis: why for axis in alike if (why := _one_sided(like, axis))}
    flips = tuple(axis for axis in alike if axis not in against)
    found = [f"scans look like their mirror images {listed([AXES[axis] for axis in flips])}"] if flips else []
    found += [f"no mirror {AXES[axis]}, where {why}" for axis, why in against.items()]
    return flips, "; ".join(found) or "no mirrors: scans are unlike their mirror images"


def _one_sided(like: Fingerprint, axis: int) -> str:
    """Why no scan may be mirrored along an axis though it looks like its mirror image; empty if it may."""
    if axis == 0 and any(s.side != "none" for s in like.structures):
        return "names have sides"
    found = like.one_sided(axis)
    return f"{found[0]} lies on one side of {found[1]}" if found else ""
