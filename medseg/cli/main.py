"""The command line: `medseg VERB`. Verbs import what they need when they run, which keeps help fast."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from types import FrameType
from typing import Annotated, Any, get_type_hints

import typer
from typer.main import get_command

from medseg.cli.terminal import rewrite
from medseg.core.errors import (
    MedsegError,
    ResourceError,
    UsageError,
    options_of,
    out_of_memory,
    possible,
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
    "verify",
    "serve",
    "listen",
    "next",
    "plan",
    "train",
    "evaluate",
    "compare",
    "report",
    "refine",
    "partition",
    "calibrate",
    "check",
    "convert",
    "augment",
    "info",
    "networks",
    "export",
    "phantom",
    "demo",
)
"""Each a file of this folder with a `command`, in the order of the help (see docs/extending.md)."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Faults of a stream that cannot take what is written, such as stdout on a full disk."""


def _left_to_readers(command: Any) -> Any:
    """The command; whether a path may be read is told by what reads it, with one exit code for all."""
    hints = get_type_hints(command, include_extras=True)
    for hint in hints.values():
        for info in getattr(hint, "__metadata__", ()):
            if hasattr(info, "readable"):
                info.readable = False
    command.__annotations__ = hints
    return command


def application(verbs: Sequence[str] = VERBS) -> typer.Typer:
    """The command line with some of its verbs: each is imported, which takes time."""
    app = typer.Typer(
        name="medseg",
        help="Segment medical volumes: train, predict, measure, report. Research use only; not a medical "
        "device.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for verb in verbs:
        app.command(name=verb)(_left_to_readers(import_module(f"medseg.cli.{verb}").command))
    return app


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
    if plain[:1] == ["predict"]:
        from medseg.cli.predict import spelled

        plain = spelled(plain)
    code = _run(plain or ["--help"], debug="--debug" in arguments)
    if code in (INTERRUPTED, TERMINATED):  # a network may still be at work in a thread: do not wait for it
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    """The exit code; every fault becomes one line on stderr."""
    try:
        code = _invoked(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return 0
    except (KeyboardInterrupt, Exception, Terminated) as fault:
        if isinstance(fault, MedsegError):
            _keep_to_options(fault, arguments)
        text, code = _message(fault)
        if debug:
            traceback.print_exception(fault)
        if code not in (INTERRUPTED, TERMINATED):
            _drop_output()
        return _say(text, code)


def _invoked(arguments: list[str]) -> int:
    """The exit code of a verb that ended by itself."""
    _refuse_empty(arguments)
    command = _command(arguments)
    try:
        with command.make_context("medseg", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _command(arguments: list[str]) -> Any:
    """The command line, with the one verb that is asked for, or with all."""
    verb = arguments[0]
    return get_command(application([verb] if verb in VERBS else VERBS))


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an empty argument, which as a path would be the current folder.

    Raises:
        UsageError: what it stands after is named.
    """
    for before, word in pairwise(["medseg", *arguments]):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UsageError(
                f"an empty path or value after {before if not word else word.rstrip('=')}",
                hint="give one; a variable of the shell may be unset",
            )


def _drop_output() -> None:
    """Write what stdout still holds, or nowhere if it cannot be written: else Python would try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keep_to_options(fault: MedsegError, arguments: list[str]) -> None:
    """Remove from a hint the alternatives that need an option which the verb does not have."""
    commands, verb = getattr(_command(arguments), "commands", {}), arguments[0]
    if verb not in commands:
        return
    if fault.hint:
        fault.hint = possible(fault.hint, options_of(commands[verb].params))


def _message(fault: BaseException) -> tuple[str, int]:
    """The message about an exception, and its exit code."""
    if isinstance(fault, MedsegError):
        return str(fault), fault.exit_code
    if isinstance(fault, ImportError) and (missing := missing_in(fault)):
        return str(missing), missing.exit_code
    if isinstance(fault, UsageFault):
        verb = fault.ctx.info_name if fault.ctx and fault.ctx.parent else ""
        help_of = f"medseg {verb} --help" if verb else "medseg --help"
        return f"{fault.format_message().rstrip('.')}; see {help_of}", UsageError.exit_code
    if isinstance(fault, KeyboardInterrupt | typer.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(fault, Terminated):
        return "terminated", TERMINATED
    if isinstance(fault, MemoryError):
        return str(out_of_memory()), ResourceError.exit_code
    if isinstance(fault, OSError) and fault.filename is not None:
        text = f"{fault.filename}: {fault.strerror}; check the path, its permissions and the disk"
        return text, ResourceError.exit_code
    if isinstance(fault, OSError) and fault.errno in NO_ROOM:
        text = f"the output cannot be written: {fault.strerror}; free some room, or write to another disk"
        return text, ResourceError.exit_code
    return str(unexpected(fault)), MedsegError.exit_code


def _say(text: str, code: int) -> int:
    rewrite("")
    sys.stderr.write(f"medseg: error: {printable(text)}\n")
    sys.stderr.flush()
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
