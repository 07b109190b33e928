"""Necks by name: maps in, maps out."""

from __future__ import annotations

from torch import nn

from medseg.networks.necks.feature_pyramid import FeaturePyramid
from medseg.networks.necks.global_convolution import GlobalConvolution
from medseg.networks.necks.joint_pyramid import JointPyramid
from medseg.networks.necks.scale_attention import ScaleAttention
from medseg.networks.necks.stack import Stack

NECKS: dict[str, type[nn.Module]] = {
    "feature_pyramid": FeaturePyramid,
    "joint_pyramid": JointPyramid,
    "global_convolution": GlobalConvolution,
    "scale_attention": ScaleAttention,
    "stack": Stack,
}
