"""medseg: 3D medical volumetric segmentation.

    import medseg

    result = medseg.load("brain")("scan.nii.gz")
    medseg.write("labels.nii.gz", result.labels)

Verbs: `load`, `read`, `write`, `predict`, `train`, `evaluate`, `compare`, `report`, `refine`, `partition`.
Rooms to build with: `losses`, `networks`, `augment`, `metrics`. What these names list in `__all__` is public;
every other module is private, and may change.

The names are imported when they are first used, so that `import medseg` is quick.
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg import augment, losses, metrics, networks
    from medseg.api.classical import partition, refine
    from medseg.api.comparing import compare
    from medseg.api.evaluating import evaluate
    from medseg.api.files import read, write
    from medseg.api.load import load
    from medseg.api.predicting import predict
    from medseg.api.reporting import report
    from medseg.api.training import train
    from medseg.core.errors import MedsegError
    from medseg.core.volume import Grid, LabelMap, Volume

__version__ = "0.1.0"
__all__ = [
    "Grid",
    "LabelMap",
    "MedsegError",
    "Volume",
    "__version__",
    "augment",
    "compare",
    "evaluate",
    "load",
    "losses",
    "metrics",
    "networks",
    "partition",
    "predict",
    "read",
    "refine",
    "report",
    "train",
    "write",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Grid": "medseg.core.volume",
        "LabelMap": "medseg.core.volume",
        "MedsegError": "medseg.core.errors",
        "Volume": "medseg.core.volume",
        "augment": "medseg.augment",
        "compare": "medseg.api.comparing",
        "evaluate": "medseg.api.evaluating",
        "load": "medseg.api.load",
        "losses": "medseg.losses",
        "metrics": "medseg.metrics",
        "networks": "medseg.networks",
        "partition": "medseg.api.classical",
        "predict": "medseg.api.predicting",
        "read": "medseg.api.files",
        "refine": "medseg.api.classical",
        "report": "medseg.api.reporting",
        "train": "medseg.api.training",
        "write": "medseg.api.files",
    },
)
