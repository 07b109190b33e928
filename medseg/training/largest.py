"""Whether to keep only the largest component of a structure, decided on cases that did not train.

As nnU-Net decides it (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), for each structure by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.inference.postprocess import postprocess
from medseg.metrics.counts import joint_counts
from medseg.metrics.overlap import dice
from medseg.model.spec import PostprocessSpec

LEAST_GAIN = 0.001
"""Of the mean Dice, below which nothing is changed."""

FEWEST = 5
"""Cases that a decision needs."""

Gains = Mapping[str, tuple[float, float]]
"""The Dice of each structure of a case, as predicted, and with its largest component alone."""


def gains_of(labels: LabelMap, reference: LabelMap, structures: StructureSet) -> Gains:
    """What it would do to one case; nothing of structures that neither map has."""
    known = reference.labelled
    before = joint_counts(reference.array, labels.array, structures, known)
    found = {}
    for name in structures.names:
        spec = PostprocessSpec(largest_component=(name,))
        kept = postprocess(labels.array, structures, spec, labels.grid)
        after = joint_counts(reference.array, kept, structures, known)[name]
        pair = dice(before[name]), dice(after)
        if not any(map(math.isnan, pair)):
            found[name] = pair
    return found


def improved_by_largest(cases: Sequence[Gains]) -> dict[str, tuple[float, float]]:
    """The structures whose mean Dice rises, with the means before and after.

    >>> improved_by_largest([{"liver": (0.8, 0.9), "tumour": (0.5, 0.4)}] * 5)
    {'liver': (0.8, 0.9)}
    """
    chosen = {}
    for name in dict.fromkeys(name for case in cases for name in case):
        pairs = [case[name] for case in cases if name in case]
        before, after = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        if len(pairs) >= FEWEST and after - before >= LEAST_GAIN:
            chosen[name] = (round(before, 6), round(after, 6))
    return chosen
