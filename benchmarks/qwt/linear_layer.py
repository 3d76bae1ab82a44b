"""QwT's linear layer: a real op beside each linear op that makes up for its error, for comparison with CWAC.

Quantization without Tears (Fu et al. 2024) adds to a quantized block's output a linear function of its input,
fitted in closed form: with x_q the integer input and r = y - y_q the error against the float block,

    W = Σ (r - r̄)(x_q - x̄)^T (Σ (x_q - x̄)(x_q - x̄)^T + λ I)^-1,    b = r̄ - W x̄.

Here each linear op is a block of its own: that needs no notion of what a network's blocks are. A convolution's layer
is a 1x1 convolution: it sees the input at one position. CWAC is the case that W acts on y_q and is diagonal,
which costs nothing; this costs two ops, their weights and their time (`linear_op.Cost`). A layer stays where the
integers that come out are closer to the float ones on samples that it was not fitted on, with all that int8 rounds on
the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from qwt.linear_op import RATIO, Cost, LinearLayer, added, cost, obstacle, rows

from edgeqwt.calibration.samples import roles
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensation.cwac import Skip, decibel
from edgeqwt.compensation.fold import quantization
from edgeqwt.compensation.layer import CHUNK
from edgeqwt.compensation.match import OTHER_MODEL, match
from edgeqwt.compensation.probe import unfused, with_probe
from edgeqwt.compensation.solve import NO_HELP
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.graph.linear import slots
from edgeqwt.graph.opset import activate
from edgeqwt.graph.segments import segments
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import SegmentedRun, feed_both
from edgeqwt.runtime.boundary import real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.runtime.threads import one_thread
from edgeqwt.scales.activations import affine
from edgeqwt.scales.ranges import RangeRule

Run = Callable[[range], Array]


@dataclass(frozen=True)
class LinearOptions:
    """What the fit may do.

    Attributes:
        ridge: λ as a share of the inputs' mean variance.
        margin: smallest relative drop of the squared error on other samples that counts as help.
    """

    ridge: float = 0.1
    margin: float = 1e-3


@dataclass(frozen=True)
class Added:
    """One layer that was added.

    Attributes:
        name: the op's output tensor.
        kind: the op's kind.
        cost: what the layer adds.
        error_before, error_after: SQNR of the op's stored output on those samples, in dB.
    """

    name: str
    kind: str
    cost: Cost
    error_before: float
    error_after: float


@dataclass(frozen=True, eq=False)
class LinearOutcome:
    """The graph with its layers, and the account of them.

    Attributes:
        graph: integer; its inputs, outputs and their scales are as before.
        changes: in the order of the graph.
        skips: ops without a layer, and why; the op is numbered as in the graph before.
        samples: how many there were.
        file_bytes: by how much the file grew.
    """

    graph: Graph
    changes: tuple[Added, ...]
    skips: tuple[Skip, ...]
    samples: int
    file_bytes: int

    @property
    def cost(self) -> Cost:
        """Of all layers."""
        return sum((change.cost for change in self.changes), Cost(0, 0, 0))


def add_linear_layers(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    rule: RangeRule,
    options: LinearOptions | None = None,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> LinearOutcome:
    """Fits a linear layer beside every linear op, in topological order, and keeps those that help.

    Args:
        graph: full-integer graph with int8 activations.
        reference: the float graph that it came from; inputs correspond by position.
        samples: real-valued inputs by the reference's input tensor index; read once.
        rule: chooses the ranges of the tensors that are new.
        options: what the fit may do.
        on_layer: called with (layers done, layers in all) after each layer.

    Raises:
        InputError: there are no samples, the two graphs do not belong together, or the disk is full.
    """
    check_interfaces(graph, reference, OTHER_MODEL, inputs_alone=True)
    pairs, alone = match(graph, reference)
    outputs = [slots(graph.ops[p.integer]).output for p in pairs]
    skips, changes = [_skip(graph, i, reason) for i, reason in alone.items()], []
    wide, before = unfused(reference, [p.reference for p in pairs])
    now = graph
    with ActivationStore() as store, one_thread():
        integer = SegmentedRun("integer", graph, [slots(graph.ops[p.integer]).data for p in pairs], store)
        floating = SegmentedRun("float", wide, [before[p.reference] for p in pairs], store)
        count = feed_both(graph, reference, samples, integer, floating)
        for k, (pair, y) in enumerate(zip(pairs, outputs, strict=True)):
            # Layers added so far lie in the segments to come; what these read and leave behind is as before.
            integer.parts = segments(now, integer.cuts)[: len(integer.cuts)]
            point = InsertionPoint(now, now.producers()[y], k, integer, floating, count)
            found = point.compensated(wide, rule, options or LinearOptions())
            if isinstance(found, str):
                skips.append(_skip(graph, pair.integer, found))
            else:
                now, change = found
                changes.append(change)
            integer.finish(k)
            floating.finish(k)
            on_layer(k + 1, len(pairs))
    grown = len(flatbuffer.to_bytes(now)) - len(flatbuffer.to_bytes(graph))
    return LinearOutcome(now, tuple(changes), tuple(skips), count, grown)


@dataclass(frozen=True, eq=False)
class Sums:
    """What the fit needs of a layer, over samples and positions; float64.

    Attributes:
        n: summed weight of the (sample, position) pairs.
        output: of the op's real output before its activation, unweighted.
        x: weighted sum of the inputs, shape (inputs,).
        r: of the errors, shape (channels,).
        xx: of x x^T, shape (inputs, inputs).
        rx: of r x^T, shape (channels, inputs).
    """

    n: float
    output: Statistics
    x: Array
    r: Array
    xx: Array
    rx: Array

    @staticmethod
    def zero(inputs: int, channels: int) -> Sums:
        """Of nothing."""
        shapes = ((inputs,), (channels,), (inputs, inputs), (channels, inputs))
        return Sums(0.0, Statistics(), *(np.zeros(shape) for shape in shapes))

    @staticmethod
    def of(x: Array, r: Array, output: Array, step: float) -> Sums:
        """Of some samples, shapes (samples, positions, channels).

        Each sample weighs 1 / its RMS error, so that those on which something saturates do not decide for all
        others, as in `moments.evening`.

        Args:
            x: inputs.
            r: errors of the output.
            output: the output.
            step: scale of the stored output; errors below its rounding noise count alike.
        """
        weight = 1 / np.sqrt(np.square(r).mean(axis=(1, 2), keepdims=True) + step**2 / 12)
        weighted = (weight * x).reshape(-1, x.shape[-1])
        statistics = Statistics()
        statistics.add(output.astype(np.float32))
        return Sums(
            n=float(weight.sum()) * x.shape[1],
            output=statistics,
            x=weighted.sum(axis=0),
            r=(weight * r).sum(axis=(0, 1)),
            xx=weighted.T @ x.reshape(-1, x.shape[-1]),
            rx=r.reshape(-1, r.shape[-1]).T @ weighted,
        )

    def __add__(self, other: Sums) -> Sums:
        output = replace(self.output)
        output.merge(other.output)
        return Sums(
            self.n + other.n, output, self.x + other.x, self.r + other.r, self.xx + other.xx, self.rx + other.rx
        )

    def solved(self, ridge: float) -> LinearLayer:
        """The layer with the smallest squared error, W held back by the ridge."""
        x, r = self.x / self.n, self.r / self.n
        variance = self.xx / self.n - np.outer(x, x)
        # The variance is a difference of two sums: below the second share it is their rounding error.
        least = max(ridge * np.trace(variance), 1e-10 * np.trace(self.xx / self.n)) / len(x)
        held = variance + (least + np.finfo(np.float64).tiny) * np.eye(len(x))
        matrix = np.linalg.solve(held, (self.rx / self.n - np.outer(r, x)).T).T
        return LinearLayer(matrix, r - matrix @ x)


@dataclass(frozen=True, eq=False)
class InsertionPoint:
    """One op, in both graphs, on all calibration samples; fields as in `layer.Layer`."""

    graph: Graph
    i: int
    k: int
    integer: SegmentedRun
    floating: SegmentedRun
    count: int

    def compensated(self, reference: Graph, rule: RangeRule, options: LinearOptions) -> tuple[Graph, Added] | str:
        """The graph with a layer beside the op, and the account of it; or why there is none."""
        graph, op = self.graph, self.graph.ops[self.i]
        # The segments must run in any case: later ones need what they leave behind.
        sums = self._fitted(reference)
        if reason := obstacle(graph, op):
            return reason
        layer = sums.solved(options.ridge)
        ranges = [affine(*rule.choose(statistics, 256)) for statistics in (sums.output, self._corrections(layer))]
        candidate = added(graph, self.i, layer, ranges[0], ranges[1])
        if candidate is None:
            return RATIO
        signal, before, after = self._errors(candidate)
        if after >= before * (1 - options.margin):
            return NO_HELP
        name = graph.tensors[slots(op).output].name
        return candidate, Added(name, op.kind, cost(graph, op), decibel(signal, before), decibel(signal, after))

    def _fitted(self, reference: Graph) -> Sums:
        """Runs the segments on every sample; sums over those to fit on."""
        op, s = self.graph.ops[self.i], slots(self.graph.ops[self.i])
        step = float(quantization(self.graph, s.output).scale[0])
        fits = not obstacle(self.graph, op)
        self.integer.start(self.k)
        self.floating.start(self.k)

        def probed(piece: Graph, new: Mapping[int, int]) -> tuple[Graph, int]:
            return with_probe(piece, new[s.data], self.graph, self.i)

        workers = [
            (self.integer.runner(self.k, self.graph, probed), self.floating.runner(self.k, reference))
            for _ in range(THREADS)
        ]

        def work(worker: tuple[Run, Run], chunk: range) -> Sums | None:
            found, wanted = (run(chunk).astype(np.float64) for run in worker)
            kept = roles(chunk, self.count)[0]
            if not fits or not kept.any():
                return None
            found, wanted = (v[kept].reshape(int(kept.sum()), -1, v.shape[-1]) for v in (found, wanted))
            return Sums.of(self._inputs(chunk)[kept], wanted - found, found, step)

        chunks = [range(start, min(start + CHUNK, self.count)) for start in range(0, self.count, CHUNK)]
        parts = (part for part in ordered(workers, work, chunks) if part is not None)
        # Added in the order of the samples, so that threads do not change the result.
        return sum(parts, Sums.zero(*(self.graph.tensors[t].shape[-1] for t in (s.data, s.output))))

    def _inputs(self, chunk: range) -> Array:
        """The real inputs at the layer's positions, shape (samples, positions, channels)."""
        op = self.graph.ops[self.i]
        x = slots(op).data
        return rows(op, real(self.integer.values(x, chunk), quantization(self.graph, x)).astype(np.float64))

    def _corrections(self, layer: LinearLayer) -> Statistics:
        """Of what the layer adds, on all samples."""
        statistics = Statistics()
        for start in range(0, self.count, CHUNK):
            x = self._inputs(range(start, min(start + CHUNK, self.count)))
            statistics.add((x @ layer.matrix.T + layer.offset).astype(np.float32))
        return statistics

    def _errors(self, candidate: Graph) -> tuple[float, float, float]:
        """On samples not fitted on: power of the float op's output, and squared error without and with the layer."""
        op, s = self.graph.ops[self.i], slots(self.graph.ops[self.i])
        q = quantization(self.graph, s.output)
        pieces = [self.graph.slice([self.i], [s.data], [s.output])]
        pieces.append(candidate.slice([self.i, self.i + 1, self.i + 2], [s.data], [s.output]))
        runners = [xnnpack(piece) for piece in pieces]
        totals = np.zeros(3)
        for n in np.flatnonzero(roles(range(self.count), self.count)[1]).tolist():
            only = range(n, n + 1)
            wanted = self.floating.values(self.floating.cuts[self.k], only)[0].astype(np.float64)
            wanted = activate(wanted, op.activation)
            x = self.integer.values(s.data, only)[0]
            stored = [r.run({p.inputs[0]: x})[p.outputs[0]] for r, p in zip(runners, pieces, strict=True)]
            errors = [float(np.square(real(v, q) - wanted).sum()) for v in stored]
            totals += [float(np.square(wanted).sum()), *errors]
        return float(totals[0]), float(totals[1]), float(totals[2])


def _skip(graph: Graph, i: int, reason: str) -> Skip:
    op = graph.ops[i]
    out = graph.tensors[op.outputs[0]]
    return Skip(i, out.name, op.kind, out.shape[-1], reason)
