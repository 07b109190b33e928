"""The layout `table`: a CSV or TSV file with a row a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.core.errors import InputError
from medseg.data.layouts import LAYOUTS, detect, read_layout
from medseg.data.layouts.case import CaseFiles


def cases(
    folder: Path, text: str, name: str = "cases.csv", *, complete: bool = True
) -> tuple[CaseFiles, ...]:
    for file in ("a.nii", "a_t2.nii", "b.nii", "m.nii", "n.nii"):
        (folder / file).write_bytes(b"no image")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    assert detect(path) == "table"
    return read_layout(path, "table", complete=complete).cases


def test_rows_are_cases(tmp_path: Path) -> None:
    found = cases(tmp_path, "case,image,label,group\nx,a.nii,m.nii,anna\ny,b.nii,n.nii,anna\n")
    assert [(c.case_id, c.image.name, c.label and c.label.name, c.group) for c in found] == [
        ("x", "a.nii", "m.nii", "anna"),
        ("y", "b.nii", "n.nii", "anna"),
    ]


def test_usual_names_of_columns_are_understood_and_tabs_and_whole_paths(tmp_path: Path) -> None:
    text = f"Scan\tMask\tPatient\n{tmp_path / 'a.nii'}\tm.nii\tanna\n\n"
    (case,) = cases(tmp_path, text, "cases.tsv")
    assert (case.case_id, case.image, case.group) == ("a", tmp_path / "a.nii", "anna")


def test_further_columns_are_channels(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, "case,T1,T2,label\nx,a.nii,a_t2.nii,m.nii\n")
    assert {name: path.name for name, path in case.channels.items()} == {"T1": "a.nii", "T2": "a_t2.nii"}


def test_case_without_labels_is_kept_where_a_dataset_may_be_incomplete(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, "image,label\na.nii,\n", complete=False)
    assert case.label is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file is empty"),
        ("image\na.nii\n", "has the columns image; it needs label and image"),
        ("image,label\n", "lists no case"),
        ("image,label\na.nii\n", "has 1 values in line 2, and 2 columns"),
        ("image,label\na.nii,\n", "has no label in line 2"),
        ("image,label\nc.nii,m.nii\n", "c.nii in line 2, which does not exist"),
        ("image,label,mask\na.nii,m.nii,n.nii\n", "has two columns for 'label'"),
        ("case,image,label\nx,a.nii,m.nii\nx,b.nii,n.nii\n", "lists 'x' more than once"),
        (
            "case,image,label\nx,m.nii,m.nii\n",
            "lists m.nii as both image and label of x; list the image with",
        ),
        ("case,image,label\nx,a.nii,m.nii\ny,a.nii,m.nii\n", "lists a.nii as the image of x and of y"),
        (
            "case;image;label\nx;a.nii;m.nii\n",
            "separates its columns with semicolons, and a .csv file has commas",
        ),
        ('image,label\n"a.nii,m.nii\n', "is not a table"),
    ],
)
def test_faulty_table_is_refused_with_its_line(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cases(tmp_path, text)
    assert fault in str(caught.value)


def test_the_label_of_a_case_may_be_a_folder_of_masks(tmp_path: Path) -> None:
    for name in ("liver", "spleen"):
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / f"{name}.nii").write_bytes(b"no image")
    found = cases(tmp_path, "case,image,label\nx,a.nii,m\n")
    assert found[0].label == tmp_path / "m"
    of_masks = LAYOUTS.find("table").mask_names
    assert of_masks is not None
    assert of_masks(found) == ("liver", "spleen")
