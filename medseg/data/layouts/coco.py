"""The layout of COCO's instances (Lin et al. 2014, arXiv:1405.0312; "Data format", cocodataset.org).

    annotations/instances_SPLIT.json      images, categories, and the outlines of every instance
    SPLIT/NAME.jpg                        or images/SPLIT/, images/

An instance is polygons, in pixels from the corner of the image, or a mask in run lengths. The label map of an
image has the id of a category where one of its instances lies: a pixel lies in a polygon if its centre does.
Pixels that instances of several categories claim are ignored, and crowds where no instance lies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.core.volume import FileForm, Grid, LabelMap
from medseg.data.layouts.case import CaseFiles, DatasetFiles, group_of, inside, require_distinct
from medseg.data.layouts.description import form_fault, read_json
from medseg.data.layouts.layout import Layout
from medseg.data.layouts.parts import part_named
from medseg.io.memory import require_memory
from medseg.io.names import lists_file, require_regular

PATTERN, START = "annotations/instances_*.json", "instances_"
IGNORED = 255


class _Instance(NamedTuple):
    """What an annotation draws: polygons or run lengths, with the value of its category."""

    value: int
    segmentation: Any
    is_crowd: bool


def fits(folder: Path) -> bool:
    """Whether there is a list of instances."""
    return any(folder.glob(PATTERN))


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The images that the lists of instances name, all splits together.

    Args:
        folder: of the dataset.
        complete: refuse an image that is missing, rather than leave that to the reader.

    Raises:
        InputError: there is no list, one is not as the layout requires, two disagree on a category, two
            images have one name, or with `complete` one is missing.
    """
    cases: list[CaseFiles] = []
    names: dict[int, str] = {}
    for path in sorted(folder.glob(PATTERN)):
        require_regular(path)
        with _form_named(path):
            data = read_json(path)
            own = [(int(category["id"]), str(category["name"])) for category in data["categories"]]
            cases += _cases(folder, path, data, complete)
        for value, name in own:
            if value < 1 or names.setdefault(value, name) != name:
                raise InputError(
                    f"calls the category {value} {name!r}, which is {names.get(value, 'the background')!r}",
                    source=path,
                    hint="number the categories from 1, alike in every list",
                )
    if not cases:
        raise InputError(f"contains no image that {PATTERN} names", source=folder, hint="check the path")
    require_distinct(cases, folder)
    return DatasetFiles(tuple(cases), (), names, ignore=IGNORED)


@contextmanager
def _form_named(path: Path) -> Iterator[None]:
    """Any fault in the form of a list becomes an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except OSError as fault:
        raise InputError.unreadable(fault, path) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as fault:
        raise InputError(f"is not a list of COCO instances: {form_fault(fault)}", source=path) from None


def _cases(folder: Path, path: Path, data: Mapping[str, Any], complete: bool) -> Iterator[CaseFiles]:
    """A case of each image, whose labels are drawn when they are read."""
    split = path.stem.removeprefix(START)
    part = part_named(split.rstrip("0123456789"))
    drawn: defaultdict[int, list[_Instance]] = defaultdict(list)
    for each in data["annotations"]:
        instance = _Instance(int(each["category_id"]), each["segmentation"], bool(each.get("iscrowd", 0)))
        drawn[int(each["image_id"])].append(instance)
    for image in data["images"]:
        name = PurePosixPath(str(image["file_name"]))
        places = [PurePosixPath(place, name) for place in (split, f"images/{split}", "images", "")]
        there = next((place for place in places if lists_file(folder / place)), places[0])
        case_id = "_".join(name.with_suffix("").parts)
        shape = int(image["width"]), int(image["height"])
        yield CaseFiles(
            case_id,
            inside(folder, str(there), f"annotations/{path.name}", complete=complete),
            path,
            group_of(case_id),
            part=part,
            drawn=partial(_labels, path, shape, tuple(drawn[int(image["id"])])),
        )


def _labels(path: Path, shape: tuple[int, int], instances: Sequence[_Instance]) -> LabelMap:
    """The label map of an image of so many columns and rows."""
    require_memory(4 * shape[0] * shape[1], path)
    with _form_named(path):
        labels = np.zeros(shape, np.int32)
        for value, segmentation, is_crowd in sorted(instances, key=lambda each: each.is_crowd):
            mask = _mask(segmentation, shape)
            if not is_crowd:
                labels[mask & (labels != 0) & (labels != value)] = IGNORED
            labels[mask & (labels == 0)] = IGNORED if is_crowd else value
    form = FileForm(".png", sform_code=0, qform_code=0)
    return LabelMap(labels[..., None], Grid((*shape, 1), np.eye(4)), form)


def _mask(segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where an instance lies, (columns, rows)."""
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else [int(n) for n in counts]
        if [int(n) for n in segmentation["size"]] != [shape[1], shape[0]] or sum(runs) != shape[0] * shape[1]:
            raise ValueError(f"run lengths of {segmentation['size']} do not fill an image of {shape[::-1]}")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)
    from skimage.draw import polygon  # slow to import

    mask = np.zeros(shape, np.bool_)
    for points in segmentation:
        columns, rows = np.asarray(points, np.float64).reshape(-1, 2).T
        mask[polygon(columns - 0.5, rows - 0.5, shape)] = True
    return mask


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's text: 5 bits a character from "0" on, the lowest first, and 32 where more follow.

    The last bit of a number is its sign; from the fourth on, each is a difference from the last but one.

    >>> _unpacked("05d0")
    [0, 5, 20]
    """
    runs: list[int] = []
    number = bits = 0
    for code in text.encode("ascii"):
        number |= (code - 48 & 31) << bits
        bits += 5
        if code - 48 & 32:
            continue
        number -= (1 << bits) if code - 48 & 16 else 0
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = bits = 0
    return runs


LAYOUT = Layout(read, "annotations/instances_*.json (COCO)", fits)
