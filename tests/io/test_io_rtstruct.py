"""Structure sets (RTSTRUCT): contours as label maps on the grid of their series, wherever labels are read."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import done, refused
from dicom_files import contour, structure_set
from io_files import rotation, write_dicom
from matplotlib.path import Path as Outline
from pydicom import dcmread
from pydicom.data import get_testdata_file

from medseg import io
from medseg.core.errors import GeometryError, InputError, UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import LabelMap
from medseg.io.dicom.contours import filled

SIZE = (20, 16)
SPACE = {0x00200052: ("UI", "1.2.9")}


def box(low: tuple[float, float], high: tuple[float, float]) -> list[tuple[float, float]]:
    """Corners around the pixels from `low` to `high`."""
    (a, b), (c, d) = low, high
    return [(a - 0.5, b - 0.5), (c + 0.5, b - 0.5), (c + 0.5, d + 0.5), (a - 0.5, d + 0.5)]


def series(folder: Path, *, angles: tuple[float, float, float] = (0, 0, 0), count: int = 6) -> list[Path]:
    return write_dicom(folder, count, size=SIZE, turn=rotation(*angles), tags=SPACE)


@pytest.mark.parametrize("seed", range(20))
def test_a_pixel_belongs_to_what_surrounds_its_centre(seed: int) -> None:
    generator = np.random.default_rng(seed)
    polygon = generator.uniform(-3, 19, (int(generator.integers(3, 12)), 2))
    centres = np.stack(np.meshgrid(np.arange(17), np.arange(15), indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_array_equal(filled([polygon], (17, 15)).ravel(), _crossings(polygon, centres) % 2 == 1)
    hull = polygon[np.argsort(np.arctan2(*(polygon - polygon.mean(axis=0)).T))]
    star = Outline(np.vstack([hull, hull[:1]]), closed=True)
    np.testing.assert_array_equal(filled([hull], (17, 15)).ravel(), star.contains_points(centres))


def _crossings(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How often a ray from each point to greater i crosses the polygon, one edge after the other."""
    count = np.zeros(len(points), dtype=int)
    for (i1, j1), (i2, j2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        for n, (i, j) in enumerate(points):
            if (j1 <= j) != (j2 <= j) and i < i1 + (j - j1) * (i2 - i1) / (j2 - j1):
                count[n] += 1
    return count


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    corners = [(1.0, 1.0), (5.0, 1.0), (5.0, 4.0), (1.0, 4.0)]
    left, right = np.array(corners), np.add(corners, (4.0, 0.0))
    both = np.array([(1.0, 1.0), (9.0, 1.0), (9.0, 4.0), (1.0, 4.0)])
    one, other = filled([left], (12, 6)), filled([right], (12, 6))
    assert not (one & other).any()
    np.testing.assert_array_equal(one | other, filled([both], (12, 6)))


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -10, 5), (90, 0, 0), (0, 90, 0), (0, 0, 180)])
@pytest.mark.parametrize("drawn", ["contours", "keyhole"])
def test_holes_and_islands_lie_where_they_were_drawn(
    tmp_path: Path, angles: tuple[float, float, float], drawn: str
) -> None:
    slices = series(tmp_path / "ct", angles=angles)
    expected = np.zeros((*SIZE, 6), dtype=bool)
    expected[2:12, 3:13, 1:3] = True
    expected[4:9, 5:10, 1:3] = False
    outer, hole = box((2, 3), (11, 12)), box((4, 5), (8, 9))
    keyhole = [*outer, outer[0], *hole[::-1], hole[-1], outer[0]]
    shapes = [outer, hole] if drawn == "contours" else [keyhole]
    if drawn == "contours":
        shapes.append(box((6, 7), (6, 7)))
        expected[6, 7, 1:3] = True
    contours = [contour(slices[k], shape) for k in (1, 2) for shape in shapes]
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"Left lobe": contours})
    labels = io.read_labels(file)
    np.testing.assert_array_equal(labels.array == 1, expected)
    assert labels.grid.matches(io.read_volume(tmp_path / "ct").grid)
    assert [(s.value, s.name, s.colour) for s in io.read_segments(file)] == [(1, "Left lobe", "#ff0000")]
    assert io.states_segments(file)
    assert labels.warnings == ()


@pytest.mark.parametrize("place", [".", "rt", "ct"])
def test_the_series_is_found_beside_it(tmp_path: Path, place: str) -> None:
    slices = series(tmp_path / "ct")
    (tmp_path / "other").mkdir()
    write_dicom(tmp_path / "other", 3, uid="1.2.826.0.1.3680043.2.1125.9")
    (tmp_path / place).mkdir(exist_ok=True)
    shapes = {"a": [contour(slices[4], box((1, 1), (3, 3)))]}
    file = structure_set(tmp_path / place / "rt.dcm", slices[0], shapes)
    assert (io.read_labels(file).array != 0).sum(axis=(0, 1)).tolist() == [0, 0, 0, 0, 9, 0]
    if place == "ct":  # it is no slice
        assert io.read_volume(tmp_path / "ct").grid.shape == (*SIZE, 6)
    shutil.rmtree(tmp_path / "ct") if place != "ct" else [s.unlink() for s in slices]
    with pytest.raises(InputError, match="series is not beside it"):
        io.read_labels(file)


def test_a_structure_set_of_another_patient_or_space_is_refused(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    shapes = {"a": [contour(slices[1], box((1, 1), (3, 3)))]}
    file = structure_set(tmp_path / "rt.dcm", slices[0], shapes, PatientName="Other^Canary")
    with pytest.raises(GeometryError, match="structure set and its series differ in PatientName") as caught:
        io.read_labels(file)
    assert "Canary" not in str(caught.value)
    file = structure_set(tmp_path / "rt.dcm", slices[0], shapes)
    for n, path in enumerate(slices):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.9\0", b"1.2.8\0"))
        assert path.read_bytes() != content, n
    with pytest.raises(GeometryError, match="another FrameOfReferenceUID"):
        io.read_labels(file)


@pytest.mark.parametrize(("off", "fault"), [(0.1, ""), (0.5, "slices off"), (6.0, "outside the series")])
def test_a_contour_between_the_slices_is_refused(tmp_path: Path, off: float, fault: str) -> None:
    slices = series(tmp_path / "ct")
    points = np.add(contour(slices[1], box((1, 1), (3, 3))), (0, 0, 2.0 * off))
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"a": [points]})
    if not fault:
        assert np.count_nonzero(io.read_labels(file).array) == 9
        return
    with pytest.raises(GeometryError, match=fault):
        io.read_labels(file)


@pytest.mark.parametrize(
    ("shift_mm", "lost"),
    [((500.0, 0, 0), "9 voxels"), ((0, -300.0, 0), "9 voxels"), ((-1.6, 0, 0), "3 voxels"), ((0, 0, 0), "")],
)
def test_a_structure_outside_the_image_is_refused(
    tmp_path: Path, shift_mm: tuple[float, float, float], lost: str
) -> None:
    slices = series(tmp_path / "ct")
    points = np.add(contour(slices[1], box((1, 1), (3, 3))), shift_mm)
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"a": [points]})
    if not lost:
        assert np.count_nonzero(io.read_labels(file).array) == 9
        return
    with pytest.raises(GeometryError, match=rf"{lost} of 'a' lies? outside the series"):
        io.read_labels(file)


def test_contours_that_span_more_than_any_image_are_refused(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    points = np.add(contour(slices[1], box((1, 1), (3, 3))), [[0, 0, 0], [1e9, 0, 0], [1e9, 0, 0], [0, 0, 0]])
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"a": [points]})
    with pytest.raises(GeometryError, match="reach over"):
        io.read_labels(file)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("POINT", "POINT"),
        ("OPEN_PLANAR", "OPEN_PLANAR"),
        ("OPEN_NONPLANAR", "OPEN_NONPLANAR"),
        ("CANARY", ""),
    ],
)
def test_contours_that_are_not_closed_are_told_beside_closed_ones(
    tmp_path: Path, kind: str, said: str
) -> None:
    slices = series(tmp_path / "ct")
    drawn = [contour(path, box((1, 1), (3, 3))) for path in slices[:3]]
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"a": drawn})
    header = dcmread(file)
    header.ROIContourSequence[0].ContourSequence[2].ContourGeometricType = kind
    header.save_as(file)
    labels = io.read_labels(file)
    assert np.count_nonzero(labels.array) == 18
    kinds = f" ({said})" if said else ""
    assert labels.warnings == (f"Left out: 1 contour of a that is not a closed polygon{kinds}.",)


def test_a_structure_too_small_for_a_voxel_is_told(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    drawn = {"a": [contour(slices[1], box((1, 1), (3, 3)))]}
    drawn["dot"] = [contour(slices[1], [(5.2, 5.2), (5.4, 5.2), (5.4, 5.4)])]
    file = structure_set(tmp_path / "rt.dcm", slices[0], drawn)
    told = "The contours of dot surround the centre of no voxel; taken as absent."
    assert io.read_labels(file).warnings == (told,)


def test_overlaps_points_and_gaps_are_said(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    body = [contour(path, box((0, 0), (19, 15))) for path in slices]
    tumour = [contour(slices[k], box((5, 5), (6, 6))) for k in (1, 3)]
    shapes = {"tumour": tumour, "Body": body}
    file = structure_set(tmp_path / "rt.dcm", slices[0], shapes)
    labels = io.read_labels(file)
    assert np.count_nonzero(labels.array == 1) == 8  # not hidden by the body
    assert np.count_nonzero(labels.array == 2) == 20 * 16 * 6 - 8
    assert labels.warnings == (
        "tumour has no contour on 1 slice between its first and last.",
        "8 voxels lie in both Body and tumour, and count as tumour.",
    )
    assert labels.lacking == ((1, labels.warnings[0]), (2, labels.warnings[1]))
    alone = io.read_labels(file, structures=from_labels({4: "Tumour", 5: "liver"}))
    assert (5, "The file lacks liver; taken as absent.") in alone.lacking
    assert np.unique(alone.array).tolist() == [0, 4]
    assert "The file lacks liver; taken as absent." in alone.warnings
    assert "Left out: 1 structure of the file, because not requested." in alone.warnings
    with pytest.raises(InputError, match="none of the structures wanted"):
        io.read_labels(file, structures=from_labels({1: "liver"}))


def test_a_structure_set_without_contours_or_damaged_is_refused(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    points = contour(slices[1], box((1, 1), (3, 3)))
    file = structure_set(tmp_path / "rt.dcm", slices[0], {"a": [points]}, kind="POINT")
    with pytest.raises(InputError, match="without closed contours"):
        io.read_labels(file)
    with pytest.raises(InputError, match="series is not beside it"):
        io.read_labels(str(get_testdata_file("rtstruct.dcm")))
    assert io.read_segments(str(get_testdata_file("rtstruct.dcm"))).names == ("patient",)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut or damaged"):
        io.read_labels(file)


def test_evaluate_and_report_take_a_structure_set(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    shapes = {
        "liver": [contour(slices[k], box((2, 3), (11, 12))) for k in range(1, 5)],
        "spleen": [contour(slices[k], box((14, 3), (17, 6))) for k in range(1, 5)],
    }
    file = structure_set(tmp_path / "rt.dcm", slices[0], shapes)
    volume = io.read_volume(tmp_path / "ct")
    array = np.zeros(volume.grid.shape, dtype=np.uint8)
    array[2:12, 3:13, 1:5] = 7
    array[14:18, 3:5, 1:5] = 3
    io.write_labels(tmp_path / "pred.nii.gz", LabelMap(array, volume.grid, volume.form))
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"7": "Liver", "3": "Spleen"}}))

    pair = ("evaluate", tmp_path / "pred.nii.gz", file)
    assert "contains structures by name" in refused(UsageError.exit_code, *pair)
    done(*pair, "--labels", tmp_path / "labels.json", "--csv", tmp_path / "e.csv")
    with (tmp_path / "e.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["metric"] == "dice"]
    dice = {row["structure"]: float(row["value"]) for row in rows}
    assert dice == pytest.approx({"Liver": 1.0, "Spleen": 2 / 3})
    done("report", file, tmp_path / "ct", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "liver" in page
    assert "spleen" in page
    assert "Canary" not in page


def test_two_observers_are_compared_by_name(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    one = {
        "Gland": [contour(path, box((2, 2), (6, 6))) for path in slices],
        "zone": [contour(path, box((10, 2), (12, 6))) for path in slices],
    }
    other = {"zone": one["zone"], "gland ": [contour(path, box((3, 2), (7, 6))) for path in slices]}
    files = [
        structure_set(tmp_path / f"{n}.dcm", slices[0], rois) for n, rois in enumerate((one, other), start=1)
    ]
    done("evaluate", *files, "--csv", tmp_path / "e.csv")
    with (tmp_path / "e.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["metric"] == "dice"]
    assert {row["structure"].casefold(): float(row["value"]) for row in rows} == {"gland": 0.8, "zone": 1.0}


def test_two_structures_of_one_name_are_never_taken_for_one(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    shapes = {name: [contour(slices[1], box((1, 1), (3, 3)))] for name in ("GTV", "gtv", "liver")}
    file = structure_set(tmp_path / "rt.dcm", slices[0], shapes)
    with pytest.raises(InputError, match="'GTV' and 'gtv' are the same structure"):
        io.read_labels(file, structures=from_labels({1: "Gtv"}))
    assert io.read_labels(file, structures=from_labels({3: "liver"})).array.max() == 3
    with pytest.raises(UsageError, match="cannot be distinguished"):
        io.read_labels(file, structures=from_labels({1: "Liver", 2: "liver"}))
