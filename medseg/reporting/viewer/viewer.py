"""All slices of a case, to scroll in the page: data in inert blocks, and one script for every page."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from string import Template
from typing import Any

from medseg.core.affine import WORLD_LETTERS
from medseg.core.errors import printable
from medseg.core.structures import StructureSet
from medseg.core.volume import Grid
from medseg.reporting.drawing.planes import Plane, planes, require_shape
from medseg.reporting.drawing.style import BANNER, paler, readable_colour
from medseg.reporting.drawing.views import window_of
from medseg.reporting.viewer.layers import (
    BUDGET_BYTES,
    Image,
    Layer,
    Voxel,
    image_layer,
    indices_of,
    label_layer,
    middle_of_all,
    middles,
)

SHARES = {2: "half its resolution", 3: "a third of its resolution", 4: "a quarter of its resolution"}


@dataclass(frozen=True)
class Viewer:
    """What a page needs to show the slices.

    Attributes:
        html: the viewer with its data, without a script; hidden until the script runs.
        style: rules for the page's style sheet; the same for every case.
        script: the page's script; the same for every case, so a policy can name its hash.
    """

    html: str
    style: str
    script: str


def viewer(
    image: Image,
    labels: Image,
    grid: Grid,
    structures: StructureSet,
    *,
    reference: Image | None = None,
    window: tuple[float, float] | None = None,
    orientation_known: bool = True,
    places: Sequence[tuple[str, Voxel]] = (),
) -> Viewer:
    """A viewer of every slice with outlines, turned as `figures.overlay_png` turns them.

    The scan is carried in at most 256 grey levels over twice the window, and averaged over blocks of
    voxels when it takes more than `BUDGET_BYTES` otherwise; the page says so.

    Args:
        image: intensities, (I, J, K).
        labels: label values, (I, J, K), on the same grid; unknown ones are not shown.
        grid: where the voxels are.
        structures: names and colours of the labels.
        reference: label values of a reference segmentation, (I, J, K).
        window: intensities shown black and white at first; `window_of(image)` when None.
        orientation_known: False leaves out letters and positions, and shows the array as stored.
        places: names and voxels that get a button, such as where the error is worst.

    Returns:
        Markup, style and script. The same input gives the same text.

    Raises:
        GeometryError: an array is not of the grid's shape.
    """
    require_shape(grid, image=image, label=labels, reference=reference)
    maps = {"labels": label_layer(labels, grid, structures)}
    if reference is not None:
        maps["reference"] = label_layer(reference, grid, structures)
    limits = _increasing(window or window_of(image))
    scan = image_layer(image, grid, limits, BUDGET_BYTES - sum(len(m.data) for m in maps.values()))
    layers = {"image": scan, **maps}
    settings = {
        **{name: layer.settings() for name, layer in layers.items()},
        "shape": grid.shape,
        "affine": grid.affine[:3].tolist(),
        "letters": WORLD_LETTERS,
        "known": orientation_known,
        "planes": [_plane(p) for p in planes(grid, orientation_known=orientation_known)],
        "window": limits,
        "begin": _begin(list(maps.values()), grid),
        "structures": _structures(structures, list(maps.values()), grid),
        "places": [{"name": printable(name), "at": [int(v) for v in at]} for name, at in places],
        "banner": BANNER,
    }
    html = Template(_text("viewer.html")).substitute(
        note=_note(scan, list(maps.values())),
        settings=_inert(settings),
        layers="\n".join(_block(name, layer) for name, layer in layers.items()),
    )
    return Viewer(html, _text("viewer.css"), _text("viewer.js"))


def _plane(plane: Plane) -> dict[str, Any]:
    return {
        "name": plane.name,
        "axis": plane.axis,
        "row": plane.row_axis,
        "column": plane.column_axis,
        "flipRows": plane.flip_rows,
        "flipColumns": plane.flip_columns,
        "letters": plane.letters,
        "world": plane.world_axis,
        "pixel": plane.pixel_mm,
    }


def _structures(structures: StructureSet, maps: Sequence[Layer], grid: Grid) -> list[dict[str, Any]]:
    """Name, colours and indices of each, and where to go for it: in the labels, else in the reference."""
    at: dict[str, Voxel] = {}
    for layer in maps:
        at |= middles(structures, layer, grid, known=at)
    rows = []
    for structure in structures:
        colour = readable_colour(structure.colour)
        rows.append(
            {
                "name": printable(structure.name),
                "colour": colour,
                "paler": paler(colour),
                "indices": indices_of(structure, structures),
                "at": at.get(structure.name),
            }
        )
    return rows


def _begin(maps: Sequence[Layer], grid: Grid) -> Voxel:
    """The middle of what is labelled, or of the scan."""
    found = (middle_of_all(layer, grid) for layer in maps)
    i, j, k = grid.shape
    return next((point for point in found if point is not None), (i // 2, j // 2, k // 2))


def _increasing(window: tuple[float, float]) -> tuple[float, float]:
    low, high = float(window[0]), float(window[1])
    return (low, high) if high > low else (low, low + 1.0)


def _note(scan: Layer, maps: Sequence[Layer]) -> str:
    """What the page leaves out so as to stay small."""
    said = []
    if not scan.is_whole:
        shares = SHARES if len(set(scan.factors)) == 1 else {}
        share = shares.get(scan.factors[0], "a lower resolution")
        said.append(
            f"To keep the page small, the scan is shown at {share}: one block is the mean of {_blocks(scan)}."
        )
    coarse = [layer for layer in maps if not layer.is_whole]
    if coarse:
        said.append(f"Outlines are coarser than the segmentation: one block stands for {_blocks(coarse[0])}.")
    elif said:
        said.append("Outlines show every voxel.")
    return " ".join(said)


def _blocks(layer: Layer) -> str:
    return " × ".join(map(str, layer.factors)) + " voxels"


def _block(name: str, layer: Layer) -> str:
    text = base64.b64encode(layer.data).decode("ascii")
    return f'<template class="viewer-{name}-data">{text}</template>'


def _inert(settings: dict[str, Any]) -> str:
    """JSON in which no character means anything to HTML."""
    text = json.dumps(settings, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=3)
def _text(name: str) -> str:
    return (files("medseg.reporting") / "templates" / name).read_text(encoding="utf-8")
