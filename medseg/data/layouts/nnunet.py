"""nnU-Net's raw layout, version 2 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    dataset.json          channel_names, labels, numTraining, file_ending, maybe regions_class_order
    imagesTr/ID_0000.nii.gz, ID_0001.nii.gz, ...      a file per channel
    labelsTr/ID.nii.gz                                labels from 0 without gaps

A label that is a list of values is a region; `regions_class_order` then says what each region writes. The
label called "ignore" marks unlabelled voxels.
`dataset` may name the files of each case instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet
from medseg.data.layouts.case import CaseFiles, DatasetFiles, group_of, inside
from medseg.data.layouts.description import (
    LISTER,
    channel_names,
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
    opened,
    require_scan,
    revalued,
    stated_meaning,
    write_channel,
    write_description,
)
from medseg.io import stem_and_suffix, write_labels
from medseg.io.names import instances_beside, lists_file, scan_of_result

FLAT_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
"""Of natural images, which hold all their colours in one file."""


def fits(folder: Path) -> bool:
    """Whether `dataset.json` says how files end."""
    return "file_ending" in description_of(folder)


def stated_channels(folder: Path) -> dict[int, str]:
    """The names of channels by number, as the `dataset.json` of a folder states them; empty without one."""
    data = description_of(folder)
    try:
        return channel_names(data) if "file_ending" in data else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The training cases of a raw dataset.

    Args:
        folder: the one with `dataset.json`.
        complete: refuse a case with a missing file, rather than leave that to the reader.

    Raises:
        InputError: `dataset.json` is missing or not as the layout requires, there is no case, or with
            `complete` a file is missing.
    """
    path, data = folder / LISTER, required_description(folder)
    try:
        named = channel_names(data)
        channels = tuple(named[number] for number in sorted(named))
        stated = stated_labels(data)
        ending = _ending(data)
        listed = _listed(data) or _trained(folder, data) or _found(folder, ending, len(channels))
        if not (channels and all(images for images, _ in listed.values())):
            raise ValueError("a case has no channel")
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(f"is not an nnU-Net dataset.json: {form_fault(fault)}", source=path) from None
    if complete:
        _require_images(folder, listed)
    cases = tuple(_case(folder, name, *files, channels, complete) for name, files in sorted(listed.items()))
    if not cases:
        raise InputError(f"contains no training case (labelsTr/*{ending})", source=folder)
    licence = str(data.get("licence", data.get("license", "")))
    return DatasetFiles(cases, channels, stated.labels, licence, stated.regions, stated.ignore)


def _ending(data: Mapping[str, Any]) -> str:
    """How files end, with its dot."""
    return "." + str(data["file_ending"]).lstrip(".")


def _require_images(folder: Path, listed: Mapping[str, tuple[list[str], str]]) -> None:
    """Refuse labels that lie there without an image.

    Raises:
        InputError: of the first such case.
    """
    for images, label in listed.values():
        lacking = [name for name in images if not lists_file(folder / name)]
        if lacking and lists_file(folder / label):
            raise InputError(
                f"has no image {lacking[0]}",
                source=folder / label,
                hint="add the image, or remove the labels",
            )


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases with a file per channel; those without labels become test cases.

    Values are renumbered where they have gaps, in their order.

    Raises:
        UsageError: a file exists, or a case is a label map without a scan.
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
            if case.labels.numbers is not None:
                numbered = replace(case.labels, array=case.labels.numbers, numbers=None)
                write_labels(instances_beside(path), numbered, overwrite=overwrite)
            trained += 1
    write_description(folder / LISTER, _described(about, table, trained), overwrite=overwrite)
    return copied


def consecutive(structures: StructureSet) -> dict[int, int]:
    """What each label value becomes where there may be no gaps; the one to be ignored is the last."""
    last = () if structures.ignore is None else (structures.ignore,)
    return {value: number for number, value in enumerate((*structures.known_values, *last))}


def _described(about: About, table: Mapping[int, int], trained: int) -> dict[str, object]:
    return {
        "name": about.name,
        "description": about.description,
        "licence": about.licence,
        **stated_meaning(about.channels, about.structures, table),
        "numTraining": trained,
        "file_ending": ENDING,
    }


def _listed(data: Mapping[str, Any]) -> dict[str, tuple[list[str], str]] | None:
    """Images and labels of each case by name, where `dataset` says so; paths are from the folder."""
    if "dataset" not in data:
        return None
    return {
        str(name): ([str(image) for image in entry["images"]], str(entry["label"]))
        for name, entry in data["dataset"].items()
    }


def _trained(folder: Path, data: Mapping[str, Any]) -> dict[str, tuple[list[str], str]] | None:
    """As `_listed`, from a list of training cases as the Decathlon has it, where its files are there.

    nnU-Net does not read that list, and older tools leave it with names that no file has.
    """
    entries = data.get("training")
    if not isinstance(entries, list) or not entries:
        return None
    pairs = [(str(entry["image"]), str(entry["label"])) for entry in entries]
    if not all(lists_file(folder / image) for image, _ in pairs):
        return None
    return {stem_and_suffix(Path(label))[0]: ([image], label) for image, label in pairs}


def _found(folder: Path, ending: str, channels: int) -> dict[str, tuple[list[str], str]]:
    """As `_listed`, from the names of the label files."""
    names = [
        path.name.removesuffix(ending)
        for path in sorted((folder / "labelsTr").glob(f"*{ending}"))
        if lists_file(path) and not path.name.startswith(".")
    ]
    names = [name for name in names if scan_of_result(name) not in names]  # maps of instances are no labels
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
            f"lists {len(paths)} images of {name!r}, but {len(channels)} channels", source=folder / LISTER
        )
    apart = dict(zip(channels, paths, strict=True)) if len(paths) > 1 else {}
    return CaseFiles(name, paths[0], inside(folder, label, LISTER, complete=complete), group_of(name), apart)


LAYOUT = Layout(
    read,
    "a dataset.json as nnU-Net writes it",
    fits,
    {"nnunet": Target(write, holds_ignored=True, values=consecutive)},
)
