"""medseg in a pipeline of MONAI: its transforms, data set and inferer; our augmentation, network and loss.

    python docs/examples/monai_pipeline.py

Any network of MONAI can stand in the place of ours. Of files, the transforms begin with `LoadImaged`.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, NormalizeIntensityd, ToTensord

from medseg import metrics
from medseg.augment import ElasticDeformation, RandomIntensity
from medseg.losses import DiceCELoss
from medseg.networks import create

KEYS = ("image", "label")


def cases(count: int, size: int = 16) -> list[dict[str, np.ndarray]]:
    """Balls in noise: images and labels (I, J, K)."""
    rng = np.random.default_rng(0)
    grid = np.indices((size,) * 3)
    made = []
    for _ in range(count):
        centre = rng.uniform(6, size - 6, (3, 1, 1, 1))
        label = (((grid - centre) ** 2).sum(0) < 20).astype(np.uint8)
        image = label + 0.3 * rng.normal(size=label.shape)
        made.append({"image": image.astype(np.float32), "label": label})
    return made


def main(epochs: int = 15) -> float:
    """Train, and return the Dice of a case that was not trained on."""
    torch.manual_seed(0)
    steps = Compose(
        [
            EnsureChannelFirstd(KEYS, channel_dim="no_channel"),
            NormalizeIntensityd("image"),
            ToTensord(KEYS),
            ElasticDeformation(probability=0.5),
            RandomIntensity(noise=0.3, gamma=0.3),
        ]
    )
    made = cases(5)
    cached = CacheDataset(made[1:], steps, progress=False)  # up to our transforms, which draw at each call
    loader = DataLoader(cached, batch_size=2, shuffle=True)
    network = create("unet3d", in_channels=1, out_channels=2, widths=(8, 16))
    loss, optimiser = DiceCELoss(), torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in loader:
            optimiser.zero_grad()
            loss(network(batch["image"]), batch["label"]).backward()
            optimiser.step()
    network.eval()
    infer = SlidingWindowInferer((12, 12, 12), sw_batch_size=2)
    held_out = Compose(steps.transforms[:3])(made[0])
    with torch.no_grad():
        logits = infer(held_out["image"][None], network)
    predicted = logits.argmax(1)[0] == 1
    return metrics.dice(predicted.numpy(), held_out["label"][0].numpy() == 1)


if __name__ == "__main__":
    print(f"Dice {main():.3f}")  # noqa: T201
