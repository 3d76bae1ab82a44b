"""What the Ethos-U profiles claim, against Vela: every case of the op table's tests lands where the findings say."""

from __future__ import annotations

from functools import cache

import pytest

from edgeqwt.graph.graph import Graph
from edgeqwt.target.load import load, names
from tests.targets.placement import VelaStoppedError, aborting, integer_cases, merged, placed, predicted

pytestmark = pytest.mark.requires("ethosu")

GROUP = 32  # Vela's time grows faster than the number of ops

# Its int32 tensors have no scales; Vela 5.2 crashes at them (SIGSEGV).
CRASHES = "SQUARED_DIFFERENCE/integers"


@cache
def compiled(target: str, bits: int) -> dict[str, Graph]:
    """The cases that Vela does not stop at, by name."""
    graphs = integer_cases(bits)
    stopping = aborting(graphs, load(target))
    return {name: graph for name, graph in graphs.items() if graph.ops and name not in {CRASHES, *stopping}}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_ops_land_where_the_findings_say(target: str, bits: int) -> None:
    graphs, profile = compiled(target, bits), load(target)
    claimed = list(graphs)
    assert len(claimed) > 300
    for first in range(0, len(claimed), GROUP):
        many = merged({name: graphs[name] for name in claimed[first : first + GROUP]})
        assert placed(many, profile) == predicted(many, profile)


@pytest.mark.parametrize("target", [name for name in names() if name.startswith("ethos")])
def test_every_accelerator_compiles_what_it_is_said_to_run(target: str) -> None:
    graphs, profile = integer_cases(8), load(target)
    some = ("CONV_2D/3x3-RELU", "FULLY_CONNECTED/NONE", "GELU/image", "BATCH_MATMUL/plain", "MEAN/last", "GATHER/rows")
    many = merged({name: graphs[name] for name in some})
    assert placed(many, profile) == predicted(many, profile)


@pytest.mark.parametrize(
    ("target", "name", "bits"),
    [
        ("ethos-u55-128", "EQUAL/floats", 8),
        ("ethos-u55-128", "SELECT_V2/scalar", 8),
        ("ethos-u55-128", "LOGICAL_AND/plain", 8),
        ("ethos-u55-128", "CAST/float-to-bool", 8),
        ("ethos-u65-256", "GREATER/constant", 8),
        ("ethos-u55-128", "ARG_MAX/last", 16),
        ("ethos-u85-256", "ARG_MAX/last", 16),
    ],
)
def test_vela_stops_where_the_findings_say_so(target: str, name: str, bits: int) -> None:
    graph, profile = integer_cases(bits)[name], load(target)
    assert aborting({name: graph}, profile)
    with pytest.raises(VelaStoppedError):
        placed(graph, profile)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_every_kind_that_is_claimed_is_measured(target: str, bits: int) -> None:
    # Kinds that lowering writes with other ops do not occur in the cases; tests/targets/test_fix.py has some of them.
    written = {"ELU", "EXP", "LOG", "RSQRT", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"}
    kinds = load(target).limits["npu_ops"]["int16" if bits == 16 else "int8"]  # type: ignore[index]
    assert set(kinds) - {op.kind for graph in compiled(target, bits).values() for op in graph.ops} <= written
