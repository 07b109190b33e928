"""UPSNet: one softmax over the background and every object tells whose each voxel is.

Xiong et al. 2019, arXiv:1901.03784, section 3.2. Its deformable convolutions, which torch has not, are plain
ones here; its stuff is the background.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medseg.instances.blendmask import MODES
from medseg.instances.choice import Found
from medseg.instances.detecting import Instance, Lesson, Outputs
from medseg.instances.pooling import paste, roi_align
from medseg.instances.regions import RegionFinder, on_map, patch_of

UNKNOWN = 0.3
"""Share of the objects that a step takes for unknown, so that the unknown is learnt too (section 3.2)."""


class PanopticFinder(RegionFinder):
    """Proposals and masks of boxes as Mask R-CNN has them, and a softmax over all of them; see the module.

    Args:
        style, pyramid, classes, regions, levels, depth, head_norm, matching, proposed, bins: see
            `RegionFinder`.
    """

    def teach(self, outputs: Outputs, lesson: Lesson) -> Tensor:
        """The losses of both stages, and the cross-entropy of whose each voxel is."""
        whose = [self._whose(outputs, n, lesson) for n in range(len(lesson.objects))]
        return super().teach(outputs, lesson) + torch.stack(whose).mean()

    def _whose(self, outputs: Outputs, n: int, lesson: Lesson) -> Tensor:
        """Of one patch; objects that are cut, or drawn for unknown, are wanted as unknown."""
        objects, known = lesson.objects[n], torch.rand(len(lesson.objects[n])) >= UNKNOWN
        own = torch.nonzero(known & objects.whole).flatten()
        device = outputs.semantic.device
        boxes, classes = objects.boxes[own].to(device), objects.classes[own].to(device)
        logits = self._logits(outputs, n, boxes, classes)
        steps = (slice(None, None, s) for s in self._stride(outputs))
        codes = lesson.codes[n][tuple(steps)]
        wanted = torch.where(torch.isin(codes, objects.codes.to(codes.device)), len(logits) - 1, 0)
        for number, code in enumerate(objects.codes[own].tolist(), start=1):
            wanted[codes == code] = number
        return functional.cross_entropy(logits[None], wanted[None])

    def masked(self, outputs: Outputs, n: int, found: Found) -> list[Instance]:
        """The objects of patch n; a mask is what the softmax gives an object."""
        if not len(found.scores):
            return []
        whose = torch.softmax(self._logits(outputs, n, found.boxes, found.classes), dim=0)
        sides = (self.labels.bins,) * self.axes
        boxes, stride, rows = found.boxes, self._stride(outputs), []
        for number, (box, label, score) in enumerate(
            zip(boxes, found.classes.tolist(), found.scores.tolist(), strict=True), start=1
        ):
            mask = roi_align(whose[number][None], on_map(box[None], stride), sides)[0, 0]
            rows.append(Instance(box, label, score, mask))
        return rows

    def _logits(self, outputs: Outputs, n: int, boxes: Tensor, classes: Tensor) -> Tensor:
        """(1 + R + 1, *S / stride): of the background, each object, and the unknown (figure 3).

        An object's is that of its class within its box plus its mask's; the unknown's is how much higher
        structures are in the label map than the objects within their boxes explain.
        """
        patch, semantic, stride = patch_of(outputs, n), self._at_finest(outputs, n), self._stride(outputs)
        things = semantic[1:].amax(dim=0)
        if not len(boxes):
            return torch.stack((semantic[0], things))
        shape = semantic.shape[1:]
        own = on_map(boxes, stride)
        whole = torch.ones(len(boxes), *(1,) * self.axes, dtype=semantic.dtype, device=semantic.device)
        cropped = semantic[1:][classes] * paste(whole, own, shape)
        masks = paste(self.regions.masks(patch, boxes, classes), own, shape)
        unknown = things - cropped.amax(dim=0)
        return torch.cat((semantic[:1], cropped + masks, unknown[None]))

    def _at_finest(self, outputs: Outputs, n: int) -> Tensor:
        """Logits (K + 1, *S / stride) of the label map on the pyramid's finest grid."""
        size = tuple(outputs.pyramid[0].shape[2:])
        mode = MODES[self.axes]
        return functional.interpolate(outputs.semantic[n : n + 1], size=size, mode=mode)[0]

    def _stride(self, outputs: Outputs) -> tuple[int, ...]:
        """Voxels of a patch per voxel of the pyramid's finest map."""
        return tuple(a // b for a, b in zip(outputs.shape, outputs.pyramid[0].shape[2:], strict=True))
