"""A mixture of Gaussians fitted to the intensities of one scan, with the network's output as prior.

Expectation maximisation with a bias field after Van Leemput et al. 1999 (doi:10.1109/42.811270, sections II
and III), with the prior of a network in the place of an atlas. Voxels on a border hold two tissues and have a
brightness in between; they are modelled as in Van Leemput et al. 2003 (doi:10.1109/TMI.2002.806587), with
every share of the two equally likely, and belong to the tissue they hold more of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Table = NDArray[np.float32]

ORDER = 3
"""Of the polynomial that the logarithm of the bias field is."""

TERMS = tuple(t for t in product(range(ORDER + 1), repeat=3) if sum(t) <= ORDER)

ROUNDS, BIAS_FROM, RIDGE = 10, 2, 2e-2
"""Rounds of expectation maximisation, the first that fits the bias field, and what holds the field flat."""

OFFSET, BRIGHTEST = 0.02, 1.3
"""Intensities are scaled to [0, 1] within the brain, cut off at the second, and lifted by the first, so that
their logarithm exists."""

MIXED = 0.95
"""Share of the voxels between two tissues that hold both."""

OUTLIERS = 0.02
"""Density of intensities that no tissue explains; there the prior decides."""

SPREAD, LARGEST_SPREAD, HELD = 0.25, 0.6, 50.0
"""A tissue's standard deviation as a share of the brain's: what it is thought to be before any voxel is seen,
the largest it may become, and the voxels the first is worth."""

BINS, RANGE = 2048, (-0.2, 2.0)
"""Likelihoods are looked up in tables of so many bins over that range."""

SURENESS, CERTAIN = 2, 16
"""Powers of the prior. The first is a further weight of voxels in the mean and variance of their class: where
the network is unsure there are borders, and a class fitted to them spreads over its neighbours. The second is
the weight of voxels where contrast is measured: only those that the network is all but certain of count."""

CONTRAST = (0.3, 1.0)
"""A kind of tissue this close to another one does not follow the scan; one this far from all others does."""

LEAST_VOXELS = 0.5
"""A class of fewer sure voxels keeps the brightness it began with."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels that a mixture is fitted to.

    Attributes:
        values: intensities (N,), as the scan has them.
        prior: of each class (N, C).
        background: of anything else (N,).
        places: in [-1, 1] along each axis of the grid (N, 3).
    """

    values: Floats
    prior: Floats
    background: Floats
    places: Floats


@dataclass(frozen=True, eq=False)
class Mixture:
    """The result of a fit.

    Attributes:
        low, high: intensities of the scan that became 0 and 1.
        means, variances: of each class, then of the background, of scaled intensities without the bias.
        bias: coefficients of the logarithm of the field, one for each of `TERMS`.
        kinds: the kind of tissue of each class, as a number.
        contrast: of each two kinds, by their numbers, the distance of the means over the spread of the voxels
            that the network is sure of. The fit has no part in it: it finds classes in noise, too.
    """

    low: float
    high: float
    means: Floats
    variances: Floats
    bias: Floats
    kinds: tuple[int, ...]
    contrast: dict[tuple[int, int], float]

    def scaled(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Intensities on the scale of the fit, bias included; same shape."""
        found: NDArray[np.float32] = np.subtract(values, np.float32(self.low), dtype=np.float32)
        found *= np.float32(1 / (self.high - self.low))
        np.clip(found, 0, BRIGHTEST, out=found)
        found += np.float32(OFFSET)
        return found

    def field(self, places: Sequence[Floats]) -> NDArray[np.float32]:
        """What intensities were multiplied with, on the grid (i, j, k) of these places along the axes."""
        rows, columns, planes = (np.polynomial.legendre.legvander(p, ORDER) for p in places)
        weights = np.zeros((ORDER + 1,) * 3)
        for term, value in zip(TERMS, self.bias, strict=True):
            weights[term] = value
        half = np.einsum("ai,bj,ijk->abk", rows, columns, weights, optimize=True)
        found: NDArray[np.float32] = np.exp((half @ planes.T).astype(np.float32))
        return found

    def belief(self, number: int) -> float:
        """How far a class follows the intensities, 0 to 1: as far as its kind differs from the others."""
        kind, (least, enough) = self.kinds[number], CONTRAST
        own = [value for pair, value in self.contrast.items() if kind in pair]
        return float(np.clip((min(own) - least) / (enough - least), 0, 1)) if own else 1.0

    @property
    def trusted(self) -> float:
        """How far the background does: as far as any class."""
        return max(map(self.belief, range(len(self.kinds))))

    def tables(self) -> Tables:
        """The likelihoods as tables."""
        return Tables(*_tables(self.means, self.variances, self.kinds))


@dataclass(frozen=True, eq=False)
class Tables:
    """Densities by the bin of an intensity, see `bins`.

    Attributes:
        pure: of each class (C, BINS), then of the background.
        mixed: of each class where it shares a voxel with another kind of tissue (C, kinds, BINS).
    """

    pure: Table
    mixed: Table


def bins(scaled: NDArray[np.floating]) -> NDArray[np.uint16]:
    """The bin of each intensity without its bias."""
    low, high = RANGE
    places = (scaled - low) * ((BINS - 1) / (high - low)) + 0.5
    found: NDArray[np.uint16] = np.clip(places, 0, BINS - 1).astype(np.uint16)
    return found


def fit(sample: Sample, kinds: Sequence[int]) -> Mixture:
    """Fit a mixture; see the head of this file.

    Args:
        sample: the voxels.
        kinds: the kind of tissue of each class, numbered from 0 in order of first appearance.
    """
    inside = sample.background < 0.5
    low, high = _ends(sample.values[inside])
    values = np.clip((sample.values - low) / (high - low), 0, BRIGHTEST) + OFFSET
    logarithms, basis = np.log(values), _basis(sample.places)
    prior = np.concatenate([sample.prior, sample.background[:, None]], axis=1)
    of_kind = [np.equal(kinds, kind) for kind in range(max(kinds) + 1)]
    shared = np.stack([sample.prior[:, mask].sum(axis=1) for mask in of_kind], axis=1)
    spread = float(values[inside].std()) if inside.any() else 1.0
    certain = prior**SURENESS
    means, variances = _start(certain, values, spread)
    bias = np.zeros(len(TERMS))
    for turn in range(ROUNDS):
        flat = values * np.exp(-(basis @ bias))
        weights = _weights(flat, prior, shared, kinds, means, variances)
        sure = weights * certain
        counts = sure.sum(axis=0)
        seen = counts > LEAST_VOXELS
        means = np.where(seen, sure.T @ flat / np.maximum(counts, 1e-9), means)
        squares = (sure * (flat[:, None] - means) ** 2).sum(axis=0)
        variances = (squares + HELD * (SPREAD * spread) ** 2) / (counts + HELD)
        variances[:-1] = np.minimum(variances[:-1], (LARGEST_SPREAD * spread) ** 2)
        if turn >= BIAS_FROM:
            bias = _field(logarithms, basis, weights[:, :-1], means[:-1], variances[:-1])
    contrast = _contrast(values * np.exp(-(basis @ bias)), prior**CERTAIN, kinds)
    return Mixture(low, high, means, variances, bias, tuple(kinds), contrast)


def _contrast(flat: Floats, certain: Floats, kinds: Sequence[int]) -> dict[tuple[int, int], float]:
    """See `Mixture.contrast`; the first class stands for its kind, and two standard errors are taken off."""
    counts = np.maximum(certain.sum(axis=0), 1e-9)
    means = certain.T @ flat / counts
    variances = (certain * (flat[:, None] - means) ** 2).sum(axis=0) / counts
    sizes = np.maximum(counts**2 / np.maximum((certain**2).sum(axis=0), 1e-18), 1e-9)
    firsts = enumerate(list(kinds).index(kind) for kind in range(max(kinds) + 1))
    return {
        (a, b): max(
            0.0,
            float(abs(means[m] - means[n]) / math.sqrt(max((variances[m] + variances[n]) / 2, 1e-9)))
            - 2 * math.sqrt(1 / sizes[m] + 1 / sizes[n]),
        )
        for (a, m), (b, n) in combinations(firsts, 2)
    }


def _ends(values: Floats) -> tuple[float, float]:
    """Percentiles 0.5 and 99.5, or what there is."""
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [0.5, 99.5]).tolist()
    return low, high if high > low else low + 1.0


def _basis(places: Floats) -> Floats:
    powers = [np.polynomial.legendre.legvander(places[:, axis], ORDER) for axis in range(3)]
    return np.stack([powers[0][:, i] * powers[1][:, j] * powers[2][:, k] for i, j, k in TERMS], axis=1)


def _start(certain: Floats, values: Floats, spread: float) -> tuple[Floats, Floats]:
    """Means and variances to begin with."""
    counts = certain.sum(axis=0)
    overall = float(values.mean()) if values.size else 0.0
    means = np.where(counts > LEAST_VOXELS, certain.T @ values / np.maximum(counts, 1e-9), overall)
    return means, np.full(certain.shape[1], spread**2)


def _weights(
    flat: Floats, prior: Floats, shared: Floats, kinds: Sequence[int], means: Floats, variances: Floats
) -> Floats:
    """Share of each class in each voxel (N, C + 1); what mixed voxels and outliers take is missing."""
    pure, mixed = _tables(means, variances, kinds)
    where = bins(flat)
    weights = prior * pure[:, where].T
    total = weights.sum(axis=1) + OUTLIERS
    for number, own in enumerate(kinds):
        for kind in range(mixed.shape[1]):
            if kind != own:
                total += prior[:, number] * shared[:, kind] * mixed[number, kind][where]
    weights /= total[:, None]
    return weights


def _field(logarithms: Floats, basis: Floats, weights: Floats, means: Floats, variances: Floats) -> Floats:
    """The bias field by weighted least squares on logarithms."""
    precision = weights * (means**2 / variances)
    whole = precision.sum(axis=1)
    expected = (precision @ np.log(np.maximum(means, OFFSET))) / np.maximum(whole, 1e-9)
    weighted = basis * whole[:, None]
    normal = weighted.T @ basis
    normal += np.eye(len(normal)) * (RIDGE * np.trace(normal) / len(normal) + 1e-9)
    return np.asarray(np.linalg.solve(normal, weighted.T @ (logarithms - expected)))


def _tables(means: Floats, variances: Floats, kinds: Sequence[int]) -> tuple[Table, Table]:
    """Densities of pure and of mixed voxels of each class."""
    centres = np.linspace(*RANGE, BINS)
    scales = np.sqrt(2 * variances)
    deviations = (centres - means[:, None]) / scales[:, None]
    pure = np.exp(-(deviations**2)) / (scales[:, None] * math.sqrt(math.pi))
    firsts = [list(kinds).index(kind) for kind in range(max(kinds) + 1)]
    mixed = np.empty((len(kinds), len(firsts), BINS))
    for number in range(len(kinds)):
        for kind, other in enumerate(firsts):
            middle = (means[number] + means[other]) / 2
            low, high = sorted((means[number], middle))
            if high - low < 1e-4:
                mixed[number, kind] = pure[number]
                continue
            steps = (_erf((centres - end) / scales[number]) for end in (low, high))
            mixed[number, kind] = (next(steps) - next(steps)) / (2 * (high - low))
    return pure.astype(np.float32), mixed.astype(np.float32)


def _erf(x: Floats) -> Floats:
    """The error function to 1.2e-7 (Press et al., Numerical Recipes, 6.2); scipy is slow to import."""
    t = 1 / (1 + 0.5 * np.abs(x))
    series = np.polynomial.polynomial.polyval(
        t,
        [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
         -0.82215223, 0.17087277],
    )  # fmt: skip
    tail = t * np.exp(-x * x + series)
    return np.where(x >= 0, 1 - tail, tail - 1)
