"""Compressed voxels: both packages that unpack them accept the same, and refuse the same."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import MedsegError
from medseg.io import payload

WBITS = {"gzip": payload.GZIP, "zlib": payload.ZLIB}


def packed(raw: bytes, form: str = "gzip", level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, WBITS[form])
    return packer.compress(raw) + packer.flush()


def with_every_header_field(raw: bytes) -> bytes:
    """A gzip stream with an extra field, a name, a comment and a checksum of its header."""
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x05\0extra" + b"name\0comment\0"
    return head + (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + packed(raw)[10:]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]


def voxels(rng: np.random.Generator) -> bytes:
    """Noise, labels, or runs of labels longer than a piece of what is unpacked at once."""
    size, kind = int(rng.integers(1, 90_000)), int(rng.integers(3))
    if kind == 2:
        return bytes(np.repeat(rng.integers(0, 9, 30), size).astype(np.uint8))
    return bytes(rng.integers(0, (256, 3)[kind], size).astype(np.uint8))


def spoiled(raw: bytes, form: str, rng: np.random.Generator) -> bytes:
    """A stream of the voxels, sound or with one fault."""
    data = packed(raw, form, int(rng.choice([0, 1, 4, 9])))
    half, at = len(raw) // 2, int(rng.integers(len(data)))
    choices = [
        data,
        data[:at],
        flipped(data, at),
        flipped(data, -int(rng.integers(1, 9 if form == "gzip" else 5))),
        data + bytes(int(rng.choice([1, 4000, payload.PADDING_BYTES + 9]))),
        data + b"more",
        packed(raw + bytes(99), form),
        packed(raw + b"more", form),
        packed(raw[:-1], form),
    ]
    if form == "gzip":
        choices += [
            gzip.compress(raw),
            with_every_header_field(raw),
            packed(raw[:half]) + bytes(3) + packed(raw[half:], level=1),
        ]
    return choices[int(rng.integers(len(choices)))]


def answer(data: bytes, count: int, wbits: int) -> bytes | None:
    try:
        return payload.inflate(io.BytesIO(data), count, Path("scan"), wbits).tobytes()
    except MedsegError:
        return None


def test_isal_and_zlib_accept_and_refuse_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    isal = pytest.importorskip("isal.isal_zlib")
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(300):
        raw, form = voxels(rng), str(rng.choice(list(WBITS)))
        data = spoiled(raw, form, rng)
        wbits = int(rng.choice([WBITS[form], payload.ZLIB_OR_GZIP]))
        answers = []
        for package in (isal, zlib):
            monkeypatch.setattr(payload, "unpacking", package)
            answers.append(answer(data, len(raw), wbits))
        assert answers[0] == answers[1]
        accepted += answers[0] == raw
    assert 60 < accepted < 240


@pytest.mark.parametrize("package", ["isal.isal_zlib", "zlib"])
def test_a_bomb_is_unpacked_no_further_than_it_is_claimed(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacking = pytest.importorskip(package)
    monkeypatch.setattr(payload, "unpacking", unpacking)
    bomb = io.BytesIO(packed(bytes(2**26)))
    assert payload.inflate_start(bomb, 544, Path("scan")) == bytes(544)
    bomb.seek(0)
    largest = max(map(len, payload._inflated(bomb, Path("scan"), payload.GZIP, package=unpacking)))
    assert largest <= payload.PIECE
    assert answer(bomb.getvalue(), 2**26 + 1, payload.GZIP) is None
    assert answer(bomb.getvalue(), 2**26 - payload.PADDING_BYTES - 1, payload.GZIP) is None
