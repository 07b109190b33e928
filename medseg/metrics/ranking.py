"""Significance of differences, and stability of rankings.

References:
    Test: Wilcoxon 1945, doi:10.2307/3001968. Correction: Holm 1979, Scand. J. Stat. 6:65. Rank-biserial
    correlation: Kerby 2014, doi:10.2466/11.IT.3.1. Ranking and its stability: Wiesenfarth et al. 2021
    (challengeR), doi:10.1038/s41598-021-82017-6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medseg.metrics.cohort import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, resampled

Numbers = NDArray[np.float64]
Leader = Literal["A", "B", "neither"]
Method = Literal["aggregate-then-rank", "rank-then-aggregate", "test-then-rank"]

ALPHA = 0.05
LEAST_TESTED = 6
"""With fewer cases than this no outcome of the signed-rank test has a p below 0.05."""

EXACT_UP_TO = 50
"""Differences up to which p is exact; beyond, the normal approximation with correction for ties."""

TIE_DECIMALS = 12
"""Differences equal to this many decimals are equal but for rounding."""


@dataclass(frozen=True)
class Stability:
    """Shares of bootstrap samples in which each leads, by one ranking method.

    Attributes:
        method: the mean of the values, the mean of the ranks within cases, or the test of each sample.
        leader: in the cases themselves.
        share_a: share of the samples in which A leads.
        share_b: likewise B; in the rest neither does.
    """

    method: Method
    leader: Leader
    share_a: float
    share_b: float


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction: the k-th smallest of m is multiplied by m - k + 1, and never falls.

    >>> [round(x, 3) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    out = [1.0] * len(p)
    highest = 0.0
    for k, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, p[at] * (len(p) - k)))
        out[at] = highest
    return tuple(out)


def signed_rank_p(differences: Numbers) -> float:
    """Two-sided p of Wilcoxon's signed-rank test.

    Differences of 0 are left out, as Wilcoxon did; equal ones share their mean rank. Up to
    `EXACT_UP_TO` differences p is exact, ties or not: every choice of signs is counted. 1 where
    all differences are 0.

    >>> signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))  # 2 / 2^6
    0.03125
    """
    kept = _nonzero(differences)
    if not kept.size:
        return 1.0
    if kept.size > EXACT_UP_TO:
        return float(2 * stats.norm.sf(abs(_signed_rank_z(np.ones((1, kept.size)), kept)[0])))
    ranks = np.rint(2 * stats.rankdata(np.abs(kept))).astype(np.int64)  # doubled: mean ranks are halves
    share = np.zeros(int(ranks.sum()) + 1)
    share[0] = 1.0
    for rank in ranks.tolist():
        share = (share + np.concatenate((np.zeros(rank), share[:-rank]))) / 2
    positive = int(ranks[kept > 0].sum())
    return min(1.0, 2 * float(min(share[: positive + 1].sum(), share[positive:].sum())))


def rank_biserial(gains: Numbers) -> float:
    """Ranks of the positive differences less those of the negative ones, as a share of all, in [-1, 1].

    >>> rank_biserial(np.array([-1.0, 2.0, 3.0]))  # (2 + 3 - 1) / 6
    0.6666666666666666
    """
    kept = _nonzero(gains)
    if not kept.size:
        return 0.0
    ranks = stats.rankdata(np.abs(kept))
    return float((np.sign(kept) * ranks).sum() / ranks.sum())


def _nonzero(differences: Numbers) -> Numbers:
    rounded = np.round(differences, TIE_DECIMALS)
    return np.asarray(rounded[rounded != 0])


def ranking_stability(
    gains: Numbers, *, draws: int = BOOTSTRAP_DRAWS, seed: int = BOOTSTRAP_SEED
) -> tuple[Stability, ...]:
    """How often A and B lead in bootstrap samples of the cases, by three ways of ranking.

    Args:
        gains: by how much B is better in each case, (n,).
        draws: number of samples.
        seed: of the samples; those of the intervals.
    """
    weights = resampled(gains.size, draws, seed).astype(np.float64)
    itself = np.ones((1, gains.size))
    found: list[Stability] = []
    for method, score in _SCORES.items():
        found.append(_stability(method, score(itself, gains), score(weights, gains)))
    return tuple(found)


def _stability(method: Method, observed: Numbers, drawn: Numbers) -> Stability:
    observed, drawn = np.round(observed, TIE_DECIMALS - 2), np.round(drawn, TIE_DECIMALS - 2)
    leader: Leader = "B" if observed[0] > 0 else "A" if observed[0] < 0 else "neither"
    return Stability(method, leader, float((drawn < 0).mean()), float((drawn > 0).mean()))


def _significant(weights: Numbers, gains: Numbers) -> Numbers:
    """1 where the test of a sample shows B to be better, -1 where A, 0 where it shows no difference."""
    z = _signed_rank_z(weights, gains)
    return np.asarray(np.where(np.abs(z) > stats.norm.isf(ALPHA / 2), np.sign(z), 0.0))


def _signed_rank_z(weights: Numbers, differences: Numbers) -> Numbers:
    """Sum of the signed ranks of each sample over its standard deviation; repeated cases tie.

    Args:
        weights: how often each case is in each sample, (samples, n).
        differences: one a case, (n,); those of 0 are left out.
    """
    sizes = np.abs(differences)
    order = np.argsort(sizes, kind="stable")[np.count_nonzero(sizes == 0) :]
    if not order.size:
        return np.zeros(len(weights))
    starts = np.flatnonzero(np.diff(sizes[order], prepend=0.0))
    drawn = weights[:, order]
    tied = np.add.reduceat(drawn, starts, axis=1)
    signed = np.add.reduceat(drawn * np.sign(differences[order]), starts, axis=1)
    rank = np.cumsum(tied, axis=1) - (tied - 1) / 2
    n = tied.sum(axis=1)
    variance = n * (n + 1) * (2 * n + 1) / 6 - (tied**3 - tied).sum(axis=1) / 12
    deviation = np.sqrt(np.maximum(variance, 0))
    z = np.divide((signed * rank).sum(axis=1), deviation, out=np.zeros(len(n)), where=deviation > 0)
    return np.asarray(z)


_SCORES: Mapping[Method, Callable[[Numbers, Numbers], Numbers]] = {
    "aggregate-then-rank": lambda weights, gains: np.asarray(weights @ gains),
    "rank-then-aggregate": lambda weights, gains: np.asarray(weights @ np.sign(gains)),
    "test-then-rank": _significant,
}
"""Of each sample, a number above 0 where B leads and below where A does, by how often each case is in it."""
