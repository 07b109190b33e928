"""The Medical Segmentation Decathlon's layout (Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError
from medseg.data.layouts.case import (
    CaseFiles,
    DatasetFiles,
    group_of,
    inside,
    require_distinct,
    require_own_files,
)
from medseg.data.layouts.description import (
    IGNORE,
    LISTER,
    description_of,
    form_fault,
    required_description,
    stated_labels,
)
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import (
    ENDING,
    About,
    NewCase,
    label_names,
    opened,
    write_description,
    write_scan,
)
from medseg.io import stem_and_suffix, write_labels


def fits(folder: Path) -> bool:
    """Whether `dataset.json` lists training cases, and not in nnU-Net's way."""
    found = description_of(folder)
    return isinstance(found.get("training"), list) and "file_ending" not in found


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """A folder of `dataset.json`, `imagesTr`, `labelsTr`.

    Args:
        folder: of the dataset.
        complete: refuse a dataset with a missing file, rather than leave that to its reader.

    Raises:
        InputError: `dataset.json` is missing or not as the layout requires, names a file that is
            missing or outside the folder, or two cases of one name.
    """
    path, data = folder / LISTER, required_description(folder)
    try:
        entries = [_entry(entry) for entry in data["training"]]
        stated = stated_labels(data)
        channels = _channels(data)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"is not a Decathlon dataset.json: {form_fault(fault)}", source=path) from None
    cases = tuple(_decathlon_case(folder, image, label, complete) for image, label in entries)
    if not cases:
        raise InputError("lists no training case", source=path)
    require_distinct(cases, path)
    require_own_files(cases, path)
    licence = str(data.get("licence", data.get("license", "")))
    return DatasetFiles(cases, channels, stated.labels, licence, stated.regions, stated.ignore)


def _entry(entry: Any) -> tuple[str, str]:
    return str(entry["image"]), str(entry["label"])


def _decathlon_case(folder: Path, image: str, label: str, complete: bool) -> CaseFiles:
    paths = [inside(folder, name, LISTER, complete=complete) for name in (image, label)]
    case_id = stem_and_suffix(paths[0])[0]
    return CaseFiles(case_id, paths[0], paths[1], group=group_of(case_id))


def _channels(data: dict[str, Any]) -> tuple[str, ...]:
    names = data.get("modality", data.get("channel_names", {"0": "image"}))
    return tuple(str(names[key]) for key in sorted(names, key=int))


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases with all channels in one file each; those without labels become test cases.

    Raises:
        UsageError: a file exists, or a case is a label map without a scan.
    """
    opened(folder, "imagesTr", "labelsTr", description=LISTER, overwrite=overwrite)
    training: list[dict[str, str]] = []
    test: list[str] = []
    copied = 0
    for case in cases:
        name = case.case_id + ENDING
        if case.labels is None:
            opened(folder, "imagesTs")
            test.append(f"./imagesTs/{name}")
            copied += write_scan(folder / "imagesTs" / name, case, overwrite=overwrite)
            continue
        copied += write_scan(folder / "imagesTr" / name, case, overwrite=overwrite)
        write_labels(folder / "labelsTr" / name, case.labels, overwrite=overwrite)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write_description(folder / LISTER, _described(about, training, test), overwrite=overwrite)
    return copied


def _described(about: About, training: list[dict[str, str]], test: list[str]) -> dict[str, object]:
    channels = {str(number): name for number, name in enumerate(about.channels)}
    labels = {"0": "background"} | {str(v): name for v, name in label_names(about.structures).items()}
    labels |= {} if about.structures.ignore is None else {str(about.structures.ignore): IGNORE}
    return {
        "name": about.name,
        "description": about.description,
        "licence": about.licence,
        "tensorImageSize": "3D" if len(about.channels) == 1 else "4D",
        "modality": channels,
        "channel_names": channels,
        "labels": labels,
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }


LAYOUT = Layout(
    read,
    "a dataset.json that lists training cases",
    fits,
    {"decathlon": Target(write, holds_ignored=True)},
)
