"""A network that finds objects one by one, beside the label map of all; see `zoo` for the published ones.

An encoder and a feature pyramid serve two branches: one gives logits of the structures at every voxel, as
others do, the other finds objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError, did_you_mean, unknown_name
from medseg.instances.choice import Choice
from medseg.instances.detecting import Finder, Instance, Lesson, Outputs
from medseg.model.spec import Norm, Option
from medseg.networks.decoders.pyramid_sum import PyramidSum
from medseg.networks.decoders.score import Score
from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build, Stem
from medseg.networks.layers import Enlarge, Segmenter, SpatialDims, gate_of, he_init
from medseg.networks.necks.feature_pyramid import FeaturePyramid
from medseg.networks.necks.stack import Stack
from medseg.networks.parts import Maps, Style, keyword_types, keywords_of, require_sizes

Branch = Literal["pyramid_sum", "stack", "score"]
Part = Callable[..., Any]


class Row(NamedTuple):
    """A published network that finds objects.

    Attributes:
        finder: the heads of objects.
        regions: what is said of a proposed box; None for networks of one stage.
        branch: of the label map: Panoptic FPN's, that of UPSNet, or a single convolution.
        bottom_up: whether the pyramid has PANet's second path.
        encoder: the paper's, by name.
    """

    finder: Part
    regions: Part | None = None
    branch: Branch = "pyramid_sum"
    bottom_up: bool = False
    encoder: str = "resnet50"


class LabelBranch(nn.Module):
    """Logits of the structures, of a pyramid.

    Args:
        style: of its convolutions.
        pyramid: its maps.
        out_channels: structures and the background.
        kind: see `Row`.
    """

    def __init__(self, style: Style, pyramid: Maps, out_channels: int, kind: Branch) -> None:
        super().__init__()
        self.levels = slice(1) if kind == "score" else slice(None)
        self.stack = Stack(style, pyramid, out_channels) if kind == "stack" else None
        if kind == "pyramid_sum":
            decoder: Any = PyramidSum(style, pyramid, out_channels, head=pyramid.widths[0])
        elif self.stack is not None:
            decoder = Score(style, self.stack.maps, out_channels, share=4, score_dropout=0.0)
        else:
            decoder = Score(style, pyramid.taken((0,)), out_channels, score_dropout=0.0)
        self.decoder = decoder
        self.enlarge = Enlarge(decoder.stride, "linear")

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """(B, K + 1, *S)."""
        maps = pyramid[self.levels] if self.stack is None else self.stack(pyramid)
        out: Tensor = self.enlarge(self.decoder(maps))
        return out


class Detector(Segmenter):
    """See the module.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: structures and the background, K + 1; the structures exclude one another.
        widths: channels of the encoder's stages; () for the paper's.
        norm: of encoder, pyramid and the label map's branch.
        strides: of the encoder's stages per axis; () for 2 everywhere.
        encoder: another than the paper's, by name.
        width: channels of the pyramid.
        stem: "paper", or "volume" for an encoder that keeps small structures; "" for the paper's in two
            dimensions, and the volume's in three.
        settings: keywords of the finder, such as `levels` or `depth`.

    Raises:
        UsageError: an argument is not valid for these parts.
    """

    row: ClassVar[Row]

    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (),
        norm: Norm = "batch",
        strides: Sequence[Sequence[int]] = (),
        encoder: str = "",
        width: int = 256,
        stem: Stem | Literal[""] = "",
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims)
        _require_settings(self.row, settings)
        style = Style(spatial_dims, norm)
        own_stem: Stem = stem or ("paper" if spatial_dims == 2 else "volume")
        build = Build(style, in_channels, tuple(widths), (), strides, 0, own_stem)
        name = encoder or self.row.encoder
        if name not in ENCODERS:
            raise unknown_name("encoder", name, ENCODERS)
        self.encoder = ENCODERS[name](build)
        found: Maps = self.encoder.maps
        self.gate = gate_of(in_channels, (tuple(max(s) for s in zip(*found.strides, strict=True)),))
        self.neck = FeaturePyramid(style, found, out_channels, width=width, bottom_up=self.row.bottom_up)
        pyramid = self.neck.maps
        self.labels = LabelBranch(style, pyramid, out_channels, self.row.branch)
        self.finder: Finder = _finder(self.row, style, pyramid, out_channels - 1, settings)
        he_init(self)
        self.finder.begin()

    @classmethod
    def keywords(cls, options: Mapping[str, Option]) -> dict[str, Any]:
        """The options there are with the parts of this network, and the type of each."""
        known = keyword_types(cls)
        for part in _parts(cls.row):
            known |= keyword_types(part)
        return known

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K + 1, *S) of the structures, of an image (B, C, *S)."""
        out: Tensor = self.labels(self.neck(self.encoder(self.gate(x))))
        return out

    def taught(self, x: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Logits (B, K + 1, *S) of an image (B, C, *S), and the loss of its objects."""
        outputs = self._outputs(x)
        with torch.autocast(x.device.type, enabled=False):
            return outputs.semantic, self.finder.teach(outputs, lesson)

    @torch.no_grad()
    def found(self, x: Tensor, choice: Choice) -> list[list[Instance]]:
        """The objects of each patch (B, C, *S), the highest score first."""
        return self.finder.find(self._outputs(x), choice)

    def _outputs(self, x: Tensor) -> Outputs:
        """What all branches say."""
        pyramid = self.neck(self.encoder(self.gate(x)))
        dense, more = self.finder.say(pyramid)
        more = pyramid[0][:, :0] if more is None else more
        return Outputs(self.labels(pyramid), pyramid, dense, more).float()


def _parts(row: Row) -> list[Part]:
    return [row.finder] if row.regions is None else [row.finder, row.regions]


def _finder(row: Row, style: Style, pyramid: Maps, classes: int, settings: Mapping[str, Any]) -> Finder:
    """The heads of objects, with the settings that each part knows."""
    made: list[Any] = []
    for part in reversed(_parts(row)):
        known = {p.name for p in keywords_of(part)}
        given = {name: value for name, value in settings.items() if name in known}
        made.append(part(style, pyramid, classes, *made, **given))
    return cast(Finder, made[-1])


def _require_settings(row: Row, settings: Mapping[str, Any]) -> None:
    keywords = [p for part in _parts(row) for p in keywords_of(part)]
    known = {p.name for p in keywords}
    for name in settings:
        if name not in known:
            raise UsageError(f"there is no setting {name!r} with these parts", hint=did_you_mean(name, known))
    require_sizes(settings, {p.name for p in keywords if p.default == 0})
