"""Cases sent to the machines of an existing Dask cluster, which see the same files at the same paths."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError, MedsegError, ResourceError, UsageError
from medseg.core.extras import optional_packages
from medseg.prediction.job import Job, Outcome, PredictOptions
from medseg.prediction.requests import InputCase
from medseg.segmentation.segmenter import Segmenter

RETRIES = 2
"""How often a case is tried again whose failure may lie with the machine it was on."""

CONNECT_SECONDS = 20

Places = Sequence[tuple[InputCase, Path]]
"""Cases, and where the labels of each go."""


def distributed(
    address: str, places: Places, segmenter: Callable[[], Segmenter], options: PredictOptions
) -> Iterator[Outcome]:
    """Outcomes of the cases, as they finish.

    A case that is finished is passed over. One whose machine dies, runs out of memory or trips over a fault
    of ours is tried again elsewhere; one whose file is at fault is not.

    Args:
        address: of the scheduler, such as "tcp://host:8786".
        places: the cases and their label files.
        segmenter: makes the segmenter, once on each worker; it travels there, so it can be pickled.
        options: what is written.

    Raises:
        UsageError: Dask is not installed, or nothing answers at the address.
    """
    client, as_completed = _connected(address)
    try:
        waiting, run = {}, secrets.token_hex(8)
        for number, (case, target) in enumerate(places):
            future = client.submit(
                attempt, absolute(case), target.resolve(), segmenter, options,
                key=f"medseg-{run}-{number}", pure=False, retries=RETRIES,
            )  # fmt: skip
            waiting[future] = case.stem, target
        for future in as_completed(waiting, loop=client.loop):
            stem, target = waiting[future]
            yield future.result() if future.status == "finished" else _lost(stem, target, future.exception())
        waiting.clear()
    finally:
        client.cancel(list(waiting))
        client.close()


def attempt(
    case: InputCase, target: Path, segmenter: Callable[[], Segmenter], options: PredictOptions
) -> Outcome:
    """Predict one case on this worker.

    Raises:
        MedsegError: it failed, and may not fail elsewhere.
    """
    try:
        job = Job(case, target, _ready(segmenter), options, batch=True)
    except MedsegError as fault:
        return Outcome(case.stem, target, error=fault)
    job.read()
    job.segment()
    outcome = job.write()
    if outcome.error is not None and _may_pass(outcome.error):
        raise outcome.error.with_traceback(None) from None
    return outcome


def absolute(case: InputCase) -> InputCase:
    """The case with paths that mean the same in another working directory."""
    if isinstance(case.source, Path):
        source: Any = case.source.resolve()
    else:
        source = {name: path.resolve() for name, path in case.source.items()}
    return replace(case, source=source, folder=case.folder.resolve())


@lru_cache(maxsize=1)
def _ready(segmenter: Callable[[], Segmenter]) -> Segmenter:
    return segmenter()


def _may_pass(error: MedsegError) -> bool:
    """Whether a fault can lie with the machine: too little memory, or what no one foresaw."""
    return isinstance(error, ResourceError) or type(error) is MedsegError


def _lost(stem: str, target: Path, fault: BaseException | None) -> Outcome:
    """A case given up."""
    if isinstance(fault, MedsegError):
        return Outcome(stem, target, error=fault)
    text = f"this case failed on the cluster: {type(fault).__name__}: {fault}"
    return Outcome(stem, target, error=InputError(text, source=stem))


def _connected(address: str) -> tuple[Any, Any]:
    with optional_packages():
        from distributed import Client, as_completed
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as fault:
        raise UsageError(
            f"the Dask scheduler at {address} cannot be reached ({fault})",
            hint="give an address such as tcp://host:8786",
        ) from None
    return client, as_completed
