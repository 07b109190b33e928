"""From settings and arrays to a trainer, and from a trainer to weights and a graph."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.core.errors import ModelError, ResourceError, SelfCheckError, UsageError
from medseg.core.structures import StructureSet
from medseg.inference.engines.torch import best_device, find_device, to_graph
from medseg.instances.choice import Choice
from medseg.instances.detecting import Detecting
from medseg.losses import registry as loss_registry
from medseg.losses.spec import LossSpec
from medseg.model.spec import ModelSpec, NetworkFacts, NetworkSpec, WeightType
from medseg.networks import registry as network_registry
from medseg.networks.crf_rnn import CrfRnn
from medseg.networks.layers import MEMORY_FORMATS, InputGate, Segmenter, Supervised
from medseg.networks.monai import MonaiNetwork
from medseg.training.batch import TrainingCase
from medseg.training.loop import PatchMaker, Trainer
from medseg.training.object_validation import ObjectValidator
from medseg.training.processor import keep_memory
from medseg.training.schedule import BATCH_NORMS
from medseg.training.spec import TrainingSpec
from medseg.training.team import ALONE, Team
from medseg.training.transfer import freeze
from medseg.training.validation import WholeVolumeValidator

INSTANCE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)


def build_network(spec: NetworkSpec, *, seed: int, device: str, threads: int) -> Segmenter:
    """The network, its weights drawn from the seed, on its device and in the layout CPUs prefer.

    Args:
        spec: the architecture.
        seed: of everything torch draws.
        device: "cpu", "cuda", "cuda:N", "mps" or "auto".
        threads: of the processor; 0 takes what there is.

    Raises:
        UsageError: see `networks.registry.build`.
        ResourceError: the memory does not hold its weights.
    """
    if threads:
        torch.set_num_threads(threads)
    keep_memory()
    torch.manual_seed(seed)
    try:
        network = network_registry.build(spec).to(find_device(best_device() if device == "auto" else device))
    except RuntimeError as fault:
        if isinstance(fault, torch.OutOfMemoryError) or "allocate memory" in str(fault):
            text = f"the weights of {spec.name} with widths {[*spec.widths]} do not fit into memory"
            raise ResourceError(text, hint="choose smaller network.widths") from None
        raise
    return network.to(memory_format=MEMORY_FORMATS[spec.spatial_dims])  # type: ignore[call-overload,no-any-return]


def facts_of(network: Segmenter) -> NetworkFacts:
    """What tiling must know of a built network."""
    return NetworkFacts(network.stride, network.receptive_radius, network.tile_independent)


def check_trainable(
    network: Segmenter, structures: StructureSet, loss: LossSpec, training: TrainingSpec
) -> None:
    """Refuse settings with which no training is possible.

    Args:
        network: from `build_network`.
        structures: what it learns.
        loss, training: sections of the recipe.

    Raises:
        UsageError: a part to freeze does not exist, deep supervision is asked of a network without further
            heads, the network's output is smaller than its input, a network that finds objects is to learn
            regions or slices, the patch is not a multiple of its stride
            or shrinks to one voxel that a norm cannot take, or the loss does not take its outputs.
    """
    freeze(network, training.frozen)
    if training.deep_supervision and not (isinstance(network, Supervised) and len(network.head_weights) > 1):
        raise UsageError(
            "training.deep_supervision needs a network with several heads, but this one has one head",
            hint="choose unetpp, plain_unet, or a network of parts with auxiliary = true, or leave it out",
        )
    if any(axis.origin for axis in network.output_reach):
        raise UsageError(
            "a network without padding has an output smaller than its patch, and cannot be trained here",
            hint="leave network.options.padding out",
        )
    if structures.are_regions and isinstance(network, CrfRnn):
        raise UsageError(
            "CRF-RNN takes structures that exclude one another, but these are regions that overlap",
            hint="leave network.options.crf_rnn out",
        )
    if isinstance(network, Detecting):
        _require_detectable(structures)
    _require_multiple(training.patch, network.stride)
    _require_statistics(network, training)
    loss_registry.build(loss, regions=structures.are_regions)


def build_trainer(
    network: Segmenter,
    model: ModelSpec,
    *,
    loss: LossSpec,
    augmenter: PatchMaker,
    training: TrainingSpec,
    cases: Sequence[TrainingCase],
    selection: Sequence[TrainingCase],
    folder: Path,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    team: Team = ALONE,
) -> Trainer:
    """A trainer that is ready to run or to resume.

    Args:
        network: from `build_network`.
        model: the model in the making.
        loss, training: sections of the recipe.
        augmenter: makes the patches.
        cases: what is trained on.
        selection: what chooses the checkpoint.
        folder: the run.
        spacing_mm: of a patch's axes, for losses that measure distances.
        team: the processes that train together.
    """
    structures = model.structure_set
    device = next(network.parameters()).device
    finds = isinstance(network, Detecting)
    judge = (
        ObjectValidator(network, model, selection)
        if finds
        else WholeVolumeValidator(copy.deepcopy(network), model, selection, str(device))
    )
    return Trainer(
        network=network,
        loss=loss_registry.build(loss, regions=structures.are_regions, spacing_mm=spacing_mm),
        target=_target(structures, device),
        augmenter=augmenter,
        cases=cases,
        validate=judge,
        measure="AP" if finds else "Dice",
        spec=training,
        epochs=training.epochs,
        folder=folder,
        team=team,
    )


def _require_detectable(structures: StructureSet) -> None:
    """Refuse what no network that finds objects learns: regions."""
    if structures.are_regions:
        raise UsageError(
            "a network that finds objects takes structures that exclude one another, but these are regions",
            hint="choose another network",
        )


def _require_multiple(patch: Sequence[int], stride: Sequence[int]) -> None:
    """Refuse a patch (i, j, k) that a network of this stride, of two or three axes, does not take."""
    steps = [*stride, *(1,) * (3 - len(stride))]
    if not any(n % s for n, s in zip(patch, steps, strict=True)):
        return
    lower, upper = (
        [max(s, (n + more * (s - 1)) // s * s) for n, s in zip(patch, steps, strict=True)] for more in (0, 1)
    )
    raise UsageError(
        f"training.patch must be a multiple of {steps} along each axis, not {[*patch]}",
        hint=f"use {lower} or {upper}" if lower != upper else f"use {upper}",
    )


def _require_statistics(network: Segmenter, training: TrainingSpec) -> None:
    """Refuse a patch that is one voxel where a norm takes the moments of several."""
    batch = any(isinstance(m, BATCH_NORMS) for m in network.modules())
    if training.batch == 1 and batch and any(getattr(m, "norms_one_voxel", False) for m in network.modules()):
        raise UsageError(
            "this network takes the mean of a whole patch, and batch norm needs more than one value of it",
            hint="use training.batch of 2 or more, or another norm",
        )
    steps = (*network.stride, *(1,) * (3 - len(network.stride)))
    if [*steps] != [*training.patch]:
        return
    alone = _norms_of_one_voxel(network, training.patch)
    instance = any(isinstance(m, INSTANCE_NORMS) or _of_single_channels(m) for m in alone)
    if not instance and not (training.batch == 1 and any(isinstance(m, BATCH_NORMS) for m in alone)):
        return
    larger = [n + s for n, s in zip(training.patch, steps, strict=True)]
    norm = "instance" if instance else "batch"
    remedy = "" if instance else ", or training.batch of 2 or more"
    raise UsageError(
        f"a patch of {[*training.patch]} shrinks to one voxel in this network (stride {[*steps]}), and "
        f"{norm} norm needs more than one value (training.batch is {training.batch})",
        hint=f"use a larger training.patch, such as {larger}{remedy}",
    )


@torch.no_grad()
def _norms_of_one_voxel(network: Segmenter, patch: Sequence[int]) -> list[nn.Module]:
    """The norms, up to the first that refuses, to which a patch comes as one voxel."""
    found: list[nn.Module] = []

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if math.prod(given[0].shape[2:]) == 1:
            found.append(module)

    norms = [m for m in network.modules() if isinstance(m, (*INSTANCE_NORMS, *BATCH_NORMS, nn.GroupNorm))]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    channels = next(m.channels for m in network.modules() if isinstance(m, InputGate))
    image = torch.zeros(1, channels, *patch[: network.spatial_dims], device=next(network.parameters()).device)
    was = network.training
    try:
        network.eval()
        if isinstance(network, Detecting):
            network.found(image, Choice())
        else:
            _ = network.heads(image) if isinstance(network, Supervised) else network(image)
    except ValueError:  # an instance norm, which is found
        if not found:
            raise
    finally:
        network.train(was)
        for hook in hooks:
            hook.remove()
    return found


def _of_single_channels(module: nn.Module) -> bool:
    """Whether this is a group norm of one channel a group, which is an instance norm."""
    return isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels


def training_case(
    case_id: str,
    image: NDArray[np.float32],
    indices: NDArray[np.uint8] | NDArray[np.int32],
    unlabelled: tuple[str, ...] = (),
) -> TrainingCase:
    """A case from arrays: image (C, I, J, K), label indices or codes (I, J, K), unlabelled structures."""
    return TrainingCase(case_id, torch.from_numpy(image), torch.from_numpy(indices), unlabelled)


def map_case(case_id: str, indices: NDArray[np.uint8], channels: int) -> TrainingCase:
    """A label map (I, J, K) of generation indices, from which an image is made at every step: it has none."""
    return training_case(case_id, np.empty((channels, 0, 0, 0), np.float32), indices)


def best_of(
    trainer: Trainer, in_channels: int, kept_as: WeightType = "float32"
) -> tuple[dict[str, NDArray[np.generic]], tuple[bytes, bytes] | None]:
    """The best weights of a training as arrays, and the network with them as an OpenVINO graph.

    A network of MONAI's that cannot be converted, or not exactly, has no graph: it runs with torch.

    Args:
        trainer: after an epoch or more.
        in_channels: of the network.
        kept_as: type of the parameters; float16 rounds them, the graph's too. Statistics stay float32.

    Raises:
        SelfCheckError: the converted graph of a medseg network does not compute what the network does, or
            a parameter is too large for float16.
    """
    weights = trainer.best_weights()
    network = copy.deepcopy(trainer.network).cpu()
    if kept_as == "float16":
        weights = _halved(weights, {name for name, _ in network.named_parameters()})
    network.load_state_dict(weights)
    arrays = {key: value.cpu().numpy() for key, value in weights.items()}
    try:
        return arrays, to_graph(network, in_channels, len(trainer.network.stride))
    except (ModelError, SelfCheckError):
        if not isinstance(network, MonaiNetwork):
            raise
        return arrays, None


def _halved(weights: Mapping[str, Tensor], parameters: Container[str]) -> dict[str, Tensor]:
    """The weights, the parameters among them rounded to float16."""
    halved = {key: value.half() if key in parameters else value for key, value in weights.items()}
    for key, value in halved.items():
        if not value.isfinite().all():
            raise SelfCheckError(
                f"the weight {key} is too large for float16: it reaches {float(weights[key].abs().max()):g}",
                hint='keep weights = "float32"',
            )
    return halved


def _target(structures: StructureSet, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From label indices (B, *S) to class indices, or to regions (B, R, *S)."""
    if not structures.are_regions:
        return Tensor.long
    table = torch.from_numpy(structures.region_table()).to(device, torch.float32)
    return lambda indices: table[:, indices.long()].movedim(0, 1)
