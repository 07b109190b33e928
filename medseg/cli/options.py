"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option("--output", "-o", help="File or folder to write.")]
Device = Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Processor threads; 0 takes what there is.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more.")]
Tolerance = Annotated[
    float | None, typer.Option("--tolerance", min=0.0, help="Tolerance of the surface Dice, in mm.")
]
UseForm = Annotated[
    str | None, typer.Option("--use-form", help="sform or qform, where the two contradict each other.")
]
AssumeRas = Annotated[
    bool,
    typer.Option("--assume-ras", help="Take a file without orientation as RAS+; sides may be swapped."),
]
FillNan = Annotated[float | None, typer.Option("--fill-nan", help="Value for voxels that are not numbers.")]
VolumeNumber = Annotated[int | None, typer.Option("--volume", min=0, help="Which volume of a 4D file.")]
Series = Annotated[str | None, typer.Option("--series", help="Which DICOM series of a folder.")]
