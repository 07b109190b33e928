"""The plots of a cohort's page, in the order they are read."""

from __future__ import annotations

from medseg.reporting.case.content import Picture
from medseg.reporting.cohort.content import ReportCohort
from medseg.reporting.cohort.plots import boxes, distances, heatmap, lesions, volumes


def cohort_pictures(cohort: ReportCohort) -> tuple[Picture, ...]:
    """What can be drawn of a cohort; the same pictures for the same cohort."""
    if not cohort.has_reference:
        rows = boxes.volume_rows(cohort)
        return () if rows is None else (rows,)
    drawn = (
        boxes.dice_boxes(cohort),
        volumes.bland_altman(cohort),
        volumes.bland_altman_percent(cohort),
        volumes.volume_pairs(cohort),
        volumes.dice_by_volume(cohort),
        distances.distance_steps(cohort),
        lesions.lesion_points(cohort),
    )
    return (*(picture for picture in drawn if picture is not None), *heatmap.heat_maps(cohort))
