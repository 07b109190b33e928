"""A segmentation within a time budget: when to stop, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medseg.core.errors import UsageError
from medseg.inference.anytime import Anytime
from medseg.inference.predictor import Predictor
from medseg.inference.restore import Rows
from medseg.model.file import Model
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.result import Segmentation

END = 1.4
"""What the end of a scan takes, from blended logits to written labels, over all up to the quick look:
set by runs of the packaged brain model, whose refinement makes it long."""

Found = Callable[[Predictor, Rows, Anytime], Segmentation]
"""Makes the result of rows; where sides are in doubt, the predictor looks at the mirrored scan."""


def require_tiles(models: Sequence[Model], options: SegmenterOptions) -> None:
    """Refuse a time budget for what is not one image in tiles.

    Raises:
        UsageError: why there can be none.
    """
    if options.time_budget is None:
        return
    spec, why = models[0].spec, ""
    if len(models) > 1 or len(options.scales) > 1:
        why = "with several models or scales"
    elif spec.network.finds_objects:
        why = f"with {spec.name}, which finds objects in the whole scan"
    elif spec.network.spatial_dims == 2:
        why = f"with {spec.name}, a network of slices"
    if why:
        raise UsageError(f"a time budget is not possible {why}", hint="leave out --time-budget")


def within(options: SegmenterOptions, work: Anytime, found: Found, *, sides: bool) -> Segmentation:
    """The best result for which there is time.

    Another tile is begun only if it and the end are expected to fit. Tiles that are asked for by number are
    all computed.

    Args:
        options: with a time budget.
        work: the prediction, whose watch has counted the scan's time so far.
        found: makes a result.
        sides: whether the mirrored scan may have to be looked at, which is done quickly.
    """
    budget, wanted, watch = options.time_budget or 0.0, options.budget_tiles, work.watch
    with watch.step("tiles"):
        work.look()
    mirrored = work.looking_seconds if sides else 0.0
    end = END * watch.elapsed + work.blending_seconds + mirrored

    def fits() -> bool:
        return watch.elapsed + work.next_seconds + end <= budget

    if wanted is not None:
        work.keep(wanted)
    elif work.parts and fits():
        with watch.step("tiles"):
            work.order()
    while work.parts and (wanted is not None or fits()):
        with watch.step("tiles"):
            work.advance()
    return found(work.quick, work.rows(), work)
