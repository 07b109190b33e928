"""How data sets lie on disk: from a folder to cases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.errors import InputError
from medseg.io import stem_and_suffix


@dataclass(frozen=True)
class CaseFiles:
    """One subject: its image, maybe its labels, and the group it must stay with.

    Of a label map without an image, both are the map.

    Attributes:
        case_id: its name.
        image: the file with all channels, or the first of them.
        label: the label map.
        group: of the cases of one person.
        channels: a file for each channel by name, where they lie apart.
    """

    case_id: str
    image: Path
    label: Path | None
    group: str
    channels: Mapping[str, Path] = field(default_factory=dict)

    @property
    def source(self) -> Path | Mapping[str, Path]:
        """What `read_volume` takes."""
        return self.channels or self.image


@dataclass(frozen=True)
class DatasetFiles:
    """The cases of a folder, with the channel and label names the folder itself states."""

    cases: tuple[CaseFiles, ...]
    channels: tuple[str, ...]
    labels: dict[int, str]
    licence: str = ""


def read_decathlon(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The layout of the Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`.

    Args:
        folder: of the dataset.
        complete: refuse a dataset with a missing file, rather than leave that to its reader.

    Raises:
        InputError: `dataset.json` is missing or not as the layout says, names a file that is
            missing or outside the folder, or two cases of one name.

    References:
        Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise InputError(
            "no dataset.json here", source=folder, mend="give the folder that holds dataset.json and imagesTr"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = [(str(entry["image"]), str(entry["label"])) for entry in data["training"]]
        labels = {int(value): str(name) for value, name in data["labels"].items() if int(value) != 0}
        channels = _channels(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise InputError(f"not a Decathlon dataset.json ({fault!r})", source=path) from None
    cases = tuple(_decathlon_case(folder, image, label, complete) for image, label in entries)
    if not cases:
        raise InputError("lists no training case", source=path)
    _require_distinct(cases, path)
    return DatasetFiles(cases, channels, labels, str(data.get("licence", data.get("license", ""))))


def read_label_maps(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """A folder of label maps, NIfTI, without images: each file a case.

    Raises:
        InputError: there is none, or two of one name.
    """
    paths = sorted(p for p in folder.glob("*.nii*") if p.is_file())
    if not paths:
        raise InputError("holds no label map (.nii, .nii.gz)", source=folder)
    names = [stem_and_suffix(path)[0] for path in paths]
    cases = tuple(CaseFiles(n, path, path, group=n) for n, path in zip(names, paths, strict=True))
    _require_distinct(cases, folder)
    return DatasetFiles(cases, (), {})


def read_brats2013(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """A folder a patient, as BRATS 2013 comes with DeepMedic: `Flair_*`, `T1c_*`, `OTMultiClass.nii.gz`.

    Channels are called by the words before the underscore, in lower case.

    Raises:
        InputError: there is no such folder, or with `complete` one has no images or no labels.

    References:
        Menze et al. 2015, doi:10.1109/TMI.2014.2377694.
    """
    cases = []
    for patient in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []:
        images = {p.name.split("_")[0].lower(): p for p in sorted(patient.glob("*_*.nii*"))}
        label = patient / "OTMultiClass.nii.gz"
        if complete and not (images and label.is_file()):
            missing = label.name if images else "any image (Flair_*.nii.gz, T1c_*.nii.gz)"
            raise InputError(f"does not hold {missing}", source=patient, mend="copy the dataset again")
        if images:
            first = next(iter(images.values()))
            there = label if label.is_file() else None
            cases.append(CaseFiles(patient.name, first, there, patient.name, images))
    if not cases:
        raise InputError("holds no folder of a patient with Flair_*.nii.gz, T1c_*.nii.gz", source=folder)
    return DatasetFiles(tuple(cases), (), {})


LayoutName = Literal["decathlon", "label_maps", "brats2013"]

LAYOUTS = {"decathlon": read_decathlon, "label_maps": read_label_maps, "brats2013": read_brats2013}


def _decathlon_case(folder: Path, image: str, label: str, complete: bool) -> CaseFiles:
    paths = [_inside(folder, name, complete) for name in (image, label)]
    case_id = stem_and_suffix(paths[0])[0]
    return CaseFiles(case_id, paths[0], paths[1], group=case_id)


def _inside(folder: Path, name: str, complete: bool) -> Path:
    path = folder / name
    try:
        inside, there = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError, RuntimeError):  # a zero byte, a name too long, a loop of links
        inside, there = True, False
    if not inside:
        raise InputError(f"names {name!r}, which is outside the folder", source=folder / "dataset.json")
    if complete and not there:
        raise InputError(
            f"names {name!r}, which is not there",
            source=folder / "dataset.json",
            mend="copy the dataset again",
        )
    return path


def _require_distinct(cases: tuple[CaseFiles, ...], path: Path) -> None:
    twice = sorted(name for name, count in Counter(case.case_id for case in cases).items() if count > 1)
    if twice:
        raise InputError(
            f"lists {twice[0]!r} more than once", source=path, mend="give each case its own name"
        )


def _channels(data: dict[str, Any]) -> tuple[str, ...]:
    names = data.get("modality", data.get("channel_names", {"0": "image"}))
    return tuple(str(names[key]) for key in sorted(names, key=int))
