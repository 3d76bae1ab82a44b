"""Give every channel of the float graph the magnitude at which rounding costs least, function unchanged.

Cross-layer equalization (Nagel et al. 2019, section 4.1) rests on f(k x) = k f(x): what one layer
multiplies, the next one divides. SmoothQuant (Xiao et al. 2022, eq. 4) uses the same freedom to move
the difficulty from activations into weights, by an exponent. Here the factors minimize a model of the
error at the outputs (`equalize.noise`), so that they know which channels matter, through every path
that the factors must be equal on (residual connections), and for the widths at hand: at 8-bit weights
they favour activations, at 4 bits weights, through depthwise layers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.statistics import Statistics
from edgeqwt.equalize.absorb import absorb
from edgeqwt.equalize.channels import FIXED, Channels, channels
from edgeqwt.equalize.noise import Noise, by_channel, noise, observe_channels
from edgeqwt.graph.ends import before_saturation
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.graph.opset import RULES, slots
from edgeqwt.quantize.activations import assign
from edgeqwt.quantize.precision import Precision
from edgeqwt.quantize.ranges import MinMax
from edgeqwt.quantize.widths import planned


@dataclass(frozen=True)
class Equalization:
    """How channels are equalized.

    Attributes:
        samples: how many samples gradients and extremes are taken from, at most.
        limit: factors stay within [1 / limit, limit].
        steps: of the descent.
        absorb: whether biases then absorb what channels never fall below (`equalize.absorb`). Where a channel
            does fall below it on other inputs, the function is another one.
        margin: with absorb: how far below a channel's smallest value that stays, as a share of its span.
    """

    samples: int = 64
    limit: float = 64.0
    steps: int = 200
    absorb: bool = False
    margin: float = 0.1


@dataclass(frozen=True, eq=False)
class Equalized:
    """An equalized graph.

    Attributes:
        graph: computes the same function, up to the rounding of float32 and what `absorbed` says; the same graph
            if there was no use.
        changed: number of channels whose factor is not 1.
        low, high: the smallest and the largest factor.
        predicted_db: by how many decibels the model expects the error at the outputs to fall.
        skipped: why nothing was done; empty otherwise.
        absorbed: number of channels whose least value went into biases: where inputs make them smaller than all
            samples did, they stop short.
    """

    graph: Graph
    changed: int = 0
    low: float = 1.0
    high: float = 1.0
    predicted_db: float = 0.0
    skipped: str = ""
    absorbed: int = 0


def equalize(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    options: Equalization,
    precision: Precision,
) -> Equalized:
    """The float graph with its channels multiplied, and what reads them divided, by the best factors.

    Args:
        graph: float, lowerable.
        samples: graph inputs by tensor index; `options.samples` of them are read, once; to absorb, all are read again.
        statistics: of the graph's activations.
        options: see Equalization.
        precision: the widths that the graph will be lowered to.
    """
    found = _multiplied_best(graph, samples, statistics, options, precision)
    if not options.absorb:
        return found
    shifted = absorb(found.graph, samples, options.margin)
    told = "" if shifted.channels else found.skipped
    return replace(found, graph=shifted.graph, absorbed=shifted.channels, skipped=told)


def _multiplied_best(
    graph: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    options: Equalization,
    precision: Precision,
) -> Equalized:
    try:
        from edgeqwt.autograd.influence import influence
        from edgeqwt.autograd.kernels import missing
    except ImportError:
        return Equalized(graph, skipped="gradients need torch, which is not installed")
    if kinds := missing(graph):
        return Equalized(graph, skipped=f"there are no gradients through {', '.join(kinds)}")
    ends = [before_saturation(graph, t)[0] for t in graph.outputs if graph.tensors[t].is_float]
    found = channels(graph)
    if not ends or found.count <= FIXED + 1:
        return Equalized(graph, skipped="no channel is free to be multiplied")
    some = [sample for sample, _ in zip(samples, range(options.samples), strict=False)]
    assignment = assign(graph, statistics, MinMax(), planned(graph, precision))
    model = noise(
        graph, found, observe_channels(graph, found, some), influence(graph, some, ends), assignment,
        precision,
    )  # fmt: skip
    factors, gain = _minimized(model, options)
    factors = np.where(_dead(model), 1.0, factors)
    changed = int((factors != 1).sum())
    return Equalized(multiplied(graph, found, factors), changed, float(factors.min()), float(factors.max()), gain)


def multiplied(graph: Graph, channels: Channels, factors: Array) -> Graph:
    """The graph with every channel multiplied by its factor; the same function.

    Args:
        graph: float.
        channels: its factors' numbers.
        factors: positive, float64, shape (channels.count,); those of ANY and FIXED are 1.
    """
    changes: dict[int, Tensor] = {}
    for op in graph.ops:
        if not RULES[op.kind].linear or slots(op).output not in channels.of:
            continue
        s = slots(op)
        weights, bias = graph.tensors[s.weight], graph.tensors[s.bias] if s.bias >= 0 else None
        if weights.data is None:
            continue
        out = factors[by_channel(channels.of[s.output])]
        shape = [1] * weights.data.ndim
        shape[RULES[op.kind].channel_axis] = -1
        data = weights.data.astype(np.float64) * out.reshape(shape)
        if s.data in channels.of:
            data = data / _met(op, weights.data.shape, factors[by_channel(channels.of[s.data])])
        changes[s.weight] = replace(weights, data=data.astype(np.float32))
        if bias is not None and bias.data is not None:
            changes[s.bias] = replace(bias, data=(bias.data * out).astype(np.float32))
    return graph.with_tensors(changes)


def _met(op: Op, shape: tuple[int, ...], inputs: Array) -> Array:
    """The factor of the input that each weight meets; broadcasts to the weights' shape."""
    if op.kind == "DEPTHWISE_CONV_2D":
        return np.repeat(inputs, shape[-1] // len(inputs))
    if op.kind == "CONV_2D" and shape[-1] != len(inputs):
        groups = len(inputs) // shape[-1]
        return np.repeat(inputs.reshape(groups, -1), shape[0] // groups, axis=0)[:, None, None, :]
    return inputs


def _minimized(model: Noise, options: Equalization) -> tuple[Array, float]:
    """The factors with the least error, and the decibels won."""
    import torch

    from edgeqwt.autograd.influence import one_thread

    logs = torch.zeros(model.count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logs], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    reach = float(np.log(options.limit))
    with one_thread():
        before = float(model.at(logs.detach()))
        for _ in range(options.steps):
            optimizer.zero_grad()
            torch.log(model.at(logs)).backward()  # type: ignore[no-untyped-call]
            assert logs.grad is not None
            logs.grad[: FIXED + 1] = 0
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                logs.clamp_(-reach, reach)
        after = float(model.at(logs.detach()))
    return np.exp(logs.detach().numpy()), 10 * float(np.log10(before / after)) if after > 0 else 0.0


def _dead(model: Noise) -> Array:
    """Factors of channels that were zero on all samples: nothing is known of them."""
    alive = np.zeros(model.count, bool)
    for s in model.stored:
        alive[s.factors[(s.high > 0) | (s.low < 0)]] = True
    return ~alive
