"""Recurrent layers of ONNX models, written out: against onnxruntime on the layer itself, and through onnx2tf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeqwt.calibration.arrays import from_arrays
from edgeqwt.converters import convert
from edgeqwt.converters.from_onnx.recurrent import KINDS, unrolled
from edgeqwt.converters.from_onnx.source import OnnxRunner
from edgeqwt.errors import InputError, UnsupportedError
from edgeqwt.graph.graph import Array
from edgeqwt.prepare.prepare import prepare
from edgeqwt.verify.parity import check_parity

STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4
# Sums of at most 8 products in another order, through 5 steps: some 2^-24 per step and product.
CLOSE = 1e-5


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layer(kind: str, *, states: str = "", directions: int = 1, bias: bool = True, **attributes: Any) -> onnx.ModelProto:
    """A model of one layer; `states`: "given" as inputs, "zero" as constants, or "" for none."""
    gates, real = KINDS[kind], TensorProto.FLOAT
    weights = {
        "w": noise(directions, gates * HIDDEN, WIDTH, seed=1),
        "r": noise(directions, gates * HIDDEN, HIDDEN, seed=2),
        "b": noise(directions, 2 * gates * HIDDEN, seed=3),
    }
    shape = (directions, BATCH, HIDDEN)
    names = ["h", "c"][: 2 if kind == "LSTM" else 1]
    given = [helper.make_tensor_value_info(name, real, shape) for name in names] if states == "given" else []
    if states == "zero":
        weights |= {name: np.zeros(shape, np.float32) for name in names}
    outputs = ["y", *(f"{name}_n" for name in names)]
    taken = ["x", "w", "r", "b" if bias else "", "", *(names if states else [])]
    node = helper.make_node(kind, taken, outputs, name="layer", hidden_size=HIDDEN, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", real, (STEPS, BATCH, WIDTH)), *given],
        [helper.make_tensor_value_info(name, real, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_same(model: onnx.ModelProto) -> onnx.ModelProto:
    found, notes = unrolled(model)
    assert len(notes) == 1
    assert not KINDS.keys() & {node.op_type for node in found.graph.node}
    sample = {s.name: noise(*(n or 0 for n in s.shape), seed=9 + i) for i, s in enumerate(OnnxRunner(model).specs)}
    expected = OnnxRunner(model).run(sample)
    for name, value in OnnxRunner(found).run(sample).items():
        assert value.shape == expected[name].shape
        assert np.abs(value - expected[name]).max() < CLOSE, name
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"states": "given"},
        {"bias": False},
        {"direction": "reverse", "states": "given"},
        {"direction": "bidirectional", "directions": 2, "states": "given"},
    ],
    ids=["plain", "states", "no-bias", "reverse", "both"],
)
def test_a_layer_written_out_computes_the_same(kind: str, options: dict[str, Any]) -> None:
    assert_same(layer(kind, **options))


def test_gru_as_torch_has_it_multiplies_the_product_with_the_reset_gate() -> None:
    assert_same(layer("GRU", linear_before_reset=1, states="given"))
    assert_same(layer("GRU", linear_before_reset=1))


def test_other_functions() -> None:
    assert_same(layer("RNN", activations=["Relu"], states="given"))
    assert_same(layer("LSTM", activations=["Sigmoid", "Relu", "Softsign"]))


def test_states_of_zero_cost_nothing() -> None:
    kinds = [[n.op_type for n in assert_same(layer("LSTM", states=s)).graph.node] for s in ("", "zero")]
    assert kinds[0] == kinds[1]
    assert kinds[0].count("Gemm") == 2 + 2 * (STEPS - 1)  # for all steps' inputs, and for each state


def test_steps_share_their_weights() -> None:
    found = assert_same(layer("LSTM", states="given"))
    assert len({node.input[1] for node in found.graph.node if node.op_type == "Gemm"}) == 4


def test_a_dynamic_shape_is_known_to_be_constant() -> None:
    """Torch makes initial states of the input's shape, by ops."""
    model = layer("GRU", states="zero")
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "h"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.array([1]), "one")])
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array([HIDDEN]), "width"), numpy_helper.from_array(np.array([1]), "axis")]
    )
    before = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Gather", ["size", "axis"], ["batch"]),
        helper.make_node("Concat", ["one", "batch", "width"], ["wanted"], axis=0),
        helper.make_node("ConstantOfShape", ["wanted"], ["h"]),
    ]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = assert_same(model)
    assert [n.op_type for n in found.graph.node].count("Gemm") == 2 + 2 * (STEPS - 1)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"clip": 1.0}, "it clips"),
        ({"input_forget": 1}, "coupled"),
        ({"activations": ["Sigmoid", "Elu", "Tanh"]}, "it applies Elu"),
    ],
)
def test_an_unknown_option_is_named(attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedError, match=f"LSTM 'layer'.*{why}"):
        unrolled(layer("LSTM", **attributes))


def test_the_shape_of_repeated_states_is_known() -> None:
    """A decoder that gets the encoder's last state as often as there were steps: ONNX's own inference loses track."""
    model, repeats = layer("LSTM"), [numpy_helper.from_array(np.array([1, 1, 1]), "ones")]
    made = [helper.make_node("ConstantOfShape", ["three"], ["often"])]
    made[0].attribute.append(helper.make_attribute("value", helper.make_tensor("one", TensorProto.INT64, [1], [1])))
    repeats.append(numpy_helper.from_array(np.array([3]), "three"))
    made += [helper.make_node("Mul", ["often", "ones"], ["times"]), helper.make_node("Tile", ["x", "times"], ["tiled"])]
    model.graph.initializer.extend(repeats)
    model.graph.node[0].input[0] = "tiled"
    for k, node in enumerate(made):
        model.graph.node.insert(k, node)
    assert_same(model)


def of_lengths(kind: str, lengths: list[int] | None = None, **options: Any) -> onnx.ModelProto:
    """A layer that is told the sequences' lengths, as an input or once and for all."""
    model = layer(kind, **options)
    model.graph.node[0].input[4] = "lengths"
    if lengths is None:
        model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, (BATCH,)))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array(lengths, np.int32), "lengths"))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"direction": "reverse", "states": "given"},
        {"direction": "bidirectional", "directions": 2, "states": "given"},
        {"direction": "bidirectional", "directions": 2},
    ],
)
def test_behind_the_end_of_a_sequence_its_states_stay(kind: str, options: dict[str, Any]) -> None:
    model = of_lengths(kind, **options)
    found, _ = unrolled(model)
    specs = [s for s in OnnxRunner(model).specs if s.name != "lengths"]
    values = {s.name: noise(*(n or 0 for n in s.shape), seed=9 + i) for i, s in enumerate(specs)}
    for lengths in ([STEPS, 2], [1, 4], [STEPS, STEPS]):
        sample = {**values, "lengths": np.array(lengths, np.int32)}
        expected = OnnxRunner(model).run(sample)
        for name, value in OnnxRunner(found).run(sample).items():
            assert np.abs(value - expected[name]).max() < CLOSE, (name, lengths)


def test_constant_lengths() -> None:
    assert_same(of_lengths("GRU", [2, STEPS], direction="bidirectional", directions=2))
    whole = assert_same(of_lengths("LSTM", [STEPS, STEPS]))
    assert not any(node.op_type == "Where" for node in whole.graph.node)


def test_lengths_need_an_op_that_old_opsets_lack() -> None:
    model = of_lengths("LSTM")
    model.opset_import[0].version = 8
    with pytest.raises(UnsupportedError, match="opset 8, which has no Where"):
        unrolled(model)


# -- through onnx2tf ---------------------------------------------------------------


class Sequence(nn.Module):
    """Two layers in both directions, and one that starts from a state and returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(WIDTH, HIDDEN, 2, batch_first=True, bidirectional=True)
        self.last = nn.GRU(2 * HIDDEN, HIDDEN)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, _ = self.both(x)
        y, h = self.last(y.transpose(0, 1), h)
        return y[-1], h


def test_torch_layers_reach_tflite_with_each_weight_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = from_arrays({"x": noise(3, STEPS, WIDTH), "h": noise(3, 1, HIDDEN, seed=1)})
    model = convert(Sequence().eval(), samples, tmp_path)
    assert sum("was written out in 5 steps" in note for note in model.notes) == 3
    graph = prepare(model.graph).graph
    check_parity(model, graph, samples)
    assert not any(tensor.is_variable for tensor in graph.tensors)
    layers = [op for op in graph.ops if op.kind == "FULLY_CONNECTED"]
    # Per direction two of the input and two of the state: gates that are sigmoids, and the one that is not.
    assert len({op.inputs[1] for op in layers}) == 5 * 4
    assert any(judged.startswith("both (LSTM") for judged in model.locations.values())


class Packed(nn.Module):
    """As people write it for sequences of several lengths: the last state, or all states, padded again."""

    def __init__(self, layers: nn.Module, states: bool, total: bool = True) -> None:
        super().__init__()
        self.rnn, self.states, self.total = layers, states, total

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, h = self.rnn(packed)
        if self.states:
            return torch.cat(h, -1)[-1] if isinstance(h, tuple) else h[-1]
        y, n = nn.utils.rnn.pad_packed_sequence(
            y, batch_first=True, padding_value=0.5, total_length=x.shape[1] if self.total else None
        )
        return y.sum(1) / n[:, None]


PACKED = {
    "state": lambda: Packed(nn.GRU(WIDTH, HIDDEN, batch_first=True), True),
    "states": lambda: Packed(nn.LSTM(WIDTH, HIDDEN, 2, batch_first=True, bidirectional=True), True),
    "projected": lambda: Packed(nn.LSTM(WIDTH, HIDDEN, batch_first=True, proj_size=2, bias=False), False),
    "both ways": lambda: Packed(nn.GRU(WIDTH, HIDDEN, batch_first=True, bidirectional=True), False),
    "plain": lambda: Packed(nn.RNN(WIDTH, HIDDEN, batch_first=True, nonlinearity="relu"), False),
}


@pytest.mark.requires("onnx2tf")
@pytest.mark.parametrize("name", PACKED)
def test_packed_sequences_are_masked(name: str, tmp_path: Path) -> None:
    """The first sample, by which a module is traced, has neither the shortest nor the longest."""
    torch.manual_seed(0)
    samples = from_arrays({"x": noise(4, STEPS, WIDTH), "lengths": np.array([3, STEPS, 1, 4])})
    model = convert(PACKED[name]().eval(), samples, tmp_path)
    check_parity(model, prepare(model.graph).graph, samples)


def test_as_many_steps_as_the_longest_sequence_has_are_named(tmp_path: Path) -> None:
    samples = from_arrays({"x": noise(2, STEPS, WIDTH), "lengths": np.array([3, STEPS])})
    with pytest.raises(InputError, match="as many steps as the longest sequence") as error:
        convert(Packed(nn.GRU(WIDTH, HIDDEN, batch_first=True), False, total=False).eval(), samples, tmp_path)
    assert "total_length=x.shape[1]" in error.value.hint


def test_a_step_from_nothing_is_reported() -> None:
    """Sequences along the first axis may have been taken for batches."""
    model = layer("GRU")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert "--batch-size keep" in unrolled(model)[1][0]
    streaming = layer("GRU", states="given")
    streaming.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert "--batch-size" not in unrolled(streaming)[1][0]
