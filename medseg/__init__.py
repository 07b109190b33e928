"""medseg: 3D medical volumetric segmentation.

    import medseg

    scan = medseg.read("scan.nii.gz")
    labels = medseg.load("hippocampus")(scan).labels
    medseg.write("labels.nii.gz", labels)

The names are imported when they are first used, so that `import medseg` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.io import read_volume as read
    from medseg.io import write_labels as write
    from medseg.segmentation.segmenter import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "read", "write"]

_HOMES = {
    "read": ("medseg.io", "read_volume"),
    "write": ("medseg.io", "write_labels"),
    "load": ("medseg.segmentation.segmenter", "load"),
}


def __getattr__(name: str) -> object:
    """One of the public names, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
