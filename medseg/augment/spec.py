"""What augmentation may do: ranges and probabilities, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from medseg.errors import UsageError

Range = tuple[float, float]


@dataclass(frozen=True)
class ElasticSpec:
    """Displacements on a lattice of cubic B-spline control points.

    Attributes:
        probability: how often it is applied, in [0, 1].
        spacing_mm: distance between control points.
        sigma_mm: range of the standard deviation of a control point's displacement, per axis. The
            field itself deviates by about a third of it, for a cubic B-spline averages its points.
        min_jacobian: smallest Jacobian determinant a sampled field may have, at least 0.1 because it
            is looked for at points; a field below it is scaled down until it is not.
    """

    probability: float = 0.5
    spacing_mm: float = 24.0
    sigma_mm: Range = (0.0, 6.0)
    min_jacobian: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("sigma_mm", self.sigma_mm, lowest=0.0)
        _check_positive("spacing_mm", self.spacing_mm)
        if not 0.1 <= self.min_jacobian < 1.0:
            raise UsageError(f"min_jacobian must lie from 0.1 to below 1, not {self.min_jacobian}")


@dataclass(frozen=True)
class AffineSpec:
    """Rotation, scaling, shear and translation around the patch's centre, in world mm.

    Attributes:
        probability: how often it is applied, in [0, 1].
        rotation_degrees: largest angle around each axis; uniform in plus or minus this.
        scale: range of the zoom, drawn log-uniformly; above 1 the patch shows more of the body.
        isotropic: one zoom for all axes, else one each.
        shear: largest shear between two axes (a ratio), uniform in plus or minus this.
        translation_mm: largest shift along each axis, uniform in plus or minus this.
    """

    probability: float = 0.5
    rotation_degrees: tuple[float, float, float] = (15.0, 15.0, 15.0)
    scale: Range = (0.8, 1.25)
    isotropic: bool = True
    shear: float = 0.0
    translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("scale", self.scale, lowest=0.0)
        _check_positive("scale", self.scale[0])
        for name, values in (
            ("rotation_degrees", self.rotation_degrees),
            ("translation_mm", self.translation_mm),
            ("shear", (self.shear,)),
        ):
            if not all(math.isfinite(v) and v >= 0 for v in values):
                raise UsageError(f"{name} holds largest magnitudes: finite and not negative, not {values}")


@dataclass(frozen=True)
class FlipSpec:
    """Mirror images along canonical axes.

    Attributes:
        axes: axes that may be flipped; 0 swaps left and right, and with them the twins.
        probability: how often each is, in [0, 1].
    """

    axes: tuple[int, ...] = (0, 1, 2)
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not set(self.axes) <= {0, 1, 2} or len(set(self.axes)) != len(self.axes):
            raise UsageError(f"flip axes are some of 0, 1, 2, each once, not {self.axes}")


@dataclass(frozen=True)
class GammaSpec:
    """Contrast curve `t ** gamma` on intensities scaled to [0, 1], drawn log-uniformly."""

    probability: float = 0.3
    gamma: Range = (0.7, 1.5)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("gamma", self.gamma, lowest=0.0)
        _check_positive("gamma", self.gamma[0])


@dataclass(frozen=True)
class LinearSpec:
    """Contrast and brightness: `mean + scale * (x - mean) + shift`."""

    probability: float = 0.3
    scale: Range = (0.75, 1.25)
    shift: Range = (-0.1, 0.1)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("scale", self.scale, lowest=0.0)
        _check_range("shift", self.shift)


@dataclass(frozen=True)
class BiasFieldSpec:
    """Smooth multiplicative field, `exp` of a cubic B-spline.

    Attributes:
        probability: how often it is applied, in [0, 1].
        spacing_mm: distance between control points.
        sigma: range of the standard deviation of a control point of the logarithm.
    """

    probability: float = 0.2
    spacing_mm: float = 80.0
    sigma: Range = (0.0, 0.4)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_positive("spacing_mm", self.spacing_mm)
        _check_range("sigma", self.sigma, lowest=0.0)


@dataclass(frozen=True)
class NoiseSpec:
    """Gaussian noise of a standard deviation in the image's own units."""

    probability: float = 0.2
    sigma: Range = (0.0, 0.2)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("sigma", self.sigma, lowest=0.0)


@dataclass(frozen=True)
class BlurSpec:
    """Gaussian blur; `sigma_mm` is the same along all axes of the world."""

    probability: float = 0.2
    sigma_mm: Range = (0.3, 1.2)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("sigma_mm", self.sigma_mm, lowest=0.0)


@dataclass(frozen=True)
class LowResolutionSpec:
    """Averages over thicker voxels, interpolated back to the patch's.

    Attributes:
        probability: how often it is applied, in [0, 1].
        factor: range of the thick voxel's size in voxels, at least 1.
        axes: along all axes, or along one drawn at random (a scan of thick slices).
    """

    probability: float = 0.2
    factor: Range = (1.0, 2.0)
    axes: Literal["all", "one"] = "one"

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        _check_range("factor", self.factor, lowest=1.0)
        if self.axes not in ("all", "one"):
            raise UsageError(f"low-resolution axes are 'all' or 'one', not {self.axes!r}")


@dataclass(frozen=True)
class ContrastSpec:
    """Changes of intensity, applied in the order listed; None leaves one out."""

    blur: BlurSpec | None = None
    low_resolution: LowResolutionSpec | None = None
    bias_field: BiasFieldSpec | None = None
    gamma: GammaSpec | None = None
    linear: LinearSpec | None = None
    noise: NoiseSpec | None = None


@dataclass(frozen=True)
class AugmentSpec:
    """Everything augmentation may do to a patch; the default does nothing."""

    elastic: ElasticSpec | None = None
    affine: AffineSpec | None = None
    flip: FlipSpec | None = None
    contrast: ContrastSpec = field(default_factory=ContrastSpec)


def _check_probability(value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"a probability lies in [0, 1], not {value}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be positive, not {value}")


def _check_range(name: str, values: Range, lowest: float = -math.inf) -> None:
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and lowest <= low <= high):
        raise UsageError(f"{name} is a range (low, high) from {lowest:g} upwards, not {values}")


ALL_CONTRAST = ContrastSpec(
    BlurSpec(), LowResolutionSpec(), BiasFieldSpec(), GammaSpec(), LinearSpec(), NoiseSpec()
)
STANDARD = AugmentSpec(ElasticSpec(), AffineSpec(), None, ALL_CONTRAST)
"""Every change at its default; flips are left to the recipe, which knows whether sides matter."""
