"""Pairing of predictions with references, and the names of their label values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import InputError, MedsegError, UsageError, counted, listed
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.data.bids import may_be_of_one_scan, segmentations
from medseg.data.cases import relabelled
from medseg.data.label_files import label_values
from medseg.data.layouts import detect, read_layout, table
from medseg.io import ReadOptions, read_label_file, states_segments
from medseg.io.names import (
    lists_file,
    names_image,
    require_there,
    scan_of_labels,
    scan_of_result,
    stem_and_suffix,
    stem_of_labels,
    without_pictures,
)

PREDICTION_ENDING, DICOM_SUFFIX = "_seg", ".dcm"
FIRST_CHANNEL = "_0000"
"""Of the name of a scan in nnU-Net's layout, which a prediction of that file keeps."""

LISTED = 5
"""Files that a warning names."""


@dataclass(frozen=True)
class FilePair:
    """A reference and the prediction that belongs to it, if there is one.

    Attributes:
        case_id: what the case is called.
        reference, prediction: label files, or folders of one mask a structure.
        relabel: values of the reference that stand for others, see `CaseFiles.relabel`.
        reading: decisions its files leave open; a volume is chosen where a file has several.
    """

    case_id: str
    reference: Path
    prediction: Path | None
    relabel: Mapping[int, int] = field(default_factory=dict)
    reading: ReadOptions = field(default_factory=ReadOptions)

    def said(self, fault: MedsegError) -> str:
        """A fault of one of its files, with the name of a file that lies beside these two."""
        own = (self.reference, self.prediction)
        if fault.source is None or any(str(path) == str(fault.source) for path in own):
            return fault.fault
        return f"{Path(fault.source).name} {fault.fault}"


def references_of(pred: Path, ref: Path | None) -> Path:
    """Where the references are: of a table of predictions, in the table.

    Raises:
        UsageError: references are needed, or given beside a table that lists them.
    """
    if ref is None and not table.fits(pred):
        raise UsageError(
            f"{pred.name} needs a reference to be measured against",
            hint="give a file or folder of references, or a table with the columns case, prediction, label",
        )
    if ref is not None and table.fits(pred):
        raise UsageError(
            "is a table of predictions, which lists the references too",
            source=pred,
            hint=f"leave out {ref}",
        )
    return pred if ref is None else ref


def pair_files(
    pred: Path, ref: Path, reading: ReadOptions | None = None
) -> tuple[tuple[FilePair, ...], tuple[str, ...]]:
    """The references with their predictions, by name, and messages about the rest.

    A folder beside a file has a mask for each structure, and so has every folder in a folder without files.
    A folder of references may be a dataset in a layout that is known, or a table of one: its label files are
    taken. In another folder, a scan that lies beside its labels is left out. A table against itself lists
    predictions too.

    Raises:
        UsageError: a file against a table, one folder against itself, no match at all, or two files
            that differ only by suffix.
        InputError: a path does not exist, a dataset has no labels, or a table is not as it must be.
    """
    for path in (pred, ref):
        require_there(path)
    if pred == ref and table.fits(ref):
        listed_pairs = table.read_pairs(ref)
        return tuple(FilePair(c, r, p, reading=reading or ReadOptions()) for c, r, p in listed_pairs), ()
    if not has_several(ref) or not pred.is_dir():
        if table.fits(pred) or table.fits(ref):
            raise UsageError(f"{pred.name} and {ref.name} must both be files or both be folders")
        of = pred if ref.is_dir() else ref
        return (FilePair(stem_and_suffix(of)[0], ref, pred, reading=reading or ReadOptions()),), ()
    if pred.resolve() == ref.resolve():
        raise UsageError("predictions and references are in the same folder", source=ref)
    layout = _layout(ref)
    references, said = _of_dataset(ref, layout) if layout else _of_folder(ref)
    predictions = _label_maps(pred)
    references, doubtful = _with_names_of_bids(references, predictions)
    matched = {case: _match(reference, predictions) for case, reference in references.items()}
    _require_matches(matched, pred, ref)
    pairs = tuple(
        FilePair(c, r.path, matched[c], r.relabel, reading or ReadOptions()) for c, r in references.items()
    )
    said = (*said, *_of_several(references.values(), predictions), *doubtful)
    known = {name for reference in references.values() for name in reference.names}
    strays = [path.name for stem, path in predictions.items() if stem not in known and "_prob-" not in stem]
    if strays:
        said = (*said, f"predictions without a reference were left out: {', '.join(strays)}")
    return pairs, said


def has_several(ref: Path) -> bool:
    """Whether a path may have several references: a folder or a table."""
    return ref.is_dir() or table.fits(ref)


def _layout(ref: Path) -> str | None:
    """The layout of a folder of references; None for one that holds label files alone."""
    found = detect(ref) if has_several(ref) else None
    if found or not ref.is_dir() or images_in(ref):
        return found
    try:
        read_layout(ref, "folder", complete=False)
    except InputError:
        return None
    return "folder"


@dataclass(frozen=True)
class _Reference:
    """A label file, and the names that its prediction may have, the likeliest first."""

    path: Path
    names: tuple[str, ...]
    relabel: Mapping[int, int] = field(default_factory=dict)


def _of_dataset(folder: Path, layout: str) -> tuple[dict[str, _Reference], tuple[str, ...]]:
    """The labels of a data set by case."""
    cases = read_layout(folder, layout, complete=False).cases
    if any(case.drawn for case in cases):
        raise InputError(
            "has outlines in place of label files", source=folder, hint="write such with medseg convert first"
        )
    found = {
        case.case_id: _Reference(
            case.label, _predicted(case.case_id, stem_and_suffix(case.image)[0]), case.relabel
        )
        for case in cases
        if case.label is not None
    }
    if not found:
        raise InputError(f"has no labels in the layout {layout}", source=folder, hint="give the references")
    return found, ()


def _of_folder(folder: Path) -> tuple[dict[str, _Reference], tuple[str, ...]]:
    """The label files of a folder by case: all but scans that lie beside their labels."""
    files = _label_maps(folder)
    marked = {stem: scan for stem in files if (scan := scan_of_labels(stem))}
    scans = [stem for stem in files if stem in marked.values()]
    found: dict[str, _Reference] = {}
    for stem, path in files.items():
        scan = marked.get(stem, "")
        case = scan if scan and list(marked.values()).count(scan) == 1 else stem
        if stem not in scans:
            found[case] = _Reference(path, _predicted(stem, *[scan] * bool(scan)))
    if not scans:
        return found, ()
    taken = [f"{files[stem].name} ({files[scan].name})" for stem, scan in marked.items() if scan in files]
    told = f"left out: {counted(len(scans), 'scan')} beside the labels"
    return found, (f"{told}; taken (left out): {listed(taken, most=LISTED)}",)


def _predicted(*stems: str) -> tuple[str, ...]:
    """What the prediction of a case that goes by these names, or of its first channel, may be called."""
    ends = (PREDICTION_ENDING, "", FIRST_CHANNEL + PREDICTION_ENDING)
    return tuple(dict.fromkeys(stem + end for stem in stems for end in ends))


def _of_several(references: Iterable[_Reference], predictions: Mapping[str, Path]) -> tuple[str, ...]:
    """Which file was taken where two bear a name that the prediction of a case may have."""
    told = []
    for reference in references:
        taken, *others = [predictions[name].name for name in reference.names if name in predictions] or [""]
        told += [f"{taken} (not {', '.join(others)})"] if others else []
    if not told:
        return ()
    cases = counted(len(told), "case")
    return (f"more than one file may be the prediction of {cases}; taken: {listed(told, most=LISTED)}",)


def _with_names_of_bids(
    references: Mapping[str, _Reference], predictions: Mapping[str, Path]
) -> tuple[dict[str, _Reference], tuple[str, ...]]:
    """The references; one without a prediction of its name has that which BIDS says is of the same scan.

    Where several may be, none is taken, and a message says so.
    """
    taken = {name for reference in references.values() for name in reference.names}
    free = [stem for stem in predictions if stem not in taken]
    lone = {c: stem_and_suffix(r.path)[0] for c, r in references.items() if not _match(r, predictions)}
    of = {case: [s for s in free if may_be_of_one_scan(s, stem)] for case, stem in lone.items()}
    claimed = Counter(stem for stems in of.values() for stem in stems)
    found, told = dict(references), []
    for case, stems in of.items():
        if len(stems) == 1 and claimed[stems[0]] == 1:
            found[case] = replace(found[case], names=(*found[case].names, stems[0]))
        elif stems:
            told.append(f"{case} ({listed(stems)})")
    if not told:
        return found, ()
    many = f"by its name, no file is the prediction of {counted(len(told), 'case')} alone"
    return found, (f"{many}; none was taken of: {listed(told, most=LISTED)}",)


def _match(reference: _Reference, predictions: Mapping[str, Path]) -> Path | None:
    return next((predictions[name] for name in reference.names if name in predictions), None)


def in_predicted_values(
    pairs: Sequence[FilePair], held: Collection[int]
) -> tuple[tuple[FilePair, ...], tuple[str, ...]]:
    """Pairs whose references are read in the values that the predictions hold, and what is to be said of it.

    What a reference's value stands for is taken only where some prediction has it, and none the value itself.

    Args:
        pairs: as they were found.
        held: every value of any prediction.
    """
    table = {value: becomes for pair in pairs for value, becomes in pair.relabel.items()}
    taken = {value: becomes for value, becomes in table.items() if becomes in held and value not in held}
    said = tuple(f"the value {v} of the references is named {b} in the predictions" for v, b in taken.items())
    return tuple(replace(pair, relabel=taken if pair.relabel else {}) for pair in pairs), said


def read_pair(pair: FilePair, structures: StructureSet) -> tuple[LabelMap, LabelMap | None]:
    """The reference and the prediction of a case, if there is one.

    A segmentation of 3D Slicer (`.seg.nrrd`) is cropped to its segments, and a DICOM structure set has no
    grid: each is placed on the grid of the other, with the values of the structures of their names.

    Raises:
        InputError: a file cannot be read as labels, or is a scan by the looks of it.
        GridMismatchError: a cropped segmentation is no part of the other's grid.
    """
    reference, predicted = _read_pair(pair, structures)
    label_values(reference.array, pair.reference, structures)
    if predicted is not None and pair.prediction is not None:
        label_values(predicted.array, pair.prediction, structures)
        predicted = _whole(predicted, structures)
    return reference, predicted


def _whole(predicted: LabelMap, structures: StructureSet) -> LabelMap:
    """A prediction, whose structures without a mask are absent: only a reference leaves some unlabelled."""
    if not predicted.unlabelled:
        return predicted
    said = {text for value, text in predicted.lacking if value in predicted.unlabelled}
    names = [s.name for s in structures if s.value in predicted.unlabelled]
    told = f"The prediction has no mask of {listed(names)}, which counts as absent in it."
    warnings = (told, *(text for text in predicted.warnings if text not in said))
    return replace(predicted, warnings=warnings, unlabelled=(), lacking=())


def _read_pair(pair: FilePair, structures: StructureSet) -> tuple[LabelMap, LabelMap | None]:
    if pair.prediction is None:
        return _reference(pair, structures), None
    if states_segments(pair.prediction):
        reference = _reference(pair, structures)
        return reference, read_label_file(pair.prediction, pair.reading, structures, reference.grid)
    predicted = read_label_file(pair.prediction, pair.reading, structures)
    return _reference(pair, structures, predicted.grid), predicted


def _reference(pair: FilePair, structures: StructureSet, like: Grid | None = None) -> LabelMap:
    """The reference in its predictions' values."""
    labels = read_label_file(pair.reference, pair.reading, structures, like)
    return relabelled(replace(labels, ignore=structures.ignore), pair.relabel, pair.reference)


def stated_structures(ref: Path) -> StructureSet:
    """The structures that a folder of references, which is a dataset, states itself; else none."""
    layout = None if table.lists_predictions(ref) else _layout(ref)
    if layout is None:
        return StructureSet()
    files = read_layout(ref, layout, complete=False)
    if files.regions:
        return StructureSet(files.regions, files.ignore)
    return from_labels(files.labels, files.ignore)


def images_in(folder: Path) -> dict[str, Path]:
    """Images of a folder by stem, sorted, but results that hold no labels; `.img` is part of its `.hdr`.

    A DICOM segmentation or structure set counts where no other file has its stem. Of a BIDS dataset, which
    has no images itself, these are the segmentations (`_dseg`) of all subjects.

    Raises:
        UsageError: two files differ only by suffix.
    """
    out: dict[str, Path] = {}
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and lists_file(p)]
    for path in without_pictures([path for path in files if names_image(path)]):
        stem = stem_and_suffix(path)[0]
        if stem in out:
            raise UsageError(f"{out[stem].name} and {path.name} belong to the same case", source=folder)
        out[stem] = path
    objects = [path for path in files if path.suffix.lower() == DICOM_SUFFIX and states_segments(path)]
    for path in sorted(objects, key=lambda path: stem_of_labels(path) != stem_and_suffix(path)[0]):
        out.setdefault(stem_of_labels(path), path)
    out = out or {stem_and_suffix(path)[0]: path for path in segmentations(folder)}
    return {stem: path for stem, path in out.items() if not _is_another_result(stem, out)}


def _label_maps(folder: Path) -> dict[str, Path]:
    """`images_in`; where there is none, the folders inside that have images, each a structure's mask."""
    if files := images_in(folder):
        return files
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return {
        path.name: path for path in inside if any(names_image(p) and lists_file(p) for p in path.iterdir())
    }


def _require_matches(matched: Mapping[str, Path | None], pred: Path, ref: Path) -> None:
    """Refuse folders of which no two files have the same name.

    Raises:
        UsageError: how many there are, and how many lie in folders inside, which were not looked at.
    """
    if any(matched.values()):
        return
    within = {f: sum(names_image(p) for p in f.glob("*/**/*")) for f in (pred, ref) if not images_in(f)}
    unseen = [f"{f.name} holds {counted(n, 'image')} in sub-folders" for f, n in within.items() if n]
    raise UsageError(
        f"none of the {counted(len(matched), 'reference')} has a prediction in {pred.name}"
        + (f"; {' and '.join(unseen)}, which were not looked at" if unseen else ""),
        source=ref,
        hint=f"name the prediction of X.nii.gz X{PREDICTION_ENDING}.nii.gz or X.nii.gz"
        + (", and give the folder that holds the files" if unseen else ""),
    )


def _is_another_result(stem: str, files: Mapping[str, Path]) -> bool:
    """Whether a file is a result of ours that holds no labels."""
    scan = "" if stem.endswith(PREDICTION_ENDING) else scan_of_result(stem)
    return bool(scan) and (scan in files or scan + PREDICTION_ENDING in files)
