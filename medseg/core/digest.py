"""SHA-256 of text, bytes and tensors: the one place that says how they are hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(*parts: str | bytes) -> bytes:
    """SHA-256 of parts, one after the other, text in UTF-8; 32 bytes.

    >>> digest("ab", b"c") == digest("abc")
    True
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(_bytes(part))
    return found.digest()


def hexdigest(*parts: str | bytes) -> str:
    """`digest` as 64 hexadecimal digits.

    >>> hexdigest("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return digest(*parts).hex()


def tensor_digest(text: str, tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]]) -> str:
    """SHA-256 of a description and of tensors, in hexadecimal digits.

    Args:
        text: the description.
        tensors: name, type, shape and values of each, in an order that does not change.
    """
    found = hashlib.sha256(_bytes(text))
    for name, kind, shape, values in tensors:
        found.update(_bytes(f"|{name}|{kind}|{shape}|"))
        found.update(values)
    return found.hexdigest()


def _bytes(part: str | bytes) -> bytes:
    """Text in UTF-8, also where a file system or a file gave what is no UTF-8."""
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
