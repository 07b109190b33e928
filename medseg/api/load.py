"""`medseg.load`: models, ready to segment. Private: the name is `medseg.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medseg.core.keywords import hinted
from medseg.model.file import DEFAULT_MODEL
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader, Segmenter


@hinted
def load(
    model: str | Path | Sequence[str | Path] = DEFAULT_MODEL,
    *,
    device: str = "auto",
    engine: Literal["auto", "openvino", "torch"] = "auto",
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto",
    threads: int = 0,
    max_memory: int | None = None,
    tta: bool | None = None,
    refine: bool | None = None,
    prune: int = 0,
    scales: Sequence[float] = (),
    least_score: float | None = None,
    keep_probabilities: bool = False,
    observe: bool = False,
    force: bool = False,
    time_budget: float | None = None,
) -> Segmenter:
    """A model, ready to segment scan after scan; several are averaged as probabilities.

    Args:
        model: a model file, the name of a packaged model ("brain", "hippocampus"), or several of them.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto".
        engine: "openvino", "torch", or "auto": OpenVINO on a CPU where the model has its graph.
        precision: of the arithmetic: "f32", "bf16", "f16", or "auto", the quickest that the model was
            shown to agree in.
        threads: of the processor; 0 takes what there is.
        max_memory: bytes this process may hold; None takes most of what is free.
        tta: average over the mirrored scan too; None does what the model says.
        refine: follow the intensities of the scan; None does what the model says.
        prune: level a UNet++ is cut down to; 0 for the whole.
        scales: average over the scan made so many times larger, such as (0.9, 1, 1.1).
        least_score: of an object that a network finds, in [0, 1]: less sure ones are left out; None does what
            the model says.
        keep_probabilities: keep the probabilities of the whole scan in the result.
        observe: find features and the promised Dice, even for a model that was not calibrated.
        force: take a scan whose intensities look rescaled, with a warning.
        time_budget: seconds for a scan: a quick look at the whole, then tiles where that was unsure, until
            the time is over; None takes what it takes.

    Returns:
        A `Segmenter`, called with a scan: a path, an image of nibabel or SimpleITK, a `Volume`, an array
        with `affine=`, or one of these for each channel by name.

    Raises:
        ModelError: there is no such model, the file is damaged, or several do not go together.
        UsageError: a setting makes no sense here.
        TypeError: there is no such keyword; the message names the nearest.

    >>> import medseg
    >>> segmenter = medseg.load("hippocampus", threads=1)
    >>> segmenter.channels, segmenter.structures.names
    (('MRI',), ('anterior', 'posterior'))
    >>> medseg.load("hippocampus", devise="cpu")
    Traceback (most recent call last):
    TypeError: load() has no keyword 'devise'; did you mean 'device'?
    """
    names = [model] if isinstance(model, str | Path) else list(model)
    options = SegmenterOptions(
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        max_memory=max_memory,
        tta=tta,
        refine=refine,
        prune=prune,
        scales=tuple(scales),
        least_score=least_score,
        keep_probabilities=keep_probabilities,
        observe=observe,
        force=force,
        time_budget=time_budget,
    )
    return Loader(tuple(map(str, names)), options)()
