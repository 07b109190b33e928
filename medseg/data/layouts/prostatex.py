"""T2 images of PROSTATEx with masks by R. Cuocolo and others (2021, doi:10.1016/j.ejrad.2021.109647).

The folder `Files/prostate` of their repository:

    Images/ProstateX-0005_t2_tse_tra_4.nii.gz      patient, sequence, its number
    mask_prostate/ProstateX-0005.nii.gz            the whole gland
    mask_pz/ProstateX-0005_pz.nii.gz               peripheral zone; not read
    mask_tz/ProstateX-0005_tz.nii.gz               transition zone; not read

Some masks number their patient with three digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import InputError
from medseg.data.layouts.case import INCOMPLETE, CaseFiles, DatasetFiles, files_in, without_results
from medseg.data.layouts.layout import Layout, Target
from medseg.data.layouts.writing import ENDING, About, NewCase, opened, require_channels, write_channel
from medseg.io import write_labels
from medseg.io.formats import NIFTI_SUFFIXES

IMAGES, MASKS = "Images", "mask_prostate"


def fits(folder: Path) -> bool:
    """Whether there are both folders."""
    return (folder / IMAGES).is_dir() and (folder / MASKS).is_dir()


def read(folder: Path, *, complete: bool = True) -> DatasetFiles:
    """The patients with an image, and the masks of their prostates.

    Args:
        folder: with `Images` and `mask_prostate`.
        complete: refuse an image without a mask and a mask without an image.

    Raises:
        InputError: there is no image, a patient has two, or with `complete` one has not both files.
    """
    images, masks = (_by_patient(folder / name) for name in (IMAGES, MASKS))
    if not images:
        raise InputError(
            f"contains no {IMAGES}/ProstateX-*.nii.gz", source=folder, hint="give the folder Files/prostate"
        )
    single = sorted(images.keys() ^ masks.keys())
    if complete and single:
        what = "mask" if single[0] in images else "image"
        raise InputError(f"has no {what} for {single[0]}", source=folder, hint=INCOMPLETE)
    cases = tuple(CaseFiles(name, path, masks.get(name), name) for name, path in sorted(images.items()))
    return DatasetFiles(cases, (), {})


def _by_patient(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for stem, path in without_results(files_in(folder, NIFTI_SUFFIXES)).items():
        number = re.match(r"ProstateX-(\d+)(?:_|$)", stem)
        if number is None:
            raise InputError("is not named ProstateX-NUMBER", source=path, hint="move it elsewhere")
        name = f"ProstateX-{int(number[1]):04d}"
        if name in found:
            raise InputError(f"lists {name!r} more than once", source=folder, hint="keep one")
        found[name] = path
    return found


def write(folder: Path, cases: Iterable[NewCase], about: About, *, overwrite: bool = False) -> int:
    """Write cases, which are named ProstateX-NUMBER.

    Raises:
        UsageError: a file exists, there are several channels, or a case is a label map without a scan.
    """
    require_channels(about, 1, "prostatex")
    opened(folder, IMAGES, MASKS)
    copied = 0
    for case in cases:
        path = folder / IMAGES / f"{case.case_id}_t2{ENDING}"
        copied += write_channel(path, case, 0, overwrite=overwrite)
        if case.labels is not None:
            write_labels(folder / MASKS / (case.case_id + ENDING), case.labels, overwrite=overwrite)
    return copied


LAYOUT = Layout(
    read, "the folders of PROSTATEx", fits, {"prostatex": Target(write, offered=False)}, card="prostatex"
)
