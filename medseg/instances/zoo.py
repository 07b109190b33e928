"""Published networks that find objects: each row names its heads, see docs/networks.md.

What a row leaves out is the paper's in two dimensions. All have a feature pyramid and give a label map beside
their objects. Those that find boxes alone take an object's mask from it.
"""

from __future__ import annotations

from functools import partial

from medseg.instances.detector import Detector, Row
from medseg.instances.fcis import InsideOutside
from medseg.instances.fcos import PointFinder
from medseg.instances.mask_rcnn import PooledRegions
from medseg.instances.mask_x import TransferredMasks
from medseg.instances.panet import AllLevels
from medseg.instances.regions import RegionFinder
from medseg.instances.retinanet import FocalAnchors
from medseg.instances.rfcn import VotingRegions
from medseg.instances.ssd import LevelAnchors
from medseg.instances.upsnet import PanopticFinder
from medseg.instances.yolo import Cells


def _network(paper: str, row: Row) -> type[Detector]:
    """A class of networks of this row."""
    return type("Detector", (Detector,), {"__doc__": f"{paper}.\n\n{Detector.__doc__}", "row": row})


retinanet = _network("RetinaNet (arXiv:1708.02002)", Row(FocalAnchors))
fcos = _network("FCOS (arXiv:1904.01355)", Row(PointFinder))
yolo = _network("YOLO (arXiv:1612.08242, arXiv:1804.02767) on a pyramid's map", Row(Cells))
ssd = _network("SSD (arXiv:1512.02325) on a pyramid", Row(LevelAnchors))
faster_rcnn = _network(
    "Faster R-CNN (arXiv:1506.01497) on a pyramid (arXiv:1612.03144)",
    Row(RegionFinder, partial(PooledRegions, masked=False)),
)
rfcn = _network("R-FCN (arXiv:1605.06409)", Row(partial(RegionFinder, hardest=True), VotingRegions))
mask_rcnn = _network(
    "Mask R-CNN (arXiv:1703.06870)", Row(RegionFinder, partial(PooledRegions, masked=True), "score")
)
mask_x = _network("Mask^X R-CNN (arXiv:1711.10370)", Row(RegionFinder, TransferredMasks, "score"))
fcis = _network("FCIS (arXiv:1611.07709)", Row(partial(RegionFinder, hardest=True), InsideOutside, "score"))
panet = _network("PANet (arXiv:1803.01534)", Row(RegionFinder, AllLevels, "score", bottom_up=True))
blendmask = _network(
    "BlendMask (arXiv:2001.00309) on FCOS (arXiv:1904.01355)", Row(partial(PointFinder, mixture=True))
)
upsnet = _network(
    "UPSNet (arXiv:1901.03784)", Row(PanopticFinder, partial(PooledRegions, masked=True), "stack")
)
panoptic_fpn = _network(
    "Panoptic FPN (arXiv:1901.02446)", Row(RegionFinder, partial(PooledRegions, masked=True))
)
