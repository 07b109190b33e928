"""`medseg info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli import options as opt
from medseg.cli.terminal import result, say, table
from medseg.core.errors import printable

if TYPE_CHECKING:
    from medseg.model.file import Model


def command(
    path: Annotated[
        str, typer.Argument(help="A scan, a DICOM folder, a model (file or name), or the folder of a run.")
    ],
    use_form: opt.UseForm = None,
    assume_ras: opt.AssumeRas = False,
    series: opt.Series = None,
    as_json: opt.Json = False,
) -> None:
    """Show the header of a scan or the description of a model. Does not read voxels."""
    models = _models(path)
    found = [_model(model) for model in models] or [_image(Path(path), use_form, assume_ras, series)]
    if len(models) > 1:
        found = [{"file": str(model)} | facts for model, facts in zip(models, found, strict=True)]
    if as_json:
        result(json.dumps(found[0] if len(found) == 1 else found))
        return
    for number, facts in enumerate(found):
        if number:
            result("")
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    """One fact a line, and the scores as a table."""
    scores = facts.pop("evidence", {}).get("validation", ())  # as the file holds them
    width = max(map(len, facts))
    for name, value in facts.items():
        if name != "warnings":
            text = value if isinstance(value, str) else json.dumps(value)
            result(printable(f"{name:{width}}  {text}"))
    if scores:
        result(_scores(scores))
        say("These are means over cases not used in training; --json prints the whole description.")
    for warning in facts.get("warnings", ()):
        say(f"warning: {warning}")


def _scores(rows: list[dict[str, Any]]) -> str:
    """One line a structure: its label's scores."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    found = {(row["structure"], row["metric"]): row for row in rows}
    head = ("structure", "n", *metrics)
    lines = [head]
    for structure in dict.fromkeys(row["structure"] for row in rows):
        row = [found.get((structure, metric), {}) for metric in metrics]
        values = (r.get("mean") for r in row)
        cells = ("n/a" if value is None else f"{value:.3f}" for value in values)
        lines.append((structure, str(row[0].get("n", "")), *cells))
    return table(lines)


def _models(path: str) -> tuple[str | Path, ...]:
    """The models that a word means: one, those of a run's folds, or none, as of a scan."""
    from medseg.model.file import models_of_run, packaged_models

    if path.endswith(".safetensors"):
        return (path,)
    if Path(path).exists():
        return models_of_run(Path(path))
    return (path,) if path in packaged_models() else ()


def _image(path: Path, use_form: str | None, assume_ras: bool, series: str | None) -> dict[str, Any]:
    from medseg.io import inspect

    found = inspect(path, options=opt.reading(use_form, assume_ras, series=series))
    return {
        "format": found.format,
        "shape": " x ".join(map(str, found.shape)),
        "channels": found.channels,
        "spacing_mm": " x ".join(f"{s:.4g}" for s in found.spacing_mm),
        "orientation": found.axis_codes,
        "stored_as": found.dtype,
        "affine": [[round(float(v), 6) for v in row] for row in found.grid.affine],
        "warnings": list(found.warnings),
    }


def _model(name: str | Path) -> dict[str, Any]:
    from medseg.core import specs
    from medseg.model.file import load_model

    model = load_model(name)
    spec = model.spec
    return {
        "name": spec.name,
        "recipe": spec.training.recipe or "",
        "sha256": model.sha256,
        "network": spec.network.name,
        "parameters": int(sum(w.size for w in model.weights.values())),
        "channels": list(spec.channels),
        "structures": {s.name: s.value for s in spec.structures},
        "trained_on": spec.training.dataset or "",
        "licence_of_data": spec.training.licence_of_data or "",
        **({} if model.coarse is None else {"coarse_stage": _stage(model.coarse)}),
        "evidence": json.loads(json.dumps(specs.to_mapping(spec.evidence), sort_keys=True)),
    }


def _stage(coarse: Model) -> dict[str, Any]:
    """What a cascade's coarse stage is."""
    spec = coarse.spec
    dice = {row.structure: row.mean for row in spec.evidence.validation or () if row.metric == "dice"}
    return {
        "sha256": coarse.sha256,
        "network": spec.network.name,
        "parameters": int(sum(w.size for w in coarse.weights.values())),
        "spacing_mm": spec.preparation.spacing_mm,
        "dice": {name: None if mean is None else round(mean, 3) for name, mean in dice.items()},
    }
