"""Tiling's two promises, on a real scan: overlap-tile is exact, and sliding window is MONAI's.

(a) Overlap-tile equals the one-tile prediction of the same mirrored volume to 1e-5 in f32
    probabilities, for a batch-norm 3D U-Net, with torch and with OpenVINO.
(b) Sliding window equals MONAI's `sliding_window_inference` with the same weights, tile, overlap
    and blending to 1e-4 in probabilities.

Prints one line of JSON; exits with 1 when a promise is not kept. Without `--model` the network is
a U-Net of widths 16 to 128 with random weights and random batch-norm statistics. Takes a few
minutes on two busy cores.

    python benchmarks/tiling.py [--model FILE] [--scan FILE] [--shape 151 173 77]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from medseg.inference.engines.base import Engine, available_threads
from medseg.inference.engines.openvino import OpenVinoEngine
from medseg.inference.engines.torch import to_graph, torch_engine
from medseg.inference.predictor import Predictor
from medseg.io import read_volume
from medseg.model.file import load_model
from medseg.model.spec import NetworkSpec
from medseg.networks import registry
from medseg.networks.layers import Segmenter

EXACT, LIKE_MONAI = 1e-5, 1e-4
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFAULT_SPEC = NetworkSpec("unet3d", 1, 3, widths=(16, 32, 64, 128), norm="batch")
SEED = 0


def main() -> None:
    args = arguments()
    torch.manual_seed(SEED)
    network = trained(args.model) if args.model else random_network(DEFAULT_SPEC)
    channels = next(network.parameters()).shape[1]
    image = np.repeat(cropped(args.scan, tuple(args.shape)), channels, axis=0)
    began = time.perf_counter()
    exact = overlap_tile(network, image, args.share)
    alike = sliding_window(network, image[:, :96, :112, :72], args.tile)
    result = {
        "benchmark": "tiling",
        "versions": {name: version(name) for name in ("medseg", "torch", "openvino", "monai", "numpy")},
        "machine": {"processor": platform.machine(), "threads": available_threads()},
        "model": args.model.name if args.model else f"random {DEFAULT_SPEC.name} {DEFAULT_SPEC.widths}",
        "image": {"scan": args.scan.name, "shape": image.shape[1:]},
        "overlap_tile": {"target": EXACT, **exact},
        "sliding_window": {"target": LIKE_MONAI, **alike},
        "seconds": round(time.perf_counter() - began, 1),
        "pass": exact["pass"] and alike["pass"],
    }
    print(json.dumps(result))
    sys.exit(0 if result["pass"] else 1)


def arguments() -> argparse.Namespace:
    data = Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model file, instead of a random network")
    parser.add_argument("--scan", type=Path, default=data / "scans" / "chris_t1.nii.gz")
    parser.add_argument("--shape", type=int, nargs=3, default=(151, 173, 77), help="crop of the scan")
    parser.add_argument("--tile", type=int, nargs=3, default=(64, 64, 64), help="of the sliding window")
    parser.add_argument("--share", type=float, default=0.7, help="largest tile, as a share of the one tile")
    return parser.parse_args()


def cropped(scan: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of a scan, z-scored, (1, *shape)."""
    array = read_volume(scan).array[:1].astype(np.float32)
    start = [max(0, (n - m) // 2) for n, m in zip(array.shape[1:], shape, strict=True)]
    part = array[(slice(None), *(slice(s, s + m) for s, m in zip(start, shape, strict=True)))]
    return (part - part.mean()) / part.std()


def random_network(spec: NetworkSpec) -> Segmenter:
    """A network whose batch-norm statistics are not those of an untrained one."""
    network = registry.build(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def trained(path: Path) -> Segmenter:
    model = load_model(path)
    network = registry.build(model.spec.network)
    network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in model.weights.items()})
    return network.eval()


def overlap_tile(network: Segmenter, image: np.ndarray, share: float) -> dict[str, object]:
    """Largest difference of probabilities between many tiles and one, for each engine."""
    engines: list[Engine] = [
        torch_engine(network),
        OpenVinoEngine(*to_graph(network, image.shape[0], network.spatial_dims)),
    ]
    rows, whole = {}, {}
    for engine in engines:
        one = Predictor(
            engines=[engine], stride=network.stride, radius=network.receptive_radius, tile=network.stride,
            tile_independent=network.tile_independent, strategy="overlap_tile", max_voxels=10**9,
        )  # fmt: skip
        extended = math.prod(one.plan(image.shape[1:]).tile_shape)
        many = Predictor(**{**vars(one), "max_voxels": int(share * extended)})
        plan = many.plan(image.shape[1:])
        whole[engine.name], one_seconds = timed(one, image)
        tiled, many_seconds = timed(many, image)
        difference = np.abs(tiled - whole[engine.name])
        rows[engine.name] = {
            "largest_difference": float(difference.max()),
            "tiles": len(plan.tiles),
            "tile": plan.tile_shape,
            "redundancy": round(plan.redundancy, 2),
            "seconds_one_tile": round(one_seconds, 2),
            "seconds_tiled": round(many_seconds, 2),
        }
    spread = float(np.std(whole["torch"], axis=(1, 2, 3)).min())
    between = float(np.abs(whole["torch"] - whole["openvino"]).max())
    good = all(row["largest_difference"] <= EXACT and row["tiles"] > 1 for row in rows.values())
    return {**rows, "between_engines": between, "probability_spread": spread, "pass": good}


def sliding_window(network: Segmenter, image: np.ndarray, tile: tuple[int, ...]) -> dict[str, object]:
    """Largest difference of probabilities to MONAI's, and both times."""
    rows, engine = [], torch_engine(network)
    for overlap in (0.25, 0.5):
        for weight in ("gaussian", "constant"):
            ours = Predictor(
                engines=[engine], stride=network.stride, radius=network.receptive_radius, tile=tuple(tile),
                tile_independent=False, strategy="sliding_window", overlap=overlap, weight=weight,
            )  # fmt: skip
            found, seconds = timed(ours, image)
            began = time.perf_counter()
            with torch.inference_mode():
                logits = sliding_window_inference(
                    torch.from_numpy(image)[None], tuple(tile), 1, network, overlap=overlap, mode=weight
                )
                expected = torch.softmax(logits[0], 0).numpy()
            rows.append(
                {
                    "overlap": overlap,
                    "weight": weight,
                    "largest_difference": float(np.abs(found - expected).max()),
                    "seconds": round(seconds, 2),
                    "seconds_monai": round(time.perf_counter() - began, 2),
                }
            )
    good = all(row["largest_difference"] <= LIKE_MONAI for row in rows)
    return {"shape": image.shape[1:], "tile": tuple(tile), "settings": rows, "pass": good}


def timed(predictor: Predictor, image: np.ndarray) -> tuple[np.ndarray, float]:
    began = time.perf_counter()
    return predictor.probabilities(image), time.perf_counter() - began


if __name__ == "__main__":
    main()
