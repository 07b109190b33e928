"""What a browser shows of a scan and its labels: bytes in RAS+ order, first axis fastest, packed by gzip."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import InputError
from medseg.core.structures import StructureSet
from medseg.core.volume import LabelMap, Volume
from medseg.io.atomic import write_text
from medseg.preparation.orient import canonical

PERCENTILES = (0.5, 99.5)
"""Of the intensities that a browser shows from black to white."""


def show(out: Path, volume: Volume, labels: LabelMap, structures: StructureSet) -> None:
    """Write what a browser shows: bytes in RAS+ order, first axis fastest, and what they are."""
    image = np.asarray(volume.array[0], np.float32)
    low, high = np.percentile(image[:: max(1, image.shape[0] // 64)], PERCENTILES)
    grey = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    turn = canonical(volume.grid)
    grid = turn.grid(volume.grid)
    _packed(out / "image.gz", turn.forward(grey))
    write_shown(out / "labels.gz", labels)
    rows = [{"value": s.value, "name": s.name, "colour": s.colour} for s in structures]
    said = {
        "shape": list(grid.shape),
        "spacing_mm": [round(float(mm), 6) for mm in grid.spacing_mm],
        "structures": rows,
    }
    write_text(out / "view.json", json.dumps(said))


def write_shown(path: Path, labels: LabelMap) -> None:
    _packed(path, canonical(labels.grid).forward(labels.array.astype(np.uint16)))


def _packed(path: Path, array: NDArray[Any]) -> None:
    path.write_bytes(
        gzip.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(order="F"), 1, mtime=0)
    )


def shown(path: Path, like: Volume | LabelMap) -> LabelMap:
    """Labels as a browser sends them, on the grid of a scan.

    Raises:
        InputError: they are not as many voxels.
    """
    turn = canonical(like.grid)
    shape = turn.grid(like.grid).shape
    wanted = 2 * int(np.prod(shape))
    try:
        with gzip.open(path) as stream:
            data = stream.read(wanted + 1)
    except (OSError, EOFError) as fault:
        raise InputError(f"the labels are not packed as gzip packs them ({fault})") from None
    if len(data) != wanted:
        raise InputError(f"the labels are not {wanted // 2} voxels of two bytes")
    array = np.frombuffer(data, "<u2").reshape(shape, order="F")
    return LabelMap(np.ascontiguousarray(turn.backward(array)), like.grid, like.form)
