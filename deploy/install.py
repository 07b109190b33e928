"""Install medseg from the folder of this file into a virtual environment; nothing is asked of a network.

python3 install.py /opt/medseg-0.1.0

Every file is compared with SHA256SUMS first. The environment holds what the SBOM lists and no installer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

SUMS = "SHA256SUMS"
MADE_FOR = "made_for.json"
"""Which Python and machine the wheels are for; `platform_now` says what runs."""
EXTRAS = "serve,dicom"
QUIET = ("--isolated", "--disable-pip-version-check", "--no-input", "--quiet")
CHUNK = 1 << 20


class RefusedError(Exception):
    """Why nothing was installed, and what to do."""


def platform_now() -> dict[str, str]:
    """The Python that runs, as wheels know it."""
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "implementation": sys.implementation.name,
        "platform": sysconfig.get_platform(),
    }


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder but the list of digests itself, by its path within."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: path for name, path in found.items() if name != SUMS and not path.is_dir()}


def require_whole(folder: Path) -> None:
    """Compare every file with the list of digests.

    Raises:
        RefusedError: a file is missing, changed, or not in the list.
    """
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
    except OSError as fault:
        raise RefusedError(f"{folder / SUMS}: {fault.strerror}; unpack the archive again") from None
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    there = files_of(folder)
    missing, strange = sorted(listed.keys() - there.keys()), sorted(there.keys() - listed.keys())
    changed = [
        name for name in sorted(listed.keys() & there.keys()) if sha256_of(there[name]) != listed[name]
    ]
    for what, names in (("missing", missing), ("not in the list", strange), ("changed", changed)):
        if names:
            raise RefusedError(
                f"{folder}: {len(names)} of {len(listed)} files are {what}, such as {names[0]}; "
                "fetch the archive again, and compare its digest with the one that you were told"
            )


def require_platform(folder: Path) -> None:
    """Compare the Python that runs with the one that the wheels are for.

    Raises:
        RefusedError: they differ.
    """
    wanted, now = json.loads((folder / MADE_FOR).read_text("utf-8")), platform_now()
    if wanted != now:
        raise RefusedError(
            f"the wheels are for {' '.join(wanted.values())}, and this is {' '.join(now.values())}; "
            f"run install.py with python{wanted['python']}, or make a bundle with this Python"
        )


def require_free(target: Path) -> None:
    """Refuse a folder that holds something: an update gets a folder of its own.

    Raises:
        RefusedError: it does, or is a file.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RefusedError(f"{target} holds something already; name a new folder for each version")


def install(wheels: Path, target: Path) -> Path:
    """Make a virtual environment of a folder of wheels.

    Returns:
        Its `medseg`.

    Raises:
        RefusedError: it cannot be made; then nothing is left of it.
    """
    scripts = target / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-I", "-m", "pip"]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    wanted = ["--no-index", "--no-cache-dir", "--find-links", str(wheels), f"medseg[{EXTRAS}]"]
    try:
        venv.create(target, with_pip=True)
        subprocess.run([*pip, "install", *QUIET, *wanted], env=environment, check=True)
        subprocess.run([*pip, "uninstall", *QUIET, "--yes", "setuptools", "pip"], env=environment, check=True)
    except (subprocess.CalledProcessError, OSError) as fault:
        shutil.rmtree(target, ignore_errors=True)
        raise RefusedError(
            f"{target}: the environment cannot be made ({fault}); "
            "on Debian and Ubuntu the package python3-venv is needed"
        ) from None
    return scripts / "medseg"


def main() -> int:
    parser = argparse.ArgumentParser(description="Install medseg from this folder, without a network.")
    parser.add_argument("target", type=Path, help="new folder, such as /opt/medseg-0.1.0")
    parser.add_argument(
        "--check", action="store_true", help="compare the files with their digests, and no more"
    )
    args = parser.parse_args()
    folder = Path(__file__).resolve().parent
    try:
        require_whole(folder)
        if args.check:
            print(f"{folder}: all files are as {SUMS} says")
            return 0
        require_platform(folder)
        require_free(args.target)
        program = install(folder / "wheels", args.target.absolute())
    except RefusedError as fault:
        print(f"install.py: error: {fault}", file=sys.stderr)
        return 3
    subprocess.run([str(program), "--version"], check=True)
    print(f"installed; the command is {program}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
