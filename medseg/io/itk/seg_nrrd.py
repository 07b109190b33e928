"""Segmentations of 3D Slicer (`.seg.nrrd`): NRRD whose header names and colours its segments.

A segment is a value in a layer; segments that overlap lie in different layers of a fourth, `list` axis.
The keys are those of the developer guide of 3D Slicer, Segmentations, "Segmentation labelmap file format".
Nothing else of a header is kept: no identifiers, no tags, no text of other programs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.boxes import label_boxes
from medseg.core.colours import rgb
from medseg.core.errors import InputError, counted, plural, printable
from medseg.core.structures import Structure, StructureSet, from_labels, value_counts
from medseg.core.volume import Grid
from medseg.io.itk import images as itk
from medseg.io.itk import nrrd
from medseg.io.options import ImageInfo, ReadOptions, Stored
from medseg.io.painting import Painting
from medseg.io.values import label_values, smallest_dtype

FIELD = re.compile(r"Segment(\d{1,6})_(\w+)")
SOURCES = ("Segmentation_SourceRepresentation", "Segmentation_MasterRepresentation")
"""Names of one key, since version 5.2 and before."""
BINARY = "Binary labelmap"
TISSUE = "SCT^85756007^Tissue"
TAGS = (
    "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
    f"~{TISSUE}~{TISSUE}~^^~Anatomic codes - DICOM master list~^^~^^|"
)
"""What a segment is in the standard's terms: tissue, of no stated anatomy."""

LONGEST_NAME = 128
LONGEST_NUMBER = 10
"""Digits of the largest label value, 2147483647."""
MEND = "save it again in 3D Slicer"


@dataclass(frozen=True)
class Segment:
    """A segment as its file states it.

    Attributes:
        name: what people call it.
        colour: `#rrggbb`; empty where none is stated.
        layer: which holds it.
        stored: its value there.
        value: its value in the one label map that the layers are united to.
    """

    name: str
    colour: str
    layer: int
    stored: int
    value: int


def describe(path: Path, options: ReadOptions) -> ImageInfo:
    """What the header says of the label map that the layers are united to; reads no voxels.

    Raises:
        InputError: the header is damaged, or its segments contradict each other.
        GeometryError: there is no orientation, or an impossible one.
    """
    info = itk.describe(path, options)
    segments, said = _segments(path, info.channels)
    dtype = _dtype(segments, path).name if segments else info.dtype
    what = "3D Slicer segmentation"
    return replace(info, format=what, channels=1, dtype=dtype, warnings=info.warnings + said)


def read(path: Path, options: ReadOptions) -> Stored:
    """The label map (1, I, J, K) that the layers are united to, later segments over earlier ones.

    Label values are kept where they differ; where segments of several layers share one, all are
    numbered in their order, from 1.

    Raises:
        InputError: the file is damaged, or holds a value that no segment has.
        GeometryError: there is no orientation, or an impossible one.
        ResourceError: the voxels cannot fit in memory.
    """
    info, stored = describe(path, options), itk.read(path, options)
    layers, said = label_values(stored.array, 1.0, 0.0, path)
    segments, _ = _segments(path, len(layers))
    if not segments:
        return Stored(replace(info, warnings=info.warnings + said), layers)
    _require_known(layers, segments, path)  # type: ignore[arg-type]
    painting = Painting(info.shape, _dtype(segments, path))
    for segment in segments:
        painting.add(segment.name, segment.value, layers[segment.layer] == segment.stored)
    info = replace(info, warnings=info.warnings + said + painting.warnings)
    return Stored(info, painting.array[None], painting.lacking)


def read_segments(path: str | Path) -> StructureSet:
    """The structures of a `.seg.nrrd` file: names, colours, and values as `read_labels` gives them.

    Raises:
        InputError: the file is damaged, or its segments contradict each other.
        GeometryError: there is no orientation, or an impossible one.
        ResourceError: the voxels cannot fit in memory.
    """
    path, options = Path(path), ReadOptions(assume_ras=True)
    segments, _ = _segments(path, itk.describe(path, options).channels)
    if not segments:
        found = value_counts(read(path, options).array)  # type: ignore[arg-type]
        return _structures(None, [value for value in found if value])
    return from_labels([Structure(s.value, s.name, colour=s.colour) for s in segments])


def files(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def targets(path: Path) -> tuple[Path, ...]:
    """The file itself."""
    return (path,)


def write(path: Path, array: NDArray[Any], grid: Grid, structures: StructureSet | None) -> None:
    """Write labels (I, J, K) with names and colours, compressed, at exactly `path`.

    Regions overlap, and get a layer each; labels share one. The bytes depend on nothing but the
    arguments: no time, no identifier, no text but the structures' names.

    Raises:
        InputError: a label is negative.
    """
    if array.min() < 0:
        raise InputError("a segment has no negative label value", source=path, hint="renumber the labels")
    whole = _structures(structures, [value for value in value_counts(array) if value])
    layers = _layers(array, whole)
    nrrd.write(path, layers, grid, _keys(layers, whole))


def differences(path: Path, array: NDArray[Any], structures: StructureSet | None) -> Iterator[str]:
    """Differences between the segments of a written file and `structures`."""
    meant = _structures(structures, [value for value in value_counts(array) if value])
    wanted = {(s.value, s.name, s.colour) for s in meant}
    if {(s.value, s.name, s.colour) for s in read_segments(path)} != wanted:
        yield "its segments differ"


def _structures(structures: StructureSet | None, found: Sequence[int]) -> StructureSet:
    """The structures as a file can name them, and one more for each value that none has."""
    known = () if structures is None else structures.items
    regions = any(s.members for s in known)
    strange = [value for value in found if value not in {s.value for s in known}]
    extra = [Structure(v, f"label {v}", members=(v,) if regions else ()) for v in strange]
    names = distinct_names([tidy_name(s.name) for s in (*known, *extra)])
    return StructureSet(
        tuple(
            replace(s, name=name, side="none", twin=None)
            for s, name in zip((*known, *extra), names, strict=True)
        )
    )


def _layers(array: NDArray[Any], structures: StructureSet) -> list[NDArray[Any]]:
    """The label map, or a layer for each region where painting them makes up the map again."""
    if structures.are_regions:
        masks = [structures.mask(array, s) for s in structures]
        layers = [np.where(m, s.value, 0).astype(array.dtype) for m, s in zip(masks, structures, strict=True)]
        painted = np.zeros_like(array)
        for mask, structure in zip(masks, structures, strict=True):
            painted[mask] = structure.value
        if np.array_equal(painted, array):
            return layers
    return [array]


def _keys(layers: Sequence[NDArray[Any]], structures: StructureSet) -> Iterator[str]:
    """What 3D Slicer needs to know of the segments, sorted as it sorts them."""
    extents = [_extents(layer) for layer in layers]
    for n, structure in enumerate(structures):
        layer = n if len(layers) > 1 else 0
        fields = {
            "Color": " ".join(f"{part / 255:.6f}" for part in rgb(structure.colour)),
            "ColorAutoGenerated": 0,
            "Extent": extents[layer].get(structure.value, "0 -1 0 -1 0 -1"),
            "ID": f"Segment_{n + 1}",
            "LabelValue": structure.value,
            "Layer": layer,
            "Name": structure.name.replace("\\", "\\\\"),
            "NameAutoGenerated": 0,
            "Tags": TAGS,
        }
        yield from (f"Segment{n}_{key}:={value}" for key, value in fields.items())
    yield f"Segmentation_ContainedRepresentationNames:={BINARY}|"
    yield from (f"{key}:={BINARY}" for key in reversed(SOURCES))
    yield "Segmentation_ReferenceImageExtentOffset:=0 0 0"


def _extents(layer: NDArray[Any]) -> dict[int, str]:
    """First and last voxel along each axis of each value there is."""
    found = label_boxes(layer, [value for value in value_counts(layer) if value])
    return {v: " ".join(f"{part.start} {part.stop - 1}" for part in box) for v, box in found.items()}


def _segments(path: Path, layers: int) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """The segments of a header in their order, checked, and what is to be said about their values."""
    stated = _stated(path)
    if not stated and layers > 1:
        raise InputError(f"contains {layers} layers and no segment", source=path, hint=MEND)
    layered = any("Layer" in fields for fields in stated.values())
    found = []
    for n, (number, fields) in enumerate(stated.items()):
        layer = _number(fields, "Layer", 0 if layered or layers == 1 else n, number, path)
        stored = _number(fields, "LabelValue", 1, number, path)
        if layer >= layers or stored < 1:
            raise InputError(
                f"its segment {number} has the value {stored} in layer {layer}, of {layers} layers",
                source=path,
                hint=MEND,
            )
        name = tidy_name(fields.get("Name", "")) or f"Segment {number}"
        found.append(Segment(name, _colour(fields.get("Color", "")), layer, stored, stored))
    twice = [place for place, count in Counter((s.layer, s.stored) for s in found).items() if count > 1]
    if twice:
        raise InputError(f"two segments have the value {twice[0][1]} in one layer", source=path, hint=MEND)
    names = distinct_names([s.name for s in found])
    return _numbered([replace(s, name=name) for s, name in zip(found, names, strict=True)])


def _dtype(segments: Sequence[Segment], path: Path) -> np.dtype[np.integer[Any]]:
    return smallest_dtype(np.array([0, *(s.value for s in segments)]), path)


def _numbered(segments: Sequence[Segment]) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Segments whose values differ."""
    if len({s.stored for s in segments}) == len(segments):
        return tuple(segments), ()
    numbered = tuple(replace(s, value=n) for n, s in enumerate(segments, start=1))
    listed = ", ".join(f"{s.value} {s.name}" for s in numbered)
    return numbered, (f"Segments of several layers share label values, and were numbered: {listed}.",)


def _stated(path: Path) -> dict[int, dict[str, str]]:
    """What the header says of each segment, by its number."""
    fields = {_text(key): _text(value[1:]) for key, value in _pairs(nrrd.fields_of(path))}
    source = next((fields[key] for key in SOURCES if fields.get(key)), BINARY)
    if source != BINARY:
        raise InputError(
            f"stores the segments as {printable(source)[:LONGEST_NAME]!r}, not as a {BINARY.lower()}",
            source=path,
            hint="save it from 3D Slicer with the representation Binary labelmap",
        )
    found: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := FIELD.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    return dict(sorted(found.items()))


def _pairs(fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Lines of the form `key:=value`; the others are fields of the format itself."""
    return ((key, value) for key, value in fields.items() if value.startswith("="))


def _text(stored: str) -> str:
    """Header text, which was decoded as Latin-1, as what it is: UTF-8 if it can be, unescaped."""
    with suppress(UnicodeDecodeError):
        stored = stored.encode("latin-1").decode("utf-8")
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], stored)


def _number(fields: Mapping[str, str], key: str, default: int, number: int, path: Path) -> int:
    text = fields.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise InputError(
            f"its segment {number} has the {key} {printable(text)[:LONGEST_NAME]!r}, which is not a number",
            source=path,
            hint=MEND,
        )
    return int(text)


def _colour(text: str) -> str:
    """Three shares of red, green and blue as `#rrggbb`; empty where they are none."""
    try:
        shares = [float(word) for word in text.split()]
    except ValueError:
        return ""
    if len(shares) != 3 or not all(0.0 <= share <= 1.0 for share in shares):
        return ""
    return "#" + "".join(f"{round(255 * share):02x}" for share in shares)


def tidy_name(text: str) -> str:
    """A name on one line, of a length that fits a table."""
    return printable(" ".join(text.split()))[:LONGEST_NAME].strip()


def distinct_names(names: Sequence[str]) -> list[str]:
    """Names that all differ: a number is added to one that came before.

    >>> distinct_names(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    found: list[str] = []
    for name in names:
        copies = (f"{name} ({n})" for n in range(2, len(names) + 2))
        found.append(name if name not in found else next(c for c in copies if c not in found))
    return found


def _require_known(layers: NDArray[np.integer], segments: Sequence[Segment], path: Path) -> None:
    """Refuse a voxel that no segment has: it would be lost."""
    for n, layer in enumerate(layers):
        stored = {s.stored for s in segments if s.layer == n} | {0}
        strange = {value: count for value, count in value_counts(layer).items() if value not in stored}
        if strange:
            value, count = next(iter(strange.items()))
            raise InputError(
                f"{counted(count, 'voxel')} of layer {n} {plural(count, 'holds', 'hold')} {value}, "
                "which no segment declares",
                source=path,
                hint=MEND,
            )
