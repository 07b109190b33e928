"""Ways to spoil a file: its bytes, its words, its JSON, and what a format wraps around them."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Generator = np.random.Generator
Mutation = Callable[[bytes, Generator], bytes]

INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
WORDS = (
    "", "0", "-1", "1", "1e308", "-1e308", "1e400", "1e-320", "nan", "inf", "-inf", "NaN", "99999999999",
    "0.5", "true", "none", "LOCAL", "\x00", "\u202e", "..", "../x", "a" * 3000, "None", "%s",
    "[", "{}", "-", "1,2", "١٢", "1_000", "0x10",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e308, float("inf"), float("nan"), 2**70, "", "x", "../x", "a" * 500,
    [], {}, [[]], [None], {"": None}, {"value": 1}, [1, "2", None], "\x00", "\ud800",
)  # fmt: skip


def spoiled_bytes(header: int) -> Mutation:
    """A few bytes changed, most of them in the first `header`; or a cut, a piece doubled, moved or zeroed."""

    def mutation(blob: bytes, generator: Generator) -> bytes:
        out = bytearray(blob)
        if not out:
            return bytes(generator.bytes(20))
        kind, at = generator.random(), _place(out, header, generator)
        length = int(generator.integers(1, 40))
        if kind < 0.08:
            return bytes(out[:at])
        if kind < 0.13:
            out[at:at] = generator.bytes(length)
        elif kind < 0.18:
            out[at:at] = out[at : at + length]
        elif kind < 0.23:
            del out[at : at + length]
        elif kind < 0.28:
            out[at : at + length] = bytes(len(out[at : at + length]))
        else:
            for _ in range(int(generator.integers(1, 5))):
                _overwrite(out, _place(out, header, generator), generator)
        return bytes(out)

    return mutation


def _place(blob: bytearray, header: int, generator: Generator) -> int:
    end = min(header, len(blob)) if generator.random() < 0.85 else len(blob)
    return int(generator.integers(0, max(1, end)))


def _overwrite(out: bytearray, at: int, generator: Generator) -> None:
    """One bit, one byte, or a number of 2, 4 or 8 bytes in either order."""
    kind = int(generator.integers(0, 6))
    if kind == 0:
        out[at] ^= 1 << int(generator.integers(0, 8))
        return
    if kind <= 2:
        out[at] = int(generator.choice((0, 1, 0x7F, 0x80, 0xFF, int(generator.integers(0, 256)))))
        return
    size = (2, 4, 8)[kind - 3]
    if generator.random() < 0.5:
        order = "<" if generator.random() < 0.5 else ">"
        value = (np.nan, np.inf, -1.0, 0.0, 1e30, 1e-30)[int(generator.integers(0, 6))]
        data = struct.pack(order + {2: "e", 4: "f", 8: "d"}[size], value if size > 2 else min(value, 6e4))
    else:
        number = INTEGERS[int(generator.integers(0, len(INTEGERS)))] % 256**size
        data = number.to_bytes(size, "little" if generator.random() < 0.5 else "big")
    out[at : at + size] = data[: len(out[at : at + size])]


def spoiled_text(blob: bytes, generator: Generator) -> bytes:
    """Numbers, words and lines of a text exchanged, doubled, left out or replaced."""
    text = blob.decode("utf-8", "surrogateescape")
    for _ in range(int(generator.integers(1, 4))):
        kind = generator.random()
        if kind < 0.6:
            text = _other_word(text, generator)
        elif kind < 0.9:
            text = _other_lines(text, generator)
        else:
            data = spoiled_bytes(len(text))(text.encode("utf-8", "surrogatepass"), generator)
            text = data.decode("utf-8", "surrogateescape")
    return text.encode("utf-8", "surrogateescape" if _escapes(text) else "surrogatepass")


def _escapes(text: str) -> bool:
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in text)


def _other_word(text: str, generator: Generator) -> str:
    places = [m.span() for m in re.finditer(r"[-+\w.]+|[=:;,()\[\]{}\"']", text)]
    if not places:
        return WORDS[int(generator.integers(0, len(WORDS)))]
    start, end = places[int(generator.integers(0, len(places)))]
    if generator.random() < 0.2:
        other = places[int(generator.integers(0, len(places)))]
        word = text[other[0] : other[1]]
    else:
        word = WORDS[int(generator.integers(0, len(WORDS)))]
    return text[:start] + word + text[end:]


def _other_lines(text: str, generator: Generator) -> str:
    lines = text.split("\n")
    one, other = (int(generator.integers(0, len(lines))) for _ in range(2))
    kind = int(generator.integers(0, 3))
    if kind == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 1:
        lines.insert(one, lines[other])
    else:
        del lines[one]
    return "\n".join(lines)


def spoiled_json(blob: bytes, generator: Generator) -> bytes:
    """A value, a key or an item of a JSON text replaced, left out or nested; or its text spoiled."""
    kind = generator.random()
    if kind < 0.15:
        return spoiled_text(blob, generator)
    if kind < 0.17:
        return b"[" * 5000
    data = json.loads(blob)
    for _ in range(int(generator.integers(1, 4))):
        data = _other_value(data, generator)
    return json.dumps(data).encode("utf-8", "surrogatepass")


def _other_value(data: Any, generator: Generator) -> Any:
    """The same with one value changed, somewhere below."""
    if generator.random() < 0.25 or not isinstance(data, dict | list) or not data:
        return VALUES[int(generator.integers(0, len(VALUES)))]
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    key = keys[int(generator.integers(0, len(keys)))]
    out = dict(data) if isinstance(data, dict) else list(data)
    kind = generator.random()
    if kind < 0.1:
        del out[key]
    elif kind < 0.15 and isinstance(out, dict):
        out[WORDS[int(generator.integers(0, len(WORDS)))]] = out.pop(key)
    elif kind < 0.2 and isinstance(out, list):
        out.append(out[key])
    else:
        out[key] = _other_value(out[key], generator)
    return out


def within_gzip(inner: Mutation) -> Mutation:
    """What a gzip file holds spoiled, and packed again; or the packed bytes."""

    def mutation(blob: bytes, generator: Generator) -> bytes:
        if generator.random() < 0.3:
            return spoiled_bytes(20)(blob, generator)
        return gzip.compress(inner(gzip.decompress(blob), generator), 1, mtime=0)

    return mutation


def text_and_data(end: bytes) -> Mutation:
    """A file whose header is text that ends in `end`: the header spoiled as text, or all as bytes."""

    def mutation(blob: bytes, generator: Generator) -> bytes:
        at = blob.find(end)
        if generator.random() < 0.25 or at < 0:
            return spoiled_bytes(300)(blob, generator)
        cut = at + len(end)
        return spoiled_text(blob[:cut], generator) + blob[cut:]

    return mutation


def png_chunks(blob: bytes, generator: Generator) -> bytes:
    """A PNG with one chunk spoiled, left out, doubled or moved, and its checksum as it should be."""
    if generator.random() < 0.3:
        return spoiled_bytes(60)(blob, generator)
    chunks, at = [], 8
    while at + 8 <= len(blob):
        size = int.from_bytes(blob[at : at + 4], "big")
        chunks.append((blob[at + 4 : at + 8], blob[at + 8 : at + 8 + size]))
        at += 12 + size
    n = int(generator.integers(0, len(chunks)))
    name, data = chunks[n]
    kind = generator.random()
    if kind < 0.7:
        if name == b"IDAT" and generator.random() < 0.5:
            data = zlib.compress(spoiled_bytes(40)(zlib.decompress(data), generator))
        else:
            data = spoiled_bytes(40)(data, generator)
        chunks[n] = (name, data)
    elif kind < 0.8:
        del chunks[n]
    else:
        chunks.insert(int(generator.integers(0, len(chunks))), chunks[n])
    parts = [len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in chunks]
    return blob[:8] + b"".join(parts)
