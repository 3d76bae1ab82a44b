"""What becomes of errors of queries, keys and values in the attention that reads them: aespa (Kim et al. 2024).

Scores are s = q k^T for each head, attention weights a = softmax(s), the result a v. Errors of the three enter it as

    dq:  ds = dq k^T        an error of a query counts by the keys' covariance C_k: dq C_k dq^T
    dk:  ds = q dk^T        an error of a key by the queries' second moment C_q: dk C_q dk^T
    dv:  a dv               inputs x of the values' layer count as attention mixes them: their moment is that of a x

So the weights' error E of a layer that gives queries costs tr(C_k E H E^T) with H the inputs' second moment. A softmax
ignores what all scores of a query have in common, and lets through each difference by its weight: C_k is the keys'
covariance under the attention weights, the mean of sum_t a_t (k_t - m)(k_t - m)^T with m = sum_t a_t k_t, where the
paper sums over all keys alike. Keys that a mask hides do not count so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeqwt.graph.element_order import order_of
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.layerwise.activation_store import ActivationStore
from edgeqwt.layerwise.segmented_run import Chunk
from edgeqwt.runtime.runners import xnnpack


@dataclass(frozen=True)
class Operand:
    """One operand of a product, as a linear op made it.

    Attributes:
        output: of the linear op.
        tensor: that the product reads.
        turned: whether it holds columns where rows are meant.
    """

    output: int
    tensor: int
    turned: bool

    def rows(self, values: Array) -> Array:
        """The tensor's values as (heads, tokens, channels of a head), float64."""
        found = values.astype(np.float64)
        found = found.swapaxes(-1, -2) if self.turned else found
        return found.reshape(-1, *found.shape[-2:])


@dataclass(frozen=True)
class Attention:
    """One attention whose queries, keys and values come from three linear ops, one head's channels after the other's.

    Attributes:
        queries, keys, values: operands of the two products.
        weights: the tensor behind the softmax.
        heads: how many.
    """

    queries: Operand
    keys: Operand
    values: Operand
    weights: int
    heads: int

    @property
    def tensors(self) -> tuple[int, ...]:
        """What `couplings` needs the values of."""
        return self.queries.tensor, self.keys.tensor, self.weights

    def mixing(self, values: Mapping[int, Array]) -> Array:
        """The attention weights of one sample, shape (heads, queries, keys), float64."""
        found = values[self.weights]
        return found.reshape(self.heads, *found.shape[-2:]).astype(np.float64)

    def couplings(self, values: Mapping[int, Array], counting: Array | None) -> tuple[Array, Array]:
        """One sample's part of C_k and C_q, each of shape (heads, channels of a head, channels of a head).

        Args:
            values: of `tensors`.
            counting: how much each query counts; None: all alike.
        """
        a = self.mixing(values)
        k, q = (side.rows(values[side.tensor]) for side in (self.keys, self.queries))
        u = np.ones(a.shape[1]) if counting is None else counting.astype(np.float64)
        means, shares = a @ k, np.einsum("q,hqt->ht", u, a)
        of_keys = (k * shares[..., None]).swapaxes(-1, -2) @ k - (means * u[:, None]).swapaxes(-1, -2) @ means
        return of_keys, (q * u[:, None]).swapaxes(-1, -2) @ q


def attentions(graph: Graph) -> Iterator[Attention]:
    """The attentions of a float graph that are laid out as `Attention` says; others are left out.

    Args:
        graph: float, prepared: scores are a BATCH_MATMUL of two activations.
    """
    producers, readers = graph.producers(), graph.consumers()
    for op in graph.ops:
        if op.kind != "SOFTMAX" or len(readers[op.outputs[0]]) != 1:
            continue
        product = graph.ops[readers[op.outputs[0]][0]]
        scores = _scores(graph, producers, op.inputs[0])
        if scores is None or product.kind != "BATCH_MATMUL" or product.inputs[0] != op.outputs[0]:
            continue
        left, right = graph.ops[scores].options, bool(product.options.get("adjY"))
        q, k = graph.ops[scores].inputs
        found = (
            _operand(graph, producers, q, bool(left.get("adjX"))),
            _operand(graph, producers, k, not left.get("adjY")),
            _operand(graph, producers, product.inputs[1], right),
        )
        shape = graph.tensors[op.outputs[0]].shape
        heads = int(np.prod(shape[:-2]))
        if not product.options.get("adjX") and all(h == heads for _, h in found):
            queries, keys, values = (operand for operand, _ in found)
            if len({queries.output, keys.output, values.output}) == len(found):
                yield Attention(queries, keys, values, op.outputs[0], heads)


def _scores(graph: Graph, producers: Mapping[int, int], t: int) -> int | None:
    """The product behind a softmax's input, through factors and masks."""
    while t in producers:
        op = graph.ops[producers[t]]
        if op.kind == "BATCH_MATMUL":
            return producers[t]
        computed = [u for u in op.inputs if u in producers and graph.tensors[u].shape == graph.tensors[t].shape]
        if op.kind not in ("MUL", "ADD", "SUB") or len(computed) != 1:
            return None
        t = computed[0]
    return None


def _operand(graph: Graph, producers: Mapping[int, int], t: int, turned: bool) -> tuple[Operand, int]:
    """An operand that is a dense layer's output, moved about, and its heads; 0 heads where it is not."""
    nothing, moves, source = (Operand(-1, t, turned), 0), list[int](), t
    while source in producers and graph.ops[producers[source]].kind in ("RESHAPE", "TRANSPOSE"):
        moves.append(producers[source])
        source = graph.ops[producers[source]].inputs[0]
    if source not in producers or graph.ops[producers[source]].kind != "FULLY_CONNECTED":
        return nothing
    shape = graph.tensors[source].shape
    found = Operand(source, t, turned)
    rows = found.rows(order_of(graph, source, reversed(moves)) % shape[-1])
    tidy = np.arange(shape[-1]).reshape(len(rows), 1, -1) if shape[-1] % len(rows) == 0 else np.zeros((1, 1, 1))
    # A layer of another shape than the rows has several samples, or shares heads.
    if rows.shape[-1] * len(rows) != shape[-1] or (rows != tidy).any():
        return nothing
    return found, len(rows)


def mixed(rows: Array, shares: Array) -> Array:
    """Rows as attention mixes them: (1, samples * keys, terms) to (heads, samples * queries, terms).

    Args:
        rows: of all samples.
        shares: attention weights, shape (samples, heads, queries, keys).
    """
    samples, heads, _, keys = shares.shape
    found = shares @ rows.reshape(samples, 1, keys, -1)
    return np.ascontiguousarray(found.swapaxes(0, 1)).reshape(heads, -1, rows.shape[-1])


class Attended:
    """What the attentions of a float graph make of errors, over samples.

    Args:
        graph: float.
        store: where attention weights wait.
    """

    def __init__(self, graph: Graph, store: ActivationStore) -> None:
        self._found, self._store = tuple(attentions(graph)), store
        self._couplings: dict[int, Array] = {}
        self._shapes = {a.values.output: graph.tensors[a.weights].shape for a in self._found}
        self._runner = xnnpack(graph, [t for a in self._found for t in a.tensors]) if self._found else None
        for a in self._found:
            store.open(("attention", a.values.output))

    def see(self, sample: int, inputs: Mapping[int, Array], counting: Mapping[int, Array]) -> None:
        """Adds a sample.

        Args:
            sample: its number.
            inputs: of the graph.
            counting: by the output of a linear op, how much its rows count; all alike where it has none.
        """
        if self._runner is None:
            return
        values = self._runner.run(inputs)
        for a in self._found:
            outputs = a.queries.output, a.keys.output
            for output, found in zip(outputs, a.couplings(values, counting.get(a.queries.output)), strict=True):
                self._couplings[output] = self._couplings.get(output, 0) + found
            self._store.put(("attention", a.values.output), sample, values[a.weights][None])

    def coupling(self, output: int) -> Array | None:
        """How errors of a linear op's channels count together, shape (heads, channels, channels)."""
        return self._couplings.get(output)

    def mixing(self, output: int) -> Callable[[Chunk], Array] | None:
        """For an op that gives values: reads attention weights, shape (samples, heads, queries, keys)."""
        if output not in self._shapes:
            return None
        shape = self._shapes[output]

        def read(chunk: Chunk) -> Array:
            found = self._store.get(("attention", output), chunk.start, len(chunk), shape, np.dtype(np.float32))
            return found.reshape(len(chunk), -1, *shape[-2:])

        return read
