"""DICOM files to be spoiled: a slice, a multi-frame file, a mosaic, a structure set and segmentations."""

from __future__ import annotations

import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_files import Frame, enhanced, item, repainted, save, scanned, structure_set
from io_files import write_dicom
from mutations import INTEGERS, WORDS, Generator, spoiled_bytes
from pydicom.dataelem import RawDataElement

from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import LabelMap
from medseg.io import read_volume
from medseg.prediction.dicom import write_dicom as write_objects

CSA_OF_SERIES = 0x00291020
"""80 KB of Siemens that no reader looks at."""


def series(folder: Path) -> list[bytes]:
    """One slice of three, beside the others."""
    return [write_dicom(folder / "series", 3)[1].read_bytes()]


def frames(folder: Path) -> list[bytes]:
    """Enhanced files: one of one volume, one of two."""
    path = folder / "seed.dcm"
    echoes = [{"MREchoSequence": [item(EffectiveEchoTime=5.0 * n)]} for n in (1, 2)]
    made = []
    for kinds in ([{}], echoes):
        enhanced(
            path,
            [
                Frame(2.0 * z, rescale=(2.0, -1.0), dimensions=(1, z + 1, n + 1), time=1, **kind)
                for n, kind in enumerate(kinds)
                for z in range(4)
            ],
            pointers=(0x00209056, 0x00209057, 0x00189087),
        )
        made.append(path.read_bytes())
    path.unlink()
    return made


def mosaic(folder: Path) -> list[bytes]:
    """48 tiles of 5 x 4 pixels with the header of a scanner."""
    path = folder / "seed.dcm"
    header = scanned("siemens_dwi_0.dcm.gz")
    repainted(header, (7 * 5, 7 * 4))
    del header[CSA_OF_SERIES]
    made = save(header, path).read_bytes()
    path.unlink()
    return [made]


def structures(folder: Path) -> list[bytes]:
    """Two structures, one with a hole, drawn on a series that lies beside them."""
    slices = write_dicom(folder / "ct", 3, size=(12, 10))
    first = pydicom.dcmread(slices[0])
    corner = np.array(first.ImagePositionPatient, dtype=float)
    rows, columns = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    down, across = map(float, first.PixelSpacing)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    outer, hole = (
        corner + (square * n + 1.5)[:, :1] * rows * across + (square * n + 1.5)[:, 1:] * columns * down
        for n in (6, 3)
    )
    made = structure_set(folder / "seed.dcm", slices[0], {"liver": [outer, hole], "lesion": [hole]})
    content = made.read_bytes()
    made.unlink()
    return [content]


def segmentations(folder: Path) -> list[bytes]:
    """Segments, a label map and overlapping regions of a series that lies beside them."""
    write_dicom(folder / "ct", 3, size=(12, 10), tags={0x00200052: ("UI", "1.2.826.0.1.3680043.2.1125.99")})
    grid = read_volume(folder / "ct").grid
    array = np.zeros(grid.shape, np.uint8)
    array[2:9, 1:8], array[4:6, 3:5, 1:] = 1, 2
    plain = StructureSet((Structure(1, "liver"), Structure(2, "lesion")))
    regions = StructureSet((Structure(1, "liver", members=(1, 2)), Structure(2, "lesion", members=(2,))))
    contents = []
    for structures, kind in ((plain, "binary"), (plain, "labelmap"), (regions, "binary")):
        made = write_objects(
            folder / "seed", folder / "ct", LabelMap(array, grid), structures, model="tiny", kind=kind,  # type: ignore[arg-type]
        )  # fmt: skip
        contents.append(made[0].read_bytes())
        for path in made:
            path.unlink()
    return contents


def spoiled(blob: bytes, generator: Generator) -> bytes:
    """Bytes after the preamble spoiled; or elements and items, with their lengths as they are."""
    if generator.random() < 0.6:
        with warnings.catch_warnings(), suppress(Exception):  # the library does not write all, as it stands
            warnings.simplefilter("ignore")
            return _spoiled_elements(pydicom.dcmread(BytesIO(blob)), generator)
    return blob[:128] + spoiled_bytes(len(blob))(blob[128:], generator)


def _spoiled_elements(header: Any, generator: Generator) -> bytes:
    for _ in range(int(generator.integers(1, 4))):
        _spoil_within(header, generator)
    stream = BytesIO()
    header.save_as(stream)
    return stream.getvalue()


def _spoil_within(place: Any, generator: Generator) -> None:
    """Spoil an element of a data set, or one below it."""
    tags = list(place.keys())
    if not tags:
        return
    tag = tags[int(generator.integers(0, len(tags)))]
    element = place.get_item(tag)
    if str(element.VR) != "SQ":
        _spoil_element(place, tag, generator)
        return
    items, kind = place[tag].value, generator.random()
    n = int(generator.integers(0, len(items))) if items else 0
    if not items or kind < 0.05:
        del place[tag]
    elif kind < 0.12:
        del items[n]
    elif kind < 0.2:
        items.append(items[n])
    else:
        _spoil_within(items[n], generator)


def _spoil_element(place: Any, tag: Any, generator: Generator) -> None:
    kind = generator.random()
    if kind < 0.15:
        del place[tag]
        return
    raw = _raw(place.get_item(tag))
    if kind < 0.4:
        value = spoiled_bytes(len(raw.value or b""))(raw.value or b"", generator)
    elif kind < 0.7:
        words = [WORDS[int(n)] for n in generator.integers(0, len(WORDS), int(generator.integers(1, 4)))]
        value = "\\".join(words).encode("utf-8")
    else:
        number = INTEGERS[int(generator.integers(0, len(INTEGERS)))]
        size = len(raw.value or b"") or 2
        value = (number % 256**size).to_bytes(size, "little")
    value = value[:60000] + b" " * (len(value) % 2)
    place._dict[tag] = raw._replace(value=value, length=len(value))  # not understood, so that it is kept


def _raw(element: Any) -> RawDataElement:
    """An element as its bytes."""
    if isinstance(element, RawDataElement):
        return element
    text = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value or "")
    return RawDataElement(element.tag, str(element.VR), 0, text.encode("utf-8", "replace"), 0, False, True)
