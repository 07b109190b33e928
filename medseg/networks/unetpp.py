"""UNet++ (Zhou et al. 2018, arXiv:1807.10165).

Deviations: probabilities of overlapping or exclusive structures, where the paper has one sigmoid; weights
are drawn by He's rule; widths, kernels, strides, norm, activation and dropout can be chosen, and three
axes. ELU and the dropout of a half after every convolution are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.core.errors import UsageError
from medseg.core.keywords import hinted
from medseg.model.spec import Norm
from medseg.networks.layers import (
    CONV,
    MAX_POOL,
    TRANSPOSED,
    ConvUnit,
    Segmenter,
    SpatialDims,
    chain,
    gate_of,
    he_init,
    level_kernels,
    level_strides,
    level_widths,
)
from medseg.networks.reach import Reach

PAPER_WIDTHS = (32, 64, 128, 256, 512)

T = TypeVar("T")


class UNetPlusPlus(Segmenter):
    """Nodes x(i, j) on nested, dense skip pathways: figure 1 and equation 1 of the paper.

    Node (i, 0) works on the pooled node (i - 1, 0); node (i, j) on the nodes (i, 0) to (i, j - 1) and
    the up-convolved node (i + 1, j - 1). Each has two convolutions. The nodes
    (0, 1), (0, 2) ... have a head each, at full resolution. With the defaults, 1 -> 1 channels has 9,041,700
    parameters in two dimensions, 99 of them of the heads below the last.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels C.
        out_channels: outputs K.
        widths: channels of each level i, finest first.
        norm: between convolution and activation; the paper has none.
        kernels: odd kernel of each level per axis, () for 3 everywhere.
        strides: pooling between neighbouring levels per axis, () for 2 everywhere.
        activation: see `layers.ACTIVATION`.
        bias: the convolutions' bias.
        dropout: share of the values dropped in training after each activation.
        mode: "accurate" averages the probabilities of all heads; "fast" uses only the last head.
        prune: 0 for the whole network; k for L^k of the paper, the nodes i + j <= k with only head k.
        exclusive: structures exclude each other, so that their probabilities are a softmax; otherwise,
            and where there is one output, each has its sigmoid. Only the average needs this.

    Raises:
        UsageError: an argument is not valid for this network.

    >>> import torch
    >>> from medseg.networks import UNetPlusPlus
    >>> UNetPlusPlus(3, in_channels=1, out_channels=2, widths=(4, 8))(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 2, 16, 16, 16])
    """

    @hinted
    def __init__(
        self,
        spatial_dims: SpatialDims,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = PAPER_WIDTHS,
        norm: Norm = "none",
        kernels: Sequence[Sequence[int]] = (),
        strides: Sequence[Sequence[int]] = (),
        activation: str = "elu",
        bias: bool = True,
        dropout: float = 0.5,
        mode: Literal["accurate", "fast"] = "accurate",
        prune: int = 0,
        exclusive: bool = True,
    ) -> None:
        super().__init__(spatial_dims)
        levels = len(level_widths(widths))
        size = level_kernels(kernels, levels, spatial_dims)
        pool = level_strides(strides, levels - 1, spatial_dims)
        if mode not in ("accurate", "fast") or not 0 <= prune < levels:
            raise UsageError(
                f"a UNet++ of {levels} levels takes the mode accurate or fast and a prune level of "
                f"0 to {levels - 1}, not {mode!r} and {prune}"
            )
        self.depth = prune or levels - 1
        unit = partial(ConvUnit, spatial_dims, norm=norm, activation=activation, bias=bias, dropout=dropout)

        def node(i: int, j: int) -> nn.Sequential:
            own = widths[i]
            first = own * (j + 1) if j else (in_channels, *widths)[i]
            return chain((first, own, own), partial(unit, kernel=size[i]))

        def up(i: int) -> nn.Module:
            return TRANSPOSED[spatial_dims](widths[i + 1], widths[i], pool[i], stride=pool[i])

        places = [(i, j) for i in range(self.depth + 1) for j in range(self.depth + 1 - i)]
        self.gate = gate_of(in_channels, pool[: self.depth])
        self.pool = nn.ModuleList(MAX_POOL[spatial_dims](s) for s in pool[: self.depth])
        self.up = nn.ModuleDict({_key(i, j): up(i) for i, j in places if j})
        self.node = nn.ModuleDict({_key(i, j): node(i, j) for i, j in places})
        kept = (prune,) if prune else tuple(range(1, levels))
        self.head = nn.ModuleDict({str(k): CONV[spatial_dims](widths[0], out_channels, 1) for k in kept})
        whole = mode == "accurate" and not prune
        self.mean = MeanProbability(exclusive=exclusive and out_channels > 1) if whole else None
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *S) of an image (B, C, *S)."""
        if self.mean is not None:
            return cast(Tensor, self.mean(*self.heads(x)))
        return cast(Tensor, self.head[str(self.depth)](self.features(x)[-1]))

    @property
    def head_weights(self) -> tuple[float, ...]:
        """The same for each head: the paper sums their losses."""
        return (1 / len(self.head),) * len(self.head)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K, *S) of every head, the last first."""
        features = self.features(x)
        return [head(features[int(key) - 1]) for key, head in reversed(list(self.head.items()))]

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps (B, widths[0], *S) of the nodes (0, 1), (0, 2) ..."""
        rows: list[list[Tensor]] = []
        for deepest in range(self.depth + 1):
            below = self.pool[deepest - 1](rows[-1][0]) if deepest else self.gate(x)
            rows.append([self.node[_key(deepest, 0)](below)])
            for i in reversed(range(deepest)):
                key = _key(i, deepest - i)
                joined = torch.cat((*rows[i], self.up[key](rows[i + 1][-1])), dim=1)
                rows[i].append(self.node[key](joined))
        return rows[0][1:]


def pruned_weights(weights: Mapping[str, T], level: int) -> dict[str, T]:
    """The weights of L^`level` among those of a whole UNet++: all with `level` 0.

    They fit the network that is built with `prune = level`.

    Raises:
        UsageError: the weights do not contain this head.
    """
    kept = {key: value for key, value in weights.items() if not level or _within(key, level)}
    if not any(key.startswith("head.") for key in kept):
        levels = sorted({int(key.split(".")[1]) for key in weights if key.startswith("head.")})
        raise UsageError(
            f"a UNet++ with these weights cannot be pruned to level {level}",
            hint=f"choose one of the levels {', '.join(map(str, levels))}",
        )
    return kept


class MeanProbability(nn.Module):
    """Logits whose probabilities are the mean of several heads' probabilities.

    With softmax p of each head, log(mean p); with sigmoid, log(mean p) - log(mean (1 - p)).

    Args:
        exclusive: softmax over the outputs, otherwise the sigmoid of each.
    """

    def __init__(self, *, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive

    def forward(self, *logits: Tensor) -> Tensor:
        heads = torch.stack(logits)
        if self.exclusive:
            return _log_mean_exp(functional.log_softmax(heads, dim=2))
        return _log_mean_exp(-functional.softplus(-heads)) - _log_mean_exp(-functional.softplus(heads))

    def reach(self, before: Reach) -> Reach:
        return before


def _log_mean_exp(logs: Tensor) -> Tensor:
    """Over the first axis; the largest is taken out, so that nothing underflows."""
    top = logs.amax(dim=0)
    return top + (logs - top).exp().mean(dim=0).log()


def _key(i: int, j: int) -> str:
    return f"{i}_{j}"


def _within(key: str, level: int) -> bool:
    """Whether a weight belongs to L^level, by its name: `node.i_j...`, `up.i_j...` or `head.k...`."""
    part, place = key.split(".")[:2]
    if part == "head":
        return int(place) == level
    return sum(map(int, place.split("_"))) <= level
