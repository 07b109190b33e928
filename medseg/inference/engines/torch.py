"""The torch engine, reference for all engines, on CPU, CUDA or MPS; and conversion to OpenVINO."""

from __future__ import annotations

import copy
import io
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from medseg.core.errors import ModelError, ResourceError, SelfCheckError, UsageError
from medseg.core.extras import optional_packages
from medseg.inference.engines.base import FloatArray, Precision, fold_slices, unfold_slices
from medseg.model.file import Model
from medseg.model.spec import NetworkFacts
from medseg.networks import registry
from medseg.networks.arithmetic import RoundedConvolutions, computes_in_bf16, guard_convolutions
from medseg.networks.layers import MEMORY_FORMATS, Segmenter
from medseg.networks.unetpp import pruned_weights

if TYPE_CHECKING:
    from medseg.inference.engines.lean import ov

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
ONNX_OPSET = 17
MAX_BATCH, CARD_SHARE = 16, 0.6
"""Most tiles at once on an accelerator, and the share of its free memory that their maps may take."""

GRAPH_TOLERANCE = 1e-4
"""Largest difference of logits between torch and the converted graph, relative to their size."""
AGREEING = 0.9
"""Share of the logits that must agree of a network with places of maxima: where two values are nearly the
same, rounding chooses, and everything differs around that voxel."""


class TorchEngine:
    """Runs a network in eval mode, without gradients, denormals flushed.

    Maps lie channels-last, but for group norm on a CPU (see `_layout`).

    All work is done in a thread of its own: denormals are flushed a thread at a time, and the
    threads torch starts from this one inherit it, while the caller's arithmetic is left alone.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str = "cpu",
        precision: Precision = "f32",
        threads: int | None = None,
        spatial_dims: int = 3,
    ) -> None:
        if precision not in DTYPES or spatial_dims not in MEMORY_FORMATS:
            raise UsageError(
                f"the torch engine cannot compute in {precision!r} with {spatial_dims} spatial axes"
            )
        self.precision = precision
        self.spatial_dims = spatial_dims
        self._device = find_device(device)
        self._format = _layout(network, self._device, spatial_dims)
        self._network = network.eval().to(self._device)
        if precision == "bf16":
            guard_convolutions(self._network)
        self._network.to(memory_format=self._format)  # type: ignore[call-overload]
        self._worker = ThreadPoolExecutor(1, "medseg-torch", initializer=_prepare_thread, initargs=(threads,))

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K).

        Raises:
            ResourceError: the device's memory does not suffice.
        """
        return self._worker.submit(self._run, tiles).result()

    def _run(self, tiles: FloatArray) -> FloatArray:
        flat = self.spatial_dims == 2
        answer = self.back(self._logits(fold_slices(tiles) if flat else np.ascontiguousarray(tiles)))
        return unfold_slices(answer, len(tiles)) if flat else answer

    @property
    def on_card(self) -> bool:
        """Whether it runs on an accelerator, with a 3D network, so that answers can stay there."""
        return self._device.type != "cpu" and self.spatial_dims == 3

    def there(self, tiles: FloatArray) -> Tensor:
        """Logits (B, K, I, J, K) for tiles (B, C, I, J, K), where the network is.

        Raises:
            ResourceError: the device's memory does not suffice.
        """
        return self._worker.submit(self._logits, tiles).result()

    def adopt(self, array: FloatArray) -> Tensor:
        """The array where the network is.

        Raises:
            ResourceError: the device's memory does not suffice.
        """
        with self._room_for(array.shape):
            return _on_device(array, self._device)

    def back(self, array: Tensor) -> FloatArray:
        """A tensor as a NumPy array."""
        answer: FloatArray = array.float().contiguous().cpu().numpy()
        return answer

    def batch_for(self, tile: Sequence[int], maps: int) -> int:
        """Tiles of a shape whose `maps` feature maps fill most of the card's free memory; 1 elsewhere."""
        if self._device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(1, min(MAX_BATCH, int(CARD_SHARE * free / (4 * maps * math.prod(tile)))))

    def _logits(self, content: FloatArray) -> Tensor:
        with self._room_for(content.shape), torch.inference_mode(), self._arithmetic(), _no_tf32():
            tensor = _on_device(content, self._device).contiguous(memory_format=self._format)
            return cast(Tensor, self._network(tensor)).float()

    @contextmanager
    def _room_for(self, shape: Sequence[int]) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise ResourceError(
                f"{self._device} does not have enough memory for an array of shape {tuple(shape)}",
                hint="use smaller tiles or batches, or the CPU",
            ) from None

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        if self.precision == "f32":
            yield
            return
        emulated = self._device.type == "cpu" and not computes_in_bf16(self._device)
        needed = emulated and self.precision == "bf16"
        rounded = RoundedConvolutions() if needed else nullcontext()  # type: ignore[no-untyped-call]
        with torch.autocast(self._device.type, dtype=DTYPES[self.precision]), rounded:
            yield


def torch_engine(
    network: nn.Module,
    device: str = "cpu",
    precision: Precision = "f32",
    *,
    threads: int | None = None,
    spatial_dims: int = 3,
) -> TorchEngine:
    """Engine for a network already built, with its weights in it; the network is put in eval mode.

    Raises:
        UsageError: the device, the precision or the number of dimensions is not available.
    """
    return TorchEngine(
        network, device=device, precision=precision, threads=threads, spatial_dims=spatial_dims
    )


def load(
    model: Model, *, device: str = "cpu", precision: Precision = "f32", threads: int | None = None
) -> TorchEngine:
    """Engine for a model: its network built, and given its weights.

    Raises:
        ModelError: the weights do not fit the network.
        UsageError: the device or the precision is not available.
    """
    dims = model.spec.network.spatial_dims
    return torch_engine(built(model), device, precision, threads=threads, spatial_dims=dims)


def built(model: Model) -> Segmenter:
    """The network of a model with its weights.

    Raises:
        ModelError: the weights do not fit the network.
    """
    network = registry.build(model.spec.network)
    try:
        network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in model.weights.items()})
    except RuntimeError as fault:
        raise ModelError(
            f"the weights do not fit the network {model.spec.network.name!r} ({fault})"
        ) from None
    return network


def pruned(model: Model, level: int) -> Model:
    """A model of a UNet++ cut down to its nodes up to `level`, with its own graph.

    Its `sha256` is that of the whole model with the level, so that results are told apart.

    Raises:
        UsageError: the network cannot be pruned, or has no such level.
    """
    spec = model.spec
    if spec.network.name != "unetpp":
        raise UsageError(f"{spec.name} is a {spec.network.name}, but only a unetpp can be pruned")
    options = {**spec.network.options, "prune": level}
    small = replace(spec, network=replace(spec.network, options=options))
    cut = replace(model, spec=small, weights=pruned_weights(model.weights, level), graph=None)
    network = built(cut)
    facts = NetworkFacts(network.stride, network.receptive_radius, network.tile_independent)
    graph = to_graph(network, spec.network.in_channels, spec.network.spatial_dims)
    return replace(
        cut, spec=replace(small, facts=facts), graph=graph, sha256=f"{model.sha256} pruned to L{level}"
    )


def to_graph(
    network: nn.Module, in_channels: int, spatial_dims: int, *, stride: Sequence[int] = ()
) -> tuple[bytes, bytes]:
    """The network as OpenVINO graph and constants, for any batch and tile size; it computes in f32.

    Constants that lose nothing by it are stored as f16: the weights of a network that were rounded, unless
    the conversion unites them with those of a batch norm. The graph is run on two shapes, one of which the
    conversion has not seen, and compared.

    Args:
        network: on any device; a copy of it is converted.
        in_channels: channels of its input.
        spatial_dims: 2 or 3.
        stride: its total stride per axis, of which the trial tiles are multiples; by default what
            one of our networks says of itself, and 16 for any other.

    Returns:
        (xml, bin), as `engines.openvino.OpenVinoEngine` takes them.

    Raises:
        SelfCheckError: the graph's answers differ from the network's.
    """
    from medseg.inference.engines.lean import ov

    network = copy.deepcopy(network).eval().cpu()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    known = network.stride if isinstance(network, Segmenter) else (16,) * spatial_dims
    steps = tuple(stride) or known
    seen = torch.zeros(1, in_channels, *(2 * s for s in steps))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        graph = ov.convert_model(network, example_input=seen)
    graph.reshape(ov.PartialShape([-1, in_channels, *(-1,) * spatial_dims]))
    _narrow(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        ov.save_model(graph, path, compress_to_fp16=False)
        converted = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    for shape in ((1, in_channels, *(2 * s for s in steps)), (2, in_channels, *(3 * s for s in steps))):
        _compare(network, converted, shape)
    return converted


def to_onnx(model: Model, tile: Sequence[int], input_name: str, output_name: str) -> bytes:
    """A model's network as ONNX, for tiles of one size and any batch.

    Raises:
        MissingPackageError: onnx is not installed.
    """
    with optional_packages():
        import onnx  # noqa: F401
    network = built(model).eval()
    seen = torch.zeros(1, model.spec.network.in_channels, *tile)
    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (seen,),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_axes={name: {0: "batch"} for name in (input_name, output_name)},
        )
    return stream.getvalue()


def _narrow(graph: ov.Model) -> None:
    """Store the f32 constants of a graph as f16 where that changes no value; the graph widens them."""
    from openvino import Type, opset13

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != Type.f32:
            continue
        with np.errstate(over="ignore"):
            narrow = node.data.astype(np.float16)
        if np.array_equal(narrow, node.data):
            wide = opset13.convert(opset13.constant(narrow), "f32").output(0)
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(wide)


def largest_difference(network: nn.Module, found: FloatArray, expected: FloatArray) -> float:
    """Of two engines' answers; of a network whose answers jump, of the share of them that must agree."""
    apart = np.abs(found - expected)
    jumps = any(getattr(m, "jumps", False) for m in network.modules())
    return float(np.quantile(apart, AGREEING) if jumps else apart.max())


def _compare(network: nn.Module, graph: tuple[bytes, bytes], shape: tuple[int, ...]) -> None:
    """Raise unless graph and network give the same logits for noise of `shape`."""
    from medseg.inference.engines.openvino import OpenVinoEngine

    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(noise).numpy()
    tiles = noise.numpy() if noise.ndim == 5 else noise.numpy()[..., None]
    found = OpenVinoEngine(*graph)(tiles).reshape(expected.shape)
    difference = largest_difference(network, found, expected)
    limit = GRAPH_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:
        raise SelfCheckError(
            f"the converted graph's logits differ from the network's by {difference:.2g} "
            f"on a tile of shape {shape} (limit {limit:.2g})"
        )


def best_device() -> str:
    """ "cuda" or "mps" where there is one, else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_device(name: str) -> torch.device:
    """The device called `name`.

    Raises:
        UsageError: there is none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(f"the device {name!r} is not available", hint="use --device cpu") from None
    return device


def _layout(network: nn.Module, device: torch.device, spatial_dims: int) -> torch.memory_format:
    """Channels-last; contiguous for a network of group norm on a CPU.

    There torch sums a channels-last map and its squares one value after the other, in float32, and of a
    tile of 96^3 the roundings reach 1e-2 of what is normalised. The sums of a contiguous map are exact.
    """
    if device.type == "cpu" and any(isinstance(module, nn.GroupNorm) for module in network.modules()):
        return torch.contiguous_format
    return MEMORY_FORMATS[spatial_dims]


def _prepare_thread(threads: int | None) -> None:
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)


def _on_device(content: FloatArray, device: torch.device) -> Tensor:
    """A tensor there; to CUDA through pinned memory, while the host goes on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensor = torch.from_numpy(content)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _no_tf32() -> AbstractContextManager[None]:
    """CUDA convolutions in true f32 and by the same algorithm each time."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
