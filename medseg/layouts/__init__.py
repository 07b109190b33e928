"""How data sets lie on disk: from a folder to cases, and back. One layout a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from medseg.layouts import (
    brats,
    decathlon,
    images,
    label_maps,
    masks,
    nnunet,
    promise12,
    prostatex,
)
from medseg.layouts.case import CaseFiles, DatasetFiles
from medseg.layouts.writing import About, NewCase, Writer

LayoutName = Literal[
    "decathlon", "label_maps", "brats", "promise12", "prostatex", "nnunet", "images", "masks"
]

LAYOUTS = {
    "decathlon": decathlon.read,
    "label_maps": label_maps.read,
    "brats": brats.read,
    "promise12": promise12.read,
    "prostatex": prostatex.read,
    "nnunet": nnunet.read,
    "images": images.read,
    "masks": masks.read,
}

WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "decathlon": decathlon.write,
        "label_maps": label_maps.write,
        "brats": brats.writer(2020),
        "brats2013": brats.writer(2013),
        "brats2020": brats.writer(2020),
        "brats2023": brats.writer(2023),
        "promise12": promise12.write,
        "prostatex": prostatex.write,
        "nnunet": nnunet.write,
        "images": images.writer(),
        "masks": masks.write,
    }
)
"""By layout; BRATS by year too."""

__all__ = ["LAYOUTS", "WRITERS", "About", "CaseFiles", "DatasetFiles", "LayoutName", "NewCase", "Writer"]
