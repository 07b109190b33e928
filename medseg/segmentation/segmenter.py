"""Segmenter: loads models once and segments scan after scan; the prediction API."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.core.errors import InputError, ModelError, UsageError, counted, plural
from medseg.core.instances import InstanceMap
from medseg.core.keywords import hinted
from medseg.core.stopwatch import Stopwatch
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.findings.scan import require_spacing
from medseg.inference import engines, planner
from medseg.inference.anytime import Anytime
from medseg.inference.crf import smoothed
from medseg.inference.engines.base import available_threads
from medseg.inference.planner import Forecast
from medseg.inference.postprocess import postprocess
from medseg.inference.predictor import Predictor
from medseg.inference.refine import refined_labels
from medseg.inference.restore import Labels, Rows, restored_labels
from medseg.io.objects import Source, as_volume
from medseg.io.options import ReadOptions
from medseg.model.file import Model, find_models, load_model
from medseg.model.refinement import RefinementSpec
from medseg.preparation.preparation import Prepared
from medseg.segmentation.budget import require_tiles, within
from medseg.segmentation.cascade import CascadePreparation
from medseg.segmentation.features import features_of
from medseg.segmentation.instances import instances_of
from medseg.segmentation.member import Member, SegmenterOptions, at_scale
from medseg.segmentation.objects import ObjectFinder, described, labels_of
from medseg.segmentation.result import Segmentation
from medseg.segmentation.rows import BudgetSummary
from medseg.segmentation.verdict import ConfidenceTally, assess, require_units

TIMED_EDGE, SLAB_COST = 96, 1.4
"""Voxels of an edge that is timed where all would be too many, and what slabs take beside one tile."""

UNNAMED = "image"
"""What a single channel is called without a name."""


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
        require_tiles(models, self.options)
        level = self.options.prune
        self.models = tuple(engines.pruned(model, level) if level else model for model in models)
        if not self.models:
            raise ModelError("no model was given", hint="give at least one model")
        first = self.models[0].spec
        for other in self.models[1:]:
            if (other.spec.structures, other.spec.channels) != (first.structures, first.channels):
                raise ModelError(f"{other.spec.name} and {first.name} write different structures")
        self.channels = first.channels
        self.structures = first.structure_set
        scaled = [at_scale(model, scale) for model in self.models for scale in self.options.scales or (1.0,)]
        self.members = [Member(model, self.options) for model in scaled]
        self.refinement = self._refinement()
        finds, least = first.network.finds_objects, self.options.least_score
        if least is not None and not finds:
            text = f"{first.name} does not find objects with scores"
            raise UsageError(text, hint="leave out --least-score")
        self.finder = ObjectFinder(self.models, least) if finds else None

    def __repr__(self) -> str:
        names = ", ".join(model.spec.name for model in self.models)
        found = counted(len(self.structures), "structure")
        return f"Segmenter({names}: {', '.join(self.channels)} to {found})"

    @property
    def tells_instances(self) -> bool:
        """Whether the single objects of structures are told apart."""
        return self.finder is not None or self.models[0].spec.postprocess.instances is not None

    def _refinement(self) -> RefinementSpec | None:
        """How the one model's answer follows the scan; a mean of several answers is left as it is.

        Raises:
            UsageError: refinement is asked for, and there are several answers, or the model has none.
        """
        spec = self.models[0].spec.refinement if len(self.members) == 1 else None
        if self.options.refine and spec is None:
            raise UsageError(
                "refinement is not possible with several models or scales"
                if len(self.members) > 1
                else f"{self.models[0].spec.name} does not have settings for refinement",
                hint="leave out --refine",
            )
        return None if self.options.refine is False else spec

    @hinted
    def __call__(
        self,
        scan: Source | Mapping[str, Source],
        *,
        affine: ArrayLike | None = None,
        channels: Sequence[str] | None = None,
        use_form: Literal["sform", "qform"] | None = None,
        assume_ras: bool = False,
        fill_nan: float | None = None,
        volume: int | None = None,
        series: str | None = None,
        watch: Stopwatch | None = None,
    ) -> Segmentation:
        """Segment one scan.

        Args:
            scan: a path, a `Volume`, an image of nibabel or SimpleITK, an array (I, J, K) or (C, I, J, K),
                or one of them for each channel by name.
            affine: 4x4, voxel index to RAS+ mm, of an array.
            channels: what several channels of one file or array are called; their order is never guessed.
            use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
            watch: counts what the steps take.

        Returns:
            Labels on the scan's own grid, their volumes, and the verdict.

        Raises:
            MedsegError: the scan cannot be read, does not suit the model, or does not fit in memory.
        """
        options = ReadOptions(use_form, assume_ras, fill_nan, volume, series)
        read = as_volume(scan, affine=affine, channels=channels, options=options)
        return self._segmented(read, watch or Stopwatch())

    def _segmented(self, volume: Volume, watch: Stopwatch) -> Segmentation:
        self.require(volume.channels, volume.grid)
        volume = self._bound(volume)
        if not self.options.force:
            require_units(volume, [m.spec for m in self.models])
        with watch.step("prepare"):
            prepared = [m.preparation.apply(volume) for m in self.members]
        predictors = self._fitted(prepared)
        if self.options.time_budget is None:
            runs = [one.rows(p.array, watch) for one, p in zip(predictors, prepared, strict=True)]
            return self._found(volume, prepared, watch, predictors[0], runs)
        work = Anytime(predictors[0], prepared[0].array, watch)

        def found(predictor: Predictor, rows: Rows, work: Anytime) -> Segmentation:
            return self._found(volume, prepared, watch, predictor, [rows], work)

        sides = any(structure.side != "none" for structure in self.structures)
        return within(self.options, work, found, sides=sides)

    def _found(
        self,
        volume: Volume,
        prepared: list[Prepared],
        watch: Stopwatch,
        predictor: Predictor,
        rows: Sequence[Rows],
        work: Anytime | None = None,
    ) -> Segmentation:
        """The result of rows of each model; where sides are in doubt, `predictor` sees the mirrored scan."""
        calibrated = self.members[0].model.spec.evidence.calibration is not None
        quick = None if work is None else work.unfinished()
        seen = ConfidenceTally(self.structures, self.options.observe or calibrated, quick)
        runs, probabilities = self._runs(prepared, rows, seen, watch)
        first, grid = self.members[0], prepared[0].oriented_grid
        with watch.step("restore"):
            restored, contrast = self._restored(volume, prepared, runs)
            canonical = postprocess(restored, self.structures, first.model.spec.postprocess, grid)
        canonical, labels, instances = self._told_apart(canonical, volume, prepared[0], watch)
        seconds = self.options.time_budget
        spent = None if work is None or seconds is None else BudgetSummary(seconds, work.of, work.numbers)
        with watch.step("check"):
            mirrored = partial(first.preparation.mirrored, volume, prepared[0])
            features = self._features(prepared[0], seen, canonical, grid)
            verdict = assess(
                volume,
                labels,
                [model.spec for model in self.models],
                seen,
                features,
                contrast,
                lambda: _predicted(predictor, mirrored(), self.structures, watch),
                spent,
            )
        return Segmentation(
            labels,
            self.structures,
            verdict,
            first.model.spec.totals,
            features,
            seen.estimated_dice,
            probabilities,
            instances,
            spent,
        )

    def _told_apart(
        self, labels: NDArray[np.integer], volume: Volume, prepared: Prepared, watch: Stopwatch
    ) -> tuple[NDArray[np.integer], LabelMap, InstanceMap | None]:
        """Labels in RAS+ order and as the scan's file has its axes, with the objects where they are told."""
        wanted = self.models[0].spec.postprocess.instances
        if self.finder is None:
            whole = LabelMap(prepared.to_input(labels), volume.grid, volume.form)
            return labels, whole, instances_of(whole, self.structures, wanted) if wanted else None
        with watch.step("objects"):
            numbers, found = self.finder(prepared, labels, self.structures)
            labels = labels_of(numbers, found, self.structures, labels.dtype)
            whole = LabelMap(prepared.to_input(labels), volume.grid, volume.form)
            return labels, whole, described(prepared.to_input(numbers), found, self.structures, whole)

    def _restored(
        self, volume: Volume, prepared: Sequence[Prepared], runs: Sequence[Rows]
    ) -> tuple[Labels, dict[str, float]]:
        """Labels on the scan's grid in RAS+ order, and the contrast of its tissues where it was looked at."""
        threads = self.options.threads or available_threads()
        if self.refinement is None:
            return restored_labels(prepared, runs, self.structures, threads=threads), {}
        name = self.refinement.channel or self.channels[0]
        image = volume.array[self.channels.index(name)]
        oriented = prepared[0].reorientation.forward(image)
        found = refined_labels(
            prepared[0], oriented, runs[0], self.refinement, self.structures, threads=threads
        )
        return found.labels, found.contrast

    def _features(
        self, prepared: Prepared, seen: ConfidenceTally, labels: NDArray[Any], grid: Grid
    ) -> dict[str, float]:
        if not seen.promised:
            return {}
        names, promised = self.channels, seen.estimated_dice
        images = prepared.array[: len(names)]
        return features_of(images, seen.labels, labels, grid, self.structures, names, promised)

    def _fitted(self, prepared: Sequence[Prepared]) -> list[Predictor]:
        """Each model's predictor, its tiles as large as there is room for."""
        limit = self.options.max_memory
        room = planner.room(limit) // len(prepared)
        return [
            planner.with_tiles_that_fit(
                m.predictor, m.model.spec, p.grid.shape, p.oriented_shape, room, limit
            )
            for m, p in zip(self.members, prepared, strict=True)
        ]

    def _runs(
        self, prepared: list[Prepared], rows: Sequence[Rows], seen: ConfidenceTally, watch: Stopwatch
    ) -> tuple[list[Rows], dict[str, NDArray[np.float32]]]:
        """Rows of probabilities of each model, as its tiles finish; and all of them, where they are kept."""
        runs = [watch.over("tiles", row) for row in rows]
        runs[0] = seen.add(runs[0])  # what the network says, before a random field makes it surer
        runs = list(map(smoothed, runs, prepared, (m.model.spec for m in self.members)))
        if not self.options.keep_probabilities:
            return runs, {}
        whole = [np.concatenate([part for _, part in run], axis=1) for run in runs]
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
        """How a scan would be predicted, from its header; see `planner.forecast`.

        The plans are those of fine stages; the memory is enough for coarse stages too.
        """
        limit = self.options.max_memory
        members = [(m.model.spec, m.predictor) for m in self.members]
        found = planner.forecast(members, grid, itemsize, limit)
        most = found.bytes
        for member, fine in zip(self.members, found.plans, strict=True):
            if isinstance(stage := member.preparation, CascadePreparation):
                coarse = planner.forecast([(stage.coarse, stage.predictor)], grid, itemsize, limit)
                waiting = planner.FLOAT * len(self.channels) * math.prod(fine.shape)
                most = max(most, coarse.bytes + waiting)
        return replace(found, bytes=most)

    def tile_seconds(self, forecast: Forecast) -> float:
        """What the networks take for all tiles of a forecast, from one of each, timed here and now.

        A tile that runs in slabs is timed in a part of it.
        """
        seconds = 0.0
        for member, plan, slabs in zip(self.members, forecast.plans, forecast.in_slabs, strict=True):
            stride = member.model.spec.facts.stride
            most = [TIMED_EDGE // s * s if slabs else n for n, s in zip(plan.tile_shape, stride, strict=True)]
            shape = [min(n, m) for n, m in zip(plan.tile_shape, most, strict=True)]
            tile = np.zeros((1, member.model.spec.network.in_channels, *shape), np.float32)
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

    def require(self, channels: Sequence[str], grid: Grid) -> None:
        """Refuse a scan that the models do not accept, by its header.

        Args:
            channels: what its channels are called; one that has no name is the only one.
            grid: of its voxels.

        Raises:
            InputError: they take other channels.
            GeometryError: the models were not trained on voxels of this size.
        """
        unnamed = len(self.channels) == 1 and tuple(channels) == (UNNAMED,)
        if not unnamed and sorted(channels) != sorted(self.channels):
            raise InputError(
                f"the model takes the {plural(len(self.channels), 'channel', 'channels')} "
                f"{', '.join(self.channels)}, but the scan has {_called(channels)}",
                hint="give " + " ".join(f"{name}=FILE" for name in self.channels),
            )
        require_spacing(grid, [m.spec for m in self.models])

    def _bound(self, volume: Volume) -> Volume:
        """The scan with its channels in the model's order, by name; one that has no name is the only one."""
        if len(self.channels) == 1 or volume.channels == self.channels:
            return volume
        order = [volume.channels.index(name) for name in self.channels]
        return Volume(volume.array[order], volume.grid, self.channels, volume.form, volume.warnings)


@dataclass(frozen=True)
class Loader:
    """What a segmenter is made of: a few words that make the same one in another process.

    Attributes:
        models: files, folders of runs, or names of packaged models.
        options: how they run.
    """

    models: tuple[str, ...]
    options: SegmenterOptions

    def __call__(self) -> Segmenter:
        paths = [path for name in self.models for path in find_models(name)]
        return Segmenter([load_model(path) for path in paths], self.options)

    def absolute(self) -> Loader:
        """The same in another working directory."""
        names = (str(Path(name).resolve()) if Path(name).exists() else name for name in self.models)
        return replace(self, models=tuple(names))


def _called(channels: Sequence[str]) -> str:
    """The channels of a scan in words; what nobody named has no name of its own."""
    return "one channel, which has no name" if tuple(channels) == (UNNAMED,) else ", ".join(channels)


def _predicted(
    predictor: Predictor, array: NDArray[np.float32], structures: StructureSet, watch: Stopwatch
) -> ConfidenceTally:
    """What is predicted of a prepared scan, not averaged with its mirror image."""
    rows = replace(predictor, flips=()).rows(array, watch)
    return ConfidenceTally.all_of(watch.over("tiles", rows), structures)


def _mean(slabs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    total = slabs[0]
    for slab in slabs[1:]:
        total = total + slab
    return total if len(slabs) == 1 else total / np.float32(len(slabs))
