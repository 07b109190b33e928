"""The command line: `medseg VERB`. Verbs import what they need when they run, so that help is quick."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from typer.main import get_command

from medseg import __version__
from medseg.cli import check, evaluate, info, phantom, predict, report, train
from medseg.errors import MedsegError, printable

UsageFault: Any = typer.BadParameter.__mro__[1]
"""Typer's own kind of usage error, whichever copy of click it stands on."""

app = typer.Typer(
    name="medseg",
    help="Segment medical volumes: train, predict, measure, report. Research use only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (predict, train, evaluate, report, check, info, phantom):
    app.command(name=verb.__name__.rsplit(".", 1)[-1])(verb.command)


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=lambda on: _version(on)),
    ] = False,
) -> None:
    context.obj = {"debug": debug, "version": version}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with the code of what happened (see `medseg.errors`)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminated)
    code = _run(arguments, debug="--debug" in arguments)
    if code in (130, 143):
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str], *, debug: bool) -> int:
    """The exit code; every fault becomes one line on stderr."""
    try:
        result = get_command(app).main(arguments, prog_name="medseg", standalone_mode=False)
    except MedsegError as fault:
        if debug:
            raise
        return _say(str(fault), fault.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("out of memory; use a machine with more, or a smaller scan", 6)
    except Exception as fault:
        if isinstance(fault, UsageFault):
            return _say(f"{fault.format_message()}; see medseg --help", 2)
        if debug:
            raise
        return _say(f"{type(fault).__name__}: {fault}; this is a fault of medseg: please report it", 1)
    return result if isinstance(result, int) else 0


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"medseg: error: {printable(text)}\n")
    return code


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    sys.stderr.write("medseg: error: terminated\n")
    sys.stderr.flush()
    raise SystemExit(143)
