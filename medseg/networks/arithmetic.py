"""Precisions of a device, and convolutions that the processor's library computes wrongly or not at all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
CONVOLUTION_MODULES = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRIAL_VOXELS = 24
"""Of a trial's map along each axis at most, unless the kernel is larger."""
ROUNDING = 0.05
"""Largest share of a result that is rounding; one of bf16 is wrong by a hundredth at most."""

CONVOLUTIONS = (ATEN.conv2d, ATEN.conv3d, ATEN.conv_transpose2d, ATEN.conv_transpose3d, ATEN.convolution)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether there are instructions for bfloat16; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


class Conv2d(nn.Conv2d):
    """A 2D convolution; one of a single voxel and a stride reads the voxels it needs, then has no stride.

    The gradient of such weights for few channels writes past its memory in oneDNN 3.12, in torch 2.13, in a
    channels-last layout: wrong gradients, a crash or an endless loop (oneDNN's issue 6035).
    """

    def forward(self, input: Tensor) -> Tensor:
        if max(self.kernel_size) > 1 or max(self.stride) == 1 or self.padding not in ((0, 0), "valid"):
            return super().forward(input)
        rows, columns = self.stride
        return functional.conv2d(input[..., ::rows, ::columns], self.weight, self.bias, groups=self.groups)


class RoundedConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Convolutions of bfloat16 factors, summed in float32 and then rounded, without instructions for it.

    They round where a processor with such instructions does. Torch's own emulation, in torch 2.13, takes many
    times as long as float32 on a processor with AVX2; this takes about as long as float32.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args = tuple(args)
        if func.overloadpacket not in CONVOLUTIONS or args[0].dtype is not torch.bfloat16:
            return func(*args, **(kwargs or {}))
        wide = (arg.float() if isinstance(arg, Tensor) else arg for arg in args)
        return func(*wide, **(kwargs or {})).bfloat16()


def guard_convolutions(network: nn.Module) -> None:
    """Let each convolution leave bf16 for f32 where this processor's library computes bf16 wrongly.

    oneDNN 3.12, in torch 2.13, on processors with AMX gives wrong maps or gradients for few channels with
    kernels of 16 (a transposed convolution of stride 8 is one, backwards), and for three channels with a
    stride. So each kind of convolution is tried on noise in both precisions, when it first meets a shape.

    Args:
        network: changed in place; parameters and their names stay.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTION_MODULES) and not isinstance(module, Guarded):
            module.__class__ = _guarded(type(module))  # type: ignore[assignment]


class Guarded(nn.Module):
    """A convolution that computes in f32 what the processor does not compute rightly in bf16."""

    unguarded: type[nn.Module]

    def forward(self, input: Tensor, *more: Any) -> Tensor:
        conv = cast(Any, super())
        if not _in_bf16(input) or _is_right_in_bf16(cast(nn.Conv3d, self), input):
            return cast(Tensor, conv.forward(input, *more))
        with torch.autocast(input.device.type, enabled=False):
            return cast(Tensor, conv.forward(input.float(), *more))


_KINDS: dict[type[nn.Module], type[nn.Module]] = {}
_RIGHT: dict[tuple[Any, ...], bool] = {}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _guarded(kind: type[nn.Module]) -> type[nn.Module]:
    """The guarded convolution of a class of convolutions; one class each, so that copies are alike."""
    if kind not in _KINDS:
        _KINDS[kind] = type(f"Guarded{kind.__name__}", (Guarded, kind), {"unguarded": kind})
    return _KINDS[kind]


def _in_bf16(input: Tensor) -> bool:
    return (
        input.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
    )


def _is_right_in_bf16(conv: nn.Conv3d, input: Tensor) -> bool:
    """Whether a convolution of this kind, of a map of this shape, is the same in bf16 but for rounding."""
    if isinstance(conv, nn.Conv3d) and input.shape[2] < conv.kernel_size[0]:
        return False  # the gradient of the weights holds whatever was in memory, which a trial may not show
    points = isinstance(conv, Conv2d) and max(conv.kernel_size) == 1  # which has no stride, see there
    if not points and any(s > k for s, k in zip(conv.stride, conv.kernel_size, strict=True)):
        return False  # oneDNN writes past its memory
    sizes = zip(input.shape[2:], conv.kernel_size, strict=True)
    shape = (min(len(input), 2), input.shape[1], *(min(n, max(TRIAL_VOXELS, k)) for n, k in sizes))
    learns = torch.is_grad_enabled()
    facts = (conv.kernel_size, conv.stride, conv.padding, conv.output_padding, conv.dilation, conv.groups)
    last = input.is_contiguous(memory_format=_CHANNELS_LAST[input.ndim])
    key = (type(conv), tuple(conv.weight.shape), *facts, conv.bias is not None, shape, learns, last)
    if key not in _RIGHT:
        layout = _CHANNELS_LAST[input.ndim] if last else torch.contiguous_format
        with torch.inference_mode(False):
            _RIGHT[key] = _trial(conv, shape, layout, learns=learns)
    return _RIGHT[key]


def _trial(conv: nn.Module, shape: tuple[int, ...], layout: torch.memory_format, *, learns: bool) -> bool:
    """Whether map and gradients of noise are the same in both precisions."""
    twin = copy.deepcopy(conv)
    twin.__class__ = cast(Guarded, conv).unguarded
    noise = torch.Generator().manual_seed(0)
    for parameter in twin.parameters():
        parameter.data = _noise_like(parameter, noise)
        parameter.requires_grad_(learns)
    twin.to(memory_format=layout)  # type: ignore[call-overload]
    image = torch.randn(shape, generator=noise).contiguous(memory_format=layout)
    exact, found = (list(_results(twin, image, bf16=bf16, learns=learns)) for bf16 in (False, True))
    return all(bool((a - b).norm() <= ROUNDING * a.norm()) for a, b in zip(exact, found, strict=True))


def _results(twin: nn.Module, image: Tensor, *, bf16: bool, learns: bool) -> Iterator[Tensor]:
    """The map, and the gradients of image and weights by noise."""
    image = image.detach().requires_grad_(learns)
    with torch.set_grad_enabled(learns), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        said = twin(image)
    yield said.detach().float()
    if learns:
        upstream = torch.randn(said.shape, generator=torch.Generator().manual_seed(1))
        weight = cast(Tensor, twin.weight)
        yield from torch.autograd.grad(said.float(), (image, weight), upstream)


def _noise_like(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Noise that keeps the size of what is convolved."""
    width = max(1.0, parameter[0].numel() ** 0.5)
    return torch.randn(parameter.shape, generator=generator).div(width)
