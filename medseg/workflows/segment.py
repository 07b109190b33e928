"""Segmenter: models loaded once, scans in, labels out. The library's front door to prediction."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.errors import GeometryError, InputError, ModelError, UsageError
from medseg.inference import engines, planner
from medseg.inference.planner import Forecast
from medseg.inference.predictor import Predictor
from medseg.inference.restore import Rows, restored_labels
from medseg.model import DEFAULT_MODEL, Model, ModelSpec, load_model
from medseg.postprocess import postprocess
from medseg.preparation import Preparation, Prepared
from medseg.stopwatch import Stopwatch
from medseg.structures import StructureSet, Total, value_counts
from medseg.volume import Grid, LabelMap, Volume
from medseg.workflows.features import features_of
from medseg.workflows.quality import Quality, Seen, judge

SIDES = ("shortest", "middle", "longest")

WARN_SPACING, REFUSE_SPACING = 2.0, 5.0
"""How many times outside the spacings met in training a scan is doubted, and refused."""

TIMED_EDGE, SLAB_COST = 96, 1.4
"""Voxels of an edge that is timed where all would be too many, and what slabs take beside one tile."""

UNNAMED = "image"
"""What a single channel is called when nobody named it."""

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")


@dataclass(frozen=True)
class SegmenterOptions:
    """How a segmenter runs.

    Attributes:
        device: "cpu", "cuda", "cuda:N", "mps", or "auto".
        engine: "openvino", "torch", or "auto": OpenVINO on a CPU where the model has its graph.
        precision: of the arithmetic; "auto" see `engines.best_precision`.
        threads: of the processor; 0 takes what there is.
        max_memory: bytes this process may hold; None takes most of what is free.
        tta: average over the mirrored scan too; None does what the model says.
        prune: level a UNet++ is cut down to; 0 for the whole.
        keep_probabilities: keep the probabilities of the whole scan in the result.
        observe: find features and the promised Dice, even for a model that was not calibrated.
    """

    device: str = "auto"
    engine: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    threads: int = 0
    max_memory: int | None = None
    tta: bool | None = None
    prune: int = 0
    keep_probabilities: bool = False
    observe: bool = False


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one scan.

    Attributes:
        labels: on the scan's own grid, in its own axis order.
        structures: what the values mean.
        warnings: sentences a reader must see.
        quality: whether it can be believed.
        totals: volumes that several structures make up together.
        features: of scan and result, see `workflows.features`.
        estimated_dice: what the model's own probabilities promise for each structure it labelled.
        probabilities: per structure name, (I, J, K) float32 on the scan's grid, if kept.
    """

    labels: LabelMap
    structures: StructureSet
    warnings: tuple[str, ...] = ()
    quality: Quality = field(default_factory=Quality)
    totals: tuple[Total, ...] = ()
    features: dict[str, float] = field(default_factory=dict)
    estimated_dice: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def volumes_ml(self) -> dict[str, float]:
        """Volume of each structure, 0 where there is none of it."""
        return _volumes_ml(self.labels, self.structures)

    def totals_ml(self) -> dict[str, float]:
        """Volume of each total."""
        voxel_ml = self.labels.grid.voxel_volume_mm3 / 1000
        return {t.name: voxel_ml * t.voxels(self.labels.array) for t in self.totals}

    def truncated(self) -> dict[str, bool]:
        """Whether each structure reaches the edge of the scan, so that part of it may be missing."""
        return _truncated(self.labels, self.structures)


class Segmenter:
    """One or several models, ready to segment scan after scan.

    Several models are averaged, as probabilities on the scan's grid; they must take the same
    channels and write the same structures.

    Args:
        models: the models.
        options: how they run.

    Raises:
        ModelError: the models do not go together.
    """

    def __init__(self, models: Sequence[Model], options: SegmenterOptions | None = None) -> None:
        self.options = options or SegmenterOptions()
        level = self.options.prune
        self.models = tuple(engines.pruned(model, level) if level else model for model in models)
        if not self.models:
            raise ModelError("no model was given")
        first = self.models[0].spec
        for other in self.models[1:]:
            if (other.spec.structures, other.spec.channels) != (first.structures, first.channels):
                raise ModelError(f"{other.spec.name} and {first.name} write different structures")
        self.channels = first.channels
        self.structures = first.structure_set
        self.members = [_Member(model, self.options) for model in self.models]

    def __call__(self, volume: Volume, watch: Stopwatch | None = None) -> Segmentation:
        """Segment one scan; `watch` counts what the steps take.

        Raises:
            MedsegError: as the steps of the way raise.
        """
        watch = watch or Stopwatch()
        volume = self._bound(volume)
        warnings = [*volume.warnings, *(w for m in self.models for w in _spacing_warnings(volume, m.spec))]
        with watch.step("prepare"):
            prepared = [Preparation(m.model.spec.preparation).apply(volume) for m in self.members]
        calibrated = "calibration" in self.members[0].model.spec.evidence
        seen = Seen(self.structures, promised=self.options.observe or calibrated)
        predictors = self._fitted(prepared)
        runs, probabilities = self._runs(prepared, predictors, watch)
        with watch.step("restore"):
            restored = restored_labels(prepared, [seen.watch(runs[0]), *runs[1:]], self.structures)
            first, grid = self.members[0], prepared[0].oriented_grid
            canonical = postprocess(restored, self.structures, first.model.spec.postprocess, grid)
            labels = LabelMap(prepared[0].to_input(canonical), volume.grid, volume.form)
        if not labels.array.any():
            warnings.append("the model labelled no voxel of this scan")
        with watch.step("check"):
            features = self._features(prepared[0], seen, canonical, grid)
            quality = judge(
                volume,
                first.model.spec,
                _volumes_ml(labels, self.structures),
                _truncated(labels, self.structures),
                seen,
                features,
                lambda: _mirrored(predictors[0], prepared[0].array, self.structures, watch),
            )
        return Segmentation(
            labels,
            self.structures,
            tuple(dict.fromkeys(warnings)),
            quality,
            first.model.spec.totals,
            features,
            seen.estimated_dice,
            probabilities,
        )

    def _features(self, prepared: Prepared, seen: Seen, labels: NDArray[Any], grid: Grid) -> dict[str, float]:
        if not seen.promised:
            return {}
        names, promised = self.channels, seen.estimated_dice
        return features_of(prepared.array, seen.labels, labels, grid, self.structures, names, promised)

    def _fitted(self, prepared: Sequence[Prepared]) -> list[Predictor]:
        """Each model's predictor, its tiles as large as there is room for."""
        room = planner.room(self.options.max_memory) // len(prepared)
        return [
            planner.fitted(m.predictor, m.model.spec, p.grid.shape, p.oriented_shape, room)
            for m, p in zip(self.members, prepared, strict=True)
        ]

    def _runs(
        self, prepared: Sequence[Prepared], predictors: Sequence[Predictor], watch: Stopwatch
    ) -> tuple[list[Rows], dict[str, NDArray[np.float32]]]:
        """Rows of probabilities of each model, as its tiles finish; and all of them, where they are kept."""
        runs = [
            watch.over("tiles", predictor.rows(p.array, watch))
            for predictor, p in zip(predictors, prepared, strict=True)
        ]
        if not self.options.keep_probabilities:
            return runs, {}
        whole = [np.concatenate([part for _, part in rows], axis=1) for rows in runs]
        with watch.step("restore"):
            kept = self._probabilities(prepared, whole)
        return [iter([(slice(0, x.shape[1]), x)]) for x in whole], kept

    def _probabilities(
        self, prepared: Sequence[Prepared], inner: Sequence[NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Of each structure on the scan's grid, averaged over the models."""
        background = not self.structures.are_regions
        whole = _mean([p.restore(x, background=background) for p, x in zip(prepared, inner, strict=True)])
        named = zip(self.structures.names, whole[-len(self.structures) :], strict=True)
        return {name: prepared[0].to_input(output) for name, output in named}

    def forecast(self, grid: Grid, itemsize: int) -> Forecast:
        """How a scan would be predicted, from what its header says; see `planner.forecast`."""
        members = [(m.model.spec, m.predictor) for m in self.members]
        return planner.forecast(members, grid, itemsize, self.options.max_memory)

    def tile_seconds(self, forecast: Forecast) -> float:
        """What the networks take for all tiles of a forecast, from one of each, timed here and now.

        A tile that runs in slabs is timed in a part of it.
        """
        seconds = 0.0
        for member, plan, slabs in zip(self.members, forecast.plans, forecast.in_slabs, strict=True):
            stride = member.model.spec.facts.stride
            most = [TIMED_EDGE // s * s if slabs else n for n, s in zip(plan.tile_shape, stride, strict=True)]
            shape = [min(n, m) for n, m in zip(plan.tile_shape, most, strict=True)]
            tile = np.zeros((1, len(self.channels), *shape), np.float32)
            member.engine(tile)
            start = time.monotonic()
            member.engine(tile)
            share = math.prod(plan.tile_shape) / math.prod(shape) * (SLAB_COST if slabs else 1)
            views = 1 + len(member.predictor.flips)
            seconds += views * len(plan.tiles) * share * (time.monotonic() - start)
        return seconds

    @property
    def engine_names(self) -> tuple[str, ...]:
        """Engine and precision of each model, as they run."""
        return tuple(f"{m.engine.name} {m.engine.precision}" for m in self.members)

    def _bound(self, volume: Volume) -> Volume:
        """The scan with its channels in the model's order, by name; one that has no name is the only one."""
        if len(self.channels) == 1 and volume.channels in (self.channels, (UNNAMED,)):
            return volume
        missing = [name for name in self.channels if name not in volume.channels]
        if missing or len(volume.channels) != len(self.channels):
            raise InputError(
                f"the model takes {', '.join(self.channels)}; the scan has {', '.join(volume.channels)}",
                mend="give " + " ".join(f"{name}=FILE" for name in self.channels),
            )
        if volume.channels == self.channels:
            return volume
        order = [volume.channels.index(name) for name in self.channels]
        return Volume(volume.array[order], volume.grid, self.channels, volume.form, volume.warnings)


def load(model: str | Path | Sequence[str | Path] = DEFAULT_MODEL, **options: object) -> Segmenter:
    """A segmenter from model files or names of packaged models.

    >>> load("hippocampus").channels
    ('MRI',)
    """
    names = [model] if isinstance(model, str | Path) else list(model)
    return Loader(tuple(map(str, names)), SegmenterOptions(**options))()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Loader:
    """What a segmenter is made of: a few words that make the same one in another process.

    Attributes:
        models: files, or names of packaged models.
        options: how they run.
    """

    models: tuple[str, ...]
    options: SegmenterOptions

    def __call__(self) -> Segmenter:
        return Segmenter([load_model(name) for name in self.models], self.options)

    def absolute(self) -> Loader:
        """The same in another working directory."""
        names = (str(Path(name).resolve()) if Path(name).exists() else name for name in self.models)
        return replace(self, models=tuple(names))


class _Member:
    """A model with its engine."""

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
        self.predictor = Predictor.of(spec, [self.engine])


def _mirrored(
    predictor: Predictor, array: NDArray[np.float32], structures: StructureSet, watch: Stopwatch
) -> Seen:
    """What is predicted of the mirrored scan."""
    rows = replace(predictor, flips=()).rows(np.ascontiguousarray(array[:, ::-1]), watch)
    return Seen.all_of(watch.over("tiles", rows), structures)


def _volumes_ml(labels: LabelMap, structures: StructureSet) -> dict[str, float]:
    """Volume of each structure; one pass over the labels."""
    voxels = value_counts(labels.array)
    voxel_ml = labels.grid.voxel_volume_mm3 / 1000
    return {s.name: voxel_ml * sum(voxels.get(v, 0) for v in s.members or (s.value,)) for s in structures}


def _truncated(labels: LabelMap, structures: StructureSet) -> dict[str, bool]:
    """Which structures are found in the outermost voxels of an axis longer than one voxel."""
    array = labels.array
    long = [axis for axis in range(3) if array.shape[axis] > 1]
    faces = [np.asarray(np.take(array, end, axis)) for axis in long for end in (0, -1)]
    outer = {value for face in faces for value in value_counts(face)}
    return {s.name: not outer.isdisjoint(s.members or (s.value,)) for s in structures}


def _device(name: str) -> str:
    """What "auto" means here; torch, slow to import, is asked only where there is an NVIDIA driver."""
    if name != "auto":
        return name
    return engines.best_device() if any(map(_loads, CUDA_DRIVERS)) else "cpu"


def _precision(
    model: Model, options: SegmenterOptions, name: engines.EngineName, device: str
) -> engines.Precision:
    """What the engine computes in.

    Raises:
        UsageError: OpenVINO cannot do it here, and would take f32 without a word.
    """
    if options.precision == "auto":
        return engines.best_precision(model, name, device)
    able = engines.precisions(name, device)
    if name == "openvino" and options.precision not in able:
        raise UsageError(
            f"this processor does not compute in {options.precision} with OpenVINO ({', '.join(able)})",
            mend="leave out --precision, or use --engine torch",
        )
    return options.precision


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _mean(slabs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    total = slabs[0]
    for slab in slabs[1:]:
        total = total + slab
    return total if len(slabs) == 1 else total / np.float32(len(slabs))


def _spacing_warnings(volume: Volume, spec: ModelSpec) -> list[str]:
    """Doubt about a scan whose voxels are unlike those of the training, or of one slice only."""
    flat = 1 in volume.grid.shape and spec.network.spatial_dims == 3
    warnings = [f"{spec.name} is a 3D network, and this a single slice: the result is doubtful"] * flat
    ranges = spec.evidence.get("spacing_mm")
    if not ranges:
        return warnings
    for axis, (value, low, high) in enumerate(
        zip(sorted(volume.grid.spacing_mm), ranges["min"], ranges["max"], strict=True)
    ):
        ratio = max(value / high, low / value)
        text = (
            f"the {SIDES[axis]} side of a voxel is {value:.3g} mm; "
            f"{spec.name} was trained on {low:.3g} to {high:.3g} mm"
        )
        if ratio > REFUSE_SPACING:
            raise GeometryError(text, mend="resample the scan")
        if ratio > WARN_SPACING:
            warnings.append(f"{text}: the result is doubtful")
    return warnings
