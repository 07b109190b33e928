"""A network of medseg, trained by a plain loop of torch and measured by `medseg.evaluate`.

    python docs/examples/torch_loop.py

Balls of two sizes in noise stand for a data set; each step draws a new one.
"""

from __future__ import annotations

import torch

import medseg
from medseg.augment import ElasticDeformation
from medseg.losses import DiceCELoss
from medseg.networks import UNet3D

NAMES = {1: "small ball", 2: "large ball"}


def case(generator: torch.Generator, size: int = 16) -> dict[str, torch.Tensor]:
    """An image (1, I, J, K) with two balls, and its labels (1, I, J, K)."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(size),) * 3, indexing="ij")).float()
    label = torch.zeros(1, size, size, size, dtype=torch.int64)
    for value, radius, low in ((1, 2.5, 3), (2, 4.0, 9)):
        centre = low + torch.rand(3, 1, 1, 1, generator=generator)
        label[0][(grid - centre).square().sum(0) < radius**2] = value
    noise = torch.randn(label.shape, generator=generator)
    return {"image": label.float() + 0.2 * noise, "label": label}


def main(steps: int = 80) -> medseg.metrics.Scores:
    """Train, and return the scores of a case that was not trained on."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = UNet3D(3, in_channels=1, out_channels=3, widths=(8, 16), norm="instance")
    loss = DiceCELoss()
    bend = ElasticDeformation(probability=0.3, seed=0)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        batch = bend(case(generator))
        optimiser.zero_grad()
        loss(network(batch["image"][None]), batch["label"][None]).backward()
        optimiser.step()
    network.eval()
    held_out = case(generator)
    with torch.no_grad():
        predicted = network(held_out["image"][None]).argmax(1)[0]
    found = medseg.evaluate(predicted, held_out["label"][0], spacing_mm=(1.0, 1.0, 1.0), structures=NAMES)
    return found.scores


if __name__ == "__main__":
    print(main())  # noqa: T201
