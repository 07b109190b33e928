"""Pelvis phantoms in the manner of PROMISE12: a prostate between bladder and rectum, T2-weighted.

The slices are 3 mm apart and lie obliquely to the body, as they are planned at right angles to the
rectal wall. The gland has two zones: a bright, crescent-shaped peripheral zone with dark lesions, and a
mottled transition zone as bright as the tissue around. The bladder above is brighter than the gland, the
seminal vesicles are as bright as its peripheral zone, the rectum behind holds dark air or mottled
content, and some scans have the gain of a coil lying in it. No threshold finds the gland.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from medseg.core.boxes import bounding_box
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.data.phantom.making import Ellipsoid, Floats, Mask, Triple, broad_noise, depth, received

STRUCTURES: StructureSet = from_labels({1: "prostate"})
SPACING_MM = (0.5, 0.5, 3.0)
WIDTHS, SLICES = (240, 256, 272), (28, 34)
FIELD_MM = (88.0, 88.0, 66.0)
"""Of a scan whose shape is given; its voxels become as large as that asks for."""

FAT, MUSCLE, BONE, FIBRE = 0.62, 0.20, 0.38, 0.16
PERIPHERAL, TRANSITION, LESION, URETHRA = 0.74, 0.44, 0.30, 0.66
URINE, VESICLE, WALL, AIR, CONTENT = 0.95, 0.72, 0.28, 0.03, 0.45


def prostate_case(rng: np.random.Generator, shape: Triple | None = None) -> tuple[Volume, LabelMap]:
    """One pelvis with random pose, sizes, lesions, bladder, rectum, coil gain, bias and noise.

    Args:
        rng: where all randomness comes from.
        shape: voxels of a field of 88 x 88 x 66 mm; None draws a scan of 240 to 272 columns and rows and
            28 to 34 slices of 0.5 x 0.5 x 3 mm.

    Returns:
        The scan (1, I, J, K) int16, channel "t2", and its labels uint8, on one oblique LPS grid.
    """
    spacing = SPACING_MM if shape is None else tuple(f / n for f, n in zip(FIELD_MM, shape, strict=True))
    if shape is None:
        width = int(rng.choice(WIDTHS))
        shape = (width, width, int(rng.integers(SLICES[0], SLICES[1], endpoint=True)))
    grid, points = _oblique(rng, shape, np.asarray(spacing))
    pelvis = _Pelvis(rng, points, np.asarray(spacing))
    image = gaussian_filter(pelvis.ideal, [0.5 / spacing[0], 0.5 / spacing[1], 0.4])
    image *= _gain(rng, points, pelvis.rectum_y, np.asarray(spacing))
    image = received(rng, image, rng.uniform(0.02, 0.05)) * rng.uniform(250.0, 900.0)
    scan = np.clip(np.rint(image), 0, np.iinfo(np.int16).max).astype(np.int16)
    form = FileForm(suffix=".mhd")
    return Volume(scan[None], grid, ("t2",), form), LabelMap(pelvis.gland.astype(np.uint8), grid, form)


class _Pelvis:
    """The ideal image of a pelvis, painted from the outside in; lengths in mm from the gland's centre."""

    def __init__(self, rng: np.random.Generator, points: Floats, spacing_mm: Floats) -> None:
        self._rng, self._spacing = rng, spacing_mm
        x, y, z = self._bent(points)
        self._points = np.stack([x, y, z], axis=-1)
        self.radii = np.array([24.0, 17.0, 20.0]) * rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, 3)
        self.rectum_y = -float(self.radii[1]) - rng.uniform(4.0, 8.5)
        self.ideal = self._surroundings()
        self._paint_bladder()
        self._paint_rectum()
        self._paint_vesicles()
        self.gland = self._paint_gland()

    def _bent(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """The points of a body that is not as even as ellipsoids are."""
        sigma = 9.0 / self._spacing
        shape = points.shape[:3]
        x, y, z = (points[..., axis] + 1.3 * broad_noise(self._rng, shape, sigma) for axis in range(3))
        return x, y, z

    def _texture(self, size_mm: float) -> Floats:
        return broad_noise(self._rng, self._points.shape[:3], size_mm / self._spacing)

    def _fill(self, where: Mask, value: float, mottled: float, size_mm: float = 1.5) -> None:
        box = bounding_box(where) or (slice(None),) * where.ndim
        inside, here = where[box], self.ideal[box]
        texture = broad_noise(self._rng, inside.shape, size_mm / self._spacing)
        here[inside] = value + mottled * texture[inside]

    def _depth(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Floats:
        return depth(self._points, Ellipsoid(centre, radii))

    def _surroundings(self) -> Floats:
        """Fat, with the muscles of the pelvic wall beside the gland and the pubic bones before it."""
        x, y, z = np.moveaxis(self._points, -1, 0)
        self.ideal = FAT + 0.07 * self._texture(2.5)
        wall = self.radii[0] + self._rng.uniform(9.0, 14.0)
        self._fill(np.abs(x) > wall + 0.012 * y**2 + 0.1 * z, MUSCLE, 0.03)
        self._fill(np.abs(np.abs(x) - wall + 5.0 + 0.1 * y) < 1.3, MUSCLE, 0.02)
        front = self.radii[1] + self._rng.uniform(12.0, 16.0)
        bone = (y > front + 0.25 * np.abs(x)) & (np.abs(x) > 2.0)
        self._fill(bone & (z < 8.0), BONE, 0.06)
        self._fill((y > front - 2.5) & (y <= front) & (np.abs(x) < 12.0), MUSCLE, 0.03)
        return self.ideal

    def _paint_bladder(self) -> None:
        rng, (_, ry, rz) = self._rng, self.radii
        radii = (rng.uniform(22.0, 34.0), rng.uniform(16.0, 24.0), rng.uniform(12.0, 22.0))
        inner = self._depth((rng.uniform(-4.0, 4.0), 0.3 * ry, rz + radii[2] + 1.0), radii)
        self._fill(inner > -3.0 / min(radii), WALL, 0.03)
        self._fill(inner > 0, URINE, 0.02)

    def _paint_rectum(self) -> None:
        """A bent tube, with a dark muscular wall around a mottled lining, and air or content in it."""
        rng = self._rng
        x, y, z = np.moveaxis(self._points, -1, 0)
        middle = self.rectum_y - 0.004 * z**2
        across, along = rng.uniform(9.0, 17.0), rng.uniform(6.0, 11.0)
        inner = 1.0 - np.hypot((x - rng.uniform(-3.0, 3.0)) / across, (y - middle + along) / along)
        self._fill(inner > -3.5 / along, WALL, 0.04)
        self._fill(inner > -1.8 / along, CONTENT, 0.08)
        air = rng.uniform() < 0.6
        self._fill(inner > 0, AIR if air else CONTENT + 0.1, 0.0 if air else 0.12, 2.5)

    def _paint_vesicles(self) -> None:
        """Bright and folded, behind and above the gland."""
        rx, ry, rz = self.radii
        for side in (-1.0, 1.0):
            inner = self._depth((0.62 * rx * side, -0.75 * ry, 0.95 * rz), (0.55 * rx, 0.26 * ry, 0.3 * rz))
            self._fill(inner > 0, VESICLE, 0.18, 1.2)

    def _paint_gland(self) -> Mask:
        """The prostate, veins around it; what is painted before is hidden by it."""
        rx, ry, rz = self.radii
        x, y, _ = np.moveaxis(self._points, -1, 0)
        inner = self._depth((0.0, 0.0, 0.0), (rx, ry, rz)) + 0.02 * self._texture(5.0)
        gland = inner > 0
        veins = (inner > -0.3) & (y < 0.2 * ry) & (self._texture(1.8) > 1.1)
        self._fill(veins, VESICLE, 0.1)
        self._fill(gland, PERIPHERAL, 0.08)
        self._fill(gland & self._lesions(), LESION, 0.03)
        core = self._depth((0.0, 0.24 * ry, 0.1 * rz), (0.70 * rx, 0.70 * ry, 0.82 * rz))
        core += 0.04 * self._texture(4.0)
        self._fill(gland & (core > -0.06), FIBRE, 0.03)
        self._fill(gland & (core > 0), TRANSITION, 0.12, 2.2)
        self._fill(gland & (core > 0) & (self._texture(3.0) > 1.6), PERIPHERAL, 0.06)
        self._fill(gland & (np.hypot(x, y - 0.15 * ry) < 2.0), URETHRA, 0.05)
        self._fill(gland & (y > 0.68 * ry) & (np.abs(x) < 0.5 * rx), FIBRE + 0.05, 0.03)
        self._fill((inner > -0.02) & (inner < 0.045), FIBRE + 0.08, 0.02)
        return gland

    def _lesions(self) -> Mask:
        """Up to two dark spots, left or right in the back."""
        rng, (rx, ry, rz) = self._rng, self.radii
        found = np.zeros(self._points.shape[:3], dtype=bool)
        for _ in range(int(rng.integers(0, 3))):
            centre = (rng.uniform(-0.6, 0.6) * rx, -0.66 * ry, rng.uniform(-0.5, 0.5) * rz)
            found |= self._depth(centre, (rng.uniform(3.0, 7.0), rng.uniform(2.5, 4.0), 6.0)) > 0
        return found


def _oblique(rng: np.random.Generator, shape: Triple, spacing_mm: Floats) -> tuple[Grid, Floats]:
    """A grid of axial slices tilted against the body, and its voxels (I, J, K, 3) in mm in the body."""
    tilt = Rotation.from_euler("xyz", [rng.uniform(-25.0, -5.0), *rng.uniform(-4.0, 4.0, 2)], degrees=True)
    affine = np.eye(4)
    affine[:3, :3] = tilt.as_matrix() @ np.diag([-1.0, -1.0, 1.0] * spacing_mm)
    centre = (np.asarray(shape) - 1) / 2
    gland = rng.uniform(-30.0, 30.0, 3)
    affine[:3, 3] = gland + rng.uniform(-4.0, 4.0, 3) - affine[:3, :3] @ centre
    grid = Grid(shape, np.round(affine, 6))
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    body = Rotation.from_euler("xyz", rng.uniform(-6.0, 6.0, 3), degrees=True).as_matrix()
    points: Floats = (indices @ grid.affine[:3, :3].T + grid.affine[:3, 3] - gland) @ body
    return grid, points


def _gain(rng: np.random.Generator, points: Floats, rectum_y: float, spacing_mm: Floats) -> Floats:
    """A slow bias field, and in a third of the scans the gain of a coil in the rectum."""
    gain = np.exp(0.12 * broad_noise(rng, points.shape[:3], 30.0 / spacing_mm))
    if rng.uniform() < 1 / 3:
        away = np.linalg.norm(points - np.array([0.0, rectum_y - 6.0, 0.0]), axis=-1)
        gain *= 0.6 + rng.uniform(0.8, 1.8) * np.exp(-away / 22.0)
    return np.asarray(gain)
