"""Grid, Volume, LabelMap: arrays with the world positions of their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg.core import affine as aff
from medseg.core import images
from medseg.core.affine import Affine
from medseg.core.errors import GeometryError, GridMismatchError, UsageError

SAME_GRID_MM = 1e-3
"""Two grids are the same when the centres of their corner voxels are at most this far apart."""


MM3_PER_ML = 1000.0

SMALLEST_VOLUME = 1e-6
"""Below this share of the volume its edges would span at right angles, a voxel has none."""

Lacking = tuple[tuple[int, str], ...]
"""Label values, each with a sentence why its structure may lack voxels."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (I, J, K) and a 4x4 affine from voxel index to RAS+ millimetres.

    >>> grid = Grid((4, 5, 6), np.diag([-1.0, 1.0, 2.0, 1.0]))
    >>> grid.axis_codes, grid.spacing_mm, grid.voxel_volume_mm3
    ('LAS', (1.0, 1.0, 2.0), 2.0)

    Raises:
        GeometryError: the shape is not three positive integers, or the affine is not finite
            and invertible, or more than an affine.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def __init__(self, shape: Sequence[int], affine: ArrayLike) -> None:
        matrix = np.array(affine, dtype=np.float64)
        sizes = tuple(int(n) for n in shape)
        if len(sizes) != 3 or min(sizes) < 1 or sizes != tuple(shape):
            raise GeometryError(f"a grid needs three positive sizes, not {tuple(shape)}")
        _check_affine(matrix)
        matrix.setflags(write=False)
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "affine", matrix)

    def __repr__(self) -> str:
        return f"Grid({self._shown})"

    @property
    def _shown(self) -> str:
        voxels, mm = map(str, self.shape), (f"{length:.4g}" for length in self.spacing_mm)
        return f"{' × '.join(voxels)} voxels, {' × '.join(mm)} mm, {self.axis_codes}"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return aff.spacing_mm(self.affine)

    @property
    def axis_codes(self) -> str:
        return aff.axis_codes(self.affine)

    @property
    def voxel_volume_mm3(self) -> float:
        return aff.voxel_volume_mm3(self.affine)

    def volume_ml(self, voxels: int) -> float:
        """Volume of a number of voxels.

        >>> round(Grid((2, 2, 2), np.diag([2, 2, 2, 1])).volume_ml(125), 6)
        1.0
        """
        return voxels * self.voxel_volume_mm3 / MM3_PER_ML

    @property
    def voxels(self) -> int:
        return int(np.prod(self.shape))

    @property
    def corners_mm(self) -> NDArray[np.float64]:
        return aff.corner_centres_mm(self.affine, self.shape)

    def offset_mm(self, other: Grid) -> float:
        """Largest distance between corresponding corner voxels; inf when the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.linalg.norm(self.corners_mm - other.corners_mm, axis=1).max())

    def matches(self, other: Grid, tolerance_mm: float = SAME_GRID_MM) -> bool:
        return self.offset_mm(other) <= tolerance_mm

    def _difference(self, other: Grid) -> str:
        """How far another grid is off, in words where there is no number."""
        if self.shape != other.shape:
            return "their shapes differ"
        offset = self.offset_mm(other)
        apart = f"{offset:.3g} mm" if np.isfinite(offset) else "beyond the range of numbers"
        return f"corners {apart} apart (limit {SAME_GRID_MM} mm)"

    def require(self, other: Grid, what: str, source: str | None = None) -> None:
        """Raise unless `other` is this grid.

        Raises:
            GridMismatchError: with both shapes and spacings, and the distance between corners.
        """
        if not self.matches(other):
            raise GridMismatchError(
                f"{what} lie on different grids: {_describe(self)} against {_describe(other)}, "
                f"{self._difference(other)}",
                source=source,
                hint="resample one onto the other's grid first",
            )


def _check_affine(matrix: Affine) -> None:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(f"the affine is not a finite 4x4 matrix: {matrix.tolist()}")
    if matrix[3].tolist() != [0.0, 0.0, 0.0, 1.0]:
        raise GeometryError(f"the last row of an affine must be 0 0 0 1, not {matrix[3].tolist()}")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        volume = abs(np.linalg.det(matrix[:3, :3] / np.asarray(aff.spacing_mm(matrix))))
    if not volume >= SMALLEST_VOLUME:
        raise GeometryError(f"the affine is singular: {matrix[:3, :3].tolist()}")


def _describe(grid: Grid) -> str:
    sizes = "x".join(map(str, grid.shape))
    return f"{sizes} {grid.axis_codes} at {'x'.join(f'{s:.4g}' for s in grid.spacing_mm)} mm"


@dataclass(frozen=True, eq=False)
class FileForm:
    """How a file stored its grid, so that a result can be stored the same way.

    It holds nothing about the patient: no free text, no dates, no extensions. Matrices are in the
    file's own units (`xyzt_units`) and mean something where their code is not 0; None stands for
    the grid's affine.

    Attributes:
        stored_pixdim: qfac and the spacings along I, J, K, as a NIfTI header holds them.
        stored_quaternion: b, c, d and the offsets x, y, z, as a NIfTI header holds them; kept
            because a matrix does not lead back to the same bits.
        mgh_geometry: spacing, directions and centre, as the header of an MGH file holds them, for the
            same reason.
    """

    suffix: str = ".nii.gz"
    nifti_version: int = 1
    sform: Affine | None = None
    sform_code: int = 1
    qform: Affine | None = None
    qform_code: int = 1
    xyzt_units: int = 2
    stored_pixdim: tuple[float, ...] | None = None
    stored_quaternion: tuple[float, ...] | None = None
    mgh_geometry: tuple[float, ...] | None = None

    @property
    def orientation_known(self) -> bool:
        """Whether the file said where the patient's right is: a NIfTI with both codes 0 did not."""
        return self.sform_code > 0 or self.qform_code > 0


@dataclass(frozen=True, eq=False)
class Volume:
    """Image (C, I, J, K) with its grid and channel names; read-only.

    `np.asarray(volume)` is the array, without a copy. `warnings` are sentences about the file that a
    report must repeat.

    >>> volume = Volume(np.zeros((1, 4, 5, 6), np.float32), Grid((4, 5, 6), np.eye(4)), ("T1",))
    >>> np.asarray(volume).shape, volume.spatial_shape
    ((1, 4, 5, 6), (4, 5, 6))
    """

    array: NDArray[np.generic]
    grid: Grid
    channels: tuple[str, ...]
    form: FileForm = field(default_factory=FileForm)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_grid(self.grid)
        expected = (len(self.channels), *self.grid.shape)
        if self.array.shape != expected:
            raise GeometryError(
                f"the array has the shape {self.array.shape}; grid and channels need {expected}"
            )
        _freeze(self)

    def __repr__(self) -> str:
        return f"Volume({', '.join(self.channels)}: {self.array.dtype}, {self.grid._shown})"

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        return self.grid.shape

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return images.as_array(self.array, dtype, copy)

    @classmethod
    def from_nibabel(cls, image: Any, *, channels: Sequence[str] | None = None) -> Volume:
        """The volume of a nibabel image, whose last axis, where it has four, are the channels.

        A NIfTI image is checked as its file would be: what its forms state must agree.

        Raises:
            MedsegError: as `medseg.read`.

        >>> import nibabel
        >>> image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([-1.0, 1.0, 2.0, 1.0]))
        >>> Volume.from_nibabel(image).grid.axis_codes
        'LAS'
        """
        return _read(image, channels)

    @classmethod
    def from_sitk(cls, image: Any, *, channels: Sequence[str] | None = None) -> Volume:
        """The volume of a SimpleITK image, whose components, where it has several, are the channels.

        Raises:
            MedsegError: as `medseg.read`.

        >>> import SimpleITK
        >>> Volume.from_sitk(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16)).grid.axis_codes
        'LPS'
        """
        return _read(image, channels)

    def to_nibabel(self) -> Any:
        """A `nibabel.Nifti1Image` on the same grid; several channels are its last axis."""
        return images.to_nibabel(self.array, self.grid.affine, self.form.sform_code, self.form.qform_code)

    def to_sitk(self) -> Any:
        """A `SimpleITK.Image` on the same grid (LPS+, in mm); of several channels a vector image."""
        return images.to_sitk(self.array, self.grid.affine)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integers (I, J, K), in the dataset's own values, with their grid; read-only.

    `np.asarray(labels)` is the array, without a copy.

    >>> labels = LabelMap(np.ones((4, 5, 6), np.uint8), Grid((4, 5, 6), np.eye(4)))
    >>> int(np.sum(labels)), labels.to_nibabel().shape, labels.to_sitk().GetSize()
    (120, (4, 5, 6), (4, 5, 6))

    Attributes:
        ignore: value of voxels that nobody labelled, which may be anything; None where all are labelled.
        unlabelled: values of structures that nobody labelled here: what else is background may be theirs.
        lacking: of `warnings`, those that say why a structure may lack voxels.
        numbers: of each voxel's object, (I, J, K), 0 for none; None where nobody told objects apart.
    """

    array: NDArray[np.integer]
    grid: Grid
    form: FileForm = field(default_factory=FileForm)
    warnings: tuple[str, ...] = ()
    ignore: int | None = None
    unlabelled: tuple[int, ...] = ()
    lacking: Lacking = ()
    numbers: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        _require_grid(self.grid)
        if self.array.shape != self.grid.shape:
            raise GeometryError(f"the array has the shape {self.array.shape}, and the grid {self.grid.shape}")
        if not np.issubdtype(self.array.dtype, np.integer):
            raise GeometryError(f"labels must be integers, not {self.array.dtype}")
        _freeze(self)

    def __repr__(self) -> str:
        return f"LabelMap({self.array.dtype}, {self.grid._shown})"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return images.as_array(self.array, dtype, copy)

    def to_nibabel(self) -> Any:
        """A `nibabel.Nifti1Image` of the labels, on the same grid, with the codes of the file's forms."""
        return images.to_nibabel(self.array, self.grid.affine, self.form.sform_code, self.form.qform_code)

    def to_sitk(self) -> Any:
        """A `SimpleITK.Image` of the labels, on the same grid (LPS+, in mm)."""
        return images.to_sitk(self.array, self.grid.affine)

    @property
    def labelled(self) -> NDArray[np.bool_] | None:
        """Mask (I, J, K) of the labelled voxels; None if all are."""
        if self.ignore is None:
            return None
        known = np.asarray(self.array != self.ignore)
        return None if known.all() else known


def _read(image: Any, channels: Sequence[str] | None) -> Volume:
    """What `medseg.read` makes of another library's image; it lies to the right, and is found when called."""
    import medseg

    return medseg.read(image, channels=channels)


def _require_grid(grid: object) -> None:
    if not isinstance(grid, Grid):
        raise UsageError(
            f"voxels lie on a Grid, not {type(grid).__name__}", hint="give medseg.Grid(shape, affine)"
        )


def _freeze(holder: Volume | LabelMap) -> None:
    view = holder.array.view()
    view.setflags(write=False)
    object.__setattr__(holder, "array", view)
