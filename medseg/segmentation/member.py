"""One model of a segmenter with the engine that runs it."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from typing import Literal

from medseg.core.errors import UsageError
from medseg.inference import engines
from medseg.inference.engines.base import EngineName, Precision
from medseg.inference.predictor import Predictor
from medseg.model.file import Model
from medseg.model.spec import require_score
from medseg.preparation.preparation import Preparation, PreparationSpec
from medseg.segmentation.cascade import CascadePreparation

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
MOST_SCALE = 1.5
"""A scan is made so many times larger or smaller at most."""


@dataclass(frozen=True)
class SegmenterOptions:
    """Options of a segmenter.

    Attributes:
        device: "cpu", "cuda", "cuda:N", "mps", or "auto".
        engine: "openvino", "torch", or "auto": OpenVINO on a CPU where the model has its graph.
        precision: of the arithmetic; "auto" see `engines.best_precision`.
        threads: of the processor; 0 takes what there is.
        max_memory: bytes that this process may use; None takes most of what is free.
        tta: average over the mirrored scan too; None takes the setting of the model.
        refine: follow the intensities of the scan; None takes the setting of the model.
        prune: level a UNet++ is cut down to; 0 for the whole.
        scales: average over the scan made so many times larger; empty looks at it once, as it is. What the
            verdict says of the networks' confidence is that of the first.
        least_score: of an object that a network finds, below which it is left out; None takes the setting of
            the model.
        keep_probabilities: keep the probabilities of the whole scan in the result.
        observe: find features and the promised Dice, even for a model that was not calibrated.
        force: take a scan whose intensities look rescaled, with a warning.
        time_budget: seconds for a scan, after which tiles that are not computed yet are left out; None for
            all the time that it takes.
        budget_tiles: within a time budget, the tiles to compute at full quality, whatever the time.
    """

    device: str = "auto"
    engine: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    threads: int = 0
    max_memory: int | None = None
    tta: bool | None = None
    refine: bool | None = None
    prune: int = 0
    scales: tuple[float, ...] = ()
    least_score: float | None = None
    keep_probabilities: bool = False
    observe: bool = False
    force: bool = False
    time_budget: float | None = None
    budget_tiles: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.time_budget is not None and not 0 < self.time_budget < math.inf:
            raise UsageError(f"time_budget must be a number of seconds above 0, not {self.time_budget}")
        require_score(self.least_score, "least_score")
        fit = all(1 / MOST_SCALE <= scale <= MOST_SCALE for scale in self.scales)
        if not fit or len(set(self.scales)) < len(self.scales):
            raise UsageError(
                f"scales must be different numbers from {1 / MOST_SCALE:.2g} to {MOST_SCALE:g}, "
                f"not {', '.join(map(str, self.scales))}"
            )


class Member:
    """A model with its engine, and what prepares a scan for it, by its coarse stage where it is a cascade."""

    def __init__(self, model: Model, options: SegmenterOptions) -> None:
        self.model = model
        name = options.engine
        device = "cpu" if name == "openvino" and options.device == "auto" else _device(options.device)
        if name == "auto":
            name = "openvino" if device == "cpu" and model.graph is not None else "torch"
        precision = _precision(model, options, name, device)
        self.engine = engines.load(
            model, name, device=device, precision=precision, threads=options.threads or None
        )
        spec = model.spec
        if options.tta is not None:
            flips = (spec.inference.flips or ((0,),)) if options.tta else ()
            spec = replace(spec, inference=replace(spec.inference, flips=flips))
        self.predictor = replace(Predictor.of(spec, [self.engine]), timed=options.time_budget is not None)
        self.preparation = preparation_of(spec.preparation, model.coarse, options)


def at_scale(model: Model, scale: float) -> Model:
    """The model for a scan that is made so many times larger: voxels are that much smaller.

    Across slices the scan stays as it is for a network of slices.
    """
    across = model.spec.slices.axes if model.spec.network.spatial_dims == 2 else ()
    i, j, k = (1.0 if across == (axis,) else scale for axis in range(3))
    preparation = replace(model.spec.preparation, enlarged=(i, j, k))
    return replace(model, spec=replace(model.spec, preparation=preparation))


def preparation_of(
    spec: PreparationSpec, coarse: Model | None, options: SegmenterOptions
) -> Preparation | CascadePreparation:
    """What prepares a scan.

    Args:
        spec: its settings.
        coarse: the coarse stage of a cascade; None for a model that is no cascade.
        options: how the coarse stage runs.
    """
    if coarse is None:
        return Preparation(spec)
    stage = Member(coarse, replace(options, time_budget=None))
    return CascadePreparation(
        spec, coarse=coarse.spec, predictor=stage.predictor, max_memory=options.max_memory
    )


def _device(name: str) -> str:
    """What "auto" means here; torch, slow to import, is asked only where there is an NVIDIA driver."""
    if name != "auto":
        return name
    return engines.best_device() if any(map(_loads, CUDA_DRIVERS)) else "cpu"


def _precision(model: Model, options: SegmenterOptions, name: EngineName, device: str) -> Precision:
    """What the engine computes in.

    Raises:
        UsageError: OpenVINO cannot do it here, and would take f32 without a word.
    """
    if options.precision == "auto":
        return engines.best_precision(model, name, device)
    able = engines.precisions(name, device)
    if name == "openvino" and options.precision not in able:
        raise UsageError(
            f"OpenVINO computes in {', '.join(able)} on this processor, not in {options.precision}",
            hint="leave out --precision, or use --engine torch",
        )
    return options.precision


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
