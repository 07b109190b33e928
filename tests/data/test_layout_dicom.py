"""Data sets of DICOM series with structure sets, as they come from radiotherapy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import done
from dicom_files import contour, structure_set
from io_files import write_dicom

from medseg import io
from medseg.core.errors import InputError
from medseg.core.structures import Structure
from medseg.data.cards import Card
from medseg.data.cases import read_case
from medseg.data.layouts import LAYOUTS, detect

LIVER = [(1.5, 2.5), (8.5, 2.5), (8.5, 9.5), (1.5, 9.5)]
KIDNEY = [(11.5, 2.5), (15.5, 2.5), (15.5, 9.5), (11.5, 9.5)]


def a_case(place: Path, n: int, *, apart: bool) -> Path:
    """A series whose values depend on `n`, and two structures, which odd cases name in another order."""
    place.mkdir(parents=True)
    tags = {0x00200052: ("UI", "1.2.9")}
    folder = place / "CT" if apart else place
    files = write_dicom(folder, 8, size=(20, 16), tags=tags, uid=f"1.2.3.{n}", rescale=[(1.0, float(n))] * 8)
    drawn = {
        "Liver": [contour(files[k], LIVER) for k in range(2, 6)],
        "left kidney": [contour(files[k], KIDNEY) for k in range(2, 6)],
    }
    (place / "RT").mkdir() if apart else None
    names = list(drawn)[:: -1 if n % 2 else 1]
    return structure_set(
        place / "RT" / "rt.dcm" if apart else place / "rt.dcm", files[0], {k: drawn[k] for k in names}
    )


@pytest.mark.parametrize("apart", [False, True])
def test_structures_have_one_value_in_every_case(tmp_path: Path, apart: bool) -> None:
    for n in range(3):
        a_case(tmp_path / f"p{n}", n, apart=apart)
    assert detect(tmp_path) == "dicom"
    files = LAYOUTS["dicom"].read(tmp_path)
    assert files.labels == {1: "Liver", 2: "left kidney"}
    assert [case.case_id for case in files.cases] == ["p0", "p1", "p2"]
    structures = tuple(Structure(value, name) for value, name in files.labels.items())
    card = Card("rt", "made up", "dicom", ("ct",), structures)
    for case in card.read(tmp_path).cases:
        volume, labels = read_case(case, card)
        assert volume.grid.matches(labels.grid)
        assert np.count_nonzero(labels.array == 1) == 7 * 7 * 4
        assert np.count_nonzero(labels.array == 2) == 4 * 7 * 4
        assert labels.array[2, 3, 2] == 1


def test_check_and_convert_take_them(tmp_path: Path) -> None:
    for n in range(2):
        a_case(tmp_path / "rt" / f"p{n}", n, apart=True)
    assert (
        "2 cases, 0 with errors; the list has 0 errors and 0 warnings" in done("check", tmp_path / "rt").err
    )
    done("convert", tmp_path / "rt", tmp_path / "out", "--from", "dicom", "--to", "nnunet")
    found = LAYOUTS["nnunet"].read(tmp_path / "out")
    assert found.labels == {1: "Liver", 2: "left kidney"}
    for case, written in zip(LAYOUTS["dicom"].read(tmp_path / "rt").cases, found.cases, strict=True):
        assert case.label is not None
        assert written.label is not None
        scan, copy = io.read_volume(case.image), io.read_volume(written.image)
        np.testing.assert_array_equal(scan.array, copy.array)
        labels = io.read_labels(written.label)
        assert np.unique(labels.array, return_counts=True)[1][1:].tolist() == [196, 112]
        assert scan.grid.matches(labels.grid)


def test_what_is_missing_or_twice_is_said(tmp_path: Path) -> None:
    a_case(tmp_path / "p0", 0, apart=True)
    file = a_case(tmp_path / "p1", 1, apart=True)
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(InputError, match="p1: contains no structure set"):
        LAYOUTS["dicom"].read(tmp_path)
    assert [case.label is None for case in LAYOUTS["dicom"].read(tmp_path, complete=False).cases] == [
        False,
        True,
    ]
    for name in ("a.dcm", "b.dcm"):
        (file.parent / name).write_bytes(content)
    with pytest.raises(InputError, match=r"contains both a\.dcm and b\.dcm"):
        LAYOUTS["dicom"].read(tmp_path)
    with pytest.raises(InputError, match="contains no case folder"):
        LAYOUTS["dicom"].read(tmp_path / "p0" / "CT")


def test_a_series_among_other_scans_lacks_labels(tmp_path: Path) -> None:
    write_dicom(tmp_path, 4, size=(20, 16))
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "head.nii.gz").touch()
    with pytest.raises(InputError, match="no label file by its name"):
        LAYOUTS["folder"].read(tmp_path)
