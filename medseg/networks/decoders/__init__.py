"""Decoders by name: maps in, logits out, at the resolution that `stride` tells."""

from __future__ import annotations

from torch import nn

from medseg.networks.decoders.addition import Addition
from medseg.networks.decoders.concatenation import Concatenation, Ternaus
from medseg.networks.decoders.low_level import LowLevel
from medseg.networks.decoders.pyramid_sum import PyramidSum
from medseg.networks.decoders.refinement import Refinement
from medseg.networks.decoders.score import LastMap, Score
from medseg.networks.decoders.score_sum import ScoreSum
from medseg.networks.decoders.unpooling import Unpooling

DECODERS: dict[str, type[nn.Module]] = {
    "score": Score,
    "last_map": LastMap,
    "score_sum": ScoreSum,
    "unpooling": Unpooling,
    "concatenation": Concatenation,
    "ternaus": Ternaus,
    "addition": Addition,
    "low_level": LowLevel,
    "pyramid_sum": PyramidSum,
    "refinement": Refinement,
}
