"""Layouts of natural images: PASCAL VOC, Cityscapes and COCO's instances, of made-up pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import InputError
from medseg.data.cases import read_on_grid, read_reference
from medseg.data.check import check
from medseg.data.layouts import CaseFiles, detect, read_layout
from medseg.data.layouts.cityscapes import CLASSES
from medseg.data.layouts.coco import _unpacked
from medseg.data.layouts.voc import NAMES
from medseg.data.source import found_in
from tests.helpers.commands import medseg

COLUMNS, ROWS = 20, 16
RNG = np.random.default_rng(4)


def put_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)).save(path, quality=95)


def put_labels(path: Path, labels: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette(RNG.integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(path)


def blob(value: int, around: int, background: int) -> np.ndarray:
    """A rectangle of a value with a rim of another: (rows, columns)."""
    labels = np.full((ROWS, COLUMNS), background)
    labels[3:11, 4:14] = around
    labels[4:10, 5:13] = value
    return labels


def voc(folder: Path) -> None:
    for number in range(4):
        put_picture(folder / "JPEGImages" / f"2007_{number:06d}.jpg")
        labels = blob((15, 8)[number % 2], 255, 0)
        put_labels(folder / "SegmentationClass" / f"2007_{number:06d}.png", labels, palette=True)
    put_picture(folder / "JPEGImages" / "2007_000100.jpg")  # without a segmentation, as most are
    put_picture(folder / "JPEGImages" / "2008_000001.jpg")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for part, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("trainval", (0, 1, 2, 3))):
        (lists / f"{part}.txt").write_text("".join(f"2007_{n:06d}\n" for n in numbers))
    (lists / "test.txt").write_text("2008_000001\n")


def cityscapes(folder: Path, kind: str = "labelIds") -> None:
    road, car, void = {"labelIds": (7, 26, 4), "labelTrainIds": (0, 13, 255)}[kind]
    for split, city in (
        ("train", "aachen"),
        ("train", "bochum"),
        ("train", "ulm"),
        ("val", "lindau"),
        ("test", "bonn"),
    ):
        name = f"{split}/{city}/{city}_000001_000019"
        put_picture(folder / "leftImg8bit" / f"{name}_leftImg8bit.png")
        labels = blob(car, void, road) if split != "test" else blob(4, 4, 4)
        put_labels(folder / "gtFine" / f"{name}_gtFine_{kind}.png", labels)


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask (rows, columns), column by column, those of 0 first."""
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=1 - flat[0], append=1 - flat[-1]))
    return ([0] if flat[0] else []) + np.diff(edges).tolist()


def packed(counts: list[int]) -> str:
    """COCO's text of run lengths."""
    text = ""
    for n, count in enumerate(counts):
        x = count - (counts[n - 2] if n > 2 else 0)
        more = True
        while more:
            bits, x = x & 31, x >> 5
            more = x != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


CATEGORIES = [{"id": 3, "name": "car"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def annotations(image_id: int) -> list[dict[str, Any]]:
    """A car of two polygons, a cat in run lengths that overlaps it, a crowd beneath both."""
    cat, crowd = np.zeros((2, ROWS, COLUMNS), bool)
    cat[2:8, 10:16], crowd[0:6, 0:COLUMNS] = True, True
    size = [ROWS, COLUMNS]
    polygons = [rectangle(2, 4, 12, 10), rectangle(1, 12, 4.4, 14.6)]
    plain, text = ({"counts": counts, "size": size} for counts in (runs(crowd), packed(runs(cat))))
    return [
        {"image_id": image_id, "category_id": 3, "segmentation": plain, "iscrowd": 1},
        {"image_id": image_id, "category_id": 3, "segmentation": polygons, "iscrowd": 0},
        {"image_id": image_id, "category_id": 17, "segmentation": text},
    ]


def coco(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("train2017", (1, 2, 3)), ("val2017", (4,))):
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": COLUMNS, "height": ROWS} for n in numbers]
        drawn = [each for n in numbers for each in annotations(n)]
        content = {"images": images, "annotations": drawn, "categories": CATEGORIES}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for n in numbers:
            put_picture(folder / split / f"{n:012d}.jpg")
    (folder / "annotations" / "captions_val2017.json").write_text("{}")


def wanted_coco() -> np.ndarray:
    labels = np.zeros((ROWS, COLUMNS), int)
    labels[0:6] = 255
    labels[4:10, 2:12] = labels[12:15, 1:4] = 3
    labels[2:8, 10:16] = 17
    labels[4:8, 10:12] = 255  # both
    return labels


def labels_of(case: CaseFiles) -> np.ndarray:
    """Rows by columns, in the dataset's values."""
    return read_reference(case).array[..., 0].T


def test_vocs_palette_is_read_with_its_lists_and_void(tmp_path: Path) -> None:
    voc(tmp_path)
    assert detect(tmp_path) == "voc"
    found = read_layout(tmp_path, "voc")
    assert [(c.case_id, c.part) for c in found.cases] == [
        ("2007_000000", "train"),
        ("2007_000001", "train"),
        ("2007_000002", "train"),
        ("2007_000003", "validation"),
    ]
    assert found.ignore == 255
    assert found.labels[1], found.labels[20] == ("aeroplane", "tvmonitor")
    assert len(NAMES) == 20
    assert np.array_equal(labels_of(found.cases[1]), blob(8, 255, 0))


def test_voc_without_lists_and_with_a_file_missing(tmp_path: Path) -> None:
    voc(tmp_path)
    for path in (tmp_path / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    assert [case.part for case in read_layout(tmp_path, "voc").cases] == [""] * 4
    (tmp_path / "JPEGImages" / "2007_000002.jpg").unlink()
    with pytest.raises(InputError, match="lists '2007_000002', which JPEGImages/ lacks"):
        read_layout(tmp_path, "voc")
    assert len(read_layout(tmp_path, "voc", complete=False).cases) == 4
    assert [issue.case_id for issue in check(tmp_path).errors] == ["2007_000002"]


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_both_kinds_of_cityscapes_labels_are_the_same_classes(tmp_path: Path, kind: str) -> None:
    cityscapes(tmp_path, kind)
    assert detect(tmp_path) == "cityscapes"
    found = read_layout(tmp_path, "cityscapes")
    assert [(c.group, c.part) for c in found.cases] == [
        ("aachen", "train"),
        ("bochum", "train"),
        ("ulm", "train"),
        ("lindau", "validation"),
    ]
    assert (found.labels[1], found.labels[14], found.labels[19]) == ("road", "car", "bicycle")
    for case in found.cases:
        assert np.array_equal(labels_of(case), blob(14, 255, 1))


def test_every_cityscapes_id_is_a_class_or_ignored(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    every = np.resize(np.arange(34), (ROWS, COLUMNS))
    put_labels(tmp_path / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", every)
    (case,) = (c for c in read_layout(tmp_path, "cityscapes").cases if c.group == "ulm")
    classes = {value: n for n, value in enumerate(CLASSES, start=1)}
    assert np.array_equal(labels_of(case), np.vectorize(lambda v: classes.get(v, 255))(every))
    (tmp_path / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match="has no lindau_000001_000019_gtFine_labelIds"):
        read_layout(tmp_path, "cityscapes")


def test_cocos_instances_are_drawn(tmp_path: Path) -> None:
    coco(tmp_path)
    assert detect(tmp_path) == "coco"
    found = read_layout(tmp_path, "coco")
    assert [(c.case_id, c.part) for c in found.cases][2:] == [
        ("000000000003", "train"),
        ("000000000004", "validation"),
    ]
    assert found.labels == {3: "car", 17: "cat", 90: "toothbrush"}
    for case in found.cases:
        assert np.array_equal(labels_of(case), wanted_coco())
    structures = found_in(tmp_path, complete=True).structures
    volume, labels = read_on_grid(found.cases[0], structures, ("red", "green", "blue"))
    assert volume.grid.matches(labels.grid)
    assert labels.ignore == 255


def test_cocos_instances_are_converted_but_not_evaluated(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    said = medseg("convert", tmp_path / "coco", tmp_path / "out", "--from", "coco", "--to", "nnunet")
    assert said.code == 0, said.err
    found = read_layout(tmp_path / "out", "nnunet")
    assert (found.ignore, found.labels) == (4, {1: "car", 2: "cat", 3: "toothbrush"})
    becomes = np.zeros(256, int)
    becomes[[3, 17, 255]] = 1, 2, 4
    assert np.array_equal(labels_of(found.cases[0]), becomes[wanted_coco()])
    said = medseg("evaluate", tmp_path / "out" / "labelsTr", tmp_path / "coco")
    assert said.code == 3
    assert "has outlines in place of label files; write such with medseg convert first" in said.err


def test_run_lengths_come_back_from_cocos_text() -> None:
    for _ in range(20):
        counts = RNG.integers(1, 4000, 9).tolist()
        assert _unpacked(packed(counts)) == counts
    row, column = np.mgrid[:40, :30]
    distance = (row - 20) ** 2 + (column - 15) ** 2
    ring = "`59m04M2N2NEA0=0E0:OH070K04ON020N020N020N020N020N020N021L050I081F0;0C0?;2N2N3LZ3"
    assert _unpacked(ring) == runs((distance > 60) & (distance < 140)), "as pycocotools 2.0.11 writes it"


def test_an_image_without_a_size_is_a_fault_of_its_case(tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace(f'"width": {COLUMNS}', '"width": -1', 1))
    assert check(tmp_path).faulty == ("000000000001",)


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "it lacks 'images'": lambda data: data.pop("images"),
    "it lacks 'segmentation'": lambda data: data["annotations"][0].pop("segmentation"),
    "calls the category 0 'odd', which is 'the background'": lambda data: data["categories"].append(
        {"id": 0, "name": "odd"}
    ),
    "calls the category 3 'bus', which is 'car'": lambda data: data["categories"].append(
        {"id": 3, "name": "bus"}
    ),
    "outside the folder": lambda data: data["images"][0].update(file_name="../../a.jpg"),
    "does not exist": lambda data: data["images"][0].update(file_name="b.jpg"),
    "more than once": lambda data: data["images"].append(data["images"][0]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_list_of_another_form_is_refused(tmp_path: Path, fault: str) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    data = json.loads(path.read_text())
    BROKEN[fault](data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=fault):
        read_layout(tmp_path, "coco")


@pytest.mark.parametrize(
    "segmentation",
    [{"counts": [5, 5], "size": [ROWS, COLUMNS]}, {"counts": "", "size": [1, 1]}, [[1, 2, 3]], 7],
)
def test_an_outline_that_is_none_is_a_fault_of_its_case(tmp_path: Path, segmentation: Any) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    data = json.loads(path.read_text())
    data["annotations"][4]["segmentation"] = segmentation
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"instances_train2017.json: is not a list of COCO instances"):
        labels_of(read_layout(tmp_path, "coco").cases[1])
    assert check(tmp_path).faulty == ("000000000002",)


RECIPE = """
name = "tiny"
card = "CARD"
[network]
name = "unet"
spatial_dims = 2
widths = [4, 8]
[slices]
axes = [2]
context = 0
[loss]
name = "top_k"
share = 0.5
[training]
patch = [16, 16, 1]
batch = 2
epochs = 1
steps_per_epoch = 2
optimizer = "rmsprop"
learning_rate = 1e-3
epoch_decay = 0.995
precision = "f32"
[inference]
strategy = "sliding_window"
"""


@pytest.mark.slow
@pytest.mark.parametrize("make", [voc, cityscapes, coco])
def test_it_is_checked_and_trained_on_by_the_command(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "pictures"
    make(folder)
    said = medseg("check", folder)
    assert said.code == 0, said.err
    origin = found_in(folder, complete=True)
    structures = "".join(f'[[structures]]\nvalue = {s.value}\nname = "{s.name}"\n' for s in origin.structures)
    card = f'name = "tiny"\ndescription = "Made up."\nlayout = "{make.__name__}"\n'
    card += 'channels = ["red", "green", "blue"]\n' + structures
    (tmp_path / "tiny.toml").write_text(card)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("CARD", str(tmp_path / "tiny.toml")))
    done = medseg("train", tmp_path / "recipe.toml", "--data", folder, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model.safetensors").is_file()
