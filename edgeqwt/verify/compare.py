"""Tensor by tensor, how far one TFLite graph is from another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.interface import check_interfaces
from edgeqwt.graph.pairing import partners
from edgeqwt.graph.saturation import before_saturation
from edgeqwt.graph.tensor import HANDLES
from edgeqwt.notebook_display import Tabular
from edgeqwt.runtime.parallel import THREADS
from edgeqwt.verify.looks import Look, compared
from edgeqwt.verify.metrics import Closeness
from edgeqwt.verify.op_errors import OwnErrors, enough_samples, own_errors
from edgeqwt.verify.parts import parts_of


@dataclass(frozen=True)
class TensorComparison:
    """One tensor that both graphs compute.

    Attributes:
        name, kind: of the tensor and of the op that computes it, in the first graph; "INPUT" without one.
        closeness: of the second graph's real values to the first's; steps are those of the second's scale.
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
        before: by the names of outputs behind SOFTMAX and its like, what goes into that: it tells more, because
            behind them most differences vanish.
    """

    tensors: tuple[TensorComparison, ...]
    outputs: tuple[TensorComparison, ...]
    unmatched: int
    samples: int
    own: OwnErrors = field(default_factory=lambda: OwnErrors(0, (), 0))
    notes: tuple[str, ...] = ()
    before: Mapping[str, TensorComparison] = field(default_factory=dict)

    def __repr__(self) -> str:
        """A few lines: how close the outputs are, and which op errs most."""
        rows = [
            f"  {row.name!r}{f', {row.part}' if row.part else ''}: {row.closeness.judged_db:.1f} dB"
            for row in self.outputs
        ]
        rows += [f"  before {name!r}: {row.closeness.judged_db:.1f} dB" for name, row in self.before.items()]
        rows += [f"  largest own error: {op.kind} {op.tensor!r}, {op.own_db:.1f} dB" for op in self.own.worst[:1]]
        head = f"Comparison(on {self.samples} samples, of what varies at"
        return "\n".join((head, *rows)) + ")"

    def worst(self) -> tuple[float, str]:
        """The least SQNR of what varies at an output or before its SOFTMAX, and the name of what goes into that.

        The name is empty where the output itself is the worst; NaN without outputs, or where values are not finite.
        """
        ends = [(row, "") for row in self.outputs if not row.part]
        ends += [(row, row.name) for row in self.before.values()]
        found = [(row.closeness.judged_db, name) for row, name in ends]
        return min(found, key=lambda pair: (not math.isnan(pair[0]), pair[0]), default=(math.nan, ""))


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
    looks = [Look(a, b, spread=True) for a, b in inner]
    for a, b in zip(first.outputs, second.outputs, strict=True):
        looks += [Look(a, b, True, part) for part in (None, *parts_of(first, a))]
    few, enough = list[Mapping[int, Array]](), enough_samples(second)

    def kept() -> Iterator[Mapping[int, Array]]:
        for sample in samples:
            if len(few) < enough:
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
    values = {t for t in kinds if first.tensors[t].dtype not in HANDLES and t not in first.outputs}
    unmatched = len(values - {a for a, _ in inner})
    by_tensor = {a: row for (a, _), row in zip(inner, rows, strict=False)}
    ends = {first.tensors[t].name: before_saturation(first, t)[0] for t in first.outputs}
    before = {name: by_tensor[t] for name, t in ends.items() if t in by_tensor}
    own = own_errors(first, second, few)
    return Comparison(rows[: len(inner)], rows[len(inner) :], unmatched, count, own, before=before)


def _inner_pairs(first: Graph, second: Graph) -> tuple[tuple[int, int], ...]:
    """Activations that are no output of the first graph, with their partners in the second, in the first's order."""
    found: dict[int, int] = {}
    for b, a in partners(first, second).items():
        same = first.tensors[a].name == second.tensors[b].name
        if b not in second.inputs and (a not in found or same):
            found[a] = b
    return tuple((t, found[t]) for op in first.ops for t in op.outputs if t not in first.outputs and t in found)
