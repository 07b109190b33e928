"""`import medseg`: quick, complete, and with the verbs that its documentation promises."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from models import tiny_model

import medseg
from medseg.core.errors import GeometryError, MedsegError, MissingPackageError, UsageError
from medseg.core.volume import Grid, LabelMap
from medseg.findings.finding import Finding
from medseg.io import write_labels
from medseg.segmentation.segmenter import Segmenter
from medseg.segmentation.verdict import Quality

ROOMS = ("augment", "losses", "metrics", "networks")


def test_importing_it_is_quick_and_without_torch() -> None:
    said = (
        "import sys, medseg; dir(medseg); print([m for m in ('torch', 'monai', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_public_name_is_there_and_says_what_it_is(room: str) -> None:
    module = getattr(medseg, room) if room else medseg
    for name in module.__all__:
        assert name in dir(module)
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            shown = ">>>" in (inspect.getdoc(value) or "") or f"`{name}`" in (module.__doc__ or "")
            assert shown or name == "MedsegError", f"{room}.{name} shows no example"
    with pytest.raises(AttributeError, match="did you mean"):
        getattr(module, module.__all__[1] + "x")


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_the_tab_key_offers_the_public_names_and_no_others(room: str) -> None:
    module = getattr(medseg, room) if room else medseg
    assert [name for name in dir(module) if not name.startswith("_")] == sorted(
        name for name in module.__all__ if not name.startswith("_")
    )


CLASSES = [
    (room, name)
    for room in ("losses", "networks", "augment")
    for name in getattr(medseg, room).__all__
    if name
    not in (
        "create",
        "available",
        "WeightedSum",
    )
]


@pytest.mark.parametrize(("room", "name"), CLASSES)
def test_a_typo_is_a_type_error_with_a_hint(room: str, name: str) -> None:
    make = getattr(getattr(medseg, room), name)
    word = next(n for n, p in inspect.signature(make).parameters.items() if p.kind is p.KEYWORD_ONLY)
    with pytest.raises(TypeError, match=f"did you mean '{word}'"):
        make(**{word + "x": 1})


def labels(shift: int = 0) -> np.ndarray:
    array = np.zeros((12, 13, 14), np.uint8)
    array[2:6, 2:6, 2 + shift : 6 + shift], array[8:11, 3:7, 3:9] = 1, 2
    return array


READING = ("use_form", "assume_ras", "fill_nan", "volume", "series")
"""Keywords of whatever reads files, as the options of the commands."""


@pytest.mark.parametrize(
    "verb", ["read", "predict", "evaluate", "compare", "report", "partition", "refine", "segment"]
)
def test_what_a_file_leaves_open_is_decided_by_the_same_keywords_everywhere(verb: str) -> None:
    called = Segmenter.__call__ if verb == "segment" else getattr(medseg, verb)
    known = inspect.signature(called).parameters
    assert set(READING) <= set(known)
    assert not any("ReadOptions" in str(p.annotation) for p in known.values())


def test_a_file_without_orientation_is_read_as_it_is_told(tmp_path: Path) -> None:
    for name, array in (("a", labels()), ("b", labels(1))):
        nib.save(nib.Nifti1Image(array, None), tmp_path / f"{name}.nii.gz")
    a, b = (tmp_path / f"{name}.nii.gz" for name in "ab")
    with pytest.raises(GeometryError, match="no orientation"):
        medseg.evaluate(a, b)
    assert medseg.evaluate(a, b, assume_ras=True)["1"].dice == 0.75
    mixed = medseg.evaluate(nib.load(a), medseg.read(b, assume_ras=True), assume_ras=True)
    assert mixed["1"].dice == 0.75
    assert len(medseg.compare(a, b, reference=a, assume_ras=True).table_rows()) > 1
    page = medseg.report(nib.load(a), a, tmp_path / "a.html", structures={1: "liver"}, assume_ras=True)
    assert "liver" in page.read_text("utf-8")


class TestWrite:
    @pytest.mark.parametrize("channels", [("image",), ("t1", "t2")])
    @pytest.mark.parametrize("dtype", [np.float32, np.int16])
    def test_a_scan_is_written_as_it_was_read(
        self, tmp_path: Path, channels: tuple[str, ...], dtype: type[np.number]
    ) -> None:
        array = (np.arange(len(channels) * 120) + 0.25).astype(dtype).reshape(-1, 4, 5, 6)
        scan = medseg.read(array, affine=np.diag([-1.0, 1.0, 2.0, 1.0]), channels=channels)
        medseg.write(tmp_path / "scan.nii.gz", scan)
        again = medseg.read(tmp_path / "scan.nii.gz", channels=channels)
        assert again.array.dtype == dtype
        assert np.array_equal(again.array, array)
        assert again.grid.matches(scan.grid)

    def test_what_lies_on_no_grid_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="not ndarray; wrap an array"):
            medseg.write(tmp_path / "a.nii.gz", labels())
        scan = medseg.read(labels(), affine=np.eye(4))
        with pytest.raises(UsageError, match="structures are of labels"):
            medseg.write(tmp_path / "a.nii.gz", scan, structures={1: "liver"})
        assert not any(tmp_path.iterdir())

    def test_labels_take_names_by_value(self, tmp_path: Path) -> None:
        found = LabelMap(labels(), Grid(labels().shape, np.eye(4)))
        medseg.write(tmp_path / "a.seg.nrrd", found, structures={1: "liver", 2: "spleen"})
        (tmp_path / "names.json").write_text('{"1": "liver", "2": "spleen"}')
        medseg.write(tmp_path / "b.seg.nrrd", found, structures=tmp_path / "names.json")
        for name in ("a.seg.nrrd", "b.seg.nrrd"):
            assert b"Segment0_Name:=liver" in (tmp_path / name).read_bytes()


def test_an_affine_in_the_place_of_a_grid_is_refused_with_the_way_to_make_one() -> None:
    for make in (LabelMap, lambda array, grid: medseg.Volume(array[None], grid, ("t1",))):
        with pytest.raises(UsageError, match=r"not ndarray; give medseg.Grid\(shape, affine\)"):
            make(labels(), np.eye(4))


def test_arrays_are_not_compared_but_measured() -> None:
    with pytest.raises(UsageError, match=r"files or folders, not ndarray; .* medseg\.evaluate"):
        medseg.compare(labels(), labels(1))


class TestShown:
    def test_an_image_is_shown_in_a_line(self) -> None:
        grid = Grid((12, 13, 14), np.diag([-1.0, 1.0, 2.5, 1.0]))
        assert repr(grid) == "Grid(12 × 13 × 14 voxels, 1 × 1 × 2.5 mm, LAS)"
        assert repr(LabelMap(labels(), grid)) == f"LabelMap(uint8, {repr(grid)[5:-1]})"
        scan = medseg.read(np.zeros((2, 12, 13, 14), np.int16), affine=grid.affine, channels=("t1", "t2"))
        assert repr(scan) == f"Volume(t1, t2: int16, {repr(grid)[5:-1]})"

    def test_an_evaluation_is_shown_in_a_line(self) -> None:
        found = medseg.evaluate(labels(1), labels(), spacing_mm=(1, 1, 2), structures={1: "liver", 2: "x"})
        assert repr(found) == "Evaluation(1 case, mean Dice: liver 0.750 and x 1.000)"
        assert repr(found.scores) == "Scores(1 case, mean Dice: liver 0.750 and x 1.000)"
        assert repr(found["liver"]).startswith("StructureScores(liver, 1 case, dice 0.75, jaccard 0.6, ")

    def test_a_model_and_its_result_are_shown_in_a_line(self, tmp_path: Path) -> None:
        segmenter = medseg.load(tiny(tmp_path), threads=1)
        count = f"{len(segmenter.structures)} structures"
        name, channels = segmenter.models[0].spec.name, ", ".join(segmenter.channels)
        assert repr(segmenter) == f"Segmenter({name}: {channels} to {count})"
        found = segmenter(noise())
        assert repr(found) == f"Segmentation({found.verdict.flag}, {count}, {found.labels})"
        assert "20 × 21 × 22 voxels" in repr(found)


class TestEvaluate:
    def test_arrays_images_and_files_give_the_same_numbers(self, tmp_path: Path) -> None:
        affine = np.diag([-1.0, 1.0, 2.0, 1.0])
        names = {1: "liver", 2: "spleen"}
        maps = [LabelMap(array, Grid(array.shape, affine)) for array in (labels(1), labels())]
        for path, one in zip(("pred.nii.gz", "ref.nii.gz"), maps, strict=True):
            write_labels(tmp_path / path, one)
        pairs: list[tuple[Any, Any, dict[str, Any]]] = [
            (labels(1), labels(), {"affine": affine}),
            (labels(1), labels(), {"spacing_mm": (1, 1, 2)}),
            (*maps, {}),
            (*(m.to_nibabel() for m in maps), {}),
            (*(m.to_sitk() for m in maps), {}),
            (tmp_path / "pred.nii.gz", str(tmp_path / "ref.nii.gz"), {}),
            (tmp_path / "pred.nii.gz", maps[1].to_nibabel(), {}),
        ]
        for pred, ref, more in pairs:
            found = medseg.evaluate(pred, ref, structures=names, tolerance_mm=1.0, instances=True, **more)
            assert found["liver"].dice == 0.75
            assert found["liver"].hd95_mm == 2.0
            assert found["spleen"]["pq"] == 1.0
            assert found["liver"].nsd == found.cases[0]["liver"].metrics["nsd"].value

    def test_a_tensor_that_carries_an_affine_of_its_own_is_an_array(self) -> None:
        from monai.data import MetaTensor

        pair = (MetaTensor(array.astype(np.int64), affine=np.eye(4)) for array in (labels(1), labels()))
        found = medseg.evaluate(*pair, affine=np.diag([1.0, 1.0, 3.0, 1.0]))
        assert found["1"].hd95_mm == 3.0

    @pytest.mark.parametrize(
        "more", [{"affine": np.eye(4)}, {"spacing_mm": (1, 1, 2)}], ids=["affine", "spacing"]
    )
    def test_an_affine_that_neither_side_needs_is_refused(self, tmp_path: Path, more: dict[str, Any]) -> None:
        placed = LabelMap(labels(), Grid(labels().shape, np.eye(4)))
        write_labels(tmp_path / "a.nii.gz", placed)
        for pred, ref in itertools.product((placed, placed.to_nibabel(), tmp_path / "a.nii.gz"), repeat=2):
            with pytest.raises(UsageError, match="where their voxels lie"):
                medseg.evaluate(pred, ref, **more)
        assert medseg.evaluate(placed, labels(), spacing_mm=(1, 1, 1))["1"].dice == 1.0

    def test_a_spacing_has_one_length_an_axis(self) -> None:
        with pytest.raises(UsageError, match=r"\(1, 2\), and it must be 3 lengths"):
            medseg.evaluate(labels(), labels(), spacing_mm=(1, 2))
        flat = medseg.evaluate(labels(1)[..., 4], labels()[..., 4], spacing_mm=(1, 2))
        assert flat["1"].volume_ref_ml == 0.032

    def test_a_name_that_is_not_there_is_answered_with_the_nearest(self) -> None:
        found = medseg.evaluate(labels(), labels(), spacing_mm=(1, 1, 1))
        with pytest.raises(KeyError, match="no structure"):
            found["liver"]
        with pytest.raises(AttributeError, match="did you mean 'dice'"):
            _ = found["1"].dise
        with pytest.raises(UsageError, match="affine="):
            medseg.evaluate(labels(), labels())

    def test_a_table_for_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = medseg.evaluate(labels(1), labels(), spacing_mm=(1, 1, 2), structures={1: "liver"})
        table = pytest.importorskip("pandas") and found.to_pandas()
        rows = table[(table.structure == "liver") & (table.metric == "dice")]
        assert rows.value.tolist() == [0.75]
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingPackageError, match="pip install pandas"):
            found.to_pandas()

    def test_of_folders_a_metric_is_the_mean(self, tmp_path: Path) -> None:
        for folder, shift in (("pred", 1), ("ref", 0)):
            (tmp_path / folder).mkdir()
            for case in ("a", "b"):
                array = labels(shift if case == "a" else 0)
                write_labels(
                    tmp_path / folder / f"{case}.nii.gz", LabelMap(array, Grid(array.shape, np.eye(4)))
                )
        found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", structures={1: "liver"})
        assert found["liver"].dice == 0.875
        assert len(found["liver"].rows) == 2


def tiny(folder: Path) -> Path:
    """A model file."""
    tiny_model().save(folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def noise() -> nib.Nifti1Image:
    """A scan of nothing."""
    return nib.Nifti1Image(np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32), np.eye(4))


class TestSegment:
    def test_a_scan_in_any_form_is_segmented_alike(self, tmp_path: Path) -> None:
        model = tiny(tmp_path)
        image = noise()
        nib.save(image, tmp_path / "scan.nii.gz")
        segmenter = medseg.load(model, threads=1)
        volume = medseg.read(tmp_path / "scan.nii.gz")
        found = segmenter(tmp_path / "scan.nii.gz")
        channel = segmenter.channels[0]
        for scan, more in (
            (str(tmp_path / "scan.nii.gz"), {}),
            (image, {}),
            (volume, {}),
            (volume.to_sitk(), {}),
            ({channel: image}, {}),
            (np.asarray(image.dataobj), {"affine": np.eye(4)}),
        ):
            assert np.array_equal(segmenter(scan, **more).labels, found.labels)
        assert found.verdict.flag in ("ok", "doubtful")
        assert found.volumes_ml().keys() == set(segmenter.structures.names)
        assert found.labels.to_nibabel().shape == (20, 21, 22)

    def test_predict_does_what_the_command_does(self, tmp_path: Path) -> None:
        model = tiny(tmp_path)
        image = noise()
        nib.save(image, tmp_path / "scan.nii.gz")
        done = medseg.predict(
            tmp_path / "scan.nii.gz", model=model, report=True, probabilities=True, threads=1
        )
        assert done.labels == tmp_path / "scan_seg.nii.gz"
        assert done.report is not None
        assert all(p.is_file() for p in (done.labels, done.report, *done.only.probabilities.values()))
        found = medseg.load(model, threads=1)(image)
        assert done.volumes_ml == pytest.approx(found.volumes_ml(), rel=1e-3, abs=1e-4)
        assert done.verdict == found.verdict.flag
        assert [f.sentence for f in done.findings] == [f.sentence for f in found.findings]
        page = medseg.report(found, image, tmp_path / "again.html")
        assert page.read_text("utf-8").startswith("<!")
        with pytest.raises(UsageError, match="exists"):
            medseg.predict(tmp_path / "scan.nii.gz", model=model, threads=1)


NO_STRUCTURES = [["a", "b"], {"a": 1}, {"1": "a"}, {1: 2}, {True: "a"}, {1.5: "a"}, {}, 3]


@pytest.mark.parametrize("structures", NO_STRUCTURES, ids=str)
def test_structures_that_name_nothing_are_refused(structures: Any, tmp_path: Path) -> None:
    mask = np.ones((4, 4, 4), np.uint8)
    labels = LabelMap(mask, Grid(mask.shape, np.eye(4)))
    with pytest.raises(UsageError, match=r"structures= .*give names by label value"):
        medseg.evaluate(mask, mask, affine=np.eye(4), structures=structures)
    with pytest.raises(UsageError, match=r"structures= .*give names by label value"):
        medseg.write(tmp_path / "a.seg.nrrd", labels, structures=structures)


def test_an_evaluation_is_gone_through_by_the_names_of_its_structures() -> None:
    mask = np.ones((4, 4, 4), np.uint8)
    found = medseg.evaluate(mask, mask, affine=np.eye(4), structures={np.int16(1): "a", 2: "b"})
    assert list(found) == ["a", "b"]
    assert len(found) == 2
    assert "a" in found
    assert "liver" not in found
    assert [found[name].dice for name in found] == [1.0, None]


@pytest.mark.parametrize(
    "scan", [nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), np.ones((4, 4, 4)), None, 3]
)
def test_what_is_predicted_into_files_lies_in_files(scan: Any) -> None:
    for given in (scan, [scan], {"T1": scan}):
        with pytest.raises(UsageError, match=r"is a path, not .*medseg\.load\(MODEL\)\(scan\)"):
            medseg.predict(given)


def test_a_segmentation_is_evaluated_with_its_names_and_what_was_found_of_it(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "m.safetensors")
    scan = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    result = medseg.load(tmp_path / "m.safetensors", threads=1)(scan, affine=np.eye(4))
    findings = (
        Finding("blurred", "doubt", "The scan is blurred."),
        Finding("absent", "note", "It has no core."),
    )
    found = medseg.evaluate(replace(result, verdict=Quality(findings)), result.labels)
    assert tuple(found) == result.structures.names
    assert findings[0] in found.findings
    assert findings[1] not in found.findings


def test_an_error_of_writing_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    labels = LabelMap(np.ones((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(MedsegError) as fault:
        medseg.write(tmp_path / "x.png", labels)
    assert fault.value.source == str(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
