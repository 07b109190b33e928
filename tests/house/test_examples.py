"""The examples of the documentation run, and reach what they promise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_plain_loop_of_torch() -> None:
    scores = example("torch_loop").main()
    assert list(scores) == ["small ball", "large ball"]
    for name in scores:
        assert scores[name].dice is not None
        assert scores[name].dice > 0.8


@pytest.mark.filterwarnings("ignore")
def test_the_pipeline_of_monai() -> None:
    assert example("monai_pipeline").main() > 0.8


def test_the_module_of_lightning() -> None:
    """Its methods are called as a trainer calls them; Lightning itself is not needed."""
    module = example("lightning_module")
    torch.manual_seed(0)
    segmentation = module.Segmentation()
    logged: dict[str, float] = {}
    segmentation.log = lambda name, value, **_: logged.__setitem__(
        name, float(torch.as_tensor(value).detach())
    )
    label = torch.zeros(2, 1, 16, 16, 16, dtype=torch.int64)
    label[:, :, 4:11, 5:12, 4:10] = 1
    batch = {"image": label + 0.2 * torch.randn(label.shape), "label": label}
    optimiser = segmentation.configure_optimizers()
    for step in range(25):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = segmentation.training_step(batch, step)
        assert loss.dtype == torch.float32
        loss.backward()
        optimiser.step()
    segmentation.eval()
    segmentation.validation_step(batch, 0)
    assert logged["dice"] > 0.8
