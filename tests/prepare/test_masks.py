"""Masks hide what they hid, with constants that leave the scores their integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph
from edgeqwt.prepare.masks import HIDDEN, chosen, deepened
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import reference
from tests.chain import NONE, Chain, noise
from tests.prepare.test_prepare import assert_same_function, kinds

LARGEST = [-1e4, -1e9, float(np.finfo(np.float32).min)]
SCORES = (1, 2, 4, 4)
BROADCAST = (1, 1, 1, 4)


def feeds(graph: Graph, count: int = 4) -> list[dict[int, Array]]:
    """Scores of a usual size and masks that hide some keys, but not all."""
    rng = np.random.default_rng(7)
    shapes = {t: graph.tensors[t] for t in graph.inputs}
    return [
        {
            t: (rng.permutation([0, 1, 1, 1]).reshape(tensor.shape).astype(tensor.dtype))
            if tensor.dtype != "float32"
            else rng.normal(0, 4, tensor.shape).astype(np.float32)
            for t, tensor in shapes.items()
        }
        for _ in range(count)
    ]


def multiplied(large: float, *more: str) -> Graph:
    """softmax(scores + (1 - mask) * large)."""
    chain = Chain()
    scores, mask = chain.input(SCORES), chain.input((1, 4), dtype="int32")
    used = chain.op("CAST", mask, dtype="float32", shape=(1, 4), inDataType="INT32", outDataType="FLOAT32")
    used = chain.op("RESHAPE", used, chain.constant(BROADCAST), shape=BROADCAST, newShape=BROADCAST)
    factor = chain.constant(large)
    hidden = chain.op("MUL", chain.op("SUB", chain.constant(1.0), used, **NONE), factor, **NONE)
    outputs = [chain.op("SOFTMAX", chain.op("ADD", scores, hidden, **NONE), beta=1.0)]
    if "mask is an output" in more:
        outputs.append(hidden)
    if "factor is shared" in more:
        outputs.append(chain.op("MUL", scores, factor, **NONE))
    return chain.graph(*outputs)


def smallest(graph: Graph) -> float:
    """The smallest of all float constants."""
    found = [t.data.min() for t in graph.tensors if t.data is not None and t.is_float]
    return float(min(found))


@pytest.mark.parametrize("large", LARGEST)
def test_a_factor_of_the_mask(large: float) -> None:
    graph = multiplied(large)
    prepared = prepare(graph)
    assert smallest(prepared.graph) == HIDDEN
    assert_same_function(graph, prepared.graph, feeds(graph))
    assert prepare(prepared.graph).graph is prepared.graph


@pytest.mark.parametrize("large", [*LARGEST, -np.inf])
def test_a_constant_mask(large: float) -> None:
    """Causal attention."""
    chain = Chain()
    mask = np.where(np.tri(4, dtype=bool), 0, large).astype(np.float32)
    total = chain.op("ADD", chain.input(SCORES), chain.constant(mask), **NONE)
    graph = chain.graph(chain.op("SOFTMAX", total, beta=1.0))
    prepared = prepare(graph).graph
    assert smallest(prepared) == HIDDEN
    assert_same_function(graph, prepared, feeds(graph))


@pytest.mark.parametrize("large", [*LARGEST, -np.inf])
@pytest.mark.parametrize("where", ["in place of scores", "in the mask"])
def test_a_selected_constant(large: float, where: str) -> None:
    chain = Chain()
    scores, mask = chain.input(SCORES), chain.input(BROADCAST, dtype="int32")
    padding = chain.op("EQUAL", mask, chain.constant([0]), dtype="bool", shape=BROADCAST)
    if where == "in the mask":
        hidden = chain.op("SELECT_V2", padding, chain.constant(large), chain.constant(0.0), shape=BROADCAST,
                          dtype="float32")  # fmt: skip
        total = chain.op("ADD", scores, hidden, **NONE)
    else:
        total = chain.op("SELECT_V2", padding, chain.constant(large), scores, shape=SCORES, dtype="float32")
    graph = chain.graph(chain.op("SOFTMAX", total, beta=1.0))
    prepared = prepare(graph).graph
    assert smallest(prepared) == HIDDEN
    assert kinds(prepared) == ["EQUAL", "SELECT_V2", "ADD", "SOFTMAX"]
    assert_same_function(graph, prepared, feeds(graph))


@pytest.mark.parametrize("turned", [False, True])
def test_rows_that_are_hidden_altogether(turned: bool) -> None:
    """Padding in DeBERTa: softmax of equal constants gives equal shares, whatever the scores are."""
    chain = Chain()
    scores, shown = chain.input(SCORES), chain.input((1, 1, 4, 4), dtype="int32")
    kind = "EQUAL" if turned else "NOT_EQUAL"
    condition = chain.op(kind, shown, chain.constant(np.int32(0)), shape=(1, 1, 4, 4), dtype="bool")
    large = chain.constant(np.array([LARGEST[-1]], np.float32))
    choices = (large, scores) if turned else (scores, large)
    graph = chain.graph(chain.op("SOFTMAX", chain.op("SELECT_V2", condition, *choices, shape=SCORES), beta=1.0))
    prepared = prepare(graph).graph
    assert smallest(prepared) == HIDDEN
    samples = feeds_of_rows(graph)
    assert_same_function(graph, prepared, samples)
    assert prepare(prepared).graph is prepared


def feeds_of_rows(graph: Graph) -> list[dict[int, Array]]:
    """Scores of a usual size; the last row shows no key, each other row some."""
    rng = np.random.default_rng(3)
    scores, mask = graph.inputs
    shown = np.tri(4, dtype=np.int32)
    shown[-1] = 0
    return [{scores: rng.normal(0, 3, SCORES).astype(np.float32), mask: shown.reshape(1, 1, 4, 4)} for _ in range(4)]


def joined(caller_sees: bool = False) -> Graph:
    """Two layers' scores, to which the sum of a causal mask and one of padding is added, as torch's encoders do it."""
    chain = Chain()
    first, second, padding = chain.input(SCORES), chain.input(SCORES), chain.input(BROADCAST, dtype="int32")
    hides = chain.op("EQUAL", padding, chain.constant([0]), dtype="bool", shape=BROADCAST)
    large = chain.constant(np.float32([-3.4e38]))
    filled = chain.op("SELECT_V2", hides, large, chain.constant(np.zeros(BROADCAST)), shape=BROADCAST)
    causal = np.where(np.tri(4, dtype=bool), 0, -np.inf)[None, None]
    both = chain.op("ADD", chain.constant(causal), filled, shape=(1, 1, 4, 4), **NONE)
    layers = [chain.op("SOFTMAX", chain.op("ADD", scores, both, **NONE), beta=1.0) for scores in (first, second)]
    return chain.graph(*layers, *([both] if caller_sees else []))


def test_a_sum_of_masks_that_several_layers_read() -> None:
    graph = joined()
    prepared = prepare(graph).graph
    assert smallest(prepared) == HIDDEN
    # The first token is always there: no row is hidden altogether.
    seen = [{**feed, graph.inputs[2]: np.array([1, 1, 0, 0], np.int32).reshape(BROADCAST)} for feed in feeds(graph)]
    assert_same_function(graph, prepared, seen)


def test_a_sum_of_masks_that_the_caller_sees_stays() -> None:
    assert smallest(prepare(joined(caller_sees=True)).graph) == -np.inf


def test_what_the_caller_sees_stays() -> None:
    graph = multiplied(-1e9, "mask is an output")
    assert smallest(prepare(graph).graph) == np.float32(-1e9)


def test_other_uses_of_the_constant_keep_it() -> None:
    graph = multiplied(-1e9, "factor is shared")
    prepared = prepare(graph).graph
    assert any(t.data is not None and t.is_float and float(t.data.min()) == HIDDEN for t in prepared.tensors)
    assert_same_function(graph, prepared, feeds(graph))


def test_a_factor_of_what_may_be_a_fraction_stays() -> None:
    chain = Chain()
    hidden = chain.op("MUL", chain.input(BROADCAST), chain.constant(-1e9), **NONE)
    graph = chain.graph(chain.op("SOFTMAX", chain.op("ADD", chain.input(SCORES), hidden, **NONE), beta=1.0))
    assert prepare(graph).graph is graph


def test_large_constants_that_do_not_go_into_softmax_stay() -> None:
    chain = Chain()
    total = chain.op("ADD", chain.input((1, 4)), chain.constant(noise(4) - 1e4), **NONE)
    graph = chain.graph(chain.op("TANH", total))
    assert prepare(graph).graph is graph


def subtracted(large: float, *more: str) -> Graph:
    """softmax(scores - (1 - mask) * large)."""
    chain = Chain()
    scores, mask = chain.input(SCORES), chain.input(BROADCAST, dtype="int32")
    used = chain.op("CAST", mask, dtype="float32", shape=BROADCAST, inDataType="INT32", outDataType="FLOAT32")
    hidden = chain.op("MUL", chain.op("SUB", chain.constant(1.0), used, **NONE), chain.constant(large), **NONE)
    outputs = [chain.op("SOFTMAX", chain.op("SUB", scores, hidden, **NONE), beta=1.0)]
    if "added, too" in more:
        outputs.append(chain.op("SOFTMAX", chain.op("ADD", chain.input(SCORES), hidden, **NONE), beta=1.0))
    return chain.graph(*outputs)


def largest(graph: Graph) -> float:
    """The largest of all float constants."""
    return max(float(t.data.max()) for t in graph.tensors if t.data is not None and t.is_float)


@pytest.mark.parametrize("large", [1e4, 1e6, 1e30])
def test_a_mask_that_is_subtracted(large: float) -> None:
    graph = subtracted(large)
    prepared = prepare(graph)
    assert largest(prepared.graph) == -HIDDEN
    assert_same_function(graph, prepared.graph, feeds(graph))
    assert prepare(prepared.graph).graph is prepared.graph


def test_what_is_subtracted_and_what_is_added_hide_with_one_sign_each() -> None:
    assert largest(prepare(subtracted(-1e6)).graph) == 1  # it hides what the mask shows: nothing known
    assert largest(prepare(subtracted(1e6, "added, too")).graph) == np.float32(1e6)


@pytest.mark.parametrize("spelling", ["a product", "a choice", "a constant"])
def test_an_added_mask_that_hides_whole_rows_chooses(spelling: str) -> None:
    """-1e9 absorbs the scores of a row that is hidden altogether: equal shares."""
    chain, shape = Chain(), (1, 1, 4, 4)
    scores = chain.input(SCORES)
    if spelling == "a constant":
        shown = np.tri(4, dtype=bool)
        shown[-1] = False
        hidden = chain.constant(np.where(shown, 0, -1e9).reshape(shape))
    else:
        mask = chain.input((1, 4, 4), dtype="int32")
        mask = chain.op("RESHAPE", mask, chain.constant(shape), shape=shape, dtype="int32", newShape=shape)
        if spelling == "a product":
            used = chain.op("CAST", mask, dtype="float32", shape=shape, inDataType="INT32", outDataType="FLOAT32")
            hidden = chain.op("MUL", chain.op("SUB", chain.constant(1.0), used, **NONE), chain.constant(-1e9), **NONE)
        else:
            where = chain.op("EQUAL", mask, chain.constant(np.int32(0)), shape=shape, dtype="bool")
            hidden = chain.op("SELECT_V2", where, chain.constant(np.array([-1e9])), chain.constant(np.array([0.0])),
                              shape=shape, dtype="float32")  # fmt: skip
    graph = chain.graph(chain.op("SOFTMAX", chain.op("ADD", scores, hidden, shape=SCORES, **NONE), beta=1.0))
    samples = feeds_of_rows(graph) if len(graph.inputs) == 2 else feeds(graph)
    if len(graph.inputs) == 2:
        samples = [{t: values.reshape(graph.tensors[t].shape) for t, values in feed.items()} for feed in samples]
    after, names = chosen(graph)
    assert len(names) == 1
    prepared = prepare(after).graph
    assert smallest(prepared) == HIDDEN
    assert_same_function(graph, prepared, samples)
    assert chosen(prepared)[1] == []


def test_masks_that_hide_no_rows_by_themselves_stay_added() -> None:
    assert chosen(multiplied(-1e9))[1] == []  # one row for all
    assert chosen(multiplied(-1e4))[1] == []  # scores are not absorbed


def test_deeper_masks_hide_scores_that_lie_far_above_the_visible_ones() -> None:
    """A hidden score 50 above the visible ones shows behind -40, and not behind -160."""
    chain = Chain()
    mask = np.where(np.tri(4, dtype=bool), 0, -3.4e38).astype(np.float32)
    scores = chain.input(SCORES)
    total = chain.op("ADD", scores, chain.constant(mask), **NONE)
    graph = chain.graph(chain.op("SOFTMAX", total, beta=1.0))
    prepared = prepare(graph).graph
    feed = {scores: np.where(np.tri(4, dtype=bool), 0, 50).astype(np.float32) + np.zeros(SCORES, np.float32)}
    wanted, shown = (reference(g).run({g.inputs[0]: feed[scores]})[g.outputs[0]] for g in (graph, prepared))
    assert np.abs(shown - wanted).max() > 0.5
    deeper, names = deepened(prepared, -160.0)
    assert len(names) == 1
    assert smallest(deeper) == -160.0
    found = reference(deeper).run({deeper.inputs[0]: feed[scores]})[deeper.outputs[0]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert prepare(deeper).graph is deeper


def compared(large: float, kind: str = "EQUAL", whole: bool = True, to: float = 0.0) -> Graph:
    """Whether causal + mask equals a number, as decoders ask to hide padding."""
    chain = Chain()
    mask = chain.input((1, 1, 1, 4), dtype="int32" if whole else "float32")
    if whole:
        mask = chain.op("CAST", mask, shape=(1, 1, 1, 4), inDataType="INT32", outDataType="FLOAT32")
    causal = chain.constant(np.triu(np.full((4, 4), large, np.float32), 1)[None, None])
    total = chain.op("ADD", causal, mask, shape=(1, 1, 4, 4), **NONE)
    return chain.graph(chain.op(kind, total, chain.constant(np.float32(to)), shape=(1, 1, 4, 4), dtype="bool"))


@pytest.mark.parametrize("kind", ["EQUAL", "NOT_EQUAL"])
@pytest.mark.parametrize("large", [-1e9, float(np.finfo(np.float32).min)])
def test_a_mask_in_a_sum_that_is_only_compared_becomes_small(kind: str, large: float) -> None:
    graph = compared(large, kind)
    prepared = prepare(graph).graph
    assert smallest(prepared) == -1.5
    assert_same_function(graph, prepared, feeds(graph))
    assert prepare(prepared).graph is prepared


@pytest.mark.parametrize("other", [{"kind": "LESS"}, {"whole": False}, {"to": -1e9}])
def test_a_mask_whose_size_may_matter_to_a_comparison_stays(other: dict[str, Any]) -> None:
    assert smallest(prepare(compared(-1e9, **other)).graph) <= -1e9
