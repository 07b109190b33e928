"""Draw the pictures of the documentation.

    python docs/pictures.py --data ../shared/data              # all of them
    python docs/pictures.py --data ../shared/data synthesis    # one
    python docs/pictures.py elastic                            # needs no data, or takes --scan
    python docs/pictures.py pages                              # the reports, by headless Chromium
    python docs/pictures.py scaling                            # of benchmarks/results/scaling.json

The hippocampus is of a case that the packaged model was not trained on; the brains are real scans, which
the brain model never sees in training. The tumour is a phantom: the real ones may not be handed on.

Of the scans shown, the hippocampus (hippocampus, report_case*, report_print, report_cohort) is of the Medical
Segmentation Decathlon, Task04, CC-BY-SA 4.0; chris_t1 and chris_PD (brain_chris_*, report_no_reference) are
C. Rorden's, BSD-2-Clause.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from medseg import load
from medseg.augment.preview import Drawn, Preview
from medseg.augment.spec import ELASTIC_PRESETS, SynthesisSpec
from medseg.augment.synthesis import Synthesiser
from medseg.core.structures import StructureSet, from_labels
from medseg.core.volume import Grid, LabelMap, Volume
from medseg.data.cards import load_card
from medseg.data.cases import read_case
from medseg.data.layouts.case import CaseFiles
from medseg.data.phantom.tumour import tumour_case
from medseg.data.synthetic import SyntheticCases
from medseg.evaluation.evaluate import evaluate
from medseg.io import read_volume
from medseg.metrics.measurement import Measurement, measure
from medseg.metrics.signed import compare
from medseg.prediction.demo import mni152
from medseg.prediction.job import PredictOptions
from medseg.prediction.predict import predict
from medseg.preparation.preparation import Preparation, PreparationSpec
from medseg.reporting.case.options import ReportOptions
from medseg.reporting.case.page import case_of
from medseg.reporting.drawing.draws import Column, Panel, draws_png, panel_of
from medseg.reporting.drawing.figures import overlay_png
from medseg.reporting.drawing.palette import indexed
from medseg.reporting.drawing.planes import planes
from medseg.reporting.drawing.plotting import png
from medseg.reporting.drawing.views import window_of, worst_places
from medseg.reporting.html import case_page
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader, Segmenter
from medseg.training.recipe import load_recipe
from medseg.training.split import make_split

HERE = Path(__file__).parent

SAMPLES, SAMPLE_VOXELS = 12, 176

ELASTIC_MM, ELASTIC_VOXELS, ELASTIC_SLICES, ELASTIC_SEED = 1.5, 128, 64, 22
ELASTIC_WORDS = {
    "unet2015": ("3 x 3 vectors, N(0, 10)", "bicubic; image"),
    "vnet2016": ("2 x 2 x 2 intervals, N(0, 15)", "B-spline; volume"),
    "unet3d2016": ("a vector every 32, N(0, 4)", "B-spline; volume"),
    "simard2003": ("noise, Gaussian of 4, times 34", "every pixel; image"),
}


WIDE, NARROW = 1280, 420
LARGEST_BYTES = 600_000

READY = "[...document.querySelectorAll('.viewer')].every(e => e.dataset.ready === 'yes')"

COHORT = 40


def held_out(data: Path, segmenter: Segmenter) -> list[CaseFiles]:
    """The hippocampi that the packaged model was not trained on, in order."""
    files = {case.case_id: case for case in load_card("hippocampus").read(data / "hippocampus").cases}
    training = segmenter.models[0].spec.training
    split = make_split(
        {name: case.group for name, case in files.items()},
        folds=training.folds or 0,
        fold=training.fold,
        selection_share=0.1,
        seed=training.seed or 0,
    )
    return [files[name] for name in split.validation]


def hippocampus(data: Path) -> bytes:
    """A held-out hippocampus: prediction solid, reference dashed."""
    segmenter = load("hippocampus")
    volume, reference = read_case(held_out(data, segmenter)[0], load_card("hippocampus"))
    labels, structures = segmenter(volume).labels.array, segmenter.structures
    compared = compare(labels, reference.array, volume.grid, structures, structures)
    places = worst_places(compared, labels, reference.array, structures, most=1)
    return overlay_png(
        volume.array[0], labels, volume.grid, structures, reference=reference.array, places=places
    )


def synthesis(data: Path) -> bytes:
    """Twelve scans made from label maps, as the brain model is trained on: one slice of each."""
    card, recipe = load_card("brain"), load_recipe("brain")
    spec = replace(recipe.synthesis or SynthesisSpec(), curriculum=0.0)
    cases = SyntheticCases(card, spec)
    generator = torch.Generator().manual_seed(5)
    figure = Figure(figsize=(9.0, 6.75), facecolor="black")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    FigureCanvasAgg(figure)
    files = card.read(data / "brain_labels").cases
    maker = Synthesiser(spec, cases.table, (1.0, 1.0, 1.0))
    for n, axes in enumerate(figure.subplots(3, 4).flat):
        labels = torch.from_numpy(cases.generation_map(files[n]))
        centre = [(size - 1) / 2 for size in labels.shape]
        image, _ = maker.draw(generator, torch.empty(0), labels, centre, (SAMPLE_VOXELS,) * 3)
        plane = np.take(image[0].numpy(), SAMPLE_VOXELS // 2, axis=(2, 1, 0)[n % 3])
        axes.imshow(plane.T[::-1, ::-1], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    return png(figure, dots_per_inch=(100,))


def elastic(scan: Volume) -> bytes:
    """Elastic deformation as four papers have it, in voxels: what becomes of a grid and of a slice.

    The patch is V-Net's, 128 x 128 x 64; the papers on images get its middle slice alone.
    """
    prepared = Preparation(PreparationSpec((ELASTIC_MM,) * 3)).apply(scan)
    n, middle = ELASTIC_VOXELS, prepared.array.shape[3] // 2
    nothing = np.zeros(prepared.grid.shape, np.uint8)
    columns: list[Column] = []
    for name in ELASTIC_PRESETS:
        slices = 1 if name in ("unet2015", "simard2003") else ELASTIC_SLICES
        start = [(m - n) // 2 for m in prepared.grid.shape[:2]] + [middle - slices // 2]
        preview = Preview(
            name,
            from_labels({}),
            prepared.array,
            nothing,
            spacing_mm=prepared.grid.spacing_mm,
            start=start,
            shape=(n, n, slices),
        )
        plain, bent = preview.draws(1, ELASTIC_SEED)
        columns = columns or [Column("original", (), _grid_and_slice(plain))]
        columns.append(Column(name, ELASTIC_WORDS[name], _grid_and_slice(bent)))
    heading = f"Elastic deformation as published, in voxels: {n} x {n} (x {ELASTIC_SLICES})"
    window = window_of(prepared.array[0])
    return draws_png(columns, from_labels({}), window=window, heading=heading, dots_per_inch=96)


def _grid_and_slice(drawn: Drawn) -> tuple[Panel, Panel]:
    """The middle slice as a bare grid, and without one."""
    shape = drawn.labels.shape
    axial = planes(Grid(shape, np.diag([ELASTIC_MM] * 3 + [1.0])))[0]
    unnamed = replace(axial, name="", letters=None)
    cut = panel_of(unnamed, shape[2] // 2, drawn.image[0], drawn.labels, drawn.positions_voxels)
    still = np.zeros_like(cut.down_mm)
    bare = replace(cut, pixels=np.full_like(cut.pixels, -np.inf))
    return bare, replace(cut, down_mm=still, along_mm=still)


def brain(scan: Volume, segmenter: Segmenter) -> bytes:
    """Outlines of all structures on three planes of a real scan."""
    found = segmenter(scan)
    return overlay_png(
        scan.array[0], found.labels.array, scan.grid, segmenter.structures, closeup=False, names=False
    )


def average() -> Volume:
    """The average head that comes with nilearn."""
    image, grid = mni152()
    return Volume(image[None], grid, ("MR",))


def brains(data: Path) -> dict[str, Callable[[], bytes]]:
    scans: dict[str, Callable[[], Volume]] = {
        "chris_t1": lambda: read_volume(data / "scans" / "chris_t1.nii.gz"),
        "chris_PD": lambda: read_volume(data / "scans" / "chris_PD.nii.gz"),
        "mni152": average,
    }
    return {
        f"models/brain_{name}": lambda read=read: brain(read(), load("brain"))  # type: ignore[misc]
        for name, read in scans.items()
    }


def pages(data: Path) -> None:
    """Pictures of the reports, as a browser shows and prints them."""
    with tempfile.TemporaryDirectory() as folder:
        made = {
            "report_case": case_report(Path(folder), data),
            "report_brats": tumour_report(Path(folder)),
            "report_no_reference": unmeasured_report(Path(folder), data),
            "report_cohort": cohort_report(Path(folder), data),
        }
        photograph(made, Path(folder))


def case_report(folder: Path, data: Path) -> Path:
    """The page of a held-out hippocampus and its reference."""
    segmenter = load("hippocampus")
    files = held_out(data, segmenter)[0]
    volume, reference = read_case(files, load_card("hippocampus"))
    options = ReportOptions(
        case_id=files.case_id, tolerance_mm=1.0, facts={"Model": segmenter.models[0].spec.name}
    )
    labels, structures = segmenter(volume).labels, segmenter.structures
    against = _measured(labels, reference, structures, options)
    case = case_of(volume, labels, structures, against=against, options=options)
    return _page(folder / "case.html", case_page(case))


def tumour_report(folder: Path) -> Path:
    """The page of a phantom of a tumour; a segmentation a little beside it stands for a prediction."""
    volume, truth = tumour_case(np.random.default_rng(3))
    labels = np.roll(truth.array, (1, -1, 1), axis=(0, 1, 2))
    labels[: labels.shape[0] // 2 - 12] *= labels[: labels.shape[0] // 2 - 12] != 4
    found = LabelMap(labels, truth.grid)
    options = ReportOptions(case_id="phantom tumour", channel="flair", tolerance_mm=1.0)
    structures = load_card("brats").structure_set
    against = _measured(found, truth, structures, options)
    case = case_of(volume, found, structures, against=against, options=options)
    return _page(folder / "tumour.html", case_page(case))


def _measured(
    labels: LabelMap, reference: LabelMap, structures: StructureSet, options: ReportOptions
) -> Measurement:
    """What the page of a case says of its accuracy."""
    return measure(labels, reference, structures, tolerance_mm=options.tolerance_mm, case_id=options.case_id)


def unmeasured_report(folder: Path, data: Path) -> Path:
    """The page that `predict --report` makes of a whole head."""
    predict([str(data / "scans" / "chris_t1.nii.gz")], _loader("brain"), folder, PredictOptions(report=True))
    return folder / "chris_t1_report.html"


def cohort_report(folder: Path, data: Path) -> Path:
    """The page of forty held-out hippocampi."""
    loader = _loader("hippocampus")
    scans, references = folder / "scans", folder / "hippocampus"
    for files in held_out(data, loader())[:COHORT]:
        for path, target in ((files.image, scans), (files.label, references)):
            target.mkdir(exist_ok=True)
            shutil.copy(path, target / f"{files.case_id}.nii.gz")
    predict([str(scans)], loader, folder / "predictions", PredictOptions())
    evaluate(
        folder / "predictions",
        references,
        structures=data / "hippocampus" / "dataset.json",
        tolerance_mm=1.0,
        model="hippocampus",
        out=folder / "cohort",
        images=scans,
    )
    return folder / "cohort" / "cohort.html"


def _loader(name: str) -> Loader:
    return Loader((name,), SegmenterOptions()).absolute()


def _page(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def photograph(made: dict[str, Path], folder: Path) -> None:
    """Each page, whole, at its width; the first also on a narrow screen and as its first sheet."""
    sys.path.append(str(HERE.parent / "tests" / "helpers"))
    from chromium import Browser

    with Browser(folder) as browser:
        for name, path in made.items():
            for width, ending in ((WIDE, ""), (NARROW, "_420"))[: 2 if name == "report_case" else 1]:
                page = browser.open(path, width=width)
                page.wait(lambda page=page: page.evaluate(READY), "the viewer")  # type: ignore[misc]
                page.settle()
                (HERE / f"{name}{ending}.png").write_bytes(small_png(page.screenshot()))
            if name == "report_case":
                page.pdf(folder / "case.pdf")
    subprocess.run(
        ["pdftoppm", "-r", "100", "-png", "-singlefile", "case.pdf", "sheet"], cwd=folder, check=True
    )
    (HERE / "report_print.png").write_bytes(small_png((folder / "sheet.png").read_bytes()))


def small_png(screen: bytes, shares: Sequence[float] = (1.0, 0.85, 0.75, 0.65, 0.55, 0.45)) -> bytes:
    """A picture of a screen with a palette, and at a share of its size if it must."""
    whole, data = Image.open(io.BytesIO(screen)).convert("RGB"), b""
    for share in shares:
        size = round(whole.width * share), round(whole.height * share)
        image = whole if share == 1 else whole.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        indexed(image).save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
        if len(data) <= LARGEST_BYTES:
            break
    return data


def scaling() -> bytes:
    """Time and memory of a prediction by the size of the scan, and time by the number of scans."""
    told = json.loads((HERE.parent / "benchmarks" / "results" / "scaling.json").read_text("utf-8"))
    figure = Figure(figsize=(9.0, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    sizes, cases, lines = told["sizes"], told["cases"], told["lines"]
    for axes, x, y, label, title in (
        (figure.add_subplot(1, 3, 1), sizes["voxels"], sizes["seconds"], "voxels", "seconds of a scan"),
        (figure.add_subplot(1, 3, 2), sizes["voxels"], sizes["peak_gib"], "voxels", "GiB at most"),
        (figure.add_subplot(1, 3, 3), cases["cases"], cases["seconds"], "scans in one call", "seconds"),
    ):
        axes.loglog(x, y, "o-", color="#0072b2", linewidth=1.4, markersize=4)
        axes.set_xlabel(label)
        axes.set_title(title, fontsize=10)
        axes.grid(which="both", alpha=0.25)
    slopes = [lines[name]["slope"] for name in ("time of sizes", "time of cases")]
    figure.suptitle(f"Slopes of the times beyond the start: {slopes[0]:.2f} and {slopes[1]:.2f}", fontsize=10)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="which, by the name of the file; all if none is named")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--scan", type=Path, help="what elastic bends, instead of an average head")
    args = parser.parse_args()
    pictures = {
        "hippocampus": lambda: hippocampus(args.data),
        "synthesis": lambda: synthesis(args.data),
        "scaling": scaling,
        "elastic": lambda: elastic(read_volume(args.scan) if args.scan else average()),
        **brains(args.data),
    }
    for name in args.names or [*pictures, "pages"]:
        if name == "pages":
            pages(args.data)
        else:
            (HERE / f"{name}.png").write_bytes(pictures[name]())


if __name__ == "__main__":
    main()
