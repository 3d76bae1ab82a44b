"""Tensor by tensor, how far one TFLite graph is from another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.pictured import Pictured
from edgeqwt.runtime.boundary import feed_as, graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from edgeqwt.verify.metrics import Closeness, Sums, compare
from edgeqwt.verify.op_errors import SAMPLES, OwnErrors, own_errors
from edgeqwt.verify.pairing import partners
from edgeqwt.verify.parts import Part, parts_of


@dataclass(frozen=True)
class TensorComparison:
    """One tensor that both graphs compute.

    Attributes:
        name, kind: of the tensor and of the op that computes it, in the first graph; "INPUT" without one.
        closeness: of the second graph's real values to the first's; steps are those of the second's scale. What
            varies is reported for outputs alone.
        part: which part of an output; empty: the whole.
    """

    name: str
    kind: str
    closeness: Closeness
    part: str = ""


@dataclass(frozen=True)
class Comparison(Pictured):
    """Two graphs on the same samples.

    Attributes:
        tensors: what both compute, by name, else by weights and position (`verify.pairing`), in the first graph's
            order; outputs are not among them.
        outputs: by position, each followed by its parts where it has some.
        unmatched: how many activations of the first graph the second does not have.
        samples: how many were run.
        own: what each op of the second graph errs by itself, on the first few of them.
        notes: what of the files speaks against taking the figures as they are.
    """

    tensors: tuple[TensorComparison, ...]
    outputs: tuple[TensorComparison, ...]
    unmatched: int
    samples: int
    own: OwnErrors = field(default_factory=lambda: OwnErrors(0, (), 0))
    notes: tuple[str, ...] = ()


def compare_graphs(
    first: Graph, second: Graph, samples: Iterable[Mapping[int, Array]], threads: int = THREADS
) -> Comparison:
    """Runs both graphs in LiteRT with XNNPACK and compares every activation that both have.

    Args:
        first: what is compared with, usually float.
        second: what is judged.
        samples: real-valued inputs by the first graph's input tensor index.
        threads: interpreters that run at a time.

    Raises:
        InputError: the graphs' inputs or outputs do not correspond, or there are no samples.
    """
    _check_same_ends(first, second)
    inner, output_pairs = _inner_pairs(first, second), tuple(zip(first.outputs, second.outputs, strict=True))
    pairs = (*inner, *output_pairs)
    looks: list[tuple[int, int, Part | None]] = [(a, b, None) for a, b in inner]
    looks += [(a, b, part) for a, b in output_pairs for part in (None, *parts_of(first, a))]
    workers = [(xnnpack(first, [a for a, _ in pairs]), xnnpack(second, [b for _, b in pairs])) for _ in range(threads)]

    def work(worker: tuple[Runner, Runner], sample: Mapping[int, Array]) -> list[Sums]:
        wanted, found = (
            {**fed, **runner.run(fed)}
            for runner, fed in zip(worker, (graph_feed(first, sample), feed_as(second, first, sample)), strict=True)
        )
        real = [(to_real(first, a, wanted[a]), to_real(second, b, found[b])) for a, b, _ in looks]
        seen = [
            pair if part is None else (part.of(pair[0]), part.of(pair[1]))
            for pair, (_, _, part) in zip(real, looks, strict=True)
        ]
        steps = [_step(second, b) for _, b, _ in looks]
        return [
            compare(x, y, s, varying=k >= len(inner)) for k, ((x, y), s) in enumerate(zip(seen, steps, strict=True))
        ]

    total = [Sums()] * len(looks)
    count = 0
    few: list[Mapping[int, Array]] = []

    def kept() -> Iterator[Mapping[int, Array]]:
        for sample in samples:
            if len(few) < SAMPLES:
                few.append(sample)
            yield sample

    for sums in ordered(workers, work, kept()):
        total = [before.plus(part) for before, part in zip(total, sums, strict=True)]
        count += 1
    if not count:
        raise InputError("there are no samples to compare the files on", "Give at least one.")
    kinds = {t: op.kind for op in first.ops for t in op.outputs}
    rows = tuple(
        TensorComparison(first.tensors[a].name, kinds.get(a, "INPUT"), sums.result(), "" if part is None else part.name)
        for (a, _, part), sums in zip(looks, total, strict=True)
    )
    unmatched = len({t for t in kinds if t not in first.outputs} - {a for a, _ in inner})
    return Comparison(rows[: len(inner)], rows[len(inner) :], unmatched, count, own_errors(first, second, few))


def _check_same_ends(first: Graph, second: Graph) -> None:
    """Whether two graphs take and give tensors of the same shapes, in the same order.

    Raises:
        InputError: they do not.
    """
    for what, a, b in (("inputs", first.inputs, second.inputs), ("outputs", first.outputs, second.outputs)):
        shapes = [[g.tensors[t].shape for t in ts] for g, ts in ((first, a), (second, b))]
        if shapes[0] != shapes[1]:
            raise InputError(f"the files' {what} differ: {shapes[0]} and {shapes[1]}", "Compare files of one model.")


def _inner_pairs(first: Graph, second: Graph) -> tuple[tuple[int, int], ...]:
    """Activations that are no output of the first graph, with their partners in the second, in the first's order."""
    found: dict[int, int] = {}
    for b, a in partners(first, second).items():
        same = first.tensors[a].name == second.tensors[b].name
        if b not in second.inputs and (a not in found or same):
            found[a] = b
    return tuple((t, found[t]) for op in first.ops for t in op.outputs if t not in first.outputs and t in found)


def _step(graph: Graph, tensor: int) -> float | None:
    q = graph.tensors[tensor].quantization
    return float(q.scale[0]) if q is not None and q.axis is None else None
