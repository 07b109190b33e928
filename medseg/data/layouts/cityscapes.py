"""The layout of Cityscapes (Cordts et al. 2016, arXiv:1604.01685).

    leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png
    gtFine/SPLIT/CITY/NAME_gtFine_labelTrainIds.png     0 to 18, 255 ignored; or _labelIds.png, 0 to 33

Value 0 is the background in medseg, and no class: of either file, a class has its train id + 1, and what has
no train id is ignored.
"""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import INCOMPLETE, TEST, CaseFiles, DatasetFiles, require_distinct
from medseg.data.layouts.layout import Layout
from medseg.data.layouts.parts import part_named
from medseg.io.names import lists_file

IMAGES, LABELS, ENDING = "leftImg8bit", "gtFine", "_leftImg8bit.png"
IGNORED = 255
CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""By label id, in the order of their train ids from 0."""
RELABEL = {
    "labelTrainIds": {**{n: n + 1 for n in range(len(CLASSES))}, IGNORED: IGNORED},
    "labelIds": dict.fromkeys((*range(34), IGNORED), IGNORED)
    | {v: n for n, v in enumerate(CLASSES, start=1)},
}
"""What the values of each kind of label file become."""


def fits(folder: Path) -> bool:
    """Whether there are folders of images and of labels."""
    return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The images with their fine labels; pictures of one city stay together in a split.

    Test images, whose labels are not published, are left out where there are others.

    Args:
        folder: of the dataset.
        complete: refuse an image without labels, rather than leave that to the reader.

    Raises:
        InputError: there is no image, two have one name, or with `complete` one has no labels.
    """
    found = []
    for image in sorted(path for path in (folder / IMAGES).glob(f"*/*/*{ENDING}") if lists_file(path)):
        split, city = image.parts[-3:-1]
        name = image.name.removesuffix(ENDING)
        place = folder / LABELS / split / city
        kinds = {kind: place / f"{name}_gtFine_{kind}.png" for kind in RELABEL}
        kind = next((kind for kind, path in kinds.items() if lists_file(path)), "")
        part = part_named(split)
        if complete and not kind and part != TEST:
            raise InputError(f"has no {kinds['labelIds'].name}", source=image, hint=INCOMPLETE)
        found.append(CaseFiles(name, image, kinds.get(kind), city, relabel=RELABEL.get(kind, {}), part=part))
    cases = tuple(case for case in found if case.part != TEST) or tuple(found)
    if not cases:
        raise InputError(
            f"contains no {IMAGES}/SPLIT/CITY/NAME{ENDING}", source=folder, hint="check the path"
        )
    require_distinct(cases, folder)
    return DatasetFiles(cases, (), dict(enumerate(CLASSES.values(), start=1)), ignore=IGNORED)


LAYOUT = Layout(read, "leftImg8bit/ and gtFine/ (Cityscapes)", fits)
