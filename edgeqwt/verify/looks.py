"""Pairs of tensors of two graphs, or of parts of them, compared over samples: sums for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import batched, islice

import numpy as np

from edgeqwt.calibration.deciding import Within
from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.positions import thinned
from edgeqwt.runtime.boundary import to_real
from edgeqwt.runtime.parallel import THREADS, chunk_size
from edgeqwt.runtime.runners import Values
from edgeqwt.verify.metrics import Sums, compare
from edgeqwt.verify.parts import Part
from edgeqwt.verify.remembered import Remembered
from edgeqwt.verify.running import Known, nothing_known, over, workers


@dataclass(frozen=True)
class Look:
    """A pair of tensors, or of parts of them, to compare.

    Attributes:
        reference, tensor: in the one graph and in the other.
        varying: whether samples are compared one by one, by what varies and by rows: outputs, and what they are
            judged by.
        part: None: the whole.
        deciding: what of the tensors counts; None: everything.
        spread: whether what varies counts of others, too.
        probable_step: of a probability, the step that its kernels give it (`verify.resolution`); 0 of what is none.
        most: values of a sample that count, about, of what is not `varying`; None: all.
    """

    reference: int
    tensor: int
    varying: bool = False
    part: Part | None = None
    deciding: Within | None = None
    spread: bool = False
    probable_step: float = 0.0
    most: int | None = None

    def counting(self, values: Array) -> Array:
        """What counts of the values of one of the tensors."""
        values = values if self.deciding is None else self.deciding.of(values)
        return values if self.part is None else self.part.of(values)


@dataclass
class Total:
    """What was found of one look by now; what is kept of each sample, `errors` and the rest, where it varies."""

    sums: Sums = field(default_factory=Sums)
    errors: list[float] = field(default_factory=list)
    agreeing: list[int] = field(default_factory=list)
    variations: list[float] = field(default_factory=list)

    def add(self, sums: Sums, each: bool) -> None:
        """Takes in one sample's sums, and keeps what is compared in pairs where `each` is set."""
        before, self.sums = self.sums, self.sums.plus(sums)
        if each:
            self.variations.append(_squares(self.sums) - _squares(before))
            self.errors.append(sums.error)
            self.agreeing.append(sums.agreeing)


def _squares(sums: Sums) -> float:
    return 0.0 if sums.spread is None else sums.spread.squares


def compared(
    reference: Graph,
    graphs: Mapping[str, tuple[Graph, Sequence[Look]]],
    samples: Iterable[Mapping[int, Array]],
    threads: int = THREADS,
    on_sample: Callable[[], None] = lambda: None,
    first: int | None = None,
    known: Remembered | None = None,
) -> tuple[int, dict[str, list[Total]]]:
    """How close graphs come to another one, look by look.

    Args:
        reference: what the others are compared with, usually float.
        graphs: by name, with what to look at.
        samples: as for `side_by_side`.
        threads: likewise.
        on_sample: called after each sample.
        first: how many samples looks count of that are not `varying`; None: all.
        known: of the other samples, values of graphs that ran on them before.

    Returns:
        How many samples there were, and by name a total for each look.

    Raises:
        InputError: there are no samples.
        ToolError: LiteRT refuses a graph.
    """
    totals = {name: [Total() for _ in looks] for name, (_, looks) in graphs.items()}
    taps = {look.reference for _, looks in graphs.values() for look in looks}
    tapped = {name: (graph, [look.tensor for look in looks]) for name, (graph, looks) in graphs.items()}
    sizes = [sum(graph.tensors[t].size for t in looked) for graph, looked in tapped.values()]
    size = chunk_size(sum(sizes) + sum(reference.tensors[t].size for t in taps))
    prepared, source = workers(reference, taps, tapped, threads), enumerate(samples)

    def taken(part: Iterable[tuple[int, Mapping[int, Array]]], every: bool, before: Known) -> int:
        looks = {
            name: [(look, total) for look, total in zip(found, totals[name], strict=True) if every or look.varying]
            for name, (_, found) in graphs.items()
        }

        def work(wanted: list[Values], found: list[dict[str, Values]]) -> tuple[int, dict[str, list[list[Sums]]]]:
            return len(wanted), {
                name: [_sums(reference, graphs[name][0], look, wanted, [v[name] for v in found]) for look, _ in kept]
                for name, kept in looks.items()
            }

        count = 0
        for number, parts in over(prepared, reference, tapped, batched(part, size), work, True, before):
            for name, by_look in parts.items():
                for (look, total), found in zip(looks[name], by_look, strict=True):
                    for sums in found:
                        total.add(sums, look.varying)
            count += number
            for _ in range(number):
                on_sample()
        return count

    count = taken(source if first is None else islice(source, first), True, nothing_known)
    count += taken(source, False, nothing_known if known is None else _known(known, reference, graphs))
    if count == 0:
        raise InputError("there are no samples to compare the models on", "Give at least one.")
    return count, totals


def _known(known: Remembered, reference: Graph, graphs: Mapping[str, tuple[Graph, Sequence[Look]]]) -> Known:
    """What is known of a sample, where that is all that `varying` looks need of a graph."""
    needs = {reference: {look.reference for _, looks in graphs.values() for look in looks if look.varying}}
    for graph, looks in graphs.values():
        needs.setdefault(graph, set()).update(look.tensor for look in looks if look.varying)
    return lambda graph, number: known.of(graph, number, needs[graph])


def _sums(reference: Graph, graph: Graph, look: Look, wanted: list[Values], found: list[Values]) -> list[Sums]:
    """Sums for a look: of each sample where it is compared in pairs, else of all together."""
    q = graph.tensors[look.tensor].quantization
    step = float(q.scale[0]) if q is not None and q.axis is None else None
    ours, theirs = [v[look.reference] for v in wanted], [v[look.tensor] for v in found]
    if look.varying or look.spread:  # what varies is kept
        ours = [*map(np.array, ours)]
    if look.varying:
        first = [look.counting(to_real(reference, look.reference, value)) for value in ours]
        second = [look.counting(to_real(graph, look.tensor, value)) for value in theirs]
        return [compare(a, b, step, varying=True) for a, b in zip(first, second, strict=True)]
    if look.most is not None:
        ours, theirs = ([thinned(value, look.most) for value in values] for values in (ours, theirs))
    stack = _stacked([to_real(reference, look.reference, value) for value in ours])
    if theirs[0].dtype.kind == "c" or (q is not None and q.axis is not None):  # not element by element
        theirs = [to_real(graph, look.tensor, value) for value in theirs]
    real = partial(to_real, graph, look.tensor)
    return [compare(stack, _stacked(theirs), step, varying=look.spread, rows=False, stacked=True, real=real)]


def _stacked(values: list[Array]) -> Array:
    return values[0][None] if len(values) == 1 else np.stack(values)
