"""Contexts by name: the deepest map in, one map out, which has seen more of the image."""

from __future__ import annotations

from torch import nn

from medseg.networks.contexts.atrous import AtrousPyramid, AtrousSum, LargeFieldOfView
from medseg.networks.contexts.dual_attention import DualAttention
from medseg.networks.contexts.fully_connected import FullyConnected
from medseg.networks.contexts.object_context import ObjectContext
from medseg.networks.contexts.pooled import PyramidPooling

CONTEXTS: dict[str, type[nn.Module]] = {
    "fully_connected": FullyConnected,
    "large_field_of_view": LargeFieldOfView,
    "atrous_sum": AtrousSum,
    "atrous_pyramid": AtrousPyramid,
    "pyramid_pooling": PyramidPooling,
    "dual_attention": DualAttention,
    "object_context": ObjectContext,
}
