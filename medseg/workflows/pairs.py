"""Which prediction belongs to which reference, and what their label values mean."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError, UsageError
from medseg.io import read_labels, read_segments
from medseg.io.names import SEGMENTATION_SUFFIX, SUFFIXES, stem_and_suffix, without_pictures
from medseg.structures import Structure, StructureSet, from_labels
from medseg.volume import LabelMap

PREDICTION_ENDING = "_seg"


@dataclass(frozen=True)
class FilePair:
    """A reference and the prediction that belongs to it, if there is one."""

    case_id: str
    reference: Path
    prediction: Path | None


def pair_files(pred: Path, ref: Path) -> tuple[tuple[FilePair, ...], tuple[str, ...]]:
    """The references with their predictions, by name, and what is to be said about the rest.

    Raises:
        UsageError: file against folder, one folder against itself, no match at all, or two files
            that differ only by suffix.
        InputError: a path does not exist.
    """
    for path in (pred, ref):
        if not path.exists():
            raise InputError("there is no such file or folder", source=path, mend="check the path")
    if pred.is_dir() != ref.is_dir():
        raise UsageError(f"{pred.name} and {ref.name} must both be files or both be folders")
    if not ref.is_dir():
        return (FilePair(stem_and_suffix(ref)[0], ref, pred),), ()
    if pred.resolve() == ref.resolve():
        raise UsageError("predictions and references lie in the same folder", source=ref)
    references, predictions = _images(ref), _images(pred)
    pairs = tuple(FilePair(stem, path, _prediction(stem, predictions)) for stem, path in references.items())
    if not any(p.prediction for p in pairs):
        raise UsageError(
            f"none of the {len(pairs)} references has a prediction in {pred.name}",
            source=ref,
            mend=f"name the prediction of X.nii.gz X{PREDICTION_ENDING}.nii.gz or X.nii.gz",
        )
    known = {ending for stem in references for ending in (stem, stem + PREDICTION_ENDING)}
    strays = [path.name for stem, path in predictions.items() if stem not in known and "_prob-" not in stem]
    said = f"predictions without a reference were left out: {', '.join(strays)}"
    return pairs, (said,) if strays else ()


def read_pair(pair: FilePair, structures: StructureSet) -> tuple[LabelMap, LabelMap | None]:
    """The reference and the prediction of a case, if there is one.

    A segmentation of 3D Slicer (`.seg.nrrd`) is cropped to its segments: it is placed on the grid of the
    other, and its segments have the values of the structures of their names.

    Raises:
        InputError: a file cannot be read as labels.
        GridMismatchError: a cropped segmentation is no part of the other's grid.
    """
    if pair.prediction is None:
        return read_labels(pair.reference, structures=structures), None
    if stem_and_suffix(pair.prediction)[1] == SEGMENTATION_SUFFIX:
        reference = read_labels(pair.reference, structures=structures)
        return reference, read_labels(pair.prediction, structures=structures, like=reference.grid)
    predicted = read_labels(pair.prediction, structures=structures)
    return read_labels(pair.reference, structures=structures, like=predicted.grid), predicted


def segment_names(paths: Iterable[Path]) -> dict[int, str]:
    """The names that segmentations of 3D Slicer among the files give label values.

    Raises:
        InputError: a value has two names, or a name two values; the file is damaged.
    """
    names: dict[int, str] = {}
    values: dict[str, int] = {}
    for path in paths:
        if stem_and_suffix(path)[1] != SEGMENTATION_SUFFIX:
            continue
        for s in read_segments(path):
            if names.setdefault(s.value, s.name) != s.name or values.setdefault(s.name, s.value) != s.value:
                raise InputError(
                    f"calls {s.value} {s.name!r}, and another file does not",
                    source=path,
                    mend="say with --labels what the values mean",
                )
    return names


def read_structures(path: Path) -> StructureSet:
    """Structures from a JSON file: a `dataset.json`, or `{value: name}` alone.

    `labels` is `{"1": "liver"}` (Medical Segmentation Decathlon) or `{"liver": 1}` (nnU-Net v2).
    A list of values makes a region; the values regions write are those of `regions_class_order`.
    The background, value 0, is left out.

    Raises:
        InputError: the file is not such a JSON file.
        UsageError: names or values repeat.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = content.get("labels", content)
        named = [_named(key, value) for key, value in labels.items()]
        order = [int(v) for v in content.get("regions_class_order", ())]
    except OSError as fault:
        raise InputError(f"cannot be read ({fault.strerror})", source=path, mend="check the path") from None
    except (ValueError, TypeError, AttributeError) as fault:
        raise InputError(
            f"does not say what the labels mean ({fault})",
            source=path,
            mend='write {"labels": {"1": "name", ...}}',
        ) from None
    kept = [(name, values) for name, values in named if values != (0,)]
    if not kept:
        raise InputError("names no structure besides the background", source=path)
    if all(len(values) == 1 for _, values in kept):
        return from_labels({values[0]: name for name, values in kept})
    order = order if len(order) == len(kept) else list(range(1, len(kept) + 1))
    return StructureSet(
        tuple(Structure(v, name, members=m) for v, (name, m) in zip(order, kept, strict=True))
    )


def _named(key: str, value: object) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, list):
        return key, tuple(int(v) for v in value)
    return (key, (value,)) if isinstance(value, int) else (str(value), (int(key),))


def _images(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem, sorted; `.img` is part of its `.hdr`."""
    out: dict[str, Path] = {}
    kinds = [suffix for suffix in SUFFIXES if suffix != ".img"]
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.is_file()]
    for path in without_pictures([p for p in files if stem_and_suffix(p)[1] in kinds]):
        stem = stem_and_suffix(path)[0]
        if stem in out:
            raise UsageError(f"{out[stem].name} and {path.name} are one case", source=folder)
        out[stem] = path
    return out


def _prediction(stem: str, predictions: dict[str, Path]) -> Path | None:
    return predictions.get(stem + PREDICTION_ENDING, predictions.get(stem))
