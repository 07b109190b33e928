"""Predict one case as MONAI's tutorials do: transforms, sliding window, argmax. A process of its own."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--model", type=Path, required=True)
    words.add_argument("--channels", type=Path, nargs="+", required=True)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--tile", type=int, default=96)
    words.add_argument("--overlap", type=float, default=0.5)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--device", default="cpu", help="cuda: under autocast in f16, as MONAI's tutorials do")
    words.add_argument("--crop", action="store_true", help="CropForeground before, paste back after")
    given = words.parse_args()
    began = time.perf_counter()

    import nibabel as nib
    import numpy as np
    import torch
    from _network import network_of
    from monai.inferers import sliding_window_inference
    from monai.transforms import (
        Compose,
        ConcatItemsd,
        CropForegroundd,
        EnsureChannelFirstd,
        LoadImaged,
        Orientationd,
    )

    imported = time.perf_counter()
    network = network_of(given.model, given.threads).to(given.device)
    on_card = given.device != "cpu"
    keys = [f"channel{n}" for n in range(len(given.channels))]
    steps = [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        Orientationd(keys, axcodes="RAS"),
        ConcatItemsd(keys, name="image"),
    ]
    if given.crop:
        steps.append(CropForegroundd(["image"], "image", select_fn=differs, allow_smaller=True))
    item = Compose(steps)(dict(zip(keys, map(str, given.channels), strict=True)))
    image = item["image"]
    prepared = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cuda", enabled=on_card):
        logits = sliding_window_inference(
            image.as_tensor()[None].to(given.device),
            (given.tile,) * 3,
            4 if on_card else 1,
            network,
            overlap=given.overlap,
            mode="gaussian",
        )
        labels = logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    inferred = time.perf_counter()
    if given.crop:
        start, end = item["foreground_start_coord"], item["foreground_end_coord"]
        whole = np.zeros(item[keys[0]].shape[1:], np.uint8)
        whole[tuple(slice(a, b) for a, b in zip(start, end, strict=True))] = labels
        labels = whole
    nib.save(nib.Nifti1Image(labels, item[keys[0]].affine.numpy()), given.out)
    done = time.perf_counter()
    steps_s = {
        "import": imported - began,
        "prepare": prepared - imported,
        "infer": inferred - prepared,
        "write": done - inferred,
    }
    print(json.dumps({name: round(seconds, 3) for name, seconds in steps_s.items()}))


def differs(image):
    """What is not background: of another value than the corner."""
    return image != image[:, :1, :1, :1]


if __name__ == "__main__":
    main()
