"""From what a dataset is like to a card and a recipe, each choice with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from medseg.augment.slices import turned
from medseg.augment.spec import AugmentSpec
from medseg.core.errors import counted, listed
from medseg.data.cards import Card
from medseg.data.fingerprint import Fingerprint
from medseg.losses.spec import LossSpec
from medseg.model.spec import InferenceSpec, ModelSpec, NetworkSpec, PostprocessSpec, SliceSpec
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.training.planning.augmenting import augmentation
from medseg.training.planning.limits import LEAST_VOXELS, STEPS_SHARE, Limits
from medseg.training.planning.patches import Geometry, fixed_geometry, geometry, whole_geometry
from medseg.training.planning.speed import BASE
from medseg.training.recipe import MetricsSpec, Recipe
from medseg.training.run import CARD
from medseg.training.spec import CascadeSpec, TrainingSpec

WIDEST = 10
"""Times the width of the first level that no level goes beyond."""

EPOCHS = 30
"""Parts a training is cut into, each with a checkpoint and a validation."""

FEW_GROUPS = 20
"""Patients below which all train and the last weights are kept: none can be spared to choose a checkpoint."""

CASCADE_SHARE = 0.1
"""Share of a usual scan that a patch sees at least without a coarse stage. nnU-Net trains a cascade below a
quarter, and takes it only where cross-validation prefers it; here it is not compared."""

CASCADE_PATIENTS = 8
"""Patients below which there is no coarse stage: it knows by heart what the fine one then learns to trust."""

LENGTH = "length"
"""The choice that tells how long the training is."""

SLICES = 16
"""Patches of a step at most where they are slices."""


class Reason(NamedTuple):
    """A choice of a plan: what was set, to what, and why."""

    setting: str
    value: str
    why: str


@dataclass(frozen=True)
class Plan:
    """A card, a recipe, and why they are as they are; and what is to be said of it before the training."""

    card: Card
    recipe: Recipe
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...] = ()


def plan(like: Fingerprint, card: Card, limits: Limits, start: ModelSpec | None = None) -> Plan:
    """Choose every setting of a training.

    Args:
        like: what the cases of the dataset are like.
        card: of the dataset.
        limits: what the training may use.
        start: the model whose weights the training starts from: network, voxels and intensities are its own.
    """
    reasons: list[Reason] = []
    across = like.flat_axes[0] if len(like.flat_axes) == 1 and start is None else None
    sides = [mm for axis, mm in enumerate(like.spacing_mm) if axis != across]
    limits = _holding(like, limits, start)
    seen, width, batch = _geometry(like, limits, start, across, reasons)
    recipe = Recipe(
        name=card.name,
        card=CARD,
        description=f"Planned for {counted(len(like.cases), 'case')} of {card.name}",
        channels=() if like.channels == card.channels else like.channels,
        network=_network(seen, width, start, across, reasons),
        preparation=_preparation(like, seen, start, reasons),
        augmentation=_augmentation(like, seen, reasons),
        loss=_loss(like, reasons),
        training=_training(like, seen, limits, batch, across, reasons),
        slices=SliceSpec() if across is None else SliceSpec((across,)),
        cascade=None if start is not None or across is not None else _cascade(like, seen, width, reasons),
        inference=_inference(seen, across, reasons),
        postprocess=_postprocess(like, limits, reasons),
        metrics=MetricsSpec(round(2 * max(sides), 2), "twice the longest side of a usual voxel"),
    )
    return Plan(card, recipe, tuple(reasons))


def kept_network(start: ModelSpec) -> NetworkSpec:
    """The network of a model to start from; one of slices becomes one of volumes, which takes its weights."""
    network = start.network
    if network.spatial_dims == 3:
        return network
    return replace(
        network,
        spatial_dims=3,
        kernels=tuple((*kernel, 3) for kernel in network.kernels),
        strides=tuple((*stride, 2) for stride in network.strides),
    )


def _holding(like: Fingerprint, limits: Limits, start: ModelSpec | None) -> Limits:
    """Fewer steps with larger patches, where a patch is smaller than a ball of the largest structure."""
    seen = _seen(like, limits.voxels, start)
    if seen.whole or like.flat_axes:
        return limits
    _, across_mm = like.largest_mm
    sides = [min(e, across_mm) / side for e, side in zip(like.extent_mm, seen.spacing_mm, strict=True)]
    return limits.allowing(math.prod(sides))


def _seen(like: Fingerprint, voxels: float, start: ModelSpec | None) -> Geometry:
    """What a network sees whose patches may have so many voxels."""
    if start is None:
        return geometry(like.extent_mm, like.spacing_mm, like.thinnest_mm, voxels)
    i, j, *k = start.facts.stride
    steps = (i, j, k[0] if k else i)
    return fixed_geometry(like.extent_mm, start.preparation.spacing_mm or like.spacing_mm, steps, voxels)


def _geometry(
    like: Fingerprint, limits: Limits, start: ModelSpec | None, across: int | None, reasons: list[Reason]
) -> tuple[Geometry, int, int]:
    """What the network sees, the width of its first level, and the patches of a step."""
    voxels, by_time, by_memory = limits.voxels, limits.by_time, limits.by_memory
    seen = _seen(like, voxels, start)
    bound = "the memory" if by_memory < by_time else f"a step of {limits.step_s:.2g} s"
    allows = f"{bound} allows {_millions(voxels)}"
    if min(by_time, by_memory) < LEAST_VOXELS:
        allows = f"no patch has fewer than {_millions(voxels)}"
    native = _by(like.spacing_mm)
    needed = math.prod(e / side for e, side in zip(like.extent_mm, like.spacing_mm, strict=True))
    coarser = f"{allows}; a whole scan of {native} mm has {_millions(needed)}"
    fits = f"{'a whole scan' if seen.whole else 'as much of a scan as fits'} ({_by(like.extent_mm)} mm)"
    reasons += [
        Reason(
            "voxels",
            f"{_by(seen.spacing_mm)} mm",
            f"as {start.name} has them"
            if start is not None
            else "as the scans have them"
            if seen.spacing_mm == like.spacing_mm
            else coarser,
        ),
        Reason("patch", f"{_by(seen.patch)} voxels", f"{fits}; {allows}"),
    ]
    spare = min(by_time, by_memory) / math.prod(seen.patch)
    times = 1 if across is None else max(1, min(SLICES // limits.batch, math.floor(spare)))
    spare /= times
    width = BASE if spare < 3 else 24 if spare < 6 else 32
    return seen, width, times * limits.batch


def _cascade(like: Fingerprint, seen: Geometry, width: int, reasons: list[Reason]) -> CascadeSpec | None:
    """A coarse stage that sees a whole scan, where a patch sees little of it."""
    patch = math.prod(seen.patch)
    share = patch / math.prod(e / side for e, side in zip(like.extent_mm, seen.spacing_mm, strict=True))
    if share >= CASCADE_SHARE:
        return None
    patients = len({case.group for case in like.cases})
    if patients < CASCADE_PATIENTS:
        why = f"a patch sees {100 * share:.2g} % of a scan, but {patients} patients would be learnt by heart"
        reasons.append(Reason("cascade", "none", why))
        return None
    coarse = whole_geometry(like.extent_mm, seen.spacing_mm, patch)
    cascade = CascadeSpec(
        coarse.spacing_mm, coarse.patch, _widths(coarse, width), coarse.kernels, coarse.strides
    )
    reasons.append(
        Reason(
            "cascade",
            f"a coarse stage first: {_by(coarse.spacing_mm)} mm, {_by(coarse.patch)} voxels, "
            f"{100 * cascade.time_share:.0f} % of the time",
            f"a patch sees {100 * share:.2g} % of a scan, less than {100 * CASCADE_SHARE:.0f} %",
        )
    )
    return cascade


def _widths(seen: Geometry, width: int) -> tuple[int, ...]:
    """Channels of each level."""
    return tuple(min(width * 2**n, width * WIDEST) for n in range(seen.levels))


def _network(
    seen: Geometry, width: int, start: ModelSpec | None, across: int | None, reasons: list[Reason]
) -> NetworkSpec:
    if start is not None:
        reasons.append(
            Reason("network", start.network.name, f"the training starts from the weights of {start.name}")
        )
        return replace(kept_network(start), in_channels=1, out_channels=2)
    widths = _widths(seen, width)
    kernels: tuple[tuple[int, ...], ...] = seen.kernels
    strides: tuple[tuple[int, ...], ...] = seen.strides
    if across is not None:
        kernels, strides = (
            tuple(turned(sizes, across)[:2] for sizes in levels) for levels in (kernels, strides)
        )
    same = all(len(set(sizes)) == 1 for sizes in (*kernels, *strides))
    name, flat = ("unet3d", "") if across is None else ("unet", "every scan is a single slice; ")
    reasons.append(
        Reason(
            "network",
            f"{name}{' of two dimensions' if flat else ''}, widths {', '.join(map(str, widths))}",
            f"{flat}{seen.levels} levels until a map has under 8 voxels a side"
            + ("" if same else "; axes of longer voxels, or of fewer, are pooled less"),
        )
    )
    return NetworkSpec(
        name,
        spatial_dims=2 if flat else 3,
        widths=widths,
        norm="batch",
        kernels=() if same else kernels,
        strides=() if same else strides,
        options={"bias": False},
    )


def _preparation(
    like: Fingerprint, seen: Geometry, start: ModelSpec | None, reasons: list[Reason]
) -> PreparationSpec:
    if start is not None:
        reasons.append(
            Reason("intensities", start.preparation.normalisation.kind, f"as {start.name} has them")
        )
        return start.preparation
    region: Literal["foreground", "all"] = "foreground" if like.has_background else "all"
    normalisation = NormalisationSpec("zscore", region)
    why, value = "MR and other scans without units", "z-score, percentiles 0.5 to 99.5 clipped"
    of_ct = [like.is_ct(n) for n in range(len(like.channels))]
    if any(case.intensities[n].is_ct for case in like.cases for n in range(len(of_ct))) and not all(of_ct):
        why = "not all scans or channels are CT"
    if all(of_ct):
        low, high = like.window()
        normalisation = NormalisationSpec("window", window=(round(low), round(max(high, low + 1))))
        why, value = "Hounsfield units: structures lie within it", f"window {low:.0f} to {high:.0f}"
    if like.has_background:
        reasons.append(
            Reason("crop", "to what is not background", "scans were cut out of their surroundings")
        )
    reasons.append(Reason("intensities", value, why))
    return PreparationSpec(
        None if _same_everywhere(like, seen) else seen.spacing_mm,
        "foreground" if like.has_background else "none",
        normalisation,
    )


def _same_everywhere(like: Fingerprint, seen: Geometry) -> bool:
    """Whether all scans have the voxels that the network is to see, so that nothing is resampled."""
    return all(
        abs(a / b - 1) < 0.02
        for case in like.cases
        for a, b in zip(case.spacing_mm, seen.spacing_mm, strict=True)
    )


def _augmentation(like: Fingerprint, seen: Geometry, reasons: list[Reason]) -> AugmentSpec:
    spec, value, why = augmentation(like, seen)
    reasons.append(Reason("augmentation", value, why))
    return spec


def _loss(like: Fingerprint, reasons: list[Reason]) -> LossSpec:
    name = "bce_dice" if like.structures.are_regions else "dice_ce"
    why = "structures overlap" if like.structures.are_regions else "structures exclude one another"
    reasons.append(Reason("loss", name, why))
    return LossSpec(name)


def _inference(seen: Geometry, across: int | None, reasons: list[Reason]) -> InferenceSpec:
    """As the network was trained: one that saw whole scans knows where their borders are."""
    if not seen.whole and across is None:
        return InferenceSpec()
    why = "whole scans only" if seen.whole else "the borders of patches of its size only"
    reasons.append(Reason("tiles", "sliding window of the patch", f"the network has seen {why}"))
    return InferenceSpec("sliding_window")


def _postprocess(like: Fingerprint, limits: Limits, reasons: list[Reason]) -> PostprocessSpec:
    """By what the labels are like, where no cases are left to compare it on."""
    if limits.trainings > 1:
        reasons.append(Reason("post-processing", "chosen at the end", "over the cases of all folds"))
        return PostprocessSpec()
    if like.compact:
        value = f"the largest component of {listed(like.compact)}"
        reasons.append(Reason("post-processing", value, "in one compact piece in every case"))
    return PostprocessSpec(largest_component=like.compact)


def _training(
    like: Fingerprint,
    seen: Geometry,
    limits: Limits,
    batch: int,
    across: int | None,
    reasons: list[Reason],
) -> TrainingSpec:
    steps = limits.steps
    i, j, k = seen.patch if across is None else turned(seen.patch, across)
    groups = len({case.group for case in like.cases})
    few = groups < FEW_GROUPS
    reasons += [
        _length(like, limits, batch),
        Reason(
            "checkpoint",
            "the last" if few else "the best on whole volumes of a tenth of the cases",
            f"{counted(groups, 'patient')}: "
            + ("all are needed to train" if few else f"enough to spare some; {EPOCHS // 2} in vain end it"),
        ),
    ]
    return TrainingSpec(
        patch=(i, j, k),
        batch=batch,
        epochs=EPOCHS,
        steps_per_epoch=max(10, round(steps / EPOCHS)),
        learning_rate=2e-3,
        foreground_share=0.3 if seen.whole else 0.7,
        ema_decay=round(min(0.999, max(0.98, 1 - 20 / steps)), 4),
        selection_share=0.0 if few else 0.1,
        patience=0 if few else EPOCHS // 2,
    )


def _length(like: Fingerprint, limits: Limits, batch: int) -> Reason:
    """How many steps there are, and of what time."""
    value, why = f"{counted(limits.steps, 'step')} of {batch} patches", f"for {told_duration(limits.seconds)}"
    if limits.beside_s > (1 - STEPS_SHARE) * limits.seconds:
        why += f", less {told_duration(limits.beside_s)} to read the cases and to measure them"
    if limits.fewer < 1.0:
        name, across_mm = like.largest_mm
        why += f"; few and large, for patches to see more of {name} ({across_mm:.0f} mm across)"
    return Reason(LENGTH, value, why)


def told_duration(seconds: float) -> str:
    """A duration for people, in minutes where there are two.

    >>> told_duration(3600.0), told_duration(50.0)
    ('60 minutes', '50 seconds')
    """
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else counted(round(seconds), "second")


def _millions(voxels: float) -> str:
    """A number of voxels for people.

    >>> _millions(2_460_000.0), _millions(63_400.0)
    ('2.5 million voxels', '63 thousand voxels')
    """
    return f"{voxels / 1e6:.2g} million voxels" if voxels >= 1e6 else f"{voxels / 1e3:.0f} thousand voxels"


def _by(values: tuple[float, ...] | tuple[int, ...]) -> str:
    """Sizes for people, such as 96x80x48."""
    return "x".join(f"{v:.3g}" for v in values)
