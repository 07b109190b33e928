"""A PDF and a picture as DICOM objects in the study of the series, for viewers that show only these.

Source: DICOM PS3.3, A.45.1 (Encapsulated PDF) and A.8.1 (Secondary Capture Image).
"""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np

from medseg.core.errors import InputError
from medseg.io.dicom.source import RESEARCH_ONLY, UTF_8, Maker, Source, content_time, finish, highdicom

PDF_SERIES_NUMBER, PICTURE_SERIES_NUMBER = 9003, 9004
LEAST_LETTERS, LETTERS_A_ROW = 10, 60
"""Pixels a letter has at least, and what a row's width is divided by to have its size."""
STRIP_COLOURS = {True: ("white", "#b00020"), False: ("white", "#202020")}
"""Letters and ground, by whether the result is doubtful."""
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
TITLE = "Segmentation report; research only, not a medical device"


def encapsulated_pdf(source: Source, pdf: bytes, maker: Maker) -> Any:
    """The object that holds a PDF, byte for byte.

    Raises:
        InputError: it is not a PDF.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    if not pdf.startswith(b"%PDF-"):
        raise InputError("the report to encapsulate is not a PDF")
    made = highdicom().base.SOPClass(
        study_instance_uid=source.headers[0].StudyInstanceUID,
        series_instance_uid=maker.uid("PDF series"),
        series_number=PDF_SERIES_NUMBER,
        sop_instance_uid=maker.uid("PDF", pdf),
        sop_class_uid=ENCAPSULATED_PDF,
        instance_number=1,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=maker.described("medseg report"),
        specific_character_set=UTF_8,
        **maker.equipment,
        **content_time(maker),
    )
    made.ConversionType = "SYN"
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = source.burned_in
    made.SourceInstanceSequence = [_reference(header) for header in source.headers]
    made.DocumentTitle = maker.described(TITLE)
    made.ConceptNameCodeSequence = []
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    return finish(made, source, maker)


def secondary_capture(source: Source, picture: bytes, maker: Maker) -> Any:
    """The object that shows a picture (PNG) in colour, below a banner with the verdict.

    Raises:
        InputError: the picture cannot be read.
    """
    hd, pixels = highdicom(), _pixels(picture)
    pixels = np.concatenate([strip(pixels.shape[1], maker), pixels])
    made = hd.sc.SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=source.headers[0].StudyInstanceUID,
        series_instance_uid=maker.uid("SC series"),
        series_number=PICTURE_SERIES_NUMBER,
        sop_instance_uid=maker.uid("SC", picture),
        instance_number=1,
        series_description=maker.described("medseg pictures"),
        specific_character_set=UTF_8,
        **maker.equipment,
        **content_time(maker),
    )
    made.PatientOrientation = made.Laterality = None  # the picture shows several planes
    made.BurnedInAnnotation = source.burned_in  # nothing of the patient is added
    made.DateOfSecondaryCapture = f"{maker.created:%Y%m%d}"
    made.TimeOfSecondaryCapture = f"{maker.created:%H%M%S}"
    return finish(made, source, maker)


def strip(width: int, maker: Maker) -> Any:
    """Verdict, model, date and intended use in letters, for viewers that show pixels alone.

    Args:
        width: pixels of a row.
        maker: of the result.

    Returns:
        Pixels (rows, width, red green blue), of as many rows as the words need.
    """
    from PIL import Image, ImageDraw, ImageFont

    size = max(LEAST_LETTERS, width // LETTERS_A_ROW)
    font = ImageFont.load_default(size)
    fits = max(8, int(width / font.getlength("n")) - 2)
    lines = [line for said in said_in_pixels(maker) for line in textwrap.wrap(said, fits)]
    ink, ground = STRIP_COLOURS[maker.is_doubtful]
    step = round(1.4 * size)
    image = Image.new("RGB", (width, step * len(lines) + size), ground)
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        draw.text((size // 2, size // 2 + n * step), line, ink, font)
    return np.asarray(image)


def said_in_pixels(maker: Maker) -> tuple[str, ...]:
    """The lines of the strip."""
    verdict = (
        "DOUBTFUL RESULT: see the report for why"
        if maker.is_doubtful
        else "No automatic check raised a doubt"
    )
    return verdict, f"{maker.algorithm}, {maker.created:%Y-%m-%d %H:%M}", RESEARCH_ONLY


def _pixels(picture: bytes) -> Any:
    """A picture as (rows, columns, red green blue)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError("the picture to capture cannot be read") from None


def _reference(header: Any) -> Any:
    """What names a slice."""
    import pydicom

    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item
