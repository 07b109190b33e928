"""Augmentation as callables for pipelines, with the `Augmenter` that medseg trains with.

`ElasticDeformation`, `RandomAffine`, `RandomFlip` and `RandomIntensity` take tensors and arrays (C, *S),
dicts such as MONAI's, and subjects of TorchIO. Only the names listed here are public.

>>> import torch
>>> from medseg.augment import ElasticDeformation
>>> ElasticDeformation(seed=0)(torch.rand(1, 16, 16, 16)).shape
torch.Size([1, 16, 16, 16])
"""

from typing import TYPE_CHECKING

from medseg.core.lazy import lazy

if TYPE_CHECKING:
    from medseg.augment.transforms import (
        ElasticDeformation,
        RandomAffine,
        RandomFlip,
        RandomIntensity,
    )

__all__ = [
    "ElasticDeformation",
    "RandomAffine",
    "RandomFlip",
    "RandomIntensity",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ElasticDeformation": "medseg.augment.transforms",
        "RandomAffine": "medseg.augment.transforms",
        "RandomFlip": "medseg.augment.transforms",
        "RandomIntensity": "medseg.augment.transforms",
    },
)
