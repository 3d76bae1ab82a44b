"""How close integer graphs come to the float graph: at every linear op and at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.ends import before_saturation
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.metrics import Closeness, Sums, compare


@dataclass(frozen=True)
class Place:
    """One tensor of an integer graph against the float graph's.

    Attributes:
        tensor: its name in the integer graph.
        op: index of the op that computes it; None for a graph input that is an output too.
        kind: that op's kind, "" without one.
        closeness: of the dequantized tensor to the float one.
    """

    tensor: str
    op: int | None
    kind: str
    closeness: Closeness


@dataclass(frozen=True)
class Quality:
    """An integer graph against the float graph on some samples.

    Attributes:
        samples: how many.
        layers: every linear op whose output the float graph has by the same name, in the order of the ops.
        outputs: in the graph's order.
        decisive: for each output the tensor that candidates are judged at: the output itself or,
            where the model ends in softmax or the like, what goes into that.
    """

    samples: int
    layers: tuple[Place, ...]
    outputs: tuple[Place, ...]
    decisive: tuple[Place, ...]

    @property
    def worst_db(self) -> float:
        """The smallest SQNR of the decisive tensors."""
        return min(place.closeness.sqnr_db for place in self.decisive)


def layer_quality(
    float_graph: Graph,
    int_graphs: Mapping[str, Graph],
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
) -> dict[str, Quality]:
    """Runs the float graph and every integer graph on each sample, in LiteRT with its default kernels.

    Each integer graph runs freely, so the error of a layer includes that of the layers before it.

    Args:
        float_graph: the reference.
        int_graphs: by the name of the variant; inputs and outputs in float_graph's order.
        samples: real values by tensor index of float_graph; read once.
        threads: with one interpreter per graph each.
        on_sample: called after each sample.

    Returns:
        By the name of the variant.

    Raises:
        InputError: there are no samples.
        ToolError: LiteRT refuses a graph.
    """
    compared = {name: _Compared.of(float_graph, graph) for name, graph in int_graphs.items()}
    taps = sorted({t for c in compared.values() for t, _ in c.pairs})
    workers = [
        (
            xnnpack(float_graph, taps),
            {name: xnnpack(c.graph, [t for _, t in c.pairs]) for name, c in compared.items()},
        )
        for _ in range(threads)
    ]

    def work(worker: tuple[Runner, dict[str, Runner]], inputs: Mapping[int, Array]) -> dict[str, list[Sums]]:
        runner, variants = worker
        reference = {**inputs, **runner.run(inputs)}
        return {name: compared[name].sums(float_graph, inputs, reference, v) for name, v in variants.items()}

    totals = {name: [Sums()] * len(c.pairs) for name, c in compared.items()}
    count = 0
    for parts in ordered(workers, work, samples):
        for name, part in parts.items():
            totals[name] = [a.plus(b) for a, b in zip(totals[name], part, strict=True)]
        count += 1
        on_sample()
    if count == 0:
        raise InputError("there are no samples to compare the integer model with the float model on", "Give some.")
    return {name: c.quality(count, totals[name]) for name, c in compared.items()}


@dataclass(frozen=True, eq=False)
class _Compared:
    """An integer graph and the pairs (float tensor, integer tensor) to compare."""

    graph: Graph
    layers: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    decisive: tuple[tuple[int, int], ...]

    @staticmethod
    def of(float_graph: Graph, graph: Graph) -> _Compared:
        if (len(float_graph.inputs), len(float_graph.outputs)) != (len(graph.inputs), len(graph.outputs)):
            raise InvariantError("an integer graph has other inputs or outputs than its float graph")
        by_name = {float_graph.tensors[t].name: t for op in float_graph.ops for t in op.outputs}
        results = [op.outputs[0] for op in graph.ops if op.kind in RULES and RULES[op.kind].linear]
        named = [(by_name.get(graph.tensors[t].name, -1), t) for t in results]
        same = [(f, t) for f, t in named if f >= 0 and float_graph.tensors[f].shape == graph.tensors[t].shape]
        outputs = tuple(zip(float_graph.outputs, graph.outputs, strict=True))
        decisive = tuple(_decisive(float_graph, f, graph, t) for f, t in outputs)
        return _Compared(graph, tuple(same), outputs, decisive)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return (*self.layers, *self.outputs, *self.decisive)

    def sums(
        self, float_graph: Graph, inputs: Mapping[int, Array], reference: Mapping[int, Array], runner: Runner
    ) -> list[Sums]:
        """One sample's sums for every pair."""
        fed = feed_as(self.graph, float_graph, inputs)
        values = {**fed, **runner.run(fed)}
        return [compare(reference[f], to_real(self.graph, t, values[t]), self._step(t)) for f, t in self.pairs]

    def _step(self, tensor: int) -> float | None:
        q = self.graph.tensors[tensor].quantization
        return float(q.scale[0]) if q is not None and q.axis is None else None

    def quality(self, samples: int, totals: list[Sums]) -> Quality:
        producers = self.graph.producers()

        def place(tensor: int, total: Sums) -> Place:
            op = producers.get(tensor)
            kind = "" if op is None else self.graph.ops[op].kind
            return Place(self.graph.tensors[tensor].name, op, kind, total.result())

        places = tuple(place(t, total) for (_, t), total in zip(self.pairs, totals, strict=True))
        layers, outputs = len(self.layers), len(self.layers) + len(self.outputs)
        return Quality(samples, places[:layers], places[layers:outputs], places[outputs:])


def _decisive(float_graph: Graph, f: int, graph: Graph, t: int) -> tuple[int, int]:
    """The pair of tensors to judge an output pair at: what goes into a softmax or the like, not what comes out."""
    before_f, kinds_f = before_saturation(float_graph, f)
    before_t, kinds_t = before_saturation(graph, t)
    same = kinds_f == kinds_t and float_graph.tensors[before_f].shape == graph.tensors[before_t].shape
    return (before_f, before_t) if same else (f, t)
