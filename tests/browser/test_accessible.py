"""Pages for all eyes: axe-core finds nothing serious, three planes fit a screen, a finger scrolls slices.

axe-core is taken from the folder or file that AXE_CORE names, else from `node_modules/axe-core` beside the
package; without it those tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Browser, Page
from commands import done
from io_files import save

from medseg.core.structures import from_labels
from medseg.data.phantom import phantom_case
from medseg.findings.finding import Finding
from medseg.metrics.followup import Change
from medseg.reporting.case.pictures import followup_picture
from medseg.reporting.comparison.followup import ReportFollowup, followup_page

pytestmark = pytest.mark.slow

SHAPE = (40, 48, 36)
NAMES = {"labels": {"background": 0, "left lobe": 1, "right lobe": 2, "core": 3}}
SERIOUS = ("serious", "critical")
KINDS = ("case", "measured", "cohort", "comparison", "followup")

Maker = Callable[[str], Path]


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    default = Path(__file__).parents[2] / "node_modules" / "axe-core"
    root = Path(os.environ.get("AXE_CORE", default))
    path = root / "axe.min.js" if root.is_dir() else root
    if not path.is_file():
        pytest.skip("axe-core is not at hand: set AXE_CORE to its folder")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """A page of each kind, made once, as the commands make it."""
    folder = tmp_path_factory.mktemp("pages")
    for part in ("scans", "ref", "a", "b"):
        (folder / part).mkdir()
    (folder / "names.json").write_text(json.dumps(NAMES))
    for n in range(3):
        volume, labels = phantom_case(np.random.default_rng(n), SHAPE)
        name = f"case {n}.nii.gz"
        save(folder / "scans" / name, volume.array[0])
        save(folder / "ref" / name, labels.array)
        save(folder / "a" / name, np.roll(labels.array, 1, axis=0))
        save(folder / "b" / name, np.roll(labels.array, 2, axis=1))
    names = ("--labels", folder / "names.json")
    done("report", folder / "a" / "case 0.nii.gz", folder / "scans" / "case 0.nii.gz", *names,
         "-o", folder / "case.html")  # fmt: skip
    done("evaluate", folder / "a", folder / "ref", *names, "--images", folder / "scans", "--tolerance", 1,
         "-o", folder / "out")  # fmt: skip
    done("compare", folder / "a", folder / "b", "--reference", folder / "ref", *names,
         "-o", folder / "comparison.html")  # fmt: skip
    volume, labels = phantom_case(np.random.default_rng(0), SHAPE)
    structures = from_labels({1: "left lobe", 2: "right lobe", 3: "core"})
    pictures = tuple(
        followup_picture(when, labels.array, labels.grid, structures, image=image)
        for when, image in (("First scan", volume.array[0]), ("Second scan", None))
    )
    followed = ReportFollowup(
        "a.nii.gz",
        "b.nii.gz",
        (Change("core", 1.0, 2.0, 0.1), Change("left lobe", 3.0, 3.01, 0.1)),
        noise_known=True,
        findings=(Finding("x", "doubt", "First: a doubt."),),
        facts=(("Software", "medseg"),),
        colours={s.name: s.colour for s in structures},
        dates=(date(2025, 1, 31), date(2026, 2, 28)),
        pictures=pictures,
    )
    (folder / "followup.html").write_text(followup_page(followed), encoding="utf-8")
    (measured, *_) = sorted((folder / "out" / "cases").glob("*.html"))
    known = {"cohort": folder / "out" / "cohort.html", "measured": measured}
    return lambda kind: known.get(kind, folder / f"{kind}.html")


def opened(
    browser: Browser, path: Path, *, dark: bool = False, width: int = 1280, height: int = 900, **how: Any
) -> Page:
    page = browser.open(path, width=width, height=height, **how)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.send("Emulation.setEmulatedMedia", features=[scheme])
    if page.evaluate("Boolean(document.querySelector('.viewer'))"):
        page.wait(lambda: page.evaluate("document.querySelector('.viewer').dataset.ready === 'yes'"))
    page.settle()
    return page


@pytest.mark.fault("reports 38")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(
    browser: Browser, page_of: Maker, axe: str, kind: str, width: int, dark: bool
) -> None:
    page = opened(browser, page_of(kind), dark=dark, width=width)
    page.evaluate(f"{axe}; 0")
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
        "v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 160)]))"
    )
    assert [v for v in found if v[0] in SERIOUS] == []
    assert page.complaints() == []


@pytest.mark.fault("reports 38")
@pytest.mark.parametrize("kind", ["case", "measured"])
def test_three_planes_and_their_controls_fit_one_screen(browser: Browser, page_of: Maker, kind: str) -> None:
    page = opened(browser, page_of(kind))
    box = page.evaluate(
        "(() => { const b = document.querySelector('.viewer').getBoundingClientRect();"
        " return [b.height, b.width]; })()"
    )
    assert box[0] <= 900
    assert box[1] <= 1280
    tall = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.viewer canvas')].map(canvas => canvas.offsetHeight))"
    )
    assert tall > 250  # the pictures are not small for it
    page.resize(1280, 700)
    page.settle()
    page.settle()
    assert page.evaluate("document.querySelector('.viewer').getBoundingClientRect().height") <= 700


@pytest.mark.fault("reports 38")
def test_a_finger_scrolls_slices_and_not_the_page(browser: Browser, page_of: Maker) -> None:
    page = opened(browser, page_of("case"), width=420, height=800)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    x, y = page.middle(".viewer canvas")
    before = page.evaluate("[document.querySelector('.viewer-title').textContent, scrollY]")

    def touch(kind: str, *points: tuple[float, float]) -> None:
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": a, "y": b} for a, b in points])

    touch("touchStart", (x, y))
    for step in range(1, 9):
        touch("touchMove", (x, y - 8 * step))
    touch("touchEnd")
    page.settle()
    after = page.evaluate("[document.querySelector('.viewer-title').textContent, scrollY]")
    first, second = (int(text.split("slice ")[1].split(" ")[0]) for text in (before[0], after[0]))
    assert first - second in (3, 4)
    assert before[1] == after[1]


@pytest.mark.fault("reports 38")
@pytest.mark.parametrize("kind", KINDS)
def test_what_scrolls_sideways_takes_the_keyboard(browser: Browser, page_of: Maker, kind: str) -> None:
    page = opened(browser, page_of(kind), width=420, height=800)
    unreachable = page.evaluate("""
        [...document.querySelectorAll("body *")].filter(e => {
            const scrolls = ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
            return scrolls && e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0;
        }).map(e => e.outerHTML.slice(0, 80))""")
    assert unreachable == []
    cut = page.evaluate("""
        [...document.querySelectorAll(".wide img")]
            .filter(i => i.offsetWidth > i.parentElement.clientWidth + 1)
            .map(i => i.closest("figure").querySelector(".hint"))
            .map(hint => Boolean(hint) && hint.getBoundingClientRect().height > 0)""")
    assert all(cut)


@pytest.mark.fault("reports 38")
@pytest.mark.parametrize("kind", KINDS)
def test_a_dark_screen_gets_a_dark_page_and_paper_a_white_one(
    browser: Browser, page_of: Maker, kind: str
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened(browser, page_of(kind)).evaluate(ground) == "rgb(255, 255, 255)"
    page = opened(browser, page_of(kind), dark=True)
    channels = [int(n) for n in page.evaluate(ground).removeprefix("rgb(").removesuffix(")").split(",")]
    assert max(channels) < 40
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    page.send("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


@pytest.mark.fault("reports 38")
def test_a_case_leads_back_to_the_cohort(browser: Browser, page_of: Maker) -> None:
    page = opened(browser, page_of("cohort"))
    page.click("td a")
    page.wait(lambda: page.evaluate("document.querySelector('.back a') !== null"), "the case's page")
    page.click(".back a")
    page.wait(lambda: page.evaluate("location.href") == page_of("cohort").as_uri(), "the cohort's page")
    assert opened(browser, page_of("case")).evaluate("document.querySelector('.back') === null")


@pytest.mark.fault("reports 38")
def test_a_followup_shows_both_scans_and_their_dates(browser: Browser, page_of: Maker) -> None:
    page = opened(browser, page_of("followup"))
    text = page.evaluate("document.body.innerText")
    assert "2025-01-31" in text
    assert "2026-02-28, 393 days later" in text
    assert page.evaluate("document.images.length") == 2
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)")
