"""Constants per channel take up gains and offsets in their integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.compensation.channel_constants import channel_slots, constant_ops, realized
from edgeqwt.compensation.cwac import compensate
from edgeqwt.compensation.fold import SHARED_CONSTANT, headroom
from edgeqwt.compensation.layer import FOLDS
from edgeqwt.compensation.solve import Options
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Quantization
from edgeqwt.graph.linear import Slots
from edgeqwt.runtime.boundary import limits
from edgeqwt.scales.ranges import Mse
from edgeqwt.widths.precision import Precision
from tests.chain import NONE, Chain, noise
from tests.compensation.nets import Case, dense, made, outputs

CHANNELS = 8


def affine(shared: bool = False) -> Graph:
    """dense(x) * gamma + beta; `shared`: x * gamma as well."""
    chain = Chain()
    x = chain.input((2, 5, CHANNELS))
    gamma = chain.constant(1 + 0.3 * noise(CHANNELS, seed=1))
    # An op between, so that what is broken is not mended before.
    bent = chain.op("TANH", dense(chain, x, CHANNELS, 3), name="bent")
    scaled = chain.op("MUL", bent, gamma, name="scaled", **NONE)
    shifted = chain.op("ADD", scaled, chain.constant(noise(CHANNELS, seed=2)), name="shifted", **NONE)
    return chain.graph(shifted, *([chain.op("MUL", x, gamma, name="again", **NONE)] if shared else []))


def index(graph: Graph, name: str) -> int:
    """Of the op that computes a tensor."""
    return next(i for i, op in enumerate(graph.ops) if graph.tensors[op.outputs[0]].name == name)


def constant(graph: Graph, name: str) -> int:
    """The constant of the op that computes a tensor."""
    return next(t for t in graph.ops[index(graph, name)].inputs if graph.tensors[t].is_constant)


def broken(graph: Graph, name: str, factor: float = 1.0, shift: int = 0) -> Graph:
    """With the integers of an op's constant changed."""
    t = constant(graph, name)
    data = graph.tensors[t].data
    assert data is not None
    low, high = limits(graph.tensors[t].dtype)
    changed = np.clip(np.rint(data * factor) + shift, low, high).astype(data.dtype)
    return graph.with_tensors({t: replace(graph.tensors[t], data=changed)})


def integers(graph: Graph, name: str) -> Array:
    data = graph.tensors[constant(graph, name)].data
    assert data is not None
    return data.reshape(-1).astype(int)


def error(case: Case, graph: Graph) -> float:
    """Squared error of the first output."""
    return float(np.square(outputs(graph, case.samples) - outputs(case.floating, case.samples)).sum())


def test_places_of_gains_and_offsets() -> None:
    graph = affine()
    dense_op, _, mul, add = graph.ops
    assert constant_ops(graph) == [2, 3]
    assert channel_slots(graph, dense_op) == Slots(*dense_op.inputs, dense_op.outputs[0])
    assert channel_slots(graph, mul) == Slots(mul.inputs[0], mul.inputs[1], -1, mul.outputs[0])
    assert channel_slots(graph, add) == Slots(add.inputs[0], -1, add.inputs[1], add.outputs[0])
    swapped = replace(mul, inputs=mul.inputs[::-1])
    assert channel_slots(graph, swapped) == channel_slots(graph, mul)


@pytest.mark.parametrize("shape", [(), (1,), (5, CHANNELS), (5, 1)])
def test_constants_of_other_shapes_are_no_places(shape: tuple[int, ...]) -> None:
    chain = Chain()
    graph = chain.graph(chain.op("MUL", chain.input((2, 5, CHANNELS)), chain.constant(noise(*shape)), **NONE))
    assert constant_ops(graph) == []


def test_what_integers_can_hold_of_a_gain_and_an_offset() -> None:
    graph = made(affine()).integer
    for name, step in (("scaled", 0.5), ("shifted", 0.25)):
        t = constant(graph, name)
        data = np.array([100, 50, 10, 0, -100, 127, 1, -7], np.int8).reshape(graph.tensors[t].shape)
        given = replace(graph.tensors[t], data=data, quantization=Quantization.per_tensor(step, 0))
        graph = graph.with_tensors({t: given})
    gain, zero = np.full(CHANNELS, 1.01), np.zeros(CHANNELS)
    found, none = realized(graph, index(graph, "scaled"), gain, zero)
    # 101 of 101, 50.5 to even, 10.1, nothing, -101, what int8 ends at, 1.01, -7.07.
    assert found == pytest.approx([1.01, 1.0, 1.0, 1.0, 1.01, 1.0, 1.0, 1.0])
    assert none is zero
    ones, found = realized(graph, index(graph, "shifted"), np.ones(CHANNELS), np.full(CHANNELS, 0.3))
    assert found == pytest.approx([0.25] * 5 + [0.0] + [0.25] * 2)
    assert (ones == 1).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_broken_gamma_is_mended_for_free(bits: int) -> None:
    case = made(affine(), precision=Precision(activation_bits=bits))
    bad = broken(case.integer, "scaled", 0.8)
    outcome = case.compensated(graph=bad)
    change = next(c for c in outcome.changes if c.name == "scaled")
    assert (change.kind, change.with_gain, change.with_offset) == ("MUL", CHANNELS, 0)
    right = integers(case.integer, "scaled")
    # The channels' values vary by 2 to 3 steps' worth of noise on a few hundred positions; gains come out within 2 %.
    assert np.abs(integers(outcome.graph, "scaled") - right).max() <= 0.02 * np.abs(right).max() + 1
    assert error(case, outcome.graph) < 0.1 * error(case, bad)
    assert len(flatbuffer.to_bytes(outcome.graph)) == len(flatbuffer.to_bytes(bad))
    assert [op.inputs for op in outcome.graph.ops] == [op.inputs for op in bad.ops]


def test_a_broken_beta_is_mended_for_free() -> None:
    case = made(affine())
    bad = broken(case.integer, "shifted", shift=-10)
    outcome = case.compensated(graph=bad)
    change = next(c for c in outcome.changes if c.name == "shifted")
    # The lowest one could not be broken that way: it is int8's lowest already.
    assert (change.kind, change.with_gain, change.with_offset) == ("ADD", 0, CHANNELS - 1)
    assert np.abs(integers(outcome.graph, "shifted") - integers(case.integer, "shifted")).max() <= 2
    assert error(case, outcome.graph) < 0.1 * error(case, bad)


def test_a_shared_gamma_is_left_alone() -> None:
    case = made(affine(shared=True))
    t = constant(case.integer, "scaled")
    graph = case.integer.with_tensors({})
    other = index(graph, "again")
    ops = [replace(op, inputs=(op.inputs[0], t)) if i == other else op for i, op in enumerate(graph.ops)]
    graph = replace(graph, ops=tuple(ops))
    assert headroom(graph, index(graph, "scaled")).missing == (SHARED_CONSTANT,)
    outcome = case.compensated(graph=broken(graph, "scaled", 0.8))
    assert (integers(outcome.graph, "scaled") == integers(broken(graph, "scaled", 0.8), "scaled")).all()
    assert {s.name for s in outcome.skips if s.reason == SHARED_CONSTANT} == {"scaled", "again"}


def test_the_option_leaves_them_alone() -> None:
    case = made(affine())
    outcome = case.compensated(Options(constants=False), broken(case.integer, "scaled", 0.8))
    assert [change.kind for change in outcome.changes] == ["FULLY_CONNECTED"]


def test_sums_of_indices_are_no_places() -> None:
    chain = Chain()
    ids = chain.input((1, CHANNELS), dtype="int32")
    rows = chain.op("ADD", ids, chain.constant(np.arange(CHANNELS) * 4), dtype="int32", **NONE)
    found = chain.op("GATHER", chain.constant(noise(36, 4)), rows, shape=(1, CHANNELS, 4), axis=0, batchDims=0)
    assert constant_ops(chain.graph(found)) == []


def test_what_no_output_feels_is_fitted_as_if_all_were_felt_alike() -> None:
    case = made(affine())
    bad = broken(case.integer, "scaled", 0.8)
    rows = {op.outputs[0]: np.zeros(10, np.float32) for op in case.floating.ops}
    unweighted = compensate(
        bad, case.floating, case.samples, case.statistics, Mse(), Options(), token_weights=lambda _: rows
    )
    alike = case.compensated(graph=bad)
    assert flatbuffer.to_bytes(unweighted.graph) == flatbuffer.to_bytes(alike.graph)


def test_samples_that_no_output_feels_confirm_nothing() -> None:
    """Such as those at which a ReLU behind the layer is shut; here all of one fold."""
    case, seen = made(affine()), iter(range(10_000))
    ops = [op.outputs[0] for op in case.floating.ops]

    def weights(_: object) -> dict[int, np.ndarray]:
        return dict.fromkeys(ops, np.full(10, next(seen) % FOLDS != 0, np.float32))

    bad = broken(case.integer, "scaled", 0.8)
    found = compensate(bad, case.floating, case.samples, case.statistics, Mse(), Options(), token_weights=weights)
    (change,) = (change for change in found.changes if change.name == "scaled")
    assert change.error_after > change.error_before + 3
