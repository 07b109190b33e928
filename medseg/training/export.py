"""`medseg export`: a model's graph for other programs, and a description of its use."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core import specs
from medseg.core.errors import SelfCheckError, UsageError
from medseg.core.software import INTENDED_USE, SOFTWARE
from medseg.inference import engines
from medseg.inference.engines.base import FloatArray
from medseg.io.atomic import atomic_write, refuse_existing, write_text
from medseg.model.file import Model
from medseg.training.package import PARITY

SCHEMA = "medseg.export/1"
INPUT, OUTPUT = "image", "logits"


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
        files: the graph, its constants where they lie apart, and the description.
        probability: largest difference from torch in float32 of a probability.
        labels: share of voxels whose label differs.
    """

    files: tuple[Path, ...]
    probability: float
    labels: float


def export(model: Model, out: Path, *, overwrite: bool = False) -> Export:
    """Write a model's network as OpenVINO or ONNX graph, with a JSON description of pre- and post-processing.

    What was written is read again and compared with torch before it gets its name.

    Args:
        model: with weights and, for `.xml`, a graph.
        out: an `.xml` or `.onnx` file; constants (`.bin`) and description (`.json`) go beside it.
        overwrite: replace files that exist.

    Raises:
        UsageError: another suffix, files are in the way, or the model is a cascade.
        ModelError: the model has no graph, or onnx is not installed.
        SelfCheckError: the graph does not compute what the network does.
    """
    if out.suffix not in (".xml", ".onnx"):
        raise UsageError(
            "is neither .xml (OpenVINO) nor .onnx",
            source=out,
            hint="give another -o",
        )
    if model.coarse is not None:
        raise UsageError(
            f"{model.spec.name} is a cascade: the graph of its fine stage takes what its coarse stage finds, "
            "which no graph computes",
            hint="predict with medseg, or export the model in the folder coarse/ of its run",
        )
    parts = _xml(model) if out.suffix == ".xml" else _onnx(model)
    files = tuple(out.with_suffix(suffix) for suffix in (*parts, ".json"))
    for path in files:
        refuse_existing(path, overwrite, ())
    probability, labels = _agreement(model, parts)
    if probability > PARITY:
        raise SelfCheckError(
            f"the exported graph differs from torch by {probability:.2g} in probability (limit {PARITY})",
            source=out,
        )
    agreement = {"against": "torch f32", "probability": probability, "label_disagreement": labels}
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, content in zip(files, parts.values(), strict=False):
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)
    text = json.dumps(_description(model, out) | {"agreement": agreement}, indent=1, allow_nan=False)
    write_text(files[-1], text + "\n", overwrite=overwrite)
    return Export(files, probability, labels)


def _xml(model: Model) -> dict[str, bytes]:
    xml, constants = model.require_graph("export it as .onnx")
    return {".xml": xml, ".bin": constants}


def _onnx(model: Model) -> dict[str, bytes]:
    from medseg.inference.engines import torch as torch_room

    return {".onnx": torch_room.to_onnx(model, _tile(model), INPUT, OUTPUT)}


def _tile(model: Model) -> tuple[int, ...]:
    """The tile a graph is made and compared for."""
    return model.spec.inference.tile or tuple(8 * s for s in model.spec.facts.stride)


def _agreement(model: Model, parts: dict[str, bytes]) -> tuple[float, float]:
    """Largest difference of a probability from torch in f32, and share of other labels, on one tile."""
    from medseg.inference.engines import torch as torch_room

    tile = (*_tile(model), 1)[:3]
    image = _textured((1, model.spec.network.in_channels, *tile))
    with tempfile.TemporaryDirectory() as folder:
        for suffix, content in parts.items():
            (Path(folder) / f"graph{suffix}").write_bytes(content)
        found = engines.run_file(Path(folder) / f"graph{next(iter(parts))}", image)
    expected = engines.load(model, "torch")(image)
    one, other = (_softmax(logits) for logits in (expected, found))
    difference = torch_room.largest_difference(torch_room.built(model), other, one)
    return difference, float((one.argmax(1) != other.argmax(1)).mean())


def _textured(shape: tuple[int, ...]) -> FloatArray:
    """Seeded noise that is smooth over some voxels, as scans are."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for axis in range(2, len(shape)):
        image = image + np.roll(image, 1, axis) + np.roll(image, 2, axis)
    scaled: FloatArray = (image / image.std()).astype(np.float32)
    return scaled


def _softmax(logits: FloatArray) -> FloatArray:
    powers: FloatArray = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _description(model: Model, out: Path) -> dict[str, Any]:
    """What a program must know to use the graph."""
    spec, onnx = specs.to_mapping(model.spec), out.suffix == ".onnx"
    dims = model.spec.network.spatial_dims
    size = list(_tile(model)) if onnx else [None] * dims
    axes = ["batch", "channel", "right", "anterior", "superior"][: 2 + dims]
    copied = ("channels", "structures", "preparation", "inference", "postprocess", "facts", "training")
    return {
        "schema": SCHEMA,
        "software": SOFTWARE,
        "intended_use": INTENDED_USE,
        "model": {"name": model.spec.name, "sha256": model.sha256},
        "axes": axes,
        "type": "float32",
        "input": {"shape": [None, model.spec.network.in_channels, *size]} | ({"name": INPUT} if onnx else {}),
        "output": {
            "shape": [None, model.spec.structure_set.output_channels, *size],
            "activation": "sigmoid" if model.spec.structure_set.are_regions else "softmax",
        }
        | ({"name": OUTPUT} if onnx else {}),
        **{key: spec[key] for key in copied},
    }
