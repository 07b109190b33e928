"""Repeatability: differences between predictions of one scan in other positions and with other noise.

A patient who is scanned twice lies a little otherwise, and the second scan has other noise. Each
scan is predicted in several versions that differ by so much and no more; the spread of the volumes
within a scan is what no change may be read from.

It is simulated, so it is a lower bound: a second visit, another scanner or protocol can add more.

References:
    Bland and Altman 1996, Measurement error, doi:10.1136/bmj.313.7059.744 (within-subject standard deviation
    s_w, repeatability 1.96 sqrt(2) s_w), and of errors that grow with the size,
    doi:10.1136/bmj.313.7049.106 (the same of logarithms).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.errors import UsageError
from medseg.core.volume import Grid, Volume
from medseg.inference.engines.rounding import REPEATABILITY
from medseg.model.evidence import Repeatability, SmallestChange
from medseg.model.file import Model
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Segmenter

Array = NDArray[np.float32]
Progress = Callable[[int, int, str], None]

RANGE_PERCENTILES = (0.5, 99.5)
"""Of the intensities: their distance is what noise is measured by."""


@dataclass(frozen=True)
class Perturbations:
    """Differences between versions of one scan; each is drawn uniformly up to, or between, the numbers given.

    Attributes:
        runs: versions of each scan.
        shift_voxels: along each axis, to either side.
        rotation_degrees: about a random axis, through the middle of the scan.
        noise_percent: standard deviation of the noise, least and most, of the range of intensities.
        bias_percent: by which a smooth shading changes the intensities at most.

    Raises:
        UsageError: a number makes no sense.
    """

    runs: int = 5
    shift_voxels: float = 0.99
    rotation_degrees: float = 2.0
    noise_percent: tuple[float, float] = (1.0, 2.0)
    bias_percent: float = 3.0

    def __post_init__(self) -> None:
        if self.runs < 2:
            raise UsageError(f"repeatability needs at least 2 versions of a scan, not {self.runs}")
        least, most = self.noise_percent
        numbers = (self.shift_voxels, self.rotation_degrees, least, most - least, self.bias_percent)
        if not all(0 <= x < math.inf for x in numbers):
            raise UsageError("perturbations must be finite and not negative, and noise must be (least, most)")


DEFAULT = Perturbations()
SEED = 20_240_229


def repeatability(
    model: Model,
    scans: Iterable[Volume],
    *,
    perturbations: Perturbations = DEFAULT,
    seed: int = SEED,
    threads: int = 0,
    progress: Progress | None = None,
) -> Repeatability:
    """Measure the smallest change of each structure's volume that is more than noise.

    Args:
        model: the model.
        scans: in which the structures are; one at a time is held.
        perturbations: what versions of one scan differ by.
        seed: of all random draws.
        threads: of the processor; 0 takes what there is.
        progress: called with versions done, versions of one scan, and the number of the scan.

    Returns:
        Of each structure, see `summarised`.

    Raises:
        UsageError: there is no scan.
        MedsegError: as prediction raises.
    """
    segmenter = Segmenter([model], SegmenterOptions(threads=threads))
    volumes = []
    for number, scan in enumerate(scans):
        of_scan = []
        for run in range(perturbations.runs):
            if progress is not None:
                progress(run, perturbations.runs, str(number + 1))
            rng = np.random.default_rng((seed, number, run))
            of_scan.append(segmenter(perturbed(scan, perturbations, rng)).volumes_ml())
        volumes.append(of_scan)
    if not volumes:
        raise UsageError("repeatability needs at least one scan")
    told = asdict(perturbations) | {"seed": seed, "interpolation": "cubic", "simulated": True}
    return replace(summarised(volumes), perturbations=told, engines=segmenter.engine_names)


def summarised(volumes_ml: Sequence[Sequence[Mapping[str, float]]]) -> Repeatability:
    """The repeatability of each structure, from its volumes in every version of every scan.

    The variance within a scan, with one less than its versions below the line, is averaged over scans.
    Scans in which a structure is found in no version say nothing of it. Where it is found in some versions
    only, logarithms do not exist, and there is no percentage.

    Args:
        volumes_ml: for each scan, for each of its versions, the volume of each structure.

    >>> summarised([[{"core": 1.0}, {"core": 1.2}]]).structures["core"].smallest_change_ml
    0.392
    """
    names = volumes_ml[0][0]
    structures = {
        name: _of_structure(np.array([[run[name] for run in scan] for scan in volumes_ml])) for name in names
    }
    return Repeatability(len(volumes_ml[0]), len(volumes_ml), structures)


def _of_structure(volumes: NDArray[np.float64]) -> SmallestChange:
    """Of the volumes (scans, versions)."""
    found = volumes[(volumes > 0).any(axis=1)]
    if not len(found):
        return SmallestChange()
    percent = None
    if (found > 0).all():
        percent = _rounded(100 * math.expm1(REPEATABILITY * _within(np.log(found))))
    return SmallestChange(
        len(found), _rounded(REPEATABILITY * _within(found)), percent, _rounded(float(found.mean()))
    )


def _within(values: NDArray[np.float64]) -> float:
    """Standard deviation within the rows."""
    return math.sqrt(float(values.var(axis=1, ddof=1).mean()))


def _rounded(x: float) -> float:
    return float(f"{x:.4g}")


def perturbed(scan: Volume, perturbations: Perturbations, rng: np.random.Generator) -> Volume:
    """One version of a scan: moved, shaded and noisy, on the scan's own grid.

    All channels move together. Voxels of a background that is exactly 0 and the least value of the
    scan stay 0. Intensities stay within those of the scan.

    Args:
        scan: as it was read.
        perturbations: what versions differ by.
        rng: draws what they differ by here.

    Returns:
        The version, float32.
    """
    matrix, offset = _movement(scan.grid, perturbations, rng)
    shading = _shading(scan.grid.shape, perturbations.bias_percent / 100, rng)
    share = rng.uniform(*perturbations.noise_percent) / 100
    channels = [
        _channel(np.asarray(channel, dtype=np.float32), matrix, offset, shading, share, rng)
        for channel in scan.array
    ]
    return Volume(np.stack(channels), scan.grid, scan.channels, scan.form, scan.warnings)


def _channel(
    image: Array,
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shading: Array,
    share: float,
    rng: np.random.Generator,
) -> Array:
    low, high = float(image.min()), float(image.max())
    spread = float(np.subtract(*np.percentile(image, RANGE_PERCENTILES[::-1])))
    moved = ndimage.affine_transform(image, matrix, offset, order=3, mode="nearest")
    out = low + (moved - low) * shading + rng.normal(0.0, share * spread, image.shape)
    if low == 0.0:
        body = ndimage.affine_transform(image > 0, matrix, offset, order=0, mode="nearest")
        out = np.where(body, out, 0.0)
    return np.clip(out, low, high).astype(np.float32)


def _movement(
    grid: Grid, perturbations: Perturbations, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix and offset that lead from a voxel of the version to its place in the scan, in voxels.

    The rotation is one of the world in mm, so that anisotropic voxels turn without shear. An image of one
    slice stays in its plane.
    """
    voxel_to_mm = grid.affine[:3, :3]
    thin = np.flatnonzero(np.array(grid.shape) == 1)
    axis = voxel_to_mm[:, thin[0]] if thin.size else rng.normal(size=3)
    turn = rotation(axis, rng.uniform(-1, 1) * perturbations.rotation_degrees)
    shift = rng.uniform(-1, 1, 3) * perturbations.shift_voxels * (np.array(grid.shape) > 1)
    matrix = np.linalg.inv(voxel_to_mm) @ turn @ voxel_to_mm
    centre = (np.array(grid.shape) - 1) / 2
    return np.asarray(matrix), np.asarray(centre - matrix @ centre + shift)


def rotation(axis: Sequence[float] | NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Rotation matrix about an axis (Rodrigues).

    >>> rotation([0, 0, 1], 90).round(12).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


def _shading(shape: tuple[int, int, int], most: float, rng: np.random.Generator) -> Array:
    """A smooth factor within 1 +- `most`: a quadratic polynomial of the position, scaled."""
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    terms = (i, j, k, i * j, j * k, i * k, i**2, j**2, k**2)
    field = np.zeros(shape)
    for weight, term in zip(rng.normal(size=len(terms)), terms, strict=True):
        field += weight * term
    largest = float(np.abs(field).max()) or 1.0
    return np.asarray(1.0 + field * (rng.uniform(0, most) / largest), dtype=np.float32)
