"""Networks by name."""

from __future__ import annotations

import inspect

from medseg.errors import UsageError
from medseg.model import NetworkSpec
from medseg.networks.fast_unet import FastUNet
from medseg.networks.layers import Segmenter
from medseg.networks.unet3d import UNet3D
from medseg.networks.vnet import VNet

NETWORKS: dict[str, type[Segmenter]] = {"unet3d": UNet3D, "vnet": VNet, "fast_unet": FastUNet}


def build(spec: NetworkSpec) -> Segmenter:
    """The network of a spec, its weights drawn from the global generator of torch.

    What the spec leaves empty is the paper's.

    Raises:
        UsageError: the name or an option is unknown, or the arguments make no network.
    """
    if spec.name not in NETWORKS:
        raise UsageError(f"no network named {spec.name!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[spec.name]
    shared = {"widths": spec.widths, "norm": spec.norm, "kernels": spec.kernels, "strides": spec.strides}
    known = set(inspect.signature(network).parameters) - {
        "spatial_dims",
        "in_channels",
        "out_channels",
        *shared,
    }
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise UsageError(f"{spec.name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if spec.spatial_dims not in (2, 3):
        raise UsageError(f"a network has 2 or 3 spatial dims, not {spec.spatial_dims}")
    given = {name: value for name, value in shared.items() if value}
    return network(spec.spatial_dims, spec.in_channels, spec.out_channels, **given, **spec.options)  # type: ignore[call-arg]
