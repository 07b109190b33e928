"""Changes to a network's graph before OpenVINO compiles it: less memory, exact moments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.inference.engines.lean import opset13, ov

VERSION = 2
"""Of the rewriting, so that nothing is taken that was compiled of another."""

LOWEST = np.float32(-3e38)


def rewritten(graph: ov.Model) -> None:
    """Change a graph in place; its outputs differ only by rounding."""
    split_concatenations(graph)
    exact_moments(graph)


def split_concatenations(graph: ov.Model) -> None:
    """Make each convolution of two maps put together the sum of two convolutions.

    The answer is the same but for rounding, and the map put together, the largest of a U-Net, is never made.
    """
    for joined in graph.get_ordered_ops():
        if joined.get_type_name() != "Concat" or joined.get_input_size() != 2:
            continue
        if joined.get_attributes().get("axis") != 1:
            continue
        first, second = (joined.input_value(n) for n in range(2))
        widths = [part.get_partial_shape()[1] for part in (first, second)]
        if not all(width.is_static for width in widths):
            continue
        readers = [target.get_node() for target in joined.output(0).get_target_inputs()]
        if any(reader.get_type_name() != "Convolution" for reader in readers):
            continue
        for reader in readers:
            _add_parts(reader, [first, second], [width.get_length() for width in widths])


def _add_parts(convolution: ov.Node, parts: Sequence[ov.Output], widths: Sequence[int]) -> None:
    """Replace a convolution of parts put together by the sum of one for each; a bias goes with the first."""
    how, kernel = convolution.get_attributes(), convolution.input_value(1)
    ends = np.cumsum([0, *widths]).tolist()
    sums = [
        opset13.convolution(
            part,
            opset13.slice(kernel, [start], [stop], [1], [1]),
            how["strides"],
            how["pads_begin"],
            how["pads_end"],
            how["dilations"],
        )
        for part, start, stop in zip(parts, ends, ends[1:], strict=False)
    ]
    replaced, readers = convolution, list(convolution.output(0).get_target_inputs())
    if len(readers) == 1 and readers[0].get_node().get_type_name() == "Add":
        replaced = readers[0].get_node()
        sums[0] = opset13.add(sums[0], replaced.input_value(1 - readers[0].get_index()))
    total = opset13.add(*sums)
    for target in replaced.output(0).get_target_inputs():
        target.replace_source_output(total.output(0))


def exact_moments(graph: ov.Model) -> None:
    """Have instance and group norm take means and variances axis by axis.

    OpenVINO sums a whole map in one go, in float32. Where a large part of it is one value, as the air around
    a head is, the roundings add up. Of sums of a row at a time they cannot.
    """
    for norm in graph.get_ordered_ops():
        if norm.get_type_name() == "MVN":
            new = _instance_norm(norm)
        elif norm.get_type_name() == "GroupNormalization":
            new = _group_norm(norm)
        else:
            continue
        if new is not None:
            for target in norm.output(0).get_target_inputs():
                target.replace_source_output(new.output(0))


def _instance_norm(norm: ov.Node) -> ov.Node | None:
    """An MVN over all spatial axes of a map (B, C, *S), and None of any other."""
    axes, how = norm.input_value(1).get_node(), norm.get_attributes()
    x, spatial = norm.input_value(0), _spatial(norm)
    if axes.get_type_name() != "Constant" or not how["normalize_variance"]:
        return None
    if how["eps_mode"].upper() != "INSIDE_SQRT":
        return None
    if sorted(int(a) % (2 + len(spatial)) for a in axes.get_data().ravel()) != spatial:
        return None
    distance = opset13.subtract(x, _mean(x, spatial))
    return _scaled(distance, _mean(opset13.multiply(distance, distance), spatial), how["eps"])


def _group_norm(norm: ov.Node) -> ov.Node:
    """A GroupNormalization: moments of the channels, then of the channels of a group."""
    x, spatial, how = norm.input_value(0), _spatial(norm), norm.get_attributes()
    groups = how["num_groups"]
    distance = opset13.subtract(x, _over_groups(_mean(x, spatial), groups, spatial))
    variance = _over_groups(_mean(opset13.multiply(distance, distance), spatial), groups, spatial)
    scale, shift = (opset13.unsqueeze(norm.input_value(n), opset13.constant([0, *spatial])) for n in (1, 2))
    return opset13.add(opset13.multiply(_scaled(distance, variance, how["epsilon"]), scale), shift)


def _spatial(norm: ov.Node) -> list[int]:
    return list(range(2, norm.get_input_partial_shape(0).rank.get_length()))


def _scaled(distance: ov.Node, variance: ov.Node, eps: float) -> ov.Node:
    return opset13.divide(distance, opset13.sqrt(opset13.add(variance, opset13.constant(np.float32(eps)))))


def _mean(x: ov.Output | ov.Node, axes: Sequence[int]) -> ov.Node:
    """The mean over axes, the last first; a maximum between two keeps OpenVINO from making them one."""
    last, *others = reversed(axes)
    mean = opset13.reduce_mean(x, [last], True)
    for axis in others:
        mean = opset13.reduce_mean(opset13.maximum(mean, opset13.constant(LOWEST)), [axis], True)
    return mean


def _over_groups(moments: ov.Node, groups: int, spatial: Sequence[int]) -> ov.Node:
    """Moments (B, C, 1, ...) averaged over each group of channels, again (B, C, 1, ...)."""
    grouped = opset13.reshape(moments, opset13.constant([0, groups, -1]), True)
    mean = opset13.reduce_mean(grouped, [2], True)
    spread = opset13.broadcast(mean, opset13.shape_of(grouped))
    ones = [1] * len(spatial)
    return opset13.reshape(spread, opset13.constant([0, -1, *ones]), True)
