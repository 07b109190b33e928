"""Series on disk: what was acknowledged is there after any kill, and is whole before a job is made of it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from medseg.core.errors import ResourceError
from medseg.serving import series as of_series
from medseg.serving.series import CUT, Series, Shelf, key_of


class Killed(BaseException):
    """Stands for SIGKILL: no handler of an ordinary exception runs."""


@dataclass(eq=False)
class Link:
    """An association."""

    is_established: bool = True
    is_released: bool = False

    def leave(self) -> None:
        self.is_established, self.is_released = False, True

    def cut(self) -> None:
        self.is_established = False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass, for series alone."""
    ahead = 0.0
    monotonic, wall = time.monotonic, time.time

    def later(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    class Clock:
        monotonic = staticmethod(lambda: monotonic() + ahead)
        time = staticmethod(lambda: wall() + ahead)

    monkeypatch.setattr(of_series, "time", Clock)
    return later


def shelf(folder: Path, said: list[str] | None = None, most_bytes: int = 1000) -> Shelf:
    return Shelf(folder / "series", most_bytes, 5.0, (said if said is not None else []).append)


def only(shelf: Shelf) -> Series:
    (series,) = shelf._series.values()
    return series


def test_a_series_is_whole_when_it_is_quiet_and_its_senders_left(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    held, link, other = shelf(tmp_path), Link(), Link()
    held.put("1.2", "1", b"a", link)
    held.put("1.2", "2", b"b", other)
    clock(6)
    assert held.due() == []
    link.leave()
    assert held.due() == []
    other.leave()
    assert [series.bytes for series in held.due()] == [2]
    held.put("1.2", "3", b"c", link)
    assert held.due() == []
    clock(4)
    assert held.due() == []
    clock(2)
    (found,) = held.due()
    assert len(held.taken(found)) == 3
    assert held.due() == []


def test_a_sender_that_is_cut_off_is_waited_for(tmp_path: Path, clock: Callable[[float], None]) -> None:
    held, link = shelf(tmp_path), Link()
    held.put("1.2", "1", b"a", link)
    link.cut()
    clock(6)
    assert held.due() == []
    clock(5 * CUT)
    assert len(held.due()) == 1
    again = Link()
    held.put("1.2", "1", b"a", again)
    again.leave()
    clock(6)
    assert len(held.due()) == 1


def test_what_a_node_leaves_is_there_for_the_next(tmp_path: Path, clock: Callable[[float], None]) -> None:
    held, link = shelf(tmp_path), Link()
    for uid in ("1.2", "1.3"):
        held.put(uid, "1", b"a", link)
    link.leave()
    clock(6)
    first, second = held.due()
    held.note(first, key_of(first, held.taken(first)))
    (second.folder / ".half-0").write_bytes(b"a part")
    again = shelf(tmp_path)
    assert again.due() == [], "who was sending may send it again"
    clock(5 * CUT + 1)
    assert [series.name for series in again.due()] == [second.name]
    assert not (second.folder / ".half-0").exists()


@pytest.mark.parametrize("step", range(20))
def test_a_kill_at_any_write_loses_no_instance_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The process ends before its n-th change on the disk."""
    held, told, count = shelf(tmp_path), [], 0

    def counted(honest: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **named: object) -> object:
            nonlocal count
            count += 1
            if count > step:
                raise Killed
            return honest(*args, **named)

        return change

    write = Path.write_bytes

    def cut(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > step:
            write(path, data[:1])
            raise Killed
        return write(path, data)

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "mkdir", "rename"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(os, "unlink", lambda *_, **__: None)  # of what a kill leaves, nothing is removed
        patch.setattr(Path, "write_bytes", cut)
        try:
            for number in range(3):
                held.put("1.2", str(number), b"abc", Link())
                told.append(number)
        except Killed:
            pass
    if step == 19:
        assert len(told) == 3, "a kill later than all that is done is none"
    (found,) = list(shelf(tmp_path)._series.values()) or [None]
    files = [] if found is None else found.files
    assert len(told) <= len(files) <= len(told) + 1
    assert {path.read_bytes() for path in files} <= {b"abc"}


def test_a_full_disk_is_told_and_the_series_waits_for_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    said: list[str] = []
    held, link = shelf(tmp_path, said), Link()
    held.put("1.2", "1", b"a", link)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(of_series, "sync", full)
        for _ in range(2):
            with pytest.raises(ResourceError):
                held.put("1.2", "2", b"b", link)
    link.leave()
    clock(100)
    assert held.due() == [], "a part of a series is not the series"
    assert [line.split(": ", 1)[1] for line in said] == ["an instance cannot be kept (the disk is full)"]
    assert len(only(held).files) == 1
    again = Link()
    held.put("1.2", "2", b"b", again)
    again.leave()
    clock(6)
    assert len(held.due()[0].files) == 2
    assert not list(only(held).folder.glob(".half*"))


def test_a_series_that_is_too_large_is_refused_as_a_whole(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    said: list[str] = []
    held, link = shelf(tmp_path, said), Link()
    held.put("1.2", "1", bytes(600), link)
    held.put("1.2", "1", bytes(700), link)  # again: it counts once
    for instance in ("2", "3"):
        with pytest.raises(ResourceError, match="larger than one may be"):
            held.put("1.2", instance, bytes(600), link)
    held.put("1.3", "1", bytes(600), link)
    link.leave()
    clock(6)
    assert [series.bytes for series in held.due()] == [600]
    assert len(said) == 1
    assert "larger than 1000 bytes" in said[0]
    again = shelf(tmp_path)
    with pytest.raises(ResourceError, match="larger than one may be"):
        again.put("1.2", "4", b"a", Link())


def test_old_series_are_forgotten_unless_they_wait(tmp_path: Path, clock: Callable[[float], None]) -> None:
    held, link = shelf(tmp_path), Link()
    for uid in ("1.2", "1.3", "1.4"):
        held.put(uid, "1", b"a", link)
    link.leave()
    clock(6)
    first, second, third = held.due()
    for series in (first, second):
        held.taken(series)
    clock(30)
    held.forget_old(60)
    assert len(held._series) == 3
    held.put("1.3" if second.name == _name("1.3") else "1.2", "2", b"a", Link())
    clock(60)
    os.utime(second.folder, (time.time() + 36, time.time() + 36))  # as the clock of this test has it
    held.forget_old(60)
    assert set(held._series) == {second.name, third.name}
    assert sorted(p.name for p in held.folder.iterdir()) == sorted((second.name, third.name))


def _name(uid: str) -> str:
    return of_series.hexdigest(uid)[: of_series.NAME_DIGITS]


def test_a_key_is_of_a_set_of_instances(tmp_path: Path) -> None:
    held = shelf(tmp_path)
    for uid, instances in (("1.2", "12"), ("1.3", "12"), ("1.4", "21")):
        for instance in instances:
            held.put(uid, f"{uid}.{instance}" if uid == "1.3" else instance, b"a", Link())
    keys = {key_of(series, series.files) for series in held._series.values()}
    assert len(keys) == 3
    before = held._series[_name("1.2")]
    key = key_of(before, before.files)
    held.put("1.2", "1", b"other bytes", Link())
    assert key_of(before, before.files) == key
    held.put("1.2", "3", b"a", Link())
    assert key_of(before, before.files) != key
