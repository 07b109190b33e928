"""The oracles of benchmarks/metrics_oracles.py on real pairs and on random ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metrics_oracles.py"
MODULES = {
    "surface-distance": "surface_distance",
    "MedPy": "medpy",
    "panoptica": "panoptica",
    "monai": "monai",
    "seg_metrics": "seg_metrics",
    "SimpleITK": "SimpleITK",
}


@pytest.fixture(scope="module")
def oracles() -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("metrics_oracles", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["metrics_oracles"] = module
    spec.loader.exec_module(module)
    return module


def installed(library: str) -> None:
    if importlib.util.find_spec(MODULES[library]) is None:
        pytest.skip(f"{library} is not installed (the extra 'bench' has it)")


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", MODULES)
@pytest.mark.parametrize(("pair", "structures"), [("body", 40), ("spine_semantic", 10)])
def test_a_real_pair_agrees_with_every_library(
    oracles: ModuleType, data_root: Path, library: str, pair: str, structures: int
) -> None:
    installed(library)
    tally, folder = oracles.Tally(), data_root / "label_pairs"
    reference, predicted = (oracles.read(folder / f"{pair}_{role}.nii.gz") for role in ("ref", "pred"))
    oracles.compare(reference, predicted, pair, tally, [library])
    counts = [n for (_, name), n in tally.count.items() if name == library]
    assert len(counts) >= 3
    assert min(counts) >= structures
    assert tally.failures() == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", MODULES)
def test_random_pairs_agree_with_every_library(oracles: ModuleType, library: str) -> None:
    installed(library)
    tally = oracles.Tally()
    oracles.compare_random(40, 11, tally, [library])
    assert tally.failures() == []


def test_a_deviation_is_noticed(oracles: ModuleType) -> None:
    tally = oracles.Tally()
    tally.add("dice", "MedPy", 0.5, 0.5 + 1e-9, "here")
    tally.add("jaccard", "MedPy", None, 0.5, "there")
    assert len(tally.failures()) == 2
