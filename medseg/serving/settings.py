"""Settings of the jobs of a service, by their kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class PredictSettings:
    """Settings of a prediction; the others are the model's.

    Attributes:
        channels: what the files are called in their order; none for one file.
        report: write a page too.
        view: write what a browser shows of the scan and the labels.
        dicom: write DICOM objects of the series' study too.
        strict: a doubtful result is an error.
        tta, refine: see `medseg.load`.
        use_form, assume_ras, fill_nan, volume, series: see `medseg.read`.
    """

    channels: tuple[str, ...] = ()
    report: bool = False
    view: bool = False
    dicom: bool = False
    strict: bool = False
    tta: bool | None = None
    refine: bool | None = None
    use_form: Literal["sform", "qform"] | None = None
    assume_ras: bool = False
    fill_nan: float | None = None
    volume: int | None = None
    series: str | None = None


@dataclass(frozen=True)
class RefineSettings:
    """Settings of a correction by scribbles, see `medseg.refine`."""

    method: Literal["graph_cut", "random_walker", "grow", "watershed", "levelset"] = "graph_cut"
    background: int = 255
    reach_mm: float = 10.0


@dataclass(frozen=True)
class CorrectSettings:
    """Settings of labels that were drawn by hand.

    Attributes:
        accepted: structures that somebody looked at and took as they are.
        base: digest of the labels of this scan that were kept when the correction was begun, empty for none.
        replace: take the place of what is kept by now, whatever it is.
    """

    accepted: tuple[str, ...] = ()
    base: str = ""
    replace: bool = False


@dataclass(frozen=True)
class KeepSettings:
    """Settings of labels of a stored case that another program sends.

    Attributes:
        case: whose they are.
        names: values in the file by the names of structures; empty where they are those of the model.
    """

    case: str
    names: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AddSettings:
    """Settings of a scan that another program sends to be kept.

    Attributes:
        case: what it is to be called.
    """

    case: str


SETTINGS: Mapping[str, Any] = {
    "predict": PredictSettings,
    "refine": RefineSettings,
    "correct": CorrectSettings,
    "keep": KeepSettings,
    "add": AddSettings,
}
"""By the kind of a job."""
