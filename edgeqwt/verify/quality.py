"""How close integer graphs come to the float graph: at every linear op and at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from edgeqwt.calibration.deciding import Within
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import require_interface
from edgeqwt.graph.linear import is_linear
from edgeqwt.graph.pairing import counterparts, op_counterparts
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.output import first_name
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.verify.looks import Look, Total, compared
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.paired import gain, least_db
from edgeqwt.verify.parts import parts_of
from edgeqwt.verify.remembered import Remembered
from edgeqwt.verify.resolution import probable, probable_step, unresolved

LOOKED_AT = 1 << 24
"""Values of layers that are compared, all samples together: more of them would change the second decimal of a layer's
SQNR, and take longer than running the graphs."""
EACH = 1 << 15  # values of a layer and sample that are compared, about, those of some positions
LEAST = 8  # samples that layers are compared on, however large


class OutputFigures:
    """What a tensor and a part of one have in common."""

    closeness: Closeness
    errors: tuple[float, ...]
    variations: tuple[float, ...]
    unresolved: float | None

    @property
    def paired(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What each sample adds to what varies, and its squared error; without the first one, which adds nothing."""
        return self.variations[1:], self.errors[1:]

    @property
    def standard_error(self) -> float:
        """Of `closeness.judged_db`, in dB, by the jackknife over samples; nan where samples are too few to know.

        What a sample adds about the mean of those before it has the variance as its expectation (Welford 1962), but
        for the first one's, which adds nothing.
        """
        return gain(*self.paired).standard_error

    @property
    def least_db(self) -> float:
        """What fresh samples may well have, in dB (`paired.least_db`); nan where samples are too few to know."""
        return least_db(*self.paired)


@dataclass(frozen=True)
class PartQuality(OutputFigures):
    """A part of an output; other attributes as those of `TensorQuality`.

    Attributes:
        place: where of the output it is, such as "3 of axis 1".
    """

    name: str
    closeness: Closeness
    errors: tuple[float, ...]
    variations: tuple[float, ...] = ()
    unresolved: float | None = None
    place: str = ""


@dataclass(frozen=True)
class TensorQuality(OutputFigures):
    """One tensor of an integer graph against the float graph's.

    Attributes:
        tensor: its name in the integer graph, which has copies in other widths.
        op: index of the op that computes it; None for a graph input that is an output too.
        kind: that op's kind, "" without one.
        closeness: of the dequantized tensor to the float one.
        errors: each sample's squared error, by which candidates are compared in pairs; of outputs and decisive
            tensors alone.
        agreeing: each sample's rows whose largest element agrees; likewise.
        variations: what each sample adds to the sum of squares of what varies, about the mean of those before it;
            likewise.
        parts: of an output, where it has several that mean different things.
        unresolved: the step of its kernels, where it is a probability that varies by less (`verify.resolution`): its
            figures say nothing then.
        known_as: its name for people: an output's in the source, another's in the float graph.
    """

    tensor: str
    op: int | None
    kind: str
    closeness: Closeness
    errors: tuple[float, ...] = ()
    agreeing: tuple[int, ...] = ()
    variations: tuple[float, ...] = ()
    parts: tuple[PartQuality, ...] = ()
    unresolved: float | None = None
    known_as: str = ""

    @property
    def name(self) -> str:
        """What people know it by."""
        return first_name(self.known_as or self.tensor)

    @property
    def judged_parts(self) -> tuple[PartQuality, ...]:
        """The parts of which figures say something."""
        return tuple(part for part in self.parts if part.unresolved is None)


@dataclass(frozen=True)
class Quality:
    """An integer graph against the float graph on some samples.

    Attributes:
        samples: how many.
        layers: every linear op whose output the float graph has by the same name, in the order of the ops.
        layer_samples: the first samples, on which layers are compared: fewer where layers are large.
        outputs: in the graph's order.
        decisive: for each output the tensor that candidates are judged at: the output itself or,
            where the model ends in softmax or the like, what goes into that.
    """

    samples: int
    layers: tuple[TensorQuality, ...]
    outputs: tuple[TensorQuality, ...]
    decisive: tuple[TensorQuality, ...]
    layer_samples: int = 0

    @property
    def worst_db(self) -> float:
        """The smallest SQNR of what varies, of the decisive tensors; of the whole where nothing varies."""
        judged = [output for output in self.decisive if output.unresolved is None] or self.decisive
        return min(output.closeness.judged_db for output in judged)


def layer_quality(
    float_graph: Graph,
    int_graphs: Mapping[str, Graph],
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
    deciding: Mapping[int, Within] = MappingProxyType({}),
    known: Remembered | None = None,
    names: Sequence[str] = (),
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
        known: what graphs gave of these samples before; layers are compared on the first ones anyway.
        names: of the outputs in the source; the float graph's by default.

    Returns:
        By the name of the variant.

    Raises:
        InputError: there are no samples.
        ToolError: LiteRT refuses a graph.
    """
    ends = dict(zip(float_graph.outputs, names, strict=False))
    known_as = [ends.get(t, tensor.name) for t, tensor in enumerate(float_graph.tensors)]
    watched = {name: _Compared.of(float_graph, graph, deciding, known_as) for name, graph in int_graphs.items()}
    looks = {name: (c.graph, c.looks) for name, c in watched.items()}
    first = max(LEAST, LOOKED_AT // max(1, *(c.size for c in watched.values())))
    count, totals = compared(float_graph, looks, samples, threads, on_sample, first, known)
    return {name: c.quality(count, min(first, count), totals[name]) for name, c in watched.items()}


@dataclass(frozen=True, eq=False)
class _Compared:
    """An integer graph and what is looked at: layers, outputs, decisive tensors, and parts of outputs, in turn.

    The float graph's tensors have names that people know them by.
    """

    graph: Graph
    names: Sequence[str]
    layers: tuple[Look, ...]
    outputs: tuple[Look, ...]
    decisive: tuple[Look, ...]
    parts: tuple[tuple[Look, ...], ...]

    @staticmethod
    def of(float_graph: Graph, graph: Graph, deciding: Mapping[int, Within], names: Sequence[str]) -> _Compared:
        require_interface(graph, float_graph)
        by_op = {i: f for f, i in op_counterparts(float_graph, graph).items() if is_linear(graph.ops[i])}
        named = [(float_graph.ops[by_op[i]].outputs[0], graph.ops[i].outputs[0]) for i in sorted(by_op)]
        same = [(f, t) for f, t in named if float_graph.tensors[f].shape == graph.tensors[t].shape]
        decisive = [deciding.get(k) for k in range(len(graph.outputs))]
        outputs = tuple(zip(float_graph.outputs, graph.outputs, decisive, strict=True))
        return _Compared(
            graph,
            names,
            tuple(Look(f, t, most=EACH) for f, t in same),
            tuple(Look(f, t, True, None, d) for f, t, d in outputs),
            tuple(Look(f, t, True, None, d) if d else _decisive(float_graph, f, graph, t) for f, t, d in outputs),
            tuple(() if d else _parts(float_graph, f, graph, t) for f, t, d in outputs),
        )

    @property
    def looks(self) -> tuple[Look, ...]:
        return (*self.layers, *self.outputs, *self.decisive, *chain.from_iterable(self.parts))

    @property
    def size(self) -> int:
        """Values of one sample that are looked at layer by layer."""
        return sum(min(self.graph.tensors[look.tensor].size, EACH) for look in self.layers)

    def quality(self, samples: int, layer_samples: int, totals: Sequence[Total]) -> Quality:
        producers, left = self.graph.producers(), iter(totals)

        def tensor_quality(look: Look) -> TensorQuality:
            op, total = producers.get(look.tensor), next(left)
            kind = "" if op is None else self.graph.ops[op].kind
            errors, agreeing, variations = tuple(total.errors), tuple(total.agreeing), tuple(total.variations)
            name, closeness = self.graph.tensors[look.tensor].name, total.sums.result()
            step = _unresolved(look, total)
            known_as = self.names[look.reference]
            return TensorQuality(name, op, kind, closeness, errors, agreeing, variations, (), step, known_as)

        layers, outputs, decisive = (
            tuple(tensor_quality(look) for look in looks) for looks in (self.layers, self.outputs, self.decisive)
        )
        parts = [
            tuple(
                PartQuality(
                    look.part.name,
                    total.sums.result(),
                    tuple(total.errors),
                    tuple(total.variations),
                    _unresolved(look, total),
                    look.part.place,
                )
                for look, total in zip(looks, left)  # noqa: B905 - takes as many as there are looks
                if look.part is not None
            )
            for looks in self.parts
        ]
        return Quality(samples, layers, tuple(map(_with_parts, outputs, parts)), decisive, layer_samples)


def _with_parts(found: TensorQuality, parts: tuple[PartQuality, ...]) -> TensorQuality:
    return replace(found, parts=parts)


def _decisive(float_graph: Graph, f: int, graph: Graph, t: int) -> Look:
    """The pair of tensors to judge an output pair at: what goes into a softmax or the like, not what comes out."""
    before_f, kinds_f = before_saturation(float_graph, f)
    before_t, kinds_t = before_saturation(graph, t)
    if kinds_f != kinds_t:  # other ops compute it in these widths: it goes by its name
        before_t = counterparts(float_graph, graph).get(before_f, t)
    same = before_t != t and float_graph.tensors[before_f].shape == graph.tensors[before_t].shape
    pair = (before_f, before_t) if same else (f, t)
    step = probable_step(graph, pair[1]) if probable(float_graph, pair[0]).all() else 0.0
    return Look(*pair, varying=True, probable_step=step)


def _parts(float_graph: Graph, f: int, graph: Graph, t: int) -> tuple[Look, ...]:
    """The parts of an output pair."""
    found = parts_of(float_graph, f)
    mask, step = (probable(float_graph, f), probable_step(graph, t)) if found else (None, 0.0)
    steps = (step if mask is not None and part.of(mask).all() else 0.0 for part in found)
    return tuple(Look(f, t, True, part, probable_step=s) for part, s in zip(found, steps, strict=True))


def _unresolved(look: Look, total: Total) -> float | None:
    return look.probable_step if unresolved(total.sums, look.probable_step) else None
