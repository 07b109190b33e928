"""Each published network is trained through the command line, packaged, and predicts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from commands import done
from small_networks import SMALL

from medseg.data.phantom import write_phantom_dataset

STEPS = 100
THIN: dict[str, Any] = {"widths": (8, 16, 32)}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, settings) for name, settings in SMALL.items()},
    "attention": ("unet3d", {**THIN, "scales": (0.5, 1.0)}),
    "explicit": ("unet3d", {**THIN, "scales": (0.5, 1.0), "fusion": "explicit"}),
    "crf_rnn": ("unet3d", {**THIN, "crf_rnn": 3}),
}
"""Name and settings, by what is tested."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(folder, cases=4, shape=(32, 32, 32))
    return folder


def value(setting: Any) -> str:
    """As TOML writes it."""
    if isinstance(setting, str):
        return f'"{setting}"'
    return f"[{', '.join(map(value, setting))}]" if isinstance(setting, Iterable) else str(setting)


def recipe(name: str, settings: dict[str, Any], dims: int) -> str:
    settings = dict(settings)
    widths = f"widths = {value(settings.pop('widths'))}" if "widths" in settings else ""
    options = ", ".join(f"{key} = {value(setting)}" for key, setting in settings.items())
    slices = '[slices]\naxes = [2]\n\n[inference]\nstrategy = "sliding_window"\n' if dims == 2 else ""
    return f"""
name = "{name}"
card = "phantom"

[network]
name = "{name}"
spatial_dims = {dims}
{widths}
options = {{ {options} }}
{slices}
[training]
patch = [{"32, 32, 32" if dims == 3 else "64, 64, 1"}]
batch = 2
epochs = 2
steps_per_epoch = {STEPS // 2}
learning_rate = 3e-3
warmup_steps = 10
"""


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_published_network_is_trained(name: str, dims: int, phantoms: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(recipe(*NETWORKS[name], dims))
    run = tmp_path / "run"
    done("train", path, "--data", phantoms, "-o", run, "--threads", 1, "-q")
    losses = [float(line.split(",")[1]) for line in (run / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]
    scan = phantoms / "imagesTr" / "phantom_000.nii.gz"
    done("predict", scan, "-m", run / "model.safetensors", "-o", tmp_path / "out", "--threads", 1, "-q")
    assert list((tmp_path / "out").glob("*_seg.nii.gz"))
