"""SHA-256 of scans and label maps: of one file, of several that belong together, of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from medseg.core.digest import hexdigest
from medseg.core.errors import MedsegError
from medseg.io.dicom.series import is_dicom_folder
from medseg.io.names import opened
from medseg.io.read import files_of


def digest_of(source: Path | Mapping[str, Path]) -> str:
    """SHA-256 of what a scan or label map is read from, the same in every result that names it.

    Args:
        source: a file, a DICOM folder, a folder of masks, or a file or folder a channel.

    Returns:
        Of one file, what any program gives for it. Of several - both of a pair, the slices of a folder,
        channels in the order of their names - over the SHA-256 of each. A file whose header is too
        damaged to name the others counts alone.

    Raises:
        InputError: a file cannot be read.
    """
    sources = [path for _, path in sorted(source.items())] if isinstance(source, Mapping) else [source]
    return digest_of_files(file for path in sources for file in _files(path))


def digest_of_files(files: Iterable[Path]) -> str:
    """SHA-256 of a file; of several, in their order, over the SHA-256 of each.

    Raises:
        InputError: a file cannot be read.
    """
    found = []
    for path in files:
        with opened(path) as stream:
            found.append(hashlib.file_digest(stream, "sha256"))  # type: ignore[arg-type]
    if len(found) == 1:
        return found[0].hexdigest()
    return hexdigest(*(one.digest() for one in found))


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir() and not is_dicom_folder(path):
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    with suppress(MedsegError):
        return files_of(path)
    return (path,)
