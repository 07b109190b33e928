"""Fixtures every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real scans; the test is skipped where it is absent."""
    root = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    if not root.is_dir():
        pytest.skip("the real scans are not at hand: set MEDSEG_DATA to their folder")
    return root
