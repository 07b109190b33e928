"""What cases are called: not as the files that were sent, whose names may say whom they show."""

from __future__ import annotations

import json

from medseg.core.digest import hexdigest
from medseg.core.errors import InputError
from medseg.data.store import case_of
from medseg.segmentation.prediction import Provenance


def case_name(of: Provenance) -> str:
    """What the case of a prediction is called: by the bytes of its scan, and how they were read.

    One file can hold several scans, and one that contradicts itself has two grids.

    Raises:
        InputError: the prediction does not say what it is of.
    """
    if of.input is None:
        raise InputError("the prediction does not state the digest of its scan")
    decided = {} if of.settings is None else of.settings.reading
    reading = {name: value for name, value in decided.items() if value is not None and value is not False}
    said = json.dumps(reading, sort_keys=True)
    return case_of(hexdigest(f"{of.input.sha256} {said}") if reading else of.input.sha256)
