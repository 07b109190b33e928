"""DICOM data sets read by pydicom, with its warnings and messages suppressed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError, MedsegError

LOGS = ("highdicom", "pydicom", "pynetdicom")


def dataset(path: Path, *, tags: tuple[str, ...] = (), pixels: bool = False) -> Any:
    """A file's data set, with the attributes listed, or all but the pixels.

    Raises:
        InputError: the header is damaged.
    """
    from pydicom import dcmread

    with damage_named(path):
        return dcmread(path, force=True, stop_before_pixels=not pixels, specific_tags=list(tags) or None)


@contextmanager
def damage_named(
    path: Path, fault: str = "the DICOM header is damaged", hint: str = "export it again"
) -> Iterator[None]:
    """Convert exceptions of the libraries on damaged headers to an InputError.

    They understand a value when it is first asked for, and raise errors of many kinds, whose words may hold
    the header's.

    Raises:
        InputError: with the fault and the hint given.
    """
    try:
        with unwarned():
            yield
    except (MedsegError, MemoryError):
        raise
    except Exception:
        raise InputError(fault, source=path, hint=hint) from None


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
