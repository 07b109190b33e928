"""Any network of MONAI by the name of its class: `monai:SegResNet`, `monai:SwinUNETR`, `monai:DynUNet` ...

What such a network sees of its input is not traced, so volumes are predicted by the sliding window.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from medseg.core.errors import UsageError
from medseg.model.spec import NetworkSpec
from medseg.networks.arithmetic import Conv2d
from medseg.networks.layers import InputGate, PerAxis, Segmenter, SpatialDims
from medseg.networks.reach import Reach

PREFIX = "monai:"
STRIDE = 32
"""What an axis must be a multiple of, where the option `stride` says nothing else."""

SHARED = ("spatial_dims", "in_channels", "out_channels")


class MonaiNetwork(Segmenter):
    """A MONAI network as a `Segmenter`.

    Args:
        name: of its class, for messages.
        network: (B, C, *S) -> logits (B, K, *S).
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        stride: what each axis must be a multiple of.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        stride: PerAxis,
    ) -> None:
        super().__init__(spatial_dims)
        none = (0,) * spatial_dims
        self.name, self.out_channels = name, out_channels
        self.gate = InputGate(in_channels, stride, none, none)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S).

        Raises:
            UsageError: the network's output has another shape.
        """
        logits: object = self.network(self.gate(x))
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return logits  # type: ignore[return-value]
        expected = (len(x), self.out_channels, *x.shape[2:])
        if isinstance(logits, Tensor) and logits.shape == expected:
            return logits
        told = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(
            f"{PREFIX}{self.name} returns {told} instead of logits of shape {expected}",
            hint="switch its deep supervision off, or choose a segmentation network",
        )

    @cached_property
    def output_reach(self) -> Reach:
        """None: MONAI networks are not traced."""
        return ()

    @property
    def stride(self) -> PerAxis:
        """What each axis must be a multiple of."""
        return self.gate.stride

    @property
    def receptive_radius(self) -> PerAxis:
        """0, because it is not known; the sliding window does not need it."""
        return (0,) * self.spatial_dims

    @property
    def tile_independent(self) -> bool:
        """False: tile independence is not known."""
        return False


def build(spec: NetworkSpec) -> MonaiNetwork:
    """The network of a spec whose name is `monai:` and a class of `monai.networks.nets`.

    The class is given the channels and spatial dims by the names it has for them, and the options but
    `stride` (default 32): one number or one per axis.

    Raises:
        UsageError: there is no such class, it takes no such option, or an argument is not valid.
    """
    name = spec.name.removeprefix(PREFIX)
    if spec.widths or spec.norm or spec.kernels or spec.strides:
        raise UsageError(
            f"{spec.name} does not take widths, norm, kernels or strides",
            hint="give the settings that MONAI defines under options",
        )
    network_class = _find(name)
    known = list(inspect.signature(network_class).parameters)
    options = {key: value for key, value in spec.options.items() if key != "stride"}
    _require_known(spec.name, options, known)
    shared = {key: getattr(spec, key) for key in SHARED if key in known}
    stride = _stride(spec)
    network = _construct(spec.name, network_class, shared | options)
    return MonaiNetwork(name, network, spec.spatial_dims, spec.in_channels, spec.out_channels, stride=stride)


def _find(name: str) -> type[nn.Module]:
    import monai.networks.nets as nets

    classes = {
        key: value
        for key, value in vars(nets).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    if name in classes:
        return classes[name]
    close = difflib.get_close_matches(name, classes, n=3)
    raise UsageError(
        f"MONAI does not define the network {name!r}",
        hint=f"did you mean {' or '.join(close)}?" if close else "see the list in monai.networks.nets",
    )


def _require_known(name: str, options: Mapping[str, object], known: list[str]) -> None:
    unknown = sorted(set(options) - set(known) | set(options) & set(SHARED))
    if not unknown:
        return
    own = [key for key in known if key not in SHARED]
    close = difflib.get_close_matches(unknown[0], own, n=3)
    raise UsageError(
        f"{name} has no option {', '.join(unknown)}",
        hint=f"did you mean {' or '.join(close)}?" if close else f"choose from stride, {', '.join(own)}",
    )


def _stride(spec: NetworkSpec) -> PerAxis:
    given = spec.options.get("stride", STRIDE)
    axes = tuple(given) if isinstance(given, tuple | list) else (given,) * spec.spatial_dims
    whole = [n for n in axes if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    if not len(whole) == len(axes) == spec.spatial_dims:
        raise UsageError(
            f"the stride of {spec.name} must be one positive integer or {spec.spatial_dims} of them, "
            f"not {given!r}"
        )
    return tuple(whole)


def _construct(name: str, network_class: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    """An instance with our `Conv2d`; what its constructor finds wrong is the user's to hint."""
    try:
        network = network_class(**arguments)
    except (
        TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError, ImportError,
    ) as fault:  # fmt: skip
        raise UsageError(f"{name} cannot be built with {arguments} ({fault})") from None
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Conv2d
    return network
