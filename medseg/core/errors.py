"""Exceptions of medseg, and the exit code of each on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

NAMED_AT_MOST = 8
"""Things that a sentence names before it counts the rest."""

OR = ", or "
"""Between the ways that a hint offers."""

OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")


class MedsegError(Exception):
    """An error with its fault and, if there is one, a hint.

    Args:
        fault: what is wrong, with both values where two disagree.
        source: the file or folder it is wrong with.
        hint: what the user can do about it; an imperative, or a command.

    >>> str(InputError("the file is empty", source="scan.nii.gz", hint="copy it again"))
    'scan.nii.gz: the file is empty; copy it again'
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, fault: str, *, source: str | Path | None = None, hint: str | None = None) -> None:
        self.fault = fault
        self.source = None if source is None else str(source)
        self.hint = hint
        super().__init__(fault)

    @classmethod
    def unreadable(cls, fault: OSError | ValueError, path: Path) -> MedsegError:
        """The error of a file or folder that cannot be read; a `ResourceError` where rights lack.

        >>> denied = InputError.unreadable(PermissionError(13, "Permission denied"), Path("a.json"))
        >>> str(denied), denied.exit_code
        ('a.json: cannot be read (Permission denied); check the path and its permissions', 6)
        """
        kind = ResourceError if isinstance(fault, PermissionError) else cls
        reason = (fault.strerror if isinstance(fault, OSError) else None) or fault
        hint = "check the path and its permissions"
        return kind(f"cannot be read ({reason})", source=path, hint=hint)

    def __str__(self) -> str:
        text = self.fault if self.source is None else f"{printable(self.source)}: {self.fault}"
        return text if self.hint is None else f"{text}; {self.hint}"


class UsageError(MedsegError, ValueError):
    """The command line or the arguments are invalid."""

    exit_code = 2


class MissingPackageError(UsageError, ImportError):
    """A package that only this needs is not installed."""


class InputError(MedsegError, ValueError):
    """A file's content cannot be used."""

    exit_code = 3


class GeometryError(MedsegError, ValueError):
    """A file's grid is contradictory, impossible, or not what was asked for."""

    exit_code = 4


class GridMismatchError(GeometryError):
    """Two images that must share a grid do not."""


class ModelError(MedsegError, ValueError):
    """A model file is damaged, unknown, or does not fit the job."""

    exit_code = 5


class ResourceError(MedsegError, OSError):
    """Memory or disk does not suffice."""

    exit_code = 6


class PartialBatchError(MedsegError):
    """Some cases of a batch failed; the others are written."""

    exit_code = 7


class SelfCheckError(MedsegError):
    """A result failed verification and was not written."""

    exit_code = 8


def out_of_memory(source: str | Path | None = None) -> ResourceError:
    """The error for a `MemoryError`."""
    hint = "use a smaller scan, or a machine with more memory"
    return ResourceError("medseg ran out of memory", source=source, hint=hint)


def unexpected(fault: BaseException, source: str | Path | None = None) -> MedsegError:
    """The error for an exception that only a bug can raise.

    >>> str(unexpected(KeyError("a")))
    "KeyError: 'a'; this is a bug in medseg: please report it"
    """
    hint = "this is a bug in medseg: please report it"
    return MedsegError(f"{type(fault).__name__}: {fault}", source=source, hint=hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the closest known name, or all known names.

    >>> did_you_mean("Tversk", ["dice", "tversky"])
    "did you mean 'tversky'?"
    >>> did_you_mean("x", ["dice", "tversky"])
    'choose from dice, tversky'
    >>> did_you_mean("UNet++", ["unet", "unetpp"]), did_you_mean("Mask R-CNN", ["mask_x", "mask_rcnn"])
    ("did you mean 'unetpp'?", "did you mean 'mask_rcnn'?")
    """
    import difflib

    names = {name.casefold(): name for name in known}
    letters = {_letters(name): name for name in names.values()}
    spelled = (letters.get(_letters(word.replace("+", plus))) for plus in ("plus", "p"))
    close = difflib.get_close_matches(word.casefold(), names, n=1)
    meant = next(filter(None, spelled), names[close[0]] if close else "")
    return f"did you mean {meant!r}?" if meant else f"choose from {', '.join(names.values())}"


def _letters(name: str) -> str:
    """A name as it is spoken: its letters and figures."""
    return "".join(filter(str.isalnum, name.casefold()))


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the closest known name, or all, as its hint.

    >>> str(unknown_name("loss", "Tversk", ["dice", "tversky"]))
    "the loss 'Tversk' does not exist; did you mean 'tversky'?"
    """
    return UsageError(f"the {what} {name!r} does not exist", hint=did_you_mean(name, known))


def options_of(parameters: Iterable[Any]) -> dict[str, str]:
    """The options of a command, as click has them; each is called what it is called."""
    return {word: word for each in parameters for word in (*each.opts, *each.secondary_opts)}


def possible(hint: str, options: Mapping[str, str]) -> str:
    """A hint without the ways that need an option which whoever reads it does not have.

    Args:
        hint: of a fault, which speaks of options of a command.
        options: that there are, and what the reader calls them.

    >>> possible("reduce it with --scales, or say --use-form sform", {"--use-form": "use_form"})
    'say use_form sform'
    """
    kept = [way for way in hint.split(OR) if set(OPTION.findall(way)) <= set(options)]
    return OPTION.sub(lambda m: options[m[0]], OR.join(kept)) or "correct this and write the file again"


def counted(number: int, thing: str) -> str:
    """A number with its noun.

    >>> counted(1, "epoch"), counted(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def plural(number: int, one: str, many: str) -> str:
    """The word that agrees with a number.

    >>> plural(1, "is", "are"), plural(2, "is", "are")
    ('is', 'are')
    """
    return one if number == 1 else many


def listed(
    names: Sequence[str],
    detail: Callable[[str], str] | None = None,
    most: int | None = NAMED_AT_MOST,
) -> str:
    """Names as words of a sentence, each with its detail in brackets, the rest counted; all with `most=None`.

    >>> listed([]), listed(["stem"]), listed("abcd", most=2), listed(["stem", "core"], "{} too".format)
    ('none', 'stem', 'a, b and 2 more', 'stem (stem too) and core (core too)')
    """
    if not names:
        return "none"
    words = [name if detail is None else f"{name} ({detail(name)})" for name in names[:most]]
    last = f"{len(names) - most} more" if most is not None and len(names) > most else words.pop()
    return f"{', '.join(words)} and {last}" if words else last


def printable(text: str) -> str:
    """`text` on one line, its control characters escaped, so that a name cannot control a terminal.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "replace").decode("ascii")
