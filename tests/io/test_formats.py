"""The table of suffixes: what each means, and that whoever it names can do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.io.formats import FORMATS, HTML_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SUFFIXES
from medseg.io.names import format_of, names_image, require_page, stem_and_suffix

READERS = [suffix for suffix, found in FORMATS.items() if found.reader]


@pytest.mark.parametrize("suffix", READERS)
def test_every_module_of_the_table_reads_or_writes(suffix: str) -> None:
    found = FORMATS[suffix]
    assert {"describe", "read", "files"} <= vars(found.reading()).keys()
    if found.writer:
        assert {"write", "targets"} <= vars(found.writing()).keys()
    if found.is_picture:
        assert {"read_labels", "require_holds"} <= vars(found.reading()).keys()


def test_suffixes_are_matched_as_written_and_in_capitals() -> None:
    for suffix, found in FORMATS.items():
        assert format_of(f"a{suffix}") is format_of(Path(f"x/b.1{suffix.upper()}")) is found
        assert stem_and_suffix(f"a.b{suffix}") == ("a.b", suffix)
    assert not format_of("notes.txt").kind
    assert not format_of("README").is_image


def test_lists_of_suffixes_come_from_the_table() -> None:
    assert SUFFIXES[:5] == (".nii.gz", ".nii", ".hdr", ".img", ".seg.nrrd")
    assert set(READERS) - set(SUFFIXES) == {".dcm", ".dicom", ".ima"}
    assert NIFTI_SUFFIXES == (".nii.gz", ".nii")
    assert PICTURE_SUFFIXES == (".png", ".tif", ".tiff")
    assert HTML_SUFFIXES == (".html", ".htm")
    assert [s for s in SUFFIXES if not names_image(f"a{s}")] == [".img"]
    assert [require_page(Path(f"a{s}")) for s in (".html", ".HTM", ".pdf")] == [False, False, True]


def test_labels_and_fractions_are_never_written_where_they_would_change() -> None:
    for suffix, found in FORMATS.items():
        labels = FORMATS[found.labels_as] if found.labels_as else found
        fractions = FORMATS[found.fractions_as] if found.fractions_as else labels
        assert not labels.is_lossy, suffix
        assert not fractions.is_lossy, suffix
        assert not fractions.holds_labels_only, suffix
