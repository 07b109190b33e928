"""Cases that are kept: corrections of a prediction, and scans and labels that other programs send."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet, Total
from medseg.core.volume import LabelMap, Volume
from medseg.data.layouts.case import plain
from medseg.data.layouts.writing import ENDING, label_names, revalued
from medseg.data.store import Store
from medseg.io import ReadOptions, digest_of, read_label_file, read_volume, write_labels
from medseg.io.atomic import write_text
from medseg.prediction.summary import corrected
from medseg.preparation.orient import canonical
from medseg.segmentation.prediction import PredictionSummary, Provenance, read_summary, summary_path
from medseg.segmentation.segmenter import Segmenter
from medseg.serving.names import case_name
from medseg.serving.settings import AddSettings, CorrectSettings, KeepSettings
from medseg.serving.view import shown, write_shown


@dataclass(frozen=True)
class Keeper:
    """The cases of a model, and what its labels mean.

    Attributes:
        model: its name.
        store: its cases.
        segmenter: the model.
    """

    model: str
    store: Store
    segmenter: Segmenter

    @property
    def structures(self) -> StructureSet:
        return self.segmenter.structures

    @property
    def totals(self) -> tuple[Total, ...]:
        return self.segmenter.models[0].spec.totals

    def describe(self) -> None:
        """Say in the store what values mean."""
        self.store.describe(self.model, self.segmenter.channels, self.structures)


def show_kept(store: Store, identity: Provenance, labels: LabelMap, out: Path) -> None:
    """Write what somebody made of a scan before, beside what is shown of it."""
    path = store.labels().get(case_name(identity))
    kept = None if path is None else read_label_file(path, ReadOptions())
    if path is not None and kept is not None and kept.grid.matches(labels.grid):
        write_shown(out / "kept.gz", replace(kept, grid=labels.grid))
        _state_kept(store, case_name(identity), out)


def _state_kept(store: Store, case: str, out: Path) -> None:
    """Write what is kept of a case now: what the next correction begins with."""
    write_text(out / "kept.json", json.dumps({"digest": store.digest(case)}))


def correct(
    keeper: Keeper, settings: CorrectSettings, before_path: Path, drawn_path: Path, scan: Volume, out: Path
) -> None:
    """Labels as somebody drew them, on the grid and in the format of the prediction; kept as a case."""
    before = read_label_file(before_path, ReadOptions())
    drawn = shown(drawn_path, before)
    summary = read_summary(summary_path(before_path)) or PredictionSummary()
    require_known(drawn, known_values(before_path))
    structures, totals = summary.structure_set, summary.totals_stated
    _write_drawn(out / before_path.name, drawn, structures, totals)
    changes = _changes(before, drawn, structures, settings.accepted)
    write_text(out / "changes.json", json.dumps(changes, indent=1))
    case = case_name(summary.provenance)
    keeper.describe()
    keeper.store.add(case, in_order(scan, keeper.segmenter.channels))
    with tempfile.TemporaryDirectory() as scratch:
        original = Path(scratch) / f"original{ENDING}"
        write_labels(original, before)
        replace(summary, labels_sha256=digest_of(original)).write(summary_path(original))
        keeper.store.keep_predicted(case, original, summary_path(original))
        base = None if settings.replace else settings.base
        _keep_final(keeper, case, drawn, base, changes, Path(scratch))
    _state_kept(keeper.store, case, out)


def keep(keeper: Keeper, settings: KeepSettings, sent_path: Path, out: Path) -> None:
    """Labels of a stored case that another program sends, with the values that the model has for them."""
    scan = read_volume(keeper.store.scan(settings.case))
    drawn = as_named(
        on_grid(read_label_file(sent_path, ReadOptions()), scan), settings.names, keeper.structures
    )
    original = keeper.store.labels("original").get(settings.case)
    before = replace(drawn, array=np.zeros_like(drawn.array))
    if original is not None:
        before = on_grid(read_label_file(original, ReadOptions()), scan)
    changes = _changes(before, drawn, keeper.structures, ())
    keeper.describe()
    with tempfile.TemporaryDirectory() as scratch:
        _keep_final(keeper, settings.case, drawn, None, changes, Path(scratch))
    _state_kept(keeper.store, settings.case, out)


def add(keeper: Keeper, settings: AddSettings, path: Path) -> None:
    """A scan that another program sends: its voxels and its grid, and nothing else of the file.

    Raises:
        InputError: the model cannot take it, or another scan has its name.
    """
    scan = read_volume(path, channels=_several(keeper.segmenter))
    keeper.segmenter.require(scan.channels, scan.grid)
    scan = in_order(scan, keeper.segmenter.channels)
    known = keeper.store.scans().get(settings.case)
    if known is not None:
        there = read_volume(known, channels=_several(keeper.segmenter))
        if not there.grid.matches(scan.grid) or not np.array_equal(there.array, scan.array):
            raise InputError(f"another scan is called {settings.case}", hint="give this one another name")
        return
    keeper.describe()
    keeper.store.add(settings.case, scan)


def _several(segmenter: Segmenter) -> tuple[str, ...] | None:
    """The names of a model's channels, to read several from one file by."""
    return tuple(segmenter.channels) if len(segmenter.channels) > 1 else None


def _keep_final(
    keeper: Keeper,
    case: str,
    drawn: LabelMap,
    base: str | None,
    changes: Mapping[str, Mapping[str, int | bool]],
    scratch: Path,
) -> None:
    """Keep labels that somebody made, whatever they were sent as, in a NIfTI file."""
    path = scratch / f"final{ENDING}"
    sidecar = _write_drawn(path, drawn, keeper.structures, keeper.totals)
    keeper.store.keep_corrected(case, path, sidecar, base=base, changes=changes)


def on_grid(labels: LabelMap, scan: Volume) -> LabelMap:
    """Labels on the grid of a scan; their axes may run otherwise.

    Raises:
        GridMismatchError: they lie elsewhere.
    """
    own, wanted = canonical(labels.grid), canonical(scan.grid)
    wanted.grid(scan.grid).require(own.grid(labels.grid), "the scan and its labels")
    array = np.ascontiguousarray(wanted.backward(own.forward(labels.array)))
    return LabelMap(array, scan.grid, scan.form)


def as_named(labels: LabelMap, names: Mapping[str, int], structures: StructureSet) -> LabelMap:
    """Labels with the values that a model has for their names.

    Args:
        labels: as they were sent.
        names: values in them by name; empty where they are those of the model.
        structures: of the model.

    Raises:
        InputError: a name means nothing to the model, or a value has no name.
    """
    own = {plain(name): value for value, name in label_names(structures).items()}
    if not names:
        require_known(labels, {0, *structures.known_values})
        return labels
    if unknown := [name for name in names if plain(name) not in own]:
        hint = f"call them {', '.join(label_names(structures).values())}"
        raise InputError(f"the model has no {', '.join(map(repr, unknown))}", hint=hint)
    if unnamed := sorted(set(np.unique(labels.array).tolist()) - {0, *names.values()}):
        raise InputError(f"the labels have values without a name: {unnamed[:8]}", hint="name every value")
    return revalued(labels, {value: own[plain(name)] for name, value in names.items()})


def in_order(scan: Volume, channels: Sequence[str]) -> Volume:
    """A scan with its channels in the order of a model; an only one is called as the model calls it."""
    if len(channels) == len(scan.channels) == 1 or scan.channels == tuple(channels):
        return scan
    return replace(
        scan, array=scan.array[[scan.channels.index(name) for name in channels]], channels=tuple(channels)
    )


def known_values(labels: Path) -> set[int]:
    """The values that labels of a scan may have, by the sidecar of its prediction."""
    summary = read_summary(summary_path(labels)) or PredictionSummary()
    return {0, *summary.structure_set.known_values}


def require_known(labels: LabelMap, known: set[int]) -> None:
    """Refuse values that mean nothing.

    Raises:
        InputError: there is one.
    """
    if strange := sorted(set(np.unique(labels.array).tolist()) - known):
        raise InputError(f"the labels have values that no structure has: {strange[:8]}")


def _write_drawn(target: Path, drawn: LabelMap, structures: StructureSet, totals: tuple[Total, ...]) -> Path:
    """Labels that somebody drew, and their sidecar; its path."""
    write_labels(target, drawn, structures=structures)
    corrected(drawn, structures, totals, digest_of(target)).write(summary_path(target))
    return summary_path(target)


def _changes(
    before: LabelMap, after: LabelMap, structures: StructureSet, accepted: Sequence[str]
) -> dict[str, dict[str, int | bool]]:
    """Of each structure voxels that became and ceased to be it, and whether somebody took it as it is."""
    found: dict[str, dict[str, int | bool]] = {}
    for s in structures:
        then, now = np.isin(before.array, s.label_values), np.isin(after.array, s.label_values)
        added, removed = int((now & ~then).sum()), int((then & ~now).sum())
        found[s.name] = {"added": added, "removed": removed, "accepted": s.name in accepted}
    return found
