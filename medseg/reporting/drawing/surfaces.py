"""Where surfaces lie apart, as one PNG: a histogram of signed distances and six views of the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from medseg.core import affine as aff
from medseg.core.affine import WORLD_LETTERS
from medseg.core.volume import Grid
from medseg.metrics.signed import SignedSurfaces
from medseg.reporting.drawing.planes import ARRAY_NAMES
from medseg.reporting.drawing.plotting import STYLE, png
from medseg.reporting.drawing.style import AMBER, BANNER, FAINT, INK, RULE, drawable, nice_length

Numbers = NDArray[np.float64]
Faces = NDArray[np.integer]

WIDTH_IN, MARGIN_IN = 7.4, 0.12
HEADING_IN, NAME_IN, VIEW_IN, GAP_IN = 0.28, 0.17, 1.12, 0.08
ROW_IN = HEADING_IN + 2 * (NAME_IN + VIEW_IN + GAP_IN) + 0.1
FLAT_ROW_IN = 1.9
HISTOGRAM_IN = (0.5, 2.2)
"""Left edge and width of the histogram's axes."""
VIEWS_IN = (3.05, 7.28)
FOOT_IN = 0.98

COLOURS = matplotlib.colormaps["coolwarm"]
"""Diverging, grey in the middle, told apart by the colour-blind (Moreland 2009)."""
COVERED = 0.99
"""Share of the surfaces whose distances the colours tell apart; larger ones have the last colour."""
BINS = 31
"""Odd: the middle one holds what agrees; the outermost hold what lies beyond."""
MOST_FACES = 30_000
SMOOTH_VOXELS = 0.6
"""Standard deviation of the blur before the surface is drawn; nothing is measured on it."""
KEPT_SHARE = 0.7
"""Least share of the voxels that the blur must keep."""
LIGHT = np.array([-0.35, 0.45, 0.82])
"""Where the light comes from: along the image, up the image, towards the viewer."""
AMBIENT = 0.68

VIEWS = (
    ("from the right", (1, 0, 0), (0, 0, 1)),
    ("from the front", (0, 1, 0), (0, 0, 1)),
    ("from above", (0, 0, 1), (0, 1, 0)),
    ("from the left", (-1, 0, 0), (0, 0, 1)),
    ("from behind", (0, -1, 0), (0, 0, 1)),
    ("from below", (0, 0, -1), (0, 1, 0)),
)
"""Name, direction towards the viewer, direction up the image; world RAS+."""


@dataclass(frozen=True, eq=False)
class _Mesh:
    """The drawn surface of a reference: corners (V, 3) in mm, faces (F, 3), their distances and normals."""

    corners: Numbers
    faces: Faces
    mm: Numbers
    normals: Numbers


def surfaces_png(
    found: Sequence[SignedSurfaces],
    grid: Grid,
    *,
    tolerances_mm: Mapping[str, float | None],
    orientation_known: bool = True,
) -> bytes:
    """Signed distances between prediction and reference, a row a structure, as a PNG.

    Args:
        found: the structures, at least one.
        grid: of the segmentations.
        tolerances_mm: of the surface Dice, by structure; drawn where there is one.
        orientation_known: False names the views after the array's axes.

    Returns:
        The PNG file. The same input gives the same bytes.
    """
    limit = _limit(found, tolerances_mm)
    row_in = FLAT_ROW_IN if grid.shape[2] == 1 else ROW_IN
    with matplotlib.rc_context(dict(STYLE)):
        height = row_in * len(found) + FOOT_IN
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
        FigureCanvasAgg(figure)
        top = height
        for surfaces in found:
            _row(figure, surfaces, grid, top, row_in, limit, tolerances_mm.get(surfaces.name))
            if grid.shape[2] > 1:
                _views(figure, surfaces, grid, top - HEADING_IN, limit, orientation_known)
            top -= row_in
        _colour_bar(figure, limit, top)
        _put_text(figure, WIDTH_IN / 2, 0.13, BANNER, size=7, colour=AMBER, align="center")
        return png(figure)


def _limit(found: Sequence[SignedSurfaces], tolerances_mm: Mapping[str, float | None]) -> float:
    """The distance of the last colour: a round number that holds nearly all of every structure."""
    largest = max(tolerances_mm.get(s.name) or 0.0 for s in found)
    for surfaces in found:
        size = np.abs(surfaces.mm)
        order = np.argsort(size)
        share = np.cumsum(surfaces.area[order]) / surfaces.area.sum()
        largest = max(largest, float(size[order][min(int(np.searchsorted(share, COVERED)), len(size) - 1)]))
    if not largest:
        return 1.0
    step = nice_length(largest) / 2
    return math.ceil(largest / step - 1e-9) * step


def _row(
    figure: Figure, surfaces: SignedSurfaces, grid: Grid, top: float, row_in: float, limit: float,
    tolerance_mm: float | None,
) -> None:  # fmt: skip
    """The heading and the histogram."""
    _put_text(figure, MARGIN_IN, top - 0.14, drawable(surfaces.name), size=9, colour=INK, weight="bold")
    left, wide = HISTOGRAM_IN
    if grid.shape[2] == 1:
        wide = WIDTH_IN - left - 2 * MARGIN_IN
    axes = figure.add_axes(_place(figure, (left, top - row_in + 0.5, wide, row_in - HEADING_IN - 0.55)))
    width = 2 * limit / (BINS - 1)
    edges = (np.arange(BINS + 1) - BINS / 2) * width
    share = 100 * surfaces.area / surfaces.area.sum()
    heights, _ = np.histogram(np.clip(surfaces.mm, -limit, limit), edges, weights=share)
    middles = edges[:-1] + width / 2
    axes.bar(
        middles, heights, width, color=COLOURS(Normalize(-limit, limit)(middles)),
        edgecolor=FAINT, linewidth=0.4,
    )  # fmt: skip
    if tolerance_mm is not None:
        for side in (-tolerance_mm, tolerance_mm):
            axes.axvline(side, color=INK, linewidth=0.8, linestyle=(0, (3.0, 2.2)))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("signed distance, mm", size=7, color=FAINT, labelpad=2)
    axes.set_ylabel("% of both surfaces", size=7, color=FAINT, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10), symmetric=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=6.5, colors=FAINT, length=2.5)
    for edge, spine in axes.spines.items():
        spine.set_visible(edge in ("left", "bottom"))
        spine.set_color(RULE)


def _views(
    figure: Figure, surfaces: SignedSurfaces, grid: Grid, top: float, limit: float, known: bool
) -> None:
    """Six views of the reference's surface at one scale."""
    mesh = _mesh(surfaces, grid, known)
    extent = np.ptp(mesh.corners, axis=0)
    slot = (VIEWS_IN[1] - VIEWS_IN[0]) / 3
    room = (slot - 0.36, VIEW_IN - 0.2)
    sizes = [(extent @ np.abs(_right(view)), extent @ np.abs(view[2])) for view in VIEWS]
    scale = min(min(room[0] / wide, room[1] / high) for wide, high in sizes)
    for n, (name, towards, up) in enumerate(VIEWS):
        middle = VIEWS_IN[0] + slot * (n % 3 + 0.5)
        upper = top - (n // 3) * (NAME_IN + VIEW_IN + GAP_IN)
        title = name if known else _stored_name(towards)
        _put_text(figure, middle, upper - 0.07, title, size=7, colour=FAINT, align="center")
        wide, high = (side * scale for side in sizes[n])
        place = (middle - wide / 2, upper - NAME_IN - VIEW_IN / 2 - high / 2, wide, high)
        axes = figure.add_axes(_place(figure, place))
        _faces(axes, mesh, (name, towards, up), limit)
        if known:
            _sides(figure, place, _right((name, towards, up)), up)


def _right(view: tuple[str, Sequence[float], Sequence[float]]) -> Numbers:
    """Direction to the right of the image."""
    return np.cross(view[2], view[1])


def _stored_name(towards: Sequence[float]) -> str:
    axis = int(np.abs(towards).argmax())
    return f"from the {'high' if towards[axis] > 0 else 'low'} end of {ARRAY_NAMES[axis]}"


def _mesh(surfaces: SignedSurfaces, grid: Grid, known: bool) -> _Mesh:
    """The reference's border as triangles, with the signed distance at each."""
    step = max(1, math.ceil(math.sqrt(2 * surfaces.on_reference / MOST_FACES)))
    pad = 1 + step
    mask = np.pad(surfaces.reference, pad).astype(np.float32)
    soft = ndimage.gaussian_filter(mask, SMOOTH_VOXELS * step)
    if (soft > 0.5).sum() < KEPT_SHARE * mask.sum():  # what is thin would be blurred away
        soft, step = mask, 1
    corners, faces, _, _ = marching_cubes(soft, 0.5, step_size=step)
    voxels = corners.astype(np.float64) - pad + [s.start for s in surfaces.box]
    spacing = np.asarray(grid.spacing_mm)
    tree = cKDTree(surfaces.points_voxels[: surfaces.on_reference] * spacing)
    mm = surfaces.mm[: surfaces.on_reference][tree.query(voxels * spacing)[1]]
    placed = aff.apply(grid.affine, voxels) if known else voxels * spacing
    triangles = placed[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    inwards = np.einsum("ij,ij->", triangles[:, 0] - placed.mean(axis=0), normals) < 0
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return _Mesh(placed, faces, mm[faces].mean(axis=1), (-normals if inwards else normals) / length)


def _faces(axes: Axes, mesh: _Mesh, view: tuple[str, Sequence[float], Sequence[float]], limit: float) -> None:
    """The faces turned to the viewer, the nearest drawn last."""
    right, up, towards = _right(view), np.asarray(view[2], float), np.asarray(view[1], float)
    seen = np.flatnonzero(mesh.normals @ towards > 0)
    depth = mesh.corners[mesh.faces[seen]].mean(axis=1) @ towards
    seen = seen[np.argsort(depth, kind="stable")]
    flat = mesh.corners @ np.stack((right, up), axis=1)
    light = mesh.normals[seen] @ (LIGHT @ np.stack((right, up, towards)))
    colours = COLOURS(Normalize(-limit, limit, clip=True)(mesh.mm[seen]))
    colours[:, :3] *= (AMBIENT + (1 - AMBIENT) * np.clip(light, 0, 1))[:, None]
    axes.add_collection(
        PolyCollection(
            flat[mesh.faces[seen]], facecolors=colours, edgecolors=colours, linewidths=0.4, antialiaseds=False
        )
    )
    (low_x, low_y), (high_x, high_y) = flat.min(axis=0), flat.max(axis=0)
    axes.set_xlim(low_x, high_x)
    axes.set_ylim(low_y, high_y)
    axes.set_axis_off()


def _sides(
    figure: Figure, place: tuple[float, float, float, float], right: Numbers, up: Sequence[float]
) -> None:
    """What the left and the right edge, and the upper one, face."""
    x, y, wide, high = place
    for direction, at in (
        (right, (x + wide + 0.08, y + high / 2)),
        (-right, (x - 0.08, y + high / 2)),
        (np.asarray(up), (x + wide / 2, y + high + 0.07)),
    ):
        axis = int(np.abs(direction).argmax())
        letter = WORLD_LETTERS[axis][int(direction[axis] > 0)]
        _put_text(figure, *at, letter, size=6.5, colour=FAINT, align="center", weight="bold")


def _colour_bar(figure: Figure, limit: float, top: float) -> None:
    wide = 3.2
    axes = figure.add_axes(_place(figure, ((WIDTH_IN - wide) / 2, top - 0.3, wide, 0.11)))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=COLOURS, extent=(-limit, limit, 0, 1))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10), symmetric=True))
    axes.tick_params(labelsize=6.5, colors=FAINT, length=2.5)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    y = top - 0.245
    _put_text(
        figure, (WIDTH_IN - wide) / 2 - 0.1, y, "prediction inside the reference", size=7, colour=FAINT,
        align="right",
    )  # fmt: skip
    _put_text(figure, (WIDTH_IN + wide) / 2 + 0.1, y, "outside, mm", size=7, colour=FAINT)


def _place(figure: Figure, inches: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    wide, high = figure.get_size_inches()
    x, y, w, h = inches
    return x / wide, y / high, w / wide, h / high


def _put_text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str,
    align: str = "left",
    weight: str = "normal",
) -> None:
    """Plain text at a place in inches; dollar signs are dollar signs, never formulas."""
    total = figure.get_size_inches()
    figure.text(
        x / total[0],
        y / total[1],
        text,
        size=size,
        color=colour,
        ha=align,
        va="center_baseline",
        weight=weight,
        parse_math=False,
    )
