"""Networks by name."""

from __future__ import annotations

import inspect
import typing

from medseg.core.errors import UsageError, did_you_mean
from medseg.model.spec import NetworkSpec
from medseg.networks import monai
from medseg.networks.attention_unet import AttentionUNet
from medseg.networks.fast_unet import FastUNet
from medseg.networks.layers import Segmenter
from medseg.networks.plain_unet import PlainUNet
from medseg.networks.resunet import ResUNet
from medseg.networks.unet import UNet
from medseg.networks.unet3d import UNet3D
from medseg.networks.unetpp import UNetPlusPlus
from medseg.networks.vnet import VNet

NETWORKS: dict[str, type[Segmenter]] = {
    "unet3d": UNet3D,
    "vnet": VNet,
    "fast_unet": FastUNet,
    "unet": UNet,
    "unetpp": UNetPlusPlus,
    "resunet": ResUNet,
    "attention_unet": AttentionUNet,
    "plain_unet": PlainUNet,
}


def build(spec: NetworkSpec) -> Segmenter:
    """The network of a spec, its weights drawn from the global generator of torch.

    What the spec leaves empty is the paper's.

    Raises:
        UsageError: the name or an option is unknown, or the arguments make no network.
    """
    if spec.spatial_dims not in (2, 3):
        raise UsageError(f"a network has 2 or 3 spatial dimensions, not {spec.spatial_dims}")
    if spec.name.startswith(monai.PREFIX):
        return monai.build(spec)
    if spec.name not in NETWORKS:
        known = (*NETWORKS, f"{monai.PREFIX}NAME")
        raise UsageError(f"there is no network named {spec.name!r}", hint=did_you_mean(spec.name, known))
    network = NETWORKS[spec.name]
    shared = {"widths": spec.widths, "norm": spec.norm, "kernels": spec.kernels, "strides": spec.strides}
    _check_options(spec, network, {"spatial_dims", "in_channels", "out_channels", *shared})
    given = {name: value for name, value in shared.items() if value}
    return network(spec.spatial_dims, spec.in_channels, spec.out_channels, **given, **spec.options)  # type: ignore[call-arg]


def _check_options(spec: NetworkSpec, network: type[Segmenter], others: set[str]) -> None:
    """Refuse options the constructor does not have, or of another type."""
    known = set(inspect.signature(network).parameters) - others
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise UsageError(
            f"{spec.name} has no option {', '.join(unknown)}", hint=did_you_mean(unknown[0], sorted(known))
        )
    try:
        from pydantic import TypeAdapter, ValidationError
    except ModuleNotFoundError:  # a machine with torch and numpy alone: checked where its pack was made
        return
    types = typing.get_type_hints(network.__init__)
    for name, value in spec.options.items():
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as fault:
            told = fault.errors()[0]["msg"]
            raise UsageError(f"{spec.name}'s option {name} = {value!r}: {told}") from None
