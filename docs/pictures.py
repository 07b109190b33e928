"""Draw the pictures of the documentation from real scans.

    python docs/pictures.py --data ../shared/data

The hippocampus is of a case that the packaged model was not trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from medseg.cards import load_card
from medseg.report.figures import overlay_png
from medseg.training.split import make_split
from medseg.workflows.cases import read_case
from medseg.workflows.segment import load

HERE = Path(__file__).parent


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    (HERE / "hippocampus.png").write_bytes(hippocampus(data))


if __name__ == "__main__":
    main()
