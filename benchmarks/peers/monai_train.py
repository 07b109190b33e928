"""Train as MONAI's tutorials do: CacheDataset, random crops, DataLoader, DiceCELoss. A process of its own.

    python peers/monai_train.py JOB

The random transforms are those of the tutorials on the spleen (crops around positive and negative voxels,
whose places are cached, as the one on fast training does) and on brain tumours (flips, scaled and shifted
intensities).
"""

from __future__ import annotations

from pathlib import Path

import torch
from _pace import Job, Pace, network_of, optimizer_of, read_job
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    FgBgToIndicesd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)

BOTH = ["image", "label"]


def main() -> None:
    job = read_job()
    pace = Pace(job)
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    network = network_of(job).to(device)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = optimizer_of(network)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def step(batch: dict) -> float:
        images, labels = batch["image"].to(device), batch["label"].to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            cost = loss(network(images), labels)
        scaler.scale(cost).backward()
        scaler.step(optimizer)
        scaler.update()
        return cost.item()

    loader = loader_of(job)
    network.train()
    while True:
        for batch in loader:
            pace.step(step, batch)


def loader_of(job: Job) -> DataLoader:
    """Batches without end to an epoch: of every case one patch."""
    images = sorted((Path(job.data) / "imagesTr").glob("*_0000.nii.gz"))
    labels = [Path(job.data) / "labelsTr" / path.name.replace("_0000", "") for path in images]
    cases = [{"image": str(a), "label": str(b)} for a, b in zip(images, labels, strict=True)]
    transforms = Compose(
        [
            LoadImaged(BOTH),
            EnsureChannelFirstd(BOTH),
            Orientationd(BOTH, axcodes="RAS", labels=None),
            NormalizeIntensityd("image", channel_wise=True),
            SpatialPadd(BOTH, job.patch),
            FgBgToIndicesd("label", fg_postfix="_fg", bg_postfix="_bg"),
            RandCropByPosNegLabeld(
                BOTH, "label", job.patch, fg_indices_key="label_fg", bg_indices_key="label_bg"
            ),
            *(RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd("image", factors=0.1, prob=1.0),
            RandShiftIntensityd("image", offsets=0.1, prob=1.0),
        ]
    )
    cached = CacheDataset(cases, transforms, cache_rate=1.0, num_workers=1, progress=False)
    return DataLoader(
        cached,
        batch_size=job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
    )


if __name__ == "__main__":
    main()
