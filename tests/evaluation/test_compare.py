"""`compare`: two folders of segmentations in, sentences, tables and a page out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from medseg.cli.compare import command
from medseg.core.errors import GridMismatchError, InputError, PartialBatchError, UsageError
from medseg.core.volume import Grid
from medseg.evaluation.compare import Comparison, compare
from medseg.metrics.paired import diagonal_mm

AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])
SHAPE = (14, 10, 8)
EVIL = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0")


def write(path: Path, length: int, rim: int = 4, *, affine: np.ndarray = AFFINE) -> Path:
    """A bar of `length` planes with the value 1, one of `rim` planes with the value 2."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:length, 1:4, 2:6] = 1
    labels[:rim, 5:8, 2:6] = 2
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def folders(root: Path, of_a: list[int | None], of_b: list[int | None]) -> tuple[Path, Path, Path]:
    """References of 8 planes; predictions of so many, or none."""
    for name, lengths in (("a", of_a), ("b", of_b)):
        for n, length in enumerate(lengths):
            if length is not None:
                write(root / name / f"case{n:02}_seg.nii.gz", length)
    for n in range(len(of_a)):
        write(root / "ref" / f"case{n:02}.nii.gz", 8)
    (root / "names.json").write_text(json.dumps({"1": "core", "2": "rim"}))
    return root / "a", root / "b", root / "ref"


def compared(root: Path, of_a: list[int | None], of_b: list[int | None]) -> Comparison:
    a, b, ref = folders(root, of_a, of_b)
    return compare(a, b, reference=ref, structures=root / "names.json")


def run(*words: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def test_the_better_one_is_named_with_its_evidence(tmp_path: Path) -> None:
    found = compared(tmp_path, [4, 5] * 6, [7, 8] * 6)
    first, *rest = found.sentences()
    assert first.startswith("B is better for the mean over structures (Dice, B − A: +0.1")
    core = next(line for line in rest if line.startswith("B is better for core (Dice, B − A: +0.2"))
    assert "95 % CI +0.2" in core
    assert "Holm-corrected p = 0.001" in core  # 2 / 2^12 for two of the three rows
    assert "12 cases" in core
    assert any(
        line.startswith("No difference was shown for rim (Dice, B − A: 0.000, 95 % CI 0.000") for line in rest
    )
    assert any(line.startswith("B is better for core (HD95, B − A: −") and " mm, " in line for line in rest)


def test_no_difference_shown_is_an_answer_and_never_the_word_equal(tmp_path: Path) -> None:
    found = compared(tmp_path, [6, 7] * 5, [7, 6] * 5)
    said = " ".join(found.sentences())
    assert "is better" not in said
    assert "equal" not in (said + found.page()).lower().replace("<equal", "")
    assert "No difference in Dice was shown for the mean over structures, core and rim (10 cases;" in said


def test_many_structures_are_named_together(tmp_path: Path) -> None:
    for folder, length in (("a", 5), ("b", 8), ("ref", 8)):
        for n in range(10):
            labels = np.zeros((10, 12, 3), np.uint8)
            for k in range(10):
                labels[:length, k] = k + 1
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / folder / f"c{n}.nii.gz")
    found = compare(tmp_path / "a", tmp_path / "b", reference=tmp_path / "ref", surface=False)
    first, second = found.sentences()
    assert first.startswith("B is better for the mean over structures (Dice, B − A: +0.2")
    assert second == (
        "B is better in Dice for 1, 2, 3, 4, 5, 6, 7, 8, 9 and 10 (10 cases; the table lists the values)."
    )


def test_few_cases_are_said_to_be_few(tmp_path: Path) -> None:
    said = " ".join(compared(tmp_path, [4] * 3, [8] * 3).sentences())
    assert "there are 3 cases and a test needs 6" in said
    assert "is better" not in said
    seven = " ".join(compared(tmp_path / "more", [4] * 7, [8] * 7).sentences())
    assert "B is better for core (Dice" in seven
    assert "an interval needs 10 cases" in seven


def test_a_missing_segmentation_is_a_failure_and_not_an_absence(tmp_path: Path) -> None:
    found = compared(tmp_path, [8, None, 8], [8, 8, 8])
    assert found.report.missing_a == ("case01",)
    dice, hd95 = (
        next(r for r in found.report.rows if (r.structure, r.metric) == ("core", m))
        for m in ("dice", "hd95_mm")
    )
    assert (dice.n, dice.mean_a, dice.mean_b, dice.n_failed_a) == (3, pytest.approx(2 / 3), 1.0, 1)
    assert hd95.mean_a == pytest.approx(diagonal_mm(Grid(SHAPE, AFFINE)) / 3)
    assert "case01" in found.page()
    assert "Doubt: A: case01: The prediction is missing; its structures count as missed." in found.page()
    assert found.faulty == ()


def test_files_that_cannot_be_used_are_named_with_the_reason_and_end_in_a_fault(tmp_path: Path) -> None:
    a, b, ref = folders(tmp_path, [7] * 12, [7] * 10 + [None, 7])
    (a / "case00_seg.nii.gz").write_bytes(b"no image")
    write(b / "case01_seg.nii.gz", 7, affine=np.diag([1.0, 2.0, 1.6, 1.0]))
    (ref / "case02.nii.gz").write_bytes(b"no image")
    page, words = tmp_path / "page.html", (a, b, "--reference", ref, "--labels", tmp_path / "names.json")
    ran = run(*words, "-o", page, "--json", "--threads", 1)
    assert isinstance(ran.exception, PartialBatchError)
    assert ran.exception.exit_code == 7
    assert str(ran.exception).endswith("could not be used: case00 of A, case02, case01 of B")
    content = json.loads(ran.stdout)
    failures = {side: [f["case_id"] for f in found] for side, found in content["failures"].items()}
    assert failures == {"A": ["case00"], "B": ["case01", "case10"]}
    assert [found["case_id"] for found in content["excluded"]] == ["case02"]
    assert (content["missing_a"], content["missing_b"]) == ([], ["case10"])
    missing = "B: case10: The prediction is missing; "
    for start in ("A: case00: ", "B: case01: ", missing, "A and B: case02: The reference cannot"):
        assert sum(warning.startswith(start) for warning in content["warnings"]) == 1
        assert f"doubtful: {start}" in ran.stderr
        assert f'<li class="doubt">Doubt: {start}' in page.read_text()
    assert "(11 cases, of which A failed in 1 and B failed in 2; the table" in " ".join(content["sentences"])
    assert str(tmp_path) not in page.read_text() + ran.stdout


def test_a_reference_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    a, b, ref = folders(tmp_path, [8] * 3, [8] * 3)
    (ref / "case01.nii.gz").write_bytes(b"no image")
    found = compare(a, b, reference=ref, structures=tmp_path / "names.json")
    assert found.report.n_cases == 2
    assert found.report.findings[0].sentence.startswith("A and B: case01: The reference cannot be used: ")
    assert found.report.findings[0].sentence.endswith("; excluded from all numbers.")
    assert str(tmp_path) not in found.json()


def test_without_a_reference_it_is_agreement_which_is_not_accuracy(tmp_path: Path) -> None:
    a, b, _ = folders(tmp_path, [8, 4, 8, None], [8, 8, 6, 8])
    found = compare(a, b, structures=tmp_path / "names.json")
    assert "Agreement is not accuracy" in found.sentences()[0]
    core = next(r for r in found.report.agreement if (r.structure, r.metric) == ("core", "dice"))
    assert core.mean == pytest.approx((1 + 2 * 4 / 12 + 2 * 6 / 14) / 3)
    assert found.report.missing_a == ("case03",)
    assert [case.case_id for case in found.report.agreed] == ["case00", "case01", "case02"]
    volume = next(r for r in found.report.agreement if (r.structure, r.metric) == ("core", "volume_diff_ml"))
    assert volume.mean == pytest.approx((0 + 4 - 2) * 12 * 3 / 1000 / 3)
    assert "minimum 0.667 in case01" in " ".join(found.sentences())
    assert "accuracy not assessed" in found.page()
    assert "volume_a_ml" in found.csv()
    assert json.loads(found.json())["cases"][1]["structures"][0]["volume_b_ml"] == pytest.approx(
        8 * 12 * 0.003
    )
    assert not any(word in found.csv() + found.json() for word in ("volume_ref_ml", "volume_pred_ml"))
    mirrored = compare(b, a, structures=tmp_path / "names.json")
    again = next(r for r in mirrored.report.agreement if (r.structure, r.metric) == ("core", "dice"))
    assert again.mean == core.mean


def test_single_files_are_one_case(tmp_path: Path) -> None:
    a, b, ref = (write(tmp_path / name, n) for name, n in (("x.nii.gz", 4), ("y.nii.gz", 8), ("r.nii.gz", 8)))
    found = compare(a, b, reference=ref)
    assert found.report.n_cases == 1
    assert "there is 1 case and" in " ".join(found.sentences())
    agreed = compare(a, b)
    assert agreed.report.agreed[0]["label 1"].metrics["dice"].value == pytest.approx(2 / 3)


def test_a_path_twice_is_said_to_be_the_same(tmp_path: Path) -> None:
    a, _, ref = folders(tmp_path, [8] * 2, [8] * 2)
    with pytest.raises(UsageError, match="A and B are the same folder"):
        compare(a, tmp_path / "b" / ".." / "a", reference=ref)
    one = a / "case00_seg.nii.gz"
    with pytest.raises(UsageError, match="A and B are the same file"):
        compare(one, one)


def test_the_settings_that_differ_are_listed(tmp_path: Path) -> None:
    a, b, _ = folders(tmp_path, [8], [8])
    for folder, tta in ((a, None), (b, True)):
        content = {
            "schema": "medseg.prediction/1",
            "structures": [{"value": 1, "name": "core"}, {"value": 2, "name": "rim"}],
            "provenance": {"models": [], "settings": {"tta": tta, "engines": ["<b>"], "reading": {}}},
        }
        (folder / "case00_seg.json").write_text(json.dumps(content))
    found = compare(a, b)
    assert ("Mirroring (tta)", "A: model default; B: yes") in found.report.facts
    assert not any("ngines" in title for title, _ in found.report.facts)
    assert "A: model default; B: yes" in found.page()


def test_names_come_from_what_predict_left_beside_the_files(tmp_path: Path) -> None:
    a, b, ref = folders(tmp_path, [8] * 2, [8] * 2)

    def summary(path: Path, name: str) -> None:
        content = {
            "schema": "medseg.prediction/1",
            "structures": [{"value": 1, "name": name}, {"value": 2, "name": "rim"}],
            "provenance": {"models": [{"name": "m", "sha256": "0" * 64}]},
        }
        path.write_text(json.dumps(content))

    summary(a / "case00_seg.json", "core")
    found = compare(a, b, reference=ref)
    assert found.structures.names == ("core", "rim")
    assert ("Model of A", f"m (SHA-256 {'0' * 64})") in found.report.facts
    assert compare(a, b).structures.names == ("core", "rim")
    summary(b / "case01_seg.json", "shell")
    with pytest.raises(UsageError, match="A names the value 1 'core', and B names it 'shell'"):
        compare(a, b, reference=ref)


def test_a_structure_that_one_of_them_alone_has_is_compared(tmp_path: Path) -> None:
    a, b, ref = folders(tmp_path, [8] * 2, [8] * 2)
    write(b / "case00_seg.nii.gz", 8, rim=0)
    labels = nib.load(a / "case00_seg.nii.gz")
    array = np.asarray(labels.dataobj).copy()
    array[:2, 8:, :2] = 3
    nib.save(nib.Nifti1Image(array, AFFINE), a / "case00_seg.nii.gz")
    found = compare(a, b, reference=ref)
    assert found.structures.names == ("1", "2", "3")
    third = next(r for r in found.report.rows if (r.structure, r.metric) == ("3", "dice"))
    assert (third.n, third.n_absent, third.better_b) == (1, 1, 1)  # B is right to have none


def test_two_grids_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.nii.gz", 4), write(tmp_path / "b.nii.gz", 4, affine=np.diag([1, 2, 1.6, 1.0]))
    with pytest.raises(GridMismatchError, match="A and B lie on different grids"):
        compare(a, b)
    with pytest.raises(InputError, match="no such file"):
        compare(a, tmp_path / "none.nii.gz")


def test_json_is_strict_and_csv_has_every_case(tmp_path: Path) -> None:
    found = compared(tmp_path, [4, None] * 5, [8, 0] * 5)
    content = json.loads(found.json(), parse_constant=pytest.fail)
    assert content["schema"] == "medseg.comparison/1"
    assert content["sentences"] == list(found.sentences())
    rows = {(r["structure"], r["metric"]): r for r in content["comparison"]}
    assert rows["core", "dice"]["n"] == len(rows["core", "dice"]["cases"]) == 10
    assert {s["method"] for s in rows["core", "dice"]["stability"]} == {
        "aggregate-then-rank", "rank-then-aggregate", "test-then-rank"
    }  # fmt: skip
    table = list(csv.DictReader(io.StringIO(found.csv())))
    one = next(r for r in table if (r["case_id"], r["structure"], r["metric"]) == ("case01", "core", "dice"))
    assert (one["a"], one["b"], one["status_a"], one["set"]) == ("0.0", "0.0", "pred_empty", "false")
    assert len(table) == 2 * 3 * 10


@pytest.mark.parametrize("reference", [True, False])
def test_names_that_bite_are_harmless(tmp_path: Path, reference: bool) -> None:
    evil = EVIL[0].replace("/", "∕"), EVIL[1].replace("/", "∕")  # a file name has no slash
    for folder, length in (("a", 5), ("b", 8), ("ref", 8)):
        for name in evil:
            write(tmp_path / folder / f"{name}.nii.gz", length)
    (tmp_path / "names.json").write_text(json.dumps({"1": EVIL[0], "2": EVIL[1]}))
    found = compare(
        tmp_path / "a",
        tmp_path / "b",
        reference=tmp_path / "ref" if reference else None,
        structures=tmp_path / "names.json",
    )
    page = found.page()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "script-src &#39;none&#39;" in page
    for row in csv.reader(io.StringIO(found.csv())):
        assert not any(cell.startswith("=") for cell in row)
    assert str(tmp_path) not in page + found.json() + found.csv()


def test_the_page_is_the_same_for_the_same_comparison_and_shows_every_case(tmp_path: Path) -> None:
    found = compared(tmp_path, [4, 5] * 5, [7, 8] * 5)
    page = found.page()
    assert page == found.page()
    assert page.count("<img ") == 2
    assert page.count("data:image/png;base64,") >= 2
    for text in ("Stability of the ranking", "Cases that differ most", "Research use only", "p (Holm)"):
        assert text in page
    assert "http:" not in page
    assert "https:" not in page


def test_the_command_line(tmp_path: Path) -> None:
    a, b, ref = folders(tmp_path, [4] * 10, [8] * 10)
    names = tmp_path / "names.json"
    page, table = tmp_path / "page.html", tmp_path / "all.csv"
    ran = run(a, b, "--reference", ref, "--labels", names, "-o", page, "--csv", table, "--threads", 1)
    assert ran.exit_code == 0, ran.exception
    assert "B is better for core" in ran.stdout
    assert ran.stdout.splitlines()[0].startswith("Structure")
    assert page.is_file()
    assert table.is_file()
    again = run(a, b, "--reference", ref, "-o", page)
    assert isinstance(again.exception, UsageError)
    as_json = run(a, b, "--labels", names, "--json")
    assert json.loads(as_json.stdout)["reference"] is False


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--followup", "--reference", "r"), "cannot be combined with --reference"),
        (("--lesions", "core"), "need --followup"),
        (("-o", "page.pdf"), "give -o page.html"),
        (("--followup",), "the same file"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, words: tuple[str, ...], match: str) -> None:
    a = write(tmp_path / "a.nii.gz", 4)
    ran = run(a, a, *words)
    assert isinstance(ran.exception, UsageError)
    assert match in str(ran.exception)
