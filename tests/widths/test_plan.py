"""Which width each op gets, and how few copies at another width that needs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.errors import RecipeError
from edgeqwt.graph.graph import Graph
from edgeqwt.profile import Kernels
from edgeqwt.widths.plan import NO_KERNEL, NOT_ON_TARGET, TOO_MANY, copy_ops, planned
from edgeqwt.widths.precision import Precision, Widths
from tests.chain import NONE, Chain, noise

WIDE = Precision(activation_bits=16)


def widths(graph: Graph, precision: Precision, **options: object) -> dict[str, int]:
    """The width of each op, by its output's name."""
    plan = planned(graph, precision, **options)  # type: ignore[arg-type]
    return {graph.tensors[op.outputs[0]].name: bits for op, bits in zip(graph.ops, plan.ops, strict=True)}


def moved(kind_of_first: str = "MUL") -> Graph:
    """x -> scaled -> turned -> flat -> again: two arithmetic ops with two moving ones between them."""
    chain = Chain()
    x = chain.input((1, 2, 3), name="x")
    scaled = chain.op(kind_of_first, x, chain.constant(noise(3)), name="scaled", **NONE)
    turned = chain.op("TRANSPOSE", scaled, chain.constant([0, 2, 1]), name="turned")
    flat = chain.op("RESHAPE", turned, chain.constant([1, 6]), newShape=(1, 6), name="flat")
    return chain.graph(chain.op("MUL", flat, chain.constant(noise(6)), name="again", **NONE))


def test_everything_has_the_precisions_width() -> None:
    assert set(widths(moved(), Precision()).values()) == {8}
    assert set(widths(moved(), WIDE).values()) == {16}
    assert planned(moved(), WIDE).interface == 16


def test_moving_ops_follow_their_input() -> None:
    found = widths(moved(), Precision(layers={"scaled": Widths(8, 16)}))
    assert found == {"scaled": 16, "turned": 16, "flat": 16, "again": 8}
    found = widths(moved(), Precision(activation_bits=16, layers={"scaled": Widths(8, 8)}))
    assert found == {"scaled": 8, "turned": 8, "flat": 8, "again": 16}


def test_a_moving_op_that_is_named_has_the_width_it_is_given() -> None:
    found = widths(moved(), Precision(layers={"turned": Widths(8, 16)}))
    assert found == {"scaled": 8, "turned": 16, "flat": 16, "again": 8}


def test_an_op_that_picks_among_several_takes_the_widest() -> None:
    chain = Chain()
    x = chain.input((1, 4), name="x")
    a = chain.op("MUL", x, chain.constant(noise(4)), name="a", **NONE)
    b = chain.op("MUL", x, chain.constant(noise(4)), name="b", **NONE)
    graph = chain.graph(chain.op("CONCATENATION", a, b, axis=1, name="joined"))
    assert widths(graph, Precision(layers={"b": Widths(8, 16)})) == {"a": 8, "b": 16, "joined": 16}


def test_the_interface_is_wide_where_the_precision_is_and_not_where_a_layer_is() -> None:
    named = Precision(layers={"scaled": Widths(8, 16), "again": Widths(8, 16)})
    plan = planned(moved(), named)
    assert plan.interface == 8
    assert plan.computed_bits[0] == 8


def test_ops_without_a_wide_form_stay_narrow_and_say_so() -> None:
    chain = Chain()
    x = chain.input((1, 4))
    graph = chain.graph(chain.op("HARD_SWISH", chain.op("MUL", x, x, **NONE), name="curve"))
    plan = planned(graph, WIDE)
    assert plan.ops == (16, 8)
    assert plan.kept == {1: NO_KERNEL}


def test_ops_that_the_target_lacks_stay_narrow() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("GELU", chain.input((1, 4))))
    assert planned(graph, WIDE).ops == (16,)
    plan = planned(graph, WIDE, kernels=Kernels(missing16={"GELU"}))
    assert plan.ops == (8,)
    assert plan.kept == {0: NOT_ON_TARGET}


def test_reasons_from_outside_count() -> None:
    plan = planned(moved(), WIDE, narrow={0: "because"})
    assert plan.ops == (8, 8, 8, 16)
    assert plan.kept == {0: "because"}


@pytest.mark.parametrize(("size", "bits"), [(256, 16), (257, 8)])
def test_long_sums_stay_narrow(size: int, bits: int) -> None:
    chain = Chain()
    x = chain.input((1, size, 256, 1))
    plan = planned(chain.graph(chain.op("MEAN", x, chain.constant([1, 2]), keepDims=False)), WIDE)
    assert plan.ops == (bits,)
    assert plan.kept == ({} if bits == 16 else {0: TOO_MANY})


def test_rows_of_a_constant_table_are_weights() -> None:
    chain = Chain()
    ids = chain.input((1, 4), dtype="int32")
    rows = chain.op("GATHER", chain.constant(noise(9, 5), "table"), ids, axis=0, batchDims=0, name="rows")
    graph = chain.graph(chain.op("MUL", rows, chain.constant(np.float32(2)), name="scaled", **NONE))
    assert widths(graph, WIDE) == {"rows": 8, "scaled": 16}


def shortcut() -> Graph:
    """A tensor that is read by arithmetic, and by arithmetic again behind two moving ops."""
    chain = Chain()
    x = chain.op("MUL", chain.input((1, 6)), chain.constant(noise(6)), name="x", **NONE)
    direct = chain.op("MUL", x, chain.constant(noise(6)), name="direct", **NONE)
    column = chain.op("RESHAPE", x, chain.constant([6, 1]), newShape=(6, 1), name="column")
    back = chain.op("TRANSPOSE", column, chain.constant([1, 0]), name="back")
    return chain.graph(chain.op("ADD", direct, back, name="sum", **NONE))


def test_a_chain_of_moving_ops_is_widened_where_one_copy_does_for_two() -> None:
    precision = Precision(layers={"direct": Widths(8, 16), "sum": Widths(8, 16)})
    assert widths(shortcut(), precision) == {"x": 8, "direct": 16, "column": 16, "back": 16, "sum": 16}
    # x to 16 bits, the sum to 8.
    assert copy_ops(shortcut(), planned(shortcut(), precision)) == 3


def test_a_chain_is_not_widened_where_nothing_is_saved() -> None:
    precision = Precision(layers={"sum": Widths(8, 16)})
    assert widths(shortcut(), precision) == {"x": 8, "direct": 8, "column": 8, "back": 8, "sum": 16}


def test_a_chain_that_cannot_be_widened_stays() -> None:
    layers = {"direct": Widths(8, 16), "sum": Widths(8, 16)}
    named = Precision(layers={**layers, "back": Widths(8, 8)})
    assert widths(shortcut(), named) == {"x": 8, "direct": 16, "column": 8, "back": 8, "sum": 16}
    assert widths(shortcut(), Precision(layers=layers), kernels=Kernels(missing16={"TRANSPOSE"}))["column"] == 8


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="'x', which no op computes"):
        planned(moved(), Precision(layers={"x": Widths(8, 16)}))


def weighted(tokens: int, used: bool = True) -> Graph:
    """Scores of `tokens` keys and their softmax, which weighs values where it is `used`, and is the output else."""
    chain = Chain()
    scores = chain.op("MUL", chain.input((1, 1, tokens)), chain.constant(noise(tokens)), name="scores", **NONE)
    weights = chain.op("SOFTMAX", scores, name="weights", beta=1.0)
    if not used:
        return chain.graph(weights)
    values = chain.input((1, tokens, 4))
    return chain.graph(chain.op("BATCH_MATMUL", weights, values, name="sums"))


def test_a_softmax_over_more_elements_than_its_kernels_sum_is_wide() -> None:
    assert widths(weighted(511), Precision()) == {"scores": 8, "weights": 8, "sums": 8}
    assert widths(weighted(512), Precision()) == {"scores": 8, "weights": 16, "sums": 8}
    named = Precision(layers={"weights": Widths(8, 8)})
    assert widths(weighted(512), named)["weights"] == 16
    assert widths(weighted(512), Precision(), kernels=Kernels(bits=8))["weights"] == 8


def test_the_softmax_of_a_classifier_stays_narrow() -> None:
    assert widths(weighted(1000, used=False), Precision()) == {"scores": 8, "weights": 8}
