"""Starting from a model with other structures, channels or dimensions: what matches is copied.

Weights of a 2D network start a 3D one by inflation (Carreira and Zisserman 2017, arXiv:1705.07750, section
3): a kernel is repeated along the third axis and divided by its length there, so that a volume of equal
slices gives what each slice gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from medseg.core.errors import ModelError, UsageError, listed, plural, unknown_name
from medseg.core.structures import StructureSet
from medseg.model.file import Model
from medseg.model.spec import NetworkSpec
from medseg.networks import registry
from medseg.networks.layers import Segmenter
from medseg.networks.on_top import OnTop

BELOW = "network."
"""Weights of a network that another is on top of are called so before their own names."""


@dataclass(frozen=True)
class Wanted:
    """Inputs and outputs of a network to train.

    Attributes:
        network: its architecture.
        structures: what its outputs are.
        channels: the images it takes, in order.
        cascade: whether it takes what a coarse stage found, too.
    """

    network: NetworkSpec
    structures: StructureSet
    channels: tuple[str, ...]
    cascade: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """A name for each output."""
        background = () if self.structures.are_regions else ("",)
        return (*background, *self.structures.names, *self.further)

    @property
    def further(self) -> tuple[str, ...]:
        """Names of outputs that are no structure's."""
        return registry.further_outputs(self.network.options)

    @property
    def inputs(self) -> tuple[str, ...]:
        """A name for each input: the channels of each slice that is seen, and what a coarse stage found."""
        slices = (self.network.in_channels - len(self.coarse)) // max(1, len(self.channels))
        return (*(f"{n} {name}" for n in range(slices) for name in self.channels), *self.coarse)

    @property
    def coarse(self) -> tuple[str, ...]:
        """Names of what a coarse stage found."""
        return tuple(f"coarse {name}" for name in self.structures.names) if self.cascade else ()


def start_from(network: Segmenter, wanted: Wanted, model: Model) -> tuple[str, ...]:
    """Give a network the weights of a model, output by output and input by input, by their names.

    Args:
        network: of the training; weights that find no counterpart stay as they are.
        wanted: what it is trained to do.
        model: whose weights are taken.

    Returns:
        Sentences: what was exchanged, and what is new. None where all fits as it is.

    Raises:
        ModelError: no weight fits.
    """
    spec = model.spec
    alike = _called_alike(wanted.channels, spec.channels)
    there = Wanted(spec.network, spec.structure_set, alike, spec.cascade)
    outputs, inputs = (_axes(wanted.network, key) for key in ("out_channels", "in_channels"))
    own, taken, new = network.state_dict(), dict[str, Tensor](), list[str]()
    for name, value in own.items():
        called = (name, name.removeprefix(BELOW), BELOW + name)
        found = next((model.weights[n] for n in called if n in model.weights), None)
        tensor = None if found is None else torch.from_numpy(np.array(found)).to(value)
        if tensor is not None:
            tensor = _inflated(value, tensor, network.get_submodule(name.rpartition(".")[0]))
        if tensor is not None and name in outputs:
            tensor = _matched(value, tensor, outputs[name], wanted.outputs, there.outputs)
        if tensor is not None and name in inputs:
            tensor = _matched(value, tensor, inputs[name], wanted.inputs, there.inputs)
        if tensor is None or tensor.shape != value.shape:
            new.append(name)
        else:
            taken[name] = tensor
    if not any(tensor.ndim > 1 for tensor in taken.values()):
        raise ModelError(
            "none of its weights fits the recipe's network",
            source=spec.name,
            hint="give a model of the same network, or set the widths of its network in the recipe",
        )
    network.load_state_dict(own | taken)
    return (*_said_of_channel(wanted.channels, spec.channels),
            *_said("structures", wanted.structures.names, there.structures.names),
            *_said("outputs", wanted.further, there.further),
            *_said("channels", (*wanted.channels, *wanted.coarse), (*there.channels, *there.coarse)),
            *_new(new, len(own)))  # fmt: skip


def freeze(network: Segmenter, parts: Sequence[str]) -> tuple[nn.Module, ...]:
    """Keep the weights of parts of a network as they are.

    Args:
        network: of the training.
        parts: names of its modules, such as "encoder".

    Returns:
        The modules, whose norms must compute with their stored statistics.

    Raises:
        UsageError: the network has no such part, or none would be left to train.
    """
    modules = dict(network.named_children())
    if isinstance(network, OnTop):
        modules |= dict(network.network.named_children())
    for part in parts:
        if part not in modules:
            raise unknown_name("part of the network", part, modules)
        modules[part].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"nothing is left to train when {listed(parts)} do not change")
    return tuple(modules[part] for part in parts)


def _called_alike(wanted: tuple[str, ...], there: tuple[str, ...]) -> tuple[str, ...]:
    """The channels of a model; its only one is called as the only one wanted."""
    return wanted if len(wanted) == len(there) == 1 else there


def _said_of_channel(wanted: tuple[str, ...], there: tuple[str, ...]) -> list[str]:
    if wanted == there or _called_alike(wanted, there) != wanted:
        return []
    return [f"the channel {wanted[0]} starts from the weights of {there[0]}"]


def _inflated(value: Tensor, given: Tensor, module: nn.Module) -> Tensor:
    """The kernels (O, I, h, w) of a 2D network for those of a 3D one, (O, I, h, w, d); others as they are.

    A transposed convolution whose stride is its kernel sees a voxel once along an axis, and is not divided.
    """
    if given.ndim != 4 or value.ndim != 5 or given.shape[2:] != value.shape[2:4]:
        return given
    depth = value.shape[-1]
    repeated = given.unsqueeze(-1).expand(*given.shape, depth).clone()
    return repeated if isinstance(module, nn.ConvTranspose3d) else repeated / depth


def _axes(spec: NetworkSpec, setting: str) -> Mapping[str, int]:
    """The weights whose size along an axis is the number of outputs or inputs, and that axis."""
    other = replace(spec, **{setting: getattr(spec, setting) + 1})
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        one, more = (registry.build(each).state_dict() for each in (spec, other))
    found = {}
    for name, value in one.items():
        if name in more and value.shape != more[name].shape:
            found[name] = next(a for a, n in enumerate(value.shape) if n != more[name].shape[a])
    return found


def _matched(
    value: Tensor, given: Tensor, axis: int, wanted: Sequence[str], there: Sequence[str]
) -> Tensor | None:
    """The weights given, in the order wanted; those of names that are not there as in `value`."""
    if given.ndim <= axis or given.shape[axis] != len(there) or value.shape[axis] != len(wanted):
        return given
    rest = [n for a, n in enumerate(value.shape) if a != axis]
    if rest != [n for a, n in enumerate(given.shape) if a != axis]:
        return None
    positions = {name: n for n, name in enumerate(there)}
    slices = [
        given.select(axis, positions[name]) if name in positions else value.select(axis, n)
        for n, name in enumerate(wanted)
    ]
    return torch.stack(slices, axis)


def _said(what: str, wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """How the names of two models differ."""
    shared = [name for name in wanted if name in there]
    fresh = [name for name in wanted if name not in there]
    dropped = [name for name in there if name not in wanted]
    said = []
    if shared != [name for name in there if name in wanted]:
        said.append(f"{what} are in another order in this model; each keeps its weights: {', '.join(shared)}")
    if fresh:
        said.append(f"new {what} start from random weights: {listed(fresh)}")
    if dropped:
        said.append(f"{what} that are not in the recipe are left out: {listed(dropped)}")
    return said


def _new(names: Sequence[str], of: int) -> list[str]:
    if not names:
        return []
    return [
        f"{len(names)} of {of} weights {plural(len(names), 'is', 'are')} not there, or of another shape, and "
        f"{plural(len(names), 'starts', 'start')} as new: {listed(names)}"
    ]
