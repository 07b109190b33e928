"""Segmenter: channels by name, ensembles, probabilities, doubts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import tiny_model

import medseg
from medseg.core.errors import GeometryError, InputError, ModelError, UsageError
from medseg.core.structures import Structure, StructureSet
from medseg.core.volume import Grid, Volume
from medseg.data.phantom import STRUCTURES, phantom_case, write_phantom_scan
from medseg.inference import engines
from medseg.inference.predictor import labels_from_probabilities
from medseg.model.evidence import Evidence, SpacingRange
from medseg.model.file import Model
from medseg.model.refinement import IntensityClass, RefinementSpec, Trust
from medseg.model.spec import InferenceSpec, PostprocessSpec, SliceSpec
from medseg.preparation.intensity import NormalisationSpec
from medseg.preparation.preparation import PreparationSpec
from medseg.segmentation.member import SegmenterOptions, at_scale
from medseg.segmentation.segmenter import Segmenter

ONE_THREAD = SegmenterOptions(threads=1)
KEEP = SegmenterOptions(threads=1, keep_probabilities=True)


def scan(seed: int = 0, shape: tuple[int, int, int] = (20, 24, 18)) -> Volume:
    return phantom_case(np.random.default_rng(seed), shape)[0]


def two_channels(names: tuple[str, str]) -> Volume:
    volumes = {"t1": scan(1).array[0], "t2": scan(2).array[0]}
    return Volume(np.stack([volumes[name] for name in names]), scan(1).grid, names)


@pytest.fixture(scope="module")
def pair_model() -> Model:
    return tiny_model(3, channels=("t1", "t2"))


def test_a_phantom_gets_labels_on_its_own_grid(segmenter: Segmenter) -> None:
    volume = scan()
    found = segmenter(volume)
    assert found.labels.grid.matches(volume.grid)
    assert found.labels.array.dtype == np.uint8
    assert set(np.unique(found.labels.array)) == {0, 1, 2, 3}
    assert found.warnings == ()
    assert found.probabilities == {}
    counts = np.bincount(found.labels.array.ravel())
    assert found.volumes_ml() == pytest.approx(dict(zip(STRUCTURES.names, counts[1:] / 1000, strict=True)))


def test_the_same_scan_gives_the_same_bits(segmenter: Segmenter) -> None:
    first, again = segmenter(scan()).labels.array, segmenter(scan()).labels.array
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("spacing", [None, (1.5, 1.2, 1.4)])
def test_kept_probabilities_are_what_the_labels_were_chosen_by(
    model: Model, spacing: tuple[float, float, float] | None
) -> None:
    spec = replace(model.spec, preparation=PreparationSpec(spacing_mm=spacing))
    found = Segmenter([replace(model, spec=spec)], KEEP)(scan())
    kept = np.stack(list(found.probabilities.values()))
    assert list(found.probabilities) == list(STRUCTURES.names)
    assert kept.dtype == np.float32
    every = np.concatenate([1 - kept.sum(axis=0, keepdims=True), kept])
    sure = np.sort(every, axis=0)[-1] - np.sort(every, axis=0)[-2] > 1e-5
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found.labels.array[sure], every.argmax(axis=0)[sure])
    plain = Segmenter([replace(model, spec=spec)], ONE_THREAD)(scan())
    np.testing.assert_array_equal(found.labels.array, plain.labels.array)


def test_an_ensemble_is_the_mean_of_probabilities_on_the_scans_grid(model: Model) -> None:
    coarse = tiny_model(1, preparation=PreparationSpec(spacing_mm=(2.0, 2.0, 2.0)))
    alone = [Segmenter([m], KEEP)(scan()).probabilities for m in (model, coarse)]
    together = Segmenter([model, coarse], KEEP)(scan())
    for name in STRUCTURES.names:
        np.testing.assert_allclose(
            together.probabilities[name], (alone[0][name] + alone[1][name]) / 2, atol=1e-6
        )
    kept = np.stack(list(together.probabilities.values()))
    every = np.concatenate([1 - kept.sum(axis=0, keepdims=True), kept])
    expected = labels_from_probabilities(every, STRUCTURES)
    assert (together.labels.array == expected).mean() > 0.999


@pytest.mark.fault("reliability 69")
def test_models_of_other_structures_or_channels_make_no_ensemble(model: Model, pair_model: Model) -> None:
    other = replace(model, spec=replace(model.spec, structures=model.spec.structures[:2]))
    for stranger in (other, pair_model):
        with pytest.raises(ModelError, match="different structures"):
            Segmenter([model, stranger])
    with pytest.raises(ModelError, match="no model"):
        Segmenter([])


@pytest.mark.fault("reliability 44")
def test_row_44_channels_are_bound_by_name(pair_model: Model) -> None:
    segment = Segmenter([pair_model], ONE_THREAD)
    found = segment(two_channels(("t1", "t2"))).labels.array
    np.testing.assert_array_equal(found, segment(two_channels(("t2", "t1"))).labels.array)
    swapped = two_channels(("t1", "t2"))
    named_wrongly = Volume(swapped.array, swapped.grid, ("t2", "t1"))
    assert (found != segment(named_wrongly).labels.array).any()


@pytest.mark.fault("reliability 43")
def test_row_43_a_missing_or_strange_channel_is_named(pair_model: Model, segmenter: Segmenter) -> None:
    one = Volume(scan().array, scan().grid, ("t1",))
    with pytest.raises(InputError, match="takes the channels t1, t2, but the scan has t1") as caught:
        Segmenter([pair_model])(one)
    assert caught.value.hint == "give t1=FILE t2=FILE"
    with pytest.raises(InputError, match="but the scan has one channel, which has no name"):
        Segmenter([pair_model])(scan())
    with pytest.raises(InputError, match="takes the channel image, but the scan has t1"):
        segmenter(one)
    with pytest.raises(InputError, match="takes the channel image, but the scan has t1, t2"):
        segmenter(two_channels(("t1", "t2")))


@pytest.mark.fault("reliability 42")
def test_row_42_nothing_found_is_said() -> None:
    found = Segmenter([tiny_model(background=1e4)], ONE_THREAD)(scan())
    assert not found.labels.array.any()
    assert found.verdict.reasons == ("The model labelled no voxels in this scan.",)
    assert set(found.volumes_ml().values()) == {0.0}


@pytest.mark.parametrize(
    ("side_mm", "verdict"), [(1.9, ""), (2.1, "voxel_size"), (4.9, "voxel_size"), (5.1, "4")]
)
@pytest.mark.parametrize("way", ["larger", "smaller"])
@pytest.mark.fault("reliability 30")
def test_row_30_voxels_unlike_the_trainings_are_doubted_then_refused(
    model: Model, side_mm: float, verdict: str, way: str
) -> None:
    side = side_mm if way == "larger" else 1 / side_mm
    known = replace(
        model, spec=replace(model.spec, evidence=Evidence(spacing_mm=SpacingRange((1.0,) * 3, (1.0,) * 3)))
    )
    segment = Segmenter([known], ONE_THREAD)
    volume = Volume(scan().array, Grid(scan().grid.shape, np.diag([1.0, 1.0, side, 1.0])), ("image",))
    if verdict == "4":
        with pytest.raises(GeometryError, match="was trained on 1 to 1 mm"):
            segment(volume)
        return
    found = [f for f in segment(volume).findings if f.code == "voxel_size"]
    assert [(f.code, f.severity) for f in found] == [("voxel_size", "doubt")] * bool(verdict)
    assert all(f"{side:.3g} mm" in f.sentence for f in found)


@pytest.mark.fault("reliability 35")
@pytest.mark.parametrize("most", [1.0, 255.0])
def test_a_ct_that_was_rescaled_is_refused_unless_forced(most: float) -> None:
    window = NormalisationSpec(kind="window", window=(-160.0, 240.0))
    model = tiny_model(channels=("CT",), preparation=PreparationSpec(normalisation=window))
    array = scan().array
    share = (array - array.min()) / (array.max() - array.min())
    volume = Volume((share * most).astype(np.float32), scan().grid, ("CT",))
    with pytest.raises(
        InputError, match=f"'CT' has values from 0 to {most:g}, which are not Hounsfield units"
    ) as caught:
        Segmenter([model], ONE_THREAD)(volume)
    assert "--force" in str(caught.value)
    forced = Segmenter([model], replace(ONE_THREAD, force=True))(volume)
    assert any(f.code == "rescaled" and "not Hounsfield units" in f.sentence for f in forced.findings)
    assert forced.verdict.flag == "doubtful"
    in_units = Volume(volume.array / most * 1400 - 1000, volume.grid, ("CT",))
    assert "rescaled" not in {f.code for f in Segmenter([model], ONE_THREAD)(in_units).findings}
    mr = tiny_model(channels=("CT",), preparation=PreparationSpec(normalisation=NormalisationSpec()))
    assert "rescaled" not in {f.code for f in Segmenter([mr], ONE_THREAD)(volume).findings}


@pytest.mark.fault("reliability 36")
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (48, 40, 1), (1, 40, 48), (3, 1, 31)])
def test_scans_of_a_few_voxels_have_labels_of_their_own_shape(segmenter: Segmenter, shape: Any) -> None:
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    volume = Volume(array, Grid(shape, np.eye(4)), ("image",))
    if np.prod(shape) == 1:  # one voxel is a scan of one value
        with pytest.raises(InputError, match="constant"):
            segmenter(volume)
        return
    assert segmenter(volume).labels.array.shape == shape


def test_mirroring_is_an_average_and_can_be_chosen(model: Model) -> None:
    plain = Segmenter([model], KEEP)(scan())
    mirrored = Segmenter([model], replace(KEEP, tta=True))(scan())
    assert mirrored.probabilities["core"] == pytest.approx(plain.probabilities["core"], abs=1.0)
    assert (mirrored.probabilities["core"] != plain.probabilities["core"]).any()
    always = replace(model, spec=replace(model.spec, inference=InferenceSpec(flips=((0,),))))
    for options, expected in ((KEEP, mirrored), (replace(KEEP, tta=False), plain)):
        found = Segmenter([always], options)(scan())
        np.testing.assert_array_equal(found.probabilities["core"], expected.probabilities["core"])


def test_scales_are_averaged_with_voxels_that_much_smaller() -> None:
    model = tiny_model(preparation=PreparationSpec(spacing_mm=(1.0, 1.0, 1.0)))
    coarse = tiny_model(preparation=PreparationSpec(spacing_mm=(1.25, 1.25, 1.25)))
    found = Segmenter([model], replace(KEEP, scales=(1.0, 0.8)))(scan()).probabilities["core"]
    both = [Segmenter([m], KEEP)(scan()).probabilities["core"] for m in (model, coarse)]
    np.testing.assert_allclose(found, (both[0] + both[1]) / 2, atol=1e-6)
    assert np.abs(found - both[0]).max() > 0.1


def test_a_network_of_slices_keeps_its_step_across_them_at_any_scale(model: Model) -> None:
    prepared = PreparationSpec(spacing_mm=(1.0, 1.0, 3.0))
    spec = replace(model.spec, preparation=prepared, network=replace(model.spec.network, spatial_dims=2))
    for axes, expected in (((2,), (1.25, 1.25, 3.0)), ((0, 2), (1.25, 1.25, 3.75))):
        slices = replace(model, spec=replace(spec, slices=SliceSpec(axes)))
        assert at_scale(slices, 0.8).spec.preparation.spacing_for(Grid((4, 4, 4), np.eye(4))) == expected


@pytest.mark.parametrize("scales", [(0.0, 1.0), (-1.0,), (1.0, 1.0), (5.0,), (float("nan"),)])
def test_scales_that_make_no_sense_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"different numbers from 0\.67 to 1\.5"):
        replace(KEEP, scales=scales)


def test_a_model_of_voxels_of_any_size_takes_scales_of_the_scan(model: Model) -> None:
    coarse = tiny_model(preparation=PreparationSpec(spacing_mm=(1.25, 1.25, 1.25)))
    found, expected = (
        Segmenter([m], options)(scan()).probabilities["core"]
        for m, options in ((model, replace(KEEP, scales=(0.8,))), (coarse, KEEP))
    )
    np.testing.assert_array_equal(found, expected)


def test_a_mirrored_head_gets_mirrored_labels_with_its_sides_exchanged(model: Model) -> None:
    """Averaging over the left-right flip makes the network blind to it, but for the names."""
    segment = Segmenter([model], replace(ONE_THREAD, tta=True))
    volume = scan()
    mirrored = Volume(volume.array[:, ::-1], volume.grid, volume.channels)
    here, there = segment(volume).labels.array, segment(mirrored).labels.array[::-1]
    exchanged = np.array([0, 2, 1, 3])[there]
    assert (here == exchanged).mean() > 0.999


def test_regions_are_painted_and_their_volumes_are_of_their_members(tmp_path: Path) -> None:
    regions = StructureSet((Structure(2, "whole", members=(1, 2)), Structure(1, "centre", members=(1,))))
    found = Segmenter([tiny_model(structures=regions)], KEEP)(scan())
    whole, centre = found.probabilities["whole"] > 0.5, found.probabilities["centre"] > 0.5
    np.testing.assert_array_equal(found.labels.array, np.where(centre, 1, np.where(whole, 2, 0)))
    assert found.volumes_ml()["whole"] == pytest.approx((whole | centre).sum() / 1000)


def test_large_slabs_and_small_ones_give_the_same_labels(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(model.spec, preparation=PreparationSpec(spacing_mm=(1.5, 1.5, 1.5)))
    segment = Segmenter([replace(model, spec=spec)], KEEP)
    whole = segment(scan())
    monkeypatch.setattr("medseg.inference.restore.SLAB_VALUES", 1)
    rows = segment(scan())
    np.testing.assert_array_equal(whole.labels.array, rows.labels.array)
    np.testing.assert_array_equal(whole.probabilities["core"], rows.probabilities["core"])


def test_postprocessing_of_the_model_is_applied(model: Model) -> None:
    spec = replace(model.spec, postprocess=PostprocessSpec(min_volume_mm3={"core": 1e9}))
    assert Segmenter([replace(model, spec=spec)], ONE_THREAD)(scan()).volumes_ml()["core"] == 0


def test_engines_agree_on_the_labels(model: Model) -> None:
    ov = Segmenter([model], replace(ONE_THREAD, engine="openvino"))
    torch = Segmenter([model], replace(ONE_THREAD, engine="torch"))
    assert (ov.engine_names, torch.engine_names) == (("openvino f32",), ("torch f32",))
    assert (ov(scan()).labels.array == torch(scan()).labels.array).mean() > 0.9999


def test_openvino_is_not_asked_to_run_on_the_card_that_auto_finds(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.segmentation.member._loads", lambda _: True)
    monkeypatch.setattr("medseg.inference.engines.best_device", lambda: "cuda")
    assert Segmenter([model], SegmenterOptions(engine="openvino")).engine_names == ("openvino f32",)


def test_a_model_without_a_graph_runs_on_torch(model: Model) -> None:
    assert Segmenter([replace(model, graph=None)], ONE_THREAD).engine_names == ("torch f32",)


def test_three_lines_of_python_segment_a_scan(tmp_path: Path, model_path: Path) -> None:
    write_phantom_scan(tmp_path / "scan.nii.gz", shape=(20, 24, 18))
    scan = medseg.read(tmp_path / "scan.nii.gz")
    labels = medseg.load(model_path, threads=1)(scan).labels
    medseg.write(tmp_path / "labels.nii.gz", labels)
    assert labels.grid.matches(scan.grid)
    assert (tmp_path / "labels.nii.gz").is_file()
    assert {"read", "load", "write"} <= set(dir(medseg))
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        medseg.segment  # noqa: B018


def test_importing_medseg_imports_nothing_of_size() -> None:
    program = (
        "import medseg, sys; print(len([m for m in sys.modules if m.startswith('medseg')]), *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    count, *modules = out.split()
    assert count == "3"  # the package, and what finds its names
    assert not {"numpy", "torch", "nibabel", "typer"} & set(modules)


def test_loading_a_model_imports_nothing_of_the_command_line(model_path: Path) -> None:
    """Nor pydantic, which typer brings: its import and schemas took a fifth of a cold start."""
    program = "import medseg, sys; medseg.load(sys.argv[1], threads=1); print(*sys.modules)"
    words = [sys.executable, "-c", program, str(model_path)]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "medseg.core.structuring" in out.split()
    assert not {"pydantic", "typer", "torch"} & set(out.split())


def test_a_precision_openvino_would_not_keep_is_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "precisions", lambda *_: ("f32",))
    with pytest.raises(UsageError, match=r"OpenVINO computes in f32 on this processor, not in bf16"):
        Segmenter([model], replace(ONE_THREAD, engine="openvino", precision="bf16"))
    asked = Segmenter([model], replace(ONE_THREAD, engine="torch", precision="bf16"))
    assert asked.engine_names == ("torch bf16",)


REFINED = RefinementSpec(
    (IntensityClass("grey", ("lobe",)), IntensityClass("white", ("core",))), Trust(width_mm=0.0)
)


def refining(model: Model, spec: RefinementSpec = REFINED) -> Model:
    return replace(model, spec=replace(model.spec, refinement=spec))


def test_a_model_with_refinement_follows_the_scan_unless_told_not_to(model: Model) -> None:
    plain = Segmenter([model], ONE_THREAD)(scan()).labels.array
    refined = Segmenter([refining(model)], ONE_THREAD)(scan()).labels.array
    without = Segmenter([refining(model)], replace(ONE_THREAD, refine=False))(scan()).labels.array
    assert (refined != plain).any()
    np.testing.assert_array_equal(without, plain)


def test_refinement_that_a_model_has_not_is_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="does not have settings for refinement"):
        Segmenter([model], replace(ONE_THREAD, refine=True))
    with pytest.raises(UsageError, match="refinement is not possible with several models"):
        Segmenter([refining(model), refining(model)], replace(ONE_THREAD, refine=True))


def test_a_refined_scan_of_one_brightness_is_doubted(model: Model) -> None:
    """Noise alone, whatever the network makes of it: no two tissues differ."""
    noise = np.random.default_rng(0).normal(100, 10, (1, 20, 24, 18)).astype(np.float32)
    found = Segmenter([refining(model)], ONE_THREAD)(Volume(noise, scan().grid, scan().channels))
    assert any("almost the same brightness" in reason for reason in found.verdict.reasons)
