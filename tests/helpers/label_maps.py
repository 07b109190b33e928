"""A card and a recipe for label maps without images, and phantoms to use them on."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from medseg.data.phantom import phantom_case

CARD = """
name = "maps"
description = "Made-up heads, labels alone"
layout = "label_maps"
channels = ["MR"]
licence = "none"
source = "medseg phantom"

tissues = [
  { value = 1, intensity_class = 1, target = 1, like = "grey" },
  { value = 2, intensity_class = 1, target = 2, like = "grey" },
  { value = 3, intensity_class = 2, target = 3, like = "white" },
  { value = 30, intensity_class = 3, target = 3 },
  { value = 515, intensity_class = 4, like = "bone" },
]

[[structures]]
value = 1
name = "left lobe"

[[structures]]
value = 2
name = "right lobe"

[[structures]]
value = 3
name = "core"
"""

RECIPE = """
name = "tiny_maps"
card = "maps.toml"
description = "Seconds on one core"
weights = "float16"

[network]
name = "fast_unet"
widths = [4, 8]
norm = "batch"

[preparation]
spacing_mm = [2.0, 2.0, 2.0]

[synthesis]
curriculum = 0.5

[training]
patch = [16, 16, 16]
batch = 2
epochs = 2
steps_per_epoch = 2
warmup_steps = 2
frozen_norm_share = 0.5
sampled_loss = true
selection_share = 0.2
precision = "f32"
"""

SHAPE = (40, 40, 40)


def write_map(path: Path, seed: int) -> None:
    """A phantom's labels in a shell of bone, with a speck of another tissue in its core."""
    _, labels = phantom_case(np.random.default_rng(seed), SHAPE)
    array = labels.array.astype(np.int16)
    shell = ndimage.binary_dilation(array > 0, iterations=2) & (array == 0)
    array[shell] = 515
    core = np.argwhere(array == 3)
    array[tuple(core[len(core) // 2])] = 30
    nib.save(nib.Nifti1Image(array, labels.grid.affine), path)
