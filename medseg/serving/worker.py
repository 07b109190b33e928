"""The process of a worker: a line of JSON in for each job, lines of JSON out for what becomes of it.

It ends with the service that started it: its standard input closes, and on Linux it is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from medseg.core.errors import MedsegError, out_of_memory
from medseg.serving.work import Workshop, told

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Work until there is nobody to work for."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no message
    shop: Workshop | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if shop is None:
            shop = Workshop(order["models"], Path(order["cases"]), order["threads"], order["max_memory"])
            _say(out, ready=True)
            continue
        _do(shop, order, out)


def _do(shop: Workshop, order: dict[str, Any], out: TextIO) -> None:
    try:
        if "load" in order:
            shop.segmenter(order["load"])
        else:
            shop.do(
                order["kind"],
                order["model"],
                order["settings"],
                Path(order["inputs"]),
                Path(order["out"]),
                lambda step, share: _say(out, step=step, share=round(share, 3)),
            )
        _say(out, done=True)
    except MedsegError as fault:
        _say(out, failed=told(fault))
    except MemoryError:
        _say(out, failed=told(out_of_memory()))
    except Exception as fault:  # of one job; the worker goes on
        hint = "this is a bug in medseg: please report it"
        _say(out, failed=told(MedsegError(type(fault).__name__, hint=hint)))  # its words may name a patient


def _say(out: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=out, flush=True)


def die_with_parent() -> None:
    """Be killed when the service is; elsewhere than on Linux, the end of the input has to do."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
