"""`medseg phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import say

CARDS = {
    "decathlon": "phantom",
    "promise12": "promise12",
    "prostatex": "prostatex",
    "brats": "brats",
    "brats2013": "brats",
    "brats2020": "brats",
    "brats2023": "brats",
    "label_maps": "brain",
    "touching": "bodies",
    "lesions": "lesions",
}
"""By layout of phantoms, the card that describes them."""

RECIPES = {
    "phantom": "phantom_unet3d",
    "promise12": "promise12_vnet",
    "brats": "brats_unet3d",
    "brain": "brain",
    "bodies": "phantom_instances",
    "lesions": "lesions_instances",
}
"""By card, a recipe of it."""


def command(
    out: Annotated[Path, typer.Argument(help="Folder for a dataset, or a file for one scan.")],
    cases: Annotated[int, typer.Option("--cases", min=3, help="Write this many cases.")] = 16,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="Write this layout. decathlon, nnunet, masks and images show heads, promise12 and prostatex "
            "pelves, brats, brats2013, brats2020 and brats2023 tumours, touching bodies and lesions "
            "lesions with a map of instances; label_maps has no scans.",
        ),
    ] = "decathlon",
    overwrite: opt.Overwrite = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Use this random seed.")] = 0,
) -> None:
    """Write phantoms: synthetic scans to try medseg with."""
    from medseg.data.phantom import write_phantom_scan, write_phantoms
    from medseg.io import format_of

    if format_of(out).is_image:
        write_phantom_scan(out, seed=seed, overwrite=overwrite)
        say(f"wrote one phantom scan to {out}")
    else:
        write_phantoms(out, layout, cases, seed, overwrite=overwrite)
        say(f"wrote {cases} phantom cases to {out}")
        say(_next(layout, out))


def _next(layout: str, out: Path) -> str:
    """The next command for the phantoms: train a recipe with their layout, or write card and recipe."""
    from medseg.data.cards import available

    card = CARDS.get(layout)
    if card is None:
        near = available("datasets")["phantom"]
        recipe = "slices_unet2d" if layout == "images" else "phantom_unet3d"
        return (
            f"medseg train --data {out} -o RUN; no packaged card has this layout: for a recipe, copy {near} "
            f'with layout = "{layout}", and the recipe {recipe} with card = "YOURS.toml"'
        )
    recipe = RECIPES.get(card, "")
    return (
        f"medseg train {recipe} --data {out} -o RUN"
        if recipe
        else f"their card is {card}: medseg check {out}"
    )
