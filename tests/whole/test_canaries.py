"""No text of a header, a folder or a tag reaches an output, and no name is markup or a formula.

Canaries are planted wherever a scan can carry text, and every byte of every output is searched for them,
within gzip, base64, PDF and DICOM too. What is drawn in pictures is known from what the
drawing library was told.
"""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import hashlib
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from commands import Ran, done
from io_files import edit
from io_files import write_dicom as write_series
from matplotlib.text import Text
from models import tiny_model
from PIL import Image

from medseg.core.structures import from_labels
from medseg.data.phantom import phantom_case
from medseg.io.dicom.source import PATIENT_AND_STUDY
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.page import report
from medseg.reporting.drawing import figures, palette, plotting, thumbnails
from medseg.reporting.drawing.canvas import Canvas

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
from pydicom.config import IGNORE  # noqa: E402
from pydicom.datadict import DicomDictionary  # noqa: E402

CANARY = re.compile(rb"CANARY[0-9A-Z]*", re.IGNORECASE)
PRIVATE = "CANARYPRIVATE"
BEACON = "beacon-7"
"""What the cases are called; it must be found, or the search is blind."""

SHAPE = (20, 24, 18)
STORED = np.diag([-1.0, 1, 1, 1])
EVIL, FORMULA = "<script>alert(1)</script>", "=cmd|' /C calc'!A0"
HOSTILE = {1: EVIL, 2: FORMULA, 3: '@SUM(1)"><img src=x onerror=alert(1)>'}
FILES = (EVIL.replace("/", "\u2215"), FORMULA.replace("/", "\u2215"), "+1", "@x", "'-->")
"""The names that a file system allows; the slash is another character that looks like it."""

# Where a canary may sit in a scan


def planted_nifti(path: Path, array: np.ndarray) -> Path:
    """A NIfTI file with a canary in each text field, in two extensions, and in the header of the gzip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, STORED)
    image.set_qform(STORED, 1)
    image.set_sform(STORED, 1)
    for code in ("comment", "afni"):
        text = f"{code} CANARYEXTENSION 1970".encode()
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, text))
    nib.save(image, path)
    words = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
    edit(path, **{word: f"CANARY{n}".encode() for n, word in enumerate(words)})
    blob = gzip.decompress(path.read_bytes())
    assert len(CANARY.findall(blob)) == len(words) + 2
    with path.open("wb") as raw, gzip.GzipFile("CANARYGZIP", "wb", fileobj=raw, mtime=0) as packed:
        packed.write(blob)
    return path


TEXTS = ("LO", "SH", "PN", "LT", "ST", "UT", "UC", "CS", "AE", "UR")
NEEDED = {
    "SOPClassUID", "Modality", "SpecificCharacterSet", "PhotometricInterpretation", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "NumberOfFrames",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "ImagesInAcquisition",
}  # fmt: skip
"""What a reader of slices makes sense of, so that no canary can stand there."""

ALLOWED = {
    *PATIENT_AND_STUDY, "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID",
}  # fmt: skip
"""What DICOM objects of the same study must repeat."""

ROOT = "1.2.826.0.1.3680043.10.7777"
SERIES_UID = f"{ROOT}.{0x0020000E}"


def value_of(kind: str, tag: int, number: int) -> str:
    """A canary of a tag's kind that is no other tag's."""
    day = f"{date(1701, 1, 1) + timedelta(days=number):%Y%m%d}"
    return {
        "DA": day,
        "TM": f"235959.{number:06d}",
        "DT": f"{day}235959.{number:06d}",
        "UI": f"{ROOT}.{tag}",
        "AS": f"{900 + number % 100}Y",
        "DS": f"777.{number:06d}",
        "IS": f"7770{number:05d}",
    }.get(kind, f"CANARY{tag:08X}")


PLANTED = {
    tag: (kind, keyword, value_of(kind, tag, number))
    for number, (tag, (kind, _, _, _, keyword)) in enumerate(sorted(DicomDictionary.items()))
    if kind in (*TEXTS, "DA", "TM", "DT", "UI", "AS", "DS", "IS")
    and keyword not in NEEDED
    and 0x0002 < tag >> 16 < 0x7FE0
}
KEYWORD = {value.encode(): keyword or hex(tag) for tag, (_, keyword, value) in PLANTED.items()}
PATTERNS = re.compile(
    rb"CANARY[0-9A-Z]*|17\d{6}(?!\d)|17\d{6}235959\.\d{6}|235959\.\d{6}|777\.\d{6}|7770\d{5}|(?<![\w+/])9\d\dY(?![\w+/])"
    rb"|" + re.escape(ROOT.encode()) + rb"\.\d+",
    re.IGNORECASE,
)


def planted_series(folder: Path, count: int = 9) -> Path:
    """A series with a canary in each element of the standard that holds text, a number, a date or a UID, at
    the top and in sequences in sequences, and in private groups; in the first slice all, in the rest those of
    the first groups alone, which is quicker."""
    folder.mkdir(parents=True)
    for number, file in enumerate(write_series(folder, count, size=(20, 18), step_mm=1.5)):
        header = pydicom.dcmread(file)
        outer, inner = pydicom.Dataset(), pydicom.Dataset()
        for holder in (header, outer, inner) if number == 0 else (header,):
            _plant(holder, 0x7FE0 if number == 0 else 0x0011)
        outer.ReferencedImageSequence = [inner]
        header.RequestAttributesSequence = [outer]
        header.OtherPatientIDsSequence = header.ReferencedStudySequence = [inner]
        header.SOPInstanceUID = f"{ROOT}.{0x00080018}.{number + 1}"
        header.save_as(file)
    return folder


def _plant(holder: pydicom.Dataset, below: int) -> None:
    """All canaries of the groups below this one, and private ones."""
    for tag, (kind, _, value) in PLANTED.items():
        if tag >> 16 < below or tag >> 16 == 0x0020:
            holder[tag] = pydicom.DataElement(tag, kind, value, validation_mode=IGNORE)
    block = holder.private_block(0x0011, PRIVATE, create=True)
    block.add_new(1, "LO", PRIVATE)
    block.add_new(2, "OB", PRIVATE.encode() + b"\0")
    block.add_new(3, "UN", PRIVATE.encode() + b"\0")


# The search


def layers(blob: bytes) -> Iterator[bytes]:
    """A file's bytes, and what they hold packed, however deep."""
    yield blob
    yield blob.replace(b"\0", b"")
    for part in (*_packed(blob), *_of_pdf(blob), *_of_text(blob)):
        yield from layers(part)


def _packed(blob: bytes) -> Iterator[bytes]:
    """What gzip or zlib makes of the whole."""
    if blob[:2] == b"\x1f\x8b":
        assert not blob[3] & 0b11100, "gzip's own header holds text"
        yield gzip.decompress(blob)
    elif blob[:1] == b"\x78":
        try:
            yield zlib.decompress(blob)
        except zlib.error:
            return


def _of_pdf(blob: bytes) -> Iterator[bytes]:
    """The streams of a PDF; the PDF of a DICOM object."""
    start = blob.find(b"%PDF-")
    if start > 0:
        yield blob[start : blob.rfind(b"%%EOF") + 5]
    if start == 0:
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\n?endstream", blob, re.DOTALL):
            plain = base64.a85decode(b"<~" + stream, adobe=True) if stream.endswith(b"~>") else stream
            yield zlib.decompress(plain) if plain[:1] == b"\x78" else plain


def _of_text(blob: bytes) -> Iterator[bytes]:
    """What a page carries as base64."""
    if blob.lstrip()[:1] not in (b"<", b"{", b"["):
        return
    for text in re.findall(rb"[A-Za-z0-9+/]{64,}={0,2}", blob):
        try:
            yield base64.b64decode(text, validate=True)
        except binascii.Error:
            continue


def files_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def found_in(parts: Iterable[bytes]) -> set[str]:
    """Whose canaries there are, by the keyword of the tag, or as they stand."""
    hits: set[bytes] = set()
    for part in parts:
        hits |= set(PATTERNS.findall(part))
    by_tag = {re.sub(rb"^(%s\.\d+)\.\d+$" % re.escape(ROOT.encode()), rb"\1", hit) for hit in hits}
    known = {hit for hit in by_tag if hit in KEYWORD or CANARY.match(hit) or hit.startswith(ROOT.encode())}
    return {KEYWORD.get(hit, hit.decode()) for hit in known}


@dataclass
class Watch:
    """All that a test's commands say and draw."""

    drawn: list[str]
    log: io.StringIO
    said: list[str]

    def run(self, *words: object) -> Ran:
        ran = done(*words)
        self.said += [ran.out, ran.err]
        return ran

    def texts(self) -> list[bytes]:
        return [text.encode() for text in (*self.drawn, *self.said, self.log.getvalue())]


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn at a tenth of the points, which takes a tenth of the time."""
    whole = palette.smallest_png

    def quick(draw: Callable[[int], Image.Image], dots_per_inch: Sequence[int] = ()) -> bytes:
        return whole(draw, (45,))

    for module in (figures, thumbnails, plotting):
        monkeypatch.setattr(module, "smallest_png", quick)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """Keeps what is said on the terminal, logged at any level, and drawn in pictures."""
    seen = Watch([], io.StringIO(), [])
    put, draw = Text.set_text, Canvas.text

    def keep(self: Text, text: object) -> None:
        seen.drawn.append(str(text))
        put(self, text)

    def keep_drawn(self: Canvas, x: float, y: float, text: str, **how: Any) -> None:
        seen.drawn.append(text)
        draw(self, x, y, text, **how)

    monkeypatch.setattr(Text, "set_text", keep)
    monkeypatch.setattr(Canvas, "text", keep_drawn)
    handler = logging.StreamHandler(seen.log)
    logging.root.addHandler(handler)
    before = logging.root.level
    logging.root.setLevel(logging.DEBUG)
    yield seen
    logging.root.setLevel(before)
    logging.root.removeHandler(handler)
    past = capfd.readouterr()
    assert found_in([past.out.encode(), past.err.encode()]) == set()


def require_clean(out: Path, watch: Watch, secrets: Sequence[str] = ()) -> list[Path]:
    """Nothing planted is in any file, or in what was said, logged or drawn; the objects of DICOM excepted."""
    assert found_in(watch.texts()) == set()
    paths = files_below(out)
    for path in paths:
        parts = [str(path.relative_to(out)).encode(), *layers(path.read_bytes())]
        found = found_in(parts)
        assert found <= (ALLOWED if path.suffix == ".dcm" else set()), path.name
        for secret in secrets:
            assert not any(secret.encode() in part for part in parts), (path.name, secret)
    return paths


def require_beacon(paths: Iterable[Path]) -> None:
    """The search sees through what the files are packed in: it finds the case's name."""
    for path in paths:
        assert any(BEACON.encode() in part for part in layers(path.read_bytes())), path.name


# The inputs


@dataclass(frozen=True)
class Inputs:
    """Scans, predictions and references of two cases, all planted, below folders called after canaries.

    The last folder has a plain name, since `compare` calls what it compares after the folders it is given.
    """

    scans: Path
    first: Path
    second: Path
    references: Path

    @staticmethod
    def name(folder: Path, n: int = 0) -> Path:
        return folder / f"{BEACON}-{n}.nii.gz"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("CANARYPATH") / "CANARYGRANDPARENT" / "CANARYPARENT"
    made = Inputs(*(folder / name for name in ("scans", "first", "second", "references")))
    for n in range(2):
        volume, labels = phantom_case(np.random.default_rng(n), SHAPE)
        planted_nifti(made.name(made.scans, n), volume.array[0])
        planted_nifti(made.name(made.references, n), labels.array)
        for shift, predictions in enumerate((made.first, made.second), start=1):
            planted_nifti(made.name(predictions, n), np.roll(labels.array, shift, axis=0))
    return made


# Canaries


def test_a_canary_in_any_layer_would_be_found(tmp_path: Path) -> None:
    """The search itself: each way of packing that outputs use, and each kind of value."""
    text = b"<p>CANARYX and more words, so that it is long enough to be taken for a picture</p>"
    pdf = b"%PDF-1.4\nstream\n" + base64.a85encode(zlib.compress(text)) + b"~>\nendstream\n%%EOF"
    page = b"<img src='data:," + base64.b64encode(gzip.compress(text, mtime=0)) + b"'>"
    for blob in (gzip.compress(page, mtime=0), b"\0" * 128 + b"DICM" + pdf, "CANARYX".encode("utf-16")):
        assert found_in(layers(blob)) == {"CANARYX"}
    for tag, (_, keyword, value) in PLANTED.items():
        assert found_in([b"(" + value.encode() + b")"]) == {keyword or hex(tag)}
    kinds = {kind for kind, _, _ in PLANTED.values()}
    assert {"DA", "TM", "DT", "UI", "AS", "DS", "IS", *TEXTS} == kinds
    assert len(PLANTED) > 2000


@pytest.mark.fault("reliability 76")
@pytest.mark.fault("reliability 77")
def test_predict_of_a_nifti_file(model_path: Path, watch: Watch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scan = tmp_path / "CANARYFOLDER" / f"{BEACON}.nii.gz"
    planted_nifti(scan, phantom_case(np.random.default_rng(0), SHAPE)[0].array[0])
    common = (scan, "-m", model_path, "--json", "-v", "--timing")
    watch.run("predict", *common, "-o", out, "--report", "--probabilities")
    watch.run("predict", *common, "-o", out / "again", "--report", out / "x.pdf")
    paths = require_clean(out, watch, [str(scan.parent)])
    assert len(paths) == 6 + 3
    require_beacon(path for path in paths if path.suffix in (".html", ".pdf"))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.fault("reliability 76")
@pytest.mark.fault("reliability 77")
def test_predict_of_other_formats(
    inputs: Inputs, model_path: Path, watch: Watch, tmp_path: Path, suffix: str
) -> None:
    scan = tmp_path / "CANARYPARENT" / f"{BEACON}{suffix}"
    scan.parent.mkdir()
    image = sitk.GetImageFromArray(phantom_case(np.random.default_rng(0), SHAPE)[0].array[0].T)
    for key in ("Comment", "InstitutionName", "0010|0010", "CANARYKEY"):
        image.SetMetaData(key, "CANARYVALUE")
    sitk.WriteImage(image, str(scan))
    assert len(CANARY.findall(scan.read_bytes())) >= 4
    watch.run("predict", scan, "-m", model_path, "-o", tmp_path / "out", "-v", "--json", "--probabilities")
    assert len(require_clean(tmp_path / "out", watch)) == 5


@pytest.mark.fault("reliability 76")
@pytest.mark.fault("reliability 77")
def test_predict_of_a_dicom_series(model_path: Path, watch: Watch, tmp_path: Path) -> None:
    series = planted_series(tmp_path / "CANARYPARENT" / BEACON)
    out = tmp_path / "out"
    words = ("--dicom", "--report", "--probabilities", "--json", "-v", "--series", SERIES_UID)
    watch.run("predict", series, "-m", model_path, "-o", out, *words)
    paths = require_clean(out, watch, [str(series.parent)])
    objects = [path for path in paths if path.suffix == ".dcm"]
    assert (len(paths), len(objects)) == (11, 5)
    require_beacon(path for path in paths if path.name.endswith(("_report.html", "_report.dcm")))
    (segments,) = [path for path in objects if path.name.endswith("_seg.dcm")]
    assert pydicom.dcmread(segments).SegmentationType == "BINARY"
    for path in objects:
        header = pydicom.dcmread(path)
        assert {element.tag.is_private for element in header.iterall()} == {False}
        assert str(header.PatientName) == "CANARY00100010"
        assert header.StudyInstanceUID == f"{ROOT}.{0x0020000D}"


@pytest.mark.fault("reliability 76")
@pytest.mark.fault("reliability 77")
def test_report_of_a_segmentation(inputs: Inputs, watch: Watch, tmp_path: Path) -> None:
    seg, scan, reference = map(inputs.name, (inputs.first, inputs.scans, inputs.references))
    (tmp_path / "out").mkdir()
    for name in ("page.html", "page.pdf"):
        watch.run("report", seg, scan, "--reference", reference, "-o", tmp_path / "out" / name)
    paths = require_clean(tmp_path / "out", watch, [str(seg.parent), "GRANDPARENT"])
    assert {path.name for path in paths} == {"page.html", "page.pdf"}
    require_beacon(paths)


@pytest.mark.fault("reliability 76")
@pytest.mark.fault("reliability 77")
def test_evaluate_and_compare(inputs: Inputs, watch: Watch, tmp_path: Path) -> None:
    out, names = tmp_path / "out", tmp_path / "dataset.json"
    names.write_text(json.dumps({"labels": {"background": 0, "left": 1, "right": 2, "core": 3}}))
    common = (inputs.references, "--labels", names, "--json", "--threads", 1)
    watch.run("evaluate", inputs.first, *common, "-o", out / "e", "--images", inputs.scans, "--workers", 1)
    reference = ("--reference", *common, "--csv", out / "c.csv")
    watch.run("compare", inputs.first, inputs.second, *reference, "-o", out / "compare.html")
    paths = require_clean(out, watch, [str(inputs.first.parent), "GRANDPARENT"])
    assert {"report.json", "metrics.csv", "summary.json", "cohort.html", "c.csv"} <= {p.name for p in paths}
    assert len([path for path in paths if path.suffix == ".html"]) == 4
    require_beacon(path for path in paths if path.suffix == ".html")


def test_compare_of_two_times(inputs: Inputs, model_path: Path, watch: Watch, tmp_path: Path) -> None:
    times = [tmp_path / f"CANARYPARENT{n}" for n in range(2)]
    for n, folder in enumerate(times):
        done("predict", inputs.name(inputs.scans, n), "-m", model_path, "-o", folder, "-q")
    segs = [folder / f"{BEACON}-{n}_seg.nii.gz" for n, folder in enumerate(times)]
    out = tmp_path / "out"
    out.mkdir()
    targets = ("-o", out / "f.html", "--csv", out / "f.csv", "--json", "--lesions", "core")
    watch.run("compare", "--followup", *segs, "-m", model_path, *targets)
    paths = require_clean(out, watch)
    assert {path.name for path in paths} == {"f.html", "f.csv"}
    require_beacon([out / "f.html"])


@pytest.mark.fault("reliability 76")
def test_refusals_do_not_quote_headers(model_path: Path, watch: Watch, tmp_path: Path) -> None:
    """A damaged file, a damaged slice, and a choice of series that is not there."""
    from commands import medseg

    series = planted_series(tmp_path / "a" / BEACON, count=3)
    for words in ((series, "--series", "9"), (series, "--dicom", "--volume", "3")):
        ran = medseg("predict", *words, "-m", model_path, "-o", tmp_path / "out", "-v")
        watch.said += [ran.out, ran.err]
    file = series / "001.dcm"
    file.write_bytes(file.read_bytes()[:-200])
    ran = medseg("predict", series, "-m", model_path, "-o", tmp_path / "out", "-v", "--dicom")
    assert ran.code != 0
    watch.said += [ran.out, ran.err]
    require_clean(tmp_path / "out", watch)


# Names that are markup or formulas


class Elements(HTMLParser):
    """The elements of a page, with their attributes and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in self.raw else ""
        if self.inside:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.raw[self.inside][-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


KNOWN = """
html head meta title style script noscript body p main h1 h2 h3 h4 table caption colgroup col thead tbody
tfoot tr th td figure figcaption img a span div section template canvas input label output button
ul ol li dl dt dd strong
"""


def require_harmless(path: Path) -> Elements:
    """Known elements only, no handler of events, no address but of a file beside the page or of data in it,
    and no script or style but those whose hashes the page's policy names."""
    page = Elements(path.read_text("utf-8"))
    assert {tag for tag, _ in page.tags} <= set(KNOWN.split())
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    for kind, most in (("script", 1), ("style", 1)):
        assert len(page.raw[kind]) <= most
        for content in page.raw[kind]:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in str(policy)
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc")]
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(name) or ""
            assert value.startswith("data:image/png;base64,") or not re.search(r"[:]|^//", value), value[:80]
    return page


def require_no_formula(path: Path) -> str:
    """No cell that a spreadsheet would compute; numbers may be negative."""
    text = path.read_text("utf-8")
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or _is_number(cell), (
                path.name,
                cell,
            )
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return re.fullmatch(r"-[0-9.e+-]+|-inf", text) is not None


def labels_json(path: Path) -> Path:
    labels = {"background": 0, **{name: value for value, name in HOSTILE.items()}}
    path.write_text(json.dumps({"labels": labels}))
    return path


@pytest.fixture(scope="session")
def hostile_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "hostile.safetensors"
    tiny_model(structures=from_labels(HOSTILE)).save(path)
    return path


@pytest.mark.parametrize("name", FILES[:2], ids=["script", "formula"])
@pytest.mark.fault("reliability 73")
@pytest.mark.fault("reliability 75")
def test_predict_of_a_scan_with_a_hostile_name(hostile_model: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    volume, _ = phantom_case(np.random.default_rng(0), SHAPE)
    scan = tmp_path / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(volume.array[0], STORED), scan)
    ran = done("predict", scan, "-m", hostile_model, "-o", out, "--report", "--probabilities", "--json")
    assert "NaN" not in ran.out
    page = require_harmless(out / f"{name}_report.html")
    shown = name.replace("\u2215", "\\u2215")
    assert name in page.text or shown in page.text
    assert all(text in page.text for text in HOSTILE.values())
    (written,) = ran.json()  # type: ignore[misc]
    assert {s["name"] for s in written["structures"]} == set(HOSTILE.values())


def test_dicom_objects_of_hostile_structures(hostile_model: Path, tmp_path: Path) -> None:
    series = tmp_path / FILES[0]
    tags = {0x00200052: ("UI", "1.2.3.9")}
    write_series(series, 14, size=(20, 18), step_mm=1.5, tags=tags)
    done("predict", series, "-m", hostile_model, "-o", tmp_path / "out", "--dicom", "--report", "-q")
    require_harmless(tmp_path / "out" / f"{FILES[0]}_report.html")
    (segments,) = (tmp_path / "out").glob("*_seg.dcm")
    said = {item.SegmentLabel for item in pydicom.dcmread(segments).SegmentSequence}
    assert said - {"Background"} == set(HOSTILE.values())


@pytest.mark.fault("reliability 73")
def test_pages_of_a_case_with_a_hostile_name(inputs: Inputs, tmp_path: Path) -> None:
    """The names as they stand, slash and all, in HTML and in PDF."""
    seg, scan, reference = map(inputs.name, (inputs.first, inputs.scans, inputs.references))
    for name, suffix in ((EVIL, ".html"), (FORMULA, ".pdf")):
        report(
            seg,
            scan,
            reference=reference,
            structures=from_labels(HOSTILE),
            out=tmp_path / f"x{suffix}",
            options=ReportOptions(case_id=name, facts={"Model": FORMULA}, lesions=(EVIL,)),
        )
    page = require_harmless(tmp_path / "x.html")
    assert {EVIL, FORMULA} <= set(page.words)
    assert all(text in page.text for text in HOSTILE.values())
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert not re.search(rb"/(JavaScript|JS|OpenAction|AA|URI|Launch)\b", b"".join(layers(pdf)))


@pytest.mark.fault("reliability 73")
@pytest.mark.fault("reliability 74")
def test_tables_and_pages_of_hostile_cases(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "references", "scans")]
    labels = labels_json(tmp_path / "dataset.json")
    for n, name in enumerate(FILES):
        volume, reference = phantom_case(np.random.default_rng(n), SHAPE)
        moved = [np.roll(reference.array, shift, axis=0) for shift in (1, 2)]
        for folder, array in zip(folders, (*moved, reference.array, volume.array[0]), strict=True):
            folder.mkdir(exist_ok=True)
            failed = folder.name == "a" and name == FILES[1]  # what failed is named too
            if not failed and not (folder.name == "scans" and n > 1):
                nib.save(nib.Nifti1Image(array, STORED), folder / f"{name}.nii.gz")
    a, b, references, scans = folders
    out = tmp_path / "out"
    common = (references, "--labels", labels, "--threads", 1)
    few = ("--lesions", EVIL, "--name", FORMULA, "--workers", 1, "--instances", "components")
    done("evaluate", b, *common, "-o", out / "e", "--images", scans, *few)
    alone = ("--labels", labels, "--no-surface")
    done("compare", a, b, *alone, "-o", out / "c.html", "--csv", out / "c.csv")
    ran = done(
        "compare", a, b, "--reference", *common, "-o", out / "m.html", "--csv", out / "m.csv", "--json"
    )
    ran.json()
    paths = files_below(out)
    pages = {path.name: require_harmless(path) for path in paths if path.suffix == ".html"}
    assert len(pages) == 3 + 2
    cohort = pages["cohort.html"]
    assert all(text in cohort.text for text in HOSTILE.values())
    tables = [require_no_formula(path) for path in paths if path.suffix == ".csv"]
    assert len(tables) >= 5
    assert any(f"'{FORMULA}" in text for text in tables)
    for path in paths:
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
