"""MULs by ones at the boundaries of 16-bit regions: where they go, and that they change nothing."""

from __future__ import annotations

from edgeqwt.equalize.splits import NARROW, split
from edgeqwt.graph.graph import Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.widths.regions import regions
from tests.chain import Chain
from tests.prepare import toy
from tests.prepare.test_prepare import assert_same_function


def stream(graph: Graph) -> set[int]:
    return {i for region in regions(graph) if region.role == "normalization" for i in region.ops}


def post_norm() -> Graph:
    """A block whose norm is read by the next layers and by the next sum."""
    chain = Chain()
    x = chain.input((1, toy.TOKENS, toy.WIDTH))
    x = toy.norm(chain, toy.add(chain, toy.attention(chain, x, 1), x), 20)
    hidden = toy.dense(chain, x, 4 * toy.WIDTH, 30)
    hidden = chain.op("GELU", hidden, shape=chain.tensors[hidden].shape, approximate=False)
    return chain.graph(toy.norm(chain, toy.add(chain, x, toy.dense(chain, hidden, toy.WIDTH, 40)), 50))


def test_post_norm_splits_what_lands_on_the_stream_and_what_leaves_it() -> None:
    graph = prepare(post_norm()).graph
    found, names = split(graph, stream(graph))
    # Attention's projection and the second dense layer land; the norm's output leaves for the first dense layer.
    assert len(names) == 3
    assert sum(name.endswith(f"/{NARROW}") for name in names) == 1
    assert len(found.ops) == len(graph.ops) + 3
    assert_same_function(graph, found)
    assert [found.tensors[t].name for t in found.outputs] == [graph.tensors[t].name for t in graph.outputs]


def test_pre_norm_needs_no_factor_where_gamma_takes_it() -> None:
    graph = prepare(toy.language(blocks=1)).graph
    found, names = split(graph, stream(graph))
    assert not any(name.endswith(f"/{NARROW}") for name in names)
    assert_same_function(graph, found)


def test_no_island_no_split() -> None:
    graph = prepare(post_norm()).graph
    assert split(graph, set()) == (graph, ())
