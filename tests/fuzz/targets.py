"""What is fuzzed: for each format, good files to begin with, how they are spoiled, and what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_seeds as dicom
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
import torch
from io_files import oblique, ramp, save
from mutations import (
    Generator,
    Mutation,
    png_chunks,
    spoiled_bytes,
    spoiled_json,
    spoiled_text,
    text_and_data,
    within_gzip,
)
from PIL import Image

from medseg import io
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data import label_files
from medseg.data.cards import available, load_card
from medseg.data.layouts import LAYOUTS, detect
from medseg.evaluation import measure as measuring
from medseg.evaluation import pairs
from medseg.evaluation.case_file import CaseStore, StoredCase
from medseg.metrics.case import evaluate_case
from medseg.metrics.stored import case_mapping
from medseg.model import file as models
from medseg.model.evidence import Confidence, Evidence, VolumeRange
from medseg.model.file import Model, load_model
from medseg.model.spec import ModelSpec, NetworkFacts, NetworkSpec
from medseg.segmentation import prediction
from medseg.segmentation.label_sources import known_structures
from medseg.training import checkpoint
from medseg.training.recipe import load_recipe
from medseg.training.run import Run
from medseg.training.split import make_split

NRRD_END, MHA_END = b"\n\n", b"ElementDataFile = LOCAL\n"
LABELS = (ramp() % 3).astype(np.uint8)
STRUCTURES = from_labels({1: "front", 2: "back"})
SETTINGS = (
    load_recipe("phantom_unet3d").fitted_to(load_card("phantom")),
    load_card("phantom"),
    make_split({f"c{n}": f"c{n}" for n in range(6)}, folds=3, fold=0, selection_share=0.2, seed=0),
    {"epochs": None, "time_budget_s": 60.0},
)
"""Recipe, card, split and command of a training."""


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        file: what is spoiled, below the folder of a run.
        seeds: makes the whole of a folder, and returns good contents of the file.
        spoil: changes one of them.
        readers: what reads it; each returns a value or refuses.
    """

    file: str
    seeds: Callable[[Path], list[bytes]]
    spoil: Mutation
    readers: tuple[Callable[[Path], Any], ...]


def in_folder(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Read the folder of a file."""
    return lambda path: read(path.parent)


# Images


def whole_volume(path: Path, series: str | None = None) -> Volume:
    found = io.read_volume(path, options=io.ReadOptions(series=series, assume_ras=path.suffix == ".tif"))
    assert found.array.shape[1:] == found.grid.shape
    assert np.isfinite(found.array).all()
    assert np.isfinite(found.grid.affine).all()
    return found


def whole_labels(path: Path) -> LabelMap:
    found = io.read_labels(path, options=io.ReadOptions(assume_ras=path.suffix == ".tif"))
    assert found.array.shape == found.grid.shape
    assert found.array.dtype.kind in "iu"
    return found


def named_labels(path: Path) -> None:
    found, structures = io.read_labels(path), io.read_segments(path)
    assert set(np.unique(found.array).tolist()) <= {0, *structures.values}


def each_kind(path: Path) -> None:
    """Every series or kind of frames by its number."""
    for series in io.list_series(path):
        whole_volume(path, str(series.number))


IMAGE = (io.inspect, whole_volume, whole_labels)


def nifti(suffix: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        path = folder / f"seed{suffix}"
        made = [
            save(path, dtyped, oblique(), kind=kind).read_bytes()
            for kind in (nib.Nifti1Image, nib.Nifti2Image)
            for dtyped in (ramp(dtype=np.float32), ramp(), LABELS)
        ]
        scaled = save(path, ramp(), scl_slope=0.5, scl_inter=-3.0).read_bytes()
        image = nib.Nifti1Image(ramp(), oblique())
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"text"))
        nib.save(image, path)
        extended = path.read_bytes()
        nib.save(nib.Nifti1Image(np.stack([ramp(), ramp()], -1), oblique()), path)
        made += [scaled, extended, path.read_bytes()]
        path.unlink()
        return made

    return seeds


def mgh(suffix: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        path = folder / f"seed{suffix}"
        made = []
        for array in (ramp(dtype=np.float32), ramp(), LABELS, ramp((5, 6, 7, 2), np.int32)):
            nib.save(nib.MGHImage(array, oblique()), path)
            made.append(path.read_bytes())
        path.unlink()
        return made

    return seeds


def itk(suffix: str, compressed: bool = True) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        made = []
        for array in (ramp(), LABELS, ramp(dtype=np.float32)):
            image = sitk.GetImageFromArray(array.T)
            image.SetSpacing((0.9, 1.1, 2.5))
            path = folder / f"seed{suffix}"
            for packed in (False, compressed):
                sitk.WriteImage(image, str(path), packed)
                made.append(path.read_bytes())
            path.unlink()
        return made

    return seeds


def mhd(folder: Path) -> list[bytes]:
    """A header, beside the file of its voxels."""
    sitk.WriteImage(sitk.GetImageFromArray(ramp().T), str(folder / "scan.mhd"))
    return [(folder / "scan.mhd").read_bytes()]


def segmentation(folder: Path) -> list[bytes]:
    path = folder / "seed.seg.nrrd"
    regions = StructureSet((Structure(1, "all", members=(1, 2)), Structure(2, "back", members=(2,))))
    made = []
    for structures in (STRUCTURES, regions):
        labels = LabelMap(LABELS, Grid((5, 6, 7), oblique()))
        io.write_labels(path, labels, structures=structures, overwrite=True)
        made.append(path.read_bytes())
    path.unlink()
    return made


def tiff(folder: Path) -> list[bytes]:
    path = folder / "seed.tif"
    stack, colours = ramp((4, 12, 9), np.uint16), ramp((12, 9, 3), np.uint8)
    made = []
    for array, how in (
        (stack, {}), (stack, {"compression": "zlib"}), (stack, {"tile": (16, 16)}), (stack, {"imagej": True}),
        (colours, {"photometric": "rgb"}), (stack.astype(np.float32), {"rowsperstrip": 3}),
        (stack, {"bigtiff": True, "byteorder": ">"}),
    ):  # fmt: skip
        tifffile.imwrite(path, array, **how)
        made.append(path.read_bytes())
    path.unlink()
    return made


def png(folder: Path) -> list[bytes]:
    path = folder / "seed.png"
    made = []
    for mode in ("L", "RGB", "RGBA", "P", "1", "I;16", "LA"):
        array = ramp((11, 13), np.uint16 if mode == "I;16" else np.uint8)
        image = Image.fromarray(array) if mode == "I;16" else Image.fromarray(array).convert(mode)
        image.save(path)
        made.append(path.read_bytes())
    path.unlink()
    return made


def jpeg(folder: Path) -> list[bytes]:
    path = folder / "seed.jpg"
    Image.fromarray(ramp((21, 23, 3), np.uint8)).save(path)
    made = path.read_bytes()
    path.unlink()
    return [made]


# Models, checkpoints


def model_file(folder: Path) -> list[bytes]:
    generator = np.random.default_rng(0)
    weights = {"conv.weight": generator.normal(size=(4, 1, 3, 3, 3)).astype(np.float32)}
    spec = ModelSpec(
        "tiny", NetworkSpec("unet3d", out_channels=3, widths=(4, 8)),
        NetworkFacts((2, 2, 2), (7, 7, 7), True),
        ("MRI",), STRUCTURES.items,
        evidence=Evidence(confidence=Confidence(0.75), volumes_ml={"front": VolumeRange(1.0, 2.0)}),
    )  # fmt: skip
    path = folder / "seed.safetensors"
    Model(spec, weights, (b"<xml/>", bytes(64))).save(path)
    made = path.read_bytes()
    path.unlink()
    return [made]


def spoiled_model(blob: bytes, generator: Generator) -> bytes:
    """Its bytes, its header, or its description with the digest as it should be."""
    size = int.from_bytes(blob[:8], "little")
    kind = generator.random()
    if kind < 0.3:
        return spoiled_bytes(8 + size)(blob, generator)
    if kind < 0.5:
        header = spoiled_json(blob[8 : 8 + size], generator)
        return len(header).to_bytes(8, "little") + header + blob[8 + size :]
    header = json.loads(blob[8 : 8 + size])
    text = spoiled_json(header["__metadata__"]["spec"].encode(), generator).decode("utf-8", "replace")
    tensors = _tensors(header, blob[8 + size :])
    header["__metadata__"] |= {"spec": text, "digest": models._digest(text, tensors)}
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + blob[8 + size :]


def _tensors(header: dict[str, Any], data: bytes) -> dict[str, Any]:
    types = {"F32": np.float32, "U8": np.uint8, "I64": np.int64}
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def training_state(folder: Path) -> list[bytes]:
    path = folder / "seed.safetensors"
    tensors = {"network/a": torch.arange(12.0).reshape(3, 4), "generator": torch.get_rng_state()}
    checkpoint.save(path, checkpoint.Checkpoint(tensors, {"epoch": 1, "best": 0.5}))
    made = path.read_bytes()
    path.unlink()
    return [made]


# Settings and data sets


def texts(kind: str) -> Callable[[Path], list[bytes]]:
    return lambda _: [path.read_bytes() for path in available(kind).values()]  # type: ignore[arg-type]


def dataset(*, nnunet: bool) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        for part in ("imagesTr", "labelsTr"):
            (folder / "set" / part).mkdir(parents=True)
        for n in range(3):
            name = f"a{n}_0000.nii.gz" if nnunet else f"a{n}.nii.gz"
            (folder / "set" / "imagesTr" / name).touch()
            (folder / "set" / "labelsTr" / f"a{n}.nii.gz").touch()
        listed = [{"image": f"./imagesTr/a{n}.nii.gz", "label": f"./labelsTr/a{n}.nii.gz"} for n in range(3)]
        content: dict[str, Any] = {
            "name": "x", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a", "2": "b"},
            "numTraining": 3, "numTest": 0, "training": listed, "test": [], "tensorImageSize": "3D",
        }  # fmt: skip
        if nnunet:
            content = {
                "channel_names": {"0": "MRI"}, "labels": {"background": 0, "whole": [1, 2], "core": 2},
                "regions_class_order": [1, 2], "numTraining": 3, "file_ending": ".nii.gz",
            }  # fmt: skip
        return [json.dumps(content).encode()]

    return seeds


def layout(name: str) -> Callable[[Path], Any]:
    return lambda path: LAYOUTS[name].read(path.parent)  # type: ignore[index]


# What predict and evaluate leave


def summary(folder: Path) -> list[bytes]:
    """The JSON of a prediction, beside its labels."""
    save(folder / "scan_seg.nii.gz", LABELS)
    rows = [
        {"name": s.name, "value": s.value, "voxels": 70, "volume_ml": 0.2, "interval_ml": [0.1, 0.3]}
        for s in STRUCTURES
    ]
    rows[1]["members"] = [2]
    provenance = {
        "input": {"sha256": "0", "channels": []}, "models": [{"name": "tiny", "sha256": "0"}],
        "settings": {"engines": ["openvino f32"], "tta": None, "refine": None, "reading": {"series": None}},
    }  # fmt: skip
    content = {
        "schema": prediction.SCHEMA, "structures": rows, "totals": [{"name": "all", "values": [1, 2]}],
        "quality": {"flag": "ok", "reasons": ["one"]}, "warnings": ["two"], "provenance": provenance,
    }  # fmt: skip
    return [json.dumps(content).encode()]


def beside(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: read(path.with_name("scan_seg.nii.gz"))


def told(path: Path) -> None:
    for found in prediction.usable_summaries(path):
        json.dumps((found.provenance.chosen, found.provenance.models_in_words, found.content()))


def task(folder: Path) -> measuring.Task:
    """How one case of a folder is measured."""
    pair = pairs.FilePair("a", folder / "ref.nii.gz", folder / "pred.nii.gz")
    file = CaseStore(folder / "out" / "a.json", {"mode": "x"})
    return measuring.Task(pair, STRUCTURES, measuring.EvaluationOptions(surface=False), file=file)


DIGESTS = {"reference": "0", "prediction": "1"}


def evaluation(folder: Path) -> list[bytes]:
    """The stored result of one case, some of it infinite or undefined, beside what was measured."""
    made = []
    (folder / "out").mkdir()
    for name, shift in (("pred", 1), ("ref", 0)):
        save(folder / f"{name}.nii.gz", np.roll(LABELS, shift, 0))
    plan = task(folder)
    for lone in (False, True):
        prediction, reference = (io.read_labels(folder / f"{name}.nii.gz") for name in ("pred", "ref"))
        if lone:
            prediction = LabelMap(np.zeros_like(prediction.array), prediction.grid)
        case = evaluate_case(prediction, reference, STRUCTURES, case_id="a", tolerance_mm=1.0)
        assert plan.file is not None
        plan.file.write(DIGESTS, StoredCase(case))
        made.append(plan.file.path.read_bytes())
    return made


def stored_case(path: Path) -> None:
    """A stored case serves, or is measured again; one that serves can be stated."""
    found = measuring._finished(task(path.parents[1]), DIGESTS)
    if found is not None and found.case is not None:
        json.dumps(case_mapping(found.case), allow_nan=False)


def run_settings(folder: Path) -> list[bytes]:
    """What a training stores of its settings."""
    Run(folder / "run").begin(*SETTINGS)
    return [(folder / "run" / "run.json").read_bytes()]


def resumed(path: Path) -> None:
    """Begin where a run stands; what was stored is not written again."""
    Run(path.parent).begin(*SETTINGS)


def label_names(_: Path) -> list[bytes]:
    plain: dict[str, Any] = {"labels": {"0": "background", "1": "a", "2": "b"}}
    named: dict[str, Any] = {
        "labels": {"background": 0, "all": [1, 2], "b": 2},
        "regions_class_order": [1, 2],
    }
    return [json.dumps(content).encode() for content in (plain, named, {"1": "a"})]


def spoiled_packed(blob: bytes, generator: Generator) -> bytes:
    return within_gzip(spoiled_bytes(352))(blob, generator)


TARGETS: dict[str, Target] = {
    "nifti": Target("scan.nii", nifti(".nii"), spoiled_bytes(352), IMAGE),
    "nifti_gz": Target("scan.nii.gz", nifti(".nii.gz"), spoiled_packed, IMAGE),
    "mgz": Target("scan.mgz", mgh(".mgz"), within_gzip(spoiled_bytes(284)), IMAGE),
    "mgh": Target("scan.mgh", mgh(".mgh"), spoiled_bytes(284), IMAGE),
    "metaimage": Target("scan.mha", itk(".mha"), text_and_data(MHA_END), IMAGE),
    "metaimage_pair": Target("scan.mhd", mhd, spoiled_text, IMAGE),
    "nrrd": Target("scan.nrrd", itk(".nrrd"), text_and_data(NRRD_END), IMAGE),
    "seg_nrrd": Target("scan.seg.nrrd", segmentation, text_and_data(NRRD_END), (*IMAGE, named_labels)),
    "tiff": Target("scan.tif", tiff, spoiled_bytes(500), IMAGE),
    "png": Target("scan.png", png, png_chunks, IMAGE),
    "jpeg": Target("scan.jpg", jpeg, spoiled_bytes(700), IMAGE),
    "dicom": Target("series/001.dcm", dicom.series, dicom.spoiled, tuple(map(in_folder, IMAGE))),
    "dicom_frames": Target("x.dcm", dicom.frames, dicom.spoiled, (*IMAGE, each_kind)),
    "dicom_mosaic": Target("x.dcm", dicom.mosaic, dicom.spoiled, IMAGE),
    "dicom_structures": Target("x.dcm", dicom.structures, dicom.spoiled, (whole_labels, io.read_segments)),
    "dicom_segmentations": Target(
        "x.dcm", dicom.segmentations, dicom.spoiled, (whole_labels, named_labels)
    ),
    "model": Target("m.safetensors", model_file, spoiled_model, (load_model,)),
    "checkpoint": Target("last.safetensors", training_state, spoiled_bytes(600), (checkpoint.load,)),
    "card": Target("c.toml", texts("datasets"), spoiled_text, (load_card,)),
    "recipe": Target("r.toml", texts("pipelines"), spoiled_text, (load_recipe,)),
    "decathlon": Target(
        "set/dataset.json", dataset(nnunet=False), spoiled_json, (layout("decathlon"), in_folder(detect))
    ),
    "nnunet": Target(
        "set/dataset.json", dataset(nnunet=True), spoiled_json, (layout("nnunet"), in_folder(detect))
    ),
    "label_names": Target("labels.json", label_names, spoiled_json, (label_files.read_structures,)),
    "summary": Target(
        "scan_seg.json", summary, spoiled_json,
        tuple(map(beside, (known_structures, prediction.stated_verdict, prediction.stated_intervals, told))),
    ),
    "evaluation": Target("out/a.json", evaluation, spoiled_json, (stored_case,)),
    "run": Target("run/run.json", run_settings, spoiled_json, (resumed,)),
}  # fmt: skip
"""By format."""
