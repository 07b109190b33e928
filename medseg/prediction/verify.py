"""`medseg verify`: predict again from what a sidecar records, and compare the labels voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from medseg import __version__
from medseg.core.errors import InputError, SelfCheckError, UsageError, listed
from medseg.core.software import processor
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import LabelMap
from medseg.inference import engines
from medseg.inference.engines.base import EngineName, Precision
from medseg.io import ReadOptions, digest_of, is_dicom_folder, read_label_file, read_volume, stem_and_suffix
from medseg.io.names import names_image, stem_of_labels
from medseg.metrics.functions import dice
from medseg.model.file import Model, find_models, load_model, packaged_models
from medseg.prediction.requests import InputCase, find_cases
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.prediction import PredictionSummary, Provenance, read_summary, summary_path
from medseg.segmentation.result import Segmentation
from medseg.segmentation.segmenter import Segmenter

LEAST_DICE = 0.998
"""Of each structure with what was recorded, where another processor, precision or version rounds otherwise:
the loss of Dice up to which a model may run in bf16 (`inference/engines/rounding.py`)."""
TOLERANCE_ML = 5e-4
"""Of a volume that a sidecar states, which is rounded."""
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
        otherwise: what is not as it was, in words: processor, precision, version, the label file.
        contradictions: what the sidecar states of the labels, or of their verdict, and is not so.
    """

    labels: Path
    voxels: int
    differing: int
    dice: Mapping[str, float | None]
    otherwise: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["same", "rounding", "different"]:
        """Every voxel is the same, or nearly every one where something rounds otherwise, or neither.

        Where the sidecar is wrong about its labels, nothing is the same.
        """
        if self.contradictions:
            return "different"
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
            "contradictions": list(self.contradictions),
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
        SelfCheckError: scan or model are not those that the sidecar records.
        InputError: the sidecar cannot be read, or does not say what it was made of.
        UsageError: the scan is not beside the labels and was not named.
    """
    labels, summary = _recorded(path)
    made = summary.provenance
    case = _case(scan, labels)
    _require_same(case.first, made.input.sha256 if made.input else None, digest_of(case.source))
    ready, otherwise = _segmenter(summary, models, threads, _sidecar(path))
    if not summary.describes(labels):
        otherwise = (*otherwise, f"the file {labels.name} is not the one that the sidecar describes")
    volume = read_volume(case.source, channels=_channels(made), options=_reading(made, series, case.first))
    now = ready(volume)
    then = read_label_file(labels, ReadOptions())
    volume.grid.require(then.grid, "scan and labels", str(labels))
    return Verification(
        labels,
        then.array.size,
        int((now.labels.array != then.array).sum()),
        _dice(then, now.labels, ready.structures),
        otherwise,
        tuple(_contradictions(summary, then, now)),
    )


def _sidecar(path: Path) -> Path:
    """The sidecar that is given, or that is beside the labels that are."""
    return path if path.suffix == ".json" else summary_path(path)


def _recorded(path: Path) -> tuple[Path, PredictionSummary]:
    """The label file and what its sidecar records.

    Raises:
        InputError, SelfCheckError: see `verify`.
    """
    sidecar = _sidecar(path)
    hint = "give SCAN_seg.json, or the labels beside it"
    if not path.is_file():
        raise InputError("is a folder" if path.is_dir() else "no such file", source=path, hint=hint)
    summary = read_summary(sidecar)
    if summary is None:
        text = "is not the sidecar of a prediction" if path == sidecar else f"has no sidecar {sidecar.name}"
        raise InputError(text, source=path, hint=hint)
    if not summary.provenance.models or not summary.provenance.engines:
        raise InputError(
            f"does not record which {'engine' if summary.provenance.models else 'model'} made the labels",
            source=sidecar,
            hint="corrected labels, and those of old versions, cannot be predicted again",
        )
    beside = [p for p in sorted(sidecar.parent.iterdir()) if names_image(p)]
    labels = path if path != sidecar else next((p for p in beside if stem_of_labels(p) == sidecar.stem), None)
    if labels is None:
        raise InputError("the labels are not beside the sidecar", source=sidecar, hint="copy them there")
    return labels, summary


def _case(words: Sequence[str], labels: Path) -> InputCase:
    """The scan that is named, of a folder that with the name of the labels, or the one beside them."""
    stem = stem_of_labels(labels).removesuffix("_seg")
    if not words:
        files = [
            p for p in sorted(labels.parent.iterdir()) if names_image(p) and stem_and_suffix(p)[0] == stem
        ]
        folder = labels.parent / stem
        words = [str(p) for p in (files or ([folder] if is_dicom_folder(folder) else []))]
    if not words:
        raise UsageError(
            "the scan is not beside the labels", source=labels, hint="name it, or its folder, with --scan"
        )
    cases = find_cases(words)
    if len(cases) > 1:
        cases = tuple(case for case in cases if case.stem == stem)
    if len(cases) != 1:
        raise UsageError(
            f"{len(cases)} scans of the folder are called {stem}, and one is needed",
            source=labels,
            hint="name the scan with --scan",
        )
    return cases[0]


def _require_same(path: Path, recorded: str | None, found: str) -> None:
    if recorded != found:
        raise SelfCheckError(
            f"SHA-256 of the scan is {found}, and the sidecar records {recorded}",
            source=path,
            hint="give the scan that the labels were made of",
        )


def _contradictions(summary: PredictionSummary, then: LabelMap, now: Segmentation) -> Iterator[str]:
    """What a sidecar states and is not so: voxels and volumes of structures, and the verdict."""
    stated = {row.name: (row.voxels, row.volume_ml) for row in summary.structures}
    counts = value_counts(then.array)
    volumes = now.structures.volumes_ml(counts, then.grid)
    for structure in now.structures:
        voxels, ml = now.structures.voxels(counts)[structure.name], volumes[structure.name]
        if structure.name not in stated:
            yield f"the sidecar does not state {structure.name}"
        elif stated[structure.name][0] != voxels or abs(stated[structure.name][1] - ml) > TOLERANCE_ML:
            had, was = stated[structure.name]
            text = f"the sidecar states {had} voxels ({was:g} ml) of {structure.name}"
            yield f"{text}, the labels have {voxels}"
    flag = summary.quality.flag if summary.quality else None
    if flag != now.verdict.flag:
        yield f"the sidecar states the verdict {flag}, and it is {now.verdict.flag}"


def _segmenter(
    summary: PredictionSummary, names: Sequence[str], threads: int, sidecar: Path
) -> tuple[Segmenter, tuple[str, ...]]:
    """What predicts as before, as near as this machine can, and what is not as it was.

    Within a time budget it computes the tiles that were computed, whatever the time.
    """
    made, ran_on = summary.provenance, summary.processor
    recorded = [model.sha256.partition(PRUNED) for model in made.models]
    stated = [model.name for model in made.models]
    if own := sorted({name for name in stated if not names and name not in packaged_models()}):
        text = f"the labels were made with {listed(own)}, which is not a model that comes with medseg"
        raise UsageError(text, source=sidecar, hint="give its file with -m")
    models = _models(names or stated, [sha for sha, _, _ in recorded])
    level = int(recorded[0][2] or 0)
    otherwise = []
    if made.software.version != __version__:
        otherwise.append(f"medseg {made.software.version} then, {__version__} now")
    if ran_on != processor():
        otherwise.append(f"processor {ran_on or 'not recorded'} then, {processor()} now")
    engine, precision = _engine(made.engines[0], sidecar)
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
        time_budget=chosen.time_budget if chosen else None,
        budget_tiles=summary.budget.tiles if summary.budget else None,
    )
    return Segmenter(models, options), tuple(otherwise)


def _engine(text: str, sidecar: Path) -> tuple[EngineName, Precision]:
    """What ran, as it is recorded: `openvino bf16`.

    Raises:
        InputError: it is nothing that runs.
    """
    words = text.split()
    if len(words) != 2 or words[0] not in get_args(EngineName) or words[1] not in get_args(Precision):
        raise InputError(f"records the engine {text!r}, which is none of medseg", source=sidecar)
    return cast(tuple[EngineName, Precision], tuple(words))


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
