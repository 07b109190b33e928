"""What the service counts, in the text format of OpenMetrics (openmetrics.io, version 1.0.0)."""

from __future__ import annotations

from medseg import __version__
from medseg.serving.crew import Crew
from medseg.serving.job import ENDED
from medseg.serving.jobs import JobBook

MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
QUANTILES = (0.5, 0.9, 0.99)


def text(book: JobBook, crew: Crew) -> str:
    """Jobs by state, how jobs ended, what they took, workers that were started again."""
    states = {"queued": 0, "running": 0}
    for job in book:
        if job.state in states:
            states[job.state] += 1
    seconds = sorted(crew.tally.seconds)
    lines = [
        "# TYPE medseg info",
        f'medseg_info{{version="{__version__}"}} 1',
        "# TYPE medseg_jobs gauge",
        *(f'medseg_jobs{{state="{state}"}} {count}' for state, count in states.items()),
        "# TYPE medseg_jobs_ended counter",
        *(f'medseg_jobs_ended_total{{state="{state}"}} {crew.tally.ended[state]}' for state in ENDED),
        "# TYPE medseg_worker_restarts counter",
        f"medseg_worker_restarts_total {crew.tally.restarts}",
        "# TYPE medseg_job_seconds summary",
        "# UNIT medseg_job_seconds seconds",
        *(f'medseg_job_seconds{{quantile="{q}"}} {_quantile(seconds, q):.3f}' for q in QUANTILES if seconds),
        f"medseg_job_seconds_count {len(seconds)}",
        f"medseg_job_seconds_sum {sum(seconds):.3f}",
        "# EOF",
    ]
    return "\n".join(lines) + "\n"


def _quantile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]
