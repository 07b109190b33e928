"""Labels on the scan's grid are those of interpolated probabilities, of which few are made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from medseg.core.errors import ModelError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, Volume
from medseg.inference import restore
from medseg.inference.predictor import labels_from_probabilities
from medseg.inference.restore import restored_labels
from medseg.preparation.preparation import Preparation, PreparationSpec, Prepared

LABELS = from_labels({1: "a", 5: "b", 300: "c", 7: "d"})
REGIONS = StructureSet((Structure(1, "whole", members=(1, 2)), Structure(2, "core", members=(2,))))


def scan(shape: tuple[int, int, int], seed: int = 0, air: int = 0) -> Volume:
    array = np.random.default_rng(seed).uniform(1, 2, (1, *shape)).astype(np.float32)
    array[:, :air], array[:, :, shape[1] - air :] = 0, 0
    return Volume(array, Grid(shape, np.diag([1.0, 1.2, 0.9, 1.0])), ("MR",))


def prepared(volume: Volume, mm: float, crop: str = "none") -> Prepared:
    return Preparation(PreparationSpec((mm, mm, mm), crop)).apply(volume)  # type: ignore[arg-type]


def outputs(way: Prepared, structures: StructureSet, seed: int, sharp: float) -> np.ndarray:
    """Smooth blobs of every output, some of which win nowhere."""
    rng = np.random.default_rng(seed)
    shape = way.array.shape[1:]
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"))
    logits = np.stack(
        [
            sharp * np.cos((rng.normal(size=(3, 1, 1, 1)) * 9 * places).sum(axis=0) + rng.uniform(0, 6))
            for _ in range(structures.output_channels)
        ]
    ).astype(np.float32)
    if structures.are_regions:
        return 1 / (1 + np.exp(-logits))
    logits[-1] -= sharp
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def in_runs(found: np.ndarray, height: int) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, found.shape[1], height):
        part = found[:, start : start + height]
        yield slice(start, start + part.shape[1]), part


def restored(ways: list[Prepared], found: list[np.ndarray], structures: StructureSet) -> np.ndarray:
    """As tiles hand them on: a few rows at a time, of other heights in each model."""
    runs = [in_runs(f, height) for height, f in zip((3, 1, 7), found, strict=False)]
    return restored_labels(ways, runs, structures)


def expected(ways: list[Prepared], found: list[np.ndarray], structures: StructureSet) -> np.ndarray:
    background = not structures.are_regions
    whole = [w.restore(f, background=background) for w, f in zip(ways, found, strict=True)]
    return labels_from_probabilities(np.mean(whole, axis=0, dtype=np.float32), structures)


@pytest.mark.parametrize("structures", [LABELS, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("sharp", [0.3, 8.0])
@pytest.mark.parametrize("mm", [0.5, 1.0, 2.3])
@pytest.mark.parametrize("crop", ["none", "nonzero"])
def test_the_labels_are_those_of_all_probabilities(
    structures: StructureSet, sharp: float, mm: float, crop: str
) -> None:
    way = prepared(scan((23, 18, 21), air=4), mm, crop)
    found = outputs(way, structures, 1, sharp)
    labels = restored([way], [found], structures)
    wanted = expected([way], [found], structures)
    assert labels.dtype == wanted.dtype
    assert len(np.unique(wanted)) >= 3
    np.testing.assert_array_equal(labels, wanted)


def test_several_models_are_averaged_each_from_its_own_grid_and_crop() -> None:
    volume = scan((20, 22, 18), air=3)
    ways = [prepared(volume, 1.0, "nonzero"), prepared(volume, 1.7), prepared(volume, 0.8, "nonzero")]
    for structures in (LABELS, REGIONS):
        found = [outputs(way, structures, n, 3.0) for n, way in enumerate(ways)]
        wanted = expected(ways, found, structures)
        assert (restored(ways, found, structures) == wanted).mean() > 0.9999


@pytest.mark.parametrize("values", [1, 5000, 10**9])
def test_slabs_change_nothing(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    way = prepared(scan((19, 16, 14)), 1.6)
    found = outputs(way, LABELS, 3, 2.0)
    whole = restored([way], [found], LABELS)
    monkeypatch.setattr(restore, "SLAB_VALUES", values)
    np.testing.assert_array_equal(restored([way], [found], LABELS), whole)


def test_what_cannot_win_is_not_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    way = prepared(scan((30, 30, 30)), 2.0)
    found = np.zeros((5, *way.array.shape[1:]), np.float32)
    found[0] = 1.0
    found[0, 3:5, 3:5, 3:5], found[2, 3:5, 3:5, 3:5] = 0.1, 0.9
    made = []

    def counted(*args: object, **more: object) -> np.ndarray:
        made.append(restore_resample(*args, **more))
        return made[-1]

    restore_resample = restore.resample
    monkeypatch.setattr(restore, "resample", counted)
    labels = restored([way], [found], LABELS)
    assert set(np.unique(labels)) == {0, 5}
    assert sum(part.size for part in made) < 1.1 * labels.size


def test_an_output_too_few_is_refused() -> None:
    way = prepared(scan((8, 8, 8)), 1.0)
    with pytest.raises(ModelError, match="4 outputs, but its structures need 5"):
        restored([way], [np.zeros((4, *way.array.shape[1:]), np.float32)], LABELS)
