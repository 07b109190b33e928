"""The layout of PASCAL VOC's segmentations (Everingham et al. 2010, doi:10.1007/s11263-009-0275-4).

JPEGImages/NAME.jpg
SegmentationClass/NAME.png                              label values as a palette; 255 is void
ImageSets/Segmentation/train.txt, val.txt, test.txt     a name a line; without them every mask is a case
"""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import INCOMPLETE, TEST, CaseFiles, DatasetFiles, files_in, group_of
from medseg.data.layouts.layout import Layout
from medseg.data.layouts.parts import part_named
from medseg.io.formats import FORMATS
from medseg.io.names import require_regular

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
LISTED = ("trainval", "train", "val", "test")
"""Lists of names; what a later one says of a name counts."""
VOID = 255
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Of the values from 1."""


def fits(folder: Path) -> bool:
    """Whether there are folders of images and of masks."""
    return (folder / IMAGES).is_dir() and (folder / MASKS).is_dir()


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The images that the lists name and that have a mask; test images have none, and are left out.

    Args:
        folder: of the dataset, often `VOC2012`.
        complete: refuse a listed image or mask that is missing, rather than leave that to the reader.

    Raises:
        InputError: there is no mask, or with `complete` a file is missing.
    """
    images = files_in(folder / IMAGES, tuple(suffix for suffix, found in FORMATS.items() if found.is_picture))
    masks = files_in(folder / MASKS, (".png",))
    if not masks:
        raise InputError(f"contains no mask, {MASKS}/NAME.png", source=folder, hint="check the path")
    listed = {name: part_named(part) for part in LISTED for name in _names(folder / LISTS / f"{part}.txt")}
    cases = []
    for name, part in (listed or dict.fromkeys(masks, "")).items():
        if part == TEST and name not in masks:
            continue
        lacking = [place for place, there in ((IMAGES, images), (MASKS, masks)) if name not in there]
        if complete and lacking:
            raise InputError(f"lists {name!r}, which {lacking[0]}/ lacks", source=folder, hint=INCOMPLETE)
        image = images.get(name, folder / IMAGES / f"{Path(name).name}.jpg")
        cases.append(CaseFiles(name, image, masks.get(name), group_of(name), part=part))
    return DatasetFiles(tuple(cases), (), dict(enumerate(NAMES, start=1)), ignore=VOID)


def _names(path: Path) -> list[str]:
    """The first word of each line of a list; none where there is no list."""
    require_regular(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError as fault:
        raise InputError.unreadable(fault, path) from None
    return [words[0] for line in lines if (words := line.split())]


LAYOUT = Layout(read, "JPEGImages/ and SegmentationClass/ (PASCAL VOC)", fits)
