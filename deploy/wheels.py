"""Gather the wheels of medseg and of all that it needs with its extras, at the versions of constraints.txt.

python deploy/wheels.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from install import EXTRAS

ROOT = Path(__file__).parents[1]


def gather(folder: Path) -> None:
    """Write them into a folder; nothing is compiled, for a compiled wheel fits one machine."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as built:
        build = ["-m", "build", "--no-isolation", "--wheel", "--outdir", built, str(ROOT)]
        subprocess.run([sys.executable, *build], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(built).glob("*.whl")
        options = ["--quiet", "--constraint", str(ROOT / "constraints.txt"), "--only-binary", ":all:"]
        download = ["-m", "pip", "download", *options, "--dest", str(folder), f"{wheel}[{EXTRAS}]"]
        subprocess.run([sys.executable, *download], check=True)


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
