"""Write docs/networks.md: each network's picture, what it introduced, when to use it, and what it costs.

    python docs/networks.py

A picture is traced from the network with its default settings in two dimensions: a block is a module, as
wide as its channels are many (by their logarithm), in the row of its resolution, finest on top. The words are
those of `networks.toml`; parameters and multiplications are counted, with one channel in and two outputs.
"""

from __future__ import annotations

import argparse
import io
import math
import operator
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from medseg.model.spec import DETECTORS
from medseg.networks.composed import TABLES
from medseg.networks.layers import Enlarge
from medseg.networks.parts import FirstMaximum, GlobalContext, keywords_of
from medseg.networks.registry import NETWORKS, create

FOLDER = Path(__file__).parent / "networks"
SIZE = 256
COLOURS = {"conv": "#4c78a8", "down": "#e45756", "up": "#54a24b", "tile": "#b279a2", "score": "#f2a93b"}
HEAD = """# Networks

Every network works on slices and on volumes. A recipe names it, `[network] name = "segnet"`, and from Python
`medseg.networks.create("segnet", in_channels=1, out_channels=2)` makes it. Those composed of parts take
another encoder, neck, context or decoder by name: `options = { encoder = "resnet18", output_stride = 16 }`.
In volumes, an encoder's stem keeps the resolution unless `stem = "paper"`.

Two options go on top of any network that finds no objects. `scales = [0.5, 1.0]` looks at the image at
several scales, blended by attention ([arXiv:2005.10821](https://arxiv.org/abs/2005.10821)) or, with
`fusion = "explicit"`, by a softmax over the scales
([arXiv:1511.03339](https://arxiv.org/abs/1511.03339)). `crf_rnn = 5` makes five rounds of a dense random
field its last layer ([arXiv:1502.03240](https://arxiv.org/abs/1502.03240)), for structures that exclude one
another.

`medseg networks` lists all names, and `medseg networks NAME` the options of one and what they take.

In the pictures, a block is a module, wide where it has many channels, in the row of its resolution: blue
keeps the resolution, red lowers it, green raises it, violet sees the whole tile, and yellow gives the scores.
A dot is a sum.
All of this page is written by `python docs/networks.py`.
"""
FINDERS = """## Networks that find objects

These find the objects of each structure one by one, each with a box, a mask and a score, where a label map
joins those that touch. All stand on an encoder (`encoder = "resnet18"`) and a feature pyramid (`width`), and
have a branch that gives the label map, which a plain call returns. Those that find boxes alone take an
object's mask from it. A recipe names one as any other, and a card says how objects are told apart, see
[Train](how-to/train.md) and [Correct results](how-to/correct.md). R-CNN and Fast R-CNN, which look at boxes
that another program proposed, and OverFeat, which slides a classifier over the image as `predict` slides
every network, are steps on the way and have no row.

Sizes are millions of parameters with the paper's widths, in two and in three dimensions.
`python benchmarks/instances.py` trains them side by side.

| name | paper | introduced | masks | in volumes | 2D | 3D |
|---|---|---|---|---|---|---|"""
SUMS = (operator.add, operator.iadd, torch.add)
HIDDEN = (nn.Identity, nn.ReLU, nn.Dropout)
PARTS = {getattr(part, "func", part) for table in TABLES.values() for part in table.values()}
"""Opened, so that their inner blocks are drawn."""


@dataclass
class Block:
    """A module of the drawing: its resolution, channels and place, and the blocks it reads."""

    kind: str
    level: float
    channels: int
    column: float
    reads: list[Block]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        lists = any(isinstance(child, nn.ModuleList | nn.ModuleDict) for child in m.modules())
        return not lists and type(m) not in PARTS


class _Shapes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta["shape"] = tuple(result.shape)
        return result


def blocks_of(name: str) -> list[Block]:
    """The blocks of a network, in the order they are computed."""
    with torch.device("meta"):
        network = create(name, 1, 2, spatial_dims=2).eval()
        graph = fx.GraphModule(network, _Tracer().trace(network))
        _Shapes(graph).run(torch.zeros(1, 1, SIZE, SIZE))
    last = next(n for n in graph.graph.nodes if n.op == "output").all_input_nodes[0]
    told: dict[fx.Node, list[Block]] = {}
    blocks: list[Block] = []
    for node in graph.graph.nodes:
        reads = [block for n in node.all_input_nodes for block in told.get(n, [])]
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.op == "placeholder":
            block = Block("conv", 0, 1, 0, [])
        elif node.target in SUMS and len(reads) > 1:
            before = max(block.column for block in reads)
            column = before + (0.5 if before == int(before) else 0.1)  # between the columns of blocks
            block = Block("sum", _level(node), 1, column, reads)
        elif module is None or isinstance(module, HIDDEN) or "shape" not in node.meta or not reads:
            told[node] = reads or [b for n in node.all_input_nodes for b in told.get(n, [])]
            continue
        else:
            *_, channels, rows, _columns = node.meta["shape"]
            whole = rows == 1
            level = reads[0].level if whole else _level(node)
            column = 1 + int(max(block.column for block in reads))
            block = Block(_kind(module, level, reads, node is last), level, channels, column, reads)
        blocks.append(block)
        told[node] = [block]
    return blocks


def _level(node: fx.Node) -> float:
    """Halvings of the image's resolution."""
    return math.log2(SIZE / node.meta["shape"][2])


def _kind(module: nn.Module, level: float, reads: list[Block], is_last: bool) -> str:
    if any(isinstance(part, GlobalContext) for part in module.modules()):
        return "tile"
    before = min(block.level for block in reads)
    if is_last and not isinstance(module, Enlarge):
        return "score"
    if isinstance(module, FirstMaximum):
        return "conv"
    return "down" if level > before else "up" if level < max(b.level for b in reads) else "conv"


def drawn(name: str) -> Figure:
    """A network's picture."""
    blocks = blocks_of(name)
    columns = max(block.column for block in blocks)
    levels = max(block.level for block in blocks)
    figure = Figure(figsize=(10, 1.2 + 0.42 * (levels + 1)))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    axes.set_axis_off()
    axes.set_xlim(-1, columns + 2)
    axes.set_ylim(-levels - 1, 0.8)
    for block in blocks:
        for source in block.reads:
            axes.plot(
                (source.column, block.column),
                (-source.level, -block.level),
                color="#999999",
                lw=0.7,
                zorder=1,
            )
    for block in blocks:
        if block.kind == "sum":
            axes.plot(block.column, -block.level, "o", color="#666666", ms=3, zorder=2)
            continue
        width = 0.12 * (1 + math.log2(max(block.channels, 1))) * columns / 40 + 0.15
        corner = (block.column - width / 2, -block.level - 0.3)
        axes.add_patch(Rectangle(corner, width, 0.6, color=COLOURS[block.kind], zorder=2))
    return figure


def parts() -> str:
    """The names of the parts, with their options."""
    lines = ["## Parts\n", "| part | names, each with its options |\n|---|---|"]
    for kind, table in TABLES.items():
        told = []
        for name, part in table.items():
            own = [p.name for p in keywords_of(part)]
            told.append(f"`{name}`" + (f" ({', '.join(own)})" if own else ""))
        lines.append(f"| {kind} | {', '.join(told)} |")
    shared = "widths, norm, kernels, strides, output_stride, stem, auxiliary, smoothing"
    lines.append(f"\nEvery network of parts takes these, and: {shared}.\n")
    return "\n".join(lines)


def cost(name: str, dims: Literal[2, 3]) -> tuple[int, float, int]:
    """Parameters, multiplications of its convolutions for each voxel, and the stride that sizes must fit."""
    with torch.device("meta"):
        network = create(name, 1, 2, spatial_dims=dims).eval()
        size = [2 * s if s > 8 else 16 for s in network.stride]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 1, *size))
    parameters = sum(p.numel() for p in network.parameters())
    return parameters, counter.get_total_flops() / 2 / math.prod(size), max(network.stride)


def entry(name: str, told: dict[str, str]) -> str:
    """A network's part of the page."""
    (flat, _, stride), (volume, products, in_volumes) = cost(name, 2), cost(name, 3)
    paper = f" ([arXiv:{told['paper']}](https://arxiv.org/abs/{told['paper']}))" if "paper" in told else ""
    return (
        f"## {told['title']}\n\n![{told['title']}](networks/{name}.png)\n\n"
        f"`{name}`{paper}: {told['introduced']}\n\n"
        f"In volumes: {told['volumes']}\n\n"
        f"Cost: {flat / 1e6:.1f} million parameters in two dimensions, {volume / 1e6:.1f} million in three, "
        f"where a voxel takes {products / 1e3:,.0f} thousand multiplications. "
        f"Sizes are multiples of {stride}, in volumes of {in_volumes}.\n"
    )


def finders(words: dict[str, dict[str, str]]) -> str:
    """The table of the networks that find objects."""
    lines = [FINDERS]
    for name in DETECTORS:
        told = words[name]
        with torch.device("meta"):
            flat, volume = (create(name, 1, 2, spatial_dims=dims) for dims in (2, 3))
        sizes = (f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}" for network in (flat, volume))
        paper = f"[{told['title']}](https://arxiv.org/abs/{told['paper']})"
        row = (f"`{name}`", paper, told["introduced"], told["masks"], told["volumes"], *sizes)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    FOLDER.mkdir(exist_ok=True)
    words = tomllib.loads((FOLDER.parent / "networks.toml").read_text())
    if missing := set(NETWORKS) ^ set(words):
        raise SystemExit(f"networks.toml and the registry differ in {', '.join(sorted(missing))}")
    pictured = {name: told for name, told in words.items() if name not in DETECTORS}
    for name in pictured:
        with io.BytesIO() as buffer:
            drawn(name).savefig(buffer, dpi=90)
            Image.open(buffer).convert("RGB").quantize(64).save(FOLDER / f"{name}.png", optimize=True)
    entries = (entry(name, told) for name, told in pictured.items())
    (FOLDER.parent / "networks.md").write_text("\n".join([HEAD, parts(), *entries, finders(words)]))


if __name__ == "__main__":
    main()
