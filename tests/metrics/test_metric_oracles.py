"""The oracles of benchmarks/metrics_oracles.py on a real pair and on random ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metrics_oracles.py"
PEERS = ("surface_distance", "medpy", "panoptica", "monai")


@pytest.fixture(scope="module")
def oracles() -> ModuleType:
    """The benchmark as a module; skipped where a library it compares with is not installed."""
    absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (the extra 'bench' has them)")
    spec = importlib.util.spec_from_file_location("metrics_oracles", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["metrics_oracles"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore")
def test_a_real_pair_agrees_with_every_library(oracles: ModuleType, data_root: Path) -> None:
    tally, folder = oracles.Tally(), data_root / "label_pairs"
    reference, predicted = (oracles.read(folder / f"body_{role}.nii.gz") for role in ("ref", "pred"))
    oracles.compare(reference, predicted, "body", tally)
    assert sum(tally.count.values()) > 40 * 25
    assert tally.failures() == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_random_pairs_agree_with_every_library(oracles: ModuleType) -> None:
    tally = oracles.Tally()
    oracles.compare_random(40, 11, tally)
    assert tally.failures() == []


def test_a_deviation_is_noticed(oracles: ModuleType) -> None:
    tally = oracles.Tally()
    tally.add("dice", "MedPy", 0.5, 0.5 + 1e-9, "here")
    tally.add("jaccard", "MedPy", None, 0.5, "there")
    assert len(tally.failures()) == 2
