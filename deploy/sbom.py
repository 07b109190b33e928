"""The bill of materials, in CycloneDX 1.6: what an environment holds, the packaged models, and their data.

The distributions are listed by cyclonedx-py; the models are added here, for they are files of medseg's wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_supported_id
from cyclonedx.validation.json import JsonStrictValidator

from medseg import __version__
from medseg.core.software import INTENDED_USE
from medseg.model.file import Model, load_model, packaged_models

ROOT = Path(__file__).parents[1]
LISTED = ("--pyproject", str(ROOT / "pyproject.toml"), "--spec-version", "1.6", "--output-reproducible")


def distributions(python: Path) -> dict[str, Any]:
    """What the environment of a Python holds, medseg being what it is for."""
    run = [sys.executable, "-m", "cyclonedx_py", "environment", *LISTED, str(python)]
    listed = subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout
    bom: dict[str, Any] = json.loads(listed)
    return bom


def with_models(bom: dict[str, Any]) -> dict[str, Any]:
    """The bill with the packaged models and the data that they learnt from, as parts of medseg."""
    root = bom["metadata"]["component"]
    root["purl"] = f"pkg:pypi/medseg@{__version__}"
    (of_root,) = (entry for entry in bom["dependencies"] if entry["ref"] == root["bom-ref"])
    for name in packaged_models():
        model = load_model(name)
        data, learnt = _data(name, model), _model(name, model)
        bom["components"] += [learnt, data]
        bom["dependencies"] += [
            {"ref": learnt["bom-ref"], "dependsOn": [data["bom-ref"]]},
            {"ref": data["bom-ref"]},
        ]
        of_root["dependsOn"] = [*of_root.get("dependsOn", ()), learnt["bom-ref"]]
    return bom


def _model(name: str, model: Model) -> dict[str, Any]:
    spec = model.spec
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{name}",
        "name": name,
        "version": __version__,
        "description": f"labels {len(spec.structures)} structures; a file of medseg's wheel",
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "licenses": _licences(model),
        "externalReferences": [{"type": "model-card", "url": f"docs/models/{name}.md"}],
        "modelCard": {
            "modelParameters": {
                "task": "segmentation of 3D medical scans",
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": spec.network.name,
                "datasets": [{"ref": f"data:{name}"}],
            },
            "considerations": {"useCases": [INTENDED_USE]},
        },
    }


def _data(name: str, model: Model) -> dict[str, Any]:
    made = model.spec.training
    about = {"name": made.source_of_data, "description": made.dataset}
    return {
        "type": "data",
        "bom-ref": f"data:{name}",
        **about,
        "licenses": _licences(model),
        "data": [{"type": "dataset", **about}],
    }


def _licences(model: Model) -> list[dict[str, Any]]:
    """The licence of the data, which is the model's too, by its SPDX identifier where it has one."""
    stated = str(model.spec.training.licence_of_data)
    spdx = stated.replace(" ", "-")
    return [{"license": {"id": spdx} if is_supported_id(spdx) else {"name": stated}}]


def text(bom: dict[str, Any]) -> str:
    """The bill as JSON.

    Raises:
        ValueError: it is not as the schema of CycloneDX demands.
    """
    written = json.dumps(bom, indent=1, sort_keys=True) + "\n"
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    if fault is not None:
        raise ValueError(f"the bill of materials is not valid: {fault}")
    return written
