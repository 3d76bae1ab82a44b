"""What cannot be integer is refused with the op, its location, the rule and a way out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.lowering.lower import lower
from edgeqwt.lowering.preconditions import check_lowerable
from edgeqwt.profile import Kernels
from edgeqwt.runtime.runners import reference
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.precision import Precision
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.one_op import lowered


def refusal(graph: Graph, places: Mapping[str, str] | None = None) -> UnsupportedError:
    """The error that checking a graph raises."""
    with pytest.raises(UnsupportedError) as caught:
        check_lowerable(graph, Kernels("cortex-m4", locations=places or {}))
    return caught.value


def test_refusal_names_op_place_rule_and_a_way_out() -> None:
    chain = Chain()
    y = chain.op("LOCAL_RESPONSE_NORMALIZATION", chain.op("ABS", chain.input((1, 4))), shape=(1, 4), name="normal")
    error = refusal(chain.graph(y), {"normal": "head.norm (/head/LRN)"})
    assert error.message == (
        "LOCAL_RESPONSE_NORMALIZATION #1 -> 'normal' (in the source: head.norm (/head/LRN)) cannot be integer on "
        "target cortex-m4: LOCAL_RESPONSE_NORMALIZATION is not in the op table"
    )
    assert error.hint == "Replace it in the source model, or cut the model there."


def test_op_that_prepare_should_have_rewritten_is_refused() -> None:
    chain = Chain()
    y = chain.op("SUM", chain.input((2, 4)), chain.constant([1]), keepDims=True)
    assert "with other ops" in refusal(chain.graph(y)).rule


def test_weights_that_are_computed_are_refused() -> None:
    chain = Chain()
    y = chain.op("FULLY_CONNECTED", chain.input((2, 4)), chain.input((3, 4)), version=6, **NONE)
    assert "'x1' are not constant" in refusal(chain.graph(y)).rule


def test_fused_tanh_is_refused() -> None:
    chain = Chain()
    y = chain.op("ADD", chain.input((2, 4)), chain.constant(noise(4)), fusedActivationFunction="TANH")
    assert "fused activation TANH" in refusal(chain.graph(y)).rule


def test_integer_op_on_floats_is_refused() -> None:
    chain = Chain()
    y = chain.op("FLOOR_MOD", chain.input((4,)), chain.constant(noise(4)))
    assert "FLOOR_MOD has no int8 form" in refusal(chain.graph(y)).rule


def test_double_precision_is_refused() -> None:
    tensors = (Tensor("x", (2,), "float64"), Tensor("y", (2,), "float32"))
    graph = Graph(tensors, (Op("CAST", (0,), (1,), {"inDataType": "FLOAT64", "outDataType": "FLOAT32"}),), (0,), (1,))
    assert "'x' is float64" in refusal(graph).rule


def test_weights_that_are_quantized_already_are_refused() -> None:
    weights = Tensor("w", (3, 4), "int8", np.ones((3, 4), np.int8), Quantization.per_tensor(0.1, 0))
    tensors = (Tensor("x", (2, 4), "float32"), weights, Tensor("y", (2, 3), "float32"))
    error = refusal(Graph(tensors, (Op("FULLY_CONNECTED", (0, 1), (2,), NONE, 6),), (0,), (2,)))
    assert "are int8 already" in error.rule
    assert "float model" in error.hint


def test_control_flow_is_refused() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("ABS", chain.input((4,))))
    body = Chain()
    looped = Graph(graph.tensors, graph.ops, graph.inputs, graph.outputs, others=(body.graph(body.input((4,))),))
    assert "2 subgraphs" in refusal(looped).rule


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_named(value: float) -> None:
    chain = Chain()
    weights = noise(5, 3, 3, 3)
    weights[2, 1, 1, 0] = value
    x, w, b = chain.input((1, 4, 4, 3)), chain.constant(weights, name="stem.weight"), chain.constant(noise(5))
    graph = chain.graph(chain.op("CONV_2D", x, w, b, **CONV))
    with pytest.raises(InputError, match=r"'stem.weight' of CONV_2D #0 .* NaN or infinite"):
        check_lowerable(graph)


def test_integers_too_large_for_scale_one_have_16_bits_or_are_refused() -> None:
    chain = Chain()
    x = chain.input((4,), dtype="int32")
    y = chain.op("CAST", x, inDataType="INT32", outDataType="FLOAT32", name="place")
    graph = chain.graph(chain.op("MUL", y, chain.constant(0.5), **NONE))
    feed = {x: np.array([0, 1, 2, 200], np.int32)}
    found = lowered(graph, [feed]).graph
    dtypes = {tensor.name: tensor.dtype for tensor in found.tensors}
    assert dtypes["place"] == "int16"
    assert dtypes[graph.tensors[graph.outputs[0]].name] == "int8"
    assert [op.kind for op in found.ops] == ["CAST", "QUANTIZE", "MUL"]
    for kernels in (Kernels(bits=8), Kernels(missing16={"CAST"})):
        with pytest.raises(UnsupportedError, match=r"CAST #0 .* reach 0\.\.200, which does not fit int8") as caught:
            lowered(graph, [feed], kernels=kernels)
        assert "--layer 'place=keep_float'" in caught.value.hint
    for precision in (Precision(), Precision(activation_bits=16)):
        with pytest.raises(UnsupportedError, match=r"CAST #0 .* reach 0\.\.40000, which does not fit int"):
            lowered(graph, [{x: np.array([0, 1, 2, 40000], np.int32)}], precision=precision)


@pytest.mark.parametrize("kind", ["EQUAL", "NOT_EQUAL", "GREATER", "LESS_EQUAL"])
@pytest.mark.parametrize("end", [np.inf, -np.inf])
def test_a_comparison_with_infinity_is_decided(kind: str, end: float) -> None:
    """logsumexp asks whether its maximum is infinite."""
    chain = Chain()
    x = chain.input((1, 4))
    graph = chain.graph(chain.op(kind, x, chain.constant(end), dtype="bool", shape=(1, 4)))
    statistics, _ = observe(graph, samples(graph))
    integer = lower(graph, statistics, MinMax(), Precision())
    values = np.array([[-128, -1, 0, 127]], np.int8)
    (found,) = reference(integer).run({integer.inputs[0]: values}).values()
    wanted = {"EQUAL": False, "NOT_EQUAL": True, "GREATER": end < 0, "LESS_EQUAL": end > 0}[kind]
    assert found.all() if wanted else not found.any()


def test_a_scale_beyond_all_kernels_is_refused_by_name() -> None:
    """A fill that is computed with: the tensor, what it holds, and its op are named, and no process dies."""
    chain = Chain()
    y = chain.op("MUL", chain.input((1, 4), name="x"), chain.constant(-3e30), name="masked", **NONE)
    graph = chain.graph(chain.op("TANH", chain.op("ADD", y, chain.constant(noise(4)), **NONE)))
    statistics, _ = observe(graph, samples(graph))
    with pytest.raises(InputError, match=r"tensor 'masked', computed by MUL #0 .* would need a scale of") as caught:
        lower(graph, statistics, MinMax(), Precision())
    assert "masked_fill" in caught.value.hint
