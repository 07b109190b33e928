"""Settings of augmentation: ranges and probabilities, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from medseg.core.errors import UsageError, unknown_name

Range = tuple[float, float]

ELASTIC_PRESETS = {"unet2015": 1.0, "vnet2016": 0.5, "unet3d2016": 1.0, "simard2003": 1.0}
"""Elastic deformations as published (see `augment/published.py`), and how often each is applied."""


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
            raise UsageError(f"min_jacobian must be at least 0.1 and below 1, not {self.min_jacobian}")


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
                raise UsageError(f"{name} must be finite and not negative, not {values}")


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
            raise UsageError(f"flip axes must be distinct and among 0, 1, 2, not {self.axes}")


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
            raise UsageError(f"low-resolution axes must be 'all' or 'one', not {self.axes!r}")


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
    """All settings of the augmentation of a patch; the default changes nothing.

    `elastic` is a table of settings, or the name of a deformation as published (`ELASTIC_PRESETS`).
    """

    elastic: ElasticSpec | str | None = None
    affine: AffineSpec | None = None
    flip: FlipSpec | None = None
    contrast: ContrastSpec = field(default_factory=ContrastSpec)

    def __post_init__(self) -> None:
        if isinstance(self.elastic, str) and self.elastic not in ELASTIC_PRESETS:
            raise unknown_name("elastic deformation", self.elastic, ELASTIC_PRESETS)


@dataclass(frozen=True)
class CoarseSpec:
    """Changes of what a coarse stage found, so that the fine stage does not rely on it too much.

    A coarse stage is better on the cases it was trained on than on others. nnU-Net (Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z) dilates, erodes, opens or closes its labels with probability 0.4 and
    removes small components with probability 0.2; here the same is done to probabilities, patch by patch.

    Attributes:
        moved: probability that the borders of every structure move: probabilities are raised to a power.
        exponent: range of that power, drawn with a uniform logarithm for each structure; below 1 a
            structure grows, above 1 it shrinks.
        missed: probability that one structure is missed: its probability is 0.
    """

    moved: float = 0.4
    exponent: Range = (0.25, 4.0)
    missed: float = 0.2

    def __post_init__(self) -> None:
        for probability in (self.moved, self.missed):
            _check_probability(probability)
        _check_range("exponent", self.exponent, lowest=0.0)
        _check_positive("exponent", self.exponent[0])


@dataclass(frozen=True)
class Tissue:
    """The tissue that a label value stands for in synthesis.

    Attributes:
        value: in the map.
        intensity_class: tissues of one class share mean and spread; class 0 is air.
        target: value of the structure it belongs to, 0 for none.
        like: the tissue whose typical brightness it has, "" for none (see `synthesis.BRIGHTNESS`).
        outer_fluid: whether it is the fluid around the brain, which stripping may take away.
    """

    value: int
    intensity_class: int
    target: int = 0
    like: str = ""
    outer_fluid: bool = False


Contrast = Literal["t1", "t2", "flair", "pd"]


@dataclass(frozen=True)
class SynthesisSpec:
    """How scans are made from label maps (SynthSeg, Billot et al. 2023, arXiv:2107.09559, section 3.1).

    Every class of tissue gets a mean and a spread drawn at random, so that a network trained on the
    result relies on no contrast. A share of the scans has the order of tissues of T1, T2, FLAIR or PD.

    Attributes:
        affine, elastic: how the head is placed, turned and bent.
        flip_probability: of trading left for right, twins included.
        realistic: share of scans with the order of a real contrast.
        contrasts: those orders, each as often as it is listed: "t1", "t2", "flair", "pd".
        curriculum: share of the training over which scans widen from sharp T1 contrast alone to all that
            the other settings allow; drawn with fading probability. Shown every contrast from the start,
            a network learns nothing for long.
        spread: range of a class's standard deviation, as a share of the whole range of means.
        dark_air: share of scans whose air is dark.
        texture: share of a class's spread that is smooth over some voxels, at most.
        stripped: share of scans without skull; half of those without outer fluid too.
        bias: multiplicative field of the receiver coils.
        blur_mm: range of the standard deviation of a blur that mixes tissues at their borders.
        coarse: share of scans acquired with larger voxels and interpolated.
        slice_mm: range of slice thickness where one axis is coarse.
        voxel_mm: range of the voxel size where all axes are.
        noise: range of the noise at the acquired resolution, as a share of the range of means.
        gamma: range of the exponent of a contrast curve.
        cut: share of scans that end within the head.
    """

    affine: AffineSpec = field(
        default_factory=lambda: AffineSpec(
            1.0, (20.0, 20.0, 20.0), (0.82, 1.22), isotropic=False, shear=0.1, translation_mm=(0.0, 0.0, 0.0)
        )
    )
    elastic: ElasticSpec = field(default_factory=lambda: ElasticSpec(0.9, 32.0, (0.0, 11.0)))
    flip_probability: float = 0.5
    realistic: float = 0.3
    contrasts: tuple[Contrast, ...] = ("t1", "t2", "flair", "pd")
    curriculum: float = 0.0
    spread: Range = (0.0, 0.12)
    dark_air: float = 0.8
    texture: Range = (0.0, 1.0)
    stripped: float = 0.2
    bias: BiasFieldSpec = field(default_factory=lambda: BiasFieldSpec(0.9, 70.0, (0.0, 0.5)))
    blur_mm: Range = (0.0, 1.2)
    coarse: float = 0.6
    slice_mm: Range = (1.5, 8.0)
    voxel_mm: Range = (1.0, 3.5)
    noise: Range = (0.0, 0.06)
    gamma: Range = (0.6, 1.7)
    cut: float = 0.15

    def __post_init__(self) -> None:
        for name in ("flip_probability", "realistic", "curriculum", "dark_air", "stripped", "coarse", "cut"):
            _check_probability(getattr(self, name))
        for name in ("spread", "texture", "blur_mm", "slice_mm", "voxel_mm", "noise", "gamma"):
            _check_range(name, getattr(self, name), lowest=0.0)
        _check_positive("gamma", self.gamma[0])
        if not self.contrasts:
            raise UsageError("synthesis.contrasts is empty", hint="list at least one contrast")


def _check_probability(value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"a probability must be in [0, 1], not {value}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be positive, not {value}")


def _check_range(name: str, values: Range, lowest: float = -math.inf) -> None:
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and lowest <= low <= high):
        raise UsageError(f"{name} must be a range (low, high) from {lowest:g} upwards, not {values}")
