"""`medseg plan`: what a training on a folder of scans would do, and why."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import bytes_of, result, rewrite, say, table
from medseg.core.errors import UsageError, counted, unknown_name
from medseg.core.numbers import millilitres

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.core.structures import StructureSet
    from medseg.data.fingerprint import Fingerprint
    from medseg.io.options import ReadOptions
    from medseg.training.options import TrainOptions
    from medseg.training.planning.dataset import PlanOptions, Survey
    from medseg.training.planning.plan import Reason

Names = Annotated[
    str,
    typer.Option(
        "--names",
        help="Name label values, such as 1=liver,2=tumour, or by a JSON file. Default: as the files say.",
    ),
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile", help="Train for 10 minutes (fast), an hour (standard, the default) or 8 hours (large)."
    ),
]
Data = Annotated[
    Path,
    typer.Option("--data", help="Read the dataset in this folder, or the cases of this .csv or .tsv file."),
]


MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Train in at most this much memory, such as 3G or 1500M. Default: half of the free memory.",
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        min=2,
        help="Train and measure every one of this many folds. Default: the first of 5, or of 3 or 4 where "
        "there are only so many patients.",
    ),
]
Fold = Annotated[
    str,
    typer.Option("--fold", help="Train for this fold alone, counted from 0; none trains on every case."),
]


class Asked(NamedTuple):
    """What the options of `plan` and `train` say by themselves, before anything is read.

    Attributes:
        seconds: of the time budget.
        max_memory: bytes.
        names: of label values.
        fold: that is measured at the end; None for none.
        folds: how many; None where nobody says.
        every: whether every fold is trained.
        profile: of the plan.
        reading: decisions that the files leave open.
    """

    seconds: float | None
    max_memory: int | None
    names: Mapping[int, str] | StructureSet | None
    fold: int | None
    folds: int | None
    every: bool
    profile: str | None
    reading: ReadOptions

    @property
    def trainings(self) -> int:
        """How many share the time budget."""
        return self.folds or 1 if self.every else 1


def command(
    context: typer.Context,
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write card.toml and recipe.toml to this folder.")
    ] = None,
    names: Names = "",
    profile: Profile = "",
    time_budget: opt.TimeBudget = "",
    max_memory: MaxMemory = None,
    folds: Folds = None,
    fold: Fold = "",
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    fill_nan: opt.FillNan = None,
    volume: opt.VolumeNumber = None,
    series: opt.Series = None,
    device: opt.Device = "auto",
    threads: opt.Threads = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Plan a training for a folder of scans, every choice with its reason."""
    said = asked(context.params)
    from medseg.training.options import TrainOptions
    from medseg.training.planning.dataset import MORE_TIME, planned, survey, write_plan
    from medseg.training.run import PLAN
    from medseg.training.split import fewer_folds

    training = TrainOptions(device=device, threads=threads, reading=said.reading)
    options = plan_options(said, training)
    if out is not None:
        opt.refuse_targets((out / name for name in PLAN), (), overwrite)
    seen = survey(data, options, progress)
    rewrite("")
    of_labels = _said_of_labels(seen.like)
    if not as_json:
        result("\n".join((understood(seen), *(f"warning: {text}" for text in of_labels))))
    for text in fewer_folds(options.folds, options.fold, seen.folds):
        say(f"note: {text}")
    made = planned(seen, options)
    if as_json:
        doubts = (*seen.like.doubts, *of_labels, *made.warnings)
        result(choices_json(made.reasons, doubts, seen.found.files.left_aside))
    else:
        result("")
        result(choices(made.reasons))
        for text in made.warnings:
            say(f"warning: {text}; {MORE_TIME}")
    if out is not None:
        path = write_plan(made, out, overwrite=overwrite)
        more = "".join([f" --folds {folds}" if folds else "", f" --fold {fold}" if fold else ""])
        say(f"written: {path}; train with: medseg train {path} --data {data} -o run{more}")


def asked(given: Mapping[str, Any]) -> Asked:
    """What the options that `plan` and `train` share say by themselves.

    Args:
        given: the parameters by their names.

    Raises:
        UsageError: a value is none that there can be, or two options contradict each other.
    """
    from medseg.training.planning.profiles import PROFILES

    opt.require_device(given["device"])
    profile, time_budget, max_memory = given["profile"], given["time_budget"], given["max_memory"]
    folds, fold = given["folds"], given["fold"]
    reading = ("use_form", "assume_ras", "fill_nan", "volume", "series")
    if profile and profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    if profile and time_budget:
        raise UsageError("--profile and --time-budget exclude each other", hint="give only one of them")
    return Asked(
        seconds=opt.budget(time_budget),
        max_memory=None if max_memory is None else bytes_of(max_memory),
        fold=_fold(fold, folds),
        folds=folds,
        every=bool(folds and not fold),
        profile=profile or None,
        reading=opt.reading(*(given[name] for name in reading)),
        names=_names(given["names"]),
    )


def plan_options(said: Asked, training: TrainOptions) -> PlanOptions:
    """What a plan keeps to.

    Args:
        said: by the command line.
        training: the options of the training that is planned.

    Raises:
        UsageError: there is no such device.
    """
    from medseg.inference.engines.torch import find_device
    from medseg.training.planning.dataset import PlanOptions

    if training.device != "auto":
        find_device(training.team.device(training.device))
    return PlanOptions(
        profile=said.profile,
        time_budget_s=said.seconds,
        trainings=said.trainings,
        max_memory=said.max_memory,
        names=said.names,
        device=training.device,
        threads=training.threads,
        team=training.team,
        reading=training.reading,
        start=None if training.init is None else training.init.spec,
        folds=said.folds,
        fold=said.fold,
        epochs=training.epochs,
    )


def _fold(text: str, folds: int | None) -> int | None:
    """The fold to train for; None for none.

    Raises:
        UsageError: it is not a fold, or `--folds` contradicts it.
    """
    from medseg.training.split import USUAL_FOLDS, require_fold

    if text == "none" and folds is not None:
        raise UsageError(
            f"--fold none trains on every case, and --folds {folds} holds some out",
            hint="give only one of them",
        )
    if text == "none":
        return None
    if text and not text.isdecimal():
        raise UsageError(f"--fold {text!r} is not a fold", hint="give a number from 0 upwards, or none")
    require_fold(int(text or 0), folds or USUAL_FOLDS)
    return int(text or 0)


def _names(text: str) -> Mapping[int, str] | StructureSet | None:
    """Names by value, from `1=liver,2=tumour`; or structures, from a JSON file."""
    from medseg.data.label_files import read_structures

    if not text:
        return None
    if text.endswith(".json"):
        return read_structures(Path(text))
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(value.strip().isdigit() and name.strip() for value, _, name in pairs):
        raise UsageError(
            f"--names {text!r} does not name label values",
            hint="write 1=liver,2=tumour, or give a .json file",
        )
    named: dict[int, str] = {}
    for value, _, name in pairs:
        if int(value) in named or name.strip() in named.values():
            raise UsageError(
                f"--names {text!r} names the value {int(value)} or uses the name {name.strip()!r} twice",
                hint="give each value one name of its own",
            )
        named[int(value)] = name.strip()
    return named


def progress(number: int, of: int) -> None:
    """The case that is being read."""
    rewrite(f"reading case {number} of {of}")


def understood(seen: Survey) -> str:
    """What was found in a folder, as tables."""
    from medseg.data.layouts.mask_folders import is_mask_folder

    like, files = seen.like, seen.found.files
    cases = like.cases
    groups = len({case.group for case in cases})
    of_masks = is_mask_folder(files.cases[0].label)
    lines = [
        f"{counted(len(cases), 'case')} of {counted(groups, 'patient')}, read as the layout {seen.layout}",
        f"first case: {files.cases[0].case_id}",
        *(
            f"  {name}: {path}"
            for name, path in (files.cases[0].channels or {"image": files.cases[0].image}).items()
        ),
        f"  labels: {files.cases[0].label}" + (", one mask a structure" if of_masks else ""),
        f"voxels: {_side(like)}; scans: {_spread([case.shape for case in cases])} voxels",
        "",
        table([("channel", "values"), *_channels(seen)]),
        "",
        table(_structures(seen)),
        *([""] if like.doubts else []),
        *(f"warning: {text}" for text in like.doubts),
    ]
    if files.parts:
        parts = ", ".join(f"{part} {count}" for part, count in files.parts.items())
        lines += ["", f"parts by folder or name, read as one set, which is split anew: {parts}"]
    if files.aside:
        lines += ["", *(f"left aside: {text}" for text in files.left_aside)]
    return "\n".join(lines)


def _said_of_labels(like: Fingerprint) -> list[str]:
    """What label files say of themselves, such as that masks overlap; a training tells it of its cases."""
    from medseg.findings.finding import gathered

    said = [(case.case_id, text) for case in like.cases for text in case.said]
    return [f"labels of {text}" for text in gathered(said, len(like.cases))]


def _channels(seen: Survey) -> list[tuple[str, str]]:
    rows = []
    for number, name in enumerate(seen.like.channels):
        values = [case.intensities[number] for case in seen.like.cases]
        low, high = (median(getattr(v, end) for v in values) for end in ("low", "high"))
        modality = ", ".join(sorted({v.modality for v in values} - {""}))
        kind = "CT, in HU" if seen.like.is_ct(number) else f"{modality}, no unit" if modality else "no unit"
        rows.append((name, f"{low:.4g} to {high:.4g} ({kind})"))
    return rows


def _structures(seen: Survey) -> list[tuple[str, ...]]:
    """What is labelled; volumes where a size is known."""
    sized = seen.like.is_sized
    rows: list[tuple[str, ...]] = [("structure", "value", "cases", "voxels", *(["ml"] if sized else []))]
    for structure in seen.like.structures:
        held = [case for case in seen.like.cases if structure.name in case.voxels]
        voxels = median(case.voxels[structure.name] for case in held) if held else 0
        ml = median(case.volumes_ml[structure.name] for case in held) if held else 0
        values = "+".join(map(str, structure.label_values))
        count = f"{len(held)} of {len(seen.like.cases)}"
        volume = [millilitres(ml)] if sized else []
        rows.append((structure.name, values, count, f"{voxels:.0f}", *volume))
    return rows


def _side(like: Fingerprint) -> str:
    """The sizes of voxels, where a file states any."""
    return f"{_spread([case.spacing_mm for case in like.cases])} mm" if like.is_sized else "of no stated size"


def _spread(sizes: list[tuple[float, float, float]] | list[tuple[int, int, int]]) -> str:
    """One size, or the smallest and the largest along each axis.

    >>> _spread([(1, 2, 3)]), _spread([(1, 2, 3), (2, 2, 4)])
    ('1x2x3', '1-2 x 2 x 3-4')
    """
    least, most = ([end(axis) for axis in zip(*sizes, strict=True)] for end in (min, max))
    if least == most:
        return "x".join(f"{v:.3g}" for v in least)
    return " x ".join(f"{a:.3g}" if a == b else f"{a:.3g}-{b:.3g}" for a, b in zip(least, most, strict=True))


def choices(reasons: Sequence[Reason]) -> str:
    """The choices of a plan, each with its reason, one a line."""
    width = max(len(reason.setting) for reason in reasons)
    return "\n".join(f"{r.setting.ljust(width)}  {r.value}: {r.why}" for r in reasons)


def choices_json(reasons: Sequence[Reason], doubts: Sequence[str] = (), aside: Sequence[str] = ()) -> str:
    """The choices of a plan as JSON, with what is to be said of its cases, and of files that are in none."""
    told = {"warnings": [*doubts], "left_aside": [*aside]}
    content = {"choices": [reason._asdict() for reason in reasons], **told}
    return json.dumps(content, indent=1)
