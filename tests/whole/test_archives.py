"""No verb unpacks an archive, whatever it is called: it is refused, and nothing is written anywhere."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import pytest
from commands import medseg, tree

PLACES = ("../escaped.nii", "/tmp/medseg-escaped.nii", "deep/../../escaped.nii", "C:\\escaped.nii")


@cache
def archive(kind: str) -> bytes:
    """An archive that would write outside its folder, through a link, or far more than it holds."""
    blob = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=blob, mode="w:gz") as packed:
            for name in PLACES:
                member = tarfile.TarInfo(name)
                member.size = 5
                packed.addfile(member, io.BytesIO(b"hello"))
        return blob.getvalue()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as packed:
        if kind == "paths":
            for name in PLACES:
                packed.writestr(name, b"hello")
        elif kind == "link":
            link = zipfile.ZipInfo("imagesTr")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(link, "../..")
            packed.writestr("imagesTr/escaped.nii", b"hello")
        else:
            packed.writestr("bomb.nii", bytes(50_000_000))
    return blob.getvalue()


@pytest.mark.fault("reliability 70")
@pytest.mark.parametrize("kind", ["paths", "link", "bomb", "tar"])
@pytest.mark.parametrize("name", ["a.zip", "a.nii.gz", "a.tif", "a.safetensors", "dataset.json", "a.toml"])
def test_an_archive_is_refused_and_nothing_is_unpacked(tmp_path: Path, kind: str, name: str) -> None:
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    path = folder / name
    path.write_bytes(archive(kind))
    before, escaped = tree(tmp_path), Path("/tmp/medseg-escaped.nii")
    out = ("-o", tmp_path / "out")
    for words in (
        ("info", path),
        ("predict", path, *out),
        ("predict", path, "-m", path, *out),
        ("evaluate", path, path),
        ("check", path),
        ("check", path.parent),
        ("convert", path, tmp_path / "out", "--from", "decathlon", "--to", "nnunet"),
        ("train", path, "--data", path, *out),
        ("train", "phantom_unet3d", "--data", path.parent, *out),
    ):
        ran = medseg(*words)
        assert ran.code in (2, 3, 5), (words, ran)
        assert ran.err.startswith("medseg: error: ") or "\nmedseg: error: " in ran.err
        assert "Traceback" not in ran.err
    assert tree(tmp_path) == before
    assert not escaped.exists()
