"""medseg within a pipeline of MONAI: its transforms and data set, our augmentation and our loss.

    python docs/examples/monai_pipeline.py

The network is MONAI's, too; `medseg.networks.create` makes ours just as well.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, NormalizeIntensityd, ToTensord

from medseg import metrics
from medseg.augment import ElasticDeformation, RandomIntensity
from medseg.losses import DiceCELoss

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
    loader = DataLoader(Dataset(made[1:], steps), batch_size=2, shuffle=True)
    network = UNet(3, in_channels=1, out_channels=2, channels=(8, 16), strides=(2,))
    loss, optimiser = DiceCELoss(), torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(epochs):
        for batch in loader:
            optimiser.zero_grad()
            loss(network(batch["image"]), batch["label"]).backward()
            optimiser.step()
    network.eval()
    held_out = Compose(steps.transforms[:3])(made[0])
    with torch.no_grad():
        logits = sliding_window_inference(held_out["image"][None], (12, 12, 12), 2, network)
    predicted = logits.argmax(1)[0] == 1
    return metrics.dice(predicted.numpy(), held_out["label"][0].numpy() == 1)


if __name__ == "__main__":
    print(f"Dice {main():.3f}")  # noqa: T201
