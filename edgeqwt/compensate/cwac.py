"""CWAC: channel-wise affine compensation of every linear op, in topological order.

For each linear op, on every calibration sample: x_q comes from the integer graph with
everything before the op already compensated, y from the float graph. The op's correction is
fitted, accepted on held-out samples, and folded into scales and biases before the next op is
looked at. Every op of both graphs runs once per sample (`Stretches`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeqwt.calibration.samples import HELD_OUT, HOLD_OUT_EVERY
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.compensate.fold import fold, room, slots
from edgeqwt.compensate.match import Pair, match
from edgeqwt.compensate.moments import Moments
from edgeqwt.compensate.probe import unfused, with_probe
from edgeqwt.compensate.rescale import differs, rewrite, squared_error, tied
from edgeqwt.compensate.solve import Correction, Options, solve
from edgeqwt.compensate.spool import Spool
from edgeqwt.compensate.stretches import Chunk, Extend, Stretches
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph, Quantization
from edgeqwt.quantize.activations import affine
from edgeqwt.quantize.ranges import RangeRule
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import xnnpack

CHUNK = 4 * HOLD_OUT_EVERY  # samples that a thread takes at a time: enough to make the bookkeeping small


@dataclass(frozen=True)
class Change:
    """What was done to one linear op.

    Attributes:
        op: index in the integer graph.
        name: the op's output tensor.
        kind: the op's kind.
        channels: output channels; `with_gain` and `with_offset` of them were changed.
        gain_low, gain_high: range of the gains.
        error_before, error_after: held-out SQNR of the op's output before its activation, in dB.
        scale: (old, new) scale of the output where it was rewritten.
    """

    op: int
    name: str
    kind: str
    channels: int
    with_gain: int
    with_offset: int
    gain_low: float
    gain_high: float
    error_before: float
    error_after: float
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Skip:
    """What was left alone: an op, or some of its channels, and why."""

    op: int
    name: str
    kind: str
    channels: int
    reason: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """The compensated graph, with the same ops and the same size, and the account of it."""

    graph: Graph
    changes: tuple[Change, ...]
    skips: tuple[Skip, ...]
    samples: int


def compensate(
    graph: Graph,
    reference: Graph,
    samples: Iterable[Mapping[int, Array]],
    statistics: Mapping[int, Statistics],
    rule: RangeRule,
    options: Options,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Fits and folds a correction into every linear op of an integer graph.

    Args:
        graph: full-integer graph, ours or another tool's.
        reference: the float graph that it came from.
        samples: real-valued inputs by the reference's input tensor index; read once.
        statistics: of the reference's activations, for rewriting output scales.
        rule: chooses ranges when output scales are rewritten.
        options: what the fit may do.
        on_layer: called with (layers done, layers in all) after each layer.

    Raises:
        InputError: no samples, or the two graphs' inputs do not correspond.
    """
    pairs, alone = match(graph, reference)
    skips = [_skip(graph, i, reason) for i, reason in alone.items()]
    wide, before = unfused(reference, [p.reference for p in pairs])
    with Spool() as spool:
        integer = Stretches("integer", graph, [slots(graph.ops[p.integer]).data for p in pairs], spool)
        floating = Stretches("float", wide, [before[p.reference] for p in pairs], spool)
        count = _feed(graph, reference, samples, integer, floating)
        changes = []
        for k, pair in enumerate(pairs):
            layer = _Layer(graph, wide, pair, k, integer, floating, count)
            fit, held_out = layer.moments()
            graph, change, skipped = _apply(layer, fit, held_out, options)
            if options.rewrite_scales:
                wanted = statistics.get(reference.ops[pair.reference].outputs[0])
                graph, change = layer.rescaled(graph, change, wanted, rule)
            layer.finish()
            changes.append(change)
            skips += skipped
            on_layer(k + 1, len(pairs))
    return Outcome(graph, tuple(changes), tuple(skips), count)


def _feed(
    graph: Graph, reference: Graph, samples: Iterable[Mapping[int, Array]], integer: Stretches, floating: Stretches
) -> int:
    count = 0
    for count, sample in enumerate(samples, start=1):
        floating.feed(count - 1, sample)
        by_position = [sample[t] for t in reference.inputs]
        integer.feed(count - 1, graph_feed(graph, dict(zip(graph.inputs, by_position, strict=True))))
    if not count:
        raise InputError("there are no calibration samples", "Give at least one; 128 to 512 are a good number.")
    return count


def halves(chunk: Chunk) -> tuple[Array, Array]:
    """Which samples of a chunk are fitted on, and which are held out, as `calibration.samples.split` does."""
    held_out = np.arange(chunk.start, chunk.stop) % HOLD_OUT_EVERY == HELD_OUT
    return ~held_out, held_out


class _Layer:
    """One linear op in both graphs, with everything that runs it."""

    def __init__(
        self,
        graph: Graph,
        reference: Graph,
        pair: Pair,
        k: int,
        integer: Stretches,
        floating: Stretches,
        count: int,
    ) -> None:
        self.graph, self.pair, self.k = graph, pair, k
        self.op, self.input = graph.ops[pair.integer], slots(graph.ops[pair.integer]).data
        self.integer, self.floating = integer, floating
        self.chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
        integer.start(k)
        floating.start(k)
        self.workers = [
            (integer.runner(k, graph, self.probe(graph)), floating.runner(k, reference)) for _ in range(THREADS)
        ]

    def probe(self, graph: Graph) -> Extend:
        """Extends a part of the integer graph by this op's real output."""
        return lambda piece, new: with_probe(piece, new[self.input], graph, self.pair.integer)

    def moments(self) -> tuple[Moments, Moments]:
        """Runs the stretch on every sample: moments of the samples to fit on, and of those held out."""

        def work(worker: tuple[Callable[[Chunk], Array], ...], chunk: Chunk) -> list[Moments]:
            output, wanted = (run(chunk) for run in worker)
            return [Moments.of(output[part], wanted[part]) for part in halves(chunk)]

        channels = self.graph.tensors[self.op.outputs[0]].shape[-1]
        totals = [Moments.zero(channels), Moments.zero(channels)]
        # Summed here, in the order of the samples, so that threads do not change the result.
        for parts in ordered(self.workers, work, self.chunks):
            totals = [total + part for total, part in zip(totals, parts, strict=True)]
        # A single sample can only be fitted and judged on alike.
        return totals[0], totals[1] if totals[1].n else totals[0]

    def rescaled(
        self, graph: Graph, change: Change, statistics: Statistics | None, rule: RangeRule
    ) -> tuple[Graph, Change]:
        """The graph with this op's output scale rewritten, if the held-out error drops."""
        old = graph.tensors[self.op.outputs[0]].quantization
        if statistics is None or old is None:
            return graph, change
        new = affine(*rule.choose(statistics, 256))
        group = tied(graph, self.pair.integer)
        if group.fixed or not differs(old, new):
            return graph, change
        candidate = rewrite(graph, group.tensors, new)
        if candidate is None:
            return graph, change
        errors = self._storage_errors(graph, [old, new])
        if not errors[1] < errors[0]:
            return graph, change
        return candidate, _with_scale(change, old, new)

    def _storage_errors(self, graph: Graph, choices: Sequence[Quantization]) -> list[float]:
        piece, wanted = with_probe(graph.slice([], [self.input], []), 0, graph, self.pair.integer)
        runner, cut = xnnpack(piece, [wanted]), self.floating.cuts[self.k]
        totals = [0.0 for _ in choices]
        for chunk in self.chunks:
            held_out = np.arange(chunk.start, chunk.stop)[halves(chunk)[1]]
            for i in held_out if len(held_out) else chunk:
                x, y = (
                    self.integer.values(self.input, range(i, i + 1))[0],
                    self.floating.values(cut, range(i, i + 1))[0],
                )
                corrected = runner.run({piece.inputs[0]: x})[wanted]
                for j, q in enumerate(choices):
                    totals[j] += squared_error(corrected, y, self.op.activation, q)
        return totals

    def finish(self) -> None:
        self.integer.finish(self.k)
        self.floating.finish(self.k)


def _apply(layer: _Layer, fit: Moments, held_out: Moments, options: Options) -> tuple[Graph, Change, list[Skip]]:
    graph, i = layer.graph, layer.pair.integer
    can_gain, can_offset, missing = room(graph, i)
    correction = solve(fit, held_out, options, can_gain, can_offset)
    if not correction.is_identity:
        graph, correction = fold(graph, i, correction)
    reasons = dict(correction.refused)
    channels = len(correction.gain)
    if missing:
        reasons[missing] = channels
    skips = [_skip(graph, i, reason, n) for reason, n in reasons.items()]
    return graph, _change(graph, i, correction, held_out), skips


def _change(graph: Graph, i: int, correction: Correction, held_out: Moments) -> Change:
    op = graph.ops[i]
    ones, zeros = np.ones_like(correction.gain), np.zeros_like(correction.gain)
    signal = float(held_out.yy.sum())
    return Change(
        op=i,
        name=graph.tensors[op.outputs[0]].name,
        kind=op.kind,
        channels=len(correction.gain),
        with_gain=int((correction.gain != 1).sum()),
        with_offset=int((correction.offset != 0).sum()),
        gain_low=float(correction.gain.min()),
        gain_high=float(correction.gain.max()),
        error_before=decibel(signal, float(held_out.error(ones, zeros).sum())),
        error_after=decibel(signal, float(held_out.error(correction.gain, correction.offset).sum())),
    )


def _with_scale(change: Change, old: Quantization, new: Quantization) -> Change:
    return Change(**{**vars(change), "scale": (float(old.scale[0]), float(new.scale[0]))})


def _skip(graph: Graph, i: int, reason: str, channels: int | None = None) -> Skip:
    op = graph.ops[i]
    out = graph.tensors[op.outputs[0]]
    return Skip(i, out.name, op.kind, out.shape[-1] if channels is None else channels, reason)


def decibel(signal: float, error: float) -> float:
    """10 log10(signal / error); infinite where there is no error."""
    if error <= 0:
        return float("inf")
    return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / error))
