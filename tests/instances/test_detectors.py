"""Networks that find objects, each of the table: built, taught, asked; their sizes are the papers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg import metrics
from medseg.core.errors import UsageError
from medseg.data.phantom.touching import touching_case
from medseg.instances import zoo
from medseg.instances.choice import Choice
from medseg.instances.detecting import Lesson
from medseg.instances.detector import Detector
from medseg.instances.heads import DenseHead
from medseg.instances.objects import coded, indices_of, objects_of
from medseg.model.spec import DETECTORS
from medseg.networks.parts import Style
from medseg.networks.registry import create

SMALL: dict[str, dict[str, Any]] = {
    "retinanet": {"depth": 1},
    "fcos": {"depth": 1},
    "yolo": {"depth": 1},
    "ssd": {},
    "faster_rcnn": {"hidden": 16},
    "rfcn": {},
    "mask_rcnn": {"hidden": 16, "convs": 1},
    "mask_x": {"hidden": 16, "convs": 1},
    "fcis": {},
    "panet": {"hidden": 16},
    "blendmask": {"depth": 1},
    "upsnet": {"hidden": 16, "convs": 1},
    "panoptic_fpn": {"hidden": 16, "convs": 1},
}


def small(name: str, dims: int, **more: Any) -> Detector:
    options = {"encoder": "resnet18", "width": 8, "stem": "volume", **SMALL[name], **more}
    found = create(name, 1, 3, spatial_dims=dims, widths=(4, 4, 8, 8), options=options)  # type: ignore[arg-type]
    assert isinstance(found, Detector)
    return found


def lesson_of(dims: int) -> tuple[Tensor, Lesson]:
    """A patch of bodies that touch, and what it teaches."""
    volume, labels = touching_case(np.random.default_rng(0), (32, 32, 32))
    assert labels.numbers is not None
    cut = (slice(None),) * dims + (16,) * (3 - dims)
    image = torch.from_numpy(np.asarray(volume.array)[0][cut].copy())[None, None]
    codes = torch.from_numpy(coded(labels.array[cut], labels.numbers[cut]))[None]
    return image, Lesson(codes, [objects_of(codes[0], {})])


def test_the_table_is_whole() -> None:
    assert set(SMALL) == set(DETECTORS)
    rows = {name for name, value in vars(zoo).items() if isinstance(value, type) and value is not Detector}
    assert {name for name in rows if issubclass(getattr(zoo, name), Detector)} == set(DETECTORS)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", DETECTORS)
def test_every_part_learns(name: str, dims: int) -> None:
    torch.manual_seed(0)
    image, lesson = lesson_of(dims)
    network = small(name, dims)
    logits, loss = network.taught(image, lesson)
    assert logits.shape == (1, 3, *image.shape[2:])
    (loss + logits.square().mean()).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # no object of the patch is as large as the boxes of SSD's coarser levels, which are each by themselves
    allowed = {f"finder.heads.{n}.{part}.weight" for n in (1, 2) for part in ("scores", "boxes")}
    assert {n for n in silent if "bias" not in n} <= allowed
    network.eval()
    (found,) = network.found(image, Choice(least=0.0, most=3))
    assert 0 < len(found) <= 3
    for one in found:
        assert one.label in (0, 1)
        assert 0 <= one.score <= 1
        assert one.mask.ndim == dims
        assert 0 <= float(one.mask.min()) <= float(one.mask.max()) <= 1.0001
        low, high = one.box.chunk(2)
        assert (low >= 0).all()
        assert (high <= 32).all()
        assert (high > low).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_patch_without_objects_teaches_background_alone(name: str) -> None:
    image, lesson = lesson_of(2)
    codes = torch.zeros_like(lesson.codes)
    network = small(name, 2)
    _, loss = network.taught(image, Lesson(codes, [objects_of(codes[0], {})]))
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(UsageError, match="fcos has no option hiden"):
        create("fcos", 1, 2, options={"hiden": 3})
    with pytest.raises(UsageError, match="no setting 'convs'"):
        zoo.fcos(3, 1, 2, convs=3)


def count(module: nn.Module, *, norms: bool = True) -> int:
    """Weights of a module, with or without those of its norms."""
    own = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for p in module.parameters()) - (
        0 if norms else sum(p.numel() for m in own for p in m.parameters())
    )


TORCHVISION = {
    # torchvision counts neither the frozen norms of the encoder nor has it the label map's branch;
    # anchors of three aspects, 91 classes with the background.
    "faster_rcnn": (41_755_286, {"levels": 4}),
    "mask_rcnn": (44_401_393, {"levels": 4}),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_sizes_are_those_of_torchvision(name: str) -> None:
    wanted, options = TORCHVISION[name]
    with torch.device("meta"):
        network = create(name, 3, 91, spatial_dims=2, options=options)
    assert isinstance(network, Detector)
    finder: Any = network.finder
    background = 257 if finder.regions.masked else 0  # torchvision's masks have one of the background
    parts = count(network.encoder, norms=False) + count(network.neck) + count(finder)
    assert parts + background == wanted


def test_mask_rcnn_of_the_second_version_has_its_size() -> None:
    with torch.device("meta"):
        network = create(
            "mask_rcnn", 3, 91, spatial_dims=2, options={"levels": 4, "depth": 2, "box_convs": 4}
        )
    assert isinstance(network, Detector)
    # its pyramid and heads have norms in place of biases: 8, 4 and 4 layers of 256 channels
    norms = (8 + 4 + 4) * 256
    found = count(network.encoder) + count(network.neck) + count(network.finder)  # type: ignore[arg-type]
    assert found + 257 + norms == 46_359_409


def test_the_heads_of_one_stage_have_the_papers_sizes() -> None:
    style = Style(2, "none")
    assert count(DenseHead(style, 256, 91, anchors=9)) == 6_691_415  # torchvision's RetinaNet
    assert count(DenseHead(style, 256, 1, anchors=3, depth=1, shared=True)) == 593_935  # its proposals


def test_the_transfer_of_mask_x_has_the_papers_size() -> None:
    with torch.device("meta"):
        network = create("mask_x", 3, 81, spatial_dims=2)
    assert isinstance(network, Detector)
    finder: Any = network.finder
    assert count(finder.regions.transfer) == 1_376_768


def batch() -> tuple[Tensor, Lesson]:
    """Four slices of bodies that touch."""
    images, codes = [], []
    for n in range(4):
        volume, labels = touching_case(np.random.default_rng([1, n]))
        bodies = labels.numbers
        assert bodies is not None
        k = max(range(48), key=lambda k: len(np.unique(bodies[:, :, k])))
        images.append(np.asarray(volume.array)[:, :, :, k])
        codes.append(coded(labels.array[:, :, k], bodies[:, :, k]))
    learnt = torch.from_numpy(np.stack(codes))
    lesson = Lesson(learnt, [objects_of(one, {}) for one in learnt])
    return torch.from_numpy(np.stack(images)), lesson


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_small_network_learns_slices_by_heart(name: str) -> None:
    torch.manual_seed(0)
    image, lesson = batch()
    options = {"encoder": "resnet18", "width": 16, "stem": "volume", **SMALL[name]}
    options |= {"levels": 4} | ({"hidden": 64} if "hidden" in SMALL[name] else {})
    network = create(name, 1, 3, spatial_dims=2, widths=(8, 16, 16, 16), options=options)
    assert isinstance(network, Detector)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(200):
        logits, loss = network.taught(image, lesson)
        loss = loss + nn.functional.cross_entropy(logits, indices_of(lesson.codes).long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    network.eval()
    cases = []
    for own, objects in zip(network.found(image, Choice()), lesson.objects, strict=True):
        given = torch.stack([one.box for one in own]).tolist() if own else []
        cases.append(
            metrics.CaseDetections.of_boxes(given, [one.score for one in own], objects.boxes.tolist())
        )
    assert metrics.average_precision(cases, least_overlap=0.5) > 0.8
