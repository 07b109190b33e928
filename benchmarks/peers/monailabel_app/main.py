"""MONAI Label (0.8.5) with the network of the packaged hippocampus model, as torch has it.

    python benchmarks/peers/monailabel_trace.py benchmarks/peers/monailabel_app/network.ts
    monailabel start_server --app benchmarks/peers/monailabel_app --studies FOLDER --port 8000

The second command is of an environment of its own, which needs `pydicom<3`, `dicomweb-client<0.60` and
`pynetdicom<3` beside monailabel. It looks once at a scan, where our model looks at its mirror image too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.transform.post import Restored

LABELS = {"anterior": 1, "posterior": 2}
TILE = (40, 56, 40)


class Infer(BasicInferTask):
    def __init__(self, path: Path) -> None:
        about = {"type": "segmentation", "labels": LABELS, "dimension": 3, "description": "hippocampus"}
        super().__init__(str(path), None, **about)

    def pre_transforms(self, data: Any = None) -> list[Any]:
        return [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS"),
            NormalizeIntensityd("image"),
        ]

    def inferer(self, data: Any = None) -> Any:
        return SlidingWindowInferer(roi_size=TILE, overlap=0.5, mode="gaussian")

    def post_transforms(self, data: Any = None) -> list[Any]:
        return [
            Activationsd("pred", softmax=True),
            AsDiscreted("pred", argmax=True),
            Restored("pred", "image"),
        ]


class App(MONAILabelApp):
    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(app_dir=app_dir, studies=studies, conf=conf, name="hippocampus")

    def init_infers(self) -> dict[str, Any]:
        return {"hippocampus": Infer(Path(__file__).with_name("network.ts"))}
