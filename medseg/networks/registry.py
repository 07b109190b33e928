"""Networks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from medseg.core.errors import UsageError, did_you_mean
from medseg.core.registry import Registry
from medseg.core.structuring import Misfit, structured
from medseg.model.spec import DETECTORS, NetworkSpec
from medseg.networks import monai
from medseg.networks.layers import Segmenter

if TYPE_CHECKING:
    from medseg.model.spec import Norm, Option
    from medseg.networks.on_top import OnTop

COMPOSED = (
    "fcn32s", "fcn16s", "fcn8s", "deconvnet", "segnet", "ternausnet", "unet_encoder", "linknet", "sharpmask",
    "deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3plus", "pspnet", "danet", "mssa", "fastfcn", "gcn",
    "fpn", "hrnet", "hrnet_ocr", "spinenet_fpn",
)  # fmt: skip
"""Rows of `networks.zoo`, which is imported when one is asked for."""

NETWORKS = Registry[type[Segmenter]](
    "network",
    "medseg.networks",
    {
        "unet3d": "medseg.networks.unet3d:UNet3D",
        "vnet": "medseg.networks.vnet:VNet",
        "fast_unet": "medseg.networks.fast_unet:FastUNet",
        "unet": "medseg.networks.unet:UNet",
        "unetpp": "medseg.networks.unetpp:UNetPlusPlus",
        "resunet": "medseg.networks.resunet:ResUNet",
        "attention_unet": "medseg.networks.attention_unet:AttentionUNet",
        "plain_unet": "medseg.networks.plain_unet:PlainUNet",
        "tiramisu": "medseg.networks.tiramisu:Tiramisu",
        "gridnet": "medseg.networks.gridnet:GridNet",
        **{name: f"medseg.networks.zoo:{name}" for name in COMPOSED},
        **{name: f"medseg.instances.zoo:{name}" for name in DETECTORS},
    },
    lambda found: isinstance(found, type) and issubclass(found, Segmenter),
)
"""Where the class of each network is defined: one line a network (see docs/extending.md)."""

SCALES, CRF_RNN = "scales", "crf_rnn"
"""Options of every network; see `across_scales` and `crf_rnn`."""
GO_WITH = {
    "fusion": SCALES, "crf_position": CRF_RNN, "crf_intensity": CRF_RNN, "crf_spatial": CRF_RNN,
}  # fmt: skip
"""What says more of one of these."""


def build(spec: NetworkSpec) -> Segmenter:
    """The network of a spec, its weights drawn from the global generator of torch.

    What the spec leaves empty is the paper's.

    Raises:
        UsageError: the name or an option is unknown, or an argument is not valid for this network.
    """
    if spec.spatial_dims not in (2, 3):
        raise UsageError(f"a network has 2 or 3 spatial dimensions, not {spec.spatial_dims!r}")
    for what, number in (("input", spec.in_channels), ("output", spec.out_channels)):
        if not _is_size(number):
            raise UsageError(f"a network has one {what} channel or more, not {number!r}")
    if not all(map(_is_size, spec.widths)):
        raise UsageError(f"widths must be whole numbers of at least 1, not {spec.widths}")
    if spec.name in DETECTORS and (more := {SCALES, CRF_RNN} & set(spec.options)):
        raise UsageError(
            f"{' and '.join(sorted(more))} cannot be put on top of {spec.name}, which finds objects",
            hint="leave it out",
        )
    if CRF_RNN in spec.options:
        from medseg.networks.crf_rnn import CrfRnn

        below, given = _parted(spec, CrfRnn)
        return CrfRnn(build(below), spec.in_channels, spec.out_channels, **given)
    if SCALES in spec.options:
        from medseg.networks.across_scales import AcrossScales

        below, given = _parted(spec, AcrossScales)
        outputs = spec.out_channels + len(further_outputs(spec.options))
        below = replace(below, out_channels=outputs)
        return AcrossScales(build(below), spec.in_channels, **given)
    if spec.name.startswith(monai.PREFIX):
        return monai.build(spec)
    network = NETWORKS.find(spec.name, f"{monai.PREFIX}NAME")
    shared = {"widths": spec.widths, "norm": spec.norm, "kernels": spec.kernels, "strides": spec.strides}
    given = {name: value for name, value in shared.items() if value}
    types = network.keywords(spec.options)
    foreign = sorted(set(given) - set(types))
    if foreign:
        raise UsageError(f"{spec.name} takes no {', '.join(foreign)}", hint="leave it out")
    own = set(types) - {"spatial_dims", "in_channels", "out_channels", *shared}
    _check_options(spec, {name: types[name] for name in own})
    return network(spec.spatial_dims, spec.in_channels, spec.out_channels, **given, **spec.options)  # type: ignore[call-arg]


def _is_size(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def further_outputs(options: Mapping[str, Option]) -> tuple[str, ...]:
    """What the last layer has beside an output for each structure: the attention of scales, or nothing."""
    return ("attention",) if SCALES in options else ()


def _parted(spec: NetworkSpec, top: type[OnTop]) -> tuple[NetworkSpec, dict[str, Any]]:
    """The network below, and the options of what is on top of it."""
    types = top.options()
    own = {name: value for name, value in spec.options.items() if name in types}
    _check_options(replace(spec, options=own), types)
    return replace(spec, options={k: v for k, v in spec.options.items() if k not in own}), own


def _check_options(spec: NetworkSpec, types: Mapping[str, Any]) -> None:
    """Refuse options the constructor does not have, or of another type."""
    unknown = sorted(set(spec.options) - set(types))
    if unknown:
        known = sorted({*types, SCALES, CRF_RNN})
        hint = (
            f"it goes with {GO_WITH[unknown[0]]}"
            if unknown[0] in GO_WITH
            else did_you_mean(unknown[0], known)
        )
        raise UsageError(f"{spec.name} has no option {', '.join(unknown)}", hint=hint)
    for name, value in spec.options.items():
        try:
            structured(types[name], value)
        except Misfit as fault:
            raise UsageError(f"{spec.name}: {fault.within(name).fault}", hint=fault.hint) from None


def available() -> tuple[str, ...]:
    """Names of the networks that `create` makes; MONAI's are "monai:" and the name of a class.

    >>> "vnet" in available()
    True
    """
    return tuple(sorted(NETWORKS))


def create(
    name: str,
    in_channels: int = 1,
    out_channels: int = 2,
    *,
    spatial_dims: Literal[2, 3] = 3,
    widths: Sequence[int] = (),
    norm: Norm | Literal[""] = "",
    kernels: Sequence[Sequence[int]] = (),
    strides: Sequence[Sequence[int]] = (),
    options: Mapping[str, Option] | None = None,
    **further: Option,
) -> Segmenter:
    """A network by name, with weights drawn from torch's global generator.

    Args:
        name: one of `available`, or "monai:" and the name of a class of `monai.networks.nets`.
        in_channels: of the images (B, C, *S).
        out_channels: of the logits (B, K, *S), including the background if the outputs are exclusive.
        spatial_dims: 2 or 3.
        widths: channels of each level, finest first; () for the paper's.
        norm: "batch", "instance", "group", "layer" or "none"; "" for the paper's.
        kernels: kernel size of each level, per axis; () for the paper's.
        strides: between each level and the next, per axis; () for 2 everywhere.
        options: further keywords of the network's constructor, such as {"dropout": 0.1}; they can be given as
            keywords too: `encoder="resnet50"`.

    Raises:
        UsageError: the name or an option is unknown, or an argument is not valid for this network.

    >>> network = create("vnet", 1, 2, widths=(4, 8), norm="batch")
    >>> type(network).__name__, network.stride
    ('VNet', (2, 2, 2))
    >>> create("vnett")
    Traceback (most recent call last):
    medseg.core.errors.UsageError: the network 'vnett' does not exist; did you mean 'vnet'?
    """
    if twice := sorted(set(options or {}) & set(further)):
        raise UsageError(f"{', '.join(twice)} is given as an option and as a keyword", hint="give it once")
    if not isinstance(name, str):
        raise UsageError(f"a network is chosen by its name, such as 'unet3d', not by {name!r}")
    if isinstance(widths, int):
        raise UsageError(f"widths are the channels of each level, such as (16, 32, 64), not {widths}")
    return build(
        NetworkSpec(
            name,
            in_channels,
            out_channels,
            spatial_dims,
            tuple(widths),
            norm,
            tuple(map(tuple, kernels)),
            tuple(map(tuple, strides)),
            {**(options or {}), **further},
        )
    )
