"""Synthetic scans from label maps, with random contrast and resolution.

The generative model of SynthSeg (Billot et al. 2023, arXiv:2107.09559, section 3.1): a label map is
moved and bent, each class of tissue is painted with a Gaussian of random mean and spread, and the
result is blurred, shaded, sampled coarsely, made noisy and cut. Ours moves and bends with the free-form
deformation of `elastic`, and works on the patch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.augment import affine, contrast, elastic, flip, warp
from medseg.augment.affine import AffineParams
from medseg.augment.contrast import BiasFieldParams
from medseg.augment.elastic import ElasticParams
from medseg.augment.spec import ContrastSpec, Range, SynthesisSpec, Tissue
from medseg.core.errors import InputError, UsageError, unknown_name
from medseg.core.structures import MAX_INDICES, StructureSet, unknown_values, value_counts

Triple = tuple[float, float, float]

BRIGHTNESS = {
    "t1": {"white": 0.85, "grey": 0.55, "fluid": 0.12, "thalamus": 0.68, "caudate": 0.56, "putamen": 0.61,
           "pallidum": 0.76, "stem": 0.76, "bone": 0.08, "marrow": 0.6, "soft": 0.45, "skin": 0.75},
    "t2": {"white": 0.36, "grey": 0.55, "fluid": 0.95, "thalamus": 0.45, "caudate": 0.5, "putamen": 0.45,
           "pallidum": 0.28, "stem": 0.4, "bone": 0.05, "marrow": 0.4, "soft": 0.3, "skin": 0.55},
    "flair": {"white": 0.5, "grey": 0.65, "fluid": 0.1, "thalamus": 0.56, "caudate": 0.63, "putamen": 0.6,
              "pallidum": 0.45, "stem": 0.52, "bone": 0.05, "marrow": 0.45, "soft": 0.4, "skin": 0.7},
    "pd": {"white": 0.62, "grey": 0.8, "fluid": 0.72, "thalamus": 0.7, "caudate": 0.77, "putamen": 0.74,
           "pallidum": 0.6, "stem": 0.64, "bone": 0.08, "marrow": 0.55, "soft": 0.55, "skin": 0.75},
}  # fmt: skip
"""Typical brightness of tissues, air 0 and the brightest 1; only the order matters, each is varied."""

WOBBLE = 0.05
"""Standard deviation by which a tissue's typical brightness is varied."""

STATISTICS_STRIDE = 3
"""Percentiles are taken from every third voxel along each axis."""


@dataclass(frozen=True)
class TissueTable:
    """The tissues of a dataset, air first; positions are the generation indices of a label map.

    Args:
        tissues: without air.
        structures: the target.

    Raises:
        UsageError: a target or typical brightness is unknown, twins differ in class, or values repeat.
    """

    tissues: tuple[Tissue, ...]
    structures: StructureSet

    def __post_init__(self) -> None:
        object.__setattr__(self, "tissues", (Tissue(0, 0), *self.tissues))
        values = [t.value for t in self.tissues]
        if len(set(values)) != len(values) or len(values) > MAX_INDICES:
            raise UsageError(f"tissues need at most {MAX_INDICES} values, all different, not {values}")
        for t in self.tissues:
            if t.target not in self.structures.index_values:
                raise UsageError(f"tissue {t.value} belongs to structure {t.target}, which does not exist")
            if t.like and t.like not in BRIGHTNESS["t1"]:
                raise unknown_name("kind of tissue", t.like, BRIGHTNESS["t1"])
        for one, other in self.structures.twins():
            a, b = ({t.intensity_class for t in self.tissues if t.target == v} for v in (one, other))
            if a != b:
                named = " and ".join(s.name for s in self.structures if s.value in (one, other))
                raise UsageError(
                    f"the twins {named} have different intensity classes: {sorted(a)}, {sorted(b)}"
                )

    @property
    def classes(self) -> tuple[int, ...]:
        """Intensity class of each index."""
        return tuple(t.intensity_class for t in self.tissues)

    @property
    def targets(self) -> tuple[int, ...]:
        """Target index of each index (see `StructureSet.encode`)."""
        return tuple(self.structures.index_values.index(t.target) for t in self.tissues)

    @property
    def outer_fluid(self) -> int:
        """Index of the fluid around the brain, 0 if there is none."""
        return next((n for n, t in enumerate(self.tissues) if t.outer_fluid), 0)

    def encode(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Generation indices of a map, same shape.

        Raises:
            InputError: a value that no tissue has.
        """
        values = [t.value for t in self.tissues]
        counts = value_counts(labels)
        found = np.array(list(counts), dtype=labels.dtype)
        unknown = {value: n for value, n in counts.items() if value not in values}
        if unknown:
            raise InputError(unknown_values(unknown), hint="declare them as tissues in the card")
        indices = np.array([values.index(v) for v in counts], dtype=np.uint8)
        encoded: NDArray[np.uint8] = indices[np.searchsorted(found, labels)]
        return encoded


@dataclass(frozen=True)
class SynthesisParams:
    """All random parameters of one scan; noise is represented by a seed."""

    elastic: ElasticParams | None
    affine: AffineParams
    flipped: bool
    stripped: int
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    texture: float
    bias: BiasFieldParams | None
    blur_mm: Triple
    acquired_mm: Triple
    noise: float
    gamma: float
    low_cut: Triple
    high_cut: Triple
    seed: int


class Synthesiser:
    """Synthesises scans and their labels from label maps; replaces an `Augmenter` in training.

    Args:
        spec: the ranges.
        table: what the maps' indices are.
        spacing_mm: voxel size of the scans that are made.
        map_spacing_mm: voxel size of the label maps, canonical (RAS+) axes.
    """

    def __init__(
        self,
        spec: SynthesisSpec,
        table: TissueTable,
        spacing_mm: Sequence[float],
        map_spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        if spec.flip_probability > 0:
            flip.require_twins((flip.LEFT_RIGHT,), table.structures)
        self.spec, self.table = spec, table
        self.spacing_mm = tuple(float(s) for s in spacing_mm)
        self.zoom = torch.tensor(
            [a / b for a, b in zip(self.spacing_mm, map_spacing_mm, strict=True)], dtype=torch.float64
        )
        self.swapped = flip.swapped_indices(table.structures)
        self.targets = torch.tensor(table.targets, dtype=torch.uint8)
        self.classes = torch.tensor(table.classes)

    def target(self, labels: Tensor) -> Tensor:
        """Target indices of generation indices, same shape."""
        return self.targets[labels.int()]

    def source_shape(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels of a map that a scan of `patch_shape` spans."""
        return tuple(round(n * z) for n, z in zip(patch_shape, self.zoom.tolist(), strict=True))

    def draw(
        self,
        generator: torch.Generator,
        image: Tensor,
        labels: Tensor,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
        progress: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """`sample` and `apply` in one: a scan (1, i, j, k) and its target (i, j, k); maps have no image."""
        return self.apply(self.sample(generator, patch_shape, progress), labels, centre_voxels, patch_shape)

    def sample(
        self, generator: torch.Generator, patch_shape: Sequence[int], progress: float = 1.0
    ) -> SynthesisParams:
        """Draw one scan of `patch_shape` voxels, at a share of the training done (for the curriculum)."""
        spec, draw = self.spec, _Draw(generator)
        easy = spec.curriculum > 0 and draw.chance(1.0 - progress / spec.curriculum)
        if easy:
            spec = replace(spec, realistic=1.0, coarse=0.0, stripped=0.0, cut=0.0)
        bends = elastic.sample(spec.elastic, generator, patch_shape, self.spacing_mm)
        chosen = draw.chance(spec.elastic.probability)
        means, spreads = self._intensities(draw, spec, ("t1",) if easy else spec.contrasts)
        coarse_one, coarse_all = draw.chance(spec.coarse), draw.chance(0.4)
        acquired = _acquired(draw, spec, self.spacing_mm, coarse_one, coarse_all)
        cut = draw.chance(spec.cut)
        ends = [draw.between((0.0, 0.35)) if cut and draw.chance(0.4) else 0.0 for _ in range(6)]
        bias = contrast.sample(ContrastSpec(bias_field=spec.bias), generator, patch_shape, self.spacing_mm, 1)
        return SynthesisParams(
            elastic=bends if chosen else None,
            affine=affine.sample(spec.affine, generator, patch_shape),
            flipped=draw.chance(spec.flip_probability),
            stripped=(1 + draw.chance(0.5)) if draw.chance(spec.stripped) else 0,
            means=means,
            spreads=spreads,
            texture=draw.between(spec.texture),
            bias=bias.bias_field,
            blur_mm=(draw.between(spec.blur_mm),) * 3,
            acquired_mm=acquired,
            noise=draw.between(spec.noise),
            gamma=draw.between(spec.gamma, logarithmic=True),
            low_cut=(ends[0], ends[1], ends[2]),
            high_cut=(ends[3], ends[4], ends[5]),
            seed=int(torch.randint(2**31 - 1, (), generator=generator)),
        )

    @torch.no_grad()
    def apply(
        self,
        params: SynthesisParams,
        labels: Tensor,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """The scan that `params` describe.

        Args:
            params: drawn for this shape.
            labels: generation indices (I, J, K) uint8.
            centre_voxels: of the patch, in the map.
            patch_shape: (i, j, k) voxels of the scan.

        Returns:
            Image (1, i, j, k) float32 in [0, 1], and target indices (i, j, k) uint8.
        """
        tissue = self._placed(params, labels, centre_voxels, patch_shape)
        target = self.target(tissue)
        if params.flipped:
            axes = (flip.LEFT_RIGHT,)
            tissue, target = torch.flip(tissue, axes), flip.flip_labels(target, axes, self.swapped)
        if params.stripped:
            keep = target > 0
            if params.stripped == 2 and self.table.outer_fluid:
                keep &= tissue != self.table.outer_fluid
            tissue, target = tissue * keep, target * keep
        image = self._painted(params, tissue)
        image = self._acquired(params, image)
        return self._cut(params, image, target)

    def _placed(
        self, params: SynthesisParams, labels: Tensor, centre: Sequence[float], shape: Sequence[int]
    ) -> Tensor:
        control, bases = warp.spatial_control(params.elastic, params.affine, shape, self.spacing_mm)
        control = control * self.zoom + torch.tensor([float(c) for c in centre], dtype=torch.float64)
        none = labels.new_empty((0, *labels.shape), dtype=torch.float32)
        return warp.read(none, labels, control, bases)[1]  # type: ignore[return-value]

    def _painted(self, params: SynthesisParams, tissue: Tensor) -> Tensor:
        """Every voxel N(mean, spread) of its class; part of the deviation is smooth, as tissue is."""
        seeded = torch.Generator().manual_seed(params.seed)
        deviation = torch.randn(tissue.shape, generator=seeded)
        if params.texture > 0:
            smooth = contrast.blur(deviation[None], (1.2,), (1.0, 1.0, 1.0))[0]
            deviation.lerp_(smooth.mul_(1 / smooth.std().clamp_min(1e-6)), params.texture)
        index = tissue.int()
        means = torch.tensor(params.means)[self.classes]
        spreads = torch.tensor(params.spreads)[self.classes]
        return deviation.mul_(spreads[index]).add_(means[index]).clamp_min_(0.0)[None]

    def _acquired(self, params: SynthesisParams, image: Tensor) -> Tensor:
        """Shading, blur, the scanner's own voxels with their noise, and back."""
        if params.bias is not None:
            image = contrast.bias_field(image, params.bias, self.spacing_mm)
        matrices = [
            _profile_matrix(n, blur, acquired, mm)
            for n, blur, acquired, mm in zip(
                image.shape[1:], params.blur_mm, params.acquired_mm, self.spacing_mm, strict=True
            )
        ]
        image = contrast.along_axes(image, [m[0] for m in matrices])
        image = contrast.noise(image, (params.noise,), params.seed + 1)
        image = contrast.along_axes(image, [m[1] for m in matrices])
        low, high = _range(image)
        return image.sub_(low).mul_(1 / max(high - low, 1e-6)).clamp_(0.0, 1.0).pow_(params.gamma)

    def _cut(self, params: SynthesisParams, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing beyond the field of view: black, and no structure."""
        for axis, (low, high) in enumerate(zip(params.low_cut, params.high_cut, strict=True)):
            n = target.shape[axis]
            for start, count in ((0, round(low * n)), (n - round(high * n), round(high * n))):
                image.narrow(axis + 1, start, count).zero_()
                target.narrow(axis, start, count).zero_()
        return image, target

    def _intensities(
        self, draw: _Draw, spec: SynthesisSpec, contrasts: Sequence[str]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and spread of each intensity class."""
        count = max(self.table.classes) + 1
        means = [draw.between((0.05, 1.0)) for _ in range(count)]
        spreads = [draw.between(spec.spread) for _ in range(count)]
        realistic, which = draw.chance(spec.realistic), draw.between((0.0, 1.0))
        if realistic:
            typical = BRIGHTNESS[contrasts[min(int(which * len(contrasts)), len(contrasts) - 1)]]
            for tissue in self.table.tissues:
                if tissue.like:
                    wobble = WOBBLE * draw.normal()
                    means[tissue.intensity_class] = max(0.0, typical[tissue.like] + wobble)
            spreads = [s / 2 for s in spreads]
        if realistic or draw.chance(spec.dark_air):
            means[0], spreads[0] = draw.between((0.0, 0.04)), draw.between((0.0, 0.03))
        return tuple(means), tuple(spreads)


def whole_scan(
    spec: SynthesisSpec,
    table: TissueTable,
    indices: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    seed: int,
    acquired_mm: Triple | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A scan of a whole map at its own voxel size, its anatomy unchanged except for a rotation and a flip.

    Args:
        spec: the ranges of all else; nothing is cut.
        table: what the indices are.
        indices: generation indices (I, J, K).
        spacing_mm: of the map, and of the scan.
        seed: decides the scan.
        acquired_mm: voxel size of the scanner, in place of one that is drawn.

    Returns:
        Image (1, I, J, K) in [0, 1], and target indices (I, J, K).
    """
    still = replace(spec.affine, scale=(1.0, 1.0), shear=0.0)
    spec = replace(spec, cut=0.0, affine=still, elastic=replace(spec.elastic, probability=0.0))
    maker = Synthesiser(spec, table, spacing_mm, spacing_mm)
    shape = indices.shape
    params = maker.sample(torch.Generator().manual_seed(seed), shape)
    if acquired_mm is not None:
        params = replace(params, acquired_mm=acquired_mm)
    centre = [(n - 1) / 2 for n in shape]
    image, target = maker.apply(params, torch.from_numpy(indices), centre, shape)
    return image.numpy(), target.numpy()


class _Draw:
    """Random numbers from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def between(self, limits: Range, *, logarithmic: bool = False) -> float:
        low, high = limits
        share = float(torch.rand((), generator=self.generator, dtype=torch.float64))
        return low * (high / low) ** share if logarithmic else low + (high - low) * share

    def chance(self, probability: float) -> bool:
        return self.between((0.0, 1.0)) < probability

    def normal(self) -> float:
        return float(torch.randn((), generator=self.generator, dtype=torch.float64))


def _acquired(
    draw: _Draw, spec: SynthesisSpec, spacing_mm: Sequence[float], coarse: bool, isotropic: bool
) -> Triple:
    """Voxel size the scan is acquired with, along each axis; never finer than the result's."""
    axis, thick, size = (
        int(draw.between((0.0, 3.0))),
        draw.between(spec.slice_mm),
        draw.between(spec.voxel_mm),
    )
    found = list(spacing_mm)
    if coarse:
        for n in range(3):
            wanted = size if isotropic else (thick if n == min(axis, 2) else 0.0)
            found[n] = max(found[n], wanted)
    return found[0], found[1], found[2]


def _profile_matrix(
    voxels: int, blur_mm: float, acquired_mm: float, spacing_mm: float
) -> tuple[Tensor | None, Tensor | None]:
    """Along one axis: blur and averaging over the acquired voxels, and linear interpolation back."""
    blurring = contrast.gaussian_matrix(voxels, blur_mm / spacing_mm)
    thick = contrast.thick_voxel_matrices(voxels, acquired_mm / spacing_mm)
    if thick is None:
        return blurring, None
    down, up = thick
    return (down if blurring is None else down @ blurring), up


def _range(image: Tensor) -> tuple[float, float]:
    """Percentiles 0.5 and 99.5, as the preparation of a real scan takes them."""
    step = STATISTICS_STRIDE
    values = image[:, ::step, ::step, ::step].flatten().sort().values
    last = len(values) - 1
    return float(values[int(0.005 * last)]), float(values[int(0.995 * last)])
