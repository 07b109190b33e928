"""However a real scan is stored, its labels lie at the same places in the world, bit for bit.

(a) All 48 flips and axis orders of one scan, each written to a file of its own and predicted through
    the same road as the command line's, give labels identical in the world.
(b) A header that is mirrored alone moves the labels with it: they are those of the mirrored head, and
    differ from those of the scan as it was.

Prints one line of JSON; exits with 1 when a promise is not kept. Takes about a minute.

    python benchmarks/orientation.py [--model hippocampus] [--scan FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np

import medseg
from medseg.segmentation.segmenter import Segmenter

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STRAIGHT = [[0, 1], [1, 1], [2, 1]]
WAYS = [
    np.array(list(zip(axes, signs, strict=True)))
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 signed permutations, as nibabel's orientations."""


def main() -> None:
    args = arguments()
    began = time.perf_counter()
    segment = medseg.load(args.model)
    image = nib.load(args.scan or first_scan())
    with tempfile.TemporaryDirectory() as folder:
        expected = labels_of(image, segment, Path(folder))
        same = [agrees(image, way, expected, segment, Path(folder)) for way in WAYS]
        moved = header_flips(image, expected, segment, Path(folder))
    counts = np.bincount(expected.ravel()).tolist()
    result = {
        "benchmark": "orientation",
        "versions": {name: version(name) for name in ("medseg", "openvino", "nibabel", "numpy")},
        "model": {"name": segment.models[0].spec.name, "sha256": segment.models[0].sha256},
        "engine": segment.engine_names,
        "scan": {"name": Path(args.scan or first_scan()).name, "shape": image.shape},
        "voxels_of_each_label": counts,
        "reorientations": len(WAYS),
        "identical": sum(same),
        "header_flips": moved,
        "seconds": round(time.perf_counter() - began, 1),
        "pass": all(same) and len(same) == 48 and all(f["follows"] for f in moved) and sum(counts[1:]) > 0,
    }
    print(json.dumps(result))
    sys.exit(0 if result["pass"] else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="hippocampus", help="a model file or a packaged model")
    parser.add_argument("--scan", type=Path, help="a NIfTI file; the first hippocampus scan without it")
    return parser.parse_args()


def first_scan() -> Path:
    folder = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)) / "hippocampus" / "imagesTr"
    return sorted(folder.glob("hippocampus_*.nii.gz"))[0]


def labels_of(image: nib.Nifti1Image, segment: Segmenter, folder: Path) -> np.ndarray:
    """Labels in the image's own axis order, through a file in and a file out."""
    nib.save(image, folder / "scan.nii.gz")
    labels = segment(medseg.read(folder / "scan.nii.gz")).labels
    medseg.write(folder / "labels.nii.gz", labels, overwrite=True)
    written = nib.load(folder / "labels.nii.gz")
    assert np.array_equal(written.affine, nib.load(folder / "scan.nii.gz").affine)
    return np.asarray(written.dataobj)


def agrees(
    image: nib.Nifti1Image, way: np.ndarray, expected: np.ndarray, segment: Segmenter, folder: Path
) -> bool:
    """Whether the scan stored in another way gets the same labels at the same places."""
    found = labels_of(image.as_reoriented(way), segment, folder)
    back = nib.orientations.ornt_transform(STRAIGHT, way)
    return bool(np.array_equal(nib.orientations.apply_orientation(found, back), expected))


def header_flips(
    image: nib.Nifti1Image, expected: np.ndarray, segment: Segmenter, folder: Path
) -> list[dict[str, object]]:
    """For each axis: whether the labels of a header mirrored alone are those of the mirrored head."""
    out: list[dict[str, object]] = []
    voxels = np.asarray(image.dataobj)
    for axis in range(3):
        affine = image.affine.copy()
        affine[:, 3] += affine[:, axis] * (image.shape[axis] - 1)
        affine[:, axis] *= -1
        by_header = labels_of(nib.Nifti1Image(voxels, affine), segment, folder)
        in_memory = nib.Nifti1Image(np.flip(voxels, axis), image.affine)
        mirrored = labels_of(in_memory, segment, folder)
        changed = float((by_header != expected).mean())
        follows = bool(np.array_equal(np.flip(by_header, axis), mirrored)) and changed > 0
        out.append({"axis": axis, "follows": follows, "labels_changed": round(changed, 4)})
    return out


if __name__ == "__main__":
    main()
