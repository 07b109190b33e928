"""Make one archive that installs medseg where no network is: wheels, models, SBOM, installer, pages.

python deploy/bundle.py dist             # dist/medseg-VERSION-cpPY-PLATFORM.tar.gz, and its digest
python deploy/bundle.py dist --sbom      # dist/medseg-VERSION.cdx.json alone

The wheels are for the Python and the platform that run this. The same wheels make the same bytes: times are
those of the last commit, or of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import sbom
from install import MADE_FOR, SUMS, files_of, install, platform_now, sha256_of
from wheels import ROOT, gather

from medseg import __version__

COPIED = ("LICENSE", "CHANGELOG.md", "deploy/install.py", "deploy/medseg.service", "deploy/nginx.conf")
MEASURED = ("seconds", "timing_s", "peak_memory_bytes")
"""Of a sidecar, what differs from run to run."""


def name() -> str:
    """What archive and folder are called."""
    made_for = platform_now()
    python = f"cp{made_for['python'].replace('.', '')}"
    return f"medseg-{__version__}-{python}-{made_for['platform'].replace('-', '_')}"


def moment() -> int:
    """Seconds since 1970 that everything is dated."""
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    if stated is None:
        log = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        stated = subprocess.run(log, check=True, capture_output=True, text=True).stdout
    return int(stated)


def copy_files(folder: Path) -> None:
    """Put what is in the checkout into the bundle: licence, installer, unit, pages."""
    for path in COPIED:
        shutil.copyfile(ROOT / path, folder / Path(path).name)
    pages = (page for kind in ("md", "png") for page in (ROOT / "docs").rglob(f"*.{kind}"))
    for page in sorted(page for page in pages if page.parent.name != "reference"):
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
    (folder / MADE_FOR).write_text(json.dumps(platform_now(), indent=1) + "\n", "utf-8")


def add_acceptance(folder: Path, program: Path) -> None:
    """Predict a phantom: `medseg verify` says on another machine whether the labels are the same there."""
    folder.mkdir()
    environment = {**os.environ, "MEDSEG_CACHE": "", "PYTHONPATH": ""}
    for words in (("phantom", "scan.nii.gz", "--seed", "1"), ("predict", "scan.nii.gz", "-m", "brain", "-q")):
        subprocess.run([str(program), *words], cwd=folder, env=environment, check=True)
    sidecar = folder / "scan_seg.json"
    stated = json.loads(sidecar.read_text("utf-8"))
    kept = {key: value for key, value in stated.items() if key not in MEASURED}
    sidecar.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def write_sums(folder: Path) -> None:
    """List the digest of every file, as `sha256sum -c` takes it."""
    lines = (f"{sha256_of(path)}  {name}\n" for name, path in files_of(folder).items())
    (folder / SUMS).write_text("".join(lines), "utf-8")


def pack(folder: Path, archive: Path, seconds: int) -> None:
    """Pack a folder, by name, as root's, with one date, so that the same files make the same bytes."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = seconds
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(folder, folder.name, filter=plain)  # sorted by name


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the archive, or the SBOM alone.")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--sbom", action="store_true", help="write the SBOM alone")
    args = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = str(moment())
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name()
        gather(folder / "wheels")
        program = install(folder / "wheels", Path(scratch) / "environment")
        bill = args.out / f"medseg-{__version__}.cdx.json"
        bill.write_text(sbom.text(sbom.with_models(sbom.distributions(program.with_name("python")))), "utf-8")
        sys.stdout.write(f"{bill}: CycloneDX 1.6, valid\n")
        if args.sbom:
            return
        copy_files(folder)
        shutil.copyfile(bill, folder / bill.name)
        add_acceptance(folder / "acceptance", program)
        write_sums(folder)
        archive = args.out / f"{name()}.tar.gz"
        pack(folder, archive, moment())
    line = f"{sha256_of(archive)}  {archive.name}\n"
    archive.with_name(f"{archive.name}.sha256").write_text(line, "utf-8")
    sys.stdout.write(f"{archive.parent}/: {line}")


if __name__ == "__main__":
    main()
