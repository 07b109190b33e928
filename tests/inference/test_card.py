"""Answers summed where the network is: tried on the CPU, which stands in for an accelerator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from medseg.core.errors import ResourceError, SelfCheckError
from medseg.inference.engines.base import CardEngine, FloatArray
from medseg.inference.engines.torch import TorchEngine
from medseg.inference.predictor import Predictor
from medseg.model.spec import NetworkSpec
from medseg.networks import registry

IMAGE = np.random.default_rng(0).normal(size=(1, 37, 30, 29)).astype(np.float32)


class Card(TorchEngine):
    """Runs on the CPU and says it is an accelerator."""

    on_card = True
    room = 4
    has_room_for_sums = True

    def __init__(self) -> None:
        torch.manual_seed(0)
        spec = NetworkSpec("unet3d", 1, 3, widths=(4, 8), norm="batch")
        super().__init__(registry.build(spec).eval(), threads=1)
        self.batches: list[int] = []
        self.calls = 0

    def there(self, tiles: FloatArray) -> torch.Tensor:
        if len(tiles) > self.room:
            raise ResourceError("no room")
        self.batches.append(len(tiles))
        return super().there(tiles)

    def adopt(self, array: FloatArray) -> torch.Tensor:
        if not self.has_room_for_sums:
            raise ResourceError("no room for sums")
        return super().adopt(array)

    def batch_for(self, tile: Sequence[int], maps: int) -> int:
        return 8

    def __call__(self, tiles: FloatArray) -> FloatArray:
        self.calls += 1
        return super().__call__(tiles)


def predictor(engine: TorchEngine, strategy: str) -> Predictor:
    return Predictor(
        engines=[engine],
        stride=(2, 2, 2),
        radius=(6, 6, 6),
        tile_independent=True,
        tile=(16, 16, 16),
        strategy=strategy,  # type: ignore[arg-type]
        max_voxels=24**3,
    )


@pytest.fixture(scope="module")
def plain() -> TorchEngine:
    return TorchEngine(Card()._network, threads=1)


@pytest.mark.parametrize("strategy", ["sliding_window", "overlap_tile"])
def test_sums_on_the_card_are_those_of_the_host(plain: TorchEngine, strategy: str) -> None:
    card = Card()
    assert isinstance(card, CardEngine)
    found = predictor(card, strategy).probabilities(IMAGE)
    np.testing.assert_allclose(found, predictor(plain, strategy).probabilities(IMAGE), atol=1e-5)
    assert card.calls == 0
    assert len(card.batches) < len(predictor(card, strategy).plan(IMAGE.shape[1:]).tiles)


def test_batches_shrink_until_they_fit(plain: TorchEngine) -> None:
    card = Card()
    card.room = 3
    found = predictor(card, "sliding_window").probabilities(IMAGE)
    np.testing.assert_allclose(found, predictor(plain, "sliding_window").probabilities(IMAGE), atol=1e-5)
    assert max(card.batches) == 2
    assert sum(card.batches) == len(predictor(card, "sliding_window").plan(IMAGE.shape[1:]).tiles)


@pytest.mark.parametrize(("sums", "room"), [(False, 4), (True, 0)])
def test_without_room_on_the_card_the_host_sums(plain: TorchEngine, sums: bool, room: int) -> None:
    card = Card()
    card.has_room_for_sums, card.room = sums, room
    found = predictor(card, "sliding_window").probabilities(IMAGE)
    np.testing.assert_array_equal(found, predictor(plain, "sliding_window").probabilities(IMAGE))
    assert card.calls > 0


def test_an_answer_that_is_not_finite_is_found_on_the_card_too() -> None:
    card = Card()
    with torch.no_grad():
        card._network.head.bias.fill_(float("nan"))
    with pytest.raises(SelfCheckError, match="not finite"):
        predictor(card, "sliding_window").probabilities(IMAGE)


def test_a_processor_is_no_card(plain: TorchEngine) -> None:
    assert not plain.on_card
    assert plain.batch_for((96, 96, 96), 192) == 1
