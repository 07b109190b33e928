"""`medseg predict --dicom`: the result as DICOM objects of the same study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from medseg.core.digest import digest
from medseg.core.errors import UsageError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap
from medseg.findings.finding import Finding
from medseg.io import files_of, inspect, is_dicom_folder
from medseg.io.atomic import atomic_files
from medseg.io.dicom import write_seg as dicom_seg
from medseg.io.dicom.library import unwarned
from medseg.io.dicom.series import is_dicom_file
from medseg.io.dicom.source import Maker, Source, highdicom, read_source, require_slices
from medseg.io.dicom.write_objects import encapsulated_pdf, secondary_capture
from medseg.io.dicom.write_rtstruct import structure_set
from medseg.io.dicom.write_seg import SegmentationKind
from medseg.io.dicom.write_sr import NOTHING_MORE, Volumes, measurements
from medseg.io.options import DEFAULT, ReadOptions
from medseg.io.placement import on_grid


def dicom_paths(stem: Path, *, pdf: bool = False, picture: bool = False) -> tuple[Path, ...]:
    """Where the objects of one case go: segmentation, volumes, contours, and report and picture if wanted.

    >>> [path.name for path in dicom_paths(Path("scan"), pdf=True)]
    ['scan_seg.dcm', 'scan_sr.dcm', 'scan_rtstruct.dcm', 'scan_report.dcm']
    """
    roles = ("seg", "sr", "rtstruct", *["report"] * pdf, *["picture"] * picture)
    return tuple(stem.with_name(f"{stem.name}_{role}.dcm") for role in roles)


def require_dicom(
    series: Path,
    structures: StructureSet,
    kind: SegmentationKind = "binary",
    reading: ReadOptions = DEFAULT,
) -> None:
    """Refuse a case for which no DICOM objects can be written, before any computation.

    Raises:
        UsageError: the scan is not a DICOM series, a label map is requested for regions, or a library
            is missing.
    """
    if kind == "labelmap" and structures.are_regions:
        raise UsageError(
            "the model's regions overlap, which a DICOM label map cannot store",
            source=series,
            hint="leave out --dicom-seg, or give --dicom-seg binary",
        )
    if is_dicom_file(series):
        first = reading if reading.series else replace(reading, series="1")  # all in a file are frames alike
        require_slices(inspect(series, options=first))
    if not is_dicom_folder(series):
        raise UsageError(
            "DICOM objects can be written only for a DICOM series",
            source=series,
            hint="give the folder of its series",
        )
    highdicom()


def write_dicom(
    stem: Path,
    series: Path,
    labels: LabelMap,
    structures: StructureSet,
    *,
    model: str,
    model_sha256: str = "",
    kind: SegmentationKind = "binary",
    findings: Sequence[Finding] = (),
    volumes: Volumes = NOTHING_MORE,
    pdf: bytes | None = None,
    picture: bytes | None = None,
    created: datetime | None = None,
    reading: ReadOptions = DEFAULT,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write the objects, all or none; the segmentation is read back and compared first.

    They carry the type 1 and 2 attributes of the patient and study modules, and no other text of the series.

    Args:
        stem: folder and name of the case; the objects are called after it, see `dicom_paths`.
        series: folder of the series that was segmented.
        labels: on the series' grid, or in another order of its axes.
        structures: of the labels.
        model: name of the model or models.
        model_sha256: of their content.
        kind: BINARY segments, or a LABELMAP of labels that are not regions.
        findings: of the result; each object says whether it is doubtful, the report and the segments why.
        volumes: what the report states beside the volumes of the structures.
        pdf: the case page, encapsulated if given.
        picture: the page's picture (PNG), captured if given.
        created: when the objects are made, now if None; the same arguments make the same bytes.
        reading: which series of the folder.
        overwrite: whether existing objects may be replaced.

    Returns:
        The files.

    Raises:
        UsageError: an object exists, would replace an input, or highdicom is not installed.
        InputError: the series lacks what the objects must name, or a label has no structure.
        GeometryError: the labels have another grid than the scan.
        ResourceError: there is no room, or no right to write.
        SelfCheckError: what was read back differs; nothing is left.
    """
    require_dicom(series, structures, kind, reading)
    paths = dicom_paths(stem, pdf=pdf is not None, picture=picture is not None)
    inputs = files_of(series)
    with atomic_files(paths[::-1], overwrite, inputs=inputs) as folder, unwarned():
        source = read_source(series, reading)
        labels = on_grid(labels, source.grid, series)
        seed = _seed(source, labels, structures, kind, volumes)
        maker = Maker(model, model_sha256, created or datetime.now(), seed, tuple(findings))
        segments = dicom_seg.segmentation(source, labels, structures, maker, kind)
        rest = _objects(source, segments, labels, structures, maker, volumes, pdf, picture)
        for path, made in zip(paths, (segments, *rest), strict=True):
            made.save_as(folder / path.name, enforce_file_format=True)
        dicom_seg.require_same(folder / paths[0].name, source, labels, structures)
    return paths


def _objects(
    source: Source,
    segments: Any,
    labels: LabelMap,
    structures: StructureSet,
    maker: Maker,
    volumes: Volumes,
    pdf: bytes | None,
    picture: bytes | None,
) -> list[Any]:
    """The objects beside the segmentation, in the order of `dicom_paths`."""
    found = [
        measurements(source, segments, labels, structures, maker, volumes),
        structure_set(source, labels, structures, maker),
    ]
    if pdf is not None:
        found.append(encapsulated_pdf(source, pdf, maker))
    if picture is not None:
        found.append(secondary_capture(source, picture, maker))
    return found


def _seed(
    source: Source, labels: LabelMap, structures: StructureSet, kind: SegmentationKind, volumes: Volumes
) -> bytes:
    """A digest of what the objects are made of."""
    made_of = (source.series, *source.instances, repr(structures), kind, repr(volumes))
    return digest("\0".join(made_of), labels.array.tobytes())
