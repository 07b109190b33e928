"""Published networks as combinations of parts: each row names an encoder, a neck, a context and a decoder.

What a row leaves out is the parts' own default, which is the paper's in two dimensions. In three, an
encoder's stem
is the volume's unless `stem = "paper"`, and dilation fits the maps of a volume. See docs/networks.md.
"""

from __future__ import annotations

from medseg.networks.composed import Composed, Row


def _network(paper: str, row: Row) -> type[Composed]:
    """A class of networks of this row."""
    return type("Composed", (Composed,), {"__doc__": f"{paper}.\n\n{Composed.__doc__}", "row": row})


fcn32s = _network(
    "FCN-32s (arXiv:1411.4038)",
    Row("vgg16", context="fully_connected", decoder="score_sum", norm="none", settings={"skips": 0}),
)
fcn16s = _network(
    "FCN-16s (arXiv:1411.4038)",
    Row("vgg16", context="fully_connected", decoder="score_sum", norm="none", settings={"skips": 1}),
)
fcn8s = _network(
    "FCN-8s (arXiv:1411.4038)",
    Row("vgg16", context="fully_connected", decoder="score_sum", norm="none", settings={"skips": 2}),
)
deconvnet = _network(
    "DeconvNet (arXiv:1505.04366)",
    Row(
        "vgg16",
        context="fully_connected",
        decoder="unpooling",
        settings={"back": 512, "dropout": 0.0, "transposed": True},
    ),
)
segnet = _network("SegNet (arXiv:1511.00561)", Row("vgg16", decoder="unpooling"))
ternausnet = _network("TernausNet (arXiv:1801.05746)", Row("vgg11", decoder="ternaus", norm="none"))
unet_encoder = _network("U-Net on an encoder", Row("resnet34", decoder="concatenation"))
linknet = _network("LinkNet (arXiv:1707.03718)", Row("resnet18", decoder="addition"))
sharpmask = _network("SharpMask (arXiv:1603.08695)", Row("resnet50", decoder="refinement"))
deeplabv1 = _network(
    "DeepLab v1 (arXiv:1412.7062), without its CRF",
    Row("vgg16", context="large_field_of_view", norm="none", output_stride=8, settings={"pool": 3}),
)
deeplabv2 = _network(
    "DeepLab v2 (arXiv:1606.00915), without its CRF",
    Row("resnet101", context="atrous_sum", decoder="last_map", output_stride=8),
)
deeplabv3 = _network(
    "DeepLab v3 (arXiv:1706.05587)",
    Row("resnet50", context="atrous_pyramid", output_stride=16, settings={"share": 1}),
)
deeplabv3plus = _network(
    "DeepLab v3+ (arXiv:1802.02611)",
    Row("resnet50", context="atrous_pyramid", decoder="low_level", output_stride=16),
)
pspnet = _network(
    "PSPNet (arXiv:1612.01105)",
    Row("resnet50", context="pyramid_pooling", output_stride=8, settings={"share": 8}),
)
danet = _network("DANet (arXiv:1809.02983)", Row("resnet101", context="dual_attention", output_stride=8))
mssa = _network(
    "MSSA-style (arXiv:2007.12685)",
    Row("resnet50", neck="scale_attention", decoder="pyramid_sum", output_stride=8),
)
fastfcn = _network("FastFCN (arXiv:1903.11816)", Row("resnet50", neck="joint_pyramid", settings={"share": 4}))
gcn = _network(
    "GCN (arXiv:1703.02719)",
    Row("resnet152", neck="global_convolution", decoder="score_sum", settings={"skips": 3, "refined": True}),
)
fpn = _network(
    "FPN (arXiv:1612.03144) with the semantic branch of Panoptic FPN (arXiv:1901.02446)",
    Row("resnet50", neck="feature_pyramid", decoder="pyramid_sum"),
)
hrnet = _network(
    "HRNetV2 (arXiv:1904.04514)",
    Row("hrnet48", neck="stack", settings={"share": 1, "score_kernel": 1, "score_dropout": 0.0}),
)
hrnet_ocr = _network(
    "HRNetV2 with object context (arXiv:1909.11065)", Row("hrnet48", neck="stack", context="object_context")
)
spinenet_fpn = _network(
    "SpineNet (arXiv:1912.05027) with the semantic branch of Panoptic FPN (arXiv:1901.02446)",
    Row("spinenet49", decoder="pyramid_sum"),
)
