"""`medseg compare --followup`: changes between two predictions of one patient."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import ModelError, UsageError
from medseg.core.instances import InstanceMap
from medseg.core.software import SOFTWARE
from medseg.core.structures import StructureSet, value_counts
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.evaluation.comparison_facts import StatedPrediction, require_same
from medseg.findings.finding import Finding, from_cases, from_warnings, ordered, refused
from medseg.findings.finding import sentences as sentences_of
from medseg.io import ReadOptions, digest_of_files, read_label_file, read_scan
from medseg.io.atomic import write_text
from medseg.metrics.export import document_head, number_cell, report_json, text_cell
from medseg.metrics.followup import LesionChange, Smallest, changes, track_lesions
from medseg.model.evidence import SmallestChange
from medseg.model.file import load_model, packaged_models
from medseg.reporting.comparison.followup import ReportFollowup, followup_page, sentences, terminal_table
from medseg.segmentation.instances import stored_instances
from medseg.segmentation.label_sources import known_structures
from medseg.segmentation.prediction import ModelIdentity

SCHEMA = "medseg.followup/1"

SPACING_RATIO = 1.25
"""Ratio of the sides of two scans' voxels from which their volumes differ by more than repeated scans do."""

DECIMALS = 6

COLUMNS = (
    "structure", "kind", "first_ml", "second_ml", "change_ml", "smallest_ml", "more_than_noise", "percent",
    "centre_mm", "software",
)  # fmt: skip


@dataclass(frozen=True)
class Followup:
    """The changes, and the formats to write them.

    Attributes:
        report: everything that is said.
        structures: what was compared.
        shown: both segmentations, each with its scan where that was given, for the page.
    """

    report: ReportFollowup
    structures: StructureSet
    shown: tuple[tuple[LabelMap, Volume | None], ...] = ()

    def table_rows(self) -> tuple[tuple[str, ...], ...]:
        """The table to show, header first."""
        return terminal_table(self.report)

    def sentences(self) -> tuple[str, ...]:
        """The results in sentences."""
        return sentences(self.report)

    def json(self) -> str:
        """Strict JSON of the schema `medseg.followup/1`."""
        return report_json(self.content())

    def content(self) -> dict[str, Any]:
        """What `json` writes, as plain values."""
        said = self.report
        return {
            **document_head(SCHEMA),
            "first": said.name_first,
            "second": said.name_second,
            "dates": None if said.dates is None else [day.isoformat() for day in said.dates],
            "days": said.days,
            "same_grid": said.same_grid,
            "registered": False,
            "noise_known": said.noise_known,
            "warnings": list(sentences_of(said.findings)),
            "findings": [finding.content() for finding in said.findings],
            "sentences": list(self.sentences()),
            "structures": [
                _rounded(
                    asdict(c) | {"change_ml": c.change_ml, "more_than_noise": c.exceeds, "percent": c.percent}
                )
                for c in said.changes
            ],
            "lesions": [
                _rounded({"structure": name, **asdict(lesion), "change_ml": lesion.change_ml})
                for name, found in said.lesions.items()
                for lesion in found
            ],
            "facts": dict(said.facts),
        }

    def csv(self) -> str:
        """One line a structure and one a group of lesions."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for c in self.report.changes:
            volumes = _rounded([c.first_ml, c.second_ml, c.change_ml, c.smallest_ml, c.percent])
            *about, percent = map(number_cell, volumes)
            more = "" if c.exceeds is None else str(c.exceeds).lower()
            writer.writerow([text_cell(c.structure), "structure", *about, more, percent, "", SOFTWARE])
        for name, found in self.report.lesions.items():
            writer.writerows(_lesion_cells(name, lesion) for lesion in found)
        return out.getvalue()

    def page(self, *, created: str | None = None) -> str:
        """The page, its pictures drawn."""
        from medseg.reporting.case.pictures import followup_picture

        pictures = tuple(
            followup_picture(
                when,
                labels.array,
                labels.grid,
                self.structures,
                image=None if scan is None else np.asarray(scan.array[0]),
                orientation_known=labels.form.orientation_known,
            )
            for when, (labels, scan) in zip(("First scan", "Second scan"), self.shown, strict=True)
        )
        return followup_page(replace(self.report, pictures=pictures), created=created)

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.csv(), overwrite)

    def write_page(self, path: Path, *, overwrite: bool = False) -> None:
        write_text(path, self.page(), overwrite)


def _rounded(content: Any) -> Any:
    """Values to `DECIMALS`, so that sums have no tail of binary fractions."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return round(content, DECIMALS) if isinstance(content, float) else content


def _lesion_cells(name: str, lesion: LesionChange) -> list[str]:
    volumes = [" + ".join(map(number_cell, _rounded(ml))) for ml in (lesion.first_ml, lesion.second_ml)]
    numbers = [*map(number_cell, _rounded([lesion.change_ml, lesion.smallest_ml]))]
    centre = " ".join(map(number_cell, _rounded(lesion.centre_mm)))
    return [text_cell(name), lesion.kind, *volumes, *numbers, "", "", centre, SOFTWARE]


def followup(
    first: Path,
    second: Path,
    *,
    model: str = "",
    lesions: Sequence[str] = (),
    labels: Path | None = None,
    reading: ReadOptions | None = None,
    scans: tuple[Path | None, Path | None] = (None, None),
    dates: tuple[date, date] | None = None,
) -> Followup:
    """Compare two predictions of one patient, and separate changes from measurement noise.

    Both must be label files as `predict` wrote them, with their `.json` beside them, of the same model and
    settings. What is noise the model knows, where its repeatability was measured.

    Args:
        first: the earlier segmentation.
        second: the later one.
        model: file or name of the model; without, it is looked for among the packaged ones.
        lesions: names of structures whose objects are followed one by one: the instances that both
            predictions tell apart, else connected components. Empty for all with instances.
        labels: JSON with the structures' names; the `.json` beside the first if None.
        reading: decisions the files leave open.
        scans: what each was predicted from, for the pictures of the page.
        dates: when each was scanned, for the page; none is ever read from a file.

    Raises:
        UsageError: models, hashes or settings differ, a structure is unknown, one is a folder, both are
            one file, or the second date is before the first.
        GridMismatchError: a scan is on another grid than its segmentation.
        InputError: a `.json` is missing or is not of its label file.
        ModelError: the model named cannot be read, or is not the one that predicted.
    """
    reading = reading or ReadOptions()
    _require_two_files(first, second)
    _require_order(dates)
    stated = [StatedPrediction.of(path) for path in (first, second)]
    require_same(stated[0], stated[1])
    structures = known_structures(first, labels=labels).structures
    for name in lesions:
        _ = structures[name]
    one, two = (read_label_file(path, reading, structures) for path in (first, second))
    apart = _Apart.of((first, one), (second, two), structures)
    smallest, why_not = _smallest(stated[0].models, model)
    if unlike := tuple(_unlike(one.grid, two.grid)):
        smallest, why_not = {}, unlike
    volumes = [structures.volumes_ml(value_counts(m.array), m.grid) for m in (one, two)]
    said = ReportFollowup(
        name_first=first.name,
        name_second=second.name,
        changes=changes(volumes[0], volumes[1], smallest, _cut(stated)),
        lesions={name: apart.tracked(name, smallest) for name in lesions or apart.names},
        apart=apart.names,
        same_grid=one.grid.matches(two.grid),
        noise_known=bool(smallest),
        findings=ordered((*from_warnings(why_not, "noise"), *apart.lacking, *_stated_doubts(stated))),
        colours={s.name: s.colour for s in structures},
        facts=_facts(stated),
        dates=dates,
    )
    shown = tuple((f, _scan_of(f, s, reading)) for f, s in zip((one, two), scans, strict=True))
    return Followup(said, structures, shown)


def _scan_of(labels: LabelMap, scan: Path | None, reading: ReadOptions) -> Volume | None:
    """The scan that a segmentation was predicted from.

    Raises:
        MedsegError: it cannot be read, or lies on another grid.
    """
    if scan is None:
        return None
    volume = read_scan(scan, reading)
    volume.grid.require(labels.grid, "scan and segmentation", str(scan))
    return volume


def _require_two_files(first: Path, second: Path) -> None:
    """Refuse folders, and one file twice.

    Raises:
        UsageError: which it is.
    """
    for path in (first, second):
        if path.is_dir():
            raise UsageError(
                "--followup needs two label files, and this is a folder",
                source=path,
                hint="give the earlier and the later segmentation of one patient",
            )
    if first.exists() and second.exists() and first.samefile(second):
        raise UsageError(
            "the earlier and the later segmentation are the same file",
            source=first,
            hint="give two predictions of one patient",
        )


def _require_order(dates: tuple[date, date] | None) -> None:
    """Refuse a second scan from before the first.

    Raises:
        UsageError: with both dates.
    """
    if dates is not None and dates[1] < dates[0]:
        raise UsageError(
            f"the second scan is dated {dates[1].isoformat()}, before the first, {dates[0].isoformat()}",
            hint="name the earlier segmentation first",
        )


def _cut(stated: Sequence[StatedPrediction]) -> list[str]:
    """Structures that reached the edge of either scan."""
    return [row.name for one in stated for row in one.summary.structures if row.truncated]


def _smallest(made_by: Sequence[ModelIdentity], model: str) -> tuple[dict[str, Smallest], tuple[str, ...]]:
    """The smallest change of each structure that is more than noise, or why none is known.

    Raises:
        ModelError: a model was named that cannot be read, or is not the one that predicted.
    """
    if len(made_by) != 1:
        return {}, ("repeatability is known of single models, not of means of several",)
    sha256 = made_by[0].sha256
    path = model or _packaged(sha256)
    if path is None:
        return {}, ("the model is not packaged: give its file with --model to know the measurement noise",)
    found = load_model(path)
    if found.sha256 != sha256:
        raise ModelError(
            f"{found.spec.name} has the SHA-256 {found.sha256}, and the model that predicted has {sha256}",
            source=model,
            hint="give the model that predicted",
        )
    known = found.spec.evidence.repeatability
    if known is None or not known.structures:
        return {}, (f"the repeatability of the model {found.spec.name} was not measured",)
    return {name: smallest for name, row in known.structures.items() if (smallest := _bound(row))}, ()


def _packaged(sha256: str) -> Path | None:
    """The packaged model of that hash; what it is called in a summary is not believed."""
    for path in packaged_models().values():
        if digest_of_files([path]) == sha256:
            return path
    return None


def _bound(row: SmallestChange) -> Smallest | None:
    ml = row.smallest_change_ml
    return None if ml is None else Smallest(ml, row.smallest_change_percent)


@dataclass(frozen=True, eq=False)
class _Apart:
    """Both segmentations, and their instances where both predictions told them apart."""

    labels: tuple[LabelMap, LabelMap]
    instances: tuple[InstanceMap, InstanceMap] | None
    structures: StructureSet
    lacking: tuple[Finding, ...] = ()
    """That only one of the two has instances."""

    @classmethod
    def of(
        cls, first: tuple[Path, LabelMap], second: tuple[Path, LabelMap], structures: StructureSet
    ) -> _Apart:
        one, two = (stored_instances(*side, structures) for side in (first, second))
        labels = (first[1], second[1])
        if one is not None and two is not None:
            return cls(labels, (one, two), structures)
        if one is None and two is None:
            return cls(labels, None, structures)
        without = (first if one is None else second)[0].name
        text = f"Instances are not followed, as no usable map of instances lies beside {without}"
        return cls(labels, None, structures, from_warnings([text], "instances"))

    @property
    def names(self) -> tuple[str, ...]:
        """The structures that have instances at either time."""
        found = {one.structure for side in self.instances or () for one in side.items}
        return tuple(name for name in self.structures.names if name in found)

    def tracked(self, name: str, smallest: Mapping[str, Smallest]) -> tuple[LesionChange, ...]:
        (one, first), (two, second) = (self._objects(name, n) for n in (0, 1))
        return track_lesions(one, first, two, second, smallest.get(name))

    def _objects(self, name: str, time: int) -> tuple[NDArray[Any], Grid]:
        """The mask of a structure, or the numbers of its instances, and the grid."""
        labels = self.labels[time]
        mask = self.structures.mask(labels.array, self.structures[name])
        if self.instances is None or name not in self.names:
            return mask, labels.grid
        own = [one.number for one in self.instances[time].items if one.structure == name]
        numbers = self.instances[time].labels.array
        return np.where(np.isin(numbers, own), numbers, 0), labels.grid


def _unlike(first: Grid, second: Grid) -> Iterator[str]:
    """What makes scans of such voxels hard to compare: volumes change with the resolution."""
    for one, two in zip(sorted(first.spacing_mm), sorted(second.spacing_mm), strict=True):
        if max(one / two, two / one) > SPACING_RATIO:
            sizes = (" x ".join(f"{mm:.3g}" for mm in grid.spacing_mm) for grid in (first, second))
            yield (
                f"The voxels of the two scans differ ({' and '.join(sizes)} mm). Volumes change with the "
                "resolution, so the noise between scans of one protocol does not apply to these."
            )
            return


def _stated_doubts(stated: Sequence[StatedPrediction]) -> tuple[Finding, ...]:
    """What speaks against the predictions, and another version of the software."""
    said: list[Finding] = []
    versions = [one.summary.provenance.software.version for one in stated]
    if versions[0] != versions[1]:
        text = f"different versions of medseg made the predictions: {versions[0]} and {versions[1]}"
        said += from_warnings([text], "versions")
    both = {"first": stated[0].summary, "second": stated[1].summary}
    doubts = ((when, f) for when, summary in both.items() for f in refused(summary.stated_findings() or ()))
    return (*said, *from_cases(doubts, " and ".join))


def _facts(stated: Sequence[StatedPrediction]) -> tuple[tuple[str, str], ...]:
    first, second = (one.summary for one in stated)
    return (
        ("Software", SOFTWARE),
        ("Model", first.provenance.models_in_words),
        ("Engine", ", ".join(stated[0].settings.engines)),
        ("First segmentation SHA-256", str(first.labels_sha256)),
        ("Second segmentation SHA-256", str(second.labels_sha256)),
    )
