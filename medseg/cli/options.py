"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from medseg.io.options import FormName, ReadOptions

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
Labels = Annotated[
    Path | None, typer.Option("--labels", help="JSON with the names of the labels, such as dataset.json.")
]
Ignore = Annotated[
    int | None,
    typer.Option("--ignore", help="Value of reference voxels that nobody labelled: they count nowhere."),
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
Series = Annotated[
    str | None, typer.Option("--series", help="Which DICOM series of a folder, or kind of frames of a file.")
]


def reading(
    use_form: str | None,
    assume_ras: bool,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
) -> ReadOptions:
    """The decisions that files leave open, as a command line takes them.

    Raises:
        UsageError: a value that no file could be read with.
    """
    from medseg.io.options import ReadOptions

    return ReadOptions(cast("FormName | None", use_form), assume_ras, fill_nan, volume, series)


# Of predict.
Inputs = Annotated[
    list[str],
    typer.Argument(help="A scan; NAME=FILE for each channel; a DICOM series; or a folder of scans."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", help="Model file or packaged model; several are averaged; brain, if none is named."
    ),
]
Engine = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, f32, bf16 or f16.")]
Channels = Annotated[str, typer.Option("--channels", help="Names of the volumes of a 4D file: a,b.")]
Tta = Annotated[bool | None, typer.Option("--tta/--no-tta", help="Average with the mirrored scan; slower.")]
Refine = Annotated[
    bool | None,
    typer.Option("--refine/--no-refine", help="Follow the scan's own intensities; as the model says."),
]
Prune = Annotated[
    int, typer.Option("--prune", min=0, help="Cut a UNet++ down to its level 1, 2, ...; faster.")
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Write the probability of each structure too.")
]
Report = Annotated[
    bool, typer.Option("--report", help="Write a page about each case too; or, of one: --report x.pdf.")
]
ReportFile = Annotated[Path | None, typer.Option("--report-file", hidden=True)]
Dicom = Annotated[
    bool,
    typer.Option("--dicom", help="Of a DICOM series: write SEG, SR, RTSTRUCT, the page and a picture too."),
]
DicomSeg = Annotated[
    str, typer.Option("--dicom-seg", help="Kind of DICOM segmentation: binary, which all show, or labelmap.")
]
Bids = Annotated[
    bool,
    typer.Option("--bids", help="Of a BIDS data set: write a derivative, to derivatives/medseg or -o."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a doubtful result, and one whose files were warned of.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Take a CT whose values look rescaled; the result is doubtful.")
]
Timing = Annotated[bool, typer.Option("--timing", help="Print what each step took.")]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", help="Most memory to hold: 3G, 800M; most of what is free, if not said."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print tiles, memory and time; write nothing.")]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Send the cases of a folder to a Dask cluster: tcp://host:8786."),
]
Shard = Annotated[str, typer.Option("--shard", help="i/n: only every n-th case of a folder, from the i-th.")]
