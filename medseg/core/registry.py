"""Things by name: those of this package, and those that other packages add by entry points.

A table holds ours, or where each is defined; adding one is a line there. Another package adds its own under
an entry point of the table's group, in its `pyproject.toml`:

    [project.entry-points."medseg.losses"]
    toy = "toy_package:TOY"

Nothing is imported before it is asked for by its name, and the code of another package only then: listing
the names reads what installed packages declare, and runs none of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from medseg.core.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A table of what can be named, such as networks.

    As a mapping it holds ours, in the table's order; `find` and `names` know those of other packages too.

    Args:
        what: is named, in a word for messages ("network").
        group: of the entry points by which other packages add theirs ("medseg.networks").
        ours: each, or where it is defined, as "module:attribute".
        accepts: whether what another package declares is such a thing.
    """

    def __init__(
        self, what: str, group: str, ours: Mapping[str, str | T], accepts: Callable[[Any], bool]
    ) -> None:
        self.what = what
        self.group = group
        self.ours = dict(ours)
        self.accepts = accepts

    def __getitem__(self, name: str) -> T:
        found = self.ours[name]
        return cast(T, located(found)) if isinstance(found, str) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.ours)

    def __len__(self) -> int:
        return len(self.ours)

    def find(self, name: str, *further: str) -> T:
        """What has the name: ours, else another package's.

        Args:
            name: to look up.
            further: names beyond the table that a message may suggest.

        Raises:
            UsageError: nothing has the name, or the package that declares it is broken.
        """
        if name in self.ours:
            return self[name]
        declared = _declared(self.group).get(name)
        if declared is None:
            raise unknown_name(self.what, name, (*self.names(), *further))
        return self._loaded(declared)

    def knows(self, name: str) -> bool:
        """Whether anything has the name; no code of another package runs."""
        return name in self.ours or name in _declared(self.group)

    def names(self) -> tuple[str, ...]:
        """Every name, ours first; no code of another package runs."""
        return tuple(dict.fromkeys((*self.ours, *_declared(self.group))))

    def _loaded(self, declared: EntryPoint) -> T:
        """What another package declares."""
        try:
            value = declared.load()
        except Exception as fault:  # whatever a stranger's module may raise
            raise self._broken(declared, f"cannot be loaded ({type(fault).__name__}: {fault})") from fault
        if not self.accepts(value):
            raise self._broken(declared, f"declares {declared.value}, which is not a {self.what}")
        return cast(T, value)

    def _broken(self, declared: EntryPoint, fault: str) -> UsageError:
        package = _package(declared)
        return UsageError(
            f"the {self.what} {declared.name!r} of the package {package} {fault}",
            hint=f"update {package}, or uninstall it",
        )


def located(place: str) -> Any:
    """The object at "module:attribute".

    >>> located("medseg.core.errors:UsageError").__name__
    'UsageError'
    """
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _declared(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, by name; a name that several packages declare is nobody's, and warned of."""
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    found: dict[str, EntryPoint] = {}
    twice: dict[str, list[str]] = {}
    for point in entry_points(group=group):
        first = found.setdefault(point.name, point)
        if first.value != point.value:
            twice.setdefault(point.name, [_package(first)]).append(_package(point))
    for name, packages in twice.items():
        warnings.warn(
            f"{group}: {name!r} is declared by {' and by '.join(packages)}; none is used", stacklevel=3
        )
        del found[name]
    return found


def _package(declared: EntryPoint) -> str:
    return declared.dist.name if declared.dist is not None else declared.module
