"""The page of a service in a real browser: a scan is dropped, predicted, corrected and saved."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from chromium import PROGRAM, Browser, Page
from models import tiny_model
from services import Service

from medseg.data.phantom import STRUCTURES, write_phantom_scan

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")
SHAPE = (30, 24, 18)
LEFT = next(s for s in STRUCTURES if s.name == "left lobe")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    model = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    tiny_model(0).save(model)
    served = Service(tmp_path_factory.mktemp("data"), [model]).start()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    write_phantom_scan(path, seed=1, shape=SHAPE, order="LPS")
    return path


def opened(browser: Browser, service: Service, width: int = 1280) -> Page:
    page = browser.open(f"http://127.0.0.1:{service.port}/", width=width)
    page.wait(lambda: shown(page))
    return page


def shown(page: Page) -> bool:
    """Whether the page is there, which may be loading again just now."""
    try:
        return bool(page.evaluate("!document.getElementById('main').hidden"))
    except RuntimeError:
        return False


def choose(page: Page, *paths: Path) -> None:
    document = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)
    page.settle()


def predicted(page: Page, *paths: Path) -> None:
    choose(page, *paths)
    page.click("#start")
    shown = "!document.getElementById('result').hidden && document.getElementById('progress').hidden"
    page.wait(lambda: page.evaluate(shown), page.evaluate("document.getElementById('fault').textContent"))
    page.settle()


def job_of(page: Page, what: str = "labels") -> str:
    links = page.evaluate("[...document.querySelectorAll('#downloads a')].map(a => a.getAttribute('href'))")
    return next(str(link) for link in links if link.endswith(what))


def array_of(service: Service, link: str, tmp_path: Path) -> np.ndarray:
    path = tmp_path / "fetched.nii.gz"
    path.write_bytes(service.ask("GET", f"/{link}").body)
    return np.asarray(nib.load(path).dataobj)


def saved(page: Page) -> str:
    page.click("#save")
    page.wait(lambda: page.evaluate("document.getElementById('saved').textContent") != "")
    return str(page.evaluate("document.getElementById('saved').textContent"))


def test_a_scan_is_dropped_painted_and_saved(
    browser: Browser, service: Service, scan: Path, tmp_path: Path
) -> None:
    page = opened(browser, service)
    predicted(page, scan)
    before = array_of(service, job_of(page), tmp_path)
    assert {s.name for s in STRUCTURES} <= set(
        page.evaluate("[...document.querySelectorAll('#structures tbody button')].map(b => b.textContent)")
    )
    page.click(f"#structures button[data-value='{LEFT.value}']")
    page.click("[data-tool=paint]")
    page.click("canvas[data-axis='2']", across=0.7, down=0.4)  # the patient's left is on the right
    assert "left lobe" in saved(page)
    after = array_of(service, job_of(page), tmp_path)
    changed = np.argwhere(after != before)
    assert len(changed) > 5
    assert set(after[tuple(changed.T)]) == {LEFT.value}
    affine = nib.load(scan).affine
    middle = affine @ [*(np.array(SHAPE) - 1) / 2, 1]
    painted = affine @ [*changed.mean(axis=0), 1]
    assert painted[0] < middle[0] - 2, "to the left of the middle, in RAS+ mm"
    assert painted[1] > middle[1], "in front of it"
    assert len(set(changed[:, 2])) == 1, "in one axial slice"
    assert not page.complaints()
    assert not [url for url in page.requests_outside() if f"127.0.0.1:{service.port}" not in url]


def test_two_people_on_one_scan_lose_nothing(browser: Browser, service: Service, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_phantom_scan(scan, seed=2, shape=SHAPE)
    ann, bob = opened(browser, service), opened(browser, service)
    for page, down in ((ann, 0.3), (bob, 0.6)):
        page.send("Page.bringToFront")
        predicted(page, scan)
        assert page.evaluate("document.getElementById('kept').hidden")
        page.click("[data-tool=paint]")
        page.click("canvas[data-axis='2']", across=0.5, down=down)
    ann.send("Page.bringToFront")
    saved(ann)
    bob.send("Page.bringToFront")
    bob.click("#save")
    bob.wait(lambda: not bob.evaluate("document.getElementById('replace').hidden"))
    assert "other labels of this scan were saved" in bob.evaluate(
        "document.getElementById('fault').textContent"
    )
    bob.click("#replace")
    bob.wait(lambda: bob.evaluate("document.getElementById('saved').textContent") != "")
    late = opened(browser, service)
    predicted(late, scan)
    late.click("#show-kept")
    late.wait(lambda: not late.evaluate("document.getElementById('save').disabled"))
    saved(late)
    last = array_of(service, job_of(late), tmp_path)
    np.testing.assert_array_equal(last, array_of(service, job_of(bob), tmp_path))
    assert (last != array_of(service, job_of(ann), tmp_path)).any()


def test_strokes_are_undone(browser: Browser, service: Service, scan: Path, tmp_path: Path) -> None:
    page = opened(browser, service)
    predicted(page, scan)
    volumes = "[...document.querySelectorAll('#structures td:nth-child(2)')].map(c => c.textContent).join()"
    before = page.evaluate(volumes)
    page.click("[data-tool=erase]")
    page.evaluate(
        "document.getElementById('radius').value = 20; document.getElementById('ball').checked = true"
    )
    page.click("canvas[data-axis='1']")
    assert page.evaluate(volumes) != before
    page.click("#undo")
    assert page.evaluate(volumes) == before
    assert page.evaluate("document.getElementById('undo').disabled")


def test_scribbles_spread_and_structures_are_accepted(
    browser: Browser, service: Service, scan: Path, tmp_path: Path
) -> None:
    page = opened(browser, service)
    predicted(page, scan)
    page.click(f"#structures button[data-value='{LEFT.value}']")
    page.click("[data-tool=scribble]")
    for across in (0.6, 0.65, 0.7):
        page.click("canvas[data-axis='0']", across=across, down=0.5)
    page.click("#spread")
    page.wait(lambda: page.evaluate("document.getElementById('progress').hidden"))
    assert page.evaluate("document.getElementById('fault').textContent") == ""
    assert page.evaluate("document.getElementById('spread').disabled"), "the scribbles were used"
    page.click("#structures tbody tr:nth-child(2) td:nth-child(4) input")
    saved(page)
    changes = service.ask("GET", "/" + job_of(page).replace("labels", "changes")).json()
    assert [name for name, change in changes.items() if change["accepted"]] == [next(iter(STRUCTURES)).name]


def test_the_picture_is_of_the_slice_and_turns(browser: Browser, service: Service, scan: Path) -> None:
    page = opened(browser, service)
    predicted(page, scan)
    dark = (
        "(() => { const c = document.querySelector(\"canvas[data-axis='2']\"); const p = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let s = 0; for (const v of p) s += v; return s; })()"
    )
    first = page.evaluate(dark)
    page.wheel("canvas[data-axis='2']", 240)
    assert page.evaluate(dark) != first
    page.evaluate("document.querySelector(\"canvas[data-axis='2']\").focus()")
    for _ in range(4):
        page.press("ArrowUp", 38)
    assert page.evaluate(dark) == first


def test_what_fails_is_said(browser: Browser, service: Service, tmp_path: Path) -> None:
    page = opened(browser, service)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(gzip.compress(b"no scan"))
    choose(page, bad)
    page.click("#start")
    page.wait(lambda: page.evaluate("document.getElementById('fault').textContent") != "")
    assert not page.evaluate("document.getElementById('start').disabled")


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_is_wider_than_the_window(browser: Browser, service: Service, scan: Path, width: int) -> None:
    page = opened(browser, service, width)
    predicted(page, scan)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('button, select')].filter(e => e.offsetParent && e.offsetHeight < 34)"
        ".map(e => e.textContent)"
    )
    assert not small, "too small for a finger"


def test_a_token_is_asked_for_once(browser: Browser, tmp_path: Path, scan: Path) -> None:
    model, token = tmp_path / "tiny.safetensors", "a-token-that-is-long-enough"
    tiny_model(0).save(model)
    (tmp_path / "token").write_text(token)
    served = Service(tmp_path / "data", [model], ("--token-file", str(tmp_path / "token"))).start()
    try:
        page = browser.open(f"http://127.0.0.1:{served.port}/")
        page.wait(lambda: page.evaluate("!document.getElementById('login').hidden"))
        page.evaluate(f"document.getElementById('token').value = {json.dumps('wrong')}")
        page.click("#login button")
        page.wait(lambda: page.evaluate("document.getElementById('login-fault').textContent") != "")
        page.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
        page.evaluate("setTimeout(() => document.querySelector('#login button').click())")
        page.wait(lambda: shown(page))
        predicted(page, scan)
        assert job_of(page), "the labels can be fetched without the token being asked for again"
    finally:
        served.stop()
