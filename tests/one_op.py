"""Float graphs of one op each, with samples, and their way to integers: what the op table is measured with.

`tests.one_op_specs` lists the cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import DTYPES, Array, Graph, Op, Quantization, Tensor
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.profile import Kernels
from edgeqwt.runtime.boundary import graph_feed, limits, real
from edgeqwt.runtime.runners import RunnerFactory, xnnpack
from edgeqwt.scales.ranges import MinMax

SAMPLES = 6

INT8 = Quantization.per_tensor(0.03, -7)  # of int8 tensors in a float graph

# The schema's options table of each kind, where it is not the kind's name in camel case.
OPTIONS_TYPES = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "TOPK_V2": "TopKV2Options",
    "ATAN2": "Atan2Options",
    "REVERSE_V2": "ReverseV2Options",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "PADV2": "PadV2Options",
    "SELECT_V2": "SelectV2Options",
    "SPLIT_V": "SplitVOptions",
    "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions",
    "BATCH_TO_SPACE_ND": "BatchToSpaceNDOptions",
}


@dataclass(frozen=True, eq=False)
class X:
    """A graph input: random values in [low, high], both ends included. The same X twice is the same tensor."""

    shape: tuple[int, ...] = (1, 4, 5, 8)
    low: float = -3.07  # no round numbers: runtimes round exact ties differently
    high: float = 2.13
    dtype: str = "float32"

    def sample(self, rng: np.random.Generator) -> Array:
        """One sample's value."""
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if self.dtype != "float32":
            return rng.integers(int(self.low), int(self.high) + 1, self.shape).astype(DTYPES[self.dtype])
        values = rng.uniform(self.low, self.high, self.shape).astype(np.float32)
        if values.size > 1:
            values.reshape(-1)[:2] = self.low, self.high
        return values


@dataclass(frozen=True, eq=False)
class Case:
    """A one-op float graph and samples for it, inputs by tensor index."""

    name: str
    graph: Graph
    samples: tuple[Mapping[int, Array], ...]

    @property
    def kind(self) -> str:
        """The op's kind."""
        return self.graph.ops[0].kind


@dataclass(frozen=True)
class Spec:
    """What a case is made from.

    Attributes:
        args: the op's inputs: X, a constant array, or None for an absent one.
        outs: element types of the outputs.
        version: operator version of the float op.
        shape: of the output, where LiteRT cannot be asked for it.
        tflm: False where TFLite Micro lacks just this variant.
    """

    kind: str
    args: tuple[X | Array | None, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    outs: tuple[str, ...] = ("float32",)
    version: int = 1
    shape: tuple[int, ...] | None = None
    tflm: bool = True


def options_type(kind: str) -> str:
    """The name of the schema's options table of a kind of op, or "NONE"."""
    from ai_edge_litert import schema_py_generated as schema

    name = OPTIONS_TYPES.get(kind, "".join(part.capitalize() for part in kind.split("_")) + "Options")
    return name if hasattr(schema.BuiltinOptions, name) else "NONE"


def one_op(spec: Spec) -> Graph:
    """The spec's graph, output shapes as LiteRT computes them."""
    seen: dict[int, int] = {}
    tensors: list[Tensor] = []
    slots, inputs = [], []
    for position, arg in enumerate(spec.args):
        if arg is None:
            slots.append(-1)
            continue
        if id(arg) not in seen:
            seen[id(arg)] = len(tensors)
            if isinstance(arg, X):
                inputs.append(len(tensors))
                tensors.append(Tensor(f"x{position}", arg.shape, arg.dtype))
            else:
                dtype = next(name for name, t in DTYPES.items() if arg.dtype == t and name != "int4")
                tensors.append(Tensor(f"c{position}", arg.shape, dtype, arg))
        slots.append(seen[id(arg)])
    outputs = tuple(range(len(tensors), len(tensors) + len(spec.outs)))
    kind_of_options = options_type(spec.kind)
    op = Op(spec.kind, tuple(slots), outputs, spec.options, spec.version, extra={"optionsType": kind_of_options})
    tensors += [Tensor(f"y{i}", _beforehand(spec, tensors), dtype) for i, dtype in enumerate(spec.outs)]
    tensors = [replace(t, quantization=INT8) if t.dtype == "int8" else t for t in tensors]
    graph = Graph(tuple(tensors), (op,), tuple(inputs), outputs)
    if spec.shape is not None:
        return graph.with_tensors({t: replace(tensors[t], shape=spec.shape) for t in outputs})
    values = xnnpack(graph).run({t: np.ones(tensors[t].shape, DTYPES[tensors[t].dtype]) for t in inputs})
    return graph.with_tensors({t: replace(tensors[t], shape=values[t].shape) for t in outputs})


def _beforehand(spec: Spec, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """A shape for outputs before LiteRT computes it; from 2.3 on SLICE wants the right one."""
    if spec.kind != "SLICE":
        return (1,)
    begin, size = tensors[1].data, tensors[2].data
    assert begin is not None
    assert size is not None
    whole = zip(tensors[0].shape, begin.tolist(), size.tolist(), strict=True)
    return tuple(n - first if count < 0 else count for n, first, count in whole)


def seeded(name: str) -> np.random.Generator:
    """Randomness that depends on the case's name alone."""
    return np.random.default_rng(list(name.encode()))


def made(name: str, spec: Spec) -> Case:
    """The case of a spec; its name seeds the samples."""
    graph, rng = one_op(spec), seeded(name)
    arguments = list(dict.fromkeys(arg for arg in spec.args if isinstance(arg, X)))
    samples = tuple({t: x.sample(rng) for t, x in zip(graph.inputs, arguments, strict=True)} for _ in range(SAMPLES))
    return Case(name, graph, samples)


# -- lowered -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Lowered:
    """A case on its way through prepare, observe and lower.

    Attributes:
        float_graph: prepared, with the integer graph's constants dequantized.
        graph: the integer graph; its inputs and outputs are in the order of the float graph's.
        inputs: the samples as the integer graph takes them.
    """

    float_graph: Graph
    graph: Graph
    inputs: tuple[Mapping[int, Array], ...]

    def exact(self) -> list[list[Array]]:
        """Per sample, the float outputs for the dequantized integer inputs."""
        runner, found = xnnpack(self.float_graph), []
        for values in self.inputs:
            feed = {
                t: dequantized(self.graph, i, values[i])
                for t, i in zip(self.float_graph.inputs, self.graph.inputs, strict=True)
            }
            out = runner.run(feed)
            found.append([out[t] for t in self.float_graph.outputs])
        return found

    def run(self, factory: RunnerFactory) -> list[list[Array]]:
        """Per sample, the integer outputs from a runtime."""
        runner = factory(self.graph)
        outs = [runner.run(values) for values in self.inputs]
        return [[out[t] for t in self.graph.outputs] for out in outs]

    def worst(self, outs: list[list[Array]]) -> float:
        """The largest error of integer outputs, in steps; what an output cannot represent counts as clipped."""
        worst = 0.0
        for got, exact in zip(outs, self.exact(), strict=True):
            for t, a, e in zip(self.graph.outputs, got, exact, strict=True):
                assert a.shape == e.shape
                q = self.graph.tensors[t].quantization
                if q is None:
                    worst = max(worst, float(np.abs(a.astype(np.float64) - e).max(initial=0)))
                    continue
                (scale, zero), reals = q.broadcast(a.ndim), e.astype(np.float64)
                if not self.float_graph.tensors[self.float_graph.outputs[0]].is_float:  # QUANTIZE to int8
                    reals = scale * (reals - zero)
                low, high = limits(a.dtype.name)
                clipped = np.clip(reals, scale * (low - zero), scale * (high - zero))
                error = np.abs(scale * (a.astype(np.int64) - zero) - clipped) / scale
                worst = max(worst, float(error.max(initial=0)))
        return worst


def lowered(graph: Graph, samples: Sequence[Mapping[int, Array]], **options: Any) -> Lowered:
    """A float graph made integer, with min-max ranges of its samples."""
    prepared = prepare(graph).graph
    feeds = [dict(zip(prepared.inputs, (s[t] for t in graph.inputs), strict=True)) for s in samples]
    statistics, _ = observe(prepared, feeds, threads=1)
    lacking = {name: options.pop(name, frozenset()) for name in ("missing", "missing16")}
    kernels = options.pop("kernels", None) or Kernels(**lacking)
    integer = lower(prepared, statistics, MinMax(), options.pop("precision", Precision()), kernels, **options)
    order = dict(zip(integer.inputs, prepared.inputs, strict=True))
    inputs = tuple(graph_feed(integer, {i: feed[t] for i, t in order.items()}) for feed in feeds)
    constants = {
        t.name: real(t.data, t.quantization)
        for t in integer.tensors
        if t.data is not None and t.quantization is not None
    }
    exact = {
        i: replace(t, data=constants[t.name])
        for i, t in enumerate(prepared.tensors)
        if t.is_float and t.is_constant and t.name in constants
    }
    return Lowered(prepared.with_tensors(exact), integer, inputs)


def dequantized(graph: Graph, tensor: int, values: Array) -> Array:
    """Integers as the float graph takes them."""
    q = graph.tensors[tensor].quantization
    return values if q is None or q is INT8 else real(values, q)
