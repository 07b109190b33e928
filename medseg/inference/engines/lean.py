"""OpenVINO without its converter of other packages' models, until that is asked for.

`import openvino` imports the converter too, which takes long and is needed only to make a graph
from a network. Whoever asks for `openvino.convert_model` gets it all the same.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

CONVERTER = "openvino.tools.ovc"


def without_converter() -> ModuleType:
    """The package, with its converter left out until it is used."""
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    sys.modules[CONVERTER] = None  # type: ignore[assignment]  # which makes its import fail
    try:
        package = import_module("openvino")
    finally:
        del sys.modules[CONVERTER]

    def converter(name: str) -> Any:
        if name != "convert_model":
            raise AttributeError(f"module 'openvino' has no attribute {name!r}")
        package.convert_model = import_module(CONVERTER).convert_model  # type: ignore[attr-defined]
        return package.convert_model

    if not hasattr(package, "convert_model"):
        package.__getattr__ = converter  # type: ignore[method-assign]
    return package


if TYPE_CHECKING:
    import openvino as ov
    from openvino import opset13
else:
    ov = without_converter()
    opset13 = ov.opset13

__all__ = ["opset13", "ov"]
