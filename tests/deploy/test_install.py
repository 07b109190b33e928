"""The installer of the bundle: it refuses what is not as its list says, and asks no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "deploy").is_dir(), reason="the checkout is not at hand")
sys.path.insert(0, str(ROOT / "deploy"))
if (ROOT / "deploy").is_dir():
    import install

METADATA = """Metadata-Version: 2.1
Name: {name}
Version: 0.1.0
Provides-Extra: serve
Provides-Extra: dicom
{more}
"""
PROGRAM = "def main():\n    print('medseg of the test')\n"


def a_wheel(folder: Path, name: str, more: str = "") -> None:
    """A package with a command of its own."""
    about = f"{name}-0.1.0.dist-info"
    files = {
        f"{name}.py": PROGRAM,
        f"{about}/METADATA": METADATA.format(name=name, more=more),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-0.1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with the installer, a wheel and the list of digests."""
    folder = tmp_path / "bundle"
    a_wheel_folder = folder / "wheels"
    folder.mkdir()
    a_wheel(a_wheel_folder, "medseg")
    (folder / "install.py").write_bytes((ROOT / "deploy" / "install.py").read_bytes())
    (folder / install.MADE_FOR).write_text(json.dumps(install.platform_now()))
    listed(folder)
    return folder


def listed(folder: Path) -> None:
    lines = (f"{install.sha256_of(path)}  {name}\n" for name, path in install.files_of(folder).items())
    (folder / install.SUMS).write_text("".join(lines))


def run(bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installer, on a machine whose settings name an index that is not there."""
    dead = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_EXTRA_INDEX_URL": "",
        "PYTHONPATH": "",
    }
    return subprocess.run(
        [sys.executable, str(bundle / "install.py"), *words],
        env={**os.environ, **dead},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_whole_bundle_is_taken(bundle: Path) -> None:
    found = run(bundle, "--check", "nowhere")
    assert found.returncode == 0, found.stderr
    assert "all files are as SHA256SUMS says" in found.stdout


def changed(bundle: Path) -> None:
    with (bundle / "wheels" / "medseg-0.1.0-py3-none-any.whl").open("ab") as handle:
        handle.write(b"x")


def missing(bundle: Path) -> None:
    (bundle / "wheels" / "medseg-0.1.0-py3-none-any.whl").unlink()


def added(bundle: Path) -> None:
    a_wheel(bundle / "wheels", "stranger")


def without_list(bundle: Path) -> None:
    (bundle / install.SUMS).unlink()


def of_another_python(bundle: Path) -> None:
    (bundle / install.MADE_FOR).write_text(json.dumps({**install.platform_now(), "python": "3.2"}))
    listed(bundle)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (changed, "1 of 3 files are changed, such as wheels/medseg"),
        (missing, "1 of 3 files are missing, such as wheels/medseg"),
        (added, "1 of 3 files are not in the list, such as wheels/stranger"),
        (without_list, "SHA256SUMS: No such file or directory; unpack the archive again"),
        (of_another_python, "the wheels are for 3.2 "),
    ],
)
def test_nothing_is_installed_of_a_bundle_that_is_not_as_stated(
    bundle: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(bundle)
    found = run(bundle, str(tmp_path / "target"))
    assert found.returncode == 3
    assert said in found.stderr
    assert not (tmp_path / "target").exists()


def test_an_installed_version_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "pyvenv.cfg").touch()
    found = run(bundle, str(tmp_path / "target"))
    assert found.returncode == 3
    assert "name a new folder for each version" in found.stderr
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["pyvenv.cfg"]


@pytest.mark.slow
def test_one_command_installs_without_an_index_and_leaves_no_installer(bundle: Path, tmp_path: Path) -> None:
    found = run(bundle, str(tmp_path / "target"))
    assert found.returncode == 0, found.stderr
    assert "medseg of the test" in found.stdout
    (site,) = tmp_path.glob("target/**/site-packages")
    assert {path.name.split("-")[0] for path in site.glob("*.dist-info")} == {"medseg"}


@pytest.mark.slow
def test_nothing_is_left_where_a_wheel_is_missing(bundle: Path, tmp_path: Path) -> None:
    a_wheel(bundle / "wheels", "medseg", more='Requires-Dist: starlette; extra == "serve"')
    listed(bundle)
    found = run(bundle, str(tmp_path / "target"))
    assert found.returncode == 3
    assert "starlette" in found.stderr
    assert not (tmp_path / "target").exists()
