"""Which value of the source model each tensor of the converted graph should hold.

Tensors are matched by value, not by name: converters fuse, split and rename ops, and their
own records of it are incomplete. On one sample, a graph tensor that equals some value of
the ONNX model, in any layout, computes that value. A tensor that equals none is either a
step within an op (padding before a convolution), and then what follows it matches again; or
it is wrong, and then nothing that is computed from it alone matches any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import Binding
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.runners import xnnpack

MATCH = 1e-3
"""Largest difference relative to the largest value at which two tensors are taken for the same: far above
what the order of float32 sums changes (1e-5 in deep networks), far below what another value would differ by."""
TRIED = 4
"""Source values tried per tensor, by how alike their statistics are; equal values have equal statistics."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A value of the source model, as a candidate for graph tensors of its size."""

    name: str
    value: Array

    @cached_property
    def statistics(self) -> Array:
        """Mean, mean absolute value and root mean square: the same in every layout."""
        return statistics(self.value)


def statistics(value: Array) -> Array:
    """Three numbers that no permutation of the elements changes, in float64."""
    x = value.astype(np.float64).ravel()
    return np.array([x.mean(), np.abs(x).mean(), np.sqrt(np.square(x).mean())])


def align(
    graph: Graph, values: Mapping[int, Array], source: Mapping[str, Array], named: Mapping[str, Sequence[str]]
) -> dict[str, Array]:
    """The source's values of graph tensors, in the graph's layout.

    Args:
        graph: the converted graph.
        values: its activations on one sample, by tensor index.
        source: the source's values on the same sample, by name.
        named: what the converter itself says: graph tensor name to names in `source`.

    Returns:
        By graph tensor name: for tensors that match, the value that they match; for wrong ones,
        the value that the converter names, or the most similar one. Steps within an op are left out.
    """
    with np.errstate(all="ignore"):  # masks hold infinities
        return _align(graph, values, source, named)


def _align(
    graph: Graph, values: Mapping[int, Array], source: Mapping[str, Array], named: Mapping[str, Sequence[str]]
) -> dict[str, Array]:
    candidates: dict[int, list[Candidate]] = {}
    for name, value in source.items():
        if value.size:
            candidates.setdefault(value.size, []).append(Candidate(name, value))
    nearest = {t: _nearest(v, candidates.get(v.size, ())) for t, v in values.items() if v.size}
    matched = {t for t, (error, _) in nearest.items() if error <= MATCH}
    inner = _followed_by_match(graph, {t for t in matched if _telling(values[t])})
    result = {}
    for t, (_, similar) in nearest.items():
        name = graph.tensors[t].name
        if t in matched and similar is not None:
            result[name] = similar
        elif t not in inner:
            said = [source[n] for n in named.get(name, ()) if n in source and source[n].size == values[t].size]
            expected = _best_layout(values[t], said[-1])[1] if said else similar
            if expected is not None:
                result[name] = expected
    return result


def _nearest(value: Array, candidates: Iterable[Candidate]) -> tuple[float, Array | None]:
    wanted = statistics(value)
    ranked = sorted(candidates, key=lambda c: float(np.abs(c.statistics - wanted).sum()))
    tried = [_best_layout(value, candidate.value) for candidate in ranked[:TRIED]]
    return min(tried, key=lambda pair: pair[0], default=(np.inf, None))


def _best_layout(value: Array, source: Array) -> tuple[float, Array]:
    """The source value in the layout that is nearest to a graph value of the same size, and the error left."""
    if value.ndim == source.ndim:
        orders = [p for p in permutations(range(value.ndim)) if tuple(source.shape[a] for a in p) == value.shape]
        options = [source.transpose(p) for p in orders]
    else:
        options = []
    options = options or [source.reshape(value.shape)]
    return min(((_error(value, option), option) for option in options), key=lambda pair: pair[0])


def _error(value: Array, expected: Array) -> float:
    a, b = value.astype(np.float64), expected.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0 if np.array_equal(a, b, equal_nan=True) else np.inf
    return float(np.abs(a - b).max()) / max(float(np.abs(b).max()), float(np.abs(a).max()), 1e-30)


def _telling(value: Array) -> bool:
    """Whether a match means anything: constants and indices match by chance."""
    return value.dtype.kind == "f" and bool(np.ptp(value) > 0)


def _followed_by_match(graph: Graph, matched: set[int]) -> set[int]:
    """Tensors from which a matching tensor is computed."""
    followed: set[int] = set()
    for op in reversed(graph.ops):
        if any(t in matched or t in followed for t in op.outputs):
            followed.update(t for t in op.inputs if t >= 0)
    return followed


def matched(
    graph: Graph,
    inputs: Sequence[Binding],
    sample: Sample,
    source: Mapping[str, Array],
    named: Mapping[str, Sequence[str]],
) -> dict[str, Array]:
    """As `align`, of what the graph computes on a sample of the source's.

    Args:
        graph: the converted graph.
        inputs: its bindings.
        sample: in the source's layout.
        source: the source's values on that sample, by name.
        named: see `align`.
    """
    taps = [t for op in graph.ops for t in op.outputs]
    feeds = {b.tensor: b.to_graph(np.asarray(sample[b.spec.name]), graph) for b in inputs}
    computed = xnnpack(graph, taps).run(feeds)
    return align(graph, {t: computed[t] for t in taps}, {**sample, **source}, named)  # a CAST of an input is one, too
