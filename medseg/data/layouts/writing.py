"""What the writers of all layouts share: cases to write, names, values, and images whose bytes are kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.data.layouts.description import IGNORE
from medseg.io import stem_and_suffix, write_image
from medseg.io.atomic import atomic_write, refuse_existing, write_text

ENDING = ".nii.gz"
"""Of every NIfTI file that is written."""


@dataclass(frozen=True, eq=False)
class NewCase:
    """A case to write.

    Attributes:
        case_id: its name; the part before `__`, if any, is the person.
        volume: the scan; None for a label map without a scan.
        labels: on the scan's grid, in the values of the structures; None without labels.
        files: of a channel that lies in a file of its own, which may be copied as it is.
    """

    case_id: str
    volume: Volume | None
    labels: LabelMap | None
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """What a dataset says about itself.

    Attributes:
        name: of the dataset.
        description: one sentence.
        channels: names of the images of a case, in order.
        structures: what the label values mean.
        licence: of the data.
    """

    name: str
    description: str
    channels: tuple[str, ...]
    structures: StructureSet
    licence: str = ""


class Writer(Protocol):
    """Writes cases in a layout, and returns how many image files were copied as they were."""

    def __call__(
        self, folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False
    ) -> int: ...


def require_scan(case: NewCase) -> Volume:
    """The scan of a case.

    Raises:
        UsageError: it is a label map without a scan.
    """
    if case.volume is None:
        raise UsageError(
            f"the case {case.case_id} is a label map without a scan", hint="convert it with --to label_maps"
        )
    return case.volume


def require_channels(about: About, most: int, layout: str) -> None:
    """Refuse more channels than a layout can store.

    Raises:
        UsageError: there are more.
    """
    if len(about.channels) > most:
        raise UsageError(
            f"the layout {layout} can store {most} channel{'s' * (most > 1)}, "
            f"not {len(about.channels)}: {', '.join(about.channels)}",
            hint="choose channels with --channels",
        )


def write_channel(path: Path, case: NewCase, channel: int, *, overwrite: bool) -> int:
    """One channel in a file: the bytes of its own file if the format stays the same, else a new file.

    Returns:
        1 where it was copied, else 0.
    """
    volume = require_scan(case)
    source = case.files.get(volume.channels[channel])
    if source is not None and stem_and_suffix(source)[1] == stem_and_suffix(path)[1] == ENDING:
        with atomic_write(path, overwrite, inputs=[source]) as temporary:
            shutil.copyfile(source, temporary)
        return 1
    write_image(path, volume.array[channel], volume.grid, form=volume.form, overwrite=overwrite)
    return 0


def write_scan(path: Path, case: NewCase, *, overwrite: bool) -> int:
    """All channels in one file; copied where there is one channel, and its format stays."""
    volume = require_scan(case)
    if len(volume.channels) == 1:
        return write_channel(path, case, 0, overwrite=overwrite)
    write_image(path, volume.array, volume.grid, form=volume.form, overwrite=overwrite)
    return 0


def write_description(path: Path, content: Mapping[str, Any], *, overwrite: bool) -> None:
    """`dataset.json`, which is written last."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n", overwrite=overwrite)


def stated_meaning(
    channels: tuple[str, ...], structures: StructureSet, table: Mapping[int, int] | None = None
) -> dict[str, object]:
    """Channels and labels as nnU-Net's `dataset.json` states them.

    Args:
        channels: names of the images of a case, in order.
        structures: what the label values mean.
        table: what becomes of each value; None where all stay.
    """
    become = table or {}
    labels: dict[str, int | list[int]] = {"background": 0}
    for s in structures:
        labels[s.name] = [become.get(v, v) for v in s.members] if s.members else become.get(s.value, s.value)
    if structures.ignore is not None:
        labels[IGNORE] = become.get(structures.ignore, structures.ignore)
    order = {"regions_class_order": [become.get(v, v) for v in structures.values]}
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        **(order if structures.are_regions else {}),
    }


def opened(folder: Path, *inner: str, description: str = "", overwrite: bool = False) -> None:
    """Make the folders of a dataset, unless its description stands already.

    Raises:
        UsageError: it does.
    """
    if description:
        refuse_existing(folder / description, overwrite)
    for name in inner or (".",):
        (folder / name).mkdir(parents=True, exist_ok=True)


def revalued(labels: LabelMap, table: Mapping[int, int]) -> LabelMap:
    """Labels with some values exchanged for others, all at once."""
    changes = {value: becomes for value, becomes in table.items() if value != becomes}
    if not changes:
        return labels
    widest = np.promote_types(labels.array.dtype, np.min_scalar_type(max(changes.values())))
    array = labels.array.astype(widest)
    for value, becomes in changes.items():
        array[labels.array == value] = becomes
    return replace(labels, array=array)


def label_names(structures: StructureSet) -> dict[int, str]:
    """A name for every label value; values that regions unite are told by the innermost of them.

    >>> from medseg.core.structures import Structure
    >>> regions = Structure(2, "tumour", members=(1, 2)), Structure(1, "core", members=(1,))
    >>> label_names(StructureSet(regions))
    {1: 'core', 2: 'tumour'}
    """
    if not structures.are_regions:
        return {s.value: s.name for s in structures}
    inner = {
        value: min((s for s in structures if value in s.members), key=lambda s: len(s.members)).name
        for value in structures.label_values
    }
    shared = [name for name in inner.values() if list(inner.values()).count(name) > 1]
    return {value: f"{name}, value {value}" if name in shared else name for value, name in inner.items()}


def file_name(structure: str) -> str:
    """A structure's name as the stem of a file.

    >>> file_name("left kidney/upper pole")
    'left_kidney_upper_pole'
    """
    return re.sub(r"[^\w.-]+", "_", structure).strip("._") or "structure"
