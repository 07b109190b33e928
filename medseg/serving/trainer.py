"""The process of a training beside a service: `medseg.train` on the cases that are kept."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

from medseg.core.errors import MedsegError
from medseg.serving.worker import die_with_parent

LESS_URGENT = 10
"""Steps by which it gives way to the service's own work."""


def main() -> None:
    """Train as the one argument says; lines of what happens on standard output, a fault as its last."""
    die_with_parent()
    with suppress(OSError, AttributeError):
        os.nice(LESS_URGENT)
    from medseg.api.training import train

    try:
        train(
            **json.loads(sys.argv[1]),
            say=_say,
            on_epoch=lambda epoch: _say(f"epoch {epoch.number} of {epoch.of}"),
        )
    except MedsegError as fault:
        fault.source = None  # a path
        _say(str(fault))
        sys.exit(fault.exit_code)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
