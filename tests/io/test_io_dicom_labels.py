"""DICOM segmentations read as labels: what we write, read back voxel by voxel, and what is refused."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from io_files import write_dicom as write_series

from medseg.core.errors import InputError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import LabelMap
from medseg.data.layouts import LAYOUTS, detect
from medseg.io import read_labels, read_segments, read_volume, states_segments, write_labels
from medseg.prediction.dicom import write_dicom

pytest.importorskip("highdicom")

FRAME_OF_REFERENCE = {0x00200052: ("UI", "1.2.826.0.1.3680043.2.1125.99")}
NAMES = from_labels({2: "left hippocampus", 3: "right hippocampus", 9: "core"})
REGIONS = StructureSet((Structure(2, "whole", members=(2, 3)), Structure(3, "core", members=(3, 9))))


def written(folder: Path, structures: StructureSet = NAMES, kind: str = "binary") -> tuple[Path, LabelMap]:
    """A segmentation of a series beside it, and the labels it was made of."""
    write_series(folder / "series", tags=FRAME_OF_REFERENCE)
    grid = read_volume(folder / "series").grid
    draw = np.random.default_rng(0).choice([0, 0, 0, 2, 3, 9], size=grid.shape)
    labels = LabelMap(draw.astype(np.uint8), grid)
    made = write_dicom(
        folder / "scan", folder / "series", labels, structures, model="tiny", kind=kind,  # type: ignore[arg-type]
        created=datetime(2026, 2, 3),
    )  # fmt: skip
    for path in made[1:]:
        path.unlink()
    return made[0], labels


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_our_own_segmentation_is_read_back_voxel_by_voxel(tmp_path: Path, kind: str) -> None:
    path, labels = written(tmp_path, kind=kind)
    found = read_labels(path, structures=NAMES)
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.grid.matches(labels.grid)
    assert found.warnings == ()
    assert states_segments(path)
    assert read_segments(path).names == NAMES.names
    for stated, meant in zip(read_segments(path), NAMES, strict=True):
        shares = [[int(s.colour[n : n + 2], 16) for n in (1, 3, 5)] for s in (stated, meant)]
        assert np.abs(np.subtract(*shares)).max() <= 2
    assert read_segments(path).values == (NAMES.values if kind == "labelmap" else (1, 2, 3))
    numbered = read_labels(path)
    assert set(np.unique(numbered.array)) == {0, *read_segments(path).values}


def test_segments_that_overlap_are_refused_unless_one_is_inside_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path, _ = written(tmp_path / "a", REGIONS)
    with pytest.raises(InputError, match=r"segments '(whole|core)' and '(whole|core)' share"):
        read_labels(path)
    inside = StructureSet((Structure(2, "whole", members=(2, 3, 9)), Structure(3, "core", members=(3, 9))))
    (tmp_path / "b").mkdir()
    path, labels = written(tmp_path / "b", inside)
    found = read_labels(path, structures=inside)
    np.testing.assert_array_equal(found.array, np.array([0, 0, 2, 3, 0, 0, 0, 0, 0, 3])[labels.array])
    assert any("lie in both whole and core, and count as core" in text for text in found.warnings)


def test_a_segmentation_is_a_reference_and_a_label_of_a_data_set(tmp_path: Path) -> None:
    path, labels = written(tmp_path)
    write_labels(tmp_path / "pred.nii.gz", labels)
    (tmp_path / "names.json").write_text('{"2": "left hippocampus", "3": "right hippocampus", "9": "core"}')
    words = ("evaluate", tmp_path / "pred.nii.gz", path, "--no-surface", "--json")
    found = done(*words, "--labels", tmp_path / "names.json").json()
    assert {row["metrics"]["dice"] for row in found["cases"][0]["structures"]} == {1.0}  # type: ignore[index]
    (tmp_path / "set" / "one").mkdir(parents=True)
    shutil.copytree(tmp_path / "series", tmp_path / "set" / "one" / "CT")
    shutil.copy(path, tmp_path / "set" / "one" / "labels.dcm")
    assert detect(tmp_path / "set") == "dicom"
    (case,) = LAYOUTS["dicom"].read(tmp_path / "set").cases
    assert case.label == tmp_path / "set" / "one" / "labels.dcm"


def test_a_segmentation_without_its_series_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    shutil.rmtree(tmp_path / "series")
    with pytest.raises(InputError, match="whose series is not beside it"):
        read_labels(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cut or damaged"):
        read_labels(path)
    assert "cut or damaged" in refused(3, "evaluate", path, path)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("held", [(), (2,), (2, 3, 9)])
def test_a_segmentation_of_one_slice_or_of_nothing_is_read(
    tmp_path: Path, kind: str, held: tuple[int, ...]
) -> None:
    write_series(tmp_path / "series", tags=FRAME_OF_REFERENCE)
    grid = read_volume(tmp_path / "series").grid
    array = np.zeros(grid.shape, np.uint8)
    for n, value in enumerate(held):
        array[n, 1:3, 1] = value
    labels = LabelMap(array, grid)
    made = write_dicom(
        tmp_path / "scan", tmp_path / "series", labels, NAMES, model="tiny", kind=kind,  # type: ignore[arg-type]
    )  # fmt: skip
    np.testing.assert_array_equal(read_labels(made[0], structures=NAMES).array, array)
