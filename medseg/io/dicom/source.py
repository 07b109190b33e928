"""The source series of DICOM objects, and the software that made them.

Of the headers only the listed attributes are ever read. The library that lays out the objects sees no
patient: the patient and study attributes are put in afterwards, as they stand.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.digest import digest
from medseg.core.errors import InputError, UsageError, listed
from medseg.core.extras import optional_packages
from medseg.core.volume import Grid
from medseg.findings.finding import Finding, is_doubtful, sentences
from medseg.io.dicom import series as dicom
from medseg.io.dicom.codes import text
from medseg.io.dicom.library import damage_named
from medseg.io.options import ImageInfo, ReadOptions

PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
"""All that identifies anyone: what the patient and study modules must have (PS3.3, C.7.1.1 and C.7.2.1)."""

IDENTIFIERS = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID",
)  # fmt: skip
GEOMETRY = (
    "Modality", "Rows", "Columns", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "ImagePositionPatient", "ImageOrientationPatient",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip

RESEARCH_ONLY = "Research use only. Not a medical device."
UTF_8 = "ISO_IR 192"
MANUFACTURER = "medseg"


@dataclass(frozen=True)
class Maker:
    """The software and model that made the objects, and when; equal makers produce equal objects.

    Attributes:
        model: name of the model or models.
        model_sha256: of their content; empty where it is not known.
        created: when.
        seed: digest of what the objects are made of.
        findings: of the result, all that a reader must know.
    """

    model: str
    model_sha256: str
    created: datetime
    seed: bytes = b""
    findings: tuple[Finding, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether any finding speaks against the result."""
        return is_doubtful(self.findings)

    def described(self, what: str) -> str:
        """A description that begins with the verdict where the result is doubtful.

        >>> blurred = (Finding("blurred", "doubt", "The scan is blurred."),)
        >>> Maker("m", "", datetime(2026, 1, 1), findings=blurred).described("medseg report")
        'DOUBTFUL medseg report'
        """
        return f"DOUBTFUL {what}" if self.is_doubtful else what

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return text(f"medseg: {self.model}")

    @property
    def equipment(self) -> dict[str, str]:
        """The equipment, as the library's constructors take it."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": text(self.model) or MANUFACTURER,
            "software_versions": __version__,
            "device_serial_number": self.model_sha256[:64] or "unknown",
        }

    def uid(self, role: str, content: bytes = b"") -> str:
        """A UID for one role, of what is made of, the software, the model, the time and more content.

        Source: DICOM PS3.5, B.2 (a UUID under the root 2.25).
        """
        said = (
            __version__,
            self.model,
            self.model_sha256,
            self.created.isoformat(),
            role,
            *sentences(self.findings),
        )
        found = digest("\0".join(said), self.seed, digest(content))
        return f"2.25.{uuid.UUID(bytes=found[:16], version=5).int}"


@dataclass(frozen=True)
class Source:
    """A series that objects are made from.

    Attributes:
        grid: of its voxels; the last axis counts the slices.
        headers: of each slice in that order, without patient.
        patient: the patient and study attributes.
        burned_in: BurnedInAnnotation, YES or NO, of what shows its pixels.
    """

    grid: Grid
    headers: tuple[Any, ...]
    patient: Any = field(repr=False)
    burned_in: str = "NO"

    @property
    def instances(self) -> list[str]:
        """SOP instance UIDs of the slices, in their order."""
        return [str(header.SOPInstanceUID) for header in self.headers]

    @property
    def series(self) -> str:
        """The series instance UID."""
        return str(self.headers[0].SeriesInstanceUID)


def highdicom() -> Any:
    """The library that lays out DICOM objects.

    Raises:
        MissingPackageError: it is not installed.
    """
    with optional_packages():
        import highdicom
        import highdicom.sr
    return highdicom


def require_slices(info: ImageInfo) -> None:
    """Refuse a scan whose slices are frames of a file, which the objects do not refer to.

    Raises:
        UsageError: it is an enhanced file or a mosaic.
    """
    if info.format != dicom.SINGLE_FRAMES:
        raise UsageError(
            f"DICOM objects are made from a series with a file a slice, and this is {info.format}"
            + (": many slices tiled in one picture" if info.format == dicom.MOSAIC else ""),
            source=info.path,
            hint="leave out --dicom, or export the series with a file a slice",
        )


def read_source(folder: Path, options: ReadOptions) -> Source:
    """The chosen series of a folder, its slices in the order of `read_volume`.

    Raises:
        UsageError: highdicom is not installed, or the slices are frames of a file.
        InputError: the headers are damaged, or do not identify the slices and where they lie.
        GeometryError: the slices are no regular stack.
    """
    highdicom()
    info, slices = dicom.ordered_slices(folder, options)
    require_slices(info)
    headers = [_header(s.path) for s in slices]
    patient = _patient(headers[0])
    for header in headers:
        header.update(_patient({}))
    burned_in = "YES" if any(s.annotated for s in slices) else "NO"
    return Source(info.grid, tuple(headers), patient, burned_in)


def left_out(folder: Path, options: ReadOptions) -> tuple[str, ...]:
    """A sentence about dates and times of the series that objects made from it leave out, if there are any.

    Raises:
        InputError, GeometryError: as `read_source`.
    """
    header = _header(dicom.ordered_slices(folder, options)[1][0].path)
    names = [keyword for keyword in PATIENT_AND_STUDY if keyword in header and not _is_valid(header[keyword])]
    if not names:
        return ()
    return (f"The series states no valid {listed(names)}; the DICOM objects made from it leave that out.",)


def finish(made: Any, source: Source, maker: Maker) -> Any:
    """Put the patient in, and take out whatever differs from one run to the next."""
    for keyword in PATIENT_AND_STUDY:
        made[keyword] = source.patient[keyword]
    for item in made.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = f"{maker.created:%Y%m%d%H%M%S}"
    made.SpecificCharacterSet = UTF_8
    made.InstanceCreationDate = made.SeriesDate = f"{maker.created:%Y%m%d}"
    made.InstanceCreationTime = made.SeriesTime = f"{maker.created:%H%M%S}"
    made.file_meta.ImplementationClassUID = dicom.OUR_IMPLEMENTATION
    made.file_meta.ImplementationVersionName = f"MEDSEG_{__version__}"[:16]
    return made


def content_time(maker: Maker) -> dict[str, str]:
    """Date and time of the content, as the library's constructors take them."""
    return {"content_date": f"{maker.created:%Y%m%d}", "content_time": f"{maker.created:%H%M%S}"}


def _header(path: Path) -> Any:
    """The listed attributes of a slice and nothing else.

    Raises:
        InputError: it is damaged, or misses one that the objects refer to.
    """
    import pydicom

    tags = [*IDENTIFIERS, *GEOMETRY, *PATIENT_AND_STUDY]
    with damage_named(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        header.decode()
        missing = [keyword for keyword in IDENTIFIERS if not header.get(keyword)]
    if missing:
        raise InputError(
            f"the slice has no {missing[0]}, which objects made from it must name",
            source=path,
            hint="export the original series",
        )
    return header


def _patient(header: Any) -> Any:
    """The patient and study attributes of a header; empty where it has none, or no valid date or time."""
    import pydicom

    patient = pydicom.Dataset()
    for keyword in PATIENT_AND_STUDY:
        if keyword in header and _is_valid(header[keyword]):
            patient[keyword] = header[keyword]
        else:
            setattr(patient, keyword, "")
    return patient


def _is_valid(element: Any) -> bool:
    """Whether a date is empty or in the calendar, and a time one (PS3.5, 6.2); other texts stay so."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if element.VR not in ("DA", "TM"):
        return True
    try:
        validate_value(element.VR, element.value, RAISE)
        if element.VR == "DA" and element.value:
            datetime.strptime(str(element.value).strip(), "%Y%m%d")
    except ValueError:
        return False
    return True
