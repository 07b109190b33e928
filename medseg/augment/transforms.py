"""Augmentation as callables, for the pipelines of other libraries. Private: see `medseg.augment`.

Each draws its parameters first and applies them second, through the same `Augmenter` that our own training
uses, with one interpolation; image and labels go through one map.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from medseg.augment.compose import Augmenter
from medseg.augment.flip import LEFT_RIGHT
from medseg.augment.pipelines import encoded, image_of, keys_of, labels_of, like
from medseg.augment.spec import (
    ELASTIC_PRESETS,
    AffineSpec,
    AugmentSpec,
    BiasFieldSpec,
    BlurSpec,
    ContrastSpec,
    ElasticSpec,
    FlipSpec,
    GammaSpec,
    LinearSpec,
    LowResolutionSpec,
    NoiseSpec,
    Range,
)
from medseg.core.affine import checked_spacing
from medseg.core.affine import spacing_mm as spacing_of
from medseg.core.errors import UsageError, unknown_name
from medseg.core.keywords import hinted
from medseg.core.structures import StructureSet

T = TypeVar("T")
Spacing = tuple[float, float, float]

UNIT: Spacing = (1.0, 1.0, 1.0)


class Transform:
    """A change drawn again at each call, of a tensor, an array, a dict, or a subject of TorchIO.

    - A tensor or array is an image (C, I, J, K) or (C, I, J); the same kind comes back, float32.
    - A dict or a subject has images and labels, which go through one map; the labels are (1, *S) or (*S), of
      any type, and keep their values. A copy comes back, what has other keys untouched.

    The voxel size is `spacing_mm`, else that of a MONAI `MetaTensor` or a TorchIO image, else 1 mm.

    Args:
        spec: what may happen.
        seed: of this transform's own sequence of changes; None draws from torch's global generator, which
            the workers of a `DataLoader` seed differently.
        spacing_mm: of the voxels along each axis.
        image_keys, label_keys: of a dict; those it lacks are left out.
        swap: pairs of label values that are swapped when left and right are.
    """

    def __init__(
        self,
        spec: AugmentSpec,
        *,
        seed: int | None = None,
        spacing_mm: Sequence[float] | None = None,
        image_keys: Sequence[str] = ("image",),
        label_keys: Sequence[str] = ("label",),
        swap: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.spec = spec
        self.spacing_mm = None if spacing_mm is None else checked_spacing(spacing_mm, 2, 3)
        self.image_keys, self.label_keys = keys_of(image_keys), keys_of(label_keys)
        self.swap = {a: b for left, right in swap for a, b in ((left, right), (right, left))}
        self.generator: torch.Generator | None = None
        self.set_seed(seed)

    def set_seed(self, seed: int | None) -> None:
        """Begin the sequence of changes that belongs to a seed; None for torch's global generator."""
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __call__(self, data: T) -> T:
        """The data, changed.

        Raises:
            UsageError: an image has other axes than (C, I, J, K) or (C, I, J), a dict has no image, images
                and labels differ in shape, or there are more than 255 labels.
        """
        found: Any = data
        if hasattr(found, "get_images_dict"):
            found = self._subject(found)
        elif isinstance(found, Mapping):
            found = self._mapping(found)
        else:
            found = self._changed([found], [], self._spacing(found))[0][0]
        changed: T = found
        return changed

    def _mapping(self, data: Any) -> Any:
        images = [key for key in self.image_keys if key in data]
        labels = [key for key in self.label_keys if key in data]
        if not images:
            raise UsageError(
                f"none of {', '.join(map(str, data))} is an image", hint="name the images with image_keys="
            )
        first = data[images[0]]
        spacing = self._spacing(first)
        moved, cut = self._changed([data[k] for k in images], [data[k] for k in labels], spacing)
        out: MutableMapping[Any, Any] = copy(data) if isinstance(data, MutableMapping) else dict(data)
        for key, value in zip((*images, *labels), (*moved, *cut), strict=True):
            out[key] = value
        return out

    def _subject(self, subject: Any) -> Any:
        """A subject of TorchIO, by what its images can do: `data`, `type`, `set_data`."""
        out = copy(subject)
        found = dict(out.get_images_dict(intensity_only=False))
        labels = [name for name, image in found.items() if str(image.type) == "label"]
        images = [name for name in found if name not in labels]
        if not images:
            raise UsageError("the subject contains labels but no image")
        spacing = self._spacing(found[images[0]])
        moved, cut = self._changed([found[n].data for n in images], [found[n].data for n in labels], spacing)
        for name, value in zip((*images, *labels), (*moved, *cut), strict=True):
            image = copy(found[name])
            image.set_data(value)
            out[name] = image
        return out

    def _spacing(self, image: Any) -> Spacing:
        """Of an image that may state its affine."""
        if self.spacing_mm is not None:
            a, b, c = (*self.spacing_mm, *UNIT)[:3]
            return a, b, c
        affine = getattr(image, "affine", None)
        if affine is None or tuple(np.shape(affine)) != (4, 4):
            return UNIT
        return spacing_of(np.asarray(affine, dtype=np.float64))

    def _changed(
        self, images: Sequence[Any], labels: Sequence[Any], spacing: Spacing
    ) -> tuple[list[Any], list[Any]]:
        """Images and labels through one map: the images' channels together, the labels one by one."""
        volumes = [image_of(image) for image in images]
        shapes = {tuple(v.shape[1:]) for v in volumes}
        maps = [labels_of(label, volumes[0]) for label in labels]
        if len(shapes | {tuple(m.shape) for m in maps}) > 1:
            raise UsageError(f"images and labels differ in shape: {sorted(shapes)}")
        whole = torch.cat(volumes)
        augmenter = Augmenter(self.spec, StructureSet(), spacing)
        shape = tuple(whole.shape[1:])
        params = augmenter.sample(self._drawing(), shape, len(whole))
        centre = [(n - 1) / 2 for n in shape]
        moved, _ = augmenter.apply(params, whole, None, centre, shape)
        parts = torch.split(moved, [len(v) for v in volumes])
        cut = []
        for indices in maps:
            values, places = encoded(indices)
            _, moved_labels = augmenter.apply(params, whole[:1], places, centre, shape)
            wanted = self._swapped(values) if LEFT_RIGHT in params.flips else values
            cut.append(wanted[(places if moved_labels is None else moved_labels).long()])
        return (
            [like(part, image) for part, image in zip(parts, images, strict=True)],
            [like(found, label) for found, label in zip(cut, labels, strict=True)],
        )

    def _drawing(self) -> torch.Generator:
        if self.generator is not None:
            return self.generator
        return torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def _swapped(self, values: Tensor) -> Tensor:
        return torch.tensor([self.swap.get(v, v) for v in values.tolist()], dtype=values.dtype)


class ElasticDeformation(Transform):
    """A smooth random deformation that never folds: cubic B-splines on a lattice of control points.

    Args:
        probability: how often it is applied, in [0, 1].
        spacing_control_mm: distance between control points.
        sigma_mm: range of the standard deviation of a control point's displacement, per axis.
        min_jacobian: smallest Jacobian determinant a field may have.
        preset: a deformation as published instead: "unet2015", "vnet2016", "unet3d2016" or "simard2003".
        others: see `Transform`.

    References:
        Rueckert et al. 1999, doi:10.1109/42.796284.

    >>> import torch
    >>> from medseg.augment import ElasticDeformation
    >>> bend = ElasticDeformation(sigma_mm=(4.0, 6.0), seed=1)
    >>> data = {"image": torch.rand(1, 24, 24, 16), "label": torch.ones(1, 24, 24, 16, dtype=torch.int64)}
    >>> bent = bend(data)
    >>> bent["image"].shape, bent["label"].dtype
    (torch.Size([1, 24, 24, 16]), torch.int64)
    """

    @hinted
    def __init__(
        self,
        *,
        probability: float = 1.0,
        spacing_control_mm: float = 24.0,
        sigma_mm: Range = (0.0, 6.0),
        min_jacobian: float = 0.2,
        preset: str | None = None,
        seed: int | None = None,
        spacing_mm: Sequence[float] | None = None,
        image_keys: Sequence[str] = ("image",),
        label_keys: Sequence[str] = ("label",),
    ) -> None:
        if preset is not None and preset not in ELASTIC_PRESETS:
            raise unknown_name("elastic deformation", preset, ELASTIC_PRESETS)
        own = ElasticSpec(probability, spacing_control_mm, sigma_mm, min_jacobian)
        super().__init__(
            AugmentSpec(elastic=preset or own),
            seed=seed,
            spacing_mm=spacing_mm,
            image_keys=image_keys,
            label_keys=label_keys,
        )


class RandomAffine(Transform):
    """Rotation, scaling, shear and translation around the centre, in mm.

    Args:
        probability: how often it is applied, in [0, 1].
        rotation_degrees: largest angle around each axis.
        scale: range of the zoom, drawn log-uniformly.
        isotropic: one zoom for all axes, else one each.
        shear: largest shear between two axes, a ratio.
        translation_mm: largest shift along each axis.
        others: see `Transform`.

    >>> import numpy as np
    >>> from medseg.augment import RandomAffine
    >>> RandomAffine(rotation_degrees=(0.0, 0.0, 30.0), seed=1)(np.zeros((1, 16, 16, 8), np.float32)).shape
    (1, 16, 16, 8)
    """

    @hinted
    def __init__(
        self,
        *,
        probability: float = 1.0,
        rotation_degrees: Spacing = (15.0, 15.0, 15.0),
        scale: Range = (0.8, 1.25),
        isotropic: bool = True,
        shear: float = 0.0,
        translation_mm: Spacing = (0.0, 0.0, 0.0),
        seed: int | None = None,
        spacing_mm: Sequence[float] | None = None,
        image_keys: Sequence[str] = ("image",),
        label_keys: Sequence[str] = ("label",),
    ) -> None:
        spec = AffineSpec(probability, rotation_degrees, scale, isotropic, shear, translation_mm)
        super().__init__(
            AugmentSpec(affine=spec),
            seed=seed,
            spacing_mm=spacing_mm,
            image_keys=image_keys,
            label_keys=label_keys,
        )


class RandomFlip(Transform):
    """Mirror images along axes; labels of left and right can be swapped with it.

    Args:
        axes: spatial axes that may be flipped.
        probability: how often each is, in [0, 1].
        swap: pairs of label values that are swapped when axis 0, left and right, is flipped.
        others: see `Transform`.

    >>> import torch
    >>> from medseg.augment import RandomFlip
    >>> flip = RandomFlip(axes=(0,), probability=1.0, swap=[(1, 2)])
    >>> label = torch.tensor([1, 1, 0, 2]).reshape(1, 4, 1, 1)
    >>> flip({"image": torch.zeros(1, 4, 1, 1), "label": label})["label"].flatten().tolist()
    [1, 0, 2, 2]
    """

    @hinted
    def __init__(
        self,
        *,
        axes: Sequence[int] = (0, 1, 2),
        probability: float = 0.5,
        swap: Sequence[tuple[int, int]] = (),
        seed: int | None = None,
        image_keys: Sequence[str] = ("image",),
        label_keys: Sequence[str] = ("label",),
    ) -> None:
        super().__init__(
            AugmentSpec(flip=FlipSpec(tuple(axes), probability)),
            seed=seed,
            image_keys=image_keys,
            label_keys=label_keys,
            swap=swap,
        )


class RandomIntensity(Transform):
    """Blur, low resolution, bias field, gamma, contrast and brightness, noise: each drawn independently.

    Each argument is the share of calls in which the change is made, 0 for never.

    Args:
        blur: Gaussian, of 0.3 to 1.2 mm.
        low_resolution: averages over voxels up to twice as thick along one axis, interpolated back.
        bias_field: a smooth multiplicative field.
        gamma: a contrast curve t ** gamma on intensities scaled to [0, 1], gamma from 0.7 to 1.5.
        linear: contrast from 0.75 to 1.25, and brightness by up to 0.1.
        noise: Gaussian, of a standard deviation up to `noise_sigma`.
        noise_sigma: range of that standard deviation, in the units of the image.
        others: see `Transform`. Labels do not change.

    >>> import torch
    >>> from medseg.augment import RandomIntensity
    >>> RandomIntensity(noise=1.0, seed=1)(torch.zeros(2, 8, 8, 8)).std() > 0
    tensor(True)
    """

    @hinted
    def __init__(
        self,
        *,
        blur: float = 0.0,
        low_resolution: float = 0.0,
        bias_field: float = 0.0,
        gamma: float = 0.0,
        linear: float = 0.0,
        noise: float = 0.0,
        noise_sigma: Range = (0.0, 0.2),
        axes: Literal["all", "one"] = "one",
        seed: int | None = None,
        spacing_mm: Sequence[float] | None = None,
        image_keys: Sequence[str] = ("image",),
        label_keys: Sequence[str] = ("label",),
    ) -> None:
        contrast = ContrastSpec(
            BlurSpec(blur),
            LowResolutionSpec(low_resolution, axes=axes),
            BiasFieldSpec(bias_field),
            GammaSpec(gamma),
            LinearSpec(linear),
            NoiseSpec(noise, noise_sigma),
        )
        super().__init__(
            AugmentSpec(contrast=contrast),
            seed=seed,
            spacing_mm=spacing_mm,
            image_keys=image_keys,
            label_keys=label_keys,
        )
