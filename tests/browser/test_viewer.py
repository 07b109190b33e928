"""The viewer in a real browser, under the page's policy: it asks for nothing, turns slices the right way
round, and does what its switches say."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from chromium import Browser, Page
from numpy.typing import NDArray
from scipy import ndimage

from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid
from medseg.reporting.drawing import figures
from medseg.reporting.drawing.planes import Plane, planes
from medseg.reporting.viewer.viewer import Viewer, viewer

pytestmark = pytest.mark.slow

SHAPE = (10, 14, 8)
EVIL = "<script>alert(1)</script>"
STRUCTURES = StructureSet((Structure(1, EVIL, colour="#ff2020"), Structure(2, "green", colour="#20ff20")))
RED, GREEN = (1.0, 0.125, 0.125), (0.125, 1.0, 0.125)
PALE = tuple(c + (1 - c) * 0.55 for c in GREEN)
RECORD = """
window.drawn = [];
const put = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const all = [...document.querySelectorAll(".viewer canvas[tabindex]")];
  window.drawn.push([all.indexOf(this.canvas), text, x, y]);
  put.call(this, text, x, y);
};
"""
QUARTER = np.sqrt(0.5)
WORLDS = {
    "RAS": np.diag([2.0, 2.0, 3.0, 1.0]),
    "LPS": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "LAI": np.diag([-1.0, 2.0, -1.5, 1.0]),
    "PIR": np.array([[0, 0, 2.0, -4], [-1.0, 0, 0, 5], [0, -1.5, 0, 6], [0, 0, 0, 1]]),
    "SLA": np.array([[0, -2.0, 0, 4], [0, 0, 1.0, 5], [1.5, 0, 0, 6], [0, 0, 0, 1]]),
    "oblique": np.array(
        [[-0.9, 0.3, 0, 4], [0.3, 0.9 * QUARTER, -QUARTER, 5], [0.3, QUARTER, 0.9, 6], [0, 0, 0, 1.0]]
    ),
}


def page_of(made: Viewer) -> str:
    """A page with nothing but the viewer, under a policy that allows its style and its script alone."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (made.style, made.script)
    )
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>viewer</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{made.style}</style></head><body>{made.html}<script>{made.script}</script></body></html>"
    )


def phantom(shape: tuple[int, int, int] = SHAPE) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Random greys, none of them dark, and two structures that no flip maps onto themselves."""
    image = np.random.default_rng(0).uniform(90, 250, shape)
    labels = np.zeros(shape, np.uint8)
    labels[1:5, 2:9, 1:6] = 1
    labels[6:9, 5:12, 3:5] = 2
    return image, labels


def opened(browser: Browser, tmp_path: Path, made: Viewer, **how: Any) -> Page:
    path = tmp_path / "page.html"
    path.write_text(page_of(made), encoding="utf-8")
    page = browser.open(path, **how)
    page.wait(
        lambda: page.evaluate("document.querySelector('.viewer').dataset.ready === 'yes'"), "the viewer"
    )
    page.settle()
    return page


def standard(**changes: Any) -> Viewer:
    image, labels = phantom()
    grid = Grid(SHAPE, WORLDS["RAS"])
    return viewer(image, labels, grid, STRUCTURES, window=(0, 255), **changes)


def titles(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.viewer-title')].map(e => e.textContent)"
    )
    return found


def slices(page: Page) -> list[int]:
    """Slice numbers shown, counted from 0."""
    return [int(re.search(r"slice (\d+) of", title)[1]) - 1 for title in titles(page)]  # type: ignore[index]


def canvas(page: Page, n: int) -> NDArray[np.float32]:
    """A plane's picture, (rows, columns, 3), without the crosshair."""
    url = page.evaluate(f"document.querySelectorAll('.viewer canvas[tabindex]')[{n}].toDataURL()")
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(url.split(",")[1])))[..., :3]


def picture(pixels: NDArray[np.float32]) -> tuple[slice, slice]:
    """Where the slice is: the largest bright patch."""
    patches, _ = ndimage.label(pixels.max(axis=-1) > 0.25)
    biggest = np.bincount(patches.ravel())[1:].argmax() + 1
    found: tuple[slice, slice] = ndimage.find_objects(patches)[biggest - 1]
    return found


def at_centres(pixels: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The colour at the centre of each voxel of a slice that fills the picture."""
    rows, columns = (
        np.rint((np.arange(n) + 0.5) * side / n - 0.5).astype(int)
        for n, side in zip(shape, pixels.shape[:2], strict=True)
    )
    return pixels[np.ix_(rows, columns)]


def extent(pixels: NDArray[np.float32], colour: tuple[float, ...]) -> NDArray[np.float64]:
    """First and last row and column of a colour, as shares of the picture."""
    found = np.argwhere(np.abs(pixels - colour).max(axis=-1) < 0.12)
    return np.concatenate([found.min(axis=0), found.max(axis=0) + 1]) / np.tile(pixels.shape[:2], 2)


def expected_extent(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    found = np.argwhere(mask)
    return np.concatenate([found.min(axis=0), found.max(axis=0) + 1]) / np.tile(mask.shape, 2)


def panels(png: bytes) -> list[NDArray[np.float32]]:
    """The slices of a still figure, from left to right."""
    pixels = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    patches, _ = ndimage.label(pixels.min(axis=-1) > 0.3)
    boxes = sorted(
        sorted(
            ndimage.find_objects(patches), key=lambda b: (b[0].stop - b[0].start) * (b[1].stop - b[1].start)
        )[-3:],
        key=lambda b: b[1].start,
    )
    return [pixels[box] for box in boxes]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("known", [True, False])
def test_slices_are_turned_like_the_still_figure(
    browser: Browser, tmp_path: Path, world: str, known: bool
) -> None:
    image, labels = phantom()
    grid = Grid(SHAPE, WORLDS[world])
    common: dict[str, Any] = {"window": (0, 255), "orientation_known": known}
    nothing = np.zeros_like(labels)
    still = panels(
        figures.overlay_png(image, nothing, grid, STRUCTURES, names=False, closeup=False, **common)
    )
    page = opened(browser, tmp_path, viewer(image, nothing, grid, STRUCTURES, **common), before=RECORD)
    assert slices(page) == [SHAPE[p.axis] // 2 for p in planes(grid, orientation_known=known)]
    for n, plane in enumerate(planes(grid, orientation_known=known)):
        shown = canvas(page, n)
        box = picture(shown)
        cut = plane.cut(image, SHAPE[plane.axis] // 2)
        height, width = plane.size_mm(SHAPE)
        high, wide = shown[box].shape[:2]
        assert wide / high == pytest.approx(width / height, rel=0.02)
        np.testing.assert_allclose(at_centres(shown[box], cut.shape)[..., 0], cut / 255, atol=0.12)
        np.testing.assert_allclose(at_centres(still[n], cut.shape)[..., 0], cut / 255, atol=0.12)
        drawn = [d for d in page.evaluate("window.drawn") if d[0] == n]
        check_letters(plane, drawn, box)
    assert page.complaints() == []


def check_letters(plane: Plane, drawn: list[Any], box: tuple[slice, slice]) -> None:
    letters = [d for d in drawn if len(d[1]) == 1]
    if plane.letters is None:
        assert letters == []
        return
    rows, columns = box
    for letter, side in zip(plane.letters, ("left", "right", "top", "bottom"), strict=True):
        _, _, x, y = next(d for d in letters if d[1] == letter)
        beyond = {"left": x < columns.start, "right": x > columns.stop}
        beyond |= {"top": y < rows.start, "bottom": y > rows.stop}
        assert [name for name, true in beyond.items() if true] == [side]


@pytest.mark.parametrize("world", ["LPS", "SLA", "oblique"])
def test_outlines_lie_where_the_labels_are(browser: Browser, tmp_path: Path, world: str) -> None:
    _, labels = phantom()
    reference = np.where(labels == 2, 0, labels).astype(np.uint8)
    reference[5:10, 3:12, 2:6] = 2
    grid = Grid(SHAPE, WORLDS[world])
    made = viewer(np.full(SHAPE, 90.0), labels, grid, STRUCTURES, reference=reference, window=(0, 255))
    bounds = picture_of_empty(browser, tmp_path, grid)
    page = opened(browser, tmp_path, made)
    page.click(".viewer-structures li:nth-child(2) button")
    where = slices(page)
    for n, plane in enumerate(planes(grid)):
        pixels = canvas(page, n)[bounds[n]]
        for colour, array in ((GREEN, labels), (PALE, reference)):
            mask = plane.cut(array, where[n]) == 2
            voxel = 1 / np.tile(mask.shape, 2)
            away = np.abs(extent(pixels, colour) - expected_extent(mask)) / voxel
            assert away.max() < 0.5, (plane.name, colour)


def picture_of_empty(browser: Browser, tmp_path: Path, grid: Grid) -> list[tuple[slice, slice]]:
    """Where the slices are, from a page without outlines."""
    nothing = np.zeros(grid.shape, np.uint8)
    page = opened(
        browser, tmp_path, viewer(np.full(grid.shape, 90.0), nothing, grid, STRUCTURES, window=(0, 255))
    )
    return [picture(canvas(page, n)) for n in range(3)]


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard(places=[("worst " + EVIL, (1, 2, 3))]))
    assert page.requests() == [(tmp_path / "page.html").resolve().as_uri()]
    assert page.complaints() == []
    names = page.evaluate("[...document.querySelectorAll('.viewer-name')].map(e => e.textContent)")
    assert names == [EVIL, "green"]
    page.click(".viewer-places button")
    assert slices(page) == [3, 2, 1]


def test_a_link_that_names_a_voxel_leads_to_it(browser: Browser, tmp_path: Path) -> None:
    made = standard()
    page = opened(browser, tmp_path, replace(made, html=made.html + '<p><a href="#voxel-1-2-3">4</a></p>'))
    page.click("p a")
    assert slices(page) == [3, 2, 1]


def test_the_wheel_scrolls_and_the_page_keeps_its_own(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard())
    before, picture_before = slices(page), canvas(page, 0)
    page.wait(lambda: page.evaluate("new Promise(r => setTimeout(() => r(true), 300))"))
    page.wheel(".viewer canvas", 120)
    page.wait(lambda: slices(page) != before, "the wheel")
    assert slices(page) == [before[0] - 1, *before[1:]]
    assert not np.array_equal(canvas(page, 0), picture_before)
    page.wheel(".viewer canvas", -120)
    page.wait(lambda: slices(page) == before, "the wheel")
    np.testing.assert_array_equal(canvas(page, 0), picture_before)


def test_a_wheel_that_scrolls_the_page_goes_on_doing_so(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard(), height=500)
    before = slices(page)
    page.evaluate("document.body.style.paddingBottom = '2000px'; 1")  # so that the page scrolls at all
    page.settle()
    is_left_to_the_page = page.evaluate("""new Promise(answer => {
        const event = new WheelEvent('wheel', {deltaY: 120, cancelable: true});
        const turn = () => answer(document.querySelector('.viewer canvas').dispatchEvent(event));
        addEventListener('scroll', turn, {once: true});
        document.documentElement.scrollTop = 40;
    })""")
    assert is_left_to_the_page
    page.settle()
    assert slices(page) == before


def test_keys_and_the_bar_scroll(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard())
    page.evaluate("document.querySelector('.viewer canvas').focus(); 1")
    for key, code, expected in (("Home", 36, 0), ("ArrowUp", 38, 1), ("PageUp", 33, 7), ("ArrowLeft", 37, 6)):
        page.press(key, code)
        assert slices(page)[0] == expected
    page.evaluate(
        "(() => { const s = document.querySelector('.viewer-view input'); s.value = 3;"
        " s.dispatchEvent(new Event('input')); })()"
    )
    page.settle()
    assert titles(page)[0] == "Axial: slice 3 of 8, S 6.0 mm"
    label = page.evaluate("document.querySelector('.viewer canvas').getAttribute('aria-label')")
    assert label == "Axial slice 3 of 8, S 6.0 mm"


def test_a_click_moves_the_crosshair_of_all_planes(browser: Browser, tmp_path: Path) -> None:
    rows, columns = picture_of_empty(browser, tmp_path, Grid(SHAPE, WORLDS["RAS"]))[0]
    page = opened(browser, tmp_path, standard())
    high, wide = canvas(page, 0).shape[:2]
    # Axial of RAS: columns run from the patient's right, I = 9, rows from the front, J = 13.
    across = (columns.start + (columns.stop - columns.start) * (9 - 2 + 0.5) / 10) / wide
    down = (rows.start + (rows.stop - rows.start) * (13 - 11 + 0.5) / 14) / high
    page.click(".viewer canvas", across=across, down=down)
    axial, coronal, sagittal = slices(page)
    assert (sagittal, coronal, axial) == (2, 11, slices(page)[0])
    where = page.evaluate("document.querySelector('.viewer-where').textContent")
    assert where.startswith("R 4.0 mm · A 22.0 mm · ")


def test_switches_and_go_to(browser: Browser, tmp_path: Path) -> None:
    _, labels = phantom()
    page = opened(browser, tmp_path, standard(reference=np.roll(labels, 1, axis=0)))

    def seen(colour: tuple[float, ...]) -> int:
        return int((np.abs(canvas(page, 0) - colour).max(axis=-1) < 0.12).sum())

    page.click(".viewer-structures li:nth-child(2) button")
    assert slices(page)[2] in (6, 7, 8)
    what = page.evaluate("document.querySelector('.viewer-what').textContent")
    assert what == "Prediction: green · Reference: green"
    assert min(seen(GREEN), seen(PALE), seen(RED)) > 20
    page.click(".viewer-reference")
    assert seen(PALE) < 5  # where a green line is blended with the grey under it
    page.click(".viewer-structures li:nth-child(2) input")
    assert (seen(GREEN), seen(RED) > 20) == (0, True)
    page.click(".viewer-none")
    assert seen(RED) == 0
    page.click(".viewer-all")
    assert min(seen(GREEN), seen(RED)) > 20


def test_window_and_zoom(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard())
    before = canvas(page, 0)

    def slide(name: str, value: float) -> None:
        page.evaluate(
            f"(() => {{ const s = document.querySelector('.viewer-{name}'); s.value = {value};"
            " s.dispatchEvent(new Event('input')); })()"
        )
        page.settle()

    slide("white", 100)
    assert canvas(page, 0)[picture(before)].mean() > before[picture(before)].mean() + 0.1
    page.click(".viewer-reset")
    np.testing.assert_array_equal(canvas(page, 0), before)
    slide("zoom", 3)
    assert not np.array_equal(canvas(page, 0), before)
    slide("zoom", 1)
    np.testing.assert_array_equal(canvas(page, 0), before)


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("ratio", [1, 2])
def test_it_fits_the_window_and_is_sharp(browser: Browser, tmp_path: Path, width: int, ratio: int) -> None:
    page = opened(browser, tmp_path, standard(), width=width, ratio=ratio)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = page.evaluate(
        "[...document.querySelectorAll('.viewer-view')].map(e => e.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == (1 if width == 420 else 3)
    css = page.evaluate("document.querySelector('.viewer canvas').getBoundingClientRect().width")
    assert canvas(page, 0).shape[1] == css * ratio
    page.resize(700, 900, ratio)
    page.settle()
    page.settle()
    assert page.evaluate("document.documentElement.scrollWidth") <= 700


def test_it_is_not_printed(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, standard())
    shown = "getComputedStyle(document.querySelector('.viewer')).display"
    assert page.evaluate(shown) != "none"
    page.send("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(shown) == "none"


def test_it_is_hidden_without_a_script(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(standard()), encoding="utf-8")
    page = browser.open(path, script=False)
    before = page.screenshot()
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert page.evaluate("getComputedStyle(document.querySelector('.viewer')).display") == "none"
    assert matplotlib.image.imread(io.BytesIO(before)).min() == 1.0  # a blank page


@pytest.mark.parametrize("spoil", ["too old", "damaged"])
def test_it_says_when_it_cannot_show_anything(browser: Browser, tmp_path: Path, spoil: str) -> None:
    text = page_of(standard())
    if spoil == "damaged":
        text = re.sub(r'(viewer-labels-data">.{8}).{8}', r"\1AAAAAAAA", text)
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    page = browser.open(path, before="delete window.DecompressionStream" if spoil == "too old" else "")
    said = "document.querySelector('.viewer-say').textContent"
    page.wait(
        lambda: {"too old": "too old", "damaged": "could not"}[spoil] in page.evaluate(said), "the message"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.viewer-grid')).display") == "none"


def test_one_slice_has_one_canvas(browser: Browser, tmp_path: Path) -> None:
    image, labels = phantom()
    grid = Grid((10, 14, 1), WORLDS["RAS"])
    page = opened(browser, tmp_path, viewer(image[:, :, 3:4], labels[:, :, 3:4], grid, STRUCTURES))
    assert titles(page) == ["Axial: slice 1 of 1, S 0.0 mm"]
    assert page.complaints() == []
