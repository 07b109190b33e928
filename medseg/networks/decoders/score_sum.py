"""Scores of several maps, added from coarse to fine (FCN: Long et al. 2015, arXiv:1411.4038), section 4.2.

GCN (Peng et al. 2017, arXiv:1703.02719), figure 2, adds its neck's scores so, with boundary refinement.
"""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.layers import TRANSPOSED, Enlarge, PerAxis
from medseg.networks.necks.global_convolution import BoundaryRefinement
from medseg.networks.parts import Maps, Style, bilinear_, halved


class ScoreSum(nn.Module):
    """The deepest map's scores, enlarged and added to those of `skips` finer ones.

    Args:
        skips: how many finer maps have a say: 0 for FCN-32s, 1 for FCN-16s, 2 for FCN-8s.
        refined: maps are scores already, and each sum and enlargement is refined at its boundaries; they are
            enlarged linearly, by at most 2 at a time, where they are otherwise by transposed convolutions
            that begin as linear interpolation.
    """

    def __init__(
        self, style: Style, maps: Maps, out_channels: int, *, skips: int = 2, refined: bool = False
    ) -> None:
        super().__init__()
        choice = maps.first_of_each_stride()
        self.taken = (*choice[:-1][max(len(choice) - 1 - skips, 0) :], len(maps.widths) - 1)
        own = maps.taken(self.taken)
        one = style.sized(1)
        self.scores = nn.ModuleList(
            nn.Identity() if refined else style.conv(w, out_channels) for w in own.widths
        )
        factors = [own.factor(n + 1, n) for n in range(len(self.taken) - 1)]
        last = own.strides[0]
        self.steps = halved(last) if refined else [last]

        def enlarge(factor: PerAxis) -> nn.Module:
            if refined:
                return Enlarge(factor, "linear")
            pad = tuple(f // 2 for f in factor)
            size = tuple(f + 2 * p for f, p in zip(factor, pad, strict=True))
            kind = TRANSPOSED[style.spatial_dims]
            return kind(out_channels, out_channels, size, stride=factor, padding=pad, bias=False)

        def refinement() -> nn.Module:
            return BoundaryRefinement(style, out_channels) if refined else nn.Identity()

        self.enlarge = nn.ModuleList(enlarge(f) for f in factors)
        self.refine = nn.ModuleList(refinement() for _ in factors)
        self.end = nn.Sequential(*(part for f in self.steps for part in (enlarge(f), refinement())))
        self.stride = one

    def begin(self) -> None:
        """Let the transposed convolutions interpolate."""
        for module in (*self.enlarge, *self.end):
            if not isinstance(module, (Enlarge, BoundaryRefinement, nn.Identity)):
                bilinear_(module)

    def forward(self, maps: list[Tensor]) -> Tensor:
        found = [score(maps[n]) for score, n in zip(self.scores, self.taken, strict=True)]
        x = found.pop()
        for n in reversed(range(len(self.enlarge))):
            x = self.refine[n](found[n] + self.enlarge[n](x))
        out: Tensor = self.end(x)
        return out
