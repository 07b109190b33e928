"""Augmenter: parameters sampled first, applied second, image and labels through one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from medseg.augment import affine, coarse, contrast, elastic, flip, published, warp
from medseg.augment.affine import AffineParams
from medseg.augment.coarse import CoarseParams
from medseg.augment.contrast import ContrastParams
from medseg.augment.elastic import ElasticParams
from medseg.augment.published import MeshParams, NoiseParams, PublishedParams
from medseg.augment.spec import ELASTIC_PRESETS, AffineSpec, AugmentSpec, CoarseSpec, ElasticSpec
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet
from medseg.model.spec import coarse_twins

LABELS = (torch.uint8, torch.int32)
"""Types of labels: of indices, and of what says more of a voxel than its index."""


@dataclass(frozen=True)
class Params:
    """All random parameters of one patch; `dataclasses.asdict` makes plain values of them, ready for JSON."""

    elastic: ElasticParams | MeshParams | NoiseParams | None = None
    affine: AffineParams | None = None
    flips: tuple[int, ...] = ()
    contrast: ContrastParams = field(default_factory=ContrastParams)
    coarse: CoarseParams = CoarseParams()

    @property
    def moves_nothing(self) -> bool:
        """True when every voxel stays where it is, flips aside."""
        still = self.elastic is None or self.elastic.moves_nothing
        return still and (self.affine is None or self.affine == AffineParams())


class Augmenter:
    """Samples random changes, and reads the augmented patch from a volume in one interpolation.

    Args:
        spec: what may happen, and how often.
        structures: what the labels mean; a left-right flip exchanges twins.
        spacing_mm: voxel size of the volumes, canonical (RAS+) axes.
        coarse: what may happen to what a coarse stage found, where the last channels of the volumes are
            that: a probability of each structure. Intensities change in the others only.

    Raises:
        UsageError: the spec flips left and right, and a structure has a side but no twin.

    >>> from medseg.core.structures import from_labels
    >>> augmenter = Augmenter(AugmentSpec(), from_labels({1: "liver"}), (1.0, 1.0, 1.0))
    >>> augmenter.sample(torch.Generator().manual_seed(0), (4, 4, 4)) == Params()
    True
    """

    def __init__(
        self,
        spec: AugmentSpec,
        structures: StructureSet,
        spacing_mm: tuple[float, float, float],
        coarse: CoarseSpec | None = None,
    ) -> None:
        if spec.flip is not None and spec.flip.probability > 0:
            flip.require_twins(spec.flip.axes, structures)
        self.spec = spec
        self.spacing_mm = spacing_mm
        self.swapped = flip.swapped_indices(structures)
        self.structures = structures
        self.coarse = coarse
        self.coarse_twins = coarse_twins(structures) if coarse else ()

    def target(self, labels: Tensor) -> Tensor:
        """The labels unchanged: they are the training target."""
        return labels

    def source_shape(self, patch_shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels of the volume that a patch spans: its own."""
        return tuple(patch_shape)

    def draw(
        self,
        generator: torch.Generator,
        image: Tensor,
        labels: Tensor,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
        progress: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """`sample` and `apply` in one: a changed patch (C, i, j, k) and its labels (i, j, k)."""
        params = self.sample(generator, patch_shape, len(image))
        patch, cut = self.apply(params, image, labels, centre_voxels, patch_shape)
        return patch, cast(Tensor, cut)

    def sample(self, generator: torch.Generator, patch_shape: Sequence[int], channels: int = 1) -> Params:
        """Draw the changes for one patch.

        Args:
            generator: its state decides everything; the same state gives the same params.
            patch_shape: (I, J, K) voxels; nothing moves along an axis of one voxel.
            channels: intensity changes are drawn for each that is an image.
        """
        spec = self.spec
        bends, moves = (
            part is not None
            and float(torch.rand((), generator=generator, dtype=torch.float64)) < _probability(part)
            for part in (spec.elastic, spec.affine)
        )
        return Params(
            self._sample_elastic(spec.elastic, generator, patch_shape) if spec.elastic and bends else None,
            affine.sample(spec.affine, generator, patch_shape) if spec.affine and moves else None,
            flip.sample(spec.flip, generator) if spec.flip else (),
            contrast.sample(
                spec.contrast, generator, patch_shape, self.spacing_mm, channels - len(self.coarse_twins)
            ),
            coarse.sample(self.coarse, generator, len(self.structures)) if self.coarse else CoarseParams(),
        )

    def _sample_elastic(
        self, spec: ElasticSpec | str, generator: torch.Generator, patch_shape: Sequence[int]
    ) -> ElasticParams | MeshParams | NoiseParams:
        if isinstance(spec, str):
            return published.sample(spec, generator, patch_shape, self.spacing_mm)
        return elastic.sample(spec, generator, patch_shape, self.spacing_mm)

    @torch.no_grad()
    def apply(
        self,
        params: Params,
        image: Tensor,
        labels: Tensor | None,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
    ) -> tuple[Tensor, Tensor | None]:
        """Read the patch `params` describe.

        Where nothing moves, the result is the plain crop, bit for bit.

        Args:
            params: drawn for a patch of this shape.
            image: (C, I, J, K) float32.
            labels: label indices (I, J, K) uint8 (see `StructureSet.encode`), or int32 of which they are the
                remainder by 256, or None.
            centre_voxels: centre of the patch in the volume; the patch lies on whole voxels, a
                centre that would put it between two is rounded up.
            patch_shape: (i, j, k) voxels; parts beyond the volume show its edge, and background.

        Returns:
            Image (C, i, j, k) float32 and labels (i, j, k), in memory of their own.

        Raises:
            UsageError: shapes or types do not fit, `params` were drawn for a smaller patch (a field as
                published: for any other), or flip left and right where that would misname a structure.
        """
        _check(image, labels, patch_shape)
        flip.require_twins(params.flips, self.structures)
        patch, cut = self._read(params, image, labels, centre_voxels, patch_shape)
        patch = flip.flip_image(patch, params.flips)
        if cut is not None:
            cut = flip.flip_labels(cut, params.flips, self.swapped)
        if not self.coarse_twins:
            return contrast.apply(params.contrast, patch, self.spacing_mm), cut
        images = len(patch) - len(self.coarse_twins)
        found = coarse.swapped(patch[images:], params.flips, self.coarse_twins)
        image = contrast.apply(params.contrast, patch[:images], self.spacing_mm)
        return torch.cat([image, coarse.apply(params.coarse, found)]), cut

    def _read(
        self,
        params: Params,
        image: Tensor,
        labels: Tensor | None,
        centre_voxels: Sequence[float],
        patch_shape: Sequence[int],
    ) -> tuple[Tensor, Tensor | None]:
        bends = params.elastic
        if isinstance(bends, PublishedParams):
            bends.require(patch_shape)
        start = warp.patch_start(centre_voxels, patch_shape)
        if params.moves_nothing:
            return warp.crop(image, labels, start, patch_shape)
        middle = [s + (n - 1) / 2 for s, n in zip(start, patch_shape, strict=True)]
        centre = torch.tensor(middle, dtype=torch.float64)
        if isinstance(bends, NoiseParams):
            positions = warp.dense_positions(bends.field(), params.affine, self.spacing_mm)
            return warp.read_dense(image, labels, positions + centre.float())
        control, bases = warp.spatial_control(bends, params.affine, patch_shape, self.spacing_mm)
        return warp.read(image, labels, control + centre, bases)


def _check(image: Tensor, labels: Tensor | None, patch_shape: Sequence[int]) -> None:
    if image.ndim != 4 or image.dtype != torch.float32:
        raise UsageError(f"the image must be (C, I, J, K) float32, not {tuple(image.shape)} {image.dtype}")
    if labels is not None and (labels.shape != image.shape[1:] or labels.dtype not in LABELS):
        raise UsageError(
            f"labels must be {tuple(image.shape[1:])} uint8 or int32 like the image, "
            f"not {tuple(labels.shape)} {labels.dtype}"
        )
    if len(patch_shape) != 3 or min(patch_shape) < 1:
        raise UsageError(f"a patch needs three positive sizes, not {tuple(patch_shape)}")


def _probability(part: ElasticSpec | AffineSpec | str) -> float:
    return ELASTIC_PRESETS[part] if isinstance(part, str) else part.probability
