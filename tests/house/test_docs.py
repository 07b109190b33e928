"""What the pages show in TOML is read as it stands, and what draws their pictures uses what there is."""

from __future__ import annotations

import dataclasses
import io
import re
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.core import specs
from medseg.reporting.drawing.palette import indexed
from medseg.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("[dp]*/**/*.md"))
    if "```toml\n" in path.read_text("utf-8") and path.name != "extending.md"
)
"""The examples of how to extend the package need the extension, and have a test of their own."""

SECTIONS = {field.name for field in dataclasses.fields(Recipe)}
LEAST = {"name": "r", "card": "phantom", "network": {"name": "unet3d"}}
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not installed")


def examples(page: Path) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_pages_have_examples() -> None:
    assert {"train.md", "train-on-your-data.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_example_is_toml_and_sections_of_a_recipe_are_read_as_one(page: Path) -> None:
    for text in examples(page):
        data = tomllib.loads(text)
        assert data
        if data.keys() <= SECTIONS:
            specs.from_mapping(Recipe, LEAST | data, source=page.name)


def test_the_pictures_are_drawn_with_the_palette_of_the_pages() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
    screen = np.linspace(0, 255, 30 * 40 * 3).reshape(30, 40, 3).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(screen).save(stream, "PNG")
    small = Image.open(io.BytesIO(drawn["small_png"](stream.getvalue())))
    assert small.mode == "P"
    np.testing.assert_array_equal(small.convert("RGB"), indexed(Image.fromarray(screen)).convert("RGB"))


def test_the_colour_of_an_area_is_exact_among_many_colours() -> None:
    """The banner of a page is a pale area beside thousands of colours of edges."""
    picture = np.random.default_rng(0).integers(0, 256, (120, 120, 3)).astype(np.uint8)
    picture[:40] = banner = (255, 248, 235)
    shown = np.asarray(indexed(Image.fromarray(picture)).convert("RGB"))
    assert (shown[:40] == banner).all()
