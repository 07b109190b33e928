"""A model that tells objects apart writes their numbers beside its labels, and lists them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import done, refused
from models import tiny_model

from medseg.classical.spec import InstancesSpec
from medseg.core.components import components
from medseg.data.phantom import write_phantoms
from medseg.io import read_labels
from medseg.model.spec import PostprocessSpec

LOBES = PostprocessSpec(instances=InstancesSpec(("lobe",)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "data", "nnunet", 3, 0, (24, 20, 16))
    tiny_model(postprocess=LOBES).save(tmp_path / "m.safetensors")
    return tmp_path


def test_instances_are_written_numbered_and_listed(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    out = folder / "a_seg.nii.gz"
    done("predict", scan, "-m", folder / "m.safetensors", "-o", out)
    labels, numbers = read_labels(out), read_labels(folder / "a_inst.nii.gz")
    content = json.loads((folder / "a_seg.json").read_text())
    names = {s["name"]: s["value"] for s in content["structures"]}
    expected = sum(int(components(labels.array == names[n]).max()) for n in ("left lobe", "right lobe"))
    assert [one["number"] for one in content["instances"]] == list(range(1, expected + 1))
    labels.grid.require(numbers.grid, "labels and instances")
    for one in content["instances"]:
        mask = numbers.array == one["number"]
        assert np.count_nonzero(mask) == one["voxels"]
        assert set(labels.array[mask].tolist()) == {names[one["structure"]]}
        assert one["longest_mm"] > 0
        assert "score" not in one
    assert ((numbers.array > 0) == np.isin(labels.array, (names["left lobe"], names["right lobe"]))).all()


def test_a_folder_goes_on_and_its_numbers_are_no_predictions(folder: Path) -> None:
    words = ("predict", folder / "data" / "imagesTr", "-m", folder / "m.safetensors", "-o", folder / "out")
    done(*words)
    assert len(list((folder / "out").glob("*_inst.nii.gz"))) == 3
    assert done(*words).err.count("exists already") == 3
    found = done("evaluate", folder / "out", folder / "data" / "labelsTr", "--no-surface", "--json").json()
    assert isinstance(found, dict)
    assert (len(found["cases"]), found["warnings"]) == (3, [])


def test_a_page_lists_the_instances_and_leads_to_them(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    out = folder / "a_seg.nii.gz"
    done("predict", scan, "-m", folder / "m.safetensors", "-o", out, "--report")
    first = json.loads((folder / "a_seg.json").read_text())["instances"][0]
    page = (folder / "a_report.html").read_text()
    assert "Each instance in a slice through its middle" in page
    middle = re.search(r'<a href="#voxel-(\d+)-(\d+)-(\d+)">1</a>', page)
    assert middle is not None
    numbers = read_labels(folder / "a_inst.nii.gz")
    assert f"{first['longest_mm']:.1f}" in page
    low, high = np.array(first["box_mm"]) / numbers.grid.spacing_mm
    assert all(a <= int(n) < b for a, n, b in zip(low, middle.groups(), high, strict=True))
    done("report", out, scan, "-o", folder / "again.html")
    assert "Each instance in a slice through its middle" in (folder / "again.html").read_text()
    done("report", out, scan, "-o", folder / "again.pdf")


def test_a_page_of_changed_labels_takes_no_stored_instances(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    out = folder / "a_seg.nii.gz"
    done("predict", scan, "-m", folder / "m.safetensors", "-o", out)
    image = nib.load(out)
    changed = np.asarray(image.dataobj).copy()
    changed[:4] = 0
    nib.save(nib.Nifti1Image(changed, image.affine, image.header), out)
    done("report", out, scan, "-o", folder / "b.html")
    assert "Each instance" not in (folder / "b.html").read_text()


def test_instances_of_another_segmentation_are_refused(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    out = folder / "a_seg.nii.gz"
    done("predict", scan, "-m", folder / "m.safetensors", "-o", out)
    image = nib.load(out)
    stray = np.where(np.asarray(image.dataobj) == 0, 9, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(stray, image.affine), folder / "stray.nii.gz")
    line = refused(3, "report", out, scan, "-o", folder / "b.html", "--instances", folder / "stray.nii.gz")
    assert "has 1 instance outside every structure, such as 9" in line


def test_a_scan_without_objects_has_a_map_of_instances_too(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    none = PostprocessSpec(min_volume_mm3={"lobe": 1e9}, instances=InstancesSpec(("lobe",)))
    tiny_model(postprocess=none).save(folder / "none.safetensors")
    done("predict", scan, "-m", folder / "none.safetensors", "-o", folder / "a_seg.nii.gz")
    assert not read_labels(folder / "a_inst.nii.gz").array.any()
    assert json.loads((folder / "a_seg.json").read_text())["instances"] == []


def test_a_map_of_instances_that_was_changed_is_refused(folder: Path) -> None:
    scan = min((folder / "data" / "imagesTr").iterdir())
    done("predict", scan, "-m", folder / "m.safetensors", "-o", folder / "a_seg.nii.gz")
    path = folder / "a_inst.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    said = refused(3, "report", folder / "a_seg.nii.gz", scan, "-o", folder / "page.html")
    assert re.search(
        r"a_inst.nii.gz: was changed since the prediction: instance 1 has 0 voxels, and had \d+", said
    )
