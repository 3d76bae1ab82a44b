from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.samples import Sample
from edgeqwt.converted import LearnedRanges
from edgeqwt.converters.from_tflite.source import bindings
from edgeqwt.converters.trained import check_rounding
from edgeqwt.errors import ParityError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Editor, Graph, Op, Quantization, Tensor
from edgeqwt.graph.linear import slots
from edgeqwt.lowering.fake_quant import extracted, inserted, is_fake_quantized
from edgeqwt.runtime.runners import xnnpack
from tests.chain import Chain, noise
from tests.small import graph, images

RANGES = {"image": (0.02, 3), "features": (0.0123, -128), "mean": (0.006, -128), "logits": (0.021, 7)}
SCALES = np.array([0.014, 0.017, 0.015, 0.016, 0.018, 0.013])  # no weight is at -128, which kernels do not take


def with_rounded_weights(model: Graph, dtype: str = "int8") -> Graph:
    """The model with QUANTIZE and DEQUANTIZE behind its filters, whose scales are `SCALES`."""
    zero_point = 128 if dtype == "uint8" else 0
    editor = Editor(model)
    for op in model.ops:
        if op.kind == "CONV_2D":
            weight = model.tensors[slots(op).weight]
            q = Quantization(SCALES.astype(np.float32), np.full(6, zero_point), 0)
            integer = editor.add_tensor(Tensor("filter/integers", weight.shape, dtype, quantization=q))
            real = editor.add_tensor(Tensor("filter/rounded", weight.shape, "float32"))
            editor.add_op(Op("QUANTIZE", (slots(op).weight,), (integer,)))
            editor.add_op(Op("DEQUANTIZE", (integer,), (real,)))
            op = replace(op, inputs=(op.inputs[0], real, *op.inputs[2:]))
        editor.add_op(op)
    return editor.finish()


def trained(dtype: str = "int8") -> Graph:
    """A network that rounds its activations to `RANGES` and its filters to `SCALES`, as training left it."""
    return inserted(with_rounded_weights(graph(), dtype), LearnedRanges(RANGES, {}))


def run(model: Graph, image: Array) -> Array:
    return xnnpack(model).run({model.inputs[0]: image})[model.outputs[0]]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_what_was_learned_is_found_and_the_float_network_is_below(dtype: str) -> None:
    model = trained(dtype)
    assert is_fake_quantized(model)
    assert not is_fake_quantized(graph())
    below, learned = extracted(model)
    assert {op.kind for op in below.ops} == {op.kind for op in graph().ops}
    named = {name.removesuffix("/unrounded"): found for name, found in learned.activations.items()}
    assert {name: (pytest.approx(scale, rel=1e-7), zero) for name, (scale, zero) in RANGES.items()} == named
    (scales,) = learned.weights.values()
    assert scales == pytest.approx(SCALES, rel=1e-7)  # float32
    image = images(1)
    assert np.array_equal(run(inserted(below, learned), image), run(model, image))


def test_fake_quant_ops_are_ranges_too() -> None:
    editor, moved = Editor(graph()), dict[int, int]()
    for op in graph().ops:
        editor.add_op(replace(op, inputs=tuple(moved.get(t, t) for t in op.inputs)))
        if op.kind == "MEAN":
            tensor = graph().tensors[op.outputs[0]]
            moved[op.outputs[0]] = editor.add_tensor(Tensor("mean/faked", tensor.shape, "float32"))
            editor.add_op(
                Op("FAKE_QUANT", op.outputs, (moved[op.outputs[0]],), {"min": 0.0, "max": 2.55, "numBits": 8})
            )
    below, learned = extracted(editor.finish())
    assert learned.activations == {"mean": (pytest.approx(0.01), -128)}
    assert [op.kind for op in below.ops] == [op.kind for op in graph().ops]


def test_a_build_keeps_what_was_learned_and_is_judged_against_it(tmp_path: Path) -> None:
    flatbuffer.write(trained(), tmp_path / "trained.tflite")
    result = edgeqwt.build(tmp_path / "trained.tflite", calibration={"image": images(32)}, recipe="balanced")
    built = result.graph
    found = {t.name: t.quantization for t in built.tensors if t.quantization is not None}
    for name, (scale, zero_point) in RANGES.items():
        q = found.get(f"{name}/unrounded") or found[name]
        assert float(q.scale[0]) == pytest.approx(scale, rel=1e-6)
        assert int(q.zero_point[0]) == zero_point
    (conv,) = (op for op in built.ops if op.kind == "CONV_2D")
    below, _ = extracted(trained())
    (source,) = (op for op in below.ops if op.kind == "CONV_2D")
    weight, wanted = built.tensors[slots(conv).weight], below.tensors[slots(source).weight].data
    assert weight.data is not None
    assert weight.quantization is not None
    uncompensated = result.uncompensated.tensors[slots(conv).weight]
    assert uncompensated.data is not None
    assert uncompensated.quantization is not None
    # The same integers at the same scales: float32 keeps 127 steps to 127 * 2^-24.
    np.testing.assert_allclose(uncompensated.real, wanted, atol=1e-6)
    assert np.array_equal(np.abs(weight.data), np.abs(uncompensated.data))
    # Both round at the same places, to the same steps: what differs is a step at values between two.
    assert result.quality[result.choice.name].worst_db > 35
    assert any("trained with quantization" in note for note in result.model.notes)


def test_a_file_that_rounds_in_a_way_that_is_not_understood_is_refused() -> None:
    model = trained()
    below, learned = extracted(model)
    few = [{"image": image[None]} for image in images(4)]

    def source(sample: Sample) -> dict[str, Array]:
        return {"classes": run(model, sample["image"])}

    ends = bindings(below)
    assert "is what the source does" in check_rounding("model", source, below, ends, learned, few)
    narrower = {name: (scale / 4, zero) for name, (scale, zero) in learned.activations.items()}
    with pytest.raises(ParityError, match="model rounds its activations in a way that is not understood"):
        check_rounding("model", source, below, ends, replace(learned, activations=narrower), few)


def test_what_moves_between_rounding_and_floats_moves_floats() -> None:
    chain = Chain()
    x = chain.input((1, 4, 6), "x")
    q = Quantization.per_tensor(0.05, 3)
    editor = Editor(chain.graph(chain.op("RELU", x, name="y")))
    x, y = editor.graph.inputs[0], editor.graph.outputs[0]
    rounded = editor.add_tensor(Tensor("x/rounded", (1, 4, 6), "int8", quantization=q))
    flat = editor.add_tensor(Tensor("flat", (1, 24), "int8", quantization=q))
    shape = editor.add_tensor(Tensor("shape", (2,), "int32", np.array([1, 24], np.int32)))
    editor.tensors[y] = replace(editor.tensors[y], shape=(1, 24))
    editor.add_op(Op("QUANTIZE", (x,), (rounded,)))
    editor.add_op(Op("RESHAPE", (rounded, shape), (flat,)))
    editor.add_op(Op("DEQUANTIZE", (flat,), (y,)))
    model = editor.finish()
    assert is_fake_quantized(model)
    below, learned = extracted(model)
    assert learned.activations == {"x": (pytest.approx(0.05), 3)}
    assert {op.kind for op in below.ops} == {"RESHAPE"}
    image = noise(1, 4, 6)
    assert np.array_equal(run(below, image), image.reshape(1, 24))
    assert np.array_equal(run(inserted(below, learned), image), run(model, image))
