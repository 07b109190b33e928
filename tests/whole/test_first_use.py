"""What a new user meets: data sets in known layouts given to every verb, pictures, and names nearly right."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import done, medseg, refused
from models import tiny_model

from medseg.core.errors import GridMismatchError, InputError, UsageError
from medseg.core.structures import from_labels
from medseg.core.volume import FileForm, Grid, LabelMap, Volume
from medseg.data.check import check
from medseg.data.convert import convert
from medseg.data.layouts import LAYOUTS, detect, layout_of
from medseg.data.layouts.images import read as read_images
from medseg.data.phantom import write_phantoms
from medseg.data.phantom.datasets import KINDS
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.pairs import pair_files
from medseg.io import read_labels, read_volume, write_image, write_labels
from medseg.prediction.requests import InputCase, find_cases
from medseg.segmentation.segmenter import Segmenter

SHAPES = {"label_maps": (32, 32, 32)}
SMALL = (24, 26, 24)
PICTURE = FileForm(suffix=".png", sform_code=0, qform_code=0)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up cases in every layout, each in a folder of its name."""
    root = tmp_path_factory.mktemp("sets")
    for layout in KINDS:
        write_phantoms(root / layout, layout, 3, 1, SHAPES.get(layout, SMALL))
    return root


@pytest.fixture
def copied(sets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sets, tmp_path / "sets"))


def picture(path: Path, pixels: np.ndarray) -> Path:
    """A PNG of pixels (i, j) or (3, i, j)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels[..., None].astype(np.uint8)
    write_image(path, array, Grid(array.shape[-3:], np.eye(4)), form=PICTURE)
    return path


def blob(shift: int = 0) -> np.ndarray:
    mask = np.zeros((20, 16), np.uint8)
    mask[4 + shift : 12 + shift, 3:11] = 1
    return mask


# Layouts are told by names


@pytest.mark.parametrize("layout", [name for name in KINDS if name not in ("label_maps", "images")])
def test_a_layout_is_told_by_the_names_in_its_folder(sets: Path, layout: str) -> None:
    written = KINDS[layout].layout or layout
    assert detect(sets / layout) == ("brats" if layout.startswith("brats") else written)


def test_other_folders_are_in_no_layout(sets: Path, tmp_path: Path) -> None:
    for folder in (sets / "label_maps", tmp_path, tmp_path / "none", sets / "nnunet" / "imagesTr"):
        assert detect(folder) is None
    (tmp_path / "dataset.json").write_text("[1]")
    assert detect(tmp_path) is None
    (tmp_path / "dataset.json").unlink()
    picture(tmp_path / "a.png", blob())
    picture(tmp_path / "b.png", blob())
    assert detect(tmp_path) is None
    picture(tmp_path / "a_mask.png", blob())
    assert layout_of(tmp_path) == "folder"


# evaluate takes data sets for references


def predictions(folder: Path, layout: str, out: Path) -> Path:
    """The references of a data set as perfect predictions, called after their scans."""
    for case in LAYOUTS[layout].read(folder).cases:
        assert case.label is not None
        labels = read_labels(case.label)
        suffix = ".png" if case.label.suffix == ".png" else ".nii.gz"
        out.mkdir(exist_ok=True)
        write_labels(out / f"{case.case_id}_seg{suffix}", labels)
    return out


@pytest.mark.parametrize(
    "name",
    ["promise12", "brats2013", "brats2020", "brats2023", "nnunet", "decathlon", "prostatex", "images"],
)
def test_the_labels_of_a_data_set_are_references(sets: Path, tmp_path: Path, name: str) -> None:
    layout = "brats" if name.startswith("brats") else name
    pred = predictions(sets / name, layout, tmp_path / "pred")
    found = evaluate(pred, sets / name, surface=False)
    assert [c.case_id for c in found.cases] == [c.case_id for c in LAYOUTS[layout].read(sets / name).cases]
    assert not found.failures
    dice = [row.metrics["dice"].value for case in found.cases for row in case.rows if row.status == "ok"]
    assert dice
    assert set(dice) == {1.0}


def test_structures_have_the_names_that_a_data_set_states(sets: Path, tmp_path: Path) -> None:
    for layout in ("nnunet", "decathlon"):
        pred = predictions(sets / layout, layout, tmp_path / layout)
        names = evaluate(pred, sets / layout, surface=False).structures.names
        assert names == ("left lobe", "right lobe", "core")


@pytest.mark.fault("reliability 50")
def test_enhancing_tumour_is_compared_in_the_value_of_the_predictions(sets: Path, tmp_path: Path) -> None:
    """A model writes 4 whatever the year; the files of 2023 say 3."""
    pred = tmp_path / "pred"
    pred.mkdir()
    for case in LAYOUTS["brats"].read(sets / "brats2023").cases:
        assert case.label is not None
        stored = read_labels(case.label)
        array = np.where(stored.array == 3, 4, stored.array).astype(np.uint8)
        write_labels(pred / f"{case.case_id}_seg.nii.gz", LabelMap(array, stored.grid, stored.form))
    found = evaluate(pred, sets / "brats2023", surface=False)
    assert found.structures.names == ("1", "2", "4")
    assert {row.metrics["dice"].value for case in found.cases for row in case.rows} == {1.0}
    assert any("3" in text and "4" in text for text in found.warnings)


def test_promise12_is_measured_by_its_protocol(sets: Path, tmp_path: Path) -> None:
    pred = predictions(sets / "promise12", "promise12", tmp_path / "pred")
    pairs, warnings = pair_files(pred, sets / "promise12")
    assert [pair.reference.name for pair in pairs] == [f"Case0{n}_segmentation.mhd" for n in range(3)]
    assert warnings == ()
    ran = done("evaluate", pred, sets / "promise12", "--protocol", "promise12")
    assert "1.000" in ran.out


def test_masks_a_structure_are_references_once_values_have_names(sets: Path, tmp_path: Path) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    for case in LAYOUTS["decathlon"].read(sets / "decathlon").cases:
        assert case.label is not None
        shutil.copy(case.label, pred / case.label.name)
    with pytest.raises(UsageError, match=r"contains structures by name.*--labels"):
        evaluate(pred, sets / "masks", surface=False)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"1": "left lobe", "2": "right lobe", "3": "core"}))
    found = evaluate(pred, sets / "masks", structures=names, surface=False)
    assert {row.metrics["dice"].value for case in found.cases for row in case.rows} == {1.0}
    assert all(len(digests) == 2 for digests in found.digests.values())


def test_a_scan_beside_its_labels_is_no_reference(tmp_path: Path) -> None:
    ref, pred = tmp_path / "ref", tmp_path / "pred"
    ref.mkdir()
    labels = LabelMap(np.repeat(blob()[..., None], 4, axis=2), Grid((20, 16, 4), np.eye(4)))
    for name in ("a", "b"):
        image = np.arange(20 * 16 * 4, dtype=np.int16).reshape(20, 16, 4)
        write_image(ref / f"{name}.nii.gz", image, labels.grid, form=FileForm())
        write_labels(ref / f"{name}_mask.nii.gz", labels)
        pred.mkdir(exist_ok=True)
        write_labels(pred / f"{name}_seg.nii.gz", labels)
    pairs, warnings = pair_files(pred, ref)
    assert [(p.case_id, p.reference.name) for p in pairs] == [("a", "a_mask.nii.gz"), ("b", "b_mask.nii.gz")]
    assert any("scans" in text and "2" in text for text in warnings)
    assert evaluate(pred, ref, surface=False).cases[0]["1"].metrics["dice"].value == 1.0


@pytest.mark.parametrize("ending", ["", "_mask", "_seg", "_label", "_segmentation"])
def test_pictures_are_matched_whatever_their_labels_are_called(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "ref" / f"{name}{ending}.png", blob())
        picture(tmp_path / "pred" / f"{name}_seg.png", blob(1))
        picture(tmp_path / "pred" / f"{name}_overlay.png", np.stack([blob()] * 3) * 99)
    pairs, warnings = pair_files(tmp_path / "pred", tmp_path / "ref")
    assert [p.prediction.name for p in pairs if p.prediction] == ["a_seg.png", "b_seg.png"]
    assert warnings == ()


@pytest.mark.parametrize("values", [250, 2000])
def test_a_scan_given_for_labels_is_refused_at_once(tmp_path: Path, values: int) -> None:
    grid = Grid((20, 10, 10), np.eye(4))
    image = (np.arange(2000) % values).astype(np.int16).reshape(grid.shape)
    write_image(tmp_path / "scan.nii.gz", image, grid, form=FileForm())
    text = f"{values} different values.*looks like a scan"
    for structures in (None, from_labels({1: "liver"})):
        with pytest.raises(InputError, match=text):
            evaluate(tmp_path / "scan.nii.gz", tmp_path / "scan.nii.gz", structures=structures)


def test_grids_of_other_shapes_are_told_in_words() -> None:
    one, other = Grid((4, 5, 6), np.eye(4)), Grid((4, 5, 7), np.eye(4))
    with pytest.raises(GridMismatchError) as fault:
        one.require(other, "image and labels")
    assert "inf" not in str(fault.value)
    assert "their shapes differ" in str(fault.value)
    far = np.eye(4)
    far[0, 3] = 1e300
    with pytest.raises(GridMismatchError) as fault:
        one.require(Grid(one.shape, far), "a and b")
    assert not {"inf", "nan"} & set(str(fault.value).replace(",", " ").split())


# predict takes data sets for scans


def found_in(folder: Path) -> tuple[tuple[InputCase, ...], list[str]]:
    said: list[str] = []
    return find_cases([str(folder)], said.append), said


def test_label_files_beside_scans_are_no_scans_and_that_is_said_once(sets: Path) -> None:
    cases, said = found_in(sets / "promise12")
    assert [case.stem for case in cases] == ["Case00", "Case01", "Case02"]
    (text,) = said
    assert "3 label files" in text
    assert "Case00_segmentation.mhd" in text


def test_a_mark_without_its_scan_is_a_scans_own_name(tmp_path: Path) -> None:
    picture(tmp_path / "carnival_mask.png", blob())
    cases, said = found_in(tmp_path)
    assert ([case.stem for case in cases], said) == (["carnival_mask"], [])


@pytest.mark.parametrize(
    ("name", "stem", "channels"),
    [
        ("brats2013", "brats_2013_pat0001_1", ["flair", "t1", "t1c", "t2"]),
        ("brats2023", "BraTS-GLI-00000-000", ["flair", "t1", "t1c", "t2"]),
        ("nnunet", "phantom_000", []),
        ("decathlon", "phantom_000", []),
        ("masks", "phantom_000", []),
        ("prostatex", "ProstateX-0000", []),
        ("images", "phantom_000__axial000", []),
    ],
)
def test_the_scans_of_a_data_set_are_cases(sets: Path, name: str, stem: str, channels: Sequence[str]) -> None:
    cases, said = found_in(sets / name)
    first = cases[0]
    assert first.stem == stem
    assert (list(first.source) if not isinstance(first.source, Path) else []) == channels
    assert len(cases) == (18 if name == "images" else 3)
    assert len(said) == 1
    assert first.target(Path("out")).parent == Path("out")


def test_a_model_gets_its_own_channels_of_a_data_set(sets: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    tiny_model(3, channels=("T1c", "FLAIR")).save(model)
    ran = done("predict", sets / "brats2020", "-m", model, "-o", tmp_path / "out", "--threads", 1)
    assert "read in the layout brats: 3 cases" in ran.err
    summary = json.loads((tmp_path / "out" / "BraTS20_Training_001_seg.json").read_text())
    assert summary["provenance"]["input"]["channels"] == ["T1c", "FLAIR"]


def test_numbered_channels_have_the_names_that_their_data_set_gives(sets: Path, tmp_path: Path) -> None:
    convert(sets / "brats2020", tmp_path / "n", layout="brats", to="nnunet", channels=["t1c", "flair"])
    cases, _ = found_in(tmp_path / "n" / "imagesTr")
    assert [case.stem for case in cases] == [f"BraTS20_Training_00{n}" for n in (1, 2, 3)]
    assert not isinstance(cases[0].source, Path)
    assert list(cases[0].source) == ["t1c", "flair"]
    (tmp_path / "n" / "dataset.json").unlink()
    cases, _ = found_in(tmp_path / "n" / "imagesTr")
    assert not isinstance(cases[0].source, Path)
    assert list(cases[0].source) == ["channel_0", "channel_1"]


def test_a_dry_run_times_one_case(
    sets: Path, tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[object] = []
    monkeypatch.setattr(Segmenter, "tile_seconds", lambda _, forecast: timed.append(forecast) or 2.0)
    words = ("predict", sets / "promise12", "-m", model_path, "-o", tmp_path / "out")
    plans = json.loads(done(*words, "--dry-run", "--json").out)
    assert [plan["case"] for plan in plans] == ["Case00", "Case01", "Case02"]
    assert len(timed) == 1
    assert plans[0]["engine_seconds"] == 2.0


# results beside the scans they were made from


def test_results_beside_images_are_no_cases(copied: Path, model_path: Path) -> None:
    folder = copied / "images"
    before = [case.case_id for case in read_images(folder).cases]
    for scan in sorted((folder / "images").iterdir())[:2]:
        done("predict", scan, "-m", model_path, "--threads", 1)
    assert (folder / "images" / "phantom_000__axial000_overlay.png").is_file()
    assert [case.case_id for case in read_images(folder).cases] == before
    assert len(check(folder).cases) == len(before)


def test_results_side_by_side_with_images_are_neither_cases_nor_masks(
    tmp_path: Path, model_path: Path
) -> None:
    scan = picture(tmp_path / "a.png", blob() * 200)
    done("predict", scan, "-m", model_path, "--threads", 1)
    (case,) = read_images(tmp_path, complete=False).cases
    assert (case.case_id, case.label) == ("a", None)
    mask = picture(tmp_path / "a_mask.png", blob())
    (case,) = read_images(tmp_path).cases
    assert case.label == mask


def test_results_in_a_patients_folder_are_no_labels(copied: Path) -> None:
    patient = copied / "brats2020" / "BraTS20_Training_001"
    labels = patient / "BraTS20_Training_001_seg.nii.gz"
    (patient / "BraTS20_Training_001_seg.json").write_text("{}")
    case = LAYOUTS["brats"].read(copied / "brats2020", complete=False).cases[0]
    assert labels.is_file()
    assert case.label is None


# colours, single slices, pixels


def test_equal_colours_are_grey(tmp_path: Path, model_path: Path) -> None:
    grey = (np.arange(32 * 24).reshape(32, 24) % 200).astype(np.uint8)
    picture(tmp_path / "grey.png", grey)
    picture(tmp_path / "rgb.png", np.stack([grey] * 3))
    whole = read_volume(tmp_path / "grey.png").array
    for words in ([tmp_path / "rgb.png"], [f"image={tmp_path / 'rgb.png'}"]):
        done("predict", *words, "-m", model_path, "-o", tmp_path / "out.png", "--overwrite", "--threads", 1)
    for source in (tmp_path / "rgb.png", {"image": tmp_path / "rgb.png"}):
        np.testing.assert_array_equal(read_volume(source, channels=("image",)).array, whole)


def test_colours_are_refused_where_grey_is_wanted(tmp_path: Path, model_path: Path) -> None:
    grey = (np.arange(32 * 24).reshape(32, 24) % 200).astype(np.uint8)
    picture(tmp_path / "rgb.png", np.stack([grey, grey, grey + 1]))
    for words in ([tmp_path / "rgb.png"], [f"image={tmp_path / 'rgb.png'}"]):
        line = refused_for(words, model_path)
        assert "rgb.png: " in line
        assert "is in colour" in line
        assert "save it as grey" in line


def refused_for(words: Sequence[object], model_path: Path) -> str:
    ran = medseg("predict", *words, "-m", model_path, "--threads", 1)
    assert ran.code == 3, ran.err
    return ran.err.splitlines()[-1]


@pytest.mark.fault("reliability 39")
def test_a_3d_network_doubts_a_single_slice(segmenter: Segmenter) -> None:
    array = np.random.default_rng(0).normal(size=(1, 24, 24, 1)).astype(np.float32)
    volume = Volume(array, Grid((24, 24, 1), np.eye(4)), ("image",))
    found = segmenter(volume)
    assert any("single slice" in text for text in found.verdict.reasons)
    deep = Volume(np.repeat(array, 16, axis=3), Grid((24, 24, 16), np.eye(4)), ("image",))
    found = segmenter(deep)
    assert not any("single slice" in text for text in found.verdict.reasons)


def test_what_holds_for_many_pictures_is_said_once_with_their_count(
    copied: Path, tmp_path: Path, model_path: Path
) -> None:
    scans = copied / "images" / "images"
    ran = done("predict", scans, "-m", model_path, "-o", tmp_path / "out", "--threads", 1)
    lines = [line for line in ran.err.splitlines() if "no size in mm" in line]
    assert len(lines) == 1
    assert "18 cases" in lines[0]
    ran = done("evaluate", tmp_path / "out", copied / "images", "--no-surface")
    lines = [line for line in ran.err.splitlines() if "no size in mm" in line]
    assert len(lines) == 1
    assert "18 cases" in lines[0]
    lines = [line for line in done("check", copied / "images").out.splitlines() if "no size in mm" in line]
    assert len(lines) == 1
    assert "18 cases" in lines[0]


def test_areas_of_pictures_are_in_pixels(tmp_path: Path, model_path: Path) -> None:
    scan = picture(tmp_path / "a.png", blob() * 200)
    ran = done("predict", scan, "-m", model_path, "--threads", 1)
    assert ran.out.splitlines()[0].split() == ["structure", "label", "pixels"]
    mask, other = picture(tmp_path / "m.png", blob()), picture(tmp_path / "p.png", blob(1))
    head, row = evaluate(other, mask).table_rows()
    cells = dict(zip(head, row, strict=True))
    assert (cells["Reference pixels"], cells["Prediction pixels"]) == ("64", "64")
    assert not any(word in title.split() for title in head for word in ("ml", "mm"))


# check, convert and phantom know the layouts


@pytest.mark.parametrize("layout", [name for name in KINDS if name not in ("label_maps",)])
def test_check_finds_the_layout_by_itself(sets: Path, layout: str) -> None:
    audit = check(sets / layout)
    assert len(audit.cases) == (18 if layout == "images" else 3)
    assert audit.errors == ()


def test_check_says_what_to_give_where_it_finds_none(sets: Path) -> None:
    line = refused(3, "check", sets / "label_maps")
    assert "no label file by its name" in line
    assert "--card brain" in line


def test_promise12_holds_one_structure(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="promise12 can store one structure, not 3: left lobe, right lobe, core"
    ):
        convert(sets / "decathlon", tmp_path / "out", layout="decathlon", to="promise12")
    assert not (tmp_path / "out").exists()


def test_cases_of_promise12_are_numbered_and_the_command_says_how(sets: Path, tmp_path: Path) -> None:
    ran = done("convert", sets / "prostatex", tmp_path / "out", "--from", "prostatex", "--to", "promise12")
    for n in range(3):
        assert (tmp_path / "out" / f"Case{n:02d}_segmentation.mhd").is_file()
        assert f"ProstateX-{n:04d} became Case{n:02d}" in ran.out
    again = convert(tmp_path / "out", tmp_path / "again", layout="promise12", to="promise12")
    assert again.renamed == {}


@pytest.mark.parametrize("year", ["brats2020", "brats2023"])
def test_data_is_converted_from_the_years_of_brats_too(sets: Path, tmp_path: Path, year: str) -> None:
    found = convert(sets / year, tmp_path / "out", layout=year, to="nnunet")
    assert len(found.cases) == 3
    assert LAYOUTS["nnunet"].read(tmp_path / "out").channels == ("flair", "t1", "t1c", "t2")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("convert", "IN", "OUT", "--from", "decatlon", "--to", "nnunet"), "decathlon"),
        (("convert", "IN", "OUT", "--from", "hipocampus", "--to", "nnunet"), "hippocampus"),
        (("convert", "IN", "OUT", "--from", "decathlon", "--to", "nnUNet"), "nnunet"),
        (("phantom", "OUT", "--layout", "promise-12"), "promise12"),
        (("check", "IN", "--card", "fantom"), "phantom"),
        (("evaluate", "IN", "OUT", "--protocol", "promis12"), "promise12"),
    ],
)
def test_names_nearly_right_get_the_right_one(
    sets: Path, tmp_path: Path, words: tuple[str, ...], near: str
) -> None:
    places = {"IN": sets / "decathlon", "OUT": tmp_path / "out"}
    assert f"did you mean {near!r}?" in refused(2, *(places.get(word, word) for word in words))


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("decathlon", "medseg train phantom_unet3d --data"),
        ("promise12", "medseg train promise12_vnet --data"),
        ("brats", "medseg train brats_unet3d --data"),
        ("prostatex", "card is prostatex"),
        ("label_maps", "medseg train brain --data"),
        ("nnunet", 'with layout = "nnunet"'),
        ("masks", 'with layout = "masks"'),
        ("images", "slices_unet2d"),
    ],
)
def test_phantoms_come_with_what_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, told: str
) -> None:
    monkeypatch.setattr("medseg.data.phantom.write_phantoms", lambda *_, **__: None)
    ran = done("phantom", tmp_path / "set", "--layout", layout, "--cases", 3)
    assert told in ran.err


def test_help_lists_every_layout_of_phantoms() -> None:
    words = set(re.findall(r"\w+", done("phantom", "--help").out))
    assert set(KINDS) <= words
