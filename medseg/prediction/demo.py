"""`medseg demo`: the packaged brain model on a real average head that needs no download."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.core.extras import optional_packages
from medseg.core.volume import FileForm, Grid
from medseg.io import read_labels, read_volume, write_image
from medseg.io.atomic import atomic_write
from medseg.model.file import DEFAULT_MODEL
from medseg.prediction.job import Outcome, PredictOptions
from medseg.prediction.predict import predict
from medseg.reporting.drawing.figures import overlay_png
from medseg.segmentation.member import SegmenterOptions
from medseg.segmentation.segmenter import Loader

SCAN = "mni152_t1.nii.gz"


@dataclass(frozen=True)
class Demo:
    """The files of a demonstration."""

    outcome: Outcome
    files: tuple[Path, ...]


def demo(out: Path, *, threads: int = 0, overwrite: bool = False) -> Demo:
    """Write the scan, segment it, and draw three planes of the result.

    Args:
        out: a folder.
        threads: of the processor; 0 takes what there is.
        overwrite: replace the files of a demo of before.

    Raises:
        UsageError: nilearn, whose wheel holds the scan, is not installed.
        MedsegError: as `predict` raises.
    """
    scan, picture = out / SCAN, out / SCAN.replace(".nii.gz", "_seg.png")
    image, grid = mni152()
    out.mkdir(parents=True, exist_ok=True)
    write_image(scan, image, grid, form=FileForm(), overwrite=overwrite)
    segmenter = Loader((DEFAULT_MODEL,), SegmenterOptions(threads=threads))()
    options = PredictOptions(report=True, overwrite=overwrite)
    (outcome,) = predict([str(scan)], lambda: segmenter, None, options)
    labels = read_labels(outcome.target)
    drawn = overlay_png(
        read_volume(scan).array[0], labels.array, labels.grid, segmenter.structures, closeup=False
    )
    with atomic_write(picture, overwrite=overwrite) as temporary:
        temporary.write_bytes(drawn)
    outputs = options.outputs(outcome.target)
    written = (scan, outputs.labels, outputs.summary, outputs.report, picture)
    return Demo(outcome, tuple(path for path in written if path is not None))


def mni152() -> tuple[np.ndarray[tuple[int, int, int], np.dtype[np.float32]], Grid]:
    """The MNI152 average T1, skull-stripped, 1 mm: image (I, J, K) and where it lies.

    ICBM 2009a nonlinear symmetric (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033), as it comes
    in nilearn's wheel.

    Raises:
        MissingPackageError: nilearn is not installed.
    """
    with optional_packages(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=1)
    image = np.asarray(template.dataobj, dtype=np.float32)
    return image, Grid(image.shape, template.affine)
