"""Model: one `.safetensors` file with everything a prediction needs, and no executable code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from medseg.core import specs
from medseg.core.digest import hexdigest, tensor_digest
from medseg.core.errors import MedsegError, ModelError
from medseg.io.atomic import atomic_write
from medseg.model.evidence import require_version
from medseg.model.spec import ModelSpec, SliceSpec

SCHEMA = "medseg.model/1"
HEADER_LIMIT_BYTES = 100_000_000
ALIGNMENT = 8
"""Of the tensors in a safetensors file, to bytes; its header is padded with spaces."""
WEIGHT, GRAPH_XML, GRAPH_BIN = "weight/", "graph/xml", "graph/bin"

DEFAULT_MODEL = "brain"
"""The packaged model that is used where none is named."""


RUN_MODEL = "model.safetensors"
"""The model in the folder of a training."""

FOLD = "fold_"
"""Beginning of the folders of a run that trains several folds; the number of the fold follows."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network: its description, its weights, and its graph for OpenVINO.

    Attributes:
        spec: the description.
        weights: arrays by `state_dict` key; parameters are float32, or float16 to compute with in float32.
        graph: the converted network as (xml, bin) bytes, or None.
        sha256: of the file it was loaded from; empty when it was not.
    """

    spec: ModelSpec
    weights: dict[str, NDArray[np.generic]]
    graph: tuple[bytes, bytes] | None = None
    sha256: str = ""

    def require_graph(self, hint: str) -> tuple[bytes, bytes]:
        """The graph.

        Raises:
            ModelError: the model has none; with the hint.
        """
        if self.graph is None:
            raise ModelError("the model contains no OpenVINO graph", hint=hint)
        return self.graph

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the model as one file, whole or not at all; the same model makes the same bytes."""
        tensors = {f"{WEIGHT}{key}": np.asarray(value, order="C") for key, value in self.weights.items()}
        if self.graph is not None:
            xml, weights = self.graph
            tensors[GRAPH_XML] = np.frombuffer(xml, dtype=np.uint8)
            tensors[GRAPH_BIN] = np.frombuffer(weights, dtype=np.uint8)
        spec = json.dumps(specs.to_mapping(self.spec), sort_keys=True)
        header = {"schema": SCHEMA, "spec": spec, "digest": _digest(spec, tensors)}
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(_ordered(save_tensors(tensors, metadata=header)))


def load_model(name_or_path: str | Path) -> Model:
    """Read a model file, or a packaged model by its name.

    A packaged model is called as it is asked for, whatever recipe trained it; `training.recipe` says which.

    Raises:
        ModelError: no such model, damaged, of another schema, contradicting itself, or holding
            values that are not finite.
    """
    path = find_model(name_or_path)
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ModelError.unreadable(fault, path) from None
    metadata = _metadata(data, path)
    if metadata.get("schema") != SCHEMA:
        raise ModelError(
            f"the file has the schema {metadata.get('schema')!r}, but this medseg reads {SCHEMA!r}",
            source=path,
            hint="update medseg, or train the model again",
        )
    try:
        tensors = load_tensors(data)
        intact = metadata["digest"] == _digest(metadata["spec"], tensors)
        plain = json.loads(metadata["spec"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise _damaged(path, str(fault)) from None
    if not intact:
        raise _damaged(path, "its digest does not match its content")
    require_version(plain, path)
    spec = specs.from_mapping(ModelSpec, plain, source=str(path), error=ModelError)
    _check(spec, path)
    weights = {key.removeprefix(WEIGHT): v for key, v in tensors.items() if key.startswith(WEIGHT)}
    for key, value in weights.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise ModelError(f"the weight {key} contains values that are not finite", source=path)
    graph = None
    if GRAPH_XML in tensors and GRAPH_BIN in tensors:
        graph = tensors[GRAPH_XML].tobytes(), tensors[GRAPH_BIN].tobytes()
    packaged = {file: name for name, file in packaged_models().items()}
    return Model(replace(spec, name=packaged.get(path, spec.name)), weights, graph, hexdigest(data))


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model given by path, by the folder of a run, or by the name of a packaged one.

    Raises:
        ModelError: there is none, or the folder holds several.
    """
    found = find_models(name_or_path)
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise ModelError(
            f"the folder holds {len(found)} models, and one is needed",
            source=str(name_or_path),
            hint=f"name one: {names}",
        )
    return found[0]


def find_models(name_or_path: str | Path) -> tuple[Path, ...]:
    """As `find_model`; of a run that trained several folds, the models of all."""
    path = Path(name_or_path)
    if path.is_file():
        return (path,)
    if in_run := models_of_run(path):
        return in_run
    packaged = packaged_models()
    if str(name_or_path) in packaged:
        return (packaged[str(name_or_path)],)
    raise ModelError(
        "is neither a model file nor the name of a packaged model",
        source=str(name_or_path),
        hint=f"give the path of a model file, or choose from {', '.join(packaged)}"
        if packaged
        else "give the path of a model file",
    )


def models_of_run(folder: Path) -> tuple[Path, ...]:
    """The model of a run, or the models of its folds; none of another folder."""
    whole = folder / RUN_MODEL
    return (whole,) if whole.is_file() else tuple(sorted(folder.glob(f"{FOLD}*/{RUN_MODEL}")))


def packaged_models() -> dict[str, Path]:
    """The models that install with the package, by name."""
    folder = Path(str(resources.files("medseg"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def _metadata(data: bytes, path: Path) -> dict[str, str]:
    """The header's free entries, read before any tensor is."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(HEADER_LIMIT_BYTES, len(data) - 8):
        raise _damaged(path, "the header is longer than the file")
    try:
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(path, "the header was not written by medseg") from None
    if not isinstance(metadata, dict):
        raise _damaged(path, "the header was not written by medseg")
    return metadata


def _ordered(data: bytes) -> bytes:
    """The same safetensors file, its header sorted: the library leaves the order to chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _digest(spec: str, tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """SHA-256 of the description and of the tensors' names, types, shapes and values."""
    return tensor_digest(
        spec, ((key, v.dtype.name, v.shape, v.tobytes()) for key, v in sorted(tensors.items()))
    )


def _check(spec: ModelSpec, path: Path) -> None:
    """Refuse a description whose parts do not go together."""
    try:
        outputs = spec.structure_set.output_channels
    except MedsegError as fault:
        raise ModelError(fault.fault, source=path) from None
    network = spec.network
    inputs = len(spec.channels) * spec.slices.slices_seen
    if (network.in_channels, network.out_channels) != (inputs, outputs):
        raise ModelError(
            f"the network has {network.in_channels} inputs and {network.out_channels} outputs, but the "
            f"description needs {inputs} and {outputs}",
            source=path,
        )
    if network.spatial_dims == 3 and spec.slices != SliceSpec():
        raise ModelError("a 3D network cannot be combined with settings for slices", source=path)
    facts, dims = spec.facts, network.spatial_dims
    fitting = len(facts.stride) == len(facts.receptive_radius) == dims
    if not fitting or min(facts.stride) < 1 or min(facts.receptive_radius) < 0:
        raise ModelError(
            f"the strides {facts.stride} and radii {facts.receptive_radius} are impossible for a network of "
            f"{dims} axes",
            source=path,
        )


def _damaged(path: Path, fault: str) -> ModelError:
    return ModelError(f"is not a readable model file ({fault})", source=path, hint="copy the file again")
