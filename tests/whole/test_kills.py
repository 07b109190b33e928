"""A command that is killed leaves whole files, loses none, and ends as if it had not been."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kills import WORKS, Survived, survive, torn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by signal")


@pytest.mark.slow
@pytest.mark.fault("reliability 82")
@pytest.mark.fault("reliability 83")
@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path, name: str) -> None:
    assert survive(name, tmp_path / name, kills=3) == Survived(kills=3)


def test_what_is_not_whole_is_noticed(tmp_path: Path) -> None:
    for name, content in (
        ("a.json", b"{"),
        ("b.csv", b"x,y\n1\n"),
        ("c.nii.gz", b"\x1f\x8b"),
        ("d.html", b"<p>"),
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "e.json").write_text("{}")
    assert [path.name for path in torn(tmp_path)] == ["a.json", "b.csv", "c.nii.gz", "d.html"]
