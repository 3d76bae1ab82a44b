"""What training has put into weights beside their values: zeros (pruning) and few distinct values (clustering).

Both make files small once they are compressed, and pruned zeros can be skipped; a build must not lose them. Zeros stay
where a rounding rule is not allowed to move them. Clustered weights stay clustered where all channels of a layer have
their integers on one grid: weights are f_c C[k] with a codebook C and one factor per channel (a batch norm that was
folded in), so that scales in proportion to f_c give each entry of the codebook one integer in all channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.graph.linear import channel_rows, is_linear, slots
from edgeqwt.runtime.parallel import THREADS

SPARSITY, CLUSTERS = "sparsity", "clusters"
KINDS = (SPARSITY, CLUSTERS)
SPARSE = 0.3  # of a layer's weights: fewer zeros were not put there by pruning
MOST_CLUSTERS = 64  # distinct values; 8 bits have 255 anyway
TRIED = 16  # channels that show whether they can have a codebook in common
EACH = 4  # weights, on average, that share a value
SMALLEST = 64  # weights: smaller layers have few values by nature
ANCHORS = 4  # of a channel's values that are tried on each entry of the codebook: the largest may be missing in it
HALF_WAY = 1e-3  # of a step: float32 moves an entry of the codebook by up to 127 * SAME
WIDER = 100  # scales tried, each wider by a hundredth of a step of the largest entry
PIECE = 1 << 24  # bytes that are compressed at a time
SAME = 1e-5  # relative: float32 rounds a product of two factors to 2^-24, and a folded batch norm twice


@dataclass(frozen=True, eq=False)
class Clusters:
    """Weights that are f_c C[k].

    Attributes:
        factors: f, positive, float64, shape (channels,).
        entries: C, float64, sorted, the largest magnitude 1.
    """

    factors: Array
    entries: Array


@dataclass(frozen=True, eq=False)
class Structure:
    """The structure of a graph's weights, by the name of the tensor that the linear op computes.

    Attributes:
        sparse: layers whose zeros stay.
        clusters: layers whose distinct values stay.
    """

    sparse: frozenset[str] = frozenset()
    clusters: Mapping[str, Clusters] = field(default_factory=dict)


UNSTRUCTURED = Structure()


@dataclass(frozen=True)
class LayerStructure:
    """What became of one layer's structure.

    Attributes:
        name: of the tensor that it computes.
        kept: which of `KINDS` were kept.
        zeros_before, zeros_after: share of the weights that are zero, float and integer.
        values_before, values_after: distinct values, float and integer. Before: in one channel at most, because a
            folded batch norm gives each channel a factor of its own.
    """

    name: str
    kept: tuple[str, ...]
    zeros_before: float
    zeros_after: float
    values_before: int
    values_after: int


def structure(graph: Graph, preserve: Set[str] = frozenset(KINDS)) -> Structure:
    """The structure of a float graph's weights, as far as it is to be preserved.

    Args:
        graph: float.
        preserve: of `KINDS`.
    """
    sparse, clusters = set[str](), dict[str, Clusters]()
    for name, _, rows in _layers(graph):
        if SPARSITY in preserve and (rows == 0).mean() >= SPARSE:
            sparse.add(name)
        found = clusters_of(rows) if CLUSTERS in preserve else None
        if found is not None:
            clusters[name] = found
    return Structure(frozenset(sparse), clusters)


def clusters_of(rows: Array) -> Clusters | None:
    """The codebook of a layer's weights, where all channels have one, times a factor of their own.

    The codebook starts with the channel that has the most distinct values; each further channel takes the factor
    with which most of its values are in the codebook already, and adds the others to it.

    Args:
        rows: weights, shape (channels, terms).

    Returns:
        None where there is no such codebook of `MOST_CLUSTERS` entries.
    """
    weights = int((rows != 0).sum())  # that pruning left
    if weights < SMALLEST:
        return None
    values = list[Array]()
    for row in rows:
        values.append(np.unique(row[row != 0].astype(np.float64)))
        if len(values[-1]) > MOST_CLUSTERS:
            return None  # of nearly all layers, at their first channel
        if len(values) == TRIED and len(_codebook(values)[0]) > MOST_CLUSTERS:
            return None  # of most others, whose channels have few weights
    book, factors = _codebook(values)
    return _normalized(factors, book) if len(book) <= min(MOST_CLUSTERS, weights // EACH) else None


def _codebook(values: list[Array]) -> tuple[Array, Array]:
    """Codebook and factors of channels' distinct values; without factors where that needs no more entries."""
    plain: Array = np.unique(np.concatenate(values))
    book, factors = _shared(values, len(plain))
    return (plain, np.ones(len(values))) if len(plain) <= len(book) else (book, factors)


def _shared(values: list[Array], most: int) -> tuple[Array, Array]:
    """Codebook and factors; the codebook is given up where it grows beyond `most` entries."""
    book: Array = np.zeros(0)
    factors: Array = np.ones(len(values))
    for c in sorted(range(len(values)), key=lambda c: (-len(values[c]), c)):
        if not len(values[c]):
            continue
        if not len(book):
            book = values[c]
            continue
        factors[c] = _factor(values[c], book)
        new = values[c] / factors[c]
        book = np.unique(np.concatenate([book, new[~_matches(new, book)]]))
        if len(book) > min(most, MOST_CLUSTERS):
            break
    return book, factors


def _normalized(factors: Array, book: Array) -> Clusters:
    largest = np.abs(book).max()
    return Clusters(factors * largest, book / largest)


def weight_scales(found: Structure, name: str, bits: int) -> Array | None:
    """The scales that keep a layer's clusters, float64, shape (channels,); None for layers without."""
    book = found.clusters.get(name)
    if book is None:
        return None
    limit = 2 ** (bits - 1) - 1
    # An entry half-way between two integers would be rounded to both of them, as float32 has it in each channel.
    for wider in 1 + np.arange(WIDER) / (100 * limit):
        steps = book.entries * limit / wider
        if np.abs(np.abs(steps - np.floor(steps)) - 0.5).min() > HALF_WAY:
            break
    scales: Array = book.factors * wider / limit
    return scales


def zeros(found: Structure, name: str, weights: Array) -> Array | None:
    """Where a layer's integers must stay zero; None where any of them may be anything."""
    return weights == 0 if name in found.sparse else None


def account(reference: Graph, integer: Graph, found: Structure) -> tuple[LayerStructure, ...]:
    """What became of the structure, layer by layer; layers that never had any are left out."""
    after = {name: rows for name, _, rows in _layers(integer)}
    messages = []
    for name, _, rows in _layers(reference):
        kept = tuple(k for k, names in ((SPARSITY, found.sparse), (CLUSTERS, found.clusters)) if name in names)
        if kept and name in after:
            most = max(len(np.unique(row)) for row in rows)
            messages.append(
                LayerStructure(
                    name, kept, float((rows == 0).mean()), float((after[name] == 0).mean()), most,
                    len(np.unique(after[name])),
                )
            )  # fmt: skip
    return tuple(messages)


def compressed(data: bytes) -> int:
    """Bytes of a file after DEFLATE, as an application package or a download compresses it.

    Threads share large ones, piece by piece: DEFLATE looks back 32 KiB, so that pieces cost a few bytes each.
    """
    pieces = (data[start : start + PIECE] for start in range(0, len(data), PIECE))
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(lambda piece: len(zlib.compress(piece)), pieces))


def _layers(graph: Graph) -> Iterator[tuple[str, Op, Array]]:
    """Name, op, and weights as (channels, terms) of every linear op with constant weights."""
    for op in graph.ops:
        if not is_linear(op):
            continue
        data = graph.tensors[slots(op).weight].data
        if data is not None and data.size:
            yield graph.tensors[slots(op).output].name, op, channel_rows(data, slots(op).axis)


def _factor(values: Array, book: Array) -> float:
    """The factor with which most of a channel's values are in the codebook; of several, the one closest to 1."""
    largest = values[np.argsort(-np.abs(values), kind="stable")[:ANCHORS]]
    ratios = (largest[:, None] / book[None, :]).ravel()
    usable = np.unique(ratios[ratios > 0])
    matching = _matches(values[None, :] / usable[:, None], book).sum(axis=1)
    best = np.flatnonzero(matching == matching.max(initial=1))
    return float(usable[best[np.argmin(np.abs(np.log(usable[best])))]]) if len(best) else 1.0


def _matches(values: Array, book: Array) -> Array:
    return np.asarray((np.abs(values[..., None] - book) <= SAME * np.abs(book)).any(axis=-1))
