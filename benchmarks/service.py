"""A service under load: what is lost, how long answers take, and what it holds.

    python benchmarks/service.py load [--minutes 5]      8 clients send 20 small scans over and over
    python benchmarks/service.py peer --peer 8000        the same beside MONAI Label's server at that port
    python benchmarks/service.py kills [--kills 50]      the service is killed while clients send
    python benchmarks/service.py dicom                 series by storescu, objects by storescp, a kill between

`load` compares every label map with that of `medseg predict`, and the requests a second with calling
`medseg predict` for each scan. `kills` counts jobs that were answered for and are lost, or are there twice.
`dicom` needs DCMTK: `medseg listen` is killed in
the middle of a series, storescu sends again what was not acknowledged, and every patient must have one
segmentation, one report and one PDF, of the right study.
Each prints one line of JSON, and exits with 1 where something was lost, doubled or different, or where `load`
misses its target.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from training import DEFAULT_DATA, PROGRAM, processor

CLIENTS, SCANS, LEAST = 8, 20, 200
TIMES_FASTER = 5.0
BOUNDARY, TURNS = "a-boundary-of-the-benchmark", 3
STARTED = re.compile(r"listening to (?:http://)?[^:]+:(\d+)")
PACKAGES = {
    "peer": ("medseg", "starlette", "uvicorn", "openvino"),
    "load": ("medseg", "starlette", "uvicorn", "openvino"),
    "kills": ("medseg", "starlette", "uvicorn", "openvino"),
    "dicom": ("medseg", "pynetdicom", "pydicom", "highdicom", "openvino"),
}
SERIES, SPOILED = 20, 7
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


class Service:
    """`medseg serve` on a folder."""

    def __init__(self, data: Path, model: str) -> None:
        self.words = [*PROGRAM, "serve", "--port", "0", "--data", str(data), "--models", model]
        self.port = 0
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.words, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if found := STARTED.search(line):
                self.port = int(found[1])
                return process
        raise SystemExit("the service did not start")

    def again(self) -> None:
        """Kill it, and start it on what it left."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._started()

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "") -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request(method, path, body, {"Idempotency-Key": key} if key else {})
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def held_mib(self) -> float:
        """What it and its workers hold."""
        ids = [self.process.pid]
        for pid in ids:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            ids += [int(n) for n in children.read_text().split()] if children.exists() else []
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(options: argparse.Namespace, scans: list[Path], folder: Path) -> dict[str, Any]:
    alone, wanted = predicted(scans, folder / "alone", options.model)
    service = Service(folder / "data", options.model)
    waits: list[float] = []
    wrong, ids, held = [], [], []
    until = time.monotonic() + 60 * options.minutes
    lock = threading.Lock()

    def client(number: int) -> None:
        turn = number
        while time.monotonic() < until or len(waits) < LEAST:
            scan = scans[turn % len(scans)]
            turn += 1
            since = time.monotonic()
            job, labels = one(service, scan, f"{number} {turn}")
            same = np.array_equal(voxels(labels, folder / f"c{number}.nii.gz"), wanted[scan.name])
            with lock:
                waits.append(time.monotonic() - since)
                ids.append(job)
                if not same:
                    wrong.append(scan.name)

    began = time.monotonic()
    clients = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        held.append(service.held_mib())
        time.sleep(1)
    seconds = time.monotonic() - began
    service.process.terminate()
    rate, each = len(waits) / seconds, len(scans) / alone
    fifth = max(1, len(held) // 5)
    return {
        "requests": len(waits),
        "clients": CLIENTS,
        "seconds": round(seconds, 1),
        "requests a second": round(rate, 2),
        "predictions a second, one by one": round(each, 3),
        "times": round(rate / each, 1),
        "latency_s": {f"{q}th": round(float(np.percentile(waits, q)), 3) for q in (50, 90, 99, 100)},
        "held mib": {
            "first": round(statistics.median(held[fifth : 2 * fifth])),
            "last": round(statistics.median(held[-fifth:])),
        },
        "lost": len(waits) - len(ids),
        "doubled": len(ids) - len(set(ids)),
        "different": len(wrong),
        "target": TIMES_FASTER,
        "pass": rate / each >= TIMES_FASTER and not wrong and len(ids) == len(set(ids)),
    }


def peer(options: argparse.Namespace, scans: list[Path], folder: Path) -> dict[str, Any]:
    """Eight clients that speak MONAI Label's protocol to it, and to ours, in turn; see `monailabel_app`."""
    service = Service(folder / "data", options.model)
    rates: dict[str, list[float]] = {"ours": [], "monailabel": []}
    waits: dict[str, list[float]] = {"ours": [], "monailabel": []}
    for _ in range(TURNS):
        for name, port in (("ours", service.port), ("monailabel", options.peer)):
            own, seconds = infers(port, scans, options.model, 60 * options.minutes / (2 * TURNS))
            rates[name].append(len(own) / seconds)
            waits[name] += own
    service.process.terminate()
    ours, theirs = (statistics.median(rates[name]) for name in ("ours", "monailabel"))
    return {
        "clients": CLIENTS,
        "requests": {name: len(found) for name, found in waits.items()},
        "requests a second": {"ours": round(ours, 2), "monailabel": round(theirs, 2)},
        "median latency_s": {name: round(statistics.median(found), 3) for name, found in waits.items()},
        "times": round(ours / theirs, 2),
        "pass": ours >= theirs,
    }


def infers(port: int, scans: list[Path], model: str, seconds: float) -> tuple[list[float], float]:
    """What each request took, of clients that send scans for so long; and how long that was."""
    waits: list[float] = []
    infer(port, scans[0], model)  # the model is loaded now
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            since = time.monotonic()
            infer(port, scans[turn % len(scans)], model)
            waits.append(time.monotonic() - since)
            turn += 1

    began = time.monotonic()
    clients = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return waits, time.monotonic() - began


def infer(port: int, scan: Path, model: str) -> None:
    """One scan to labels, as MONAI Label's clients ask for it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{scan.name}"\r\n\r\n'
    body = head.encode() + scan.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        link.request("POST", f"/infer/{model}?output=image", body, kind)
        answer = link.getresponse()
        if answer.status != 200 or not answer.read():
            raise SystemExit(f"port {port} answers {answer.status}")
    finally:
        link.close()


def kills(options: argparse.Namespace, scans: list[Path], folder: Path) -> dict[str, Any]:
    service, rng = Service(folder / "data", options.model), random.Random(0)
    told: dict[str, str] = {}
    stop = threading.Event()

    def client(number: int) -> None:
        turn = 0
        while not stop.is_set():
            key = f"{number} {turn}"
            try:
                status, said = service.ask(
                    "POST", f"/api/jobs?name={scans[0].name}", scans[turn % len(scans)].read_bytes(), key
                )
                if status in (200, 201):
                    told[key] = json.loads(said)["id"]
                    turn += 1
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.02)  # it is dead just now: the same key again
            time.sleep(0.05)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in clients:
        thread.start()
    for _ in range(options.kills):
        time.sleep(rng.uniform(0.05, 2.0))
        service.again()
    stop.set()
    for thread in clients:
        thread.join()
    states = {key: ended(service, job) for key, job in told.items()}
    there = [p.name for p in (folder / "data" / "jobs").iterdir() if re.fullmatch(r"[0-9a-f]{32}", p.name)]
    service.process.terminate()
    done = sum(state == "done" for state in states.values())
    return {
        "kills": options.kills,
        "jobs": len(told),
        "done": done,
        "lost": sum(state == "missing" for state in states.values()),
        "failed": sum(state == "failed" for state in states.values()),
        "there without being answered for": len(set(there) - set(told.values())),
        "doubled": len(told) - len(set(told.values())),
        "pass": done == len(told) == len(set(told.values())),
    }


class Node:
    """`medseg listen` on a folder, which sends to a port."""

    def __init__(self, data: Path, model: str, port: int) -> None:
        self.words = [
            *(*PROGRAM, "listen", "--port", "0", "--data", str(data), "--models", model, "--quiet", "2s"),
            *("--route", f"Modality=MR,SeriesDescription~T1 -> {Path(model).stem}"),
            *("--send-to", f"127.0.0.1:{port}"),
        ]
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, stderr=subprocess.PIPE, text=True)
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        ready.wait(60)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.said.append(line)
            if found := STARTED.match(line):
                self.port = int(found[1])
                ready.set()


def dicom(options: argparse.Namespace, scans: list[Path], folder: Path) -> dict[str, Any]:
    dcmtk = Path(shutil.which("dcmdump") or sys.exit("DCMTK is not installed")).parent
    for number in range(SERIES + 1):
        write_series(folder / f"s{number:02}", number, scans[number % len(scans)], spoiled=number == SPOILED)
    out = folder / "out"
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scp = subprocess.Popen([str(dcmtk / "storescp"), "-od", str(out), str(port)])
    node, began, sent_again = Node(folder / "data", options.model, port), time.monotonic(), 0
    try:
        for number in range(SERIES + 1):
            files = [str(p) for p in sorted((folder / f"s{number:02}").iterdir())]
            if number == SERIES // 2:
                killer = threading.Timer(0.5, node.process.kill)
                killer.start()
            while True:
                words = [str(dcmtk / "storescu"), "-aec", "MEDSEG", "127.0.0.1", str(node.port), *files]
                if subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                    break
                sent_again += 1
                node.process.wait()
                node.start()
        sent = time.monotonic() - began
        while time.monotonic() - began < 900 and not (
            len(list(out.iterdir())) >= 3 * SERIES and any(": failed: " in line for line in node.said)
        ):
            time.sleep(0.5)
        took = time.monotonic() - began
        time.sleep(10)  # for what would come twice
        since = time.monotonic()
        node.process.terminate()
        code = node.process.wait()
        stopped = time.monotonic() - since
    finally:
        node.process.kill()
        scp.terminate()
        scp.wait()
    found = received(out)
    right = [n for n in range(SERIES + 1) if found.get(n) == sorted([*KINDS])]
    named = [line for line in node.said if "Made^Up" in line or "made-up" in line]
    return {
        "series": SERIES,
        "spoiled": 1,
        "slices": sum(len(list((folder / f"s{n:02}").iterdir())) for n in range(SERIES + 1)),
        "seconds until all was sent": round(sent, 1),
        "seconds until all had come": round(took, 1),
        "killed and sent again": sent_again,
        "patients with one segmentation, report and PDF of their study": len(right),
        "objects": len(list(out.iterdir())),
        "failed": sum(": failed: " in line for line in node.said),
        "names of patients in the log": len(named),
        "stopped in s": round(stopped, 2),
        "pass": right == [n for n in range(SERIES + 1) if n != SPOILED]
        and len(list(out.iterdir())) == 3 * SERIES
        and (code, sent_again, len(named)) == (0, 1, 0)
        and stopped < 2,
    }


KINDS = ("DOC", "SEG", "SR")


def write_series(folder: Path, number: int, scan: Path, *, spoiled: bool) -> None:
    """A scan as an MR series of a made-up patient; a spoiled one lacks a slice in the middle."""
    image = nib.load(scan)
    voxels_of = np.asarray(image.dataobj)
    scaled = np.round(voxels_of / max(voxels_of.max(), 1) * 4000).astype(np.uint16)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    i, j, k = (float(np.linalg.norm(lps[:3, axis])) for axis in range(3))
    folder.mkdir()
    for n in range(scaled.shape[2]):
        if spoiled and n == scaled.shape[2] // 2:
            continue
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MR_IMAGE
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.{1000 + number}.3.{n + 1}"
        one.PatientName, one.PatientID = f"Made^Up{number}", f"made-up-{number}"
        one.StudyInstanceUID, one.SeriesInstanceUID = f"2.25.{1000 + number}.1", f"2.25.{1000 + number}.2"
        one.FrameOfReferenceUID = f"2.25.{1000 + number}.4"
        one.Modality, one.SeriesDescription, one.InstanceNumber = "MR", "T1 mprage", n + 1
        one.ImagePositionPatient = [float(x) for x in np.round((lps @ [0, 0, n, 1])[:3], 6)]
        one.ImageOrientationPatient = [float(x) for x in (*lps[:3, 0] / i, *lps[:3, 1] / j)]
        one.PixelSpacing, one.SliceThickness = [j, i], k
        one.Rows, one.Columns = scaled.shape[1], scaled.shape[0]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.PixelData = scaled[:, :, n].T.tobytes()
        one.save_as(folder / f"{n:03}.dcm", enforce_file_format=True)


def received(folder: Path) -> dict[int, list[str]]:
    """Kinds of the objects of each patient, whose study must be the patient's."""
    found: dict[int, list[str]] = {}
    for path in folder.iterdir():
        one = pydicom.dcmread(path, stop_before_pixels=True)
        number = int(str(one.PatientID).removeprefix("made-up-"))
        if (one.PatientName, one.StudyInstanceUID) != (f"Made^Up{number}", f"2.25.{1000 + number}.1"):
            sys.exit(f"{path}: of another study than its patient's")
        found.setdefault(number, []).append(str(one.Modality))
    return {number: sorted(kinds) for number, kinds in found.items()}


def one(service: Service, scan: Path, key: str) -> tuple[str, bytes]:
    """The job of a scan, and its labels."""
    while True:
        status, said = service.ask("POST", f"/api/jobs?name={scan.name}", scan.read_bytes(), key)
        if status == 201:
            break
        time.sleep(0.2)
    job = json.loads(said)["id"]
    if (state := ended(service, job)) != "done":
        raise SystemExit(f"{scan.name}: {state}")
    return job, service.ask("GET", f"/api/jobs/{job}/labels")[1]


def ended(service: Service, job: str) -> str:
    while True:
        status, said = service.ask("GET", f"/api/jobs/{job}?wait=30")
        if status == 404:
            return "missing"
        state = str(json.loads(said)["state"])
        if state not in ("queued", "running"):
            return state


def voxels(data: bytes, path: Path) -> Any:
    path.write_bytes(data)
    return np.asarray(nib.load(path).dataobj)


def predicted(scans: list[Path], out: Path, model: str) -> tuple[float, dict[str, Any]]:
    """Seconds of `medseg predict`, called for each scan, and its labels."""
    out.mkdir()
    since = time.monotonic()
    for scan in scans:
        words = ["predict", str(scan), "-m", model, "-o", str(out / scan.name), "-q"]
        subprocess.run([*PROGRAM, *words], check=True)
    took = time.monotonic() - since
    return took, {scan.name: np.asarray(nib.load(out / scan.name).dataobj) for scan in scans}


PARTS = {"load": load, "peer": peer, "kills": kills, "dicom": dicom}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--peer", type=int, default=8000, help="port of MONAI Label's server")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_DATA", DEFAULT_DATA)))
    options = parser.parse_args()
    scans = sorted((options.data / "hippocampus" / "imagesTr").glob("*.nii.gz"))[:SCANS]
    with tempfile.TemporaryDirectory() as folder:
        found = {"load": load, "peer": peer, "kills": kills, "dicom": dicom}[options.part](
            options, scans, Path(folder)
        )
    line = {
        "benchmark": f"service {options.part}",
        "versions": {name: version(name) for name in PACKAGES[options.part]},
        "processor": processor(),
        **found,
    }
    print(json.dumps(line))
    sys.exit(0 if found["pass"] else 1)


if __name__ == "__main__":
    main()
