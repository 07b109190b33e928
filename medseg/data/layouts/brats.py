"""The layouts of the brain tumour challenges (BRATS): a folder per patient, a file per modality.

The names changed with the years (Menze et al. 2015, doi:10.1109/TMI.2014.2377694; Baid et al. 2021,
arXiv:2107.02314; the 2023 challenge), and with them the value of enhancing tumour:

    2013       Flair_*, T1_*, T1c_*, T2_*, OTMultiClass          as DeepMedic hands it on; enhancing 4
    2018-2021  ID_flair, ID_t1, ID_t1ce, ID_t2, ID_seg           enhancing 4, capitals or not
    2023-      ID-t2f, ID-t1n, ID-t1c, ID-t2w, ID-seg            enhancing 3

Channels are called flair, t1, t1c and t2, and enhancing tumour is 4, whatever the year.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import InputError, UsageError
from medseg.data.layouts.case import (
    CaseFiles,
    DatasetFiles,
    entries,
    folders_in,
    require_distinct,
    require_no_broken_links,
    without_results,
)
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import ENDING, About, NewCase, Writer, opened, revalued, write_channel
from medseg.io import stem_and_suffix, write_labels
from medseg.io.names import lists_file


def _as_named(patient: str) -> str:
    return patient


def _without_visit(patient: str) -> str:
    """`BraTS-GLI-00008-001` is the second visit of the patient `BraTS-GLI-00008`."""
    return re.sub(r"^(.+-\d+)-\d+$", r"\1", patient)


@dataclass(frozen=True)
class Naming:
    """How the files of a patient are called in some years.

    Attributes:
        files: pattern of a file's stem for each channel.
        label: pattern of the label file's stem.
        relabel: label values that stand for others.
        group: from the folder's name to the patient, whose visits must stay together.
    """

    files: Mapping[str, str]
    label: str
    relabel: Mapping[int, int] = field(default_factory=dict)
    group: Callable[[str], str] = _as_named


NAMINGS = (
    Naming(
        {"flair": r"Flair_.+", "t1": r"T1_.+", "t1c": r"T1c_.+", "t2": r"T2_.+"},
        r"OTMultiClass",
    ),
    Naming(
        {
            "flair": r"(?i).+_flair",
            "t1": r"(?i).+_t1",
            "t1c": r"(?i).+_t1(ce|c|gd)",
            "t2": r"(?i).+_t2",
        },
        r"(?i).+_seg(m|mentation)?",
    ),
    Naming(
        {"flair": r".+-t2f", "t1": r".+-t1n", "t1c": r".+-t1c", "t2": r".+-t2w"},
        r".+-seg",
        {3: 4},
        _without_visit,
    ),
)
"""2013, 2018 to 2021, since 2023."""


MARKS = ("_seg",)
"""Endings of label files that are those of our results too."""

FEWEST_CHANNELS = 2
"""Of a patient, for its names to be those of BRATS and not of any scan."""


def fits(folder: Path) -> bool:
    """Whether any folder in it has several modalities in some year's names."""
    cases = (_case(patient) for patient in _patients(folder))
    return any(case is not None and len(case.channels) >= FEWEST_CHANNELS for case in cases)


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The patients of a folder, or of the folders in it (`HGG`, `LGG`), in any of the years' names.

    Args:
        folder: of the dataset.
        complete: refuse a patient without labels, rather than leave that to the reader.

    Raises:
        InputError: there is no patient, two have one name, or with `complete` one has no images or
            no labels.
    """
    cases = []
    for patient in _patients(folder):
        case = _case(patient)
        if complete and (case is None or case.label is None):
            raise _not_whole(patient, case)
        if case is not None:
            cases.append(case)
    if not cases:
        raise InputError(
            "contains no patient folder",
            source=folder,
            hint="give the folder with one folder per patient, with Flair_*, ID_flair or ID-t2f in each",
        )
    require_distinct(cases, folder)
    return DatasetFiles(tuple(cases), (), {})


def _not_whole(patient: Path, case: CaseFiles | None) -> InputError:
    """What a patient's folder lacks; a file of another name may be it."""
    if case is None:
        return InputError(
            "contains no images with the names of a BRATS year",
            source=patient,
            hint=f"name them {patient.name}_flair, _t1, _t1ce, _t2, or move the folder elsewhere",
        )
    used = set(case.channels.values())
    others = [path.name for path in _stems(patient).values() if path not in used]
    label = f"{patient.name}_seg.nii.gz"
    if len(others) == 1:
        return InputError(
            f"contains no label file, but perhaps {others[0]} is one",
            source=patient,
            hint=f"rename it to {label} if it is",
        )
    return InputError(
        "contains no label file", source=patient, hint=f"add {label}, or move the folder elsewhere"
    )


def _patients(folder: Path) -> Iterator[Path]:
    """Folders with images, in the folder itself or one further down."""
    require_no_broken_links(entries(folder))
    for path in folders_in(folder):
        require_no_broken_links(entries(path))
        inner = [p for p in folders_in(path) if _stems(p)]
        yield from inner or [path]


def _stems(folder: Path) -> dict[str, Path]:
    found = {stem_and_suffix(p)[0]: p for p in sorted(folder.glob("*.nii*")) if lists_file(p)}
    return without_results(found, marks=MARKS)


def _case(patient: Path) -> CaseFiles | None:
    stems = _stems(patient)
    for naming in NAMINGS:
        channels = {name: found for name, form in naming.files.items() if (found := _only(stems, form))}
        if channels:
            first = next(iter(channels.values()))
            label = _only(stems, naming.label)
            group = naming.group(patient.name)
            return CaseFiles(patient.name, first, label, group, channels, naming.relabel if label else {})
    return None


def _only(stems: Mapping[str, Path], form: str) -> Path | None:
    """The one file whose stem has a form.

    Raises:
        InputError: there are several.
    """
    found = [path for stem, path in stems.items() if re.fullmatch(form, stem)]
    if len(found) > 1:
        raise InputError(
            f"{found[0].name} and {found[1].name} are of the same modality",
            source=found[0].parent,
            hint="keep one",
        )
    return found[0] if found else None


@dataclass(frozen=True)
class Form:
    """How files are named and labels valued when they are written as in some year.

    Attributes:
        files: a file's stem for each channel, `{}` being the patient.
        label: the label file's stem.
        values: what becomes of the values of 2013. Since 2017, tumour that does not enhance counts as
            necrosis.
    """

    files: Mapping[str, str]
    label: str
    values: Mapping[int, int] = field(default_factory=dict)


FORMS = {
    2013: Form({"flair": "Flair_{}", "t1": "T1_{}", "t1c": "T1c_{}", "t2": "T2_{}"}, "OTMultiClass"),
    2020: Form({"flair": "{}_flair", "t1": "{}_t1", "t1c": "{}_t1ce", "t2": "{}_t2"}, "{}_seg", {3: 1}),
    2023: Form({"flair": "{}-t2f", "t1": "{}-t1n", "t1c": "{}-t1c", "t2": "{}-t2w"}, "{}-seg", {3: 1, 4: 3}),
}


def writer(year: int) -> Writer:
    """The writer of the layout as it was in a year: 2013, 2020 or 2023."""
    form = FORMS[year]

    def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
        strange = [name for name in about.channels if name not in form.files]
        if strange or not set(about.structures.known_values) <= set(range(5)):
            raise UsageError(
                f"the dataset {about.name} has the channels {', '.join(about.channels)} and the label values "
                f"{', '.join(map(str, about.structures.known_values))}, but BRATS needs "
                f"{', '.join(form.files)} and 0 to 4"
            )
        return sum(_write_case(folder, case, form, overwrite) for case in cases)

    return write


def _write_case(folder: Path, case: NewCase, form: Form, overwrite: bool) -> int:
    opened(folder, case.case_id)
    patient = folder / case.case_id
    copied = 0
    for number, name in enumerate(case.volume.channels if case.volume else ()):
        path = patient / (form.files[name].format(case.case_id) + ENDING)
        copied += write_channel(path, case, number, overwrite=overwrite)
    if case.labels is not None:
        path = patient / (form.label.format(case.case_id) + ENDING)
        write_labels(path, revalued(case.labels, form.values), overwrite=overwrite)
    return copied


def _target(year: int, *, offered: bool = True) -> Target:
    return Target(writer(year), offered, values=lambda _: FORMS[year].values)


def _of_2023(names: Mapping[str, str]) -> dict[str, str]:
    return {case: name.replace("__", "-") for case, name in names.items()}


LAYOUT = Layout(
    read,
    "folders of patients with one file per modality",
    fits,
    {
        "brats": _target(2020, offered=False),
        "brats2013": _target(2013),
        "brats2020": _target(2020),
        "brats2023": replace(_target(2023), names=_of_2023),
    },
    card="brats",
)
