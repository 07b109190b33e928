"""Whole pages in a real browser: they ask for nothing, complain of nothing, scroll, fit and print."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from chromium import Browser, Page
from commands import done

from medseg.data.cards import load_card
from medseg.data.phantom import phantom_case
from medseg.reporting.case.page import report

pytestmark = pytest.mark.slow

SHAPE = (40, 48, 36)
COHORT = 40
SHOWN = 2
"""Cases of a cohort that get a page of their own."""

STEM = "<script>alert(1)<\u2215script>"
LABELS = {"labels": {"background": 0, "left": 1, "right": 2, "core": 3}}
A4 = (594.96, 841.92)
REAL = (pytest.mark.realdata,)
CASES = [
    "phantom",
    pytest.param("hippocampus", marks=REAL),
    pytest.param("brats", marks=REAL),
    pytest.param("no_reference", marks=REAL),
]
COHORTS = ["phantoms", pytest.param("hippocampi", marks=REAL)]

Maker = Callable[[str], Path]


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Maker:
    """A page by name, made once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            needs_data = name not in ("phantom", "phantoms")
            root = request.getfixturevalue("data_root") if needs_data else folder
            made[name] = MAKERS[name](folder, root)
        return made[name]

    return make


def _save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def _phantom(folder: Path, _: Path) -> Path:
    """A case whose name is markup, with a reference a voxel away."""
    volume, labels = phantom_case(np.random.default_rng(0), SHAPE)
    scan = _save(folder / "scan.nii.gz", volume.array[0])
    reference = _save(folder / "reference.nii.gz", labels.array)
    seg = _save(folder / f"{STEM}_seg.nii.gz", np.roll(labels.array, 1, axis=0))
    done("report", seg, scan, "--reference", reference, "-o", folder / "page.html")
    return folder / "page.html"


def _hippocampus(folder: Path, data: Path) -> Path:
    """A real case, as the packaged model has it, against its reference."""
    name = "hippocampus_001.nii.gz"
    scan, reference = (data / "hippocampus" / sub / name for sub in ("imagesTr", "labelsTr"))
    done("predict", scan, "-m", "hippocampus", "-o", folder, "--threads", 1, "-q")
    seg = folder / "hippocampus_001_seg.nii.gz"
    done("report", seg, scan, "--reference", reference, "-o", folder / "page.html", "--tolerance", 1)
    return folder / "page.html"


def _brats(folder: Path, data: Path) -> Path:
    """A real tumour in overlapping regions; its reference, moved by two voxels, stands for a prediction."""
    patient = data / "brats2013" / "brats_2013_pat0003_1"
    image = nib.load(patient / "OTMultiClass.nii.gz")
    moved = np.roll(np.asarray(image.dataobj), 2, axis=0)
    nib.save(nib.Nifti1Image(moved, image.affine, image.header), folder / "pat0003_seg.nii.gz")
    scans = {"flair": "Flair_subtrMeanDivStd.nii.gz", "t1c": "T1c_subtrMeanDivStd.nii.gz"}
    report(
        folder / "pat0003_seg.nii.gz",
        {channel: patient / file for channel, file in scans.items()},
        reference=patient / "OTMultiClass.nii.gz",
        structures=load_card("brats").structure_set,
        out=folder / "page.html",
    )
    return folder / "page.html"


def _no_reference(folder: Path, data: Path) -> Path:
    """A whole head, as `predict --report` shows it."""
    scan = data / "scans" / "chris_t1.nii.gz"
    done("predict", scan, "-m", "brain", "-o", folder, "--report", "--threads", 1, "-q")
    return folder / "chris_t1_report.html"


def _phantoms(folder: Path, _: Path) -> Path:
    for n in range(12):
        volume, labels = phantom_case(np.random.default_rng(n), (20, 24, 18))
        name = f"{STEM} {n}.nii.gz"
        _save(folder / "references" / name, labels.array)
        _save(folder / "predictions" / name, np.roll(labels.array, n % 3, axis=0))
        if n < SHOWN:
            _save(folder / "scans" / name, volume.array[0])
    (folder / "dataset.json").write_text(json.dumps(LABELS))
    return _evaluated(folder, folder / "dataset.json")


def _hippocampi(folder: Path, data: Path) -> Path:
    """Forty real cases, as the packaged model has them."""
    names = sorted(path.name for path in (data / "hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))
    for n, name in enumerate(names[:COHORT]):
        for sub, target in (("imagesTr", "inputs"), ("labelsTr", "references")):
            (folder / target).mkdir(exist_ok=True)
            shutil.copy(data / "hippocampus" / sub / name, folder / target)
        if n < SHOWN:
            (folder / "scans").mkdir(exist_ok=True)
            shutil.copy(folder / "inputs" / name, folder / "scans")
    predictions = folder / "predictions"
    done("predict", folder / "inputs", "-m", "hippocampus", "-o", predictions, "--threads", 1, "-q")
    return _evaluated(folder, data / "hippocampus" / "dataset.json")


def _evaluated(folder: Path, labels: Path) -> Path:
    common = ("--labels", labels, "--images", folder / "scans", "--workers", 1, "--threads", 1)
    done("evaluate", folder / "predictions", folder / "references", "-o", folder / "out", *common)
    return folder / "out" / "cohort.html"


MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "phantom": _phantom,
    "hippocampus": _hippocampus,
    "brats": _brats,
    "no_reference": _no_reference,
    "phantoms": _phantoms,
    "hippocampi": _hippocampi,
}


def ready(page: Page) -> None:
    """Wait for the viewer."""
    said = "document.querySelector('.viewer').dataset.ready === 'yes'"
    page.wait(lambda: page.evaluate(said), "the viewer")
    page.settle()


def title(page: Page) -> str:
    found: str = page.evaluate("document.querySelector('.viewer-title').textContent")
    return found


def require_silent(page: Page, path: Path) -> None:
    """The page's own file is all that was asked for, and nobody complains."""
    assert {url for url in page.requests() if not url.startswith("data:")} == {path.resolve().as_uri()}
    assert page.requests_outside() == []
    assert page.complaints() == []


def require_pictures(page: Page) -> None:
    """Every picture is there, and is described."""
    assert page.evaluate("document.images.length") > 0
    shown = "[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
    assert page.evaluate(shown)


def require_fits(page: Page, width: int) -> None:
    """Nothing is wider than the window but what scrolls by itself."""
    page.resize(width, 900)
    page.settle()
    page.settle()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate("""
        [...document.body.querySelectorAll("*")].filter(e => {
            const box = e.getBoundingClientRect();
            if (box.width === 0 || box.right <= innerWidth + 1) return false;
            for (let at = e; at !== document.body; at = at.parentElement)
                if (["auto", "scroll"].includes(getComputedStyle(at).overflowX)) return false;
            return true;
        }).map(e => e.outerHTML.slice(0, 80))""")
    assert beyond == []


def require_prints(page: Page, path: Path) -> int:
    """Sheets of A4; how many."""
    page.pdf(path)
    printed = path.read_bytes()
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert boxes
    for width, height in boxes:
        assert (float(width), float(height)) == pytest.approx(A4, abs=1)
    return len(re.findall(rb"/Type /Page\b", printed))


@pytest.mark.parametrize("name", CASES)
def test_a_page_of_a_case(browser: Browser, page_of: Maker, tmp_path: Path, name: str) -> None:
    path = page_of(name)
    page = browser.open(path)
    ready(page)
    require_pictures(page)
    before = title(page)
    page.middle(".viewer canvas")
    page.evaluate("new Promise(r => setTimeout(r, 500))")  # a wheel that scrolls the page goes on doing so
    page.wheel(".viewer canvas", 120)
    page.wait(lambda: title(page) != before, "the wheel")
    first, second = (int(text.split("slice ")[1].split(" ")[0]) for text in (before, title(page)))
    assert second == first - 1
    require_fits(page, 420)
    require_fits(page, 1280)
    assert 2 <= require_prints(page, tmp_path / "page.pdf") <= 12
    require_silent(page, path)


@pytest.mark.parametrize("name", ["phantom", pytest.param("hippocampus", marks=REAL)])
def test_without_a_script_the_still_pictures_remain(browser: Browser, page_of: Maker, name: str) -> None:
    page = browser.open(page_of(name), script=False)
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    require_pictures(page)
    assert page.evaluate("document.querySelector('.viewer').getBoundingClientRect().height") == 0


@pytest.mark.parametrize("name", COHORTS)
def test_a_page_of_a_cohort(browser: Browser, page_of: Maker, tmp_path: Path, name: str) -> None:
    path = page_of(name)
    page = browser.open(path)
    require_pictures(page)
    assert page.evaluate("document.scripts.length") == 0
    require_fits(page, 420)
    require_fits(page, 1280)
    assert require_prints(page, tmp_path / "page.pdf") >= 3
    require_silent(page, path)
    links = page.evaluate("[...document.querySelectorAll('td a, th a')].map(e => e.href)")
    assert len(links) == SHOWN
    page.click("td a, th a")
    page.wait(lambda: page.evaluate("document.querySelector('.viewer') !== null"), "the case's page")
    ready(page)
    assert page.evaluate("location.href") in links
    assert page.requests_outside() == []
    assert page.complaints() == []


def test_a_name_that_is_markup_is_shown_as_it_is(browser: Browser, page_of: Maker) -> None:
    page = browser.open(page_of("phantom"), before="window.alert = () => { window.alarmed = true; };")
    ready(page)
    assert STEM.split("\u2215")[0] in page.evaluate("document.querySelector('.id').textContent")
    assert page.evaluate("document.scripts.length") == 1
    assert not page.evaluate("Boolean(window.alarmed)")
