"""What `make bundle` puts into its archive; the whole of it is made and tried by hand (docs/hospital.md)."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from medseg.model.file import packaged_models

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "deploy").is_dir(), reason="the checkout is not at hand")
pytest.importorskip("cyclonedx")
sys.path.insert(0, str(ROOT / "deploy"))
if (ROOT / "deploy").is_dir():
    import bundle
    import install
    import sbom
    import wheels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle without its wheels."""
    folder = tmp_path / bundle.name()
    folder.mkdir()
    bundle.copy_files(folder)
    bundle.write_sums(folder)
    return folder


def test_it_has_installer_licence_unit_and_pages_in_which_links_lead_somewhere(folder: Path) -> None:
    assert {"LICENSE", "install.py", "medseg.service", "nginx.conf"} <= {p.name for p in folder.iterdir()}
    page = folder / "docs" / "hospital.md"
    made = {"commands.md"}  # by docs/reference.py
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists() or Path(target).name in made, target


def test_the_installer_takes_the_list_of_digests(folder: Path) -> None:
    install.require_whole(folder)
    install.require_platform(folder)
    (folder / "LICENSE").write_text("another")
    with pytest.raises(install.RefusedError, match="changed, such as LICENSE"):
        install.require_whole(folder)


def test_the_same_files_make_the_same_archive(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "docs")  # which takes long to pack
    digests = []
    for number in range(2):
        (folder / "LICENSE").touch()  # with another time
        (folder / "LICENSE").chmod(0o600 + 0o44 * number)
        bundle.pack(folder, tmp_path / f"{number}.tar.gz", 1_700_000_000)
        digests.append(install.sha256_of(tmp_path / f"{number}.tar.gz"))
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "0.tar.gz") as tar:
        entries = tar.getmembers()
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {
        (0, 0, "", 1_700_000_000)
    }
    assert all(entry.name.split("/")[0] == folder.name for entry in entries)


def test_wheels_are_gathered_at_the_pinned_versions_and_none_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        ran.append(command)
        if "build" in command:
            Path(command[command.index("--outdir") + 1], "medseg-0.1.0-py3-none-any.whl").touch()

    monkeypatch.setattr(subprocess, "run", run)
    wheels.gather(tmp_path / "wheels")
    download = " ".join(ran[-1])
    assert f"--constraint {ROOT / 'constraints.txt'} --only-binary :all:" in download
    assert download.endswith("medseg-0.1.0-py3-none-any.whl[serve,dicom]")


@pytest.fixture
def bill() -> dict[str, Any]:
    """A bill of medseg alone, with the packaged models."""
    root = {"type": "application", "bom-ref": "root", "name": "medseg", "version": "0.1.0"}
    return sbom.with_models(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "metadata": {"component": root},
            "components": [],
            "dependencies": [{"ref": "root"}],
        }
    )


def test_the_bill_has_the_packaged_models_and_their_data(bill: dict[str, Any]) -> None:
    written = json.loads(sbom.text(bill))
    parts = {part["bom-ref"]: part for part in written["components"]}
    licences = {"brain": "Apache-2.0", "hippocampus": "CC-BY-SA-4.0"}
    assert packaged_models().keys() == licences.keys()
    for name, path in packaged_models().items():
        model, data = parts[f"model:{name}"], parts[f"data:{name}"]
        assert model["type"] == "machine-learning-model"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
        assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": f"data:{name}"}]
        assert model["licenses"] == data["licenses"] == [{"license": {"id": licences[name]}}]
        assert (ROOT / model["externalReferences"][0]["url"]).is_file()
    (of_root,) = (entry for entry in written["dependencies"] if entry["ref"] == "root")
    assert of_root["dependsOn"] == ["model:brain", "model:hippocampus"]


def test_a_bill_that_the_schema_refuses_is_not_written(bill: dict[str, Any]) -> None:
    bill["components"][0]["hashes"] = [{"alg": "SHA-257", "content": "0"}]
    with pytest.raises(ValueError, match="not valid"):
        sbom.text(bill)
