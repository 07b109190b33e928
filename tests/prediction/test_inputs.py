"""Words of a command line become cases, and cases get places for their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from io_files import save, write_dicom

from medseg.core.errors import InputError, UsageError
from medseg.data.layouts import read_layout
from medseg.prediction.requests import check_out, find_cases, is_batch


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("scan.nii.gz", "scan_seg.nii.gz"),
        ("scan.v2.nii", "scan.v2_seg.nii"),
        ("SCAN.NII.GZ", "SCAN_seg.nii.gz"),
        ("scan.mha", "scan_seg.mha"),
        ("scan.nrrd", "scan_seg.nrrd"),
        ("scan.hdr", "scan_seg.hdr"),
        ("scan.png", "scan_seg.png"),
        ("scan.JPG", "scan_seg.png"),
        ("scan.tiff", "scan_seg.tiff"),
    ],
)
def test_a_result_is_called_after_its_scan_and_lies_beside_it(tmp_path: Path, name: str, target: str) -> None:
    (case,) = find_cases([str(touch(tmp_path, name) / name)])
    assert case.target(None) == tmp_path / target
    assert case.target(tmp_path / "elsewhere") == tmp_path / "elsewhere" / target
    assert case.target(tmp_path / "exactly.nii.gz") == tmp_path / "exactly.nii.gz"
    assert case.target(tmp_path / "EXACTLY.NII.GZ") == tmp_path / "EXACTLY.NII.GZ"


def test_a_folder_of_scans_leaves_out_results_hidden_files_and_other_things(tmp_path: Path) -> None:
    names = ["b.nii.gz", "A.NII.GZ", "c.hdr", "c.img", "b_seg.nii.gz", "b_prob-liver.nii.gz", "notes.txt"]
    touch(tmp_path, *names, "._b.nii.gz", ".medseg-0-1-2.nii.gz")
    (tmp_path / "d.nii.gz").mkdir()
    write_dicom(tmp_path / "series")
    touch(tmp_path / "papers", "x.txt")
    cases = find_cases([str(tmp_path)])
    assert [case.stem for case in cases] == ["A", "b", "c", "series"]
    assert cases[-1].target(Path("out")) == Path("out/series_seg.nii.gz")


def test_pictures_beside_volumes_are_no_scans_and_alone_they_are(tmp_path: Path) -> None:
    pictures = ["a.png", "b.tif", "a_seg.png", "a_overlay.png", "b_augment.png", "a_prob-x.tif", "c.jpg"]
    touch(tmp_path / "alone", *pictures)
    assert [case.stem for case in find_cases([str(tmp_path / "alone")])] == ["a", "b", "c"]
    touch(tmp_path / "beside", *pictures, "v.nii.gz", "v.seg.nrrd")
    assert [case.stem for case in find_cases([str(tmp_path / "beside")])] == ["v"]
    touch(tmp_path / "series", *pictures)
    write_dicom(tmp_path / "series" / "s")
    assert [case.stem for case in find_cases([str(tmp_path / "series")])] == ["s"]


def test_a_folder_without_scans_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b_seg.nii.gz")
    with pytest.raises(InputError, match=r"contains no scan \(it contains: \.gz, \.txt\)"):
        find_cases([str(tmp_path)])
    with pytest.raises(InputError, match="no such file or folder"):
        find_cases([str(tmp_path / "none.nii.gz")])
    with pytest.raises(UsageError, match="no input"):
        find_cases([])


@pytest.mark.parametrize("name", ["flair", "T1-weighted", "t1 post", "0000", "T2*"])
def test_channels_go_by_name_whatever_the_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "p1_flair.nii.gz", "p1_t2.nii.gz")
    words = [f"{name}={tmp_path / 'p1_flair.nii.gz'}", f"t2={tmp_path / 'p1_t2.nii.gz'}"]
    (case,) = find_cases(words)
    assert case.source == {name: tmp_path / "p1_flair.nii.gz", "t2": tmp_path / "p1_t2.nii.gz"}
    assert case.stem == "p1"
    assert case.first == tmp_path / "p1_flair.nii.gz"


@pytest.mark.parametrize(
    ("stems", "common"),
    [
        (("p1_flair", "p1_t1"), "p1"),
        (("sub-01_T1w", "sub-01_T2w"), "sub-01"),
        (("BraTS_1_t1", "BraTS_1_t1ce"), "BraTS_1"),
        (("scan", "scan"), "scan"),
        (("t1", "t2"), "t1"),
    ],
)
def test_several_channels_are_one_case_called_by_their_common_words(
    tmp_path: Path, stems: tuple[str, str], common: str
) -> None:
    for n, stem in enumerate(stems):
        touch(tmp_path / str(n), f"{stem}.nii.gz")
    words = [f"c{n}={tmp_path / str(n) / stem}.nii.gz" for n, stem in enumerate(stems)]
    (case,) = find_cases(words)
    assert case.target(None) == tmp_path / "0" / f"{common}_seg.nii.gz"


def test_a_path_may_hold_an_equal_sign(tmp_path: Path) -> None:
    (tmp_path / "dose=high.nii.gz").write_bytes(b"x")
    (case,) = find_cases([str(tmp_path / "dose=high.nii.gz")])
    assert case.stem == "dose=high"


def test_channels_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    a = touch(tmp_path, "a.nii.gz") / "a.nii.gz"
    with pytest.raises(UsageError, match="twice: t1, t1"):
        find_cases([f"t1={a}", f"t1={a}"])
    with pytest.raises(UsageError, match="some inputs lack a channel name"):
        find_cases([f"t1={a}", str(a)])
    with pytest.raises(InputError, match="the file of channel t2 does not exist"):
        find_cases([f"t1={a}", f"t2={tmp_path / 'none.nii.gz'}"])


def test_both_files_of_a_pair_and_all_slices_are_inputs(tmp_path: Path) -> None:
    save(tmp_path / "a.hdr", kind=_pair())
    (case,) = find_cases([str(tmp_path / "a.hdr")])
    assert {p.name for p in case.files} == {"a.hdr", "a.img"}
    slices = write_dicom(tmp_path / "series")
    (case,) = find_cases([str(tmp_path / "series")])
    assert case.files == tuple(slices)


def _pair() -> type:
    import nibabel as nib

    return nib.Nifti1Pair


def test_one_scan_is_no_batch_and_a_folder_is_one(tmp_path: Path) -> None:
    touch(tmp_path / "one", "a.nii.gz")
    write_dicom(tmp_path / "series")
    for words, batch in (
        (["one"], True),
        (["one/a.nii.gz"], False),
        (["series"], False),
        (["one/a.nii.gz", "series"], True),
    ):
        paths = [str(tmp_path / word) for word in words]
        assert is_batch(paths, find_cases(paths)) is batch


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        (None, "need a folder"),
        ("x.nii.gz", "need a folder"),
        ("scans", "inside the input folder"),
        ("scans/deep/er", "inside the input folder"),
        ("scans/../scans/out", "inside the input folder"),
        ("notes", "neither a folder nor the name of an image"),
    ],
)
def test_the_place_of_a_batch_must_make_sense(tmp_path: Path, out: str | None, fault: str) -> None:
    touch(tmp_path / "scans", "a.nii.gz")
    touch(tmp_path, "notes")
    with pytest.raises(UsageError, match=fault):
        check_out([str(tmp_path / "scans")], None if out is None else tmp_path / out, batch=True)


def test_nothing_is_written_into_a_dicom_folder(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series")
    for out in ("series", "series/a.nii.gz"):
        with pytest.raises(UsageError, match="inside the input folder"):
            check_out([str(tmp_path / "series")], tmp_path / out, batch=False)
    check_out([str(tmp_path / "series")], tmp_path / "series_2", batch=False)


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        (["p1/scan.nii.gz", "p2/scan.nii.gz"], {"p1": 1, "p2": 1}),
        (["p1/image.nii.gz", "p1/seg.nii.gz", "p2/image.nii.gz"], {"p1": 1, "p2": 1}),
        (["p1/t1.nii.gz", "p1/t2_fat.nii", "p2/t1.nii.gz", "p2/t2_fat.nii"], {"p1": 2, "p2": 2}),
        (["p1/t1.nii.gz", "p1/t1_post.nii.gz"], {"p1": 2}),
        (["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"], {"a": 2}),
        (["site/p1/visit_2019.nii.gz", "site/p1/visit_2020.nii.gz"], {"site_p1_visit_2019": 1} | {
            "site_p1_visit_2020": 1
        }),
        (["x/T2_001.nii.gz", "x/T2_002.nii.gz"], {"x_T2_001": 1, "x_T2_002": 1}),
    ],
)  # fmt: skip
def test_scans_may_lie_in_folders_of_their_own(
    tmp_path: Path, names: list[str], cases: dict[str, int]
) -> None:
    """Files that differ in a channel alone are of one case, which is called after its folder."""
    for name in names:
        touch((tmp_path / name).parent, Path(name).name)
    said: list[str] = []
    found = find_cases([str(tmp_path)], said.append)
    assert {case.stem: len(case.files) for case in found} == cases
    assert "read with the folders in it" in said[0]


@pytest.mark.parametrize("name", ["Doe, John", "a b", "a.b-c", "(a) b", "a (2)", "a,b;c", "A__1"])
def test_a_scan_has_one_name_in_a_folder_of_scans_and_in_a_dataset(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "images", f"{name}.nii.gz")
    touch(tmp_path / "masks", f"{name}.nii.gz")
    (alone,) = find_cases([str(tmp_path / "images")])
    (of_folders,) = find_cases([str(tmp_path)])
    (of_dataset,) = read_layout(tmp_path, "folder").cases
    assert (alone.stem, of_folders.stem, of_dataset.case_id) == (name, name, name)


def test_two_files_of_one_channel_are_a_question(tmp_path: Path) -> None:
    touch(tmp_path / "p1", "t1.nii.gz", "T1.mha")
    with pytest.raises(InputError, match="same scan by their names"):
        find_cases([str(tmp_path)])


def test_numbered_channels_without_names_are_called_by_their_numbers(tmp_path: Path) -> None:
    """As `medseg train` calls them, so that what it trained takes them."""
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    first, second = find_cases([str(tmp_path)])
    assert (first.stem, second.stem) == ("a", "b")
    assert isinstance(first.source, dict)
    assert [*first.source] == ["channel_0", "channel_1"]


def test_two_files_of_one_numbered_channel_are_a_question(tmp_path: Path) -> None:
    """Neither is passed over, as in folders inside folders."""
    touch(tmp_path, "a_0000.nii.gz", "a_0000.mha", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    with pytest.raises(InputError, match=r"a_0000\.mha and a_0000\.nii\.gz are the same scan by their names"):
        find_cases([str(tmp_path)])


def test_numbers_of_one_case_alone_may_be_of_scans(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    assert [case.stem for case in find_cases([str(tmp_path)])] == ["a_0000", "a_0001"]


def test_a_table_lists_scans_with_or_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii.gz", "y.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("case,image\nanna,x.nii.gz\nbert,y.nii.gz\n")
    found = find_cases([str(table)])
    assert [(case.stem, case.first.name) for case in found] == [("anna", "x.nii.gz"), ("bert", "y.nii.gz")]
    table.write_text("case,t1,t2,mask\nanna,x.nii.gz,y.nii.gz,none.nii.gz\n")
    (case,) = find_cases([str(table)])
    assert case.taking(["t2", "t1"]).source == {"t2": tmp_path / "y.nii.gz", "t1": tmp_path / "x.nii.gz"}


def test_a_mask_in_the_folder_of_one_patient_is_no_scan(tmp_path: Path) -> None:
    touch(tmp_path, "T1.NII.GZ", "SEG.NII.GZ")
    said: list[str] = []
    (case,) = find_cases([str(tmp_path)], said.append)
    assert case.stem == "T1"
    assert "left out: 1 label file" in said[0]


def test_a_table_with_semicolons_is_told_so(tmp_path: Path) -> None:
    table = touch(tmp_path, "x.nii") / "cases.csv"
    table.write_text("case;t1;label\nanna;x.nii;y.nii\n")
    with pytest.raises(InputError, match="separates its columns with semicolons"):
        find_cases([str(table)])


def test_every_label_file_is_left_out_however_it_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "T1.nii", "T1_seg.nii", "mask.nii")
    assert [case.stem for case in find_cases([str(tmp_path)])] == ["T1"]
