"""Small networks, their integer forms, and the check that an integer graph computes what its scales say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensation.cwac import Outcome, compensate
from edgeqwt.compensation.probe import with_probe
from edgeqwt.compensation.solve import Options
from edgeqwt.graph.graph import Array, Graph, Quantization
from edgeqwt.graph.linear import linear_ops, slots
from edgeqwt.graph.opset import activate
from edgeqwt.graph.opset16 import BITS, bits_of, rule_at
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.runtime.boundary import graph_feed, limits, real, to_real
from edgeqwt.runtime.runners import reference, xnnpack
from edgeqwt.scales.ranges import MinMax, Mse
from tests.chain import CONV, DEPTHWISE, NONE, Chain, noise

RELU = {"fusedActivationFunction": "RELU"}
Inputs = Mapping[int, Array]


@dataclass(frozen=True, eq=False)
class Case:
    """A float graph, samples for it, and its integer graph."""

    floating: Graph
    samples: Sequence[Inputs]
    statistics: Mapping[int, Statistics]
    integer: Graph

    def compensated(self, options: Options | None = None, graph: Graph | None = None) -> Outcome:
        """The integer graph, or another one of the same float graph, compensated."""
        graph = self.integer if graph is None else graph
        return compensate(graph, self.floating, iter(self.samples), self.statistics, Mse(), options or Options())


def made(floating: Graph, count: int = 24, bits: int = 8, seed: int = 1, precision: Precision | None = None) -> Case:
    """A float graph lowered with min-max ranges of normally distributed samples.

    `bits` are those of the weights where no other precision is given.
    """
    rng = np.random.default_rng(seed)
    samples = [
        {t: rng.standard_normal(floating.tensors[t].shape).astype(np.float32) for t in floating.inputs}
        for _ in range(count)
    ]
    statistics, _ = observe(floating, samples)
    return Case(floating, samples, statistics, lower(floating, statistics, MinMax(), precision or Precision(bits)))


def conv(chain: Chain, x: int, channels: int, seed: int, activation: str = "RELU") -> int:
    """A 3x3 convolution with random weights that keep the activations' size."""
    inputs = chain.tensors[x].shape[-1]
    weights = chain.constant(noise(channels, 3, 3, inputs, seed=seed, scale=(2 / 9 / inputs) ** 0.5), f"w{seed}")
    bias = chain.constant(noise(channels, seed=seed + 500, scale=0.2), f"b{seed}")
    options = {**CONV, "fusedActivationFunction": activation}
    return chain.op("CONV_2D", x, weights, bias, name=f"conv{seed}", **options)


def dense(chain: Chain, x: int, units: int, seed: int, activation: str = "NONE") -> int:
    """A fully connected layer."""
    inputs = chain.tensors[x].shape[-1]
    weights = chain.constant(noise(units, inputs, seed=seed, scale=inputs**-0.5), f"w{seed}")
    bias = chain.constant(noise(units, seed=seed + 500, scale=0.2), f"b{seed}")
    return chain.op("FULLY_CONNECTED", x, weights, bias, name=f"fc{seed}", fusedActivationFunction=activation)


def mean(chain: Chain, x: int, name: str = "mean") -> int:
    """The mean over height and width."""
    return chain.op("MEAN", x, chain.constant(np.array([1, 2], np.int32)), name=name, keepDims=False)


def plain_net() -> Graph:
    """Image to 5 logits: convolution, depthwise, pooling, padding, convolution, mean, fully connected."""
    chain = Chain()
    x = conv(chain, chain.input((1, 8, 8, 3)), 8, 1)
    weights, bias = chain.constant(noise(1, 3, 3, 8, seed=2, scale=0.4), "w2"), chain.constant(noise(8, seed=502) / 5)
    x = chain.op("DEPTHWISE_CONV_2D", x, weights, bias, name="depthwise", **{**DEPTHWISE, **RELU})
    pool = {"padding": "VALID", "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, **NONE}
    x = chain.op("MAX_POOL_2D", x, name="pool", **pool)
    x = chain.op("PAD", x, chain.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)), name="pad")
    x = conv(chain, x, 12, 3)
    return chain.graph(dense(chain, mean(chain, x), 5, 4))


def residual_net() -> Graph:
    """Two branches from one tensor, joined by ADD; the second branch starts at the same tensor as the first."""
    chain = Chain()
    x = conv(chain, chain.input((1, 6, 6, 4)), 8, 1)
    a = conv(chain, conv(chain, x, 8, 2), 8, 3, "NONE")
    b = conv(chain, x, 8, 4, "NONE")
    x = chain.op("ADD", a, b, name="sum", **RELU)
    return chain.graph(dense(chain, mean(chain, x), 5, 5))


def conv_2d(activation: str = "NONE") -> Graph:
    chain = Chain()
    return chain.graph(conv(chain, chain.input((1, 5, 6, 4)), 8, 1, activation))


def depthwise(activation: str = "NONE") -> Graph:
    chain = Chain()
    arguments = chain.input((1, 5, 6, 8)), chain.constant(noise(1, 3, 3, 8, scale=0.4)), chain.constant(noise(8) / 5)
    options = {**DEPTHWISE, "fusedActivationFunction": activation}
    return chain.graph(chain.op("DEPTHWISE_CONV_2D", *arguments, **options))


def depthwise_multiplier() -> Graph:
    chain = Chain()
    arguments = chain.input((1, 5, 6, 4)), chain.constant(noise(1, 3, 3, 8, scale=0.4)), chain.constant(noise(8) / 5)
    return chain.graph(chain.op("DEPTHWISE_CONV_2D", *arguments, **{**DEPTHWISE, "depthMultiplier": 2}))


def transpose_conv(activation: str = "NONE") -> Graph:
    chain = Chain()
    x = chain.input((1, 4, 5, 4))
    shape, weights = chain.constant(np.array([1, 8, 10, 8], np.int32)), chain.constant(noise(8, 3, 3, 4, scale=0.3))
    options = {"padding": "SAME", "strideH": 2, "strideW": 2, "fusedActivationFunction": activation}
    bias = chain.constant(noise(8) / 5)
    return chain.graph(
        chain.op("TRANSPOSE_CONV", shape, weights, x, bias, version=4 if activation != "NONE" else 3, **options)
    )


def fully_connected(activation: str = "NONE") -> Graph:
    chain = Chain()
    return chain.graph(dense(chain, chain.input((3, 24)), 8, 1, activation))


KINDS: dict[str, Callable[[], Graph]] = {
    "conv": conv_2d,
    "conv-relu": lambda: conv_2d("RELU"),
    "conv-relu6": lambda: conv_2d("RELU6"),
    "depthwise": depthwise,
    "depthwise-relu": lambda: depthwise("RELU"),
    "depthwise-multiplier": depthwise_multiplier,
    "transpose": transpose_conv,
    "transpose-relu": lambda: transpose_conv("RELU"),
    "dense": fully_connected,
    "dense-relu": lambda: fully_connected("RELU"),
}


def run(
    graph: Graph, samples: Sequence[Inputs], taps: Sequence[int] = (), kernels: str = "reference"
) -> list[dict[int, Array]]:
    """Outputs and taps of each sample, as the interpreter gives them; real inputs by the float graph's indices."""
    runner = {"reference": reference, "xnnpack": xnnpack}[kernels](graph, taps)
    return [runner.run(graph_feed(graph, dict(zip(graph.inputs, s.values(), strict=True)))) for s in samples]


def outputs(graph: Graph, samples: Sequence[Inputs]) -> Array:
    """The real values of the first output, samples stacked; by XNNPACK."""
    t = graph.outputs[0]
    return np.stack([to_real(graph, t, values[t]) for values in run(graph, samples, kernels="xnnpack")])


def sqnr(wanted: Array, found: Array) -> float:
    """In dB."""
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - found.astype(np.float64)).sum()))


def probed(graph: Graph, op_index: int, x: Array) -> Array:
    """The real output, before its activation, of a linear op on an integer input."""
    piece, out = with_probe(graph.slice([], [slots(graph.ops[op_index]).data], []), 0, graph, op_index)
    return xnnpack(piece, [out]).run({piece.inputs[0]: x})[out]


def stored(values: Array, activation: str, q: Quantization, dtype: str = "int8") -> Array:
    """Real values as the integers of a tensor, after the activation; float64, not rounded."""
    low, high = limits(dtype)
    return np.clip(activate(values.astype(np.float64), activation) / q.scale[0] + q.zero_point[0], low, high)


def check_linear_ops(graph: Graph, samples: Sequence[Inputs]) -> None:
    """Asserts that every linear op computes what its tensors' scales say.

    The rows say how far the kernels are off; float32's 24 bits leave 2^-9 of a step of an int16 output, and 0.03
    where a hundred such roundings add up.
    """
    ops = [i for i in linear_ops(graph) if graph.tensors[graph.ops[i].outputs[0]].dtype in BITS]
    taps = [t for i in ops for t in (slots(graph.ops[i]).data, slots(graph.ops[i]).output)]
    found = run(graph, samples[:3], [t for t in taps if t not in graph.inputs])
    for i in ops:
        s, op = slots(graph.ops[i]), graph.ops[i]
        q = graph.tensors[s.output].quantization
        assert q is not None
        for values, inputs in zip(found, samples, strict=False):
            feed = graph_feed(graph, dict(zip(graph.inputs, inputs.values(), strict=True)))
            x = values[s.data] if s.data in values else feed[s.data]
            exact = stored(probed(graph, i, x), op.activation, q, graph.tensors[s.output].dtype)
            bound = rule_at(op.kind, bits_of(graph, op)).bound + 0.03
            assert np.abs(values[s.output] - exact).max() <= bound, graph.describe(i)


def check_bias_scales(graph: Graph) -> None:
    """Asserts that each bias's recorded scale is the one that the kernels imply."""
    for i in linear_ops(graph):
        s = slots(graph.ops[i])
        if s.bias < 0:
            continue
        x, w, b = (graph.tensors[t].quantization for t in (s.data, s.weight, s.bias))
        assert x is not None
        assert w is not None
        assert b is not None
        np.testing.assert_array_equal(b.scale, np.broadcast_to(x.scale * w.scale, b.scale.shape))


def with_scale(graph: Graph, tensor: int, q: Quantization) -> Graph:
    """The graph with one tensor's parameters changed, and nothing else: not what it computed before."""
    return graph.with_tensors({tensor: replace(graph.tensors[tensor], quantization=q)})


def dequantized(graph: Graph, tensor: int) -> Array:
    """A constant's real values."""
    t = graph.tensors[tensor]
    assert t.data is not None
    assert t.quantization is not None
    return real(t.data, t.quantization)
