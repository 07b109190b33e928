"""`medseg verify`: predict again from what a sidecar records, and compare the labels voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from medseg import __version__
from medseg.core.errors import InputError, SelfCheckError, UsageError, listed
from medseg.core.software import processor
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.inference import engines
from medseg.inference.engines.base import EngineName, Precision
from medseg.io import ReadOptions, digest_of, is_dicom_folder, read_label_file, read_volume, stem_and_suffix
from medseg.io.names import names_image, stem_of_labels
from medseg.metrics.functions import dice
from medseg.model.file import Model, find_models, load_model
from medseg.prediction.requests import InputCase, find_cases
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.prediction import PredictionSummary, Provenance, read_summary, summary_path
from medseg.segmentation.segmenter import Segmenter

LEAST_DICE = 0.998
"""Of each structure with what was recorded, where another processor, precision or version rounds otherwise:
the loss of Dice up to which a model may run in bf16 (`inference/engines/rounding.py`)."""
PRUNED = " pruned to L"
"""Between the digest of a whole model and the level that it was cut down to."""


@dataclass(frozen=True)
class Verification:
    """What became of a prediction that was made again.

    Attributes:
        labels: the file that was compared.
        voxels: of the scan.
        differing: voxels whose label is another now.
        dice: of each structure with what was recorded; None of one that is in neither.
        otherwise: what is not as it was, in words: processor, precision, version.
    """

    labels: Path
    voxels: int
    differing: int
    dice: Mapping[str, float | None]
    otherwise: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["same", "rounding", "different"]:
        """Every voxel is the same, or nearly every one where something rounds otherwise, or neither."""
        if not self.differing:
            return "same"
        near = all(value is None or value >= LEAST_DICE for value in self.dice.values())
        return "rounding" if near and self.otherwise else "different"

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "labels": str(self.labels),
            "verdict": self.verdict,
            "voxels": self.voxels,
            "differing": self.differing,
            "dice": dict(self.dice),
            "otherwise": list(self.otherwise),
        }


def verify(
    path: Path,
    scan: Sequence[str] = (),
    models: Sequence[str] = (),
    *,
    series: str | None = None,
    threads: int = 0,
) -> Verification:
    """Predict a case again as its sidecar records, and compare.

    Args:
        path: the sidecar or the labels beside it.
        scan: words that name the scan, see `requests.find_cases`; empty looks beside the labels.
        models: files or names; empty takes packaged models by the names that are recorded.
        series: of a DICOM folder, as it was chosen.
        threads: of the processor; 0 takes what there is.

    Raises:
        SelfCheckError: labels, scan or model are not those that the sidecar records.
        InputError: the sidecar cannot be read, or does not say what it was made of.
        UsageError: the scan is not beside the labels and was not named.
    """
    labels, summary = _recorded(path)
    made = summary.provenance
    case = _case(scan, labels)
    _require_same(case.first, "scan", made.input.sha256 if made.input else None, digest_of(case.source))
    ready, otherwise = _segmenter(made, models, threads, summary.processor)
    volume = read_volume(case.source, channels=_channels(made), options=_reading(made, series, case.first))
    now = ready(volume).labels
    then = read_label_file(labels, ReadOptions())
    return Verification(
        labels,
        now.array.size,
        int((now.array != then.array).sum()),
        _dice(then, now, ready.structures),
        otherwise,
    )


def _recorded(path: Path) -> tuple[Path, PredictionSummary]:
    """The label file and what its sidecar records.

    Raises:
        InputError, SelfCheckError: see `verify`.
    """
    sidecar = path if path.suffix == ".json" else summary_path(path)
    summary = read_summary(sidecar)
    if summary is None:
        raise InputError("is not the sidecar of a prediction", source=sidecar, hint="give SCAN_seg.json")
    if not summary.provenance.models or summary.labels_sha256 is None:
        raise InputError(
            "does not record which model made the labels",
            source=sidecar,
            hint="corrected labels, and those of old versions, cannot be predicted again",
        )
    beside = [
        p for p in sorted(sidecar.parent.iterdir()) if names_image(p) and stem_of_labels(p) == sidecar.stem
    ]
    labels = path if path != sidecar else next(iter(beside), None)
    if labels is None:
        raise InputError("the labels are not beside the sidecar", source=sidecar, hint="copy them there")
    _require_same(labels, "labels", summary.labels_sha256, digest_of(labels))
    return labels, summary


def _case(words: Sequence[str], labels: Path) -> InputCase:
    """The scan that is named, or that lies beside the labels."""
    if not words:
        stem = stem_of_labels(labels).removesuffix("_seg")
        files = [
            p for p in sorted(labels.parent.iterdir()) if names_image(p) and stem_and_suffix(p)[0] == stem
        ]
        folder = labels.parent / stem
        words = [str(p) for p in (files or ([folder] if is_dicom_folder(folder) else []))]
    if not words:
        raise UsageError("the scan is not beside the labels", source=labels, hint="name it with --scan")
    cases = find_cases(words)
    if len(cases) != 1:
        raise UsageError(f"{len(cases)} scans are named, and one is needed", hint="give one scan with --scan")
    return cases[0]


def _require_same(path: Path, what: str, recorded: str | None, found: str) -> None:
    if recorded != found:
        raise SelfCheckError(
            f"SHA-256 of the {what} is {found}, and the sidecar records {recorded}",
            source=path,
            hint=f"give the {what} that the result was made with",
        )


def _segmenter(
    made: Provenance, names: Sequence[str], threads: int, ran_on: str | None
) -> tuple[Segmenter, tuple[str, ...]]:
    """What predicts as before, as near as this machine can, and what is not as it was."""
    recorded = [model.sha256.partition(PRUNED) for model in made.models]
    models = _models(names or [model.name for model in made.models], [sha for sha, _, _ in recorded])
    level = int(recorded[0][2] or 0)
    otherwise = []
    if made.software.version != __version__:
        otherwise.append(f"medseg {made.software.version} then, {__version__} now")
    if ran_on != processor():
        otherwise.append(f"processor {ran_on or 'not recorded'} then, {processor()} now")
    engine, precision = cast(tuple[EngineName, Precision], made.engines[0].split()[:2])
    if precision not in engines.precisions(engine):
        otherwise.append(f"{precision} then, f32 now, for this processor has no {precision}")
        precision = "f32"
    chosen = made.settings
    options = SegmenterOptions(
        device="cpu" if engine == "openvino" else "auto",
        engine=engine,
        precision=precision,
        threads=threads,
        tta=chosen.tta if chosen else None,
        refine=chosen.refine if chosen else None,
        prune=level,
        scales=chosen.scales if chosen else (),
        least_score=chosen.least_score if chosen else None,
        force=True,
    )
    return Segmenter(models, options), tuple(otherwise)


def _models(names: Sequence[str], recorded: Sequence[str]) -> list[Model]:
    """The models, in the order in which they were recorded.

    Raises:
        SelfCheckError: one is another than was recorded.
    """
    found = {model.sha256: model for name in names for model in map(load_model, find_models(name))}
    if missing := [sha for sha in recorded if sha not in found]:
        raise SelfCheckError(
            f"the sidecar records a model with SHA-256 {missing[0]}, and {listed(list(names))} has "
            f"{listed(list(found))}",
            hint="give the model that made the labels with -m",
        )
    return [found[sha] for sha in recorded]


def _channels(made: Provenance) -> tuple[str, ...] | None:
    return (made.input.channels if made.input else ()) or None


def _reading(made: Provenance, series: str | None, source: Path) -> ReadOptions:
    """The decisions that were taken about the file."""
    kept = dict(made.settings.reading) if made.settings else {}
    stated = kept.pop("series", None)
    if series is None and stated is not None and not str(stated).isdigit():
        raise UsageError("the series was chosen by its UID", source=source, hint="choose it with --series")
    return ReadOptions(**kept, series=series or stated)


def _dice(then: LabelMap, now: LabelMap, structures: StructureSet) -> dict[str, float | None]:
    """Of each structure; None where neither map has it."""
    found: dict[str, float | None] = {}
    for structure in structures:
        values = structure.label_values
        a, b = np.isin(then.array, values), np.isin(now.array, values)
        found[structure.name] = round(dice(a, b), 6) if a.any() or b.any() else None
    return found
