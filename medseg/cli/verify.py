"""`medseg verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say
from medseg.core.errors import SelfCheckError, listed

if TYPE_CHECKING:
    from medseg.prediction.verify import Verification

SAID = {
    "same": "the labels are the same, voxel by voxel",
    "rounding": "the labels agree within rounding",
    "different": "the labels differ",
}


def command(
    sidecar: Annotated[Path, typer.Argument(help="Sidecar of a prediction, SCAN_seg.json, or its labels.")],
    scan: Annotated[
        list[str] | None,
        typer.Option(
            "--scan",
            help="Predict this scan, or NAME=FILE for each channel. Repeatable. Default: the scan beside.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Use this model file. Repeatable. Default: packaged models as recorded."
        ),
    ] = None,
    series: opt.Series = None,
    threads: opt.Threads = 0,
    as_json: opt.Json = False,
) -> None:
    """Predict a scan again as its sidecar records, and say whether the voxels are the same."""
    from medseg.prediction.verify import verify

    found = verify(sidecar, scan or (), model or (), series=series, threads=threads)
    if as_json:
        result(json.dumps(found.content()))
    else:
        _tell(found)
    if found.contradictions:
        raise SelfCheckError(
            listed(list(found.contradictions)), source=found.labels, hint="predict the scan again"
        )
    if found.verdict == "different":
        raise SelfCheckError(
            f"{found.differing:,} of {found.voxels:,} voxels have another label now",
            source=found.labels,
            hint="look at the differences with medseg compare",
        )


def _tell(found: Verification) -> None:
    """What was compared, and what was not as before."""
    for text in found.otherwise:
        say(f"not as recorded: {text}")
    if found.differing:
        for name, dice in found.dice.items():
            result(f"{name}: {'in neither' if dice is None else f'Dice {dice:.4f} with the recorded labels'}")
    result(f"{SAID[found.verdict]}: {found.differing:,} of {found.voxels:,} voxels differ")
