"""Models for tests, made in a second: seeded weights, never trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medseg.core.specs import from_mapping
from medseg.core.structures import StructureSet
from medseg.data import phantom
from medseg.inference.engines.torch import to_graph
from medseg.model.evidence import Evidence
from medseg.model.file import Model
from medseg.model.spec import ModelSpec, NetworkSpec
from medseg.networks.layers import Segmenter
from medseg.preparation.intensity import NormalisationSpec, normalise
from medseg.training.setup import build_network, facts_of

SHARPNESS = 4.0
"""Of the logits, so that no voxel's label hangs on the last bits of an engine."""


def tiny_model(
    seed: int = 0,
    *,
    channels: Sequence[str] = ("image",),
    structures: StructureSet = phantom.STRUCTURES,
    background: float = 0.0,
    coarse: Model | None = None,
    **settings: object,
) -> Model:
    """A batch-norm 3D U-Net of widths 4 and 8 whose labels follow the scan, if they mean nothing.

    Args:
        seed: of the weights.
        channels: what the model takes.
        structures: what it writes.
        background: added to the background's logit; a large one makes a model that finds nothing.
        coarse: makes the model the fine stage of a cascade.
        settings: further fields of `ModelSpec`.
    """
    inputs = len(channels) + (0 if coarse is None else len(structures))
    spec = NetworkSpec("unet3d", inputs, structures.output_channels, widths=(4, 8), norm="batch")
    network = build_network(spec, seed=seed, device="cpu", threads=1)
    _unlike_new(network, seed)
    network.eval()
    _balance(network, seed)
    with torch.no_grad():
        network.head.bias[0] += background
    if "evidence" in settings:
        settings["evidence"] = evidence_of(settings["evidence"])
    model = ModelSpec(
        name=f"tiny-{seed}",
        network=spec,
        facts=facts_of(network),
        channels=tuple(channels),
        structures=structures.items,
        cascade=coarse is not None,
        **settings,  # type: ignore[arg-type]
    )
    weights = {key: value.numpy().copy() for key, value in network.state_dict().items()}
    return Model(model, weights, to_graph(network, inputs, 3), coarse=coarse)


def evidence_of(plain: object) -> Evidence:
    """Evidence from the plain values that a model file holds, or as it is."""
    return plain if isinstance(plain, Evidence) else from_mapping(Evidence, plain, source="test")  # type: ignore[arg-type]


def _unlike_new(network: Segmenter, seed: int) -> None:
    """Batch-norm statistics as a training leaves them, so that forgetting them would show."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                tensor.uniform_(low, high, generator=generator)  # type: ignore[union-attr]


@torch.no_grad()
def _balance(network: Segmenter, seed: int) -> None:
    """Scale the logits so that, on a phantom, every output is the highest somewhere."""
    scan, _ = phantom.phantom_case(np.random.default_rng(seed), (24, 24, 24))
    image = np.repeat(
        normalise(scan.array, NormalisationSpec(), scan.channels), network.gate.channels, axis=0
    )
    logits = network(torch.from_numpy(image)[None])[0].flatten(1)
    mean, deviation = logits.mean(dim=1), logits.std(dim=1)
    network.head.weight *= (SHARPNESS / deviation)[:, None, None, None, None]
    network.head.bias.copy_((network.head.bias - mean) * SHARPNESS / deviation)
