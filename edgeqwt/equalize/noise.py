"""What rounding costs at the outputs, as a function of the channels' factors.

Every activation is stored with the step s of its scale, and errs by s^2 / 12; every weight row with
its own step, and errs by that for each value it meets; every other constant likewise, with one step for all of
it. They reach the outputs multiplied by `autograd.output_sensitivity`. Multiplying channel f by k_f divides its share
of the first by k_f^2 as long as the range, and so the step, stays; and multiplies what its readers' weights cost. In
log k every term is a sum of exponentials and maxima, so the total is convex (a geometric program): there is one
minimum, whatever the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.equalize.copy_sensitivity import Sensitivities
from edgeqwt.equalize.factors import ANY, FIXED, Channels
from edgeqwt.equalize.multiply import constant_factors, input_channels
from edgeqwt.equalize.products import upright
from edgeqwt.graph.fills import fills_as_zero
from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import is_linear, slots
from edgeqwt.graph.opset import RULES
from edgeqwt.runtime.parallel import THREADS, taken
from edgeqwt.runtime.runners import LiteRT, xnnpack
from edgeqwt.scales.activations import Assignment, levels
from edgeqwt.scales.groups import Activation
from edgeqwt.widths.precision import FLOAT, Precision


@dataclass(frozen=True, eq=False)
class Seen:
    """One activation on the calibration samples: of the tensor's shape, extremes float32, or float64 by factor.

    Attributes:
        low, high: extremes, at most and at least 0.
        square: mean square.
    """

    low: Array
    high: Array
    square: Array

    def by_factor(self, factors: Array, count: int) -> Seen:
        """The same of each factor, shape (count,), given each element's factor."""
        flat = factors.reshape(-1)
        low, high = np.zeros(count), np.zeros(count)
        np.minimum.at(low, flat, self.low.reshape(-1).astype(np.float64))
        np.maximum.at(high, flat, self.high.reshape(-1).astype(np.float64))
        total = np.bincount(flat, self.square.reshape(-1), count)
        return Seen(low, high, total / np.maximum(np.bincount(flat, minlength=count), 1))


def observe_elements(graph: Graph, samples: Iterable[Mapping[int, Array]]) -> dict[int, Seen]:
    """Extremes and mean squares of every element of every float activation, fills left out; by tensor index."""
    computed = (t for op in graph.ops for t in op.outputs)
    tensors = [t for t in (*graph.inputs, *computed) if graph.tensors[t].is_float]
    low, high = ({t: np.zeros(graph.tensors[t].shape, np.float32) for t in tensors} for _ in range(2))
    square, count = {t: np.zeros(graph.tensors[t].shape) for t in tensors}, 0

    def run(runner: LiteRT, inputs: Mapping[int, Array]) -> dict[int, Array]:
        return {**inputs, **runner.views(inputs)}

    def take(values: Mapping[int, Array]) -> None:
        nonlocal count
        for t in tensors:
            x = fills_as_zero(values[t])
            np.minimum(low[t], x, out=low[t])
            np.maximum(high[t], x, out=high[t])
            square[t] += np.square(x, dtype=np.float64)
        count += 1

    taken([xnnpack(graph, tensors) for _ in range(THREADS)], run, take, samples)
    return {t: Seen(low[t], high[t], square[t] / max(count, 1)) for t in tensors}


@dataclass(frozen=True, eq=False)
class Stored:
    """A group of activations with one scale.

    Attributes:
        factors: that occur in it.
        low, high: their extremes, all tensors together.
        sensitivity: their output sensitivity, summed over the elements that are rounded.
        levels: number of integers; with zero in the middle where `symmetric`.
    """

    factors: Array
    low: Array
    high: Array
    sensitivity: Array
    levels: int
    symmetric: bool

    def at(self, k: Array, gradient: Array) -> float:
        """What it costs, given the factors; adds the derivatives by their logarithms to the gradient."""
        cost, slope = _rounded(self, k[self.factors])
        gradient[self.factors] += slope
        return cost


@dataclass(frozen=True, eq=False)
class Operand:
    """A constant operand with one scale, of ADD, SUB, MUL or BATCH_MATMUL; its elements by the factors they meet.

    Attributes:
        taken, given: the factors that it divides by, and those that it multiplies by.
        low, high: extremes.
        sensitivity: output sensitivity of its elements.
        levels: number of integers; with zero in the middle where `symmetric`.
    """

    taken: Array
    given: Array
    low: Array
    high: Array
    sensitivity: Array
    levels: int
    symmetric: bool

    @property
    def factors(self) -> Array:
        """All that it meets."""
        return np.concatenate([self.taken, self.given])

    def at(self, k: Array, gradient: Array) -> float:
        """What it costs, given the factors; adds the derivatives by their logarithms to the gradient."""
        cost, slope = _rounded(self, k[self.given] / k[self.taken])
        np.add.at(gradient, self.given, slope)
        np.subtract.at(gradient, self.taken, slope)
        return cost


@dataclass(frozen=True, eq=False)
class Rows:
    """A linear op's weights.

    Attributes:
        factors: of each input channel, shape (channels,).
        largest: magnitude of the largest weight of each row and input channel, float32, shape (rows, channels).
        sensitivity: output sensitivity of each row's output, summed over positions, shape (rows,).
        energy: mean square of what a row meets of each channel, all taps, shape (channels,).
        levels: integers on one side of zero.
    """

    factors: Array
    largest: Array
    sensitivity: Array
    energy: Array
    levels: int

    def at(self, k: Array, gradient: Array) -> float:
        """What it costs, given the factors; adds the derivatives by their logarithms to the gradient."""
        mine = k[self.factors]
        rows = self.largest * (1 / mine).astype(np.float32)
        first = rows.argmax(axis=1)
        steps = self.sensitivity * (rows[np.arange(len(rows)), first].astype(np.float64) / self.levels) ** 2
        energies = self.energy * mine**2
        cost = steps.sum() * energies.sum() / 12
        by_row = np.bincount(first, steps, len(mine)) * energies.sum()
        np.add.at(gradient, self.factors, (steps.sum() * energies - by_row) / 6)
        return float(cost)


def _rounded(of: Stored | Operand, k: Array) -> tuple[float, Array]:
    """step^2 / 12 times its output sensitivity, where everything is multiplied by k, and its derivatives by log k."""
    up, down = of.high * k, -of.low * k
    i, j = int(up.argmax()), int(down.argmax())
    reach, sides = up[i] + down[j], [(i, up[i]), (j, down[j])]
    if of.symmetric:
        largest = max(sides, key=lambda end: end[1])
        reach, sides = 2 * largest[1], [(largest[0], 2 * largest[1])]
    shares = of.sensitivity / k**2 / (12 * (of.levels - 1) ** 2)
    slope = -2 * reach**2 * shares
    for index, end in sides:
        slope[index] += 2 * reach * end * shares.sum()
    return float(reach**2 * shares.sum()), slope


Term = Stored | Operand | Rows


@dataclass(frozen=True, eq=False)
class Noise:
    """The model of a graph.

    Attributes:
        terms: what each activation and constant costs, as far as factors change it.
        rest: what those cost that meet no factor.
    """

    terms: tuple[Term, ...]
    rest: float

    def at(self, factors: Array) -> tuple[float, Array]:
        """The outputs' expected squared error, and its derivatives by the factors' logarithms, shape (count,)."""
        gradient = np.zeros(len(factors))
        return self.rest + sum(term.at(factors, gradient) for term in self.terms), gradient


def noise(
    graph: Graph,
    channels: Channels,
    seen: Mapping[int, Seen],
    sensitivity: Sensitivities,
    assignment: Assignment,
    precision: Precision,
) -> Noise:
    """The model of a float graph.

    Args:
        graph: float, lowerable.
        channels: its factors.
        seen: its activations on calibration samples, by factor.
        sensitivity: output sensitivity; an activation that is missing there does not matter.
        assignment: which activations share a scale; the scales themselves are not looked at.
        precision: widths.
    """
    terms: list[Term | None] = _activations(graph, channels, seen, sensitivity, assignment)
    for i, op in enumerate(graph.ops):
        bits = precision.of(graph.tensors[op.outputs[0]].name).weights
        if assignment.plan.ops[i] == FLOAT:
            continue
        if is_linear(op):
            terms.append(_rows(graph, op, channels, seen, sensitivity.of, bits))
        else:
            terms.append(_operand(graph, op, channels, seen, sensitivity.of, assignment.plan.ops[i]))
    found = [term for term in terms if term is not None]
    moved = tuple(term for term in found if (term.factors > FIXED).any())
    ones = np.ones(channels.count)
    rest = sum(term.at(ones, np.zeros(channels.count)) for term in found if not (term.factors > FIXED).any())
    return Noise(moved, rest)


def _activations(
    graph: Graph, channels: Channels, seen: Mapping[int, Seen], sensitivity: Sensitivities, assignment: Assignment
) -> list[Term | None]:
    """One term for each group of tensors and narrower copies that share a scale, unless an op demands it."""
    computed_bits = assignment.plan.computed_bits
    narrower = [(t, bits) for t, bits in assignment.group if t in channels.of and bits < computed_bits[t]]
    groups: dict[Activation, list[Activation]] = {}
    for activation in [*((t, computed_bits[t]) for t in channels.of), *narrower]:
        groups.setdefault(assignment.group.get(activation, activation), []).append(activation)
    producers, even = graph.producers(), _even(graph, assignment)
    found: list[Term | None] = []
    for root, activations in groups.items():
        if root[1] == FLOAT or not all(_free(graph, t) for t, _ in activations):
            continue
        # An op that moves values does not round them, a copy does.
        rounded = [
            (t, values)
            for t, bits in activations
            if (values := sensitivity.narrowed.get(t) if bits < computed_bits[t] else sensitivity.of.get(t)) is not None
            and (bits < computed_bits[t] or t not in producers or RULES[graph.ops[producers[t]].kind].bound > 0)
        ]
        tensors = [t for t, _ in activations]
        found.append(_stored(channels, seen, rounded, tensors, root[1], root in even))
    return found


def _even(graph: Graph, assignment: Assignment) -> set[Activation]:
    """The groups that need zero point 0 at 8 bits."""
    return {
        assignment.group.get((op.inputs[slot], 8), (op.inputs[slot], 8))
        for op, bits in zip(graph.ops, assignment.plan.ops, strict=True)
        for slot in (RULES[op.kind].symmetric if bits == 8 else ())
    }


def _free(graph: Graph, t: int) -> bool:
    """Whether a range decides the tensor's scale, not the op that computes it."""
    producer = graph.producers().get(t)
    return producer is None or RULES[graph.ops[producer].kind].fixed_output is None


def _stored(
    channels: Channels,
    seen: Mapping[int, Seen],
    sensitivities: list[tuple[int, Array]],
    tensors: list[int],
    bits: int,
    even: bool,
) -> Stored:
    sensitivity = np.zeros(channels.count)
    for t, value in sensitivities:
        sensitivity += np.bincount(channels.of[t].reshape(-1), value.reshape(-1), channels.count)
    present = np.unique(np.concatenate([channels.of[t].reshape(-1) for t in tensors]))
    present = present[present != ANY]
    low = np.min([seen[t].low[present] for t in tensors], axis=0)
    high = np.max([seen[t].high[present] for t in tensors], axis=0)
    return Stored(present, low, high, sensitivity[present], levels(bits, even), bits == 16 or even)


def _operand(
    graph: Graph, op: Op, channels: Channels, seen: Mapping[int, Seen], sensitivities: Mapping[int, Array], bits: int
) -> Operand | None:
    """What a constant operand costs. A single number is exact at a scale of its own."""
    met = constant_factors(graph, op, channels) if op.outputs[0] in channels.of else None
    out = op.outputs[0]
    if met is None or out not in sensitivities:
        return None
    slot, taken, given = met
    data = graph.tensors[op.inputs[slot]].stored
    full = np.broadcast_shapes(data.shape, np.broadcast_shapes(taken.shape, given.shape))
    if int(np.prod(full)) == 1:
        return None
    sensitivity = _sensitivity_by_operand(op, slot, full, sensitivities[out])
    if op.kind in ("MUL", "BATCH_MATMUL"):
        sensitivity = sensitivity * seen[op.inputs[1 - slot]].square[taken]
    # Elements that meet the same factors are one case.
    pairs, at = np.unique(np.broadcast_to(taken * channels.count + given, full), return_inverse=True)
    at, values = at.reshape(-1), np.broadcast_to(data, full).reshape(-1).astype(np.float64)
    low, high = np.zeros(len(pairs)), np.zeros(len(pairs))
    np.minimum.at(low, at, values)
    np.maximum.at(high, at, values)
    even = bits == 8 and slot in RULES[op.kind].symmetric
    return Operand(
        pairs // channels.count,
        pairs % channels.count,
        low,
        high,
        np.bincount(at, np.broadcast_to(sensitivity, full).reshape(-1), len(pairs)),
        levels(bits, even),
        even or bits == 16,
    )


def _sensitivity_by_operand(op: Op, slot: int, shape: tuple[int, ...], sensitivities: Array) -> Array:
    """The sensitivity of the outputs that each element of a constant operand enters, added up."""
    if op.kind == "BATCH_MATMUL":  # one row of the constant, upright, enters one row or column of the product
        summed = sensitivities.sum(axis=-2 if slot == 1 else -1, keepdims=True)
        return upright(op, slot, _summed_to(summed, (*shape[:-2], *summed.shape[-2:])))
    return _summed_to(sensitivities, shape)


def _summed_to(values: Array, shape: tuple[int, ...]) -> Array:
    """The sum over what was broadcast to a shape: axes where the shape has length 1."""
    full = (1,) * (values.ndim - len(shape)) + shape
    axes = tuple(a for a, (n, m) in enumerate(zip(values.shape, full, strict=True)) if m == 1 != n)
    return np.asarray(values.sum(axis=axes, keepdims=True).reshape(shape))


def _rows(
    graph: Graph,
    op: Op,
    channels: Channels,
    seen: Mapping[int, Seen],
    sensitivities: Mapping[int, Array],
    weight_bits: int,
) -> Rows | None:
    """None where factors do not change what the op's weights cost: each row of a depthwise one meets one channel."""
    s = slots(op)
    weights = graph.tensors[s.weight].data
    if op.kind == "DEPTHWISE_CONV_2D" or weights is None or s.data not in seen or s.output not in sensitivities:
        return None
    factors = input_channels(op, weights.shape, channels.of[s.data])
    if weights.shape[-1] != len(factors):  # grouped: few, and their rows meet few channels
        return None
    largest = np.abs(weights).reshape(weights.shape[0], -1, weights.shape[-1]).max(axis=1)
    sensitivity = sensitivities[s.output].reshape(-1, weights.shape[0]).sum(axis=0)
    taps = weights[0].size / weights.shape[-1]
    return Rows(factors, largest, sensitivity, seen[s.data].square[factors] * taps, 2 ** (weight_bits - 1) - 1)
