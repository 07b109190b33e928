"""DICOM objects made of a series: the same voxels, the volumes, the page, and no text of the headers."""

from __future__ import annotations

import io
import logging
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import done, medseg
from io_files import rotation
from io_files import write_dicom as write_series
from models import tiny_model
from PIL import Image
from skimage.measure import grid_points_in_poly

from medseg.core.errors import GridMismatchError, InputError, SelfCheckError, UsageError
from medseg.core.structures import Structure, StructureSet, Total, from_labels
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding
from medseg.io import ReadOptions, is_dicom_folder, read_labels, read_volume, write_labels
from medseg.io.dicom import write_seg as dicom_seg
from medseg.io.dicom.rings import rings
from medseg.io.dicom.source import PATIENT_AND_STUDY, Maker, left_out, read_source
from medseg.io.dicom.write_objects import said_in_pixels, strip
from medseg.io.dicom.write_seg import require_same
from medseg.io.dicom.write_sr import Volumes
from medseg.io.options import DEFAULT
from medseg.prediction.dicom import dicom_paths, require_dicom, write_dicom

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")
from pydicom.config import IGNORE  # noqa: E402
from pydicom.datadict import DicomDictionary  # noqa: E402

CREATED = datetime(2026, 2, 3, 4, 5, 6)
FRAME_OF_REFERENCE = {0x00200052: ("UI", "1.2.826.0.1.3680043.2.1125.99")}
NAMES = from_labels({2: "left hippocampus", 3: "right hippocampus", 9: "<b>\\core</b>"})
REGIONS = StructureSet(
    (
        Structure(2, "whole tumour", members=(2, 3, 9)),
        Structure(3, "tumour core", members=(3, 9)),
        Structure(9, "enhancing tumour", members=(9,)),
    )
)
PDF = b"%PDF-1.7\nnot read any further\n%%EOF"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CANARY = re.compile(rb"CANARY([0-9A-F]{8})")
TEXTS = ("LO", "SH", "PN", "LT", "ST", "UT", "UC")


def a_series(folder: Path, **changes: Any) -> Path:
    write_series(folder, tags=FRAME_OF_REFERENCE | changes.pop("tags", {}), **changes)
    return folder


def a_map(grid: Grid, seed: int = 0) -> LabelMap:
    draw = np.random.default_rng(seed).choice([0, 0, 0, 2, 3, 9], size=grid.shape)
    return LabelMap(draw.astype(np.uint8), grid)


def a_picture() -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(1).integers(0, 256, (21, 33, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return pixels, stream.getvalue()


def written(tmp_path: Path, structures: StructureSet = NAMES, **changes: Any) -> tuple[Path, ...]:
    """All four objects of a made-up series with random labels."""
    series = changes.pop("series", None) or a_series(tmp_path / "s")
    labels = changes.pop("labels", None) or a_map(read_volume(series).grid)
    wanted: dict[str, Any] = {
        "model": "tiny",
        "pdf": PDF,
        "picture": a_picture()[1],
        "created": CREATED,
    } | changes
    return write_dicom(tmp_path / "scan", series, labels, structures, **wanted)


def doubts(*sentences: str) -> tuple[Finding, ...]:
    return tuple(Finding("low_contrast", "doubt", text) for text in sentences)


def require_same_places(volume: Any, array: np.ndarray, affine: np.ndarray) -> None:
    """Every voxel of a volume, as highdicom places it, is one of `array` that lies there and is the same."""
    step = np.linalg.solve(affine, LPS_TO_RAS @ volume.affine)
    exact = np.moveaxis(np.indices(volume.spatial_shape), 0, -1) @ step[:3, :3].T + step[:3, 3]
    nearest = np.rint(exact).astype(int)
    assert np.abs(nearest - exact).max() < 1e-3
    np.testing.assert_array_equal(array[tuple(np.moveaxis(nearest, -1, 0))], volume.array)
    assert np.count_nonzero(volume.array) == np.count_nonzero(array) > 0  # slices of nothing may be left out


def require_same_result(segments: Path, nifti: Path) -> None:
    """A label map of DICOM segments against the NIfTI file as nibabel reads it."""
    image = nib.load(nifti)
    read = hd.seg.segread(segments)
    volume = read.get_volume(combine_segments=True)
    if read.SegmentationType == "BINARY":
        volume = volume.with_array(np.array([0, *NAMES.values], np.uint8)[volume.array])
    require_same_places(volume, np.asarray(image.dataobj), image.affine)


def shuffled(folder: Path) -> None:
    for n, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"{(n * 5) % 7:03d}-{n}.dcm")


@pytest.mark.fault("reports 34")
@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -10, 5), (0, 90, 0), (0, 0, 180)])
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_the_segmentation_has_the_voxels_of_the_nifti_result(
    tmp_path: Path, angles: tuple[float, float, float], kind: str
) -> None:
    series = a_series(tmp_path / "s", turn=rotation(*angles))
    shuffled(series)
    labels = a_map(read_volume(series).grid)
    write_labels(tmp_path / "scan_seg.nii.gz", labels)
    chosen = {} if kind == "binary" else {"kind": kind}
    segments = written(tmp_path, series=series, labels=labels, **chosen)[0]
    require_same_result(segments, tmp_path / "scan_seg.nii.gz")
    read = hd.seg.segread(segments)
    assert read.SegmentationType == kind.upper()
    values = [2, 3, 9]
    assert list(read.segment_numbers) == ([1, 2, 3] if kind == "binary" else values)
    for number, source in enumerate(sorted(series.iterdir())):
        header = pydicom.dcmread(source)
        frame = read.get_pixels_by_source_instance(
            [header.SOPInstanceUID], combine_segments=True, assert_missing_frames_are_empty=True
        )[0]
        slices = np.argsort([pydicom.dcmread(f).InstanceNumber for f in sorted(series.iterdir())])
        frame = frame if kind == "labelmap" else np.array([0, *values])[frame]
        np.testing.assert_array_equal(frame.T, labels.array[:, :, list(slices).index(number)])


@pytest.mark.parametrize(("axes", "flips"), [((1, 0, 2), (0,)), ((2, 0, 1), (1, 2)), ((0, 1, 2), (0, 1, 2))])
def test_labels_in_another_order_of_axes_make_the_same_objects(
    tmp_path: Path, axes: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    series = a_series(tmp_path / "s", turn=rotation(3, 4, 5))
    labels = a_map(read_volume(series).grid)
    image = nib.Nifti1Image(labels.array, labels.grid.affine)
    turn = np.column_stack([np.argsort(axes), [-1 if n in flips else 1 for n in range(3)]])
    nib.save(image.as_reoriented(turn), tmp_path / "turned.nii.gz")
    plain = written(tmp_path, series=series, labels=labels)
    expected = [path.read_bytes() for path in plain]
    turned = read_labels(tmp_path / "turned.nii.gz")
    assert turned.array.shape != labels.array.shape or flips
    again = written(tmp_path, series=series, labels=turned, overwrite=True)
    assert [path.read_bytes() for path in again] == expected


def test_regions_that_overlap_are_segments_of_their_own(tmp_path: Path) -> None:
    labels = a_map(read_volume(a_series(tmp_path / "s")).grid)
    read = hd.seg.segread(written(tmp_path, REGIONS, series=tmp_path / "s", labels=labels)[0])
    assert (read.SegmentationType, read.SegmentsOverlap) == ("BINARY", "YES")
    for number, region in enumerate(REGIONS, start=1):
        volume = read.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        require_same_places(volume, REGIONS.mask(labels.array, region), labels.grid.affine)


@pytest.mark.parametrize("structures", [NAMES, REGIONS], ids=["labels", "regions"])
def test_the_report_measures_every_segment(tmp_path: Path, structures: StructureSet) -> None:
    labels = a_map(read_volume(a_series(tmp_path / "s")).grid)
    segments, report = written(tmp_path, structures, series=tmp_path / "s", labels=labels)[:2]
    read, segmentation = hd.sr.srread(report), hd.seg.segread(segments)
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(structures)
    for group, structure in zip(groups, structures, strict=True):
        count = int(np.isin(labels.array, structure.members or structure.value).sum())
        (volume,) = group.get_measurements()
        assert volume.name.meaning == "Volume"
        assert (volume.unit.value, volume.unit.scheme_designator) == ("ml", "UCUM")
        assert volume.value == pytest.approx(count * 0.7 * 0.8 * 2.0 / 1000, abs=1e-6)
        item = group._referenced_segment_item
        sop = item.ReferencedSOPSequence[0]
        described = segmentation.get_segment_description(sop.ReferencedSegmentNumber)
        assert sop.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert described.segment_label == structure.name.replace("\\", "/")
        assert group.tracking_uid == described.tracking_uid
        assert group.finding_type == described.segmented_property_type
    told = {(i.ReferencedSOPInstanceUID) for i in _evidence(read)}
    assert segmentation.SOPInstanceUID in told


def comments(report: Any) -> list[str]:
    """What a report says of the whole, as highdicom reads it: the verdict's code, then its comments."""
    (found,) = [item for item in report.content[0].ContentSequence if item.name.value == "C0034375"]
    verdict, *rest = found.ContentSequence
    assert (verdict.name.value, verdict.name.scheme_designator) == ("VERDICT", "99MEDSEG")
    assert {(item.value_type.value, item.name.meaning) for item in rest} == {("TEXT", "Comment")}
    return [verdict.value.value, *(item.value for item in rest)]


CUT = Finding("at_edge", "note", "left hippocampus reaches the edge of the scan.", ("left hippocampus",))


@pytest.mark.fault("reports 32")
def test_a_doubtful_result_says_so_in_every_object(tmp_path: Path) -> None:
    findings = (
        *doubts("the volume is <b>too</b> small", "a\\b\nis one line", "x" * 3000),
        Finding("file", "warning", "Both forms disagree."),
        CUT,
    )
    paths = written(tmp_path, findings=findings)
    report = hd.sr.srread(paths[1])
    said = comments(report)
    assert said[:4] == [
        "DOUBTFUL",
        "Research use only. Not a medical device.",
        "Doubt: the volume is <b>too</b> small",
        "Doubt: a/b is one line",
    ]
    assert len(said[4]) < 1100
    assert said[5:] == ["Warning: Both forms disagree.", f"Note: {CUT.sentence}"]
    assert len(report.content.get_volumetric_roi_measurement_groups()) == len(NAMES)
    described = str(pydicom.dcmread(paths[0]).ContentDescription)
    assert "DOUBTFUL result: see report" in described
    assert "Research use only" in described
    assert len(described) <= 64
    for path in paths:
        series = str(pydicom.dcmread(path).SeriesDescription)
        assert series.startswith("DOUBTFUL ")
        assert len(series) <= 64
    contours = pydicom.dcmread(paths[2])
    assert contours.StructureSetLabel == "medseg DOUBTFUL"
    for path in (paths[0], paths[2]):
        told = [text for text in read_labels(path).warnings if "series description says DOUBTFUL" in text]
        assert len(told) == 1


@pytest.mark.fault("reports 32")
def test_what_was_found_about_a_structure_stands_with_its_segment(tmp_path: Path) -> None:
    """As a coded evaluation in the report, as a description in segmentation and structure set."""
    both = Finding("cut_short", "doubt", "Both are cut.", ("left hippocampus", "right hippocampus"))
    segments, report, contours = written(tmp_path, findings=(both, CUT))[:3]
    groups = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    found = [
        [(e.name.meaning, e.value.value, e.value.meaning) for e in group.get_qualitative_evaluations()][1:]
        for group in groups
    ]
    raised = "Raised by an automatic check"
    cut = (raised, "CUT_SHORT", "Cut by the edge of the scan and too small")
    assert found == [[cut, (raised, "AT_EDGE", "Reaches the edge of the scan")], [cut], []]
    described = [item.get("SegmentDescription") for item in pydicom.dcmread(segments).SegmentSequence]
    told = [item.get("ROIDescription") for item in pydicom.dcmread(contours).StructureSetROISequence]
    sentence = f"{cut[2]}; Reaches the edge of the scan"
    assert described == told == [sentence, cut[2], None]


@pytest.mark.fault("reports 32")
@pytest.mark.parametrize("doubted", [False, True])
def test_intervals_and_totals_stand_beside_the_volumes_and_no_interval_of_a_doubtful_result(
    tmp_path: Path, doubted: bool
) -> None:
    labels = a_map(read_volume(a_series(tmp_path / "s")).grid)
    volumes = Volumes({"left hippocampus": (0.01, 0.25)}, 0.9, (Total("both together", (2, 3)), Total("all")))
    findings = doubts("the scan is blurred") if doubted else ()
    report = written(tmp_path, series=tmp_path / "s", labels=labels, volumes=volumes, findings=findings)[1]
    content = hd.sr.srread(report).content
    measured = [
        [(m.name.meaning, m.value) for m in group.get_measurements()]
        for group in content.get_volumetric_roi_measurement_groups()
    ]
    interval = [
        ("Lower end of the 90 % interval of the reference volume", 0.01),
        ("Upper end of the 90 % interval of the reference volume", 0.25),
    ]
    assert measured[0][1:] == ([] if doubted else interval)
    assert [len(row) for row in measured[1:]] == [1, 1]
    totals = content.get_image_measurement_groups()
    voxel_ml = 0.7 * 0.8 * 2.0 / 1000
    expected = [np.isin(labels.array, (2, 3)).sum() * voxel_ml, (labels.array > 0).sum() * voxel_ml]
    assert [g.tracking_identifier for g in totals] == ["both together", "all"]
    assert [g.get_measurements()[0].value for g in totals] == pytest.approx(expected, abs=1e-6)


def test_a_result_without_doubt_is_for_research_too(tmp_path: Path) -> None:
    paths = written(tmp_path, findings=(CUT,))
    assert comments(hd.sr.srread(paths[1])) == [
        "NO_DOUBT",
        "Research use only. Not a medical device.",
        f"Note: {CUT.sentence}",
    ]
    described = str(pydicom.dcmread(paths[0]).ContentDescription)
    assert "Research use only" in described
    assert len(described) <= 64
    assert not [path for path in paths if b"DOUBTFUL" in path.read_bytes()]
    assert not [text for text in read_labels(paths[0]).warnings if "DOUBTFUL" in text]


@pytest.mark.fault("reports 33")
def test_verdict_model_and_date_are_burnt_into_the_picture(tmp_path: Path) -> None:
    """Above the picture, whose own pixels stay: red where the result is doubtful, in letters that all fit."""
    certain = Maker("tiny", "", CREATED)
    doubtful = replace(certain, findings=doubts("the scan is blurred"))
    pixels = a_picture()[0]
    for maker, findings in ((certain, ()), (doubtful, doubtful.findings)):
        path = written(
            tmp_path, findings=findings, overwrite=True, series=a_series(tmp_path / maker.described("s"))
        )[4]
        shown = pydicom.dcmread(path).pixel_array
        np.testing.assert_array_equal(shown[: -len(pixels)], strip(pixels.shape[1], maker))
        np.testing.assert_array_equal(shown[-len(pixels) :], pixels)
    assert said_in_pixels(doubtful)[0].startswith("DOUBTFUL RESULT")
    assert said_in_pixels(certain)[1] == "medseg: tiny, 2026-02-03 04:05"
    wide = [strip(800, m) for m in (certain, doubtful, replace(certain, model="other"))]
    wide.append(strip(800, replace(certain, created=datetime(2027, 1, 1))))
    assert len({image.tobytes() for image in wide}) == 4
    assert tuple(wide[1][0, 0]) == (0xB0, 0x00, 0x20)
    for image in (*wide, strip(120, doubtful), strip(2400, doubtful)):
        ground = image[0, 0]
        assert (image != ground).any(axis=(0, 2)).any()
        assert (image[:, -1] == ground).all(), "a letter runs off the edge"
        assert (image[-1] == ground).all()


def _evidence(report: Any) -> list[Any]:
    sequence = report.CurrentRequestedProcedureEvidenceSequence
    return [
        i
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for i in series.ReferencedSOPSequence
    ]


def test_a_segment_says_what_it_is_on_which_side_and_by_whom(tmp_path: Path) -> None:
    read = hd.seg.segread(written(tmp_path, model_sha256="f" * 64)[0])
    left, core = (read.get_segment_description(number) for number in (1, 3))
    kind = left.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == (
        "5366008",
        "SCT",
        "Hippocampus",
    )
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert left.SegmentAlgorithmType == "AUTOMATIC"
    assert left.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "medseg: tiny"
    assert core.segment_label == "<b>/core</b>"
    assert core.segmented_property_type.scheme_designator == "99MEDSEG"
    assert read.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MEDSEG"
    assert read.DeviceSerialNumber == "f" * 64
    colour = hd.color.CIELabColor.from_dicom_value(left.RecommendedDisplayCIELabValue)
    wanted = [int(NAMES["left hippocampus"].colour[n : n + 2], 16) for n in (1, 3, 5)]
    assert np.abs(np.subtract(colour.to_rgb(), wanted)).max() <= 2


def test_the_pdf_and_the_picture_are_kept_as_they_are(tmp_path: Path) -> None:
    pdf, picture = (pydicom.dcmread(path) for path in written(tmp_path)[3:])
    assert pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength] == PDF
    assert len(pdf.EncapsulatedDocument) % 2 == 0
    assert pdf.MIMETypeOfEncapsulatedDocument == "application/pdf"
    np.testing.assert_array_equal(picture.pixel_array[-21:], a_picture()[0])
    assert picture.BurnedInAnnotation == pdf.BurnedInAnnotation == "NO"


BURNED = {0x00280301: ("CS", "YES")}
NO_DATE = {0x00080020: ("DA", "garbage"), 0x00080030: ("TM", "noon"), 0x00100030: ("DA", "19500231")}


@pytest.mark.parametrize("stated", ["YES", "NO"])
def test_a_name_burned_into_the_scan_is_told_of_whatever_shows_its_pixels(
    tmp_path: Path, stated: str
) -> None:
    series = a_series(tmp_path / "s", tags={0x00280301: ("CS", stated)})
    said = [text for text in read_volume(series).warnings if "may show the patient's name" in text]
    assert len(said) == (stated == "YES")
    for path in written(tmp_path, series=series)[3:]:
        assert pydicom.dcmread(path).BurnedInAnnotation == stated


def test_what_is_no_date_stays_out_of_the_objects(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s", tags=NO_DATE)
    (said,) = left_out(series, DEFAULT)
    assert all(name in said for name in ("StudyDate", "StudyTime", "PatientBirthDate"))
    assert not left_out(a_series(tmp_path / "t", tags={0x00080020: ("DA", "20260203")}), DEFAULT)
    for path in written(tmp_path, series=series):
        header = pydicom.dcmread(path)
        assert not any(header[name].value for name in ("StudyDate", "StudyTime", "PatientBirthDate"))
        assert header.PatientName == "Canary^Patient"
        assert b"garbage" not in path.read_bytes()


@pytest.mark.parametrize(("tags", "words"), [(BURNED, "may show the patient's name"), (NO_DATE, "no valid")])
def test_a_prediction_says_what_its_objects_must_not_hide(
    tmp_path: Path, tags: dict[int, Any], words: str
) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    series = a_series(tmp_path / "s", count=8, size=(12, 10), tags=tags)
    command = ("predict", series, "-m", tmp_path / "m.safetensors", "-o", f"{tmp_path / 'out'}/", "--dicom")
    ran = medseg(*command, "--strict")
    assert ran.code == 3
    assert words in ran.err
    done(*command)
    assert words in (tmp_path / "out" / "s_seg.json").read_text()


def test_only_the_patient_and_study_reach_the_objects(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Each text element of the standard, in and out of sequences, holds a canary with its own tag."""
    caplog.set_level(logging.DEBUG)
    series = a_series(tmp_path / "s", count=2)
    planted = {
        tag: (kind, keyword)
        for tag, (kind, _, _, _, keyword) in DicomDictionary.items()
        if kind in TEXTS and keyword and tag >> 16 not in (0x0000, 0x0002)
    }
    assert len(planted) > 600
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        for tag, (kind, _) in planted.items():
            header[tag] = pydicom.DataElement(tag, kind, f"CANARY{tag:08X}")
        inside = pydicom.Dataset()
        inside.InstitutionName = inside.OperatorsName = "CANARYFFFFFFFF"
        header.RequestAttributesSequence = header.OtherPatientIDsSequence = [inside]
        header.private_block(0x0011, "CANARYFFFFFFFF", create=True).add_new(1, "LO", "CANARYFFFFFFFF")
        for keyword in ("StudyDate", "AcquisitionDate", "PatientBirthDate"):
            header[keyword] = pydicom.DataElement(keyword, "DA", "CANARYDA", validation_mode=IGNORE)
        header.save_as(file)
    paths = written(tmp_path, series=series)
    found = {int(tag, 16) for path in paths for tag in CANARY.findall(path.read_bytes())}
    assert found == {tag for tag, (_, keyword) in planted.items() if keyword in PATIENT_AND_STUDY}
    for path in paths:
        header = pydicom.dcmread(path)
        assert str(header.PatientName) == "CANARY00100010"
        assert header.StudyInstanceUID == "1.2.3.4"
        for keyword in ("InstitutionName", "PatientComments", "StationName", "OperatorsName"):
            assert not header.get(keyword)
    said = capfd.readouterr()
    assert "CANARY" not in said.out + said.err + caplog.text


def test_a_name_in_another_alphabet_is_carried_over(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    for file in series.iterdir():
        header = pydicom.dcmread(file)
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jörg"
        header.save_as(file)
    for path in written(tmp_path, series=series):
        header = pydicom.dcmread(path)
        assert header.SpecificCharacterSet == "ISO_IR 192"
        assert str(header.PatientName) == "Müller^Jörg"


def test_the_same_arguments_make_the_same_bytes_and_others_other_objects(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    grid = read_volume(series).grid
    first = [path.read_bytes() for path in written(tmp_path, series=series)]
    again = written(tmp_path, series=series, overwrite=True)
    assert [path.read_bytes() for path in again] == first
    uids = [{pydicom.dcmread(path).SOPInstanceUID for path in again}]
    for change in (
        {"labels": a_map(grid, seed=1)},
        {"model": "other"},
        {"created": datetime(2027, 1, 1)},
        {"findings": doubts("the scan is blurred")},
    ):
        paths = written(tmp_path, series=series, overwrite=True, **change)
        uids.append({pydicom.dcmread(path).SOPInstanceUID for path in paths})
    assert len(set().union(*uids)) == sum(map(len, uids)) == 25


@pytest.mark.parametrize("structures", [NAMES, REGIONS], ids=["labels", "regions"])
def test_nothing_found_is_0_ml(tmp_path: Path, structures: StructureSet) -> None:
    series = a_series(tmp_path / "s")
    grid = read_volume(series).grid
    empty = LabelMap(np.zeros(grid.shape, np.uint8), grid)
    segments, report = written(tmp_path, structures, series=series, labels=empty)[:2]
    assert not hd.seg.segread(segments).pixel_array.any()
    groups = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    assert [group.get_measurements()[0].value for group in groups] == [0, 0, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"offsets": [(0, n * 2.0 * np.tan(np.radians(0.3)), 0) for n in range(6)]},
        {"offsets": [(0, 0, 0.009 * (n % 2)) for n in range(6)]},
    ],
    ids=["one slice", "slight tilt", "uneven by a hair"],
)
def test_every_stack_that_is_read_can_be_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    series = a_series(tmp_path / "s", **changes)
    labels = a_map(read_volume(series).grid)
    read = hd.seg.segread(written(tmp_path, series=series, labels=labels, kind="labelmap")[0])
    found = sorted(
        (float(pos.PlanePositionSequence[0].ImagePositionPatient[2]), frame.T.tobytes())
        for pos, frame in zip(
            read.PerFrameFunctionalGroupsSequence,
            np.atleast_3d(read.pixel_array).reshape(-1, 7, 8),
            strict=True,
        )
    )
    expected = [np.ascontiguousarray(labels.array[:, :, k]).tobytes() for k in range(labels.grid.shape[2])]
    assert [np.ascontiguousarray(np.frombuffer(f, np.uint8)).tobytes() for _, f in found] == expected


@pytest.mark.fault("reliability 58")
def test_one_series_of_several(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    write_series(
        series, 3, uid="1.2.826.0.1.3680043.2.1125.2", first=50, size=(5, 4), tags=FRAME_OF_REFERENCE
    )
    chosen = ReadOptions(series="2")
    labels = a_map(read_volume(series, options=chosen).grid)
    segments = written(tmp_path, series=series, labels=labels, reading=chosen)[0]
    told = hd.seg.segread(segments).ReferencedSeriesSequence[0]
    assert told.SeriesInstanceUID == "1.2.826.0.1.3680043.2.1125.2"
    assert len(told.ReferencedInstanceSequence) == 3


def test_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_series(tmp_path / "s")
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="picture"):
        written(tmp_path, series=tmp_path / "s", picture=b"no picture")
    with pytest.raises(InputError, match="not a PDF"):
        written(tmp_path, series=tmp_path / "s", pdf=b"not a PDF")
    assert set(tmp_path.iterdir()) == before
    right, made = dicom_seg.frames, iter([0, 1])
    monkeypatch.setattr(dicom_seg, "frames", lambda *given: np.where(next(made), 0, right(*given)))
    with pytest.raises(SelfCheckError, match="differs"):
        written(tmp_path, series=tmp_path / "s")
    assert set(tmp_path.iterdir()) == before


def test_what_exists_is_replaced_only_if_it_may_be_and_inputs_never(tmp_path: Path) -> None:
    paths = written(tmp_path)
    kept = [path.read_bytes() for path in paths]
    with pytest.raises(UsageError, match="exists"):
        written(tmp_path, series=tmp_path / "s", model="other")
    assert [path.read_bytes() for path in paths] == kept
    inside = tmp_path / "s"
    (inside / "000.dcm").rename(inside / "x_sr.dcm")
    labels = a_map(read_volume(inside).grid)
    with pytest.raises(UsageError, match="replace an input"):
        write_dicom(inside / "x", inside, labels, NAMES, model="tiny", overwrite=True)


def test_our_objects_are_not_taken_for_slices(tmp_path: Path) -> None:
    """Beside a folder of a series they make no series of the folder they lie in, nor spoil one."""
    paths = written(tmp_path)
    assert not is_dicom_folder(tmp_path)
    expected = read_volume(tmp_path / "s").array
    for path in paths:
        shutil.copy(path, tmp_path / "s")
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, expected)


def test_what_comes_back_is_compared(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    labels = a_map(read_volume(series).grid)
    segments = written(tmp_path, series=series, labels=labels)[0]
    source = read_source(series, DEFAULT)
    require_same(segments, source, labels, NAMES)
    other = labels.array.copy()
    other[3, 2, 1] = 2 if other[3, 2, 1] != 2 else 3
    with pytest.raises(SelfCheckError, match="differs"):
        require_same(segments, source, LabelMap(other, labels.grid), NAMES)


@pytest.mark.parametrize("tag", [0x00200052, 0x00080018, 0x0020000D])
def test_a_series_that_cannot_be_named_is_refused(tmp_path: Path, tag: int) -> None:
    series = a_series(tmp_path / "s", tags={tag: ("UI", "")})
    labels = a_map(read_volume(series).grid)
    with pytest.raises(InputError, match=r"has no \w+UID"):
        written(tmp_path, series=series, labels=labels)


def test_labels_without_structure_or_number_are_refused(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    with pytest.raises(InputError, match="label 9 has no structure"):
        written(tmp_path, from_labels({2: "a", 3: "b"}), series=series)
    large = from_labels({2: "a", 3: "b", 9: "c", 70000: "d"})
    with pytest.raises(InputError, match="from 1 to 65535"):
        written(tmp_path, large, series=series, kind="labelmap")
    written(tmp_path, large, series=series)  # its segments are numbered by their place


def test_labels_of_another_scan_are_refused(tmp_path: Path) -> None:
    series = a_series(tmp_path / "s")
    grid = read_volume(series).grid
    moved = grid.affine + np.array([[0, 0, 0, 0.3]] + [[0] * 4] * 3)
    with pytest.raises(GridMismatchError):
        written(tmp_path, series=series, labels=a_map(Grid(grid.shape, moved)))


def test_what_is_needed_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="only for a DICOM series"):
        require_dicom(tmp_path / "scan.nii.gz", NAMES)
    with pytest.raises(UsageError, match="regions overlap"):
        require_dicom(a_series(tmp_path / "r"), REGIONS, "labelmap")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UsageError, match=r'pip install "medseg\[dicom\]"'):
        require_dicom(a_series(tmp_path / "s"), NAMES)


def test_files_of_one_case() -> None:
    paths = dicom_paths(Path("a/scan.1"), pdf=True, picture=True)
    roles = ["seg", "sr", "rtstruct", "report", "picture"]
    assert [path.name for path in paths] == [f"scan.1_{role}.dcm" for role in roles]


def faults(path: Path) -> list[str]:
    """Errors that dciodvfy of dicom3tools names."""
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    assert "Error - Dicom dataset read failed" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("structures", [NAMES, REGIONS], ids=["labels", "regions"])
def test_another_reader_of_the_standard_finds_no_error(tmp_path: Path, structures: StructureSet) -> None:
    """Binary segments only: label maps are younger than the validator."""
    findings = (*doubts("the scan is blurred"), replace(CUT, structures=structures.names[:1]))
    volumes = Volumes({structures.names[0]: (0.1, 0.2)}, totals=(Total("all"),))
    a_series(tmp_path / "s")
    for told in (findings, findings[1:]):
        paths = written(
            tmp_path, structures, findings=told, volumes=volumes, overwrite=True, series=tmp_path / "s"
        )
        assert [faults(path) for path in paths] == [[]] * 5


def filled(path: Path, labels: LabelMap, structures: StructureSet) -> dict[str, np.ndarray]:
    """The structures of a structure set, filled at the centres of the voxels they lie on, by name.

    Written for the test: contours come back through pydicom and are filled by scikit-image.
    """
    read = pydicom.dcmread(path)
    names = dict(enumerate(structures.names, start=1))
    masks = {name: np.zeros(labels.grid.shape, bool) for name in structures.names}
    to_voxel = np.linalg.inv(LPS_TO_RAS @ labels.grid.affine)
    for roi in read.ROIContourSequence:
        mask = masks[names[roi.ReferencedROINumber]]
        for contour in roi.get("ContourSequence", ()):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            assert len(points) == contour.NumberOfContourPoints
            voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            slices = np.unique(np.rint(voxels[:, 2]).astype(int))
            assert len(slices) == 1
            assert np.abs(voxels[:, 2] - slices[0]).max() < 0.01
            inside = grid_points_in_poly(mask.shape[:2], voxels[:, :2])
            assert not (mask[..., slices[0]] & inside).any(), "rings of one slice do not overlap"
            mask[..., slices[0]] |= inside
    return masks


def dice_of(path: Path, labels: LabelMap, structures: StructureSet) -> dict[str, float]:
    """Of each structure in a structure set and in the label map."""
    masks = filled(path, labels, structures)
    found = {}
    for s in structures:
        true = structures.mask(labels.array, s)
        both = int((true & masks[s.name]).sum())
        found[s.name] = 2 * both / (int(true.sum()) + int(masks[s.name].sum())) if true.any() else 1.0
    return found


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -10, 5), (0, 90, 0)])
@pytest.mark.parametrize("structures", [NAMES, REGIONS], ids=["labels", "regions"])
def test_contours_filled_again_are_the_voxels(
    tmp_path: Path, angles: tuple[float, float, float], structures: StructureSet
) -> None:
    """Of random voxels too, which have holes, islands in holes, and corners that touch."""
    series = a_series(tmp_path / "s", turn=rotation(*angles))
    labels = a_map(read_volume(series).grid)
    path = written(tmp_path, structures, series=series, labels=labels)[2]
    assert set(dice_of(path, labels, structures).values()) == {1.0}
    read = pydicom.dcmread(path)
    assert read.SOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3"
    assert [roi.ROIName for roi in read.StructureSetROISequence] == [
        name.replace("\\", "/") for name in structures.names
    ]
    sources = {h.SOPInstanceUID: n for n, h in enumerate(read_source(series, DEFAULT).headers)}
    to_voxel = np.linalg.inv(LPS_TO_RAS @ labels.grid.affine)
    for roi in read.ROIContourSequence:
        for contour in roi.ContourSequence:
            (image,) = contour.ContourImageSequence
            place = np.append(np.array(contour.ContourData[:3], float), 1)
            assert round((to_voxel @ place)[2]) == sources[image.ReferencedSOPInstanceUID]


def test_contours_are_read_back_as_the_labels(tmp_path: Path) -> None:
    """By the reader of structure sets, which has code of its own; it finds the series beside the file."""
    structures = from_labels({2: "left hippocampus", 3: "right hippocampus", 9: "core"})
    labels = a_map(read_volume(a_series(tmp_path / "s", turn=rotation(15, -10, 5))).grid)
    path = written(tmp_path, structures, series=tmp_path / "s", labels=labels)[2]
    found = read_labels(path, structures=structures)
    assert found.grid.matches(labels.grid)
    np.testing.assert_array_equal(found.array, labels.array)


def test_nothing_found_has_no_contour(tmp_path: Path) -> None:
    grid = read_volume(a_series(tmp_path / "s")).grid
    empty = LabelMap(np.zeros(grid.shape, np.uint8), grid)
    read = pydicom.dcmread(written(tmp_path, series=tmp_path / "s", labels=empty)[2])
    assert len(read.StructureSetROISequence) == len(read.ROIContourSequence) == 3
    assert not any("ContourSequence" in roi for roi in read.ROIContourSequence)


def test_a_hole_is_joined_to_its_ring_and_an_island_in_it_is_a_ring_of_its_own() -> None:
    mask = np.zeros((30, 40), bool)
    mask[2:28, 2:38] = True
    mask[5:12, 5:15] = mask[5:12, 20:33] = mask[15:26, 5:30] = False
    mask[18:23, 10:20] = True
    mask[20, 14] = False
    found = rings(mask)
    assert len(found) == 2
    inside = [grid_points_in_poly(mask.shape, ring) for ring in found]
    assert not (inside[0] & inside[1]).any()
    np.testing.assert_array_equal(inside[0] | inside[1], mask)
    whole = np.ones((4, 3), bool)  # to the edge of the slice
    (ring,) = rings(whole)
    assert ring.min() == -0.5
    np.testing.assert_array_equal(grid_points_in_poly(whole.shape, ring), whole)


RECEIVER = [shutil.which(program) for program in ("dcmsend", "dcmdump", "dsrdump")]
DCMTK = Path(RECEIVER[1] or "").parent
"""Where its programs lie: pynetdicom installs others by the names of some of them."""


@pytest.mark.slow
@pytest.mark.fault("reports 34")
@pytest.mark.skipif(None in RECEIVER, reason="DCMTK is not installed")
@pytest.mark.parametrize("structures", [NAMES, REGIONS], ids=["labels", "regions"])
def test_an_archive_takes_the_objects(tmp_path: Path, structures: StructureSet) -> None:
    """DCMTK's receiver over loopback: each object is accepted, comes back whole, and can be parsed."""
    findings = (*doubts("the scan is blurred"), replace(CUT, structures=structures.names[:1]))
    volumes = Volumes({structures.names[0]: (0.1, 0.2)}, totals=(Total("all"),))
    paths = written(tmp_path, structures, findings=findings, volumes=volumes)
    received = tmp_path / "received"
    received.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        [DCMTK / "storescp", "-od", received, "+xa", port], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as archive:
        try:
            for _ in range(100):
                words = [DCMTK / "echoscu", "127.0.0.1", port]
                echo = subprocess.run(words, capture_output=True, check=False)
                if echo.returncode == 0:
                    break
                time.sleep(0.1)
            sent = subprocess.run(
                ["dcmsend", "-v", "127.0.0.1", port, *paths], capture_output=True, text=True, check=False
            )
        finally:
            archive.terminate()
    assert sent.returncode == 0, sent.stderr
    assert "with status SUCCESS" in sent.stdout + sent.stderr
    objects = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in received.iterdir()}
    for path in paths:
        there, here = objects.pop(pydicom.dcmread(path).SOPInstanceUID), pydicom.dcmread(path)
        assert there == here
        parsed = subprocess.run(["dcmdump", path], capture_output=True, text=True, check=False)
        assert (parsed.returncode, parsed.stderr) == (0, "")
    assert not objects
    parsed = subprocess.run(["dsrdump", "+Pl", paths[1]], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    assert "Doubt: the scan is blurred" in parsed.stdout


@pytest.fixture
def ellipsoids() -> Callable[[Grid], LabelMap]:
    def make(grid: Grid) -> LabelMap:
        centre = (np.array(grid.shape) - 1) * (0.45, 0.55, 0.4)
        scale = np.array(grid.shape) * (0.3, 0.2, 0.35)
        index = np.moveaxis(np.indices(grid.shape), 0, -1)
        radius = (((index - centre) / scale) ** 2).sum(axis=-1)
        return LabelMap(
            np.select([radius < 0.1, radius < 0.4, radius < 1], [9, 3, 2], 0).astype(np.uint8), grid
        )

    return make


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["prostate_t2", "hippocampus_crop"])
def test_real_series(
    tmp_path: Path, data_root: Path, name: str, ellipsoids: Callable[[Grid], LabelMap]
) -> None:
    series = data_root / "dicom" / name
    labels = ellipsoids(read_volume(series).grid)
    write_labels(tmp_path / "scan_seg.nii.gz", labels)
    paths = written(tmp_path, series=series, labels=labels)
    require_same_result(paths[0], tmp_path / "scan_seg.nii.gz")
    assert min(dice_of(paths[2], labels, NAMES).values()) >= 0.99
    source = pydicom.dcmread(next(iter(sorted(series.iterdir()))), stop_before_pixels=True)
    allowed = {str(source[keyword].value) for keyword in PATIENT_AND_STUDY if keyword in source}
    texts = {
        str(element.value)
        for element in source.iterall()
        if element.VR in TEXTS and len(str(element.value)) > 3
    } - allowed
    assert texts
    for path in paths:
        content = path.read_bytes()
        assert not [said for said in texts if said.encode() in content]
        assert pydicom.dcmread(path).PatientName == source.PatientName


def test_another_kind_of_segmentation_is_another_result(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "all").mkdir()
    a_series(tmp_path / "all" / "r")
    words = ("predict", tmp_path / "all", "-m", model_path, "-o", tmp_path / "out", "--json")
    skipped = [
        done(*words, *more, "--overwrite").json()[0]["skipped"]
        for more in (("--dicom",), ("--dicom",), ("--dicom", "--dicom-seg", "labelmap"))
    ]
    assert skipped == [False, True, False]
