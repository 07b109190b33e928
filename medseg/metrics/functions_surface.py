"""Each distance between surfaces as a function of two plain arrays; see `metrics.functions`.

Private: the names are those of `medseg.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from medseg.core.keywords import hinted
from medseg.metrics import surface as sd
from medseg.metrics.masks import masks_of
from medseg.metrics.table import METRICS


@hinted
def hd95(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    label: int | None = None,
    mode: sd.Mode = "surfel",
    threads: int = 1,
) -> float:
    """95th percentile of the Hausdorff distance, in mm; NaN when both masks are empty, inf when one is.

    Args:
        predicted: bool mask (I, J, K) or (I, J), or labels with `label`.
        reference: the same shape.
        spacing_mm: distance between voxel centres along each axis.
        label: value of the structure, of labels.
        mode: what a surface is: "surfel" (area-weighted) or "voxel" (border voxels).
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; an array is not of labels; or a
            length is not positive and finite.

    References:
        Nikolov et al. 2018, arXiv:1809.04430 (surfel).

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.hd95(predicted, reference, spacing_mm=(1.0, 1.0, 2.0))
    2.0
    """
    return _value("hd95_mm", predicted, reference, spacing_mm, label, mode, threads)


@hinted
def hd100(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    label: int | None = None,
    mode: sd.Mode = "surfel",
    threads: int = 1,
) -> float:
    """Hausdorff distance, in mm: the largest of all; NaN when both masks are empty, inf when one is.

    Args:
        predicted: bool mask (I, J, K) or (I, J), or labels with `label`.
        reference: the same shape.
        spacing_mm: distance between voxel centres along each axis.
        label: value of the structure, of labels.
        mode: what a surface is: "surfel" (area-weighted) or "voxel" (border voxels).
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; an array is not of labels; or a
            length is not positive and finite.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.hd100(predicted, reference, spacing_mm=(1.0, 1.0, 2.0))
    2.0
    """
    return _value("hd100_mm", predicted, reference, spacing_mm, label, mode, threads)


@hinted
def assd(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    label: int | None = None,
    mode: sd.Mode = "surfel",
    threads: int = 1,
) -> float:
    """Average symmetric surface distance, in mm; NaN when both masks are empty, inf when one is.

    Args:
        predicted: bool mask (I, J, K) or (I, J), or labels with `label`.
        reference: the same shape.
        spacing_mm: distance between voxel centres along each axis.
        label: value of the structure, of labels.
        mode: what a surface is: "surfel" (area-weighted) or "voxel" (border voxels).
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; an array is not of labels; or a
            length is not positive and finite.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> round(metrics.assd(predicted, reference, spacing_mm=(1.0, 1.0, 2.0)), 3)
    0.423
    """
    return _value("assd_mm", predicted, reference, spacing_mm, label, mode, threads)


@hinted
def masd(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    label: int | None = None,
    threads: int = 1,
) -> float:
    """Mean of the two directed mean distances between border voxels, in mm; NaN and inf as `assd`.

    Args:
        predicted: bool mask (I, J, K) or (I, J), or labels with `label`.
        reference: the same shape.
        spacing_mm: distance between voxel centres along each axis.
        label: value of the structure, of labels.
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; an array is not of labels; or a
            length is not positive and finite.

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> round(metrics.masd(predicted, reference, spacing_mm=(1.0, 1.0, 2.0)), 3)
    0.643
    """
    return _value("masd_mm", predicted, reference, spacing_mm, label, "voxel", threads)


@hinted
def nsd(
    predicted: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    label: int | None = None,
    threads: int = 1,
) -> float:
    """Normalised surface Dice: the share of both surfaces' area within `tolerance_mm` of the other.

    Args:
        predicted: bool mask (I, J, K) or (I, J), or labels with `label`.
        reference: the same shape.
        spacing_mm: distance between voxel centres along each axis.
        tolerance_mm: distance up to which two surfaces count as the same, inclusive.
        label: value of the structure, of labels.
        threads: that work on it; 0 for all processors.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: labels have several values, and `label` chooses none; an array is not of labels; or a
            length is not positive and finite.

    References:
        Nikolov et al. 2018, arXiv:1809.04430, "surface DSC".

    >>> import numpy as np
    >>> from medseg import metrics
    >>> predicted, reference = np.zeros((2, 8, 8, 8), bool)
    >>> predicted[2:6, 2:6, 2:6], reference[2:6, 2:6, 3:7] = True, True
    >>> metrics.nsd(predicted, reference, spacing_mm=(1.0, 1.0, 2.0), tolerance_mm=2.0)
    1.0
    """
    sd.require_tolerance(tolerance_mm)
    return _value("nsd", predicted, reference, spacing_mm, label, "surfel", threads, tolerance_mm)


surface_dice = nsd
"""The other name of the same, which the literature uses as often."""


def _value(
    metric: str,
    predicted: ArrayLike,
    reference: ArrayLike,
    spacing_mm: Sequence[float],
    label: int | None,
    mode: sd.Mode,
    threads: int,
    tolerance_mm: float = math.nan,
) -> float:
    """A metric of `METRICS`, as the definition of a surface has it."""
    sd.require_mode(mode)
    found, truth = masks_of(predicted, reference, label)
    box = sd.box_around_both(truth, found)
    masks = truth[box].view(np.uint8), found[box].view(np.uint8)
    distances = sd.label_distances(*masks, 1, spacing_mm, mode, threads=threads).of(1)
    return METRICS[metric].by_mode[mode](distances, tolerance_mm)
