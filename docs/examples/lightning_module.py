"""medseg in a module of Lightning. Where Lightning is not installed, the module is one of torch alone.

trainer = lightning.Trainer(max_epochs=10, precision="bf16-mixed")
trainer.fit(Segmentation(), loader)
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg import metrics
from medseg.losses import DiceCELoss
from medseg.networks import create

try:
    from lightning import LightningModule
except ModuleNotFoundError:
    LightningModule = torch.nn.Module


class Segmentation(LightningModule):
    """Batches are dicts of images (B, C, I, J, K) and labels (B, 1, I, J, K)."""

    def __init__(self, network: str = "unet3d", widths: tuple[int, ...] = (8, 16), lr: float = 0.01) -> None:
        super().__init__()
        self.network = create(network, in_channels=1, out_channels=2, widths=widths, norm="instance")
        self.loss = DiceCELoss(class_weights=(0.5, 1.0))
        self.lr = lr

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(self(batch["image"]), batch["label"])
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        predicted = self(batch["image"]).argmax(1)
        pairs = zip(predicted.cpu().numpy(), batch["label"][:, 0].cpu().numpy(), strict=True)
        found = [metrics.dice(one == 1, other == 1) for one, other in pairs]
        self.log("dice", sum(found) / len(found))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)
