"""What hypothesis draws for the invariants: few examples, the same on every run, nothing kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from io_files import rotation

EXAMPLES = 20


def examples(count: int = EXAMPLES) -> settings:
    """Settings of a test: seeded, without a database, and without a limit of time."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(*[st.integers(1, 14)] * 3)
ORDERS = st.permutations(range(3))
SIGNS = st.tuples(*[st.sampled_from((1, -1))] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 4.0)] * 3)


@st.composite
def affines(draw: Any) -> np.ndarray:
    """A grid without shear: turned, scaled, moved, and mirrored or not."""
    out = np.eye(4)
    angles = draw(st.tuples(*[st.integers(-180, 180)] * 3))
    out[:3, :3] = rotation(*angles) * np.asarray(draw(SPACINGS)) * np.asarray(draw(SIGNS))
    out[:3, 3] = draw(st.tuples(*[st.integers(-200, 200)] * 3))
    return out.astype(np.float32).astype(np.float64)


def labels(shape: Any = SHAPES, most: int = 4) -> Any:
    """Label maps of small values."""
    return hnp.arrays(np.uint8, shape, elements=st.integers(0, most))


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
