"""Pictures: small, the same every time, outlines where the labels are."""

from __future__ import annotations

import dataclasses
import io

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.errors import GeometryError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid
from medseg.metrics.signed import compare
from medseg.reporting.drawing import figures, palette, views
from medseg.reporting.drawing import style as drawing
from medseg.reporting.drawing.views import Place

RED, GREEN = Structure(1, "left", colour="#ff2020"), Structure(2, "right", colour="#20ff20")


def pixels(png: bytes) -> NDArray[np.float32]:
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def where(png: bytes, colour: tuple[float, float, float]) -> NDArray[np.int64]:
    """Rows and columns of the pixels close to a colour."""
    return np.argwhere(np.abs(pixels(png) - colour).max(axis=-1) < 0.2)


def scene(shape: tuple[int, int, int] = (40, 40, 40)) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    image = np.full(shape, 0.0, np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[4:12, 8:32, 8:32] = 1
    labels[28:36, 8:32, 8:32] = 2
    return image, labels


STRUCTURES = StructureSet((RED, GREEN))


@pytest.mark.parametrize(("sign", "left_of_image"), [(1.0, "green"), (-1.0, "red")])
def test_the_structure_on_the_patients_left_is_drawn_on_the_right(sign: float, left_of_image: str) -> None:
    image, labels = scene()
    grid = Grid(image.shape, np.diag([sign, 1.0, 1.0, 1.0]))
    png = figures.overlay_png(image, labels, grid, STRUCTURES, closeup=False, names=False)
    third = pixels(png).shape[1] / 3
    columns = {"red": where(png, (1, 0.125, 0.125))[:, 1], "green": where(png, (0.125, 1, 0.125))[:, 1]}
    axial = {name: float(np.mean(x[x < third])) for name, x in columns.items()}
    assert min(axial, key=lambda name: axial[name]) == left_of_image


def test_an_outline_has_the_physical_shape_of_the_structure() -> None:
    grid = Grid((40, 40, 8), np.diag([1.0, 1.0, 5.0, 1.0]))
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:30, 15:25, 2:6] = 1  # 20 x 10 x 20 mm
    one = StructureSet((RED,))
    png = figures.overlay_png(np.zeros(grid.shape), labels, grid, one, closeup=False, names=False)
    found = where(png, (1, 0.125, 0.125))
    width = pixels(png).shape[1]
    spans = []
    for n in range(3):
        part = found[(found[:, 1] >= n * width / 3) & (found[:, 1] < (n + 1) * width / 3)]
        high, wide = np.ptp(part, axis=0)
        spans.append(wide / high)
    np.testing.assert_allclose(spans, (2.0, 1.0, 0.5), rtol=0.06)


def test_the_same_input_gives_the_same_bytes() -> None:
    image, labels = scene()
    grid = Grid(image.shape, np.eye(4))
    first = figures.overlay_png(image, labels, grid, STRUCTURES, reference=np.roll(labels, 1, 1))
    assert first == figures.overlay_png(image, labels, grid, STRUCTURES, reference=np.roll(labels, 1, 1))
    assert first.startswith(b"\x89PNG")
    assert b"matplotlib" not in first


def test_a_noisy_scan_still_makes_a_small_picture() -> None:
    grid = Grid((120, 120, 120), np.eye(4))
    image = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    png = figures.overlay_png(image, np.zeros(grid.shape, np.uint8), grid, STRUCTURES)
    assert len(png) <= palette.LARGEST_PNG_BYTES


@pytest.mark.parametrize("shape", [(30, 20, 1), (1, 30, 20), (30, 1, 20), (24, 24, 3), (1, 1, 9)])
def test_thin_scans_can_be_shown(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, np.diag([1.0, 1.0, 5.0, 1.0]))
    labels = np.ones(shape, np.uint8)
    png = figures.overlay_png(np.random.default_rng(0).random(shape), labels, grid, STRUCTURES)
    assert len(where(png, (1, 0.125, 0.125))) > 50


@pytest.mark.parametrize(
    "name", [r"$\frac{$", r"\alpha_{", "肝臓", "a\nb", "<script>alert(1)</script>", "x" * 300]
)
def test_any_name_can_be_drawn(name: str) -> None:
    image, labels = scene((12, 12, 12))
    labels[:] = 1
    grid, one = Grid(image.shape, np.eye(4)), from_labels({1: name})
    named, plain = (figures.overlay_png(image, labels, grid, one, names=names) for names in (True, False))
    assert len(pixels(named)) > len(pixels(plain))  # by the line of the legend


def test_values_that_are_not_finite_are_drawn_as_background() -> None:
    image, labels = scene()
    image[:20], image[20:] = np.nan, np.inf
    assert views.window_of(image) == (0.0, 1.0)
    figures.overlay_png(image, labels, Grid(image.shape, np.eye(4)), STRUCTURES)


def test_the_window_ignores_a_few_extreme_voxels() -> None:
    image = np.linspace(0, 100, 1000).reshape(10, 10, 10)
    low, high = views.window_of(image)
    assert (low, high) == pytest.approx((1.0, 99.5))
    assert views.window_of(np.full((3, 3, 3), 7)) == (7.0, 8.0)


def test_arrays_off_the_grid_are_refused() -> None:
    image, labels = scene()
    with pytest.raises(GeometryError, match="label array"):
        figures.overlay_png(image, labels[1:], Grid(image.shape, np.eye(4)), STRUCTURES)


def test_the_slices_pass_through_the_centroid_and_the_point_furthest_from_the_other_surface() -> None:
    """The prediction has a spur of 6 voxels, and elsewhere a whole face one voxel too far out."""
    grid = Grid((40, 40, 40), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[10:20, 10:20, 10:20] = 1
    labels = reference.copy()
    labels[9, 10:20, 10:20] = 1
    labels[20:26, 13, 14] = 1
    one = StructureSet((RED,))
    (centre,) = views.centre_views(labels, labels, reference, grid, one, closeup=False)
    assert centre.point == (14, 14, 14)
    compared = compare(labels, reference, grid, one, one)
    (place,) = views.worst_places(compared, labels, reference, one, most=3)
    assert place.point == (25, 13, 14)
    assert place.size_mm == pytest.approx(6.0)
    assert place.words == "left: surfaces 6.0 mm apart, the prediction outside the reference"
    (view,) = views.place_views(labels, labels, reference, grid, one, [place], closeup=False)
    assert view.point == place.point
    assert view.marked


def test_a_structure_that_one_map_lacks_comes_first_and_equal_ones_are_left_out() -> None:
    grid = Grid((40, 40, 40), np.eye(4))
    three = StructureSet((RED, GREEN, Structure(3, "same")))
    reference = np.zeros(grid.shape, np.uint8)
    reference[5:10, 5:10, 5:10], reference[25:30, 25:30, 25:30], reference[30:35, 5:8, 5:8] = 1, 2, 3
    labels = np.roll(np.where(reference == 1, reference, 0), 2, 0) + np.where(reference == 3, reference, 0)
    compared = compare(labels, reference, grid, three, three)
    places = views.worst_places(compared, labels, reference, three, most=3)
    assert [p.structure.name for p in places] == ["right", "left"]
    assert places[0].words == "right: in the reference, no voxels labelled"
    assert places[0].point == (27, 27, 27)


def test_a_ring_marks_the_place() -> None:
    image, labels = scene()
    grid = Grid(image.shape, np.eye(4))
    view = views.place_views(
        image, labels, labels, grid, STRUCTURES, [Place(RED, (8, 20, 20), "here", 1.0)], closeup=False
    )[0]
    plain = dataclasses.replace(view, marked=False)
    with_ring, without = (
        figures.slices_png([v], STRUCTURES, orientation_known=True, window=(0.0, 1.0), names=False)
        for v in (view, plain)
    )
    changed = np.argwhere((pixels(with_ring) != pixels(without)).any(axis=-1))
    across = pixels(with_ring).shape[1] / 3
    spans = [np.ptp(changed[(changed[:, 1] // across) == n], axis=0) for n in range(3)]
    assert all(span[0] == pytest.approx(span[1], abs=2) for span in spans)


def test_twins_of_one_colour_share_a_line_of_the_legend() -> None:
    twins = from_labels(
        [Structure(1, "left ear", colour="#ff2020"), Structure(2, "right ear", colour="#ff2020")]
    )
    image, labels = scene()
    view = views.centre_views(image, labels, None, Grid(image.shape, np.eye(4)), twins, closeup=False)
    both = figures._legend(twins, view)
    assert [entry.text for entry in both] == ["ear"]
    labels[labels == 2] = 0
    view = views.centre_views(image, labels, None, Grid(image.shape, np.eye(4)), twins, closeup=False)
    assert [entry.text for entry in figures._legend(twins, view)] == ["left ear"]


def test_between_two_structures_the_slice_moves_to_where_one_is() -> None:
    image, labels = scene()
    (view,) = views.centre_views(image, labels, None, Grid(image.shape, np.eye(4)), STRUCTURES, closeup=False)
    assert labels[view.point[0]].any()


def test_a_close_up_keeps_the_slice_and_its_place_in_the_world() -> None:
    grid = Grid((90, 90, 90), np.diag([1.0, 1.0, 1.0, 1.0]))
    labels = np.zeros(grid.shape, np.uint8)
    labels[40:44, 50:54, 60:64] = 1
    whole, close = views.centre_views(labels, labels, None, grid, STRUCTURES, closeup=True)
    assert close.grid.shape == (28, 28, 28)
    assert [p + s for p, s in zip(close.point, close.start, strict=True)] == list(whole.point)
    np.testing.assert_allclose(close.grid.corners_mm[0], close.start)


def test_a_structure_in_the_way_of_a_style_sheet_is_grey() -> None:
    assert drawing.readable_colour("#fff;}body{display:none") == drawing.NEUTRAL
    assert drawing.readable_colour("#ffe119\n") == drawing.NEUTRAL
