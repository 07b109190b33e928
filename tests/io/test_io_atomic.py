"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medseg.core.errors import ResourceError, UsageError
from medseg.io import atomic
from medseg.io.names import stem_and_suffix


def test_the_temporary_file_lies_beside_with_the_same_suffix(tmp_path: Path) -> None:
    with atomic.atomic_write(tmp_path / "a.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert stem_and_suffix(temporary)[1] == ".nii.gz"
        assert not (tmp_path / "a.nii.gz").exists()
        temporary.write_bytes(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == b"whole"


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.fault("reliability 89")
def test_row_89_nothing_stays_after_a_fault(tmp_path: Path, fault: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail_halfway() -> None:
        with atomic.atomic_write(tmp_path / "a.txt", overwrite=True) as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(fault):
        fail_halfway()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
@pytest.mark.fault("reliability 79")
@pytest.mark.fault("reliability 81")
def test_row_79_81_disk_faults_are_resource_errors(tmp_path: Path, code: int) -> None:
    with pytest.raises(ResourceError), atomic.atomic_write(tmp_path / "a.txt"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("reliability 79")
def test_row_79_a_disk_that_fills_at_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError):
        atomic.write_text(tmp_path / "a.txt", "new", overwrite=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.fault("reliability 80")
def test_row_80_existing_targets_and_folders(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a.txt", "one")
    with pytest.raises(UsageError, match="--overwrite"):
        atomic.write_text(tmp_path / "a.txt", "two")
    atomic.write_text(tmp_path / "a.txt", "two", overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "two"
    with pytest.raises(UsageError, match="folder"):
        atomic.write_text(tmp_path, "x", overwrite=True)
    with pytest.raises(UsageError, match="does not exist"):
        atomic.write_text(tmp_path / "no" / "a.txt", "x")


def test_text_is_the_same_bytes_everywhere(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a.txt", "ü\nx\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xbc\nx\\udce9\n"


def test_new_files_have_the_users_usual_rights(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_pair_appears_together_or_not_at_all(tmp_path: Path) -> None:
    targets = [tmp_path / "a.img", tmp_path / "a.hdr"]

    def fail_halfway() -> None:
        with atomic.atomic_files(targets) as folder:
            (folder / "a.img").write_bytes(b"1")
            raise ValueError

    with pytest.raises(ValueError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with atomic.atomic_files(targets) as folder:
        for target in targets:
            (folder / target.name).write_bytes(b"1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hdr", "a.img"]
    with pytest.raises(UsageError), atomic.atomic_files(targets) as folder:
        pass


SAVER = """
import sys
from pathlib import Path
from medseg.io.atomic import write_text
path = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in "ab":
        write_text(path, letter * 200000, overwrite=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.fault("reliability 82")
def test_row_82_a_killed_writer_leaves_a_whole_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for pause in (0.01, 0.02, 0.035):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + 10
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(pause)
            child.kill()
        text = path.read_text()
        assert len(text) == 200000
        assert len(set(text)) == 1
    atomic.write_text(path, "next", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_files_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    with atomic.atomic_write(tmp_path / "a.txt") as first, atomic.atomic_write(tmp_path / "b.txt") as second:
        assert first.exists()
        assert second.exists()


@pytest.mark.skipif(os.name != "posix", reason="processes are looked for by number")
def test_a_folder_is_swept_before_the_first_file(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left = tmp_path / f"{atomic.PREFIX}{atomic._here()}-{ended.pid}-0a.nii.gz"
    left.write_bytes(b"half")
    for name in ("a.txt", "b.txt"):
        atomic.write_text(tmp_path / name, "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt"]
