"""A network that finds objects one by one, beside the label map of all: FCOS with BlendMask's masks.

An encoder and a feature pyramid serve three heads: logits of the structures at every voxel (the branch of
Panoptic FPN), objects at the points of the pyramid, and maps of which the masks of objects are mixtures.

References:
    Tian et al. 2019, arXiv:1904.01355; Chen et al. 2020, arXiv:2001.00309; Kirillov et al. 2019,
    arXiv:1901.02446.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.instances.detecting import Instance, Outputs
from medseg.instances.heads import Bases, DenseHead
from medseg.instances.mixture import Mixture
from medseg.instances.objects import Objects, objects_of
from medseg.instances.one_stage import Choice, Found, PointRule, Said, find, teach
from medseg.model.spec import Norm
from medseg.networks.decoders.pyramid_sum import PyramidSum
from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build, Stem
from medseg.networks.layers import Enlarge, PerAxis, Segmenter, SpatialDims, gate_of, he_init
from medseg.networks.necks.feature_pyramid import FeaturePyramid
from medseg.networks.parts import Maps, Style

MOST_MASKS = 64
"""Points of a patch whose masks are learnt at a step."""


class BlendMask(Segmenter):
    """See the module.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: structures and the background, K + 1; the structures exclude one another.
        encoder: by name.
        widths: channels of its stages; () for the paper's.
        strides: of its stages per axis; () for 2 everywhere.
        norm: of every part; that of the dense head is a group norm, as in FCOS.
        width: channels of the pyramid.
        levels: of the pyramid on which objects are looked for, the coarsest ones.
        depth: convolutions of the dense head.
        bases, bins, attention: see `Mixture`.
        stem: see the encoder.
    """

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet18",
        widths: Sequence[int] = (),
        strides: Sequence[Sequence[int]] = (),
        norm: Norm = "batch",
        width: int = 64,
        levels: int = 3,
        depth: int = 2,
        bases: int = 4,
        bins: int = 12,
        attention: int = 4,
        stem: Stem = "volume",
    ) -> None:
        super().__init__(spatial_dims)
        style = Style(spatial_dims, norm)
        build = Build(style, in_channels, tuple(widths), (), strides, 0, stem)
        self.encoder = ENCODERS[encoder](build)
        found: Maps = self.encoder.maps
        self.gate = gate_of(in_channels, (tuple(max(s) for s in zip(*found.strides, strict=True)),))
        self.neck = FeaturePyramid(style, found, out_channels, width=width)
        pyramid = self.neck.maps
        self.semantic = PyramidSum(style, pyramid, out_channels, head=width, head_norm="group")
        self.enlarge = Enlarge(self.semantic.stride, "linear")
        self.looked = tuple(range(len(pyramid.widths)))[-levels:]
        self.bases = Bases(style, pyramid, count=bases, head=width)
        self.mixture = Mixture(bases, self.bases.stride, bins, attention)
        self.classes = out_channels - 1
        head = Style(spatial_dims, "group")
        self.head = DenseHead(head, width, self.classes, depth=depth, centre=True, more=self.mixture.numbers)
        self.rule = PointRule(tuple(pyramid.strides[n] for n in self.looked))
        he_init(self)
        self.head.begin()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K + 1, *S) of the structures, of an image (B, C, *S)."""
        out: Tensor = self.enlarge(self.semantic(self.neck(self.encoder(self.gate(x)))))
        return out

    def outputs(self, x: Tensor) -> Outputs:
        """What all heads say of an image (B, C, *S)."""
        maps = self.neck(self.encoder(self.gate(x)))
        semantic = self.enlarge(self.semantic(maps))
        return Outputs(semantic, self.head([maps[n] for n in self.looked]), self.bases(maps))

    def loss(self, outputs: Outputs, codes: Tensor) -> Tensor:
        """What the heads of objects have to learn of a batch, beside the loss of the label map.

        Args:
            outputs: of the batch.
            codes: (B, *S), see `instances.objects`.
        """
        objects = [objects_of(one) for one in codes]
        said = Said.of(outputs.dense, self.rule, self.classes)
        total, learns = teach(said, objects, self.rule)
        masks = [
            self._mask_losses(outputs.bases[n], said.more[n], learns[n], codes[n], objects[n])
            for n in range(len(codes))
        ]
        every = torch.cat(masks)
        return total + (every.mean() if len(every) else every.sum())

    def _mask_losses(
        self, bases: Tensor, shares: Tensor, learns: Tensor, codes: Tensor, objects: Objects
    ) -> Tensor:
        """Of each of some points that learn an object."""
        own = torch.nonzero(learns >= 0).flatten()
        if not len(own):
            return bases.new_zeros(0)
        own = own[torch.randperm(len(own), device=own.device)[:MOST_MASKS]]
        at = learns[own]
        wanted = self.mixture.wanted(codes, objects)
        return self.mixture.teach(bases, objects.boxes.to(bases.device)[at], shares[own], wanted[at])

    @torch.no_grad()
    def instances(
        self, outputs: Outputs, shape: PerAxis, choice: Choice | None = None
    ) -> list[list[Instance]]:
        """The objects of each patch of a batch, the highest score first.

        Args:
            outputs: of the batch.
            shape: of a patch, in voxels.
            choice: which boxes are objects.
        """
        said = Said.of(outputs.dense, self.rule, self.classes)
        found = find(said, shape, choice or Choice())
        return [self._masked(one, outputs.bases[n]) for n, one in enumerate(found)]

    def _masked(self, found: Found, bases: Tensor) -> list[Instance]:
        if not len(found.scores):
            return []
        masks = torch.sigmoid(self.mixture.masks(bases, found.boxes, found.more))
        rows = zip(found.boxes, found.classes.tolist(), found.scores.tolist(), masks, strict=True)
        return [Instance(*row) for row in rows]
