"""pydicom, which is installed with the extra `medseg[dicom]`, and what is done to keep its words out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.errors import InputError, UsageError

FAULTS = (OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError)
"""What reading a damaged header can raise; its words may hold the header's, so they are not passed on."""
LOGS = ("highdicom", "pydicom")


def pydicom(what: str, source: Path) -> Any:
    """The library that reads nested headers.

    Args:
        what: needs it, as the subject of a sentence.
        source: the file, for the message.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.uid
    except ImportError:
        raise UsageError(
            f"{what} needs pydicom, which is not installed",
            source=source,
            mend="pip install 'medseg[dicom]'",
        ) from None
    return pydicom


def dataset(path: Path, what: str, *, tags: tuple[str, ...] = (), pixels: bool = False) -> Any:
    """A file's data set, with the attributes listed, or all but the pixels.

    Raises:
        UsageError: pydicom is not installed.
        InputError: the header is damaged.
    """
    library = pydicom(what, path)
    try:
        with unwarned():
            return library.dcmread(
                path, force=True, stop_before_pixels=not pixels, specific_tags=list(tags) or None
            )
    except FAULTS:
        raise InputError("the DICOM header is damaged", source=path, mend="export it again") from None


@contextmanager
def unwarned() -> Iterator[None]:
    """No warning or log of the libraries within, whose words may hold a header's."""
    logs = [logging.getLogger(name) for name in LOGS]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
