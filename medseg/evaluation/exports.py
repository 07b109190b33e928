"""Objects as the tables that other programs measure: COCO's JSON and LUNA16's CSV.

COCO counts voxels: a box is x, y and its width and height, in volumes x, y, z and width, height, depth, along
the axes of the array. LUNA16 counts mm in the world of DICOM and ITK, LPS+: x grows to the patient's left.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from medseg.core.structures import StructureSet
from medseg.evaluation.detections import Found, Placed
from medseg.metrics.export import report_json, text_cell

COCO_REFERENCE, COCO_FOUND = "coco_reference.json", "coco_found.json"
LUNA_REFERENCE, LUNA_FOUND = "luna_reference.csv", "luna_found.csv"
EXPORTS = (COCO_REFERENCE, COCO_FOUND, LUNA_REFERENCE, LUNA_FOUND)
SIDES = ("width", "height", "depth")


def exported(cases: Mapping[str, Found], structures: StructureSet) -> Iterator[tuple[str, str]]:
    """The files, by name.

    Args:
        cases: objects with scores by structure, by case id.
        structures: whose values are the categories of COCO.
    """
    yield COCO_REFERENCE, report_json(coco_reference(cases, structures))
    yield COCO_FOUND, report_json(coco_found(cases, structures))
    yield LUNA_REFERENCE, luna_reference(cases)
    yield LUNA_FOUND, luna_found(cases)


def coco_reference(cases: Mapping[str, Found], structures: StructureSet) -> dict[str, Any]:
    """Images, categories and annotations: what pycocotools reads as the reference."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (case_id, found) in enumerate(cases.items(), start=1):
        shape = next((one.shape for one in found.values()), ())
        sides = zip(SIDES, shape, strict=False)
        images.append({"id": number, "file_name": case_id, **dict(sides)})
        for name, one in found.items():
            for placed in one.reference:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": structures[name].value,
                        "bbox": _box(placed, shape),
                        "area": placed.voxels,
                        "iscrowd": 0,
                    }
                )
    categories = [{"id": one.value, "name": one.name} for one in structures]
    return {"images": images, "categories": categories, "annotations": annotations}


def coco_found(cases: Mapping[str, Found], structures: StructureSet) -> list[dict[str, Any]]:
    """What was found, as pycocotools reads results."""
    return [
        {
            "image_id": number,
            "category_id": structures[name].value,
            "bbox": _box(placed, one.shape),
            "score": score,
        }
        for number, found in enumerate(cases.values(), start=1)
        for name, one in found.items()
        for placed, score in zip(one.found, one.pairs.scores.tolist(), strict=True)
    ]


def luna_reference(cases: Mapping[str, Found]) -> str:
    """`annotations.csv` of LUNA16, and the structure."""
    rows = (
        (case_id, *_lps(placed), placed.longest_mm, name)
        for case_id, found in cases.items()
        for name, one in found.items()
        for placed in one.reference
    )
    return _csv("diameter_mm", rows)


def luna_found(cases: Mapping[str, Found]) -> str:
    """The results that LUNA16 measures, and the structure."""
    rows = (
        (case_id, *_lps(placed), score, name)
        for case_id, found in cases.items()
        for name, one in found.items()
        for placed, score in zip(one.found, one.pairs.scores.tolist(), strict=True)
    )
    return _csv("probability", rows)


def _box(placed: Placed, shape: tuple[int, ...]) -> list[int]:
    """First corner and sides; of two axes where the scan is one slice."""
    axes = 2 if shape[2:] == (1,) else len(shape)
    sides = (high - low for low, high in zip(placed.low, placed.high, strict=True))
    return [*placed.low[:axes], *list(sides)[:axes]]


def _lps(placed: Placed) -> tuple[float, float, float]:
    x, y, z = placed.middle_mm
    return -x, -y, z


def _csv(last: str, rows: Iterator[tuple[Any, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("seriesuid", "coordX", "coordY", "coordZ", last, "structure"))
    writer.writerows((text_cell(case_id), *numbers, text_cell(name)) for case_id, *numbers, name in rows)
    return out.getvalue()
