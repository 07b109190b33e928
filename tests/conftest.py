"""Fixtures every room shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chromium import Browser

    from medseg.model.file import Model
    from medseg.segmentation.segmenter import Segmenter

DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch: networks this small are quicker alone

sys.path.append(str(Path(__file__).parent / "helpers"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs are kept in a folder of this run, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without words of the test's name, which an awaited message, led by its file, would match."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real scans; the test is skipped where it is absent."""
    root = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    if not root.is_dir():
        pytest.skip("the real scans are not at hand: set MEDSEG_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of phantoms' structures that was never trained; see `models.tiny_model`."""
    from models import tiny_model

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tiny_model().save(path)
    return path


@pytest.fixture(scope="session")
def model(model_path: Path) -> Model:
    from medseg.model.file import load_model

    return load_model(model_path)


@pytest.fixture(scope="session")
def segmenter(model: Model) -> Segmenter:
    from medseg.segmentation.member import SegmenterOptions
    from medseg.segmentation.segmenter import Segmenter

    return Segmenter([model], SegmenterOptions(threads=1))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Headless Chromium; the test is skipped where it is not installed."""
    from chromium import PROGRAM, Browser

    if PROGRAM is None:
        pytest.skip("Chromium is not installed")
    with Browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started
