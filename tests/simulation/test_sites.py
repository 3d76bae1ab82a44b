"""Which activations a study quantizes, and what it takes them for."""

from __future__ import annotations

from collections import Counter

from edgeqwt.graph.graph import Graph
from edgeqwt.simulation.simulate import block_ends
from edgeqwt.simulation.sites import Role, sites
from tests.simulation.blocks import TOKENS, WIDTH, graph, modulated


def test_operands_of_layers_and_products_by_what_they_are() -> None:
    network = graph()
    found = sites(network)
    kinds = Counter((network.ops[s.op].kind, s.role) for s in found)
    assert kinds == {
        ("FULLY_CONNECTED", Role.NORM): 8,  # three of attention and one behind it, in two blocks
        ("FULLY_CONNECTED", Role.GELU): 2,
        ("FULLY_CONNECTED", Role.OTHER): 4,  # the first, the head behind a mean, two behind P·V
        ("BATCH_MATMUL", Role.SOFTMAX): 2,
        ("BATCH_MATMUL", Role.OTHER): 6,
    }
    assert all(s.linear == (network.ops[s.op].kind == "FULLY_CONNECTED") for s in found)
    assert all(network.ops[s.op].inputs[s.slot] == s.tensor for s in found)


def test_blocks_end_at_residual_sums_that_everything_behind_depends_on() -> None:
    network = graph()
    ends = list(block_ends(network))
    sums = [i for i, op in enumerate(network.ops) if op.kind == "ADD" and network.tensors[op.outputs[0]].shape[-1] == 8]
    assert [i for i, _ in ends] == sums
    begins = [begin for _, begin in ends]
    assert begins[1:] == [network.ops[i].outputs[0] for i in sums[:-1]]


def test_conditions_scale_norms_and_live_through_blocks() -> None:
    network = modulated()
    found = [s for s in sites(network) if s.role == Role.NORM]
    assert [network.ops[s.op].kind for s in found] == ["FULLY_CONNECTED"] * 3
    ends = list(block_ends(network))
    # A shift by a condition is no residual sum, though all that follows depends on it and the condition alone.
    sums = [i for i, op in enumerate(network.ops) if op.kind == "ADD" and made_of_positions(network, i)]
    assert [i for i, _ in ends] == sums
    assert len(sums) == 2


def made_of_positions(network: Graph, i: int) -> bool:
    return all(network.tensors[t].shape == (1, TOKENS, WIDTH) for t in network.ops[i].inputs)
