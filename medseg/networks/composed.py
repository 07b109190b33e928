"""A network put together from an encoder, a neck, a context and a decoder, each chosen by name.

The image passes the encoder, whose maps pass the neck; the context changes the last map, the decoder makes
logits of all, and these are interpolated linearly to the image's grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, cast

from torch import Tensor

from medseg.core.errors import UsageError, did_you_mean, unknown_name
from medseg.model.spec import Norm, Option
from medseg.networks.contexts import CONTEXTS
from medseg.networks.contexts.smoothed_dilation import Smoothing, smooth_dilations
from medseg.networks.decoders import DECODERS
from medseg.networks.decoders.score import Score
from medseg.networks.encoders import ENCODERS
from medseg.networks.encoders.encoder import Build, Stem
from medseg.networks.layers import Enlarge, Segmenter, SpatialDims, gate_of, he_init
from medseg.networks.necks import NECKS
from medseg.networks.parts import Answering, Maps, Style, keyword_types, keywords_of, require_sizes, required

AUXILIARY_WEIGHT = 0.4
NONE = "none"
TABLES: dict[str, Mapping[str, Any]] = {
    "encoder": ENCODERS,
    "neck": NECKS,
    "context": CONTEXTS,
    "decoder": DECODERS,
}


class Row(NamedTuple):
    """A published combination of parts.

    Attributes:
        encoder, neck, context, decoder: names in the tables of the parts; "" for none.
        norm: of all parts.
        output_stride: of the encoder; 0 for its own.
        settings: keywords of the parts.
    """

    encoder: str
    neck: str = ""
    context: str = ""
    decoder: str = "score"
    norm: Norm = "batch"
    output_stride: int = 0
    settings: Mapping[str, Any] = {}


class Composed(Segmenter):
    """Encoder, neck, context, decoder; see `zoo` for the published combinations.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of the encoder's stages; () for the paper's.
        norm: of every part; "" for the paper's.
        kernels: of the encoder's stages per axis; () for the paper's.
        strides: of the encoder's stages per axis; () for 2 everywhere.
        encoder, neck, context, decoder: other parts than the paper's, by name; "none" for none.
        output_stride: no map of the encoder is coarser; 0 for the paper's.
        stem: "paper", or "volume" for an encoder that keeps small structures: a stem of 3 voxels without
            pooling; "" for the paper's in two dimensions, and the volume's in three.
        auxiliary: a second head in training, on the last map but one of the encoder.
        smoothing: of dilated convolutions, "shared" or "interaction"; see `contexts.smoothed_dilation`.
        settings: keywords of the parts, such as `rates`, `width` or `bins`.

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
        norm: Norm | Literal[""] = "",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        encoder: str = "",
        neck: str = "",
        context: str = "",
        decoder: str = "",
        output_stride: int = 0,
        stem: Stem | Literal[""] = "",
        auxiliary: bool = False,
        smoothing: Smoothing = "",
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims)
        names = _names(self.row, {"encoder": encoder, "neck": neck, "context": context, "decoder": decoder})
        _require_settings(names, settings)
        given = {**self.row.settings, **settings}
        style = Style(spatial_dims, norm or self.row.norm)
        build = Build(
            style,
            in_channels,
            tuple(widths),
            kernels,
            strides,
            output_stride or self.row.output_stride,
            stem or ("paper" if spatial_dims == 2 else "volume"),
        )
        self.encoder = _made("encoder", names, given)(build)
        found: Maps = self.encoder.maps
        coarsest = max(max(stride) for stride in found.strides)
        required(
            output_stride in (0, coarsest),
            f"output_stride must be one of the encoder's, such as {max(coarsest, 2)}, not {output_stride}",
        )
        self.gate = gate_of(in_channels, (tuple(max(s) for s in zip(*found.strides, strict=True)),))
        self.auxiliary = Score(style, found.taken((-2,)), out_channels, share=4) if auxiliary else None
        self.neck = _made("neck", names, given)(style, found, out_channels) if names["neck"] else None
        found = found if self.neck is None else cast(Maps, self.neck.maps)
        self.context = None
        if names["context"]:
            self.context = _made("context", names, given)(style, found, out_channels)
            found = Maps((*found.widths[:-1], cast(int, self.context.channels)), found.strides)
        self.decoder = _made("decoder", names, given)(style, found, out_channels)
        self.enlarge = Enlarge(cast("tuple[int, ...]", self.decoder.stride), "linear")
        if smoothing:
            smooth_dilations(self, smoothing)
        he_init(self)
        if hasattr(self.decoder, "begin"):
            self.decoder.begin()

    @classmethod
    def keywords(cls, options: Mapping[str, Option]) -> dict[str, Any]:
        """The options there are with the parts that these choose, and the type of each."""
        known = keyword_types(cls)
        chosen = {name: str(options.get(name, "")) for name in TABLES}
        for part, name in _names(cls.row, chosen).items():
            known |= keyword_types(TABLES[part][name]) if name else {}
        return known

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        maps = self._necked(self.encoder(self.gate(x)))
        if self.context is not None:
            maps = [*maps[:-1], self.context(maps[-1])]
        return cast(Tensor, self.enlarge(self.decoder(maps)))

    def _necked(self, maps: list[Tensor]) -> list[Tensor]:
        return maps if self.neck is None else cast("list[Tensor]", self.neck(maps))

    @property
    def head_weights(self) -> tuple[float, ...]:
        """Of the final head, those of the context, and the auxiliary one, as the papers weigh them."""
        further = self.context.answer_weights if isinstance(self.context, Answering) else ()
        weights = (1.0, *further, *((AUXILIARY_WEIGHT,) if self.auxiliary is not None else ()))
        return tuple(weight / sum(weights) for weight in weights)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K, *S / scale) of every head, the final one first."""
        maps = self.encoder(self.gate(x))
        last = [] if self.auxiliary is None else [self.auxiliary(maps[:-1])]
        maps = self._necked(maps)
        between: list[Tensor] = []
        if isinstance(self.context, Answering):
            deepest, between = self.context.answers(maps[-1])
            maps = [*maps[:-1], deepest]
        elif self.context is not None:
            maps = [*maps[:-1], self.context(maps[-1])]
        return [self.enlarge(self.decoder(maps)), *between, *last]


def _require_settings(names: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Refuse what no part has, and numbers that are no sizes.

    Raises:
        UsageError: there is one.
    """
    keywords = [p for part, name in names.items() if name for p in keywords_of(TABLES[part][name])]
    unknown = sorted(set(settings) - {p.name for p in keywords})
    if unknown:
        raise UsageError(
            f"{' and '.join(filter(None, names.values()))} have no setting {', '.join(unknown)}",
            hint=did_you_mean(unknown[0], sorted(p.name for p in keywords)),
        )
    require_sizes(settings, {"skips", *(p.name for p in keywords if p.default == 0)})


def _names(row: Row, chosen: Mapping[str, str]) -> dict[str, str]:
    """The part of each kind; "" for none."""
    names = {part: chosen[part] or getattr(row, part) for part in TABLES}
    names = {part: "" if name == NONE else name for part, name in names.items()}
    for part, name in names.items():
        if name and name not in TABLES[part]:
            raise unknown_name(part, name, TABLES[part])
    for part in ("encoder", "decoder"):
        if not names[part]:
            raise UsageError(f"a network without {part} cannot be built")
    return names


def _made(kind: str, names: Mapping[str, str], given: Mapping[str, Any]) -> Any:
    """The part's constructor, given the settings that it has."""
    part = TABLES[kind][names[kind]]
    own = {name: value for name, value in given.items() if name in keyword_types(part)}
    return lambda *arguments: part(*arguments, **own)
