"""Tensor by tensor, how far one TFLite graph is from another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.graph.pairing import partners
from edgeqwt.pictured import Tabular
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.verify.comparator import Look, compared
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.op_errors import SAMPLES, OwnErrors, own_errors
from edgeqwt.verify.parts import parts_of


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
class Comparison(Tabular):
    """Two graphs on the same samples.

    Attributes:
        tensors: what both compute, by name, else by weights and position (`graph.pairing`), in the first graph's
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
    check_interfaces(first, second, "Compare files of one model.")
    inner = _inner_pairs(first, second)
    looks = [Look(a, b) for a, b in inner]
    for a, b in zip(first.outputs, second.outputs, strict=True):
        looks += [Look(a, b, True, part) for part in (None, *parts_of(first, a))]
    few: list[Mapping[int, Array]] = []

    def kept() -> Iterator[Mapping[int, Array]]:
        for sample in samples:
            if len(few) < SAMPLES:
                few.append(sample)
            yield sample

    count, totals = compared(first, {"": (second, looks)}, kept(), threads)
    kinds = {t: op.kind for op in first.ops for t in op.outputs}
    rows = tuple(
        TensorComparison(
            first.tensors[look.reference].name,
            kinds.get(look.reference, "INPUT"),
            total.sums.result(),
            "" if look.part is None else look.part.name,
        )
        for look, total in zip(looks, totals[""], strict=True)
    )
    unmatched = len({t for t in kinds if t not in first.outputs} - {a for a, _ in inner})
    return Comparison(rows[: len(inner)], rows[len(inner) :], unmatched, count, own_errors(first, second, few))


def _inner_pairs(first: Graph, second: Graph) -> tuple[tuple[int, int], ...]:
    """Activations that are no output of the first graph, with their partners in the second, in the first's order."""
    found: dict[int, int] = {}
    for b, a in partners(first, second).items():
        same = first.tensors[a].name == second.tensors[b].name
        if b not in second.inputs and (a not in found or same):
            found[a] = b
    return tuple((t, found[t]) for op in first.ops for t in op.outputs if t not in first.outputs and t in found)
