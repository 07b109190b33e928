"""`medseg export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say


def command(
    model: Annotated[str, typer.Argument(help="Model to export: a file, or the name of a packaged model.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Write to this .onnx or .xml (OpenVINO) file.")],
    overwrite: opt.Overwrite = False,
) -> None:
    """Export a model's network for other programs. Writes pre- and post-processing as JSON."""
    from medseg.model.file import load_model
    from medseg.training.export import export

    done = export(load_model(model), out, overwrite=overwrite)
    for path in done.files:
        say(str(path))
    say(
        f"against torch in float32: probabilities within {done.probability:.1e}, "
        f"{100 * (1 - done.labels):.4g} % of the labels the same"
    )
