"""Log-probabilities are those of the definition, however many outputs there are and however they lie."""

from __future__ import annotations

import pytest
import torch

from medseg.losses import outputs
from medseg.networks.layers import MEMORY_FORMATS


@pytest.mark.parametrize("layout", [torch.contiguous_format, MEMORY_FORMATS[3]])
@pytest.mark.parametrize("count", [2, outputs.VECTOR_FLOATS - 1, outputs.VECTOR_FLOATS])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_log_softmax_is_x_less_the_logarithm_of_the_sum(
    count: int, layout: torch.memory_format, kind: torch.dtype
) -> None:
    drawn = torch.randn(2, count, 3, 4, 5, generator=torch.Generator().manual_seed(count))
    logits = (30 * drawn).to(kind).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(2, 3, 4, 5, count, generator=torch.Generator().manual_seed(1))
    found = outputs.log_softmax(logits)
    (found * weights).sum().backward()

    exact = logits.detach().double().requires_grad_()
    wanted = (exact - exact.logsumexp(1, keepdim=True)).movedim(1, -1)
    (wanted * weights).sum().backward()
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=2e-5)
    assert logits.grad is not None
    tolerance = 1e-2 if kind == torch.bfloat16 else 1e-5
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=tolerance, atol=tolerance)
