"""Data sets from one layout to another and back: the same voxels in the same places, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from commands import medseg

from medseg.core.errors import GridMismatchError, InputError, UsageError
from medseg.core.structures import Structure, StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.cards import load_card
from medseg.data.cases import read_image, read_reference
from medseg.data.convert import convert, offered
from medseg.data.layouts import LAYOUTS, CaseFiles
from medseg.data.phantom import write_phantoms
from medseg.data.phantom.datasets import HEADS
from medseg.io import read_labels, read_volume, write_labels
from medseg.preparation.orient import canonical

SMALL = (18, 20, 16)
SEQUENCES = ("flair", "t1", "t1c", "t2")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "set"
    write_phantoms(folder, "decathlon", 3, 1, SMALL)
    return folder


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumours") / "set"
    write_phantoms(folder, "brats2023", 2, 1, (24, 26, 24))
    return folder


def case_of(folder: Path, layout: str, name: str) -> CaseFiles:
    found = LAYOUTS[layout].read(folder).cases
    return next(case for case in found if case.case_id == name)


def same(one: tuple[Volume, LabelMap], other: tuple[Volume, LabelMap]) -> None:
    np.testing.assert_array_equal(one[0].array, other[0].array)
    np.testing.assert_array_equal(one[1].array, other[1].array)
    assert one[0].grid.matches(other[0].grid)
    assert one[1].grid.matches(other[1].grid)


def read(folder: Path, layout: str, name: str, channels: tuple[str, ...]) -> tuple[Volume, LabelMap]:
    files = case_of(folder, layout, name)
    return read_image(files, channels), read_reference(files)


@pytest.mark.parametrize("through", ["nnunet"])
def test_there_and_back_a_case_is_what_it_was(heads: Path, tmp_path: Path, through: str) -> None:
    card = tmp_path / "card.toml"
    lines = [f'[[structures]]\nvalue = {s.value}\nname = "{s.name}"' for s in HEADS.structures]
    head = f'name = "heads"\ndescription = "made up"\nlayout = "{through}"\nchannels = ["image"]\n'
    card.write_text(head + "\n".join(lines))
    done = convert(heads, tmp_path / "there", layout="decathlon", to=through)
    assert (len(done.cases), done.labelled, done.relabelled, done.renamed) == (3, 3, {}, {})
    back = convert(tmp_path / "there", tmp_path / "back", layout=str(card), to="decathlon")
    assert back.cases == done.cases
    for name in done.cases:
        first = read(heads, "decathlon", name, ("image",))
        same(first, read(tmp_path / "there", through, name, ("image",)))
        same(first, read(tmp_path / "back", "decathlon", name, ("image",)))
    assert LAYOUTS["decathlon"].read(tmp_path / "back").labels == LAYOUTS["decathlon"].read(heads).labels


def test_a_nifti_file_that_stays_one_is_copied_byte_for_byte(heads: Path, tmp_path: Path) -> None:
    done = convert(heads, tmp_path / "out", layout="decathlon", to="nnunet")
    assert done.copied == 3
    copied = (tmp_path / "out" / "imagesTr" / "phantom_001_0000.nii.gz").read_bytes()
    assert copied == (heads / "imagesTr" / "phantom_001.nii.gz").read_bytes()


def test_nnunet_is_told_channels_labels_and_regions(heads: Path, tumours: Path, tmp_path: Path) -> None:
    convert(heads, tmp_path / "heads", layout="decathlon", to="nnunet")
    data = json.loads((tmp_path / "heads" / "dataset.json").read_text())
    assert data["channel_names"] == {"0": "image"}
    assert data["labels"] == {"background": 0, "left lobe": 1, "right lobe": 2, "core": 3}
    assert (data["numTraining"], data["file_ending"]) == (3, ".nii.gz")
    assert "regions_class_order" not in data
    convert(tumours, tmp_path / "tumours", layout="brats", to="nnunet")
    data = json.loads((tmp_path / "tumours" / "dataset.json").read_text())
    assert data["channel_names"] == {str(n): name for n, name in enumerate(SEQUENCES)}
    assert data["labels"] == {
        "background": 0, "whole tumour": [1, 2, 3, 4], "tumour core": [1, 3, 4], "enhancing tumour": [4],
    }  # fmt: skip
    assert data["regions_class_order"] == [2, 1, 4]
    found = LAYOUTS["nnunet"].read(tmp_path / "tumours")
    assert [s.members for s in found.regions] == [s.members for s in load_card("brats").structures]


@pytest.mark.fault("reliability 50")
def test_enhancing_tumour_is_valued_as_the_year_has_it(tumours: Path, tmp_path: Path) -> None:
    name = "BraTS-GLI-00001-000"
    stored = read_labels(tumours / name / f"{name}-seg.nii.gz").array
    assert set(np.unique(stored)) == {0, 1, 2, 3}
    done = convert(tumours, tmp_path / "2020", layout="brats", to="brats2020")
    assert (done.relabelled, done.copied) == ({3: 4}, 8)
    old = read_labels(tmp_path / "2020" / name / f"{name}_seg.nii.gz").array
    np.testing.assert_array_equal(old, np.where(stored == 3, 4, stored))
    assert sorted(p.name for p in (tmp_path / "2020" / name).iterdir()) == sorted(
        f"{name}_{part}.nii.gz" for part in ("flair", "t1", "t1ce", "t2", "seg")
    )
    back = convert(tmp_path / "2020", tmp_path / "2023", layout="brats", to="brats2023")
    assert back.relabelled == {4: 3}
    np.testing.assert_array_equal(read_labels(tmp_path / "2023" / name / f"{name}-seg.nii.gz").array, stored)


@pytest.mark.fault("reliability 50")
def test_tumour_that_does_not_enhance_is_necrosis_since_2017(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", "brats2013", 1, 1, (24, 26, 24))
    stored = read_labels(tmp_path / "set" / "brats_2013_pat0001_1" / "OTMultiClass.nii.gz").array
    assert set(np.unique(stored)) == {0, 1, 2, 3, 4}
    done = convert(tmp_path / "set", tmp_path / "out", layout="brats", to="brats2023")
    assert done.relabelled == {3: 1, 4: 3}
    (case,) = LAYOUTS["brats"].read(tmp_path / "out").cases
    assert case.label is not None
    expected = np.array([0, 1, 2, 1, 3])[stored]
    np.testing.assert_array_equal(read_labels(case.label).array, expected)


def test_channels_apart_become_one_file_and_come_apart_again(tumours: Path, tmp_path: Path) -> None:
    card = load_card("brats")
    name = "BraTS-GLI-00000-000"
    convert(tumours, tmp_path / "one", layout="brats", to="decathlon")
    assert LAYOUTS["decathlon"].read(tmp_path / "one").channels == card.channels
    first = read(tumours, "brats", name, card.channels)
    same(first, read(tmp_path / "one", "decathlon", name, card.channels))
    assert first[0].array.dtype == np.int16
    done = convert(tmp_path / "one", tmp_path / "apart", layout="decathlon", to="brats2020")
    assert done.copied == 0
    same(first, read(tmp_path / "apart", "brats", name, card.channels))


def test_channels_may_be_chosen(tumours: Path, tmp_path: Path) -> None:
    convert(tumours, tmp_path / "two", layout="brats", to="nnunet", channels=["t1c", "flair"])
    files = case_of(tmp_path / "two", "nnunet", "BraTS-GLI-00000-000")
    assert list(files.channels) == ["t1c", "flair"]
    source = tumours / files.case_id / f"{files.case_id}-t1c.nii.gz"
    assert files.channels["t1c"].read_bytes() == source.read_bytes()
    with pytest.raises(UsageError, match="an image has 1 or 3 channels, not 4: flair, t1, t1c, t2"):
        convert(tumours, tmp_path / "p", layout="brats", to="images")
    with pytest.raises(UsageError, match="not every case has the channel 'pd'"):
        convert(tumours, tmp_path / "p", layout="brats", to="promise12", channels=["pd"])


def test_gaps_between_label_values_are_closed_for_nnunet(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "maps", "label_maps", 1, 0, (24, 24, 24))
    values = np.unique(read_labels(tmp_path / "maps" / "phantom_000.nii.gz").array)
    done = convert(tmp_path / "maps", tmp_path / "same", layout="label_maps", to="label_maps")
    assert (done.relabelled, done.labelled) == ({}, 1)
    with pytest.raises(UsageError, match="is a label map without a scan"):
        convert(tmp_path / "maps", tmp_path / "n", layout="label_maps", to="nnunet")
    write_phantoms(tmp_path / "heads", "decathlon", 1, 0, SMALL)
    label = tmp_path / "heads" / "labelsTr" / "phantom_000.nii.gz"
    found = read_labels(label)
    array = np.array([0, 7, 900, 30])[found.array]
    write_labels(label, LabelMap(array, found.grid, found.form), overwrite=True)
    data = json.loads((tmp_path / "heads" / "dataset.json").read_text())
    data["labels"] = {"0": "background", "7": "a", "900": "b", "30": "c"}
    (tmp_path / "heads" / "dataset.json").write_text(json.dumps(data))
    done = convert(tmp_path / "heads", tmp_path / "closed", layout="decathlon", to="nnunet")
    assert done.relabelled == {7: 1, 30: 2, 900: 3}
    assert LAYOUTS["nnunet"].read(tmp_path / "closed").labels == {1: "a", 2: "c", 3: "b"}
    closed = read_labels(tmp_path / "closed" / "labelsTr" / "phantom_000.nii.gz").array
    np.testing.assert_array_equal(closed, np.array([0, 1, 3, 2])[found.array])
    assert values.size > 30


def test_whose_a_case_is_stays_in_its_name(tumours: Path, tmp_path: Path) -> None:
    source = tmp_path / "set"
    write_phantoms(source, "brats2023", 2, 1, (24, 26, 24))
    visit = source / "BraTS-GLI-00001-000"
    for path in sorted(visit.iterdir()):
        path.rename(visit / path.name.replace("00001-000", "00000-001"))
    visit.rename(source / "BraTS-GLI-00000-001")
    done = convert(source, tmp_path / "out", layout="brats", to="nnunet")
    assert done.cases == ["BraTS-GLI-00000__000", "BraTS-GLI-00000__001"]
    assert [c.group for c in LAYOUTS["nnunet"].read(tmp_path / "out").cases] == ["BraTS-GLI-00000"] * 2
    back = convert(tmp_path / "out", tmp_path / "back", layout="nnunet", to="brats2023")
    assert back.cases == ["BraTS-GLI-00000-000", "BraTS-GLI-00000-001"]
    hidden = convert(source, tmp_path / "hidden", layout="brats", to="decathlon", anonymous=True)
    assert hidden.cases == ["case_001__001", "case_001__002"]


def test_nothing_of_a_name_or_a_header_is_in_an_anonymous_set(heads: Path, tmp_path: Path) -> None:
    source = tmp_path / "DOE_JANE"
    convert(heads, source, layout="decathlon", to="nnunet")
    for path in (source / "imagesTr").iterdir():
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[148:156] = b"DOE_JANE"
        path.write_bytes(gzip.compress(bytes(data)))
    kept = convert(source, tmp_path / "kept", layout="nnunet", to="decathlon")
    assert kept.copied == 3
    done = convert(source, tmp_path / "out", layout="nnunet", to="decathlon", anonymous=True)
    assert done.copied == 0
    assert done.cases == ["case_001", "case_002", "case_003"]
    for path in sorted((tmp_path / "out").rglob("*")):
        assert "phantom" not in path.name
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            assert b"DOE_JANE" not in data
    first = read(source, "nnunet", "phantom_001", ("image",))
    same(first, read(tmp_path / "out", "decathlon", "case_002", ("image",)))


def test_folders_that_a_refusal_left_do_not_bar_the_next_attempt(heads: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "imagesTr").mkdir(parents=True)
    assert convert(heads, tmp_path / "out", layout="decathlon", to="nnunet").cases


def test_what_stands_already_is_not_replaced_unasked(heads: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(heads, out, layout="decathlon", to="nnunet")
    with pytest.raises(UsageError, match="out: is not empty"):
        convert(heads, out, layout="decathlon", to="nnunet")
    (out / "labelsTr" / "phantom_000.nii.gz").write_bytes(b"")
    convert(heads, out, layout="decathlon", to="nnunet", overwrite=True)
    same(read(heads, "decathlon", "phantom_000", ("image",)), read(out, "nnunet", "phantom_000", ("image",)))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: is a file, not a folder"):
        convert(heads, tmp_path / "file", layout="decathlon", to="nnunet", overwrite=True)


@pytest.mark.parametrize("inner", [".", "out", "..", "../set/../set"])
def test_source_and_output_lie_apart(tmp_path: Path, inner: str) -> None:
    write_phantoms(tmp_path / "a" / "set", "decathlon", 1, 0, SMALL)
    with pytest.raises(UsageError, match="the output folder and the source folder overlap"):
        convert(tmp_path / "a" / "set", tmp_path / "a" / "set" / inner, layout="decathlon", to="nnunet")


def test_wrong_names_are_refused_with_the_right_ones(heads: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'nii' is not a layout that can be written; choose from .*nnunet"):
        convert(heads, tmp_path / "o", layout="decathlon", to="nii")
    with pytest.raises(UsageError, match=r"the layout or card 'x' does not exist; .*decathlon.*hippocampus"):
        convert(heads, tmp_path / "o", layout="x", to="nnunet")
    with pytest.raises(UsageError, match="the axis must be sagittal, coronal, axial, not 'k'"):
        convert(heads, tmp_path / "o", layout="decathlon", to="images", axis="k")
    with pytest.raises(UsageError, match="BRATS needs flair, t1, t1c, t2"):
        convert(heads, tmp_path / "o", layout="decathlon", to="brats2020")


@pytest.mark.fault("reliability 47")
@pytest.mark.fault("reliability 49")
def test_labels_nobody_declared_and_grids_that_differ_are_refused(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", "decathlon", 1, 0, SMALL)
    path = tmp_path / "set" / "labelsTr" / "phantom_000.nii.gz"
    labels = read_labels(path)
    write_labels(path, LabelMap(labels.array * 3, labels.grid, labels.form), overwrite=True)
    with pytest.raises(InputError, match=r"phantom_000.nii.gz: contains the label 6, which is not declared"):
        convert(tmp_path / "set", tmp_path / "a", layout="decathlon", to="nnunet")
    grid = Grid((17, 20, 16), labels.grid.affine)
    write_labels(path, LabelMap(labels.array[1:], grid, labels.form), overwrite=True)
    with pytest.raises(GridMismatchError):
        convert(tmp_path / "set", tmp_path / "b", layout="decathlon", to="nnunet")


def test_a_name_that_leads_elsewhere_is_no_name(heads: Path, tmp_path: Path) -> None:
    source = tmp_path / "set"
    convert(heads, source, layout="decathlon", to="nnunet")
    data = json.loads((source / "dataset.json").read_text())
    entry = {"images": ["imagesTr/phantom_000_0000.nii.gz"], "label": "labelsTr/phantom_000.nii.gz"}
    (source / "dataset.json").write_text(json.dumps(data | {"dataset": {"../../x": entry}}))
    with pytest.raises(UsageError, match=r"'\.\./\.\./x' cannot be a file name; use --anonymous"):
        convert(source, tmp_path / "out", layout="nnunet", to="decathlon")
    done = convert(source, tmp_path / "out", layout="nnunet", to="decathlon", anonymous=True)
    assert done.cases == ["case_001"]


def test_cases_without_labels_become_test_cases(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", "prostatex", 2, 0, (24, 24, 16))
    (tmp_path / "set" / "mask_prostate" / "ProstateX-0001.nii.gz").unlink()
    with pytest.raises(InputError, match="no mask for ProstateX-0001"):
        convert(tmp_path / "set", tmp_path / "out", layout="prostatex", to="nnunet")
    for to, folder in (("nnunet", "imagesTs"), ("decathlon", "imagesTs"), ("promise12", ".")):
        done = convert(tmp_path / "set", tmp_path / to, layout="prostatex", to=to, unlabelled=True)
        assert (len(done.cases), done.labelled) == (2, 1)
        first, second = ("Case00", "Case01") if to == "promise12" else ("ProstateX-0000", "ProstateX-0001")
        assert [p for p in (tmp_path / to / folder).iterdir() if p.name.startswith(second)]
        assert [case.case_id for case in LAYOUTS[to].read(tmp_path / to).cases] == [first]


def test_regions_keep_their_names_where_there_are_labels_alone(tumours: Path, tmp_path: Path) -> None:
    convert(tumours, tmp_path / "out", layout="brats", to="decathlon")
    assert LAYOUTS["decathlon"].read(tmp_path / "out").labels == {
        1: "tumour core, value 1", 2: "whole tumour", 3: "tumour core, value 3", 4: "enhancing tumour",
    }  # fmt: skip


def test_the_command_says_what_it_did(tumours: Path, tmp_path: Path) -> None:
    ran = medseg("convert", tumours, tmp_path / "out", "--from", "brats", "--to", "brats2020")
    assert ran.code == 0, ran.err
    assert "2 cases" in ran.out
    assert "copied 8 image files without a change" in ran.out
    assert "label 3 became 4" in ran.out
    ran = medseg("convert", tumours, tmp_path / "j", "--from", "brats", "--to", "nnunet", "--json")
    found = json.loads(ran.out)
    assert (found["schema"], found["copied"], found["relabelled"]) == ("medseg.conversion/1", 8, {"3": 4})
    assert medseg("convert", tumours, tmp_path / "j", "--from", "brats", "--to", "nnunet").code == 2


def test_every_target_is_a_layout_that_is_read() -> None:
    assert {"brats" if name.startswith("brats") else name for name in offered()} <= set(LAYOUTS)


def test_a_mask_for_each_structure_makes_the_same_labels(heads: Path, tmp_path: Path) -> None:
    done = convert(heads, tmp_path / "masks", layout="decathlon", to="masks")
    assert (done.copied, done.labelled) == (3, 3)
    place = tmp_path / "masks" / "phantom_002" / "segmentations"
    assert sorted(p.name for p in place.iterdir()) == [
        "core.nii.gz", "left_lobe.nii.gz", "right_lobe.nii.gz",
    ]  # fmt: skip
    first = read(heads, "decathlon", "phantom_002", ("image",))
    core = read_labels(place / "core.nii.gz")
    np.testing.assert_array_equal(core.array, first[1].array == 3)
    assert core.grid.matches(first[1].grid)
    back = convert(tmp_path / "masks", tmp_path / "back", layout="masks", to="nnunet")
    assert back.relabelled == {}
    found = LAYOUTS["nnunet"].read(tmp_path / "back")
    assert found.labels == {1: "core", 2: "left lobe", 3: "right lobe"}
    scan, labels = read(tmp_path / "back", "nnunet", "phantom_002", ("image",))
    np.testing.assert_array_equal(labels.array, np.array([0, 2, 3, 1])[first[1].array])
    np.testing.assert_array_equal(scan.array, first[0].array)


def test_a_card_gives_masks_their_values(heads: Path, tmp_path: Path) -> None:
    convert(heads, tmp_path / "masks", layout="decathlon", to="masks")
    card = tmp_path / "card.toml"
    head = 'name = "heads"\ndescription = "made up"\nlayout = "masks"\nchannels = ["image"]\n'
    card.write_text(head + '[[structures]]\nvalue = 9\nname = "Left-Lobe"\n')
    convert(tmp_path / "masks", tmp_path / "out", layout=str(card), to="decathlon")
    first = read(heads, "decathlon", "phantom_000", ("image",))[1].array
    second = read(tmp_path / "out", "decathlon", "phantom_000", ("image",))[1].array
    np.testing.assert_array_equal(second, np.where(first == 1, 9, 0))


def test_masks_that_overlap_are_told_and_painted_in_order(heads: Path, tmp_path: Path) -> None:
    convert(heads, tmp_path / "masks", layout="decathlon", to="masks")
    place = tmp_path / "masks" / "phantom_000" / "segmentations"
    core, left = (read_labels(place / f"{name}.nii.gz") for name in ("core", "left_lobe"))
    both = LabelMap(core.array | left.array, core.grid, core.form)
    write_labels(place / "left_lobe.nii.gz", both, overwrite=True)
    plain = from_labels({1: "left lobe", 2: "core"})
    painted = read_labels(place, structures=plain)
    assert any(text.startswith(f"{core.array.sum()} voxels lie in both") for text in painted.warnings)
    np.testing.assert_array_equal(painted.array, np.where(core.array, 2, left.array))
    whole, inner = Structure(1, "left lobe", members=(1, 2)), Structure(2, "core", members=(2,))
    regions = read_labels(place, structures=StructureSet((whole, inner)))
    np.testing.assert_array_equal(regions.array, painted.array)
    done = convert(tmp_path / "masks", tmp_path / "out", layout="masks", to="decathlon")
    assert [text.split(": ")[0] for text in done.warnings] == ["phantom_000"]
    with pytest.raises(InputError, match="contains no mask of liver"):
        read_labels(place, structures=from_labels({1: "liver"}))


def test_regions_are_masks_that_overlap(tumours: Path, tmp_path: Path) -> None:
    convert(tumours, tmp_path / "out", layout="brats", to="masks", channels=["t1c"])
    name = "BraTS-GLI-00000-000"
    place = tmp_path / "out" / name / "segmentations"
    labels = read(tumours, "brats", name, SEQUENCES)[1].array
    for file, members in (("whole_tumour", [1, 2, 3, 4]), ("tumour_core", [1, 3, 4])):
        mask = read_labels(place / f"{file}.nii.gz").array
        np.testing.assert_array_equal(mask, np.isin(labels, members))


@pytest.mark.parametrize(("axis", "number"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_slices_are_the_canonical_volume_cut_up(heads: Path, tmp_path: Path, axis: str, number: int) -> None:
    convert(heads, tmp_path / "out", layout="decathlon", to="images", axis=axis)
    found = LAYOUTS["images"].read(tmp_path / "out").cases
    assert {case.group for case in found} == {"phantom_000", "phantom_001", "phantom_002"}
    volume, labels = read(heads, "decathlon", "phantom_001", ("image",))
    turn = canonical(volume.grid)
    scan, truth = turn.forward(volume.array[0]), turn.forward(labels.array)
    files = [case for case in found if case.group == "phantom_001"]
    assert len(files) == scan.shape[number]
    stack = np.stack([read_reference(case).array[..., 0] for case in files], axis=number)
    np.testing.assert_array_equal(stack, truth)
    shown = np.stack([read_volume(case.image).array[0, ..., 0] for case in files], axis=number)
    low, high = np.percentile(scan, [0.5, 99.5])
    expected = np.rint(255 * np.clip((scan.astype(float) - low) / (high - low), 0, 1))
    np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_three_channels_are_colours_and_come_back(tumours: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an image has 1 or 3 channels, not 4"):
        convert(tumours, tmp_path / "out", layout="brats", to="images")
    convert(tumours, tmp_path / "out", layout="brats", to="images", channels=["flair", "t1c", "t2"])
    first = LAYOUTS["images"].read(tmp_path / "out").cases[12]
    assert (first.case_id, first.group) == ("BraTS-GLI-00000-000__axial012", "BraTS-GLI-00000-000")
    done = convert(tmp_path / "out", tmp_path / "n", layout="images", to="nnunet")
    assert LAYOUTS["nnunet"].read(tmp_path / "n").channels == ("red", "green", "blue")
    again = convert(tmp_path / "n", tmp_path / "back", layout="nnunet", to="images")
    assert done.cases == again.cases
    for folder in ("images", "masks"):
        name = f"{first.case_id}.png"
        channels = ("r", "g", "b") if folder == "images" else None
        one, two = (
            read_volume(tmp_path / out / folder / name, channels=channels).array for out in ("out", "back")
        )
        # nnU-Net leaves no gaps: what was 4 is 3
        np.testing.assert_array_equal(np.where(one == 4, 3, one) if folder == "masks" else one, two)


def test_phantoms_are_slices_of_patients_too(tmp_path: Path) -> None:
    write_phantoms(tmp_path, "images", 2, 0, SMALL)
    found = LAYOUTS["images"].read(tmp_path).cases
    assert len(found) == 12
    assert {case.group for case in found} == {"phantom_000", "phantom_001"}
    values = {v for case in found for v in np.unique(read_reference(case).array).tolist()}
    assert values == {0, 1, 2, 3}


@pytest.mark.realdata
def test_real_patients_of_2013_become_those_of_2023(data_root: Path, tmp_path: Path) -> None:
    done = convert(data_root / "brats2013", tmp_path / "out", layout="brats2013", to="brats2023")
    assert (len(done.cases), done.copied) == (4, 8)
    assert done.relabelled == {3: 1, 4: 3}
    name = done.cases[0]
    stored = read_labels(data_root / "brats2013" / name / "OTMultiClass.nii.gz")
    scan, labels = read(tmp_path / "out", "brats", name, ("flair", "t1c"))
    np.testing.assert_array_equal(labels.array, np.array([0, 1, 2, 1, 4])[stored.array])
    assert scan.grid.matches(stored.grid)
