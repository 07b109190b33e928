"""A folder predicted by a Dask cluster: the same results, failures isolated, what may pass tried again."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import medseg

from medseg.core.errors import InputError, MedsegError, ResourceError, UsageError
from medseg.data.phantom import write_phantom_scan
from medseg.io import read_labels
from medseg.prediction import cluster
from medseg.prediction.job import Job, Outcome, PredictOptions
from medseg.prediction.requests import find_cases
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as local:
        yield local.scheduler_address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(3):
        write_phantom_scan(scans / f"case{n}.nii.gz", shape=(24, 24, 24), seed=n)
    return scans


def test_a_cluster_gives_what_one_process_gives(folder: Path, model_path: Path, address: str) -> None:
    here, there = folder.parent / "here", folder.parent / "there"
    assert medseg("predict", folder, "-m", model_path, "-o", here).code == 0
    ran = medseg("predict", folder, "-m", model_path, "-o", there, "--scheduler", address)
    assert ran.code == 0, ran.err
    assert ran.err.count("_seg.nii.gz (") == 3
    for n in range(3):
        names = [out / f"case{n}_seg.nii.gz" for out in (here, there)]
        first, second = map(read_labels, names)
        assert (first.array == second.array).all()
    again = medseg("predict", folder, "-m", model_path, "-o", there, "--scheduler", address)
    assert again.err.count("exists already") == 3


def test_one_bad_scan_leaves_the_others(folder: Path, model_path: Path, address: str) -> None:
    bad = folder / "case1.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-30])
    out = folder.parent / "out"
    ran = medseg("predict", folder, "-m", model_path, "-o", out, "--scheduler", address, "--json", "-q")
    assert ran.code == 7
    assert sorted(row["case"] for row in json.loads(ran.out) if row["error"]) == ["case1"]
    assert len(list(out.glob("*_seg.nii.gz"))) == 2


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ResourceError("no room"), 1 + cluster.RETRIES),
        (MedsegError("a fault of ours"), 1 + cluster.RETRIES),
        (InputError("the file is empty"), 1),
    ],
)
def test_what_may_pass_is_tried_again(
    folder: Path,
    model_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    error: MedsegError,
    tries: int,
) -> None:
    seen = []

    def failing(job: Job) -> None:
        seen.append(job.case.stem)
        job.outcome = Outcome(job.case.stem, job.target, error=error)

    monkeypatch.setattr(Job, "read", failing)
    case = find_cases([str(folder / "case0.nii.gz")])[0]
    loader = Loader((str(model_path),), SegmenterOptions())
    found = list(cluster.distributed(address, [(case, folder / "x_seg.nii.gz")], loader, PredictOptions()))
    assert [str(outcome.error) for outcome in found] == [str(error)]
    assert len(seen) == tries


def test_a_fault_that_passes_leaves_a_result(
    folder: Path, model_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[[Job], None] = Job.read
    seen = []

    def moody(job: Job) -> None:
        seen.append(job.case.stem)
        if len(seen) == 1:
            raise ResourceError("the disk is away")
        honest(job)

    monkeypatch.setattr(Job, "read", moody)
    ran = medseg("predict", folder, "-m", model_path, "-o", folder.parent / "out", "--scheduler", address)
    assert ran.code == 0, ran.err
    assert len(seen) == 4


def test_a_model_that_cannot_be_read_is_named(folder: Path, address: str) -> None:
    ran = medseg("predict", folder, "-m", "no-such", "-o", folder.parent / "out", "--scheduler", address)
    assert ran.code == 7
    assert "no-such" in ran.err


def test_nobody_at_the_address(folder: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    ran = medseg(
        "predict", folder, "-m", model_path, "-o", folder.parent / "out", "--scheduler", "tcp://127.0.0.1:9"
    )
    assert ran.code == UsageError.exit_code
    assert "the Dask scheduler at tcp://127.0.0.1:9 cannot be reached" in ran.err


def test_one_scan_needs_no_cluster(folder: Path, model_path: Path, address: str) -> None:
    ran = medseg("predict", folder / "case0.nii.gz", "-m", model_path, "--scheduler", address)
    assert ran.code == UsageError.exit_code


def test_faults_travel_whole() -> None:
    fault = ResourceError("too little", source="a.nii.gz", hint="close programs")
    back = pickle.loads(pickle.dumps(fault))
    assert str(back) == str(fault)


def test_paths_mean_the_same_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (case,) = find_cases(["case0.nii.gz"])
    assert cluster.absolute(case).source == folder / "case0.nii.gz"
    (case,) = find_cases(["a=case0.nii.gz", "b=case1.nii.gz"])
    assert cluster.absolute(case).source == {"a": folder / "case0.nii.gz", "b": folder / "case1.nii.gz"}
