"""Options that several verbs share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medseg.cli.terminal import seconds_of
from medseg.core.errors import UsageError

if TYPE_CHECKING:
    from medseg.io.options import FormName, ReadOptions

Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write the result to this file or folder.")]
Device = Annotated[
    str, typer.Option("--device", "-d", help="Compute on this device: auto, cpu, cuda, cuda:N or mps.")
]
Threads = Annotated[
    int, typer.Option("--threads", min=0, help="Use this many CPU threads; 0 uses all available.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more details.")]
Tolerance = Annotated[
    float | None,
    typer.Option("--tolerance", min=0.0, help="Compute the surface Dice at this tolerance, in mm."),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Read the label names from this JSON file, such as dataset.json or scan_seg.json."
    ),
]
Ignore = Annotated[
    int | None,
    typer.Option("--ignore", help="Exclude reference voxels with this value (unlabelled) from every metric."),
]
Surface = Annotated[bool, typer.Option("--surface/--no-surface", help="Also measure surface distances.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write every value to this CSV file.")]
UseForm = Annotated[
    str | None,
    typer.Option("--use-form", help="Use the sform or the qform where the two contradict each other."),
]
AssumeRas = Annotated[
    bool,
    typer.Option(
        "--assume-ras", help="Read a file without orientation as RAS+; left and right may be swapped."
    ),
]
FillNan = Annotated[
    float | None, typer.Option("--fill-nan", help="Replace NaN and infinite voxels by this value.")
]
VolumeNumber = Annotated[
    int | None, typer.Option("--volume", min=0, help="Read this volume of a 4D file, counted from 0.")
]
Series = Annotated[
    str | None,
    typer.Option("--series", help="Read this DICOM series of a folder, or frames of this kind of a file."),
]
SeriesIn = Annotated[
    Path | None,
    typer.Option(
        "--series-in",
        help="Look for the series of DICOM segmentations and structure sets in this folder, or its folders.",
    ),
]


def require_reference(ignore: int | None, reference: Path | None) -> None:
    """Refuse a value to ignore without the reference that contains it.

    Raises:
        UsageError: there is a value, but no reference.
    """
    if ignore is not None and reference is None:
        raise UsageError(
            "--ignore needs a --reference, whose voxels it excludes", hint="give both or neither"
        )


TimeBudget = Annotated[
    str,
    typer.Option(
        "--time-budget",
        help="Train as many epochs as fit into this time, such as 20m or 2h, at their measured speed.",
    ),
]


DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?|mps")
"""Names of devices; whether there is one is known to the library that computes."""


def require_device(name: str) -> None:
    """Refuse what is not the name of a device.

    Raises:
        UsageError: it is none.
    """
    if not DEVICES.fullmatch(name):
        raise UsageError(f"--device {name!r} is not a device", hint="give auto, cpu, cuda, cuda:N or mps")


def words(text: str) -> tuple[str, ...]:
    """The words of a list with commas.

    >>> words("encoder, bottom"), words("")
    (('encoder', 'bottom'), ())
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers of a list with commas.

    Raises:
        UsageError: a word is no number.

    >>> numbers("--scales", "0.5, 1")
    (0.5, 1.0)
    """
    try:
        found = tuple(map(float, words(text)))
    except ValueError:
        found = ()
    if text and not found:
        raise UsageError(f"{option} must be numbers such as 0.9,1,1.1, not {text!r}")
    return found


def budget(text: str) -> float | None:
    """The seconds of `--time-budget`; None where it is left out.

    Raises:
        UsageError: it is not a duration.
    """
    if not text:
        return None
    try:
        seconds = seconds_of(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"--time-budget {text!r} is not a duration", hint="write 90s, 20m or 1.5h")
    return seconds


def duration(option: str, text: str) -> float:
    """The seconds of an option that takes a time.

    Raises:
        UsageError: it is none, or not above 0.
    """
    try:
        seconds = seconds_of(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{option} takes a time such as 90s, 10m or 24h, not {text!r}")
    return seconds


def reading(
    use_form: str | None,
    assume_ras: bool,
    fill_nan: float | None = None,
    volume: int | None = None,
    series: str | None = None,
    series_in: Path | None = None,
) -> ReadOptions:
    """The reading options of a command line.

    Raises:
        UsageError: a value that no file could be read with.
    """
    from medseg.io.options import ReadOptions

    return ReadOptions(cast("FormName | None", use_form), assume_ras, fill_nan, volume, series, series_in)


# Of predict.
Inputs = Annotated[
    list[str],
    typer.Argument(help="A scan, NAME=FILE for each channel, a DICOM series, or a folder of scans."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Use this model file or packaged model; several models are averaged. Default: brain.",
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", help="Run the network with this engine: auto, openvino or torch.")
]
Precision = Annotated[
    str, typer.Option("--precision", help="Compute in this precision: auto, f32, bf16 or f16.")
]
Channels = Annotated[
    str, typer.Option("--channels", help="Name the volumes of a 4D file, in order, such as t1,flair.")
]
Tta = Annotated[
    bool | None,
    typer.Option(
        "--tta/--no-tta",
        help="Average with the prediction of the mirrored scan (slower). Default: the setting of the model.",
    ),
]
Refine = Annotated[
    bool | None,
    typer.Option(
        "--refine/--no-refine",
        help="Refine borders by the scan's own intensities. Default: the setting of the model.",
    ),
]
Prune = Annotated[
    int, typer.Option("--prune", min=0, help="Prune a UNet++ to this level (faster); 0 keeps all levels.")
]
Scales = Annotated[
    str,
    typer.Option("--scales", help="Average over the scan at these scales, such as 0.9,1,1.1 (slower)."),
]
LeastScore = Annotated[
    float | None,
    typer.Option(
        "--least-score",
        min=0,
        max=1,
        help="Leave out objects that are found with a lower score. Default: the setting of the model.",
    ),
]
ScanBudget = Annotated[
    str,
    typer.Option(
        "--time-budget",
        help="Finish each scan within this time, such as 10s: look once, then refine where that was unsure.",
    ),
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Also write the probability of each structure.")
]
Report = Annotated[
    bool,
    typer.Option(
        "--report", help="Also write a report of each case; for one case, --report x.pdf names the file."
    ),
]
ReportFile = Annotated[Path | None, typer.Option("--report-file", hidden=True)]
Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom", help="For a DICOM series, also write SEG, SR, RTSTRUCT, the report and a picture as DICOM."
    ),
]
DicomSeg = Annotated[
    str,
    typer.Option(
        "--dicom-seg",
        help="Write this kind of DICOM segmentation: binary (every viewer shows it) or labelmap.",
    ),
]
Bids = Annotated[
    bool,
    typer.Option(
        "--bids", help="For a BIDS dataset, write a BIDS derivative to derivatives/medseg or to -o."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail if a result is doubtful or a file caused a warning.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Accept a CT whose values look rescaled; the result is doubtful.")
]
Timing = Annotated[bool, typer.Option("--timing", help="Print the time that each step took.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Use at most this much memory, such as 3G or 800M. Default: 80 % of the free memory.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print estimates of tiles, memory and time; write nothing.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Predict the cases of a folder on the Dask cluster at this address, such as tcp://host:8786.",
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard", help="Predict part i of n of a folder, given as i/n: every n-th case from the i-th."
    ),
]

# Of services.
Offered = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        help="Offer this model: a file, a folder of files, or a packaged model. Repeatable. Default: the "
        "packaged models.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Do so many jobs at a time.")]
MaxUpload = Annotated[
    str, typer.Option("--max-upload", help="Take no more than this of one scan, such as 1G.")
]
MaxWaiting = Annotated[
    int, typer.Option("--max-waiting", min=1, help="Take no more jobs than this before some are done.")
]
TimeLimit = Annotated[
    str, typer.Option("--time-limit", help="End a job that takes longer than this, such as 10m.")
]


def refuse_targets(targets: Iterable[Path | None], read: Sequence[Path | None], overwrite: bool) -> None:
    """Refuse to write over what a command reads, and over any file that may not be replaced.

    Args:
        targets: files to write; None for one that is not asked for.
        read: files, whose sidecars are read too, and folders of images with theirs.
        overwrite: whether an existing file may be replaced, unless it is read.

    Raises:
        UsageError: which, and why.
    """
    from medseg.io.atomic import refuse_existing
    from medseg.segmentation.prediction import summary_path

    sources = [path for path in read if path is not None]
    inputs = [*sources, *(summary_path(path) for path in sources if path.is_file())]
    folders = [path.resolve() for path in sources if path.is_dir()]
    for target in targets:
        if target is not None:
            inside = any(map(target.resolve().is_relative_to, folders))
            refuse_existing(target, overwrite, [*inputs, *[target] * (inside and _is_read(target))])


def result_target(scan: Path, what: str, out: Path | None) -> Path:
    """The label file of a result: `out`, or in the folder `out` or beside the scan, named after the scan."""
    from medseg.io import stem_and_suffix
    from medseg.prediction.requests import InputCase

    place = scan.resolve() if scan.is_dir() else scan
    stem = place.name if scan.is_dir() else stem_and_suffix(scan)[0]
    return InputCase(scan, f"{stem}_{what}", place.parent).target(out)


def _is_read(path: Path) -> bool:
    """Whether a file of a folder is what is read from one: an image, a sidecar or a description."""
    from medseg.data.layouts.description import LISTER
    from medseg.io.names import format_of
    from medseg.segmentation.prediction import usable_summary

    return path.exists() and (
        format_of(path).is_image or path.name == LISTER or usable_summary(path) is not None
    )
