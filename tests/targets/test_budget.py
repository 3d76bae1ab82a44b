from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.errors import InputError, TargetError
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.profile import Budget
from edgeqwt.target.budget import costs, foresee, over, own_board
from edgeqwt.target.load import load
from tests.chain import CONV, NONE, Chain, noise


def test_within_every_limit() -> None:
    assert over(Budget(), 10**9, 10**9, 1e12, {}) is None
    assert over(Budget(ram=100, flash=200, cycles=300), 100, 200, 300, {}) is None


def test_what_is_over_is_named_with_its_figures_and_the_three_ops_that_cost_most() -> None:
    by_op = {"flash": {"A #0": 5.0, "B #1": 900.0, "C #2": 50.0, "D #3": 0.0, "E #4": 4000.0}}
    message = over(Budget(ram=100, flash=4000), 100, 4955, None, by_op)
    assert message == (
        "Flash: 4,955 bytes, the limit is 4,000 (1.24 times as much). Most of it: E #4 (4,000), B #1 (900), C #2 (50)."
    )


def test_everything_over_is_said_at_once() -> None:
    message = over(Budget(ram=1, flash=2, cycles=3), 10, 20, 30, {})
    assert message is not None
    assert all(part in message for part in ("RAM: 10 bytes, ", "Flash: 20 bytes, ", "Cycles: 30, the limit is 3 "))


def test_a_limit_on_what_nothing_can_tell_is_not_kept() -> None:
    message = over(Budget(cycles=1000), 1, 1, None, {})
    assert message == "Cycles: the limit is 1,000, and nothing here can tell the figure for this target."


def test_costs_of_a_small_graph() -> None:
    chain = Chain()
    x = chain.input((1, 4, 4, 3))
    y = chain.op("CONV_2D", x, chain.constant(noise(8, 3, 3, 3)), chain.constant(noise(8)), **CONV)
    graph = chain.graph(chain.op("ADD", y, y, **NONE))
    found = costs(graph, {"CONV_2D": 7.0})
    first, second = (f"{op.kind} {i} ({graph.tensors[op.outputs[0]].name})" for i, op in enumerate(graph.ops))
    assert found["ram"] == {first: 4.0 * (48 + 128), second: 4.0 * (128 + 128)}  # float32; y is counted once
    assert found["flash"] == {first: 4.0 * (216 + 8), second: 0.0}
    assert found["cycles"] == {"CONV_2D": 7.0}
    assert costs(graph, bits=8)["ram"] == {first: 48.0 + 128, second: 128.0 + 128}  # what it will be as int8


def test_names_of_hundreds_of_characters_are_cut() -> None:
    chain = Chain()
    name = "model/" + "x" * 200 + "/last"
    graph = chain.graph(chain.op("RELU", chain.input((1, 4)), name=name))
    (row,) = costs(graph)["ram"]
    assert row.endswith("/last)")
    assert len(row) < 60


def wide() -> Graph:
    chain = Chain()
    x = chain.input((1, 64, 64, 3), "image")
    return chain.graph(chain.op("CONV_2D", x, chain.constant(noise(8, 3, 3, 3)), chain.constant(noise(8)), **CONV))


def test_what_cannot_fit_is_said_before_the_build() -> None:
    graph, profile = wide(), load("tflm-cortex-m4")
    needed = 64 * 64 * (3 + 8)  # int8: input and output of the one op
    foresee(graph, profile, Budget(ram=needed), 8)
    foresee(graph, profile, Budget(flash=1), 8)  # 4-bit weights may still fit
    with pytest.raises(TargetError, match=r"RAM: 45,056 bytes, the limit is 45,055 .* Most of it: CONV_2D 0") as error:
        foresee(graph, profile, Budget(ram=needed - 1), 8)
    assert error.value.exit_code == 7
    with pytest.raises(TargetError, match="RAM: 90,112 bytes"):
        foresee(graph, profile, Budget(ram=needed), 16)


def test_a_budget_takes_the_place_of_the_typical_boards_limits() -> None:
    profile = load("tflm-cortex-m4")
    assert own_board(profile, Budget()).limits == profile.limits
    left = own_board(profile, Budget(ram=1 << 20)).limits
    assert set(profile.limits) - set(left) == {"ram"}


@pytest.mark.parametrize(
    ("target", "budget", "said"),
    [
        ("tflm-cortex-m4", Budget(cycles=1), "cycles on tflm-cortex-m4"),
        ("tflite", Budget(ram=1), "RAM on tflite"),
    ],
)
def test_a_limit_that_nothing_can_judge_is_refused_at_once(target: str, budget: Budget, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        own_board(load(target), budget)
    assert error.value.hint


@pytest.mark.parametrize(("elements", "stored"), [(4, 2.0), (5, 3.0)])
def test_two_4_bit_integers_share_a_byte(elements: int, stored: float) -> None:
    q = Quantization.per_tensor(1.0, 0)
    tensors = (
        Tensor("x", (1, elements), "int8", quantization=q),
        Tensor("w", (1, elements), "int4", data=np.zeros((1, elements), np.int8), quantization=q),
        Tensor("y", (1, 1), "int8", quantization=q),
    )
    graph = Graph(tensors, (Op("FULLY_CONNECTED", (0, 1, -1), (2,)),), (0,), (2,))
    assert [*costs(graph)["flash"].values()] == [stored]
