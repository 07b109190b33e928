"""Corrected cases that are kept: nothing that somebody drew is lost, and `medseg train` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Volume
from medseg.data.layouts import detect
from medseg.data.layouts.monailabel import EARLIER, FINAL
from medseg.data.phantom import STRUCTURES, write_phantom_scan
from medseg.data.source import found_in
from medseg.data.store import ChangedError, Store
from medseg.io import digest_of, read_volume

REGIONS = StructureSet((Structure(2, "tumour", members=(1, 2)), Structure(1, "core", members=(1,))))


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Volume, list[Path], Path]:
    """A scan, two label files of it, and a sidecar."""
    files = []
    for n in range(2):
        path = tmp_path / f"drawn{n}.nii.gz"
        write_phantom_scan(
            tmp_path / "scan.nii.gz", seed=n, shape=(20, 24, 18), labels_path=path, overwrite=True
        )
        files.append(path)
    sidecar = tmp_path / "sidecar.json"
    sidecar.write_text("{}")
    return read_volume(tmp_path / "scan.nii.gz"), files, sidecar


def kept(
    folder: Path, drawn: tuple[Volume, list[Path], Path], base: str | None = "", number: int = 0
) -> Store:
    scan, files, sidecar = drawn
    store = Store(folder)
    store.describe("phantom", ("MR",), STRUCTURES)
    store.add("one", scan)
    store.keep_predicted("one", files[1], sidecar)
    store.keep_corrected("one", files[number], sidecar, base=base, changes={"lobe": {"added": 1}})
    return store


def test_a_kept_case_is_read_for_training_with_its_names(
    tmp_path: Path, drawn: tuple[Volume, list[Path], Path]
) -> None:
    kept(tmp_path / "store", drawn)
    assert detect(tmp_path / "store") == "monailabel"
    found = found_in(tmp_path / "store", complete=True)
    assert found.channels == ("MR",)
    assert {s.value: s.name for s in found.structures} == {s.value: s.name for s in STRUCTURES}
    (case,) = found.files.cases
    assert case.label == tmp_path / "store" / FINAL / "one.nii.gz"
    np.testing.assert_array_equal(nib.load(case.image).get_fdata(), drawn[0].array[0])
    assert json.loads(case.label.with_name("one_changes.json").read_text()) == {"lobe": {"added": 1}}


def test_labels_that_nobody_saw_are_not_replaced_and_none_are_lost(
    tmp_path: Path, drawn: tuple[Volume, list[Path], Path]
) -> None:
    _, files, _ = drawn
    store = kept(tmp_path / "store", drawn)
    first = store.digest("one")
    assert first == digest_of(files[0])
    kept(tmp_path / "store", drawn)  # the same again, after a kill
    assert not (store.folder / EARLIER).exists()
    with pytest.raises(ChangedError, match=first[:16]):
        kept(tmp_path / "store", drawn, base="", number=1)
    assert store.digest("one") == first
    kept(tmp_path / "store", drawn, base=first, number=1)
    assert store.digest("one") == digest_of(files[1])
    assert first in {digest_of(path) for path in (store.folder / EARLIER).iterdir()}
    kept(tmp_path / "store", drawn, base=None)
    assert store.digest("one") == first


def test_scans_without_labels_are_told(tmp_path: Path, drawn: tuple[Volume, list[Path], Path]) -> None:
    store = kept(tmp_path / "store", drawn)
    store.add("two", drawn[0])
    store.keep_predicted("two", drawn[1][0], drawn[2])
    assert list(store.unlabelled()) == ["two"]
    assert list(store.labels("original")) == ["one", "two"]
    assert len(found_in(store.folder, complete=True).files.cases) == 1


def test_regions_keep_their_meaning(tmp_path: Path, drawn: tuple[Volume, list[Path], Path]) -> None:
    store = Store(tmp_path / "store")
    store.describe("regions", ("t1", "flair"), REGIONS)
    store.add("one", drawn[0])
    store.keep_corrected("one", drawn[1][0], drawn[2], base="", changes={})
    found = found_in(store.folder, complete=True)
    assert found.channels == ("t1", "flair")
    assert [(s.name, s.value, s.members) for s in found.structures] == [
        (s.name, s.value, s.members) for s in REGIONS
    ]


def test_what_values_mean_is_stated_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.describe("first", ("MR",), from_labels({1: "a"}))
    before = (tmp_path / "dataset.json").read_bytes()
    store.describe("second", ("MR",), from_labels({1: "b"}))
    assert (tmp_path / "dataset.json").read_bytes() == before
