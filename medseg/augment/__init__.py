"""Augmentation: callables for pipelines, and the `Augmenter` of our own training underneath.

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
    from medseg.augment.compose import Augmenter, Params
    from medseg.augment.spec import AffineSpec, AugmentSpec, ContrastSpec, ElasticSpec, FlipSpec
    from medseg.augment.transforms import (
        ElasticDeformation,
        RandomAffine,
        RandomFlip,
        RandomIntensity,
        Transform,
    )

__all__ = [
    "AffineSpec",
    "AugmentSpec",
    "Augmenter",
    "ContrastSpec",
    "ElasticDeformation",
    "ElasticSpec",
    "FlipSpec",
    "Params",
    "RandomAffine",
    "RandomFlip",
    "RandomIntensity",
    "Transform",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AffineSpec": "medseg.augment.spec",
        "AugmentSpec": "medseg.augment.spec",
        "Augmenter": "medseg.augment.compose",
        "ContrastSpec": "medseg.augment.spec",
        "ElasticDeformation": "medseg.augment.transforms",
        "ElasticSpec": "medseg.augment.spec",
        "FlipSpec": "medseg.augment.spec",
        "Params": "medseg.augment.compose",
        "RandomAffine": "medseg.augment.transforms",
        "RandomFlip": "medseg.augment.transforms",
        "RandomIntensity": "medseg.augment.transforms",
        "Transform": "medseg.augment.transforms",
    },
)
