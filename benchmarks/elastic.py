"""Elastic deformation of an image and its labels: medseg beside MONAI, TorchIO and batchgeneratorsv2.

    python benchmarks/elastic.py [--size 160] [--rounds 5] [--threads 2]

Every contestant draws its parameters and deforms the same float32 image and uint8 labels, in memory,
image trilinear and labels by the nearest voxel, with displacements of about two voxels (standard
deviation); all but TorchIO's transform rotate and scale as well. They take turns, after one round that
is not counted. The peers' settings are their own fastest for this job. The random laws differ, so that
the outputs cannot be compared voxel by voxel: each is checked to have the input's shape, no new label,
and an image that changed.

Prints one line of JSON; exits with 1 when the ratio of medians exceeds the target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import SimpleITK
import torch
import torch.nn.functional as F
from scipy import ndimage

from medseg.augment.compose import Augmenter
from medseg.augment.spec import AffineSpec, AugmentSpec, ElasticSpec
from medseg.core.structures import from_labels

TARGET = 0.25
PEERS = ("monai", "torchio", "batchgeneratorsv2")
DEGREES, SCALE = 15.0, (0.8, 1.25)

Pair = tuple[torch.Tensor, torch.Tensor]
Contestant = Callable[[], Pair]


def phantom(size: int) -> Pair:
    """A smooth noise image (1, n, n, n) float32, and six labels (n, n, n) uint8 cut from it."""
    noise = np.random.default_rng(0).normal(size=(size, size, size)).astype(np.float32)
    image = ndimage.gaussian_filter(noise, 4.0)
    image /= image.std()
    labels = np.digitize(image, [-1.5, -0.75, 0.0, 0.75, 1.5]).astype(np.uint8)
    return torch.from_numpy(image)[None], torch.from_numpy(labels)


def ours(image: torch.Tensor, labels: torch.Tensor) -> Contestant:
    spec = AugmentSpec(
        ElasticSpec(1.0, spacing_mm=24.0, sigma_mm=(6.0, 6.0)), AffineSpec(1.0, (DEGREES,) * 3, SCALE)
    )
    structures = from_labels({n: f"structure {n}" for n in range(1, 6)})
    augmenter = Augmenter(spec, structures, (1.0, 1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    shape = labels.shape
    centre = [(n - 1) / 2 for n in shape]

    def run() -> Pair:
        params = augmenter.sample(generator, shape)
        patch, cut = augmenter.apply(params, image, labels, centre, shape)
        assert cut is not None
        return patch, cut

    return run


def with_monai(image: torch.Tensor, labels: torch.Tensor) -> Contestant:
    import monai.transforms

    angle = float(np.radians(DEGREES))
    transform = monai.transforms.Rand3DElasticd(
        keys=("image", "labels"),
        sigma_range=(5.0, 8.0),
        magnitude_range=(200.0, 400.0),
        prob=1.0,
        rotate_range=(angle,) * 3,
        scale_range=((SCALE[0] - 1, SCALE[1] - 1),) * 3,
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
        device=image.device,
    ).set_random_state(0)

    def run() -> Pair:
        out = transform({"image": image, "labels": labels[None]})
        return out["image"], out["labels"][0]

    return run


def with_torchio(image: torch.Tensor, labels: torch.Tensor) -> Contestant:
    import torchio

    transform = torchio.RandomElasticDeformation(num_control_points=9, max_displacement=10.0)
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=image), labels=torchio.LabelMap(tensor=labels[None])
    )

    def run() -> Pair:
        out = transform(subject)
        return out["image"].data, out["labels"].data[0]

    return run


def with_batchgeneratorsv2(image: torch.Tensor, labels: torch.Tensor) -> Contestant:
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    angle = float(np.radians(DEGREES))
    transform = SpatialTransform(
        patch_size=tuple(labels.shape),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1.0,
        elastic_deform_scale=(0.08, 0.1),
        elastic_deform_magnitude=(6.0, 8.0),
        p_rotation=1.0,
        rotation=(-angle, angle),
        p_scaling=1.0,
        scaling=SCALE,
        p_synchronize_scaling_across_axes=1.0,
        mode_seg="nearest",
        padding_mode_image="border",
    )
    whole = labels[None].to(torch.int16)

    def run() -> Pair:
        out = transform(image=image, segmentation=whole)
        return out["image"], out["segmentation"][0]

    return run


def two_grid_samples(image: torch.Tensor, labels: torch.Tensor) -> Contestant:
    """For reference: only the interpolation, as torch does it plainly, on positions already there."""
    grid = F.affine_grid(torch.eye(3, 4)[None], [1, 1, *labels.shape], align_corners=False)
    grid = grid + 0.02 * torch.randn(1, *labels.shape, 3, generator=torch.Generator().manual_seed(0))
    tags = labels[None, None].float()

    def run() -> Pair:
        moved = F.grid_sample(image[None], grid, "bilinear", "border", align_corners=False)
        cut = F.grid_sample(tags, grid, "nearest", "zeros", align_corners=False)
        return moved[0], cut[0, 0].to(torch.uint8)

    return run


def check(name: str, result: Pair, image: torch.Tensor, labels: torch.Tensor) -> None:
    moved, cut = torch.as_tensor(result[0]), torch.as_tensor(result[1])
    known = {0, *labels.unique().tolist()}
    if moved.shape != image.shape or cut.shape != labels.shape:
        raise SystemExit(f"{name}: shapes {tuple(moved.shape)} and {tuple(cut.shape)}")
    if not set(cut.unique().int().tolist()) <= known:
        raise SystemExit(f"{name}: new labels {cut.unique().tolist()}")
    if float((moved - image).abs().mean()) < 0.01:
        raise SystemExit(f"{name}: the image did not change")


def measure(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(given.threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  batchgeneratorsv2 draws from it
    image, labels = phantom(given.size)
    contestants = {
        "medseg": ours(image, labels),
        "monai": with_monai(image, labels),
        "torchio": with_torchio(image, labels),
        "batchgeneratorsv2": with_batchgeneratorsv2(image, labels),
        "two_grid_samples": two_grid_samples(image, labels),
    }
    for name, run in contestants.items():
        check(name, run(), image, labels)
    seconds = measure(contestants, given.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(PEERS, key=medians.__getitem__)
    each = [a / min(b) for a, *b in zip(seconds["medseg"], *(seconds[p] for p in PEERS), strict=True)]
    ratio = medians["medseg"] / medians[fastest]
    result = {
        "benchmark": "elastic",
        "size": given.size,
        "rounds": given.rounds,
        "threads": given.threads,
        "versions": {name: version(name) for name in ("medseg", "torch", "numpy", "SimpleITK", *PEERS)},
        "median_seconds": {name: round(value, 4) for name, value in medians.items()},
        "fastest_peer": fastest,
        "ratio": round(ratio, 4),
        "ratio_of_each_round": [round(value, 4) for value in each],
        "target": TARGET,
        "pass": ratio <= TARGET,
    }
    print(json.dumps(result))
    return 0 if result["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())
