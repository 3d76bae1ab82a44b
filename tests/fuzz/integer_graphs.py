"""Random integer graphs of one to four ops, and what exact arithmetic makes of the same integers.

Scales, zero points, shapes, activations and weights are random within what the op table allows, so that every graph
is one that lowering might write. Each op is judged by itself: on the integers that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import ACTIVATION_LIMITS
from edgeqwt.graph.opset16 import DTYPE, rule_at
from edgeqwt.runtime.boundary import limits
from edgeqwt.runtime.misread import misread
from tests.one_op import options_type

SMALLEST = 1e-8
"""Scale of a result: below it LiteRT refuses fused activations, whose ends it holds in 32 bits."""
Exact = Callable[..., Array]
"""The op on real values, float64: its activations by input, in order."""


@dataclass(frozen=True, eq=False)
class Step:
    """One op with its exact arithmetic.

    Attributes:
        op: of the graph.
        reads: activations that the exact function takes.
        exact: see `Exact`.
    """

    op: Op
    reads: tuple[int, ...]
    exact: Exact


@dataclass(frozen=True, eq=False)
class Made:
    """A random graph with the integers that it is fed with, and the exact arithmetic of its ops."""

    graph: Graph
    steps: tuple[Step, ...]
    feed: Mapping[int, Array]


@dataclass(eq=False)
class Builder:
    """A graph that grows with the integers that flow through it: by them the next scale is chosen.

    Attributes:
        rng: all that is random.
        bits: width of activations.
    """

    rng: np.random.Generator
    bits: int
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    feed: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *choices: Any) -> Any:
        """One of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return bool(self.rng.random() < probability)

    def zero_point(self) -> int:
        """Of an activation; ends of the type are frequent, as behind a RELU."""
        return 0 if self.bits == 16 else int(self.one_of(-128, 127, 0, self.between(-128, 127)))

    def input(self, shape: tuple[int, ...], q: Quantization | None = None) -> int:
        """A graph input, full of random integers."""
        dtype = DTYPE[self.bits]
        low, high = limits(dtype)
        q = q or Quantization.per_tensor(10.0 ** self.rng.uniform(-4, 1), self.zero_point())
        if self.chance(0.3):  # values close to each other, as most are
            low, high = sorted((self.between(low, high), self.between(low, high)))
        t = self.add(Tensor(f"x{len(self.tensors)}", shape, dtype, quantization=q))
        self.feed[t] = self.values[t] = self.rng.integers(low, high + 1, shape).astype(dtype)
        return t

    def constant(self, data: Array, q: Quantization | None = None, dtype: str = "") -> int:
        """A constant."""
        data = np.ascontiguousarray(data)
        return self.add(Tensor(f"c{len(self.tensors)}", data.shape, dtype or data.dtype.name, data, q))

    def add(self, tensor: Tensor) -> int:
        """Its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def shape(self, t: int) -> tuple[int, ...]:
        """Of a tensor."""
        return self.tensors[t].shape

    def quantization(self, t: int) -> Quantization:
        """Of a tensor that has one."""
        q = self.tensors[t].quantization
        assert q is not None
        return q

    def scale(self, t: int) -> float:
        """Of an activation."""
        return float(self.quantization(t).scale[0])

    def real(self, t: int, values: Array | None = None) -> Array:
        """A tensor's integers as real values."""
        return real(self.tensors[t], self.values[t] if values is None else values)

    def op(
        self,
        kind: str,
        inputs: tuple[int, ...],
        reads: tuple[int, ...],
        exact: Exact,
        *,
        q: Quantization | None = None,
        factor: float = 1.0,
        version: int = 0,
        **options: Any,
    ) -> int:
        """Adds an op, at a scale that suits its values.

        Args:
            kind: of the op.
            inputs: its tensors.
            reads: those that `exact` takes.
            exact: without the activation.
            q: of the output, where the op leaves no choice.
            factor: of the scales of what is multiplied, where it is not the product of the scales of `reads`.
            version: of the operator, where it is not the op table's.
            options: of the op.
        """
        rule = rule_at(kind, self.bits)
        values = activated(exact(*(self.real(t) for t in reads)), options.get("fusedActivationFunction", "NONE"))
        if rule.fixed_output is not None:
            q = Quantization.per_tensor(*rule.fixed_output)
        q = q or self.suitable(values, rule.ratio([self.scale(t) for t in reads]) * factor / rule.largest_ratio)
        out = self.add(Tensor(f"y{len(self.tensors)}", values.shape, DTYPE[self.bits], quantization=q))
        self.values[out] = np.clip(np.rint(in_steps(values, q)), *limits(DTYPE[self.bits])).astype(DTYPE[self.bits])
        options = {**options, **rule.options}
        made = Op(kind, inputs, (out,), options, version or rule.version, extra={"optionsType": options_type(kind)})
        self.steps.append(Step(made, reads, exact))
        return out

    def suitable(self, values: Array, smallest: float) -> Quantization:
        """A scale that the values fill, most often; sometimes much finer or coarser ones, within the op's limits."""
        low, high = limits(DTYPE[self.bits])
        reach = max(float(values.max(initial=0)) - float(values.min(initial=0)), 1e-6)
        if self.bits == 16:
            reach = 2 * max(float(np.abs(values).max(initial=0)), 1e-6)
        stretch = float(10.0 ** self.rng.uniform(-1, 1)) if self.chance(0.3) else float(self.rng.uniform(0.9, 1.3))
        scale = max(reach / (high - low) * stretch, smallest * 1.001, SMALLEST)
        if self.bits == 16:
            return Quantization.per_tensor(scale, 0)
        zero = round(low - float(values.min(initial=0)) / scale) if self.chance(0.7) else self.zero_point()
        return Quantization.per_tensor(scale, int(np.clip(zero, low, high)))

    def made(self) -> Made:
        """The graph, all results of ops outputs of it."""
        ops = tuple(step.op for step in self.steps)
        outputs = tuple(t for op in ops for t in op.outputs)
        return Made(Graph(tuple(self.tensors), ops, tuple(self.feed), outputs), tuple(self.steps), self.feed)


def real(tensor: Tensor, integers: Array) -> Array:
    """A tensor's integers as real values, float64 and not rounded."""
    assert tensor.quantization is not None
    scale, zero = tensor.quantization.broadcast(integers.ndim)
    exact: Array = scale * (integers.astype(np.int64) - zero)
    return exact


def activated(values: Array, activation: str) -> Array:
    """Clipped to the ends of a fused activation."""
    low, high = ACTIVATION_LIMITS[activation]
    found: Array = np.clip(values, low, high) if (low, high) != (None, None) else values
    return found


def in_steps(values: Array, q: Quantization) -> Array:
    """Real values in steps of a scale, not rounded."""
    scale, zero = q.broadcast(values.ndim)
    found: Array = values / scale + zero
    return found


def random_graph(rng: np.random.Generator) -> Made:
    """One to four ops in a row; the later ones read what the former ones wrote."""
    from tests.fuzz.integer_ops import WIDE, WRITERS

    while True:
        b = Builder(rng, 16 if rng.random() < 0.25 else 8)
        t = b.input((1, b.between(1, 9), b.between(1, 9), b.one_of(1, 2, 3, 4, 8, 16, 17)))
        for _ in range(int(b.one_of(1, 1, 1, 2, 3, 4))):
            writers = [write for kind, write in WRITERS.items() if b.bits == 8 or kind in WIDE]
            t = b.one_of(*writers)(b, t) or t
        made = b.made()
        if b.steps and not misread(made.graph):  # lowering writes nothing that XNNPACK is known to compute wrongly
            return made
