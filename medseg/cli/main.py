"""The command line: `medseg VERB`. Verbs import what they need when they run, which keeps help fast."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, get_type_hints

import typer
from typer.main import get_command

from medseg.cli import predict
from medseg.cli.terminal import rewrite
from medseg.core.errors import (
    MedsegError,
    ResourceError,
    UsageError,
    out_of_memory,
    printable,
    unexpected,
)
from medseg.core.extras import missing_in
from medseg.core.software import SOFTWARE

UsageFault: Any = typer.BadParameter.__mro__[1]
"""Typer's own kind of usage error, whichever copy of click it stands on."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after SIGINT and SIGTERM."""


class Terminated(BaseException):
    """SIGTERM was received; as with KeyboardInterrupt, handlers of ordinary exceptions do not catch it."""


VERBS = (
    "predict",
    "plan",
    "train",
    "evaluate",
    "compare",
    "report",
    "calibrate",
    "check",
    "convert",
    "augment",
    "info",
    "export",
    "phantom",
    "demo",
)
"""Each a file of this folder with a `command`, in the order of the help (see docs/extending.md)."""

OR = ", or "
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
app = typer.Typer(
    name="medseg",
    help="Segment medical volumes: train, predict, measure, report. Research use only; not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _left_to_readers(command: Any) -> Any:
    """The command; whether a path may be read is told by what reads it, with one exit code for all."""
    hints = get_type_hints(command, include_extras=True)
    for hint in hints.values():
        for info in getattr(hint, "__metadata__", ()):
            if hasattr(info, "readable"):
                info.readable = False
    command.__annotations__ = hints
    return command


for verb in VERBS:
    app.command(name=verb)(_left_to_readers(import_module(f"medseg.cli.{verb}").command))


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=lambda on: _version(on)
        ),
    ] = False,
) -> None:
    """Options of every verb; `main` looks for --debug itself, so that it may stand anywhere."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(SOFTWARE)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with the code of what happened (see `medseg.core.errors`)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    plain = [word for word in arguments if word != "--debug"]
    plain = predict.spelled(plain) if plain[:1] == ["predict"] else plain
    code = _run(plain or ["--help"], debug="--debug" in arguments)
    if code in (INTERRUPTED, TERMINATED):  # a network may still be at work in a thread: do not wait for it
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    """The exit code; every fault becomes one line on stderr."""
    try:
        command = get_command(app)
        with command.make_context("medseg", arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, Exception, Terminated) as fault:
        if isinstance(fault, MedsegError):
            _keep_to_options(fault, arguments[0])
        text, code = _message(fault)
        if debug:
            traceback.print_exception(fault)
        return _say(text, code)
    return 0


def _keep_to_options(fault: MedsegError, verb: str) -> None:
    """Remove from a hint the alternatives that need an option which the verb does not have."""
    commands = getattr(get_command(app), "commands", {})
    if verb not in commands:
        return
    known = {word for param in commands[verb].params for word in (*param.opts, *param.secondary_opts)}
    ways = fault.hint.split(OR) if fault.hint else []
    kept = [way for way in ways if set(OPTION.findall(way)) <= known]
    if ways:
        fault.hint = OR.join(kept) or "correct this and write the file again"


def _message(fault: BaseException) -> tuple[str, int]:
    """The message about an exception, and its exit code."""
    if isinstance(fault, MedsegError):
        return str(fault), fault.exit_code
    if isinstance(fault, ImportError) and (missing := missing_in(fault)):
        return str(missing), missing.exit_code
    if isinstance(fault, UsageFault):
        return f"{fault.format_message().rstrip('.')}; see medseg --help", UsageError.exit_code
    if isinstance(fault, KeyboardInterrupt | typer.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(fault, Terminated):
        return "terminated", TERMINATED
    if isinstance(fault, MemoryError):
        return str(out_of_memory()), ResourceError.exit_code
    if isinstance(fault, OSError) and fault.filename is not None:
        text = f"{fault.filename}: {fault.strerror}; check the path, its permissions and the disk"
        return text, ResourceError.exit_code
    return str(unexpected(fault)), MedsegError.exit_code


def _say(text: str, code: int) -> int:
    rewrite("")
    sys.stderr.write(f"medseg: error: {printable(text)}\n")
    sys.stderr.flush()
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
