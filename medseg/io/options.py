"""Reading options of a caller, and header information of a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import GeometryError, UsageError
from medseg.core.volume import FileForm, Grid, Lacking

FormName = Literal["sform", "qform"]


@dataclass(frozen=True)
class ReadOptions:
    """Options for what a file leaves open.

    Attributes:
        use_form: which of two contradicting NIfTI forms is right.
        assume_ras: take a file without orientation as RAS+ with its spacing.
        fill_nan: value for voxels that are NaN or infinite.
        volume: which volume of a 4D file, counted from 0.
        series: which DICOM series of a folder: its number in the list of series, or its UID.
        series_in: folder of the series that a DICOM segmentation or structure set refers to, or of folders
            of them, where it does not lie beside that file.

    Raises:
        UsageError: a value that no file could be read with.
    """

    use_form: FormName | None = None
    assume_ras: bool = False
    fill_nan: float | None = None
    volume: int | None = None
    series: str | None = None
    series_in: Path | None = None

    def __post_init__(self) -> None:
        if self.use_form not in (None, "sform", "qform"):
            raise UsageError(f"the form to use must be sform or qform, not {self.use_form!r}")
        if self.fill_nan is not None and not abs(self.fill_nan) <= float(np.finfo(np.float32).max):
            raise UsageError(f"the value instead of NaN must be a finite float32, not {self.fill_nan}")
        if self.volume is not None and self.volume < 0:
            raise UsageError(f"the volume to read must be 0 or more, not {self.volume}")

    def content(self) -> dict[str, Any]:
        """The decisions as a result states them, which states no path."""
        content = asdict(self)
        del content["series_in"]
        return content

    def require_assumed(self, fault: str, source: Path) -> tuple[str]:
        """Whether a file without orientation may be read as RAS+.

        Args:
            fault: what the header lacks.
            source: the file.

        Returns:
            The warning that goes with its voxels.

        Raises:
            GeometryError: it may not.
        """
        if not self.assume_ras:
            raise GeometryError(
                fault, source=source, hint="add --assume-ras if you know that it lies in RAS order"
            )
        return ("The file stores no orientation; RAS order was assumed, as requested.",)

    def of_labels(self, volumes: int = 1) -> ReadOptions:
        """The decisions that concern a label file of so many volumes, read beside a scan."""
        volume = self.volume if volumes > 1 else None
        return replace(self, fill_nan=None, volume=volume, series=None)


DEFAULT = ReadOptions()


@dataclass(frozen=True, eq=False)
class ImageInfo:
    """Header information of a file; no voxel was read.

    Attributes:
        path: the file or DICOM folder.
        format: for people, such as `NIfTI-1, gzip`.
        grid: shape and affine in RAS+ mm.
        channels: number of volumes in the file.
        dtype: of the stored voxels, as numpy names it; empty when only the voxels tell.
        slope: stored values times this,
        inter: plus this, are the image's values.
        form: how the grid is stored.
        warnings: sentences that a report must repeat.
        names: of the channels, where the format gives them: red, green, blue.
        modality: as a DICOM header states it, such as CT; empty where nothing states it.
    """

    path: Path
    format: str
    grid: Grid
    channels: int
    dtype: str
    slope: float
    inter: float
    form: FileForm
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    modality: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.grid.spacing_mm

    @property
    def axis_codes(self) -> str:
        return self.grid.axis_codes


@dataclass(frozen=True, eq=False)
class Stored:
    """A file's voxels (T, I, J, K) as stored, in native byte order, with what its header says.

    Of labels, `lacking` is that of `LabelMap`.
    """

    info: ImageInfo
    array: NDArray[np.generic]
    lacking: Lacking = ()
