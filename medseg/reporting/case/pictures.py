"""The pictures of a case's page, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.instances import InstanceMap
from medseg.core.numbers import MINUS
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.metrics.signed import Compared
from medseg.reporting.case.content import Picture, ReportCase, StructureRow
from medseg.reporting.drawing.figures import slices_png
from medseg.reporting.drawing.instances import instances_png
from medseg.reporting.drawing.views import Place, centre_views, place_views, window_of, worst_places
from medseg.reporting.viewer.viewer import viewer

Image = NDArray[Any]

MOST_INSTANCES = 24
"""Instances that are shown, the largest."""

MOST_PLACES = 3
"""Structures shown where they differ most."""


def with_pictures(
    case: ReportCase,
    image: Image,
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    reference: Image | None = None,
    compared: Sequence[Compared] = (),
    window: tuple[float, float] | None = None,
    instances: InstanceMap | None = None,
    scroll: bool = True,
) -> ReportCase:
    """The case with its pictures and, if wanted, the viewer.

    Args:
        case: rows, and whether the orientation is known.
        image: intensities, (I, J, K).
        labels: label values of the prediction, (I, J, K).
        grid: where the voxels are.
        structures: names and colours.
        reference: label values of the reference, (I, J, K).
        compared: the structures whose surfaces are shown, see `metrics.signed`.
        window: intensities shown black and white; `window_of(image)` when None.
        instances: the single objects of structures, on the same grid.
        scroll: whether to add the viewer.
    """
    shown, known = window or window_of(image), case.orientation_known
    look: dict[str, Any] = {"window": shown, "orientation_known": known}
    pictures = [centre_picture(image, labels, grid, structures, reference=reference, **look)]
    surfaces, places = None, []
    if reference is not None:
        places = worst_places(compared, labels, reference, structures, most=MOST_PLACES)
        if places:
            pictures.append(worst_picture(image, labels, reference, grid, structures, places, **look))
        surfaces = surface_picture(compared, grid, case.rows, orientation_known=known)
    buttons = [(place.words, place.point) for place in places]
    return replace(
        case,
        pictures=tuple(pictures),
        surfaces=surfaces,
        instances=instances.items if instances else (),
        instances_picture=instances_picture(image, instances, structures, **look) if instances else None,
        window=shown,
        viewer=viewer(image, labels, grid, structures, reference=reference, places=buttons, **look)
        if scroll
        else None,
    )


def centre_picture(
    image: Image,
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    reference: Image | None = None,
    window: tuple[float, float],
    orientation_known: bool = True,
) -> Picture:
    """Slices through the centre of the structures, close up too where they are small.

    Args:
        image: intensities, (I, J, K).
        labels: label values of the prediction, (I, J, K).
        grid: where the voxels are.
        structures: names and colours.
        reference: label values of the reference, (I, J, K).
        window: intensities shown black and white.
        orientation_known: False leaves out letters and positions.
    """
    views = centre_views(image, labels, reference, grid, structures, closeup=True)
    drawn = slices_png(views, structures, orientation_known=orientation_known, window=window)
    caption = _reading(orientation_known, reference is not None, window)
    alt = "Slices of the scan with outlines of the structures"
    return Picture("Slices through the centre of the structures", drawn, alt, caption)


def followup_picture(
    when: str,
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    image: Image | None = None,
    orientation_known: bool = True,
) -> Picture:
    """One of two scans of a patient: slices through the centre of its structures.

    Args:
        when: what the scan is called.
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: names and colours.
        image: intensities, (I, J, K); without them the outlines stand on a dark ground.
        orientation_known: False leaves out letters and positions.
    """
    shown = np.zeros(grid.shape, np.uint8) if image is None else image
    window = (0.0, 1.0) if image is None else window_of(shown)
    made = centre_picture(shown, labels, grid, structures, window=window, orientation_known=orientation_known)
    alone = "" if image is not None else " Only the outlines are shown, because the scan was not given."
    where = f"The slices pass through the centre of the structures in this scan.{alone}"
    caption = where if image is None else f"{where} {made.caption}"
    return replace(made, title=when, alt=f"{when}: {made.alt.lower()}", caption=caption)


def worst_picture(
    image: Image,
    labels: Image,
    reference: Image,
    grid: Grid,
    structures: StructureSet,
    places: Sequence[Place],
    *,
    window: tuple[float, float],
    orientation_known: bool = True,
) -> Picture:
    """Slices through the points where surfaces lie furthest apart.

    Arguments as `centre_picture`; `places` are what `views.worst_places` found, at least one.
    """
    views = place_views(image, labels, reference, grid, structures, places, closeup=True)
    drawn = slices_png(views, structures, orientation_known=orientation_known, window=window)
    caption = (
        "The slices pass through the point of either surface that is farthest from the other surface; a ring "
        "marks it. A structure that only prediction or reference contains is shown at its centre. The "
        f"structure with the largest distance comes first; at most {MOST_PLACES} structures are shown."
    )
    alt = "Slices through the points with the largest distance between prediction and reference"
    return Picture("Largest distances between prediction and reference", drawn, alt, caption)


def surface_picture(
    compared: Sequence[Compared],
    grid: Grid,
    rows: Sequence[StructureRow],
    *,
    orientation_known: bool = True,
) -> Picture | None:
    """Signed distances as histograms and maps; None where no structure is in both maps.

    Args:
        compared: the structures to draw.
        grid: of the segmentations.
        rows: the measurements, which have the tolerances.
        orientation_known: False names the views after the array's axes.
    """
    found = [surfaces for _, surfaces in compared if surfaces is not None]
    if not found:
        return None
    from medseg.reporting.drawing.surfaces import surfaces_png  # with matplotlib: slow to import

    tolerances = {row.name: row.tolerance_mm for row in rows}
    dashed = any(tolerance is not None for tolerance in tolerances.values())
    drawn = surfaces_png(found, grid, tolerances_mm=tolerances, orientation_known=orientation_known)
    left_out = sum(row.assd_mm.is_finite for row in rows) > len(found)
    caption = (
        "Distances are positive where the surface of the prediction lies outside the reference, and negative "
        "where it lies inside. The histogram shows percentages of the area of both surfaces; its outermost "
        "bars include all larger distances."
        + (" Dashed lines mark the tolerance of the surface Dice." if dashed else "")
        + (" The maps show the surface of the reference, slightly smoothed." if grid.shape[2] > 1 else "")
        + (f" Only the {len(found)} structures with the largest distances are shown." if left_out else "")
    )
    alt = "Histograms and maps of the signed distances between the surfaces"
    return Picture("Signed surface distance", drawn, alt, caption)


def instances_picture(
    image: Image,
    instances: InstanceMap,
    structures: StructureSet,
    *,
    window: tuple[float, float],
    orientation_known: bool = True,
) -> Picture | None:
    """The largest instances, each close up; None where there is none."""
    largest = sorted(instances.items, key=lambda one: (-one.voxels, one.number))[:MOST_INSTANCES]
    if not largest:
        return None
    shown = sorted(largest, key=lambda one: one.number)
    drawn = instances_png(
        image, instances, shown, structures, window=window, orientation_known=orientation_known
    )
    left_out = len(instances) - len(shown)
    caption = (
        "The numbers are those of the table below, and the values of the map of instances. Other instances "
        "are outlined in grey."
    ) + (f" The {MOST_INSTANCES} largest of {len(instances)} are shown." if left_out else "")
    return Picture(
        "Each instance in a slice through its middle", drawn, "Slices of single instances", caption
    )


def _reading(orientation_known: bool, has_reference: bool, window: tuple[float, float]) -> str:
    if orientation_known:
        display = (
            "Slices are shown in radiological convention: the patient’s left is on the right of the image. "
            "Letters at the edges are anatomical directions (R right, L left, A anterior, P posterior, "
            "S superior, I inferior); positions are coordinates of the scan in mm."
        )
    else:
        display = "Slices are shown as stored; right and left are unknown."
    dashed = " Dashed, paler outlines show the reference." if has_reference else ""
    low, high = (f"{value:.4g}".replace("-", MINUS) for value in window)
    grey = f"The grey scale ranges from {low} (black) to {high} (white)."
    return f"{display} Solid outlines show the prediction.{dashed} {grey}"
