"""Draw the pictures of the documentation.

    python docs/pictures.py --data ../shared/data              # all of them
    python docs/pictures.py --data ../shared/data synthesis    # one
    python docs/pictures.py elastic                            # needs no data, or takes --scan

The hippocampus is of a case that the packaged model was not trained on; the brains are real scans, which
the brain model never sees in training.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medseg.augment.preview import Drawn, Preview
from medseg.augment.spec import ELASTIC_PRESETS, SynthesisSpec
from medseg.augment.synthesis import Synthesiser
from medseg.cards import load_card, load_recipe
from medseg.io import read_volume
from medseg.preparation import Preparation, PreparationSpec
from medseg.report.draws import Column, Panel, draws_png, panel_of
from medseg.report.figures import overlay_png
from medseg.report.planes import planes
from medseg.report.views import window_of
from medseg.structures import from_labels
from medseg.training.split import make_split
from medseg.volume import Grid, Volume
from medseg.workflows.cases import read_case
from medseg.workflows.demo import mni152
from medseg.workflows.segment import Segmenter, load
from medseg.workflows.synthetic import SyntheticCases

HERE = Path(__file__).parent

SAMPLES, SAMPLE_VOXELS = 12, 176

ELASTIC_MM, ELASTIC_VOXELS, ELASTIC_SLICES, ELASTIC_SEED = 1.5, 128, 64, 22
ELASTIC_WORDS = {
    "unet2015": ("3 x 3 vectors, N(0, 10)", "bicubic; image"),
    "vnet2016": ("2 x 2 x 2 intervals, N(0, 15)", "B-spline; volume"),
    "unet3d2016": ("a vector every 32, N(0, 4)", "B-spline; volume"),
    "simard2003": ("noise, Gaussian of 4, times 34", "every pixel; image"),
}


def hippocampus(data: Path) -> bytes:
    """A held-out hippocampus: prediction solid, reference dashed."""
    card = load_card("hippocampus")
    files = {case.case_id: case for case in card.read(data / "hippocampus").cases}
    segmenter = load("hippocampus")
    training = segmenter.models[0].spec.training
    split = make_split(
        {name: case.group for name, case in files.items()},
        folds=training["folds"],
        fold=training["fold"],
        selection_share=0.1,
        seed=training["seed"],
    )
    volume, reference = read_case(files[split.validation[0]], card)
    found = segmenter(volume)
    return overlay_png(
        volume.array[0], found.labels.array, volume.grid, segmenter.structures, reference=reference.array
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
        labels = cases.training_case(files[n]).labels
        centre = [(size - 1) / 2 for size in labels.shape]
        image, _ = maker.draw(generator, torch.empty(0), labels, centre, (SAMPLE_VOXELS,) * 3)
        plane = np.take(image[0].numpy(), SAMPLE_VOXELS // 2, axis=(2, 1, 0)[n % 3])
        axes.imshow(plane.T[::-1, ::-1], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


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
        columns = columns or [Column("as it is", (), _grid_and_slice(plain))]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="which, by the name of the file; all if none is named")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--scan", type=Path, help="what elastic bends, instead of an average head")
    args = parser.parse_args()
    pictures = {
        "hippocampus": lambda: hippocampus(args.data),
        "synthesis": lambda: synthesis(args.data),
        "elastic": lambda: elastic(read_volume(args.scan) if args.scan else average()),
        **brains(args.data),
    }
    for name in args.names or pictures:
        (HERE / f"{name}.png").write_bytes(pictures[name]())


if __name__ == "__main__":
    main()
