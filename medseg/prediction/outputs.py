"""The files of one prediction: names, overwriting, and writing all or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import UsageError, listed
from medseg.io import files_of, stem_and_suffix
from medseg.io.atomic import refuse_existing
from medseg.io.names import INSTANCES, format_of
from medseg.prediction.dicom import dicom_paths
from medseg.segmentation.prediction import PredictionSummary, Provenance, summary_path, usable_summary


@dataclass(frozen=True)
class Outputs:
    """The output paths of one case.

    Attributes:
        labels: the label map.
        summary: structures, volumes, provenance, as JSON.
        report: the page, if wanted.
        probabilities: of each structure by name, if wanted.
        overlay: the scan with the structures outlined, of a PNG.
        dicom: objects of the scan's study, if wanted.
        table: of the labels, in a BIDS derivative.
        instances: the map of numbered instances, of a model that tells them apart.
    """

    labels: Path
    summary: Path
    report: Path | None
    probabilities: dict[str, Path]
    overlay: Path | None = None
    dicom: tuple[Path, ...] = ()
    table: Path | None = None
    instances: Path | None = None

    @classmethod
    def of(
        cls,
        labels: Path,
        names: Iterable[str] = (),
        *,
        report: bool | Path = False,
        dicom: bool = False,
        bids: bool = False,
        instances: bool = False,
    ) -> Outputs:
        """The files beside `labels`; probabilities for the structures `names`, a page beside them or there.

        >>> Outputs.of(Path("scan_seg.nii.gz"), ["left lobe"]).probabilities["left lobe"].name
        'scan_prob-left-lobe.nii.gz'
        """
        stem, suffix = stem_and_suffix(labels)
        base = stem.removesuffix("_seg")
        page = labels.with_name(f"{base}_report.html") if report else None
        page = report if isinstance(report, Path) else page
        kind = format_of(labels).fractions_as or suffix
        images = {name: labels.with_name(f"{base}_prob-{_plain(name)}{kind}") for name in names}
        overlay = labels.with_name(f"{base}_overlay.png") if suffix == ".png" else None
        objects = dicom_paths(labels.with_name(base), pdf=True, picture=True) if dicom else ()
        listed = labels.with_name(f"{stem}.tsv") if bids else None
        numbered = labels.with_name(f"{base}{INSTANCES}{suffix}") if instances else None
        return cls(labels, summary_path(labels), page, images, overlay, objects, listed, numbered)

    @property
    def case(self) -> str:
        """The name of the case."""
        return stem_and_suffix(self.labels)[0].removesuffix("_seg")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them, the summary last."""
        beside = (self.report, self.overlay, self.table, self.instances)
        pages = [path for path in beside if path is not None]
        return *self.probabilities.values(), *pages, *self.dicom, self.labels, self.summary

    def refuse_existing(
        self, overwrite: bool, inputs: Sequence[Path], identity: Provenance | None = None
    ) -> None:
        """Refuse to replace an input, always, and any file that exists, unless it may be.

        A summary whose labels are gone may be replaced, if medseg wrote it.

        Args:
            overwrite: whether what exists may be replaced.
            inputs: files that never are.
            identity: what the result would be made of; a refusal says what of it has changed since.

        Raises:
            UsageError: nothing is changed.
        """
        if len(set(self.paths)) < len(self.paths):
            raise UsageError(
                "two structures would be written to the same probability file", source=self.labels
            )
        changed = [] if overwrite or identity is None else self._changes(identity)
        for path in self.paths:
            mine = path == self.summary and usable_summary(path) is not None
            refuse_existing(path, overwrite or mine or bool(changed), inputs)
        if changed:
            raise UsageError(
                f"the output exists already, but {listed(changed)} changed since it was written",
                source=self.labels,
                hint="add --overwrite to write it again",
            )

    def finished(self, identity: Provenance) -> PredictionSummary | None:
        """The summary, if every file stands as it was made from the same input, models and settings."""
        stored = usable_summary(self.summary)
        if stored is None or not all(path.is_file() for path in self.paths):
            return None
        return stored if not stored.provenance.changes(identity) and stored.describes(self.labels) else None

    def _changes(self, identity: Provenance) -> list[str]:
        """What changed since the result was made that stands there; nothing where it is none of ours."""
        stored = usable_summary(self.summary)
        if stored is None or not self.labels.is_file():
            return []
        parts = stored.provenance.changes(identity)
        return parts if stored.describes(self.labels) else [*parts, "its labels"]

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """If the block fails, remove the new files that it wrote."""
        new = [path for path in self.paths if not path.exists()]
        try:
            yield
        except BaseException:
            for path in new:
                if path.exists():
                    for file in files_of(path) if format_of(path).part == "header" else (path,):
                        file.unlink(missing_ok=True)
            raise


def _plain(name: str) -> str:
    """A structure's name as part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in name)
