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
COARSE = "coarse"
"""The tensor that holds the file of the coarse stage of a cascade, byte for byte."""

DEFAULT_MODEL = "brain"
"""The packaged model that is used where none is named."""


RUN_MODEL = "model.safetensors"
"""The model in the folder of a training."""

FOLD = "fold_"
"""Beginning of the folders of a run that trains several folds; the number of the fold follows."""

RUN_RECORD, PLANNED = "run.json", "recipe.toml"
"""What a folder of a training holds before it has a model."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network: its description, its weights, and its graph for OpenVINO.

    Attributes:
        spec: the description.
        weights: arrays by `state_dict` key; parameters are float32, or float16 to compute with in float32.
        graph: the converted network as (xml, bin) bytes, or None.
        sha256: of the file it was loaded from; empty when it was not.
        coarse: the coarse stage of a cascade; None of a model that is no cascade.
    """

    spec: ModelSpec
    weights: dict[str, NDArray[np.generic]]
    graph: tuple[bytes, bytes] | None = None
    sha256: str = ""
    coarse: Model | None = None

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
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the model's file; that of a coarse stage lies in it as a tensor."""
        tensors = {f"{WEIGHT}{key}": np.asarray(value, order="C") for key, value in self.weights.items()}
        if self.graph is not None:
            xml, weights = self.graph
            tensors[GRAPH_XML] = np.frombuffer(xml, dtype=np.uint8)
            tensors[GRAPH_BIN] = np.frombuffer(weights, dtype=np.uint8)
        if self.coarse is not None:
            tensors[COARSE] = np.frombuffer(self.coarse.to_bytes(), dtype=np.uint8)
        spec = json.dumps(specs.to_mapping(self.spec), sort_keys=True)
        header = {"schema": SCHEMA, "spec": spec, "digest": _digest(spec, tensors)}
        return _ordered(save_tensors(tensors, metadata=header))


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
    model = _model_of(data, path)
    packaged = {file: name for name, file in packaged_models().items()}
    return replace(model, spec=replace(model.spec, name=packaged.get(path, model.spec.name)))


def _model_of(data: bytes, path: str | Path, *, coarse: bool = False) -> Model:
    """The model that the bytes of a file hold, checked; errors name the file.

    Args:
        data: of a file, or of the coarse stage in it.
        path: of the file.
        coarse: whether it is a coarse stage, which has none of its own.
    """
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
    if coarse and spec.cascade:
        raise ModelError("the coarse stage is a cascade itself; a cascade has two stages", source=path)
    weights = {key.removeprefix(WEIGHT): v for key, v in tensors.items() if key.startswith(WEIGHT)}
    for key, value in weights.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise ModelError(f"the weight {key} contains values that are not finite", source=path)
    graph = None
    if GRAPH_XML in tensors and GRAPH_BIN in tensors:
        graph = tensors[GRAPH_XML].tobytes(), tensors[GRAPH_BIN].tobytes()
    return Model(spec, weights, graph, hexdigest(data), _coarse_of(tensors.get(COARSE), spec, path))


def _coarse_of(stored: NDArray[np.generic] | None, spec: ModelSpec, path: str | Path) -> Model | None:
    """The coarse stage of a model, from the bytes that its file holds of it.

    Raises:
        ModelError: it is missing or damaged, is not wanted, or does not go with the fine stage.
    """
    if spec.cascade != (stored is not None):
        fault = (
            "its coarse stage is missing"
            if spec.cascade
            else "it contains a coarse stage for a network that takes none"
        )
        raise _damaged(path, fault)
    if stored is None:
        return None
    coarse = _model_of(stored.tobytes(), f"{path}, coarse stage", coarse=True)
    _check_stages(coarse.spec, spec, path)
    return coarse


def _check_stages(coarse: ModelSpec, fine: ModelSpec, path: str | Path) -> None:
    """Refuse two stages of a cascade that do not go together.

    Raises:
        ModelError: they take other channels, write other structures or crop otherwise.
    """
    stages = {
        "channels": (coarse.channels, fine.channels),
        "structures": (coarse.structure_set.names, fine.structure_set.names),
        "crop": (coarse.preparation.crop, fine.preparation.crop),
    }
    for name, (one, other) in stages.items():
        if one != other:
            raise ModelError(
                f"the {name} of the coarse stage are {one}, of the fine stage {other}", source=path
            )


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
    if any((path / name).is_file() for name in (RUN_RECORD, PLANNED)):
        raise ModelError(
            f"is a run without a model: neither {RUN_MODEL} nor {FOLD}*/{RUN_MODEL} is there",
            source=path,
            hint="repeat the command of its training, to go on",
        )
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


def _metadata(data: bytes, path: str | Path) -> dict[str, str]:
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


def _check(spec: ModelSpec, path: str | Path) -> None:
    """Refuse a description whose parts do not go together."""
    try:
        outputs = spec.structure_set.output_channels
    except MedsegError as fault:
        raise ModelError(fault.fault, source=path) from None
    network = spec.network
    inputs = len(spec.inputs) * spec.slices.slices_seen
    if (network.in_channels, network.out_channels) != (inputs, outputs):
        raise ModelError(
            f"the network has {network.in_channels} inputs and {network.out_channels} outputs, but the "
            f"description needs {inputs} and {outputs}",
            source=path,
        )
    if network.spatial_dims == 3 and spec.slices != SliceSpec():
        raise ModelError("a 3D network cannot be combined with settings for slices", source=path)
    if network.spatial_dims == 2 and spec.cascade:
        raise ModelError("a 2D network cannot be the fine stage of a cascade", source=path)
    facts, dims = spec.facts, network.spatial_dims
    fitting = len(facts.stride) == len(facts.receptive_radius) == dims
    if not fitting or min(facts.stride) < 1 or min(facts.receptive_radius) < 0:
        raise ModelError(
            f"the strides {facts.stride} and radii {facts.receptive_radius} are impossible for a network of "
            f"{dims} axes",
            source=path,
        )


def _damaged(path: str | Path, fault: str) -> ModelError:
    if Path(path).suffix == ".toml":
        hint = "train it with `medseg train`, and give the model.safetensors of that run"
        return ModelError("is a recipe, not a model", source=path, hint=hint)
    return ModelError(f"is not a readable model file ({fault})", source=path, hint="copy the file again")
