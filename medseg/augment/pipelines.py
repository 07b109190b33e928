"""Images and labels of pipelines as the tensors that an `Augmenter` takes, and back. Private."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg.core.errors import UsageError

INDICES = 256
"""Labels a map may hold while it is moved: they are bytes then."""


def keys_of(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys; a single one may be given as text."""
    return (keys,) if isinstance(keys, str) else tuple(keys)


def _tensor(data: Any) -> Tensor:
    plain = data.as_tensor() if hasattr(data, "as_tensor") else data
    return plain if isinstance(plain, Tensor) else torch.from_numpy(np.ascontiguousarray(plain))


def image_of(image: Any) -> Tensor:
    """An image as (C, I, J, K) float32 on the CPU."""
    tensor = _tensor(image).detach()
    if tensor.ndim not in (3, 4):
        raise UsageError(f"an image must have the shape (C, I, J, K) or (C, I, J), not {tuple(tensor.shape)}")
    return (tensor if tensor.ndim == 4 else tensor.unsqueeze(-1)).cpu().float()


def labels_of(label: Any, image: Tensor) -> Tensor:
    """Labels as (I, J, K)."""
    tensor = _tensor(label).detach().cpu()
    flat = tensor.numel() == image[0].numel()
    if not flat or tuple(n for n in tensor.shape if n > 1) != tuple(n for n in image.shape[1:] if n > 1):
        raise UsageError(
            f"labels of shape {tuple(tensor.shape)} do not fit the image of shape {tuple(image.shape)}"
        )
    return tensor.reshape(image.shape[1:])


def encoded(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The values of labels, background first, and each voxel's place among them."""
    found, places = torch.unique(labels, return_inverse=True)
    values = torch.cat((found.new_zeros(1), found[found != 0]))
    if len(values) > INDICES:
        raise UsageError(f"a label map may contain at most {INDICES - 1} labels, not {len(values) - 1}")
    index = (found != 0).cumsum(0) * (found != 0)
    return values, index[places].to(torch.uint8)


def like(found: Tensor, given: Any) -> Any:
    """What was found in the shape, place and kind of what was given; an image stays float32."""
    shaped = found.reshape(given.shape)
    if not isinstance(given, Tensor):
        return shaped.numpy()
    placed = shaped.to(given.device)
    if hasattr(given, "copy_meta_from"):
        return type(given)(placed).copy_meta_from(given)  # type: ignore[attr-defined]
    return placed
