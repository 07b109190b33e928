"""Checks of a label map: absent or cut structures, components, exchanged sides, implausible volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core import affine as aff
from medseg.core.boxes import centroid, profiles, union
from medseg.core.components import components
from medseg.core.errors import counted, listed, plural
from medseg.core.numbers import millilitres
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import Grid
from medseg.findings.finding import Finding, sentence

VOLUME_SLACK = 1.6
"""How many times beyond the volumes of the training cases a structure's volume is doubted.

Experts' labels of scans outside the training say how rare such volumes are where nothing is wrong. Against
the ranges of the packaged brain model (18 heads), two of thirteen heads have a structure beyond this limit,
and six have one beyond 1.25; against the ranges of twenty hippocampi, none of 188 others has one, and one in
200 has one beyond 1.25. A doubt withholds every interval, so it must be rare."""

UNLIKE_SHARE = 1 / 3
"""Share of structures with an unlikely volume beyond which the scan itself is unlike the training."""

COMPONENT_SHARE = 0.05
"""A connected component with a smaller share of its structure is a speck, and does not count."""

NOTHING_FOUND = Finding("nothing_found", "doubt", "The model labelled no voxels in this scan.")

EDGE_OF_MANY = "reach the edge of the scan; parts of them"

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Expected:
    """What the label maps of the training data were like.

    Attributes:
        volumes_ml: smallest and largest volume of a structure, by name.
        components: largest number of components of a structure without specks, by name; 1 by default.
        training: what the sentences call the training data, with the name of the model.
    """

    volumes_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    components: Mapping[str, float] = field(default_factory=dict)
    training: str = "the training data"


def check_label_map(
    labels: Labels,
    grid: Grid,
    structures: StructureSet,
    expected: Expected | None = None,
    *,
    orientation_known: bool = True,
) -> tuple[Finding, ...]:
    """All findings about a label map.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are.
        structures: what the values mean.
        expected: what the training showed; without it, volumes are not checked.
        orientation_known: False leaves out the check of left and right.
    """
    expected = expected or Expected()
    count = value_counts(labels)
    strange = values_without_structure(count, structures)
    volumes = structures.volumes_ml(count, grid)
    if not any(volumes.values()):
        return (_nothing_found(structures), *strange)
    sides = exchanged_sides(labels, grid, structures) if orientation_known else ()
    return (
        *_about_volumes(volumes, structures.at_edge(labels), expected),
        *sides,
        *_components(labels, structures, expected.components),
        *strange,
    )


def _nothing_found(structures: StructureSet) -> Finding:
    """A doubt; where only lesions are looked for, which a healthy patient has none of, a note."""
    if structures.names != structures.lesions:
        return NOTHING_FOUND
    text = f"The model found no {' or '.join(structures.names)} in this scan."
    return Finding("nothing_found", "note", text, structures.names)


def values_without_structure(count: Mapping[int, int], structures: StructureSet) -> tuple[Finding, ...]:
    """A doubt about values that no structure has, by how many voxels have each; none where there are none."""
    known = set(structures.known_values) | set(structures.values)
    strange = {value: n for value, n in count.items() if value not in known}
    if not strange:
        return ()
    said = listed([str(v) for v in strange], lambda v: counted(strange[int(v)], "voxel"))
    text = f"The label map contains values without a structure, which are left out here: {said}."
    voxels = {str(v): n for v, n in strange.items()}
    return (Finding("unknown_values", "doubt", text, evidence={"voxels": voxels}),)


def _about_volumes(
    volumes: Mapping[str, float], edge: frozenset[str], expected: Expected
) -> Iterator[Finding]:
    """Absent, small, large and cut structures; each structure is in one finding."""
    ranges = {name: expected.volumes_ml[name] for name in volumes if name in expected.volumes_ml}
    small = {n: volumes[n] / low for n, (low, _) in ranges.items() if volumes[n] * VOLUME_SLACK < low}
    large = {n: volumes[n] / high for n, (_, high) in ranges.items() if volumes[n] > VOLUME_SLACK * high}
    unlikely = len(small) + len(large)
    if unlikely > UNLIKE_SHARE * len(ranges):
        yield Finding(
            "unlike_training",
            "doubt",
            f"{unlikely} of {counted(len(ranges), 'structure')} {plural(unlikely, 'has', 'have')} a volume "
            f"outside the range of {expected.training}, so the scan is probably unlike them.",
            limit=round(UNLIKE_SHARE, 4),
            evidence={"structures": len(ranges), "implausible": unlikely},
        )
    lost = [name for name in small if not volumes[name]]
    cut = sorted((n for n in small if volumes[n] and n in edge), key=small.__getitem__)
    tiny = sorted((n for n in small if volumes[n] and n not in edge), key=small.__getitem__)
    great = sorted(large, key=large.__getitem__, reverse=True)
    than = f"{{}} than any in {expected.training} by a factor of more than {VOLUME_SLACK}"
    if lost:
        yield _unlikely(
            "not_found",
            lost,
            f"The model labelled no voxels as {listed(lost)}, found in {expected.training}.",
            volumes,
            ranges,
        )
    for code, names, said in (
        ("cut_short", cut, f"cut by the edge of the scan and {than.format('smaller')}"),
        ("small_volume", tiny, than.format("smaller")),
        ("large_volume", great, than.format("larger")),
    ):
        if names:
            verb = plural(len(names), "is", "are")
            text = f"{listed(names, partial(_against, volumes, ranges))} {verb} {said}."
            yield _unlikely(code, names, sentence(text), volumes, ranges)
    absent = tuple(n for n, ml in volumes.items() if not ml and n not in small)
    if absent:
        yield Finding("absent", "note", f"The model labelled no voxels as {listed(absent)}.", absent)
    whole = tuple(n for n in volumes if n in edge and n not in cut)
    if whole:
        reach = "reaches the edge of the scan; part of it" if len(whole) == 1 else EDGE_OF_MANY
        yield Finding("at_edge", "note", sentence(f"{listed(whole)} {reach} may lie outside"), whole)


def _unlikely(
    code: str,
    names: Sequence[str],
    text: str,
    volumes: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
) -> Finding:
    """One finding about all structures whose volume is unlikely in one way."""
    return Finding(
        code,
        "doubt",
        text,
        tuple(names),
        VOLUME_SLACK,
        {
            "volume_ml": {name: round(volumes[name], 6) for name in names},
            "training_ml": {name: list(ranges[name]) for name in names},
        },
    )


def _against(volumes: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], name: str) -> str:
    low, high = ranges[name]
    return f"{millilitres(volumes[name])} ml against {millilitres(low)} to {millilitres(high)} ml"


def _components(labels: Labels, structures: StructureSet, most: Mapping[str, float]) -> Iterator[Finding]:
    """Structures with more components than in the training data, specks left out."""
    every = component_sizes(labels, structures)
    found = {name: sizes for name, sizes in every.items() if _counted(sizes) > most.get(name, 1)}
    if not found:
        return

    def said(name: str, joint: str = "connected components") -> str:
        share = min(100 * found[name].max() / found[name].sum(), 99.9)
        return f"{len(found[name])} {joint}; the largest holds {share:.1f} % of it"

    names = tuple(found)
    text = f"{listed(names, lambda n: said(n, 'components'))} have several connected components."
    yield Finding(
        "pieces",
        "note",
        sentence(f"{names[0]} has {said(names[0])}." if len(names) == 1 else text),
        names,
        evidence={
            "pieces": {name: len(sizes) for name, sizes in found.items()},
            "pieces_without_specks": {name: _counted(sizes) for name, sizes in found.items()},
            "at_most": {name: most.get(name, 1) for name in found},
        },
    )


def component_counts(labels: Labels, structures: StructureSet) -> dict[str, int]:
    """Number of components of each labelled structure, specks left out.

    >>> from medseg.core.structures import from_labels
    >>> component_counts(np.array([1, 0, 1, 1], np.uint8)[:, None, None], from_labels({1: "core", 2: "rim"}))
    {'core': 2}
    """
    return {name: _counted(sizes) for name, sizes in component_sizes(labels, structures).items()}


def component_sizes(labels: Labels, structures: StructureSet) -> dict[str, NDArray[np.integer[Any]]]:
    """Voxels of each connected component of each labelled structure, by name.

    Those of all values are found in one pass; of a structure of several values, those of their union.
    """
    boxes = structures.boxes(labels)
    if not boxes:
        return {}
    around = labels[union(boxes.values())]
    pieces = components(around).ravel()
    sizes = np.bincount(pieces)
    value_of = np.zeros(len(sizes), labels.dtype)
    value_of[pieces] = around.ravel()
    found: dict[str, NDArray[np.integer[Any]]] = {}
    for name, box in boxes.items():
        if structures[name].members:
            found[name] = np.bincount(components(structures.mask(labels[box], structures[name])).ravel())[1:]
        else:
            found[name] = sizes[1:][value_of[1:] == structures[name].value]
    return found


def _counted(sizes: NDArray[np.integer[Any]]) -> int:
    return int(np.count_nonzero(sizes >= COMPONENT_SHARE * sizes.sum()))


def exchanged_sides(labels: Labels, grid: Grid, structures: StructureSet) -> tuple[Finding, ...]:
    """A doubt about twins whose centres lie the wrong way round; none where all lie as they should.

    The centre of a left structure has the smaller world x.

    Args:
        labels: label values, (I, J, K).
        grid: where the voxels are; its orientation must be known.
        structures: what the values mean.
    """
    if not any(s.twin for s in structures):
        return ()
    right_mm = dict(_places_right(labels, grid, structures))
    wrong = [
        (s.name, s.twin)
        for s in structures
        if s.side == "left" and s.twin in right_mm and right_mm.get(s.name, -np.inf) >= right_mm[s.twin]
    ]
    if not wrong:
        return ()
    left, right = wrong[0]
    more = f", and so do those of {counted(len(wrong) - 1, 'more pair')}" if len(wrong) > 1 else ""
    found = Finding(
        "sides_exchanged",
        "doubt",
        f"The centre of {left} lies to the right of the centre of {right}{more}: "
        "left and right may be exchanged.",
        tuple(name for pair in wrong for name in pair),
        evidence={"right_mm": {name: round(right_mm[name], 2) for pair in wrong for name in pair}},
    )
    return (found,)


def _places_right(labels: Labels, grid: Grid, structures: StructureSet) -> Iterator[tuple[str, float]]:
    """How far to the patient's right, in world mm, the centre of each structure with a twin lies."""
    for name, box in structures.boxes(labels).items():
        if structures[name].twin is None:
            continue
        inside = centroid(profiles(structures.mask(labels[box], structures[name])))
        middle = [s.start + at for s, at in zip(box, inside, strict=True)]
        yield name, float(aff.apply(grid.affine, middle)[0])
