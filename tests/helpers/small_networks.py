"""Settings that make each published network small enough for a test."""

from __future__ import annotations

from typing import Any

VGG: dict[str, Any] = {"widths": (4, 4, 8, 8, 8)}
RESNET: dict[str, Any] = {"widths": (4, 4, 8, 8), "encoder": "resnet18"}
HRNET: dict[str, Any] = {"widths": (2, 4, 4, 4), "encoder": "hrnet8", "modules": (1, 1, 1)}
SMALL: dict[str, dict[str, Any]] = {
    "fcn32s": {**VGG, "fc": 8, "fc_kernel": 3},
    "fcn16s": {**VGG, "fc": 8, "fc_kernel": 3},
    "fcn8s": {**VGG, "fc": 8, "fc_kernel": 3},
    "deconvnet": {**VGG, "fc": 8, "fc_kernel": 3, "back": 8},
    "segnet": VGG,
    "ternausnet": VGG,
    "unet_encoder": {**RESNET, "decoder_widths": (8, 4)},
    "linknet": RESNET,
    "sharpmask": {**RESNET, "width": 8, "lateral": 4},
    "deeplabv1": {**VGG, "fc": 8},
    "deeplabv2": RESNET,
    "deeplabv3": {**RESNET, "width": 8},
    "deeplabv3plus": {**RESNET, "width": 8, "low": 4},
    "pspnet": {**RESNET, "share": 2},
    "danet": RESNET,
    "mssa": {**RESNET, "width": 8, "head": 4},
    "fastfcn": {**RESNET, "width": 4},
    "gcn": {**RESNET, "size": 3},
    "fpn": {**RESNET, "width": 8, "head": 4},
    "hrnet": HRNET,
    "hrnet_ocr": {**HRNET, "width": 8, "key": 4},
    "spinenet_fpn": {"widths": (2, 2, 4, 4, 4, 4), "end": 4, "head": 4, "max_level": 5},
    "tiramisu": {"layers": (1, 2, 1), "growth": 4, "first": 4},
    "gridnet": {"widths": (4, 8, 8), "columns": 2},
}
