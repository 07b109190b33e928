"""nnU-Net's raw layout, version 2 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    dataset.json          channel_names, labels, numTraining, file_ending, maybe regions_class_order
    imagesTr/ID_0000.nii.gz, ID_0001.nii.gz, ...      a file a channel
    labelsTr/ID.nii.gz                                labels from 0 without gaps

A label that is a list of values is a region; `regions_class_order` then says what each region writes.
`dataset` may name the files of each case instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.io import write_labels
from medseg.layouts.case import CaseFiles, DatasetFiles, description_of, group_of, inside
from medseg.layouts.writing import (
    ENDING,
    About,
    NewCase,
    opened,
    require_scan,
    revalued,
    write_channel,
    write_description,
)
from medseg.structures import Structure, StructureSet

LISTER = "dataset.json"
FLAT_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
"""Of natural images, which hold all their colours in one file."""


def fits(folder: Path) -> bool:
    """Whether `dataset.json` says how files end."""
    found = description_of(folder)
    return "file_ending" in found and "training" not in found


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The training cases of a raw data set.

    Args:
        folder: the one with `dataset.json`.
        complete: refuse a case with a missing file, rather than leave that to the reader.

    Raises:
        InputError: `dataset.json` is missing, not as the layout says, or has labels to be ignored; there
            is no case; or with `complete` a file is missing.
    """
    path = folder / LISTER
    if not path.is_file():
        raise InputError(
            "no dataset.json here", source=folder, mend="give the folder that holds dataset.json and imagesTr"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        named = {int(number): str(name) for number, name in data["channel_names"].items()}
        channels = tuple(named[number] for number in sorted(named))
        labels, regions = _labels(data)
        listed = _listed(data)
        ending = str(data["file_ending"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise InputError(f"not an nnU-Net dataset.json ({fault!r})", source=path) from None
    if listed is None:
        listed = _found(folder, ending, len(channels))
    cases = tuple(_case(folder, name, *files, channels, complete) for name, files in sorted(listed.items()))
    if not cases:
        raise InputError(f"has no training case: no labelsTr/*{ending}", source=folder)
    return DatasetFiles(cases, channels, labels, str(data.get("licence", data.get("license", ""))), regions)


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases with a file a channel; those without labels become test cases.

    Values are renumbered where they have gaps, in their order.

    Raises:
        UsageError: a file exists, or a case is a label map alone.
    """
    opened(folder, "imagesTr", "labelsTr", description=LISTER, overwrite=overwrite)
    table = consecutive(about.structures)
    trained = copied = 0
    for case in cases:
        images = folder / ("imagesTr" if case.labels is not None else "imagesTs")
        opened(images)
        for channel in range(len(require_scan(case).channels)):
            path = images / f"{case.case_id}_{channel:04d}{ENDING}"
            copied += write_channel(path, case, channel, overwrite=overwrite)
        if case.labels is not None:
            path = folder / "labelsTr" / (case.case_id + ENDING)
            write_labels(path, revalued(case.labels, table), overwrite=overwrite)
            trained += 1
    write_description(folder / LISTER, _described(about, table, trained), overwrite=overwrite)
    return copied


def consecutive(structures: StructureSet) -> dict[int, int]:
    """What each label value becomes where there may be no gaps between them."""
    return {value: number for number, value in enumerate(structures.known_values)}


def _described(about: About, table: Mapping[int, int], trained: int) -> dict[str, object]:
    labels: dict[str, int | list[int]] = {"background": 0}
    for s in about.structures:
        labels[s.name] = [table[v] for v in s.members] if s.members else table[s.value]
    order = {"regions_class_order": [table[v] for v in about.structures.values]}
    return {
        "name": about.name,
        "description": about.description,
        "licence": about.licence,
        "channel_names": {str(number): name for number, name in enumerate(about.channels)},
        "labels": labels,
        **(order if about.structures.are_regions else {}),
        "numTraining": trained,
        "file_ending": ENDING,
    }


def _labels(data: Mapping[str, Any]) -> tuple[dict[int, str], tuple[Structure, ...]]:
    """Names of plain labels, or the regions; a set with one region has regions alone."""
    stated = {str(name): value for name, value in data["labels"].items() if name != "background"}
    if "ignore" in stated:
        raise ValueError("labels to be ignored are not supported")
    if not any(isinstance(value, list) for value in stated.values()):
        return {int(value): name for name, value in stated.items()}, ()
    written = [int(value) for value in data["regions_class_order"]]
    members = [tuple(int(v) for v in (m if isinstance(m, list) else [m])) for m in stated.values()]
    triples = zip(written, stated, members, strict=True)
    return {}, tuple(Structure(value, name, members=inner) for value, name, inner in triples)


def _listed(data: Mapping[str, Any]) -> dict[str, tuple[list[str], str]] | None:
    """Images and labels of each case by name, where `dataset` says so; paths are from the folder."""
    if "dataset" not in data:
        return None
    return {
        str(name): ([str(image) for image in entry["images"]], str(entry["label"]))
        for name, entry in data["dataset"].items()
    }


def _found(folder: Path, ending: str, channels: int) -> dict[str, tuple[list[str], str]]:
    """As `_listed`, from the names of the label files."""
    names = [
        path.name.removesuffix(ending)
        for path in sorted((folder / "labelsTr").glob(f"*{ending}"))
        if path.is_file() and not path.name.startswith(".")
    ]
    files = 1 if ending.lower() in FLAT_ENDINGS and channels == 3 else channels
    return {
        name: ([f"imagesTr/{name}_{n:04d}{ending}" for n in range(files)], f"labelsTr/{name}{ending}")
        for name in names
    }


def _case(
    folder: Path, name: str, images: Sequence[str], label: str, channels: Sequence[str], complete: bool
) -> CaseFiles:
    paths = [inside(folder, image, LISTER, complete=complete) for image in images]
    if len(paths) not in (1, len(channels)):
        raise InputError(
            f"lists {len(paths)} images of {name!r}, and {len(channels)} channels", source=folder / LISTER
        )
    apart = dict(zip(channels, paths, strict=True)) if len(paths) > 1 else {}
    return CaseFiles(name, paths[0], inside(folder, label, LISTER, complete=complete), group_of(name), apart)
