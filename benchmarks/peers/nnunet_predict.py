"""Predict one case with nnU-Net's predictor, given a network it did not train. A process of its own."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {
        "is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None
    },
}  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--model", type=Path, required=True)
    words.add_argument("--channels", type=Path, nargs="+", required=True)
    words.add_argument("--out", type=Path, required=True, help="without suffix")
    words.add_argument("--tile", type=int, default=96)
    words.add_argument("--overlap", type=float, default=0.5)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument(
        "--device", default="cpu", help="cuda: under autocast, as the predictor does by itself"
    )
    given = words.parse_args()
    began = time.perf_counter()

    with contextlib.redirect_stdout(sys.stderr):
        import torch
        from _network import network_of
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        imported = time.perf_counter()
        network = network_of(given.model, given.threads)
        names = {f"{n}": f"channel {n}" for n in range(len(given.channels))}
        labels = {"background": 0, **{f"structure {n}": n for n in range(1, outputs(network))}}
        dataset = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz"}
        plans = PlansManager(plans_for(given.tile, len(names)))
        predictor = nnUNetPredictor(
            tile_step_size=1 - given.overlap,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=given.device != "cpu",
            device=torch.device(given.device),
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            network,
            plans,
            plans.get_configuration("3d_fullres"),
            [network.state_dict()],
            dataset,
            "none",
            None,
        )
        predictor.predict_from_files_sequential([list(map(str, given.channels))], [str(given.out)])
    done = time.perf_counter()
    print(json.dumps({"import": round(imported - began, 3), "predict": round(done - imported, 3)}))


def outputs(network) -> int:
    return network.head.out_channels


def plans_for(tile: int, channels: int) -> dict:
    """The least that the predictor reads of a plan: one millimetre, nothing normalised, axes in RAS order."""
    configuration = {
        "data_identifier": "none",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [tile] * 3,
        "median_image_size_in_voxels": [tile] * 3,
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["NoNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "batch_dice": False,
        "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
        **RESAMPLING,
    }
    return {
        "dataset_name": "none",
        "plans_name": "none",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [tile] * 3,
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {f"{n}": {} for n in range(channels)},
    }


if __name__ == "__main__":
    main()
