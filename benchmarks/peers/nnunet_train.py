"""Train with nnU-Net's trainer, from preprocessing to its step. A process of its own.

    python peers/nnunet_train.py JOB

The network is the given one instead of the planned one, without deep supervision; the optimiser is AdamW
instead of SGD; patch and batch are the job's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from _pace import LEARNING_RATE, Job, Pace, network_of, optimizer_of, read_job

CONFIGURATION = "3d_fullres"


def main() -> None:
    job = read_job()
    pace = Pace(job)
    os.environ |= {
        "nnUNet_raw": str(Path(job.data).parent),
        "nnUNet_preprocessed": str(Path(job.folder) / "preprocessed"),
        "nnUNet_results": str(Path(job.folder) / "results"),
        "nnUNet_n_proc_DA": str(job.workers),
        "nnUNet_def_n_proc": "1",
    }
    torch.set_num_threads(job.threads)
    trainer_of(job, pace, preprocessed(job)).run_training()


def preprocessed(job: Job) -> dict:
    """Plan and preprocess as nnU-Net does; its plan with the job's patch and batch, axes in RAS order."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprint_dataset(1, num_processes=1, verbose=False, show_progress_bar=False)
    api.plan_experiment_dataset(1, overwrite_target_spacing=job.spacing_mm)
    path = Path(job.folder) / "preprocessed" / Path(job.data).name / "nnUNetPlans.json"
    plans = json.loads(path.read_text("utf-8"))
    plans["transpose_forward"] = plans["transpose_backward"] = [2, 1, 0]
    plans["configurations"][CONFIGURATION] |= {"patch_size": [*job.patch], "batch_size": job.batch}
    path.write_text(json.dumps(plans), "utf-8")
    api.preprocess_dataset(1, configurations=(CONFIGURATION,), num_processes=(1,), show_progress_bar=False)
    return plans | {"continue_training": False}


def trainer_of(job: Job, pace: Pace, plans: dict):
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):
        """nnU-Net's, given a network, whose steps are counted."""

        @staticmethod
        def build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels,
            enable_deep_supervision=True,
        ):  # fmt: skip
            return network_of(job)

        def set_deep_supervision_enabled(self, enabled):
            """The network has one head."""

        def configure_optimizers(self):
            optimizer = optimizer_of(self.network)
            return optimizer, PolyLRScheduler(optimizer, LEARNING_RATE, self.num_epochs)

        def train_step(self, batch):
            return pace.step(super().train_step, batch)

    dataset = json.loads((Path(job.data) / "dataset.json").read_text("utf-8"))
    trainer = Trainer(plans, CONFIGURATION, "all", dataset, torch.device(job.device))
    trainer.enable_deep_supervision = False
    trainer.num_iterations_per_epoch = 100_000
    return trainer


if __name__ == "__main__":
    main()
