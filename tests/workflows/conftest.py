"""What the tests of the workflows share."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.model.file import Model, load_model
from medseg.workflows.member import SegmenterOptions
from medseg.workflows.segment import Segmenter


@pytest.fixture(scope="session")
def model(model_path: Path) -> Model:
    return load_model(model_path)


@pytest.fixture(scope="session")
def segmenter(model: Model) -> Segmenter:
    return Segmenter([model], SegmenterOptions(threads=1))
