"""Install the wheel into a folder of its own and use it from outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PROGRAM = """
import medseg, sys
from pathlib import Path
assert Path(medseg.__file__).is_relative_to(Path(sys.argv[1])), medseg.__file__
from medseg.data.cards import available, load_card
from medseg.training.recipe import load_recipe
for name in available("datasets"):
    load_card(name)
for name in available("pipelines"):
    load_recipe(name)
from medseg.model import packaged_models
assert "hippocampus" in packaged_models(), "the packaged model is missing"
from medseg.data.phantom import write_phantom_scan
write_phantom_scan(Path("scan.nii.gz"), seed=1)
"""


def main() -> None:
    (wheel,) = Path(sys.argv[1]).resolve().glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        with zipfile.ZipFile(wheel) as content:
            names = content.namelist()
            content.extractall(site)
        strangers = [n for n in names if not n.startswith("medseg")]
        assert "medseg/py.typed" in names, "the wheel does not say that it is typed"
        assert not strangers, f"the wheel holds more than the package: {strangers}"
        scans = [n for n in names if n.endswith((".nii", ".nii.gz", ".dcm", ".mha", ".nrrd"))]
        assert not scans, f"the wheel holds scans: {scans}"
        environment = {**os.environ, "PYTHONPATH": str(site)}
        run = [sys.executable, "-P", "-c", PROGRAM, str(site)]
        subprocess.run(run, cwd=folder, env=environment, check=True)
        predict = "from medseg.cli.main import main; main(['predict', 'scan.nii.gz', '-m', 'hippocampus'])"
        subprocess.run([sys.executable, "-P", "-c", predict], cwd=folder, env=environment, check=True)
        assert (Path(folder) / "scan_seg.nii.gz").is_file()
    sys.stdout.write(f"smoke test of {wheel.name}: ok\n")


if __name__ == "__main__":
    main()
