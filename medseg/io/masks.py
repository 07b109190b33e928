"""Labels as a folder with one mask a structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError, listed
from medseg.core.structures import value_counts
from medseg.core.volume import LabelMap
from medseg.io.name_matching import name_key, names_by_key
from medseg.io.names import lists_file, names_image, stem_and_suffix, without_pictures
from medseg.io.painting import Painting
from medseg.io.read import read_label_values
from medseg.io.values import smallest_dtype


def read_mask_folder(
    folder: str | Path, values: Mapping[str, int] | None = None, *, others: bool = False
) -> tuple[LabelMap, dict[int, str]]:
    """One label map of a folder of masks, each named for its structure: `liver.nii.gz`.

    A mask holds 0 and at most one other value. Where masks overlap, the later one counts, in the order
    of `values`, and a warning says how many voxels they share. A structure without a mask was not
    labelled (`LabelMap.unlabelled`), with a warning; one that is absent has an empty mask.

    Args:
        folder: of masks; 2D pictures beside volumes are none.
        values: of structures by name; capitals, blanks and signs do not count. None numbers the masks
            in the order of their names, from 1.
        others: whether masks that have no value may be left out, rather than refused.

    Returns:
        The label map, and the names of the structures in it by value.

    Raises:
        InputError: there is no mask, one has no value, or holds more than two values.
        UsageError: two names are the same but for capitals, blanks and signs.
        GridMismatchError: the masks lie on different grids.
        ResourceError: the masks cannot fit in memory.
    """
    folder = Path(folder)
    files = masks_in(folder)
    if values is None:
        values = {stem_and_suffix(path)[0]: n for n, path in enumerate(files.values(), start=1)}
    wanted = names_by_key(values)
    strange = [path.name for key, path in files.items() if key not in wanted]
    if strange and not others:
        raise InputError(
            f"contains masks that are not known structures: {listed(strange)}",
            source=folder,
            hint=f"declare them, or move them elsewhere; the known structures are {listed(list(values))}",
        )
    there = {name: files[key] for key, name in wanted.items() if key in files}
    if not there:
        raise InputError(f"contains no mask of {listed(list(values))}", source=folder, hint="check the names")
    missing = [name for name in values if name not in there]
    said = f"There is no mask of {listed(missing)}, which counts as unlabelled; an empty mask states absence."
    found = _painted(there, values, folder)
    if missing:
        unlabelled = tuple(values[name] for name in missing)
        found = replace(
            found,
            warnings=(said, *found.warnings),
            unlabelled=unlabelled,
            lacking=(*((value, said) for value in unlabelled), *found.lacking),
        )
    return found, {value: name for name, value in values.items()}


def _painted(files: Mapping[str, Path], values: Mapping[str, int], folder: Path) -> LabelMap:
    """The masks, painted one after the other."""
    dtype = smallest_dtype(np.array([0, *values.values()]), folder)
    maps = ((name, path, read_label_values(path)) for name, path in files.items())
    head, start, first = next(maps)
    painting = Painting(first.grid.shape, dtype)
    warnings = dict.fromkeys(first.warnings)
    for name, path, mask in chain([(head, start, first)], maps):
        first.grid.require(mask.grid, f"the masks {start.name} and {path.name}", str(path))
        painting.add(name, values[name], _binary(mask, path))
        warnings |= dict.fromkeys(mask.warnings)
    said = (*warnings, *painting.warnings)
    return LabelMap(painting.array, first.grid, first.form, said, lacking=painting.lacking)


def _binary(mask: LabelMap, path: Path) -> NDArray[np.bool_]:
    found = [value for value in value_counts(mask.array) if value]
    if len(found) > 1:
        raise InputError(
            f"is not a mask: it contains the values {listed([str(v) for v in found])} besides 0",
            source=path,
            hint="give one file per structure, or the label map alone",
        )
    return np.asarray(mask.array != 0)


def masks_in(folder: Path) -> dict[str, Path]:
    """The masks of a folder by the key of their names, sorted; `.img` is part of its `.hdr`.

    Raises:
        InputError: there is none, or two have one name.
    """
    try:
        names = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and lists_file(p))
    except OSError as fault:
        raise InputError.unreadable(fault, folder) from None
    images = [path for path in names if names_image(path)]
    files: dict[str, Path] = {}
    for path in without_pictures(images):
        other = files.setdefault(name_key(stem_and_suffix(path)[0]), path)
        if other is not path:
            raise InputError(
                f"{other.name} and {path.name} are the same structure", source=folder, hint="keep one"
            )
    if not files:
        raise InputError("contains no mask", source=folder, hint="name the folder of the masks")
    return files
