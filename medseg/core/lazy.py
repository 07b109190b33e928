"""Names of a package that are imported when they are first used, so that importing the package is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package; the second lists its public names and no others.

    Args:
        package: its `__name__`.
        homes: the module that each public name lives in; a name that is the module's last word is the
            module itself.

    >>> getter, names = lazy("medseg.core", {"Grid": "medseg.core.volume"})
    >>> getter("Grid").__name__
    'Grid'
    >>> getter("Gird")
    Traceback (most recent call last):
    AttributeError: module 'medseg.core' has no attribute 'Gird'; did you mean 'Grid'?
    """

    def getter(name: str) -> object:
        if name not in homes:
            from medseg.core.errors import did_you_mean  # what a name that is there can do without

            hint = "" if name.startswith("_") else f"; {did_you_mean(name, homes)}"
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")
        home = homes[name]
        try:
            module = import_module(home)
        except ModuleNotFoundError as fault:
            from medseg.core.extras import missing_in

            raise missing_in(fault) or fault from None
        value = module if home == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*(name for name in vars(sys.modules[package]) if name.startswith("__")), *homes})

    return getter, names
