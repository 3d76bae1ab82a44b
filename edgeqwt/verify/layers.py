"""How close integer graphs come to the float graph: at every linear op and at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType

from edgeqwt.calibration.deciding import Within
from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.opset import RULES
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.metrics import Closeness, Sums, compare
from edgeqwt.verify.parts import Part, parts_of


@dataclass(frozen=True)
class PartQuality:
    """A part of an output; attributes as those of `TensorQuality`."""

    name: str
    closeness: Closeness
    errors: tuple[float, ...]


@dataclass(frozen=True)
class TensorQuality:
    """One tensor of an integer graph against the float graph's.

    Attributes:
        tensor: its name in the integer graph.
        op: index of the op that computes it; None for a graph input that is an output too.
        kind: that op's kind, "" without one.
        closeness: of the dequantized tensor to the float one.
        errors: each sample's squared error, by which candidates are compared in pairs; of outputs and decisive
            tensors alone.
        agreeing: each sample's rows whose largest element agrees; likewise.
        parts: of an output, where it has several that mean different things.
    """

    tensor: str
    op: int | None
    kind: str
    closeness: Closeness
    errors: tuple[float, ...] = ()
    agreeing: tuple[int, ...] = ()
    parts: tuple[PartQuality, ...] = ()


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
    layers: tuple[TensorQuality, ...]
    outputs: tuple[TensorQuality, ...]
    decisive: tuple[TensorQuality, ...]

    @property
    def worst_db(self) -> float:
        """The smallest SQNR of what varies, of the decisive tensors; of the whole where nothing varies."""
        return min(output.closeness.judged_db for output in self.decisive)


def layer_quality(
    float_graph: Graph,
    int_graphs: Mapping[str, Graph],
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
    deciding: Mapping[int, Within] = MappingProxyType({}),
) -> dict[str, Quality]:
    """Runs the float graph and every integer graph on each sample, in LiteRT with its default kernels.

    Each integer graph runs freely, so the error of a layer includes that of the layers before it.

    Args:
        float_graph: the reference.
        int_graphs: by the name of the variant; inputs and outputs in float_graph's order.
        samples: real values by tensor index of float_graph; read once.
        threads: with one interpreter per graph each.
        on_sample: called after each sample.
        deciding: what of outputs decides, by their position; nothing else of them is compared.

    Returns:
        By the name of the variant.

    Raises:
        InputError: there are no samples.
        ToolError: LiteRT refuses a graph.
    """
    compared = {name: _Compared.of(float_graph, graph, deciding) for name, graph in int_graphs.items()}
    taps = sorted({look.reference for c in compared.values() for look in c.looks})
    workers = [
        (
            xnnpack(float_graph, taps),
            {name: xnnpack(c.graph, [look.tensor for look in c.looks]) for name, c in compared.items()},
        )
        for _ in range(threads)
    ]

    def work(worker: tuple[Runner, dict[str, Runner]], inputs: Mapping[int, Array]) -> dict[str, list[Sums]]:
        runner, variants = worker
        reference = {**inputs, **runner.run(inputs)}
        return {name: compared[name].sums(float_graph, inputs, reference, v) for name, v in variants.items()}

    totals = {name: [_Total() for _ in c.looks] for name, c in compared.items()}
    count = 0
    for parts in ordered(workers, work, samples):
        for name, part in parts.items():
            for total, look, sums in zip(totals[name], compared[name].looks, part, strict=True):
                total.add(sums, look.varying)
        count += 1
        on_sample()
    if count == 0:
        raise InputError("there are no samples to compare the integer model with the float model on", "Give some.")
    return {name: c.quality(count, totals[name]) for name, c in compared.items()}


@dataclass(frozen=True)
class _Look:
    """A pair of tensors, or of parts of them, to compare.

    Attributes:
        reference, tensor: in the float and in the integer graph.
        varying: whether it is an output or what one is judged by: then what varies counts, too.
        part: None: the whole.
        deciding: what of the tensors counts; None: everything.
    """

    reference: int
    tensor: int
    varying: bool
    part: Part | None = None
    deciding: Within | None = None


@dataclass
class _Total:
    """What was found of one look by now."""

    sums: Sums = field(default_factory=Sums)
    errors: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)

    def add(self, sums: Sums, each: bool) -> None:
        """Takes in one sample's sums, and keeps what is compared in pairs where `each` is set."""
        self.sums = self.sums.plus(sums)
        if each:
            self.errors.append(sums.error)
            self.agreeing.append(sums.agreeing)


@dataclass(frozen=True, eq=False)
class _Compared:
    """An integer graph and what is looked at: layers, outputs, decisive tensors, and parts of outputs, in turn."""

    graph: Graph
    layers: tuple[_Look, ...]
    outputs: tuple[_Look, ...]
    decisive: tuple[_Look, ...]
    parts: tuple[tuple[_Look, ...], ...]

    @staticmethod
    def of(float_graph: Graph, graph: Graph, deciding: Mapping[int, Within]) -> _Compared:
        if (len(float_graph.inputs), len(float_graph.outputs)) != (len(graph.inputs), len(graph.outputs)):
            raise InvariantError("an integer graph has other inputs or outputs than its float graph")
        by_name = {float_graph.tensors[t].name: t for op in float_graph.ops for t in op.outputs}
        results = [op.outputs[0] for op in graph.ops if op.kind in RULES and RULES[op.kind].linear]
        named = [(by_name.get(graph.tensors[t].name, -1), t) for t in results]
        same = [(f, t) for f, t in named if f >= 0 and float_graph.tensors[f].shape == graph.tensors[t].shape]
        told = [deciding.get(k) for k in range(len(graph.outputs))]
        outputs = tuple(zip(float_graph.outputs, graph.outputs, told, strict=True))
        return _Compared(
            graph,
            tuple(_Look(f, t, varying=False) for f, t in same),
            tuple(_Look(f, t, True, None, d) for f, t, d in outputs),
            tuple(_Look(f, t, True, None, d) if d else _decisive(float_graph, f, graph, t) for f, t, d in outputs),
            tuple(tuple(_Look(f, t, True, p) for p in (() if d else parts_of(float_graph, f))) for f, t, d in outputs),
        )

    @property
    def looks(self) -> tuple[_Look, ...]:
        return (*self.layers, *self.outputs, *self.decisive, *chain.from_iterable(self.parts))

    def sums(
        self, float_graph: Graph, inputs: Mapping[int, Array], reference: Mapping[int, Array], runner: Runner
    ) -> list[Sums]:
        """One sample's sums for every look."""
        fed = feed_as(self.graph, float_graph, inputs)
        values = {**fed, **runner.run(fed)}

        def one(look: _Look) -> Sums:
            wanted, found = reference[look.reference], to_real(self.graph, look.tensor, values[look.tensor])
            if look.deciding is not None:
                wanted, found = look.deciding.of(wanted), look.deciding.of(found)
            if look.part is not None:
                wanted, found = look.part.of(wanted), look.part.of(found)
            return compare(wanted, found, self._step(look.tensor), varying=look.varying)

        return [one(look) for look in self.looks]

    def _step(self, tensor: int) -> float | None:
        q = self.graph.tensors[tensor].quantization
        return float(q.scale[0]) if q is not None and q.axis is None else None

    def quality(self, samples: int, totals: Sequence[_Total]) -> Quality:
        producers, left = self.graph.producers(), iter(totals)

        def tensor_quality(look: _Look) -> TensorQuality:
            op, total = producers.get(look.tensor), next(left)
            kind = "" if op is None else self.graph.ops[op].kind
            name, errors, agreeing = self.graph.tensors[look.tensor].name, tuple(total.errors), tuple(total.agreeing)
            return TensorQuality(name, op, kind, total.sums.result(), errors, agreeing)

        layers, outputs, decisive = (
            tuple(tensor_quality(look) for look in looks) for looks in (self.layers, self.outputs, self.decisive)
        )
        parts = [
            tuple(
                PartQuality(look.part.name, total.sums.result(), tuple(total.errors))
                for look, total in zip(looks, left)  # noqa: B905 - takes as many as there are looks
                if look.part is not None
            )
            for looks in self.parts
        ]
        return Quality(samples, layers, tuple(map(_with_parts, outputs, parts)), decisive)


def _with_parts(found: TensorQuality, parts: tuple[PartQuality, ...]) -> TensorQuality:
    return replace(found, parts=parts)


def _decisive(float_graph: Graph, f: int, graph: Graph, t: int) -> _Look:
    """The pair of tensors to judge an output pair at: what goes into a softmax or the like, not what comes out."""
    before_f, kinds_f = before_saturation(float_graph, f)
    before_t, kinds_t = before_saturation(graph, t)
    same = kinds_f == kinds_t and float_graph.tensors[before_f].shape == graph.tensors[before_t].shape
    return _Look(*((before_f, before_t) if same else (f, t)), varying=True)
