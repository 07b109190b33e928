"""What the page about a case may be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from medseg.core.instances import InstanceMap
from medseg.core.structures import Total
from medseg.findings.finding import Finding
from medseg.metrics.case import Tolerance
from medseg.metrics.lesions import GLIOMA, LesionRule
from medseg.segmentation.prediction import Verdict


@dataclass(frozen=True)
class ReportOptions:
    """What a page may be told beyond its files.

    Attributes:
        case_id: what to call the case; the segmentation's stem, without `_seg`, when empty.
        channel: the channel shown; the first when empty.
        window: intensities shown black and white; percentiles when None.
        tolerance_mm: of the surface Dice, for all structures or by name.
        facts: label and value pairs on how the segmentation was made: model, hash, settings.
        expected_ml: smallest and largest volume met in training, by structure.
        findings: of the prediction, which a reader must know.
        totals: volumes to state that several structures make up together.
        created: a date to print; none keeps the page the same for the same input.
        lesions: names of the structures whose lesions are listed; None lists those whose name says so.
        rule: when a lesion is found.
        intervals_ml: within which the volumes by a reference are expected, by structure.
        coverage: share of the volumes that such intervals are to hold.
        expected_dice: by structure; only from a calibration that was checked on shifted scans too.
        viewer: whether an HTML page lets the reader scroll through all slices.
        ignore: the value of the reference's voxels that a reader asked to ignore, to tell whether it occurs.
        verdict_known: whether `findings` hold what the model said of its result, if it said anything.
        instances: the single objects of structures, if they were told apart.
        labels_judged: whether `findings` hold all there is to say of the labels; else they are looked at.
    """

    case_id: str = ""
    channel: str = ""
    window: tuple[float, float] | None = None
    tolerance_mm: Tolerance = None
    facts: Mapping[str, str] = field(default_factory=dict)
    expected_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    totals: tuple[Total, ...] = ()
    created: str | None = None
    lesions: tuple[str, ...] | None = None
    rule: LesionRule = GLIOMA
    intervals_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float = 0.9
    expected_dice: Mapping[str, float] = field(default_factory=dict)
    viewer: bool = True
    ignore: int | None = None
    verdict_known: bool = True
    instances: InstanceMap | None = None
    labels_judged: bool = False

    def with_verdict(self, verdict: Verdict) -> ReportOptions:
        """The options, with what a prediction's summary says of it."""
        return replace(
            self,
            findings=(*self.findings, *verdict.findings),
            verdict_known=verdict.known,
            labels_judged=verdict.complete,
        )
