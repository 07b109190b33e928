"""Keywords that are checked before a call, so that a typo is answered with the name that was meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from medseg.core.errors import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def hinted(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose TypeError for an unknown keyword names the nearest that there is.

    >>> @hinted
    ... def load(model, *, device="auto"): ...
    >>> load("brain", devise="cpu")
    Traceback (most recent call last):
    TypeError: load() has no keyword 'devise'; did you mean 'device'?
    """
    code = function.__code__
    first = code.co_posonlyargcount
    known = code.co_varnames[first : code.co_argcount + code.co_kwonlyargcount]
    name = function.__qualname__.removesuffix(".__init__").removesuffix(".__call__").rpartition(">.")[2]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for word in kwargs:
            if word not in known:
                public = [k for k in known if k != "self"]
                raise TypeError(f"{name}() has no keyword {word!r}; {did_you_mean(word, public)}")
        return function(*args, **kwargs)

    return call
