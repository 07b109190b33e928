"""What an installation brings: megabytes of the packages with and without the extra [train].

    python benchmarks/install.py

Each is installed from this checkout with the constraints into an environment of its own, which pip fills from
the network; `medseg --help` must run there. Prints one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = "Scripts" if sys.platform == "win32" else "bin"


def main() -> None:
    found = {"prediction": megabytes("."), "training": megabytes(".[train]")}
    print(json.dumps({"benchmark": "install", "python": sys.version.split()[0], "megabytes": found}))


def megabytes(wanted: str) -> int:
    """Of the packages that pip installs for `wanted`, without pip itself."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / BIN / "python"
        before = size(Path(folder))
        install = [python, "-m", "pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt"]
        subprocess.run([*install, wanted], cwd=ROOT, check=True)
        subprocess.run([python.with_name("medseg"), "--help"], check=True, stdout=subprocess.DEVNULL)
        return round((size(Path(folder)) - before) / 1e6)


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink() and path.is_file())


if __name__ == "__main__":
    main()
