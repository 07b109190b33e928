"""Engines run a network on tiles. Each is imported only when it is used."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from medseg.core.errors import UsageError, unknown_name
from medseg.core.extras import optional_packages
from medseg.inference.engines import rounding
from medseg.inference.engines.base import Engine, EngineName, FloatArray, Precision
from medseg.model.file import Model


def load(
    model: Model,
    name: EngineName = "openvino",
    *,
    device: str = "cpu",
    precision: Precision = "f32",
    threads: int | None = None,
) -> Engine:
    """The engine `name` for a model.

    Args:
        model: with a graph for OpenVINO; torch builds the network and gives it the weights.
        name: "openvino" (CPU, no torch needed) or "torch".
        device: of torch: "cpu", "cuda", "cuda:1", "mps".
        precision: of the arithmetic.
        threads: CPU threads; by default as many as this process may use.

    Raises:
        ModelError: the model contains no graph, or graph or weights do not fit.
        UsageError: the engine does not exist, or has no such device or precision.
        MissingPackageError: torch is not installed.
    """
    if name == "torch":
        with optional_packages():
            from medseg.inference.engines import torch as torch_room

        return torch_room.load(model, device=device, precision=precision, threads=threads)
    if name != "openvino":
        raise unknown_name("engine", name, ("torch", "openvino"))
    if device != "cpu":
        raise UsageError(
            f"the OpenVINO engine runs on the CPU, not on {device!r}", hint="use the torch engine"
        )
    graph = model.require_graph("use the torch engine")
    from medseg.inference.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(*graph, precision=precision, threads=threads, identity=model.sha256)


def pruned(model: Model, level: int) -> Model:
    """A model of a UNet++ cut down to a level; imports torch, see `torch.pruned`."""
    with optional_packages():
        from medseg.inference.engines import torch as torch_room

    return torch_room.pruned(model, level)


def run_file(path: Path, tiles: FloatArray) -> FloatArray:
    """The output of a graph in an `.xml` or `.onnx` file for tiles (B, C, I, J, K), in f32."""
    from medseg.inference.engines.openvino import run_file as run

    return run(path, tiles)


def precisions(name: EngineName, device: str = "cpu") -> tuple[Precision, ...]:
    """The precisions that an engine supports in hardware, f32 first."""
    if name == "openvino":
        from medseg.inference.engines import openvino as openvino_room

        return openvino_room.precisions()
    with optional_packages():
        from medseg.inference.engines import torch as torch_room
        from medseg.networks.arithmetic import computes_in_bf16

    return ("f32", "bf16") if computes_in_bf16(torch_room.find_device(device)) else ("f32",)


def best_precision(model: Model, name: EngineName, device: str = "cpu") -> Precision:
    """bf16 where the processor has it and the model's evidence allows it (see `rounding`), else f32."""
    if not rounding.harmless(model.spec.evidence, f"{name} bf16"):
        return "f32"
    return "bf16" if "bf16" in precisions(name, device) else "f32"


def best_device() -> str:
    """The accelerator torch finds, or "cpu" where there is none or torch is not installed; imports torch."""
    if find_spec("torch") is None:
        return "cpu"
    with optional_packages():
        from medseg.inference.engines import torch as torch_room

    return torch_room.best_device()
