"""The plots of a cohort's page, in the order they are read."""

from __future__ import annotations

from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots import boxes, distances, froc, heatmap, lesions, volumes

FEWEST_POINTS = 3
"""Cases from which a plot with a point for each says more than the tables."""


def cohort_pictures(cohort: ReportCohort) -> tuple[Picture, ...]:
    """What can be drawn of a cohort; the same pictures for the same cohort."""
    if not cohort.has_reference:
        rows = boxes.volume_rows(cohort)
        return () if rows is None else (rows,)
    over_cases = (
        volumes.bland_altman,
        volumes.bland_altman_percent,
        volumes.volume_pairs,
        volumes.dice_by_volume,
        distances.distance_steps,
    )
    enough = over_cases if len(cohort.cases) >= FEWEST_POINTS else ()
    drawn = (draw(cohort) for draw in (boxes.dice_boxes, *enough, lesions.lesion_points, froc.froc_curves))
    return (*(picture for picture in drawn if picture is not None), *heatmap.heat_maps(cohort))
