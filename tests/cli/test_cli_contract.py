"""The command line keeps its word: exit codes, one line of error, clean streams, light imports."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from commands import Ran, apart, done, medseg, refused, tree
from io_files import save
from typer.main import get_command

from medseg import __version__
from medseg.cli import info, main, terminal
from medseg.core.errors import (
    GeometryError,
    InputError,
    MedsegError,
    ModelError,
    PartialBatchError,
    ResourceError,
    SelfCheckError,
    UsageError,
)
from medseg.data.phantom import write_phantom_scan

VERBS = (
    "predict",
    "verify",
    "serve",
    "listen",
    "next",
    "plan",
    "train",
    "evaluate",
    "compare",
    "report",
    "refine",
    "partition",
    "calibrate",
    "check",
    "convert",
    "augment",
    "info",
    "networks",
    "export",
    "phantom",
    "demo",
)
HEAVY = {"torch", "monai", "openvino", "SimpleITK", "nibabel", "scipy", "numpy", "matplotlib", "rich"}
ENTRY = [sys.executable, "-c", "from medseg.cli.main import main; main()"]


def raising(fault: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `medseg info` meet a fault."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(info, "_image", fail)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A reference and a prediction."""
    labels = np.zeros((10, 9, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    for name, shift in (("ref", 0), ("pred", 1)):
        save(tmp_path / f"{name}.nii.gz", np.roll(labels, shift, 0), np.eye(4))
    return tmp_path / "pred.nii.gz", tmp_path / "ref.nii.gz"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan that a tiny model segments at once."""
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(18, 20, 16))
    return tmp_path / "scan.nii.gz"


# Help and version


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    ran = done(verb, "--help")
    assert ran.out.startswith(f"Usage: medseg {verb} ")
    assert ran.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_sentence_of_help(verb: str) -> None:
    parameters = vars(get_command(main.application()))["commands"][verb].params
    texts = {p.name: p.help or "" for p in parameters if not getattr(p, "hidden", False)}
    for name, text in texts.items():
        assert text[:1].isupper() or text.startswith("i/n: "), (name, text)
        assert text.endswith("."), (name, text)
        assert " " in text, (name, text)
        assert "if not said" not in text, (name, text)


def test_help_lists_the_verbs_and_needs_no_word() -> None:
    ran = done("--help")
    assert [line.split()[0] for line in ran.out.split("Commands:")[1].splitlines() if line] == list(VERBS)
    assert "not a medical device" in ran.out
    assert done() == ran


def test_the_version() -> None:
    assert done("--version") == Ran(0, f"medseg {__version__}\n", "")


def test_help_imports_nothing_of_size(tmp_path: Path) -> None:
    for words in (("--help",), ("--version",), ("predict", "--help"), ("train", "--help")):
        found = apart(tmp_path, *words)
        assert found.ran.code == 0, found.ran.err
        assert not found.modules & HEAVY


# Usage


@pytest.mark.parametrize(
    "words",
    [
        ("bogus",), ("--bogus",), ("predict",), ("predict", "--bogus"),
        ("predict", "x.nii.gz", "-m"), ("predict", "x.nii.gz", "-m", "m", "--threads", "-1"),
        ("predict", "x.nii.gz", "-m", "m", "--threads", "two"), ("train", "phantom_unet3d"),
        ("predict", "x.nii.gz", "-m", "m", "--engine", "abacus"),
        ("predict", "x.nii.gz", "-m", "m", "--precision", "f64"),
        ("train", "nonesuch", "--data", ".", "-o", "run"),
        ("train", "phantom_unet3d", "--data", ".", "-o", "run", "--time-budget", "nan"),
        ("train", "phantom_unet3d", "--data", ".", "-o", "run", "--time-budget", "inf"),
        ("train", "phantom_unet3d", "--data", ".", "-o", "run", "--time-budget", "soon"),
        ("train", "phantom_unet3d", "--data", ".", "-o", "run", "--time-budget", "2m", "--epochs", "3"),
        ("train", "phantom_unet3d", "--data", ".", "-o", "run", "--fold", "last"),
        ("evaluate", "a.nii.gz", "b.nii.gz", "--mode", "fuzzy"),
        ("check", ".", "--use-form", "third"), ("check", ".", "--fill-nan", "nan"),
        ("phantom", "out", "--cases", "1"), ("info",), ("check", ".", "--card", "nonesuch"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error_of_one_line(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "x.nii.gz")
    before = tree(tmp_path)
    line = refused(2, *words)
    assert not re.search(r"use_form|fill_nan|time_budget|command\.", line), "a name of the code"
    assert tree(tmp_path) == before


# Codes and streams


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RuntimeError("oops"), 1), (UsageError("x"), 2), (InputError("x"), 3), (GeometryError("x"), 4),
        (ModelError("x"), 5), (ResourceError("x"), 6), (PartialBatchError("x"), 7), (SelfCheckError("x"), 8),
        (MemoryError(), 6), (PermissionError(errno.EACCES, "denied", "secret.nii"), 6), (MedsegError("x"), 1),
    ],
)  # fmt: skip
def test_each_fault_has_its_code_and_one_line(
    fault: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(fault, monkeypatch)
    line = refused(code, "info", tmp_path)
    assert ("this is a bug in medseg" in line) == (type(fault) is RuntimeError)
    for words in (("--debug", "info", tmp_path), ("info", tmp_path, "--debug")):
        ran = medseg(*words)
        assert ran.code == code
        assert "Traceback" in ran.err
        assert ran.err.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [(KeyboardInterrupt(), 130, "interrupted"), (main.Terminated(), 143, "terminated")],
)
def test_an_interruption_has_its_code(
    fault: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    raising(fault, monkeypatch)
    assert main._run(["info", str(tmp_path)], debug=False) == code
    assert capsys.readouterr().err == f"medseg: error: {text}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.fault("reliability 89")
def test_row_89_a_signal_ends_the_work_at_once_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts without it
        "from medseg.cli import main\n"
        "from medseg.io.atomic import atomic_write\n"
        "from medseg.cli import info\n"
        "from pathlib import Path\n"
        "def slow(path, *_):\n"
        "    with atomic_write(path / 'x.nii') as temporary:\n"
        "        temporary.write_bytes(b'half'); print('ready', flush=True)\n"
        "        for _ in range(600): time.sleep(0.1)\n"  # a signal before one long sleep may miss it
        "info._image = slow\n"
        "main.main()\n"
    )
    folder = tmp_path / "work"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "info", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert time.monotonic() - began < 2
    assert re.fullmatch(r"medseg: error: (interrupted|terminated)\n", err)
    assert list(folder.iterdir()) == []


@pytest.mark.fault("reliability 92")
def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(16, 16, 16))
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [*ENTRY, "info", str(tmp_path / "scan.nii.gz")], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize("words", ["--help", "--version", "evaluate --help", "info brain", "evaluate A B"])
def test_a_full_disk_behind_stdout_is_said(pair: tuple[Path, Path], words: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    files = {"A": str(pair[0]), "B": str(pair[1])}
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*ENTRY, *(files.get(word, word) for word in words.split())], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == ResourceError.exit_code
    assert ran.stderr.splitlines()[-1].startswith("medseg: error: the output cannot be written: No space")
    assert "bug" not in ran.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_argument_is_refused_by_every_verb(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a path it would be the current folder."""
    monkeypatch.chdir(tmp_path)
    for words in (("",), ("x", "-o", ""), ("x", "--output=")):
        assert "an empty path or value after" in refused(2, verb, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("reliability 92")
def test_any_locale_and_encoding_will_do(pair: tuple[Path, Path]) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    folders = pair[0].parent / "p", pair[0].parent / "r"
    for folder, path in zip(folders, pair, strict=True):
        folder.mkdir()
        for n in range(5):
            (folder / f"ü{n}.nii.gz").write_bytes(path.read_bytes())
    ran = subprocess.run(
        [*ENTRY, "evaluate", *map(str, folders), "--no-surface"], capture_output=True, env=env, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"0.750" in ran.stdout


def test_progress_is_shown_on_a_terminal_only(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert done("evaluate", *pair, "--tolerance", 1).err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    terminal.rewrite("measuring")
    assert screen.getvalue() == "\r\x1b[2Kmeasuring"
    main._say("done", 3)
    assert screen.getvalue().endswith("\r\x1b[2Kmedseg: error: done\n")


# Verbs that read


def test_info_says_what_the_header_says(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz")
    said = done("info", tmp_path / "a.nii.gz", "--json").json()
    assert said["orientation"] == "LAS"
    assert said["affine"][0] == [-0.9, 0, 0, 40]
    assert said["warnings"] == []
    shown = done("info", tmp_path / "a.nii.gz")
    assert dict(line.split("  ", 1) for line in shown.out.splitlines())["shape"].strip() == "5 x 6 x 7"
    refused(3, "info", tmp_path / "none.nii.gz")
    refused(5, "info", tmp_path / "none.safetensors")


def test_info_knows_a_model(model_path: Path) -> None:
    said = done("info", model_path, "--json").json()
    assert said["name"] == "tiny-0"
    assert said["structures"] == {"left lobe": 1, "right lobe": 2, "core": 3}
    assert done("info", model_path).out.startswith("name ")


def test_info_knows_the_models_of_a_run(model_path: Path, tmp_path: Path) -> None:
    folds = [tmp_path / f"fold_{n}" / "model.safetensors" for n in range(2)]
    for file in folds:
        file.parent.mkdir()
        shutil.copy(model_path, file)
    said = done("info", tmp_path, "--json").json()
    alone = done("info", model_path, "--json").json()
    assert said == [{"file": str(file)} | alone for file in folds]
    shown = done("info", tmp_path).out.splitlines()
    assert [line.split()[1] for line in shown if line.startswith("file ")] == [str(file) for file in folds]
    assert done("info", folds[0].parent, "--json").json() == alone
    shutil.copy(model_path, tmp_path)
    shutil.move(tmp_path / model_path.name, tmp_path / "model.safetensors")
    assert done("info", tmp_path, "--json").json() == alone


def test_a_header_without_orientation_is_read_when_told_so(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", sform=0, qform=0)
    assert "--assume-ras" in refused(4, "info", tmp_path / "a.nii.gz")
    ran = done("info", tmp_path / "a.nii.gz", "--assume-ras")
    assert ran.err.startswith("warning: ")


def test_evaluate_prints_a_table_or_strict_json(pair: tuple[Path, Path]) -> None:
    assert "0.750" in done("evaluate", *pair, "--tolerance", "1").out
    said = done("evaluate", *pair, "--json").json()
    assert said["schema"] == "medseg.report/1"
    assert str(pair[0].parent) not in json.dumps(said)


def test_evaluate_checks_where_it_writes_before_it_measures(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pair[0].parent
    (folder / "old.json").write_text("old")
    before = tree(folder)
    line = refused(2, "evaluate", *pair, "--csv", folder / "new.csv", "-o", folder / "old.json")
    assert "exists already" in line
    for target in pair:
        assert "replace an input" in refused(2, "evaluate", *pair, "-o", target, "--overwrite")
    assert tree(folder) == before
    files = [folder / name for name in ("a.csv", "b.csv", "c.json", "d.html")]
    words = zip(("--csv", "--cohort-csv", "-o", "--report"), files, strict=True)
    ran = done("evaluate", *pair, "--tolerance", 1, *(part for word in words for part in word))
    assert ran.err == ""
    assert all(file.stat().st_size for file in files)


def test_nothing_that_is_read_is_written_over(scan: Path, model_path: Path, tmp_path: Path) -> None:
    """Labels, their sidecars and a dataset's description; an own result beside them may be."""
    folder = tmp_path / "pred"
    done("predict", scan, "-m", model_path, "-o", f"{folder}/")
    (folder / "dataset.json").write_text('{"labels": {"left lobe": 1}}')
    labels, sidecar = folder / "scan_seg.nii.gz", folder / "scan_seg.json"
    before = tree(folder)
    for source in (labels, folder):
        for verb in (("evaluate", source, source), ("compare", source, source, "--reference", source)):
            for target in (labels, sidecar, *[folder / "dataset.json"] * (source == folder)):
                line = refused(2, *verb, "--csv", target, "--overwrite")
                assert f"{target}: the output would replace an input" in line
    assert tree(folder) == before
    (folder / "own.csv").write_text("old")
    shutil.copytree(folder, tmp_path / "ref")
    done("evaluate", folder, tmp_path / "ref", "--csv", folder / "own.csv", "--overwrite")
    assert (folder / "own.csv").read_text() != "old"


UNREADABLE = [
    ("predict", "X", "-m", "hippocampus", "-o", "out/"),
    ("info", "X"),
    ("evaluate", "X", "REF"),
    ("evaluate", "REF", "X"),
    ("compare", "X", "REF"),
]


@pytest.mark.parametrize(
    ("kind", "words"),
    [*itertools.product(["folder", "file"], UNREADABLE), ("folder", ("check", "X"))],
)
def test_what_may_not_be_read_has_one_code(
    kind: str, words: tuple[str, ...], pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system answers who has no rights, which a test that may run as root has to play."""
    monkeypatch.chdir(pair[0].parent)
    closed, ref = (pair[0].parent / name for name in ("closed", "refs"))
    for folder, source in ((closed, pair[0]), (ref, pair[1])):
        folder.mkdir()
        shutil.copy(source, folder / "case.nii.gz")
    real_iterdir, real_open, real_access = Path.iterdir, Path.open, os.access

    def denied(path: Path) -> bool:
        return closed in (path.absolute(), path.absolute().parent)

    def iterdir(path: Path) -> Iterator[Path]:
        if denied(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_iterdir(path)

    def opened(path: Path, *more: Any, **named: Any) -> Any:
        if denied(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *more, **named)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(os, "access", lambda path, mode: not denied(Path(path)) and real_access(path, mode))
    names = {"X": closed, "REF": ref}
    if kind == "file":
        names = {name: folder / "case.nii.gz" for name, folder in names.items()}
    line = refused(6, *(names.get(word, word) for word in words))
    assert "closed" in line
    assert "Permission denied" in line


def test_a_sidecar_names_the_labels_as_a_dataset_does(scan: Path, model_path: Path, tmp_path: Path) -> None:
    done("predict", scan, "-m", model_path, "-o", f"{tmp_path / 'out'}/")
    labels = Path(shutil.move(tmp_path / "out" / "scan_seg.nii.gz", tmp_path))
    sidecar = tmp_path / "out" / "scan_seg.json"
    names = [row["name"] for row in json.loads(sidecar.read_text())["structures"]]
    said = done("evaluate", labels, labels, "--labels", sidecar, "--json").json()
    assert [row["structure"] for row in said["cohort"] if row["metric"] == "dice"] == names
    done("report", labels, scan, "--labels", sidecar, "-o", tmp_path / "page.html")
    assert all(name in (tmp_path / "page.html").read_text() for name in names)


@pytest.mark.fault("reliability 47")
def test_rows_47_grids_that_differ(pair: tuple[Path, Path]) -> None:
    other = save(pair[0].parent / "moved.nii.gz", np.zeros((10, 9, 8), np.uint8), np.diag([1, 1, 1.1, 1]))
    assert "different grids" in refused(4, "evaluate", other, pair[1])


def test_report_goes_where_it_is_told(pair: tuple[Path, Path]) -> None:
    seg, scan = pair
    folder = scan.parent
    image = nib.load(scan)
    array = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    array[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(array, image.affine), folder / "scan.nii.gz")
    assert "--fill-nan" in refused(3, "report", seg, folder / "scan.nii.gz")
    ran = done("report", seg, folder / "scan.nii.gz", "--fill-nan", "0", "-o", folder / "pages")
    assert ran.out == ""
    assert (folder / "pages" / "pred_report.html").is_file()
    refused(2, "report", seg, folder / "scan.nii.gz", "--fill-nan", "0", "-o", folder / "pages")


@pytest.mark.fault("reliability 78")
def test_reading_and_measuring_import_no_torch_and_use_no_network(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    seg, ref = pair
    folder = seg.parent
    runs = {
        ("info", ref): {"SimpleITK", "matplotlib", "openvino"},
        ("evaluate", seg, ref): {"openvino"},
        ("report", seg, ref, "-o", folder / "page.html"): {"openvino"},
        ("info", "nonesuch"): set(),
    }
    for words, more in runs.items():
        found = apart(tmp_path, *words)
        assert found.ran.code == (3 if "nonesuch" in words else 0), found.ran.err
        assert not found.modules & ({"torch", "monai"} | more)
        assert not found.connected


# Made-up data


def test_phantom_writes_a_dataset_or_a_scan_and_nothing_over_anything(tmp_path: Path) -> None:
    done("phantom", tmp_path / "data", "--cases", "3")
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["numTraining"] == 3
    done("phantom", tmp_path / "scan.nii.gz", "--seed", "7")
    before = tree(tmp_path)
    refused(2, "phantom", tmp_path / "data", "--cases", "3")
    refused(2, "phantom", tmp_path / "scan.nii.gz")
    assert tree(tmp_path) == before
    done("phantom", tmp_path / "scan.nii.gz", "--overwrite")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("20m", 1200)])
def test_durations(text: str, seconds: float) -> None:
    assert terminal.seconds_of(text) == seconds
