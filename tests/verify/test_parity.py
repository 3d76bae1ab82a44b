"""The gate lets correct graphs through, stops others, and says where and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.samples import Sample, Samples
from edgeqwt.errors import InputError, ParityError
from edgeqwt.graph.graph import Array, Graph, Op, Tensor
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import reference
from edgeqwt.verify.parity import HIDDEN_WHOLLY, check_parity
from edgeqwt.verify.rounding import Rounding
from tests.chain import Chain
from tests.verify.helpers import as_source, image_samples, weights_changed

Images = Mapping[str, npt.NDArray[Any]]


# -- small graphs for what a real model does not show --------------------------------


def _small(seed: int = 0) -> Graph:
    """(1, 8, 8, 3) -> CONV_2D 3x3 with stride 4 -> (1, 2, 2, 4) -> PAD -> (1, 3, 3, 4) -> RESHAPE (1, 36)."""
    rng = np.random.default_rng(seed)
    tensors = (
        Tensor("x", (1, 8, 8, 3), "float32"),
        Tensor("w", (4, 3, 3, 3), "float32", rng.normal(size=(4, 3, 3, 3)).astype(np.float32)),
        Tensor("b", (4,), "float32", rng.normal(size=4).astype(np.float32)),
        Tensor("conv", (1, 2, 2, 4), "float32"),
        Tensor("pads", (4, 2), "int32", np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32)),
        Tensor("pad", (1, 3, 3, 4), "float32"),
        Tensor("shape", (2,), "int32", np.array([1, 36], np.int32)),
        Tensor("y", (1, 36), "float32"),
    )
    stride = {"strideH": 4, "strideW": 4, "dilationHFactor": 1, "dilationWFactor": 1, "padding": "VALID"}
    ops = (
        Op("CONV_2D", (0, 1, 2), (3,), {**stride, "fusedActivationFunction": "NONE"}),
        Op("PAD", (3, 4), (5,)),
        Op("RESHAPE", (5, 6), (7,)),
    )
    return Graph(tensors, ops, (0,), (7,))


def _noise(graph: Graph, count: int = 3) -> list[Sample]:
    rng = np.random.default_rng(1)
    tensors = [graph.tensors[t] for t in graph.inputs]
    return [{t.name: rng.normal(size=t.shape).astype(np.float32) for t in tensors} for _ in range(count)]


def test_a_wrong_stride_that_keeps_the_shape() -> None:
    graph = _small()
    wrong = graph.with_ops({0: graph.ops[0].with_options(strideW=5)})  # (8 - 3) // 5 + 1 = (8 - 3) // 4 + 1
    with pytest.raises(ParityError, match="CONV_2D #0 -> 'conv' is the first op"):
        check_parity(as_source(graph, converted=wrong), wrong, _noise(graph))


def test_a_pad_on_another_axis() -> None:
    graph = _small()
    swapped = weights_changed(graph, 1, lambda pads: pads[[0, 2, 1, 3]])
    with pytest.raises(ParityError, match="PAD #1 -> 'pad' is the first op"):
        check_parity(as_source(graph, converted=swapped), swapped, _noise(graph))


def test_the_sample_on_which_it_diverges_is_named() -> None:
    graph = _small()
    wrong = weights_changed(graph, 0, lambda w: w * np.array([1, 1, 1.001]))
    samples = _noise(graph)
    for sample in samples[:2]:
        sample["x"][..., 2] = 0  # hides the wrong channel
    pattern = r"on sample 2: CONV_2D #0 -> 'conv' is the first op whose output diverges by [0-9.e-]+ where rounding"
    with pytest.raises(ParityError, match=pattern):
        check_parity(as_source(graph, converted=wrong), wrong, samples)


def test_an_intermediate_of_another_shape() -> None:
    graph = _small()
    # 2·2·9 elements in place of 3·3·4: the last op hides it.
    other = weights_changed(graph, 1, lambda _: np.array([[0, 0], [0, 0], [0, 0], [2, 3]]))
    other = other.with_tensors({5: replace(graph.tensors[5], shape=(1, 2, 2, 9))})
    with pytest.raises(ParityError, match="PAD #1 -> 'pad' is the first op"):
        check_parity(as_source(graph, converted=other), other, _noise(graph))


def test_a_mask_that_hides_a_whole_row_is_said_to_be_one() -> None:
    """The fill, -1e9, is written at a size of its own that hides just as well: a row of nothing else is another one."""
    chain = Chain()
    x, hides = chain.input((1, 8), "x"), chain.input((1, 8), "hides", "bool")
    filled = chain.op("SELECT_V2", hides, chain.constant(-1e9), x, shape=(1, 8), name="filled")
    graph = chain.graph(chain.op("SOFTMAX", filled, beta=1.0, name="y"))
    after, values = prepare(graph).graph, np.arange(8, dtype=np.float32)[None]
    model = as_source(graph)
    check_parity(model, after, [{"x": values, "hides": values > 3}])
    with pytest.raises(ParityError, match="the rewritten float model") as caught:
        check_parity(model, after, [{"x": values, "hides": values > -1}])
    assert caught.value.hint == HIDDEN_WHOLLY


def test_bytes_of_what_lies_beyond_them_are_to_be_clamped() -> None:
    chain = Chain()
    t = chain.op("MUL", chain.input((1, 8), "x"), chain.constant([300.0]), shape=(1, 8), fusedActivationFunction="NONE")
    options = {"inDataType": "FLOAT32", "outDataType": "UINT8"}
    graph = chain.graph(chain.op("CAST", t, shape=(1, 8), dtype="uint8", name="y", **options))
    source = as_source(graph)
    run = source.run_source
    source = replace(source, run_source=lambda sample: {"y": 255 - run(sample)["y"]})
    trace = source.trace_source
    assert trace is not None
    source = replace(source, trace_source=lambda sample: {**trace(sample), "y": 255 - trace(sample)["y"]})
    with pytest.raises(ParityError) as caught:
        check_parity(source, graph, _noise(graph))
    assert "clamp it before the cast" in caught.value.hint


def test_ops_that_could_not_be_compared_are_counted() -> None:
    graph = _small()
    wrong = graph.with_ops({0: graph.ops[0].with_options(strideW=5)})
    model = as_source(graph, converted=wrong)
    trace = model.trace_source
    assert trace is not None
    partial = replace(model, trace_source=lambda s: {k: v for k, v in trace(s).items() if k != "conv"})
    with pytest.raises(ParityError, match=r"PAD #1 .* is the first op .*; of the 1 ops just before it nothing"):
        check_parity(partial, wrong, _noise(graph))


def test_an_output_that_diverges_alone_is_said_to() -> None:
    graph = _small()
    model = as_source(graph)
    other = replace(model, run_source=lambda s: {"y": model.run_source(s)["y"] + 1})
    with pytest.raises(ParityError, match=r"output 'y' by 1 where .* although no intermediate tensor"):
        check_parity(other, graph, _noise(graph))


def test_a_source_without_intermediate_values_is_said_to() -> None:
    graph = _small()
    wrong = graph.with_ops({0: graph.ops[0].with_options(strideW=5)})
    with pytest.raises(ParityError, match=r"output 'y' by .*; the source has no intermediate values"):
        check_parity(as_source(graph, converted=wrong, trace=False), wrong, _noise(graph))


def test_nan_diverges() -> None:
    graph = _small()
    broken = weights_changed(graph, 0, lambda w: w * np.nan)
    with pytest.raises(ParityError, match="CONV_2D #0 -> 'conv' is the first op whose output diverges: it is NaN"):
        check_parity(as_source(graph, converted=broken), broken, _noise(graph))
    with pytest.raises(ParityError, match="output 'y' of the source model is NaN on sample 0"):
        check_parity(as_source(broken), broken, _noise(graph))


def test_without_samples_nothing_is_proved() -> None:
    graph = _small()
    with pytest.raises(InputError, match="no samples"):
        check_parity(as_source(graph), graph, [])


def test_outputs_are_compared_in_the_layout_of_the_source() -> None:
    graph = replace(_small(), outputs=(5,), ops=_small().ops[:2])
    model = as_source(graph)
    (output,) = model.outputs

    def channels_first(sample: Sample) -> Mapping[str, Array]:
        return {"pad": model.run_source(sample)["pad"].transpose(0, 3, 1, 2)}

    turned = replace(model, run_source=channels_first, outputs=(replace(output, permutation=(0, 2, 3, 1)),))
    assert check_parity(turned, graph, _noise(graph)).outputs[0].max_abs == 0
    with pytest.raises(ParityError):
        check_parity(replace(turned, outputs=(output,)), graph, _noise(graph))


# -- no false alarms --------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_other_kernels_are_no_divergence(resnet: Graph, cifar10: Images, scale: float) -> None:
    """LiteRT's reference kernels sum in another order than XNNPACK; logits, softmax, tiny and huge outputs."""
    graph = weights_changed(resnet, 14, lambda w: w * scale)
    graph = replace(weights_changed(graph, 14, lambda b: b * scale, slot=2), outputs=(resnet.ops[14].outputs[0],))
    parity = _against_reference_kernels(graph, image_samples(graph, cifar10["calibration_images"], 6))
    (logits,) = parity.outputs
    assert parity.samples == 6
    assert 0 < logits.used < 1
    # Tight all the same: the largest logit is about 10 (times the scale).
    assert logits.tolerance < 1e-3 * 10 * scale
    assert logits.cosine == pytest.approx(1)


def test_softmax_of_other_kernels_is_no_divergence(resnet: Graph, cifar10: Images) -> None:
    parity = _against_reference_kernels(resnet, image_samples(resnet, cifar10["calibration_images"], 6))
    assert parity.outputs[0].tolerance < 1e-3


@pytest.mark.parametrize("behind", ["", "RESHAPE", "MEAN"])
def test_small_probabilities_of_other_kernels_are_no_divergence(behind: str) -> None:
    """onnxruntime's sigmoid errs by 1e-7 however small it is, moved or averaged, too; 1e-4 beside 1 is a divergence."""
    chain = Chain()
    out = chain.op("LOGISTIC", chain.input((1, 8)))
    if behind == "RESHAPE":
        out = chain.op("RESHAPE", out, chain.constant([8, 1]), newShape=[8, 1])
    elif behind == "MEAN":
        out = chain.op("MEAN", out, chain.constant([0]), keepDims=True)
    graph = chain.graph(out)
    bounded = Rounding(graph).run({graph.inputs[0]: np.full((1, 8), -16.0, np.float32)})[out]
    assert bounded.judge(bounded.value + np.float32(1.4e-7)).ok
    assert not bounded.judge(bounded.value + np.float32(2e-6)).ok


def test_cancellation_is_no_divergence() -> None:
    """y = mean(1000·x - mean(1000·x)) is 0; float32 gives what rounding leaves of terms around 1000."""
    tensors = (
        Tensor("x", (1, 8, 8, 3), "float32"),
        Tensor("thousand", (), "float32", np.array(1e3, np.float32)),
        Tensor("large", (1, 8, 8, 3), "float32"),
        Tensor("axes", (2,), "int32", np.array([1, 2], np.int32)),
        Tensor("mean", (1, 1, 1, 3), "float32"),
        Tensor("small", (1, 8, 8, 3), "float32"),
        Tensor("rest", (1, 1, 1, 3), "float32"),
    )
    none = {"fusedActivationFunction": "NONE"}
    ops = (
        Op("MUL", (0, 1), (2,), none),
        Op("MEAN", (2, 3), (4,), {"keepDims": True}),
        Op("SUB", (2, 4), (5,), none),
        Op("MEAN", (5, 3), (6,), {"keepDims": True}),  # exactly 0 but for rounding
    )
    graph = Graph(tensors, ops, (0,), (6,))
    samples = [{"x": 1 + 0.01 * sample["x"]} for sample in _noise(graph, 6)]
    exact = replace(as_source(graph), run_source=lambda sample: {"rest": np.zeros((1, 1, 1, 3), np.float32)})
    (rest,) = check_parity(exact, graph, samples).outputs
    assert 0 < rest.max_abs < rest.tolerance < 1  # zero would mean that there was nothing to excuse


def _against_reference_kernels(graph: Graph, samples: Any) -> Any:
    runner = reference(graph)
    model = as_source(graph)

    def run_source(sample: Sample) -> Mapping[str, Array]:
        found = runner.run({t: sample[graph.tensors[t].name] for t in graph.inputs})
        return {graph.tensors[t].name: found[t] for t in graph.outputs}

    return check_parity(replace(model, run_source=run_source), graph, samples)


# -- integer outputs ----------------------------------------------------------------


def _arg_max(second_row: float) -> Graph:
    """x (1, 4) -> two rows of weights -> index of the larger."""
    rows = np.stack([np.ones(4), np.full(4, second_row)]).astype(np.float32)
    tensors = (
        Tensor("x", (1, 4), "float32"),
        Tensor("w", (2, 4), "float32", rows),
        Tensor("logits", (1, 2), "float32"),
        Tensor("axis", (), "int32", np.array(1, np.int32)),
        Tensor("class", (1,), "int64"),
    )
    options = {"fusedActivationFunction": "NONE", "weightsFormat": "DEFAULT"}
    ops = (
        Op("FULLY_CONNECTED", (0, 1, -1), (2,), options),
        Op("ARG_MAX", (2, 3), (4,), {"outputType": "INT64"}),
    )
    return Graph(tensors, ops, (0,), (4,))


def _sum_of_two(errors: Mapping[int, float]) -> None:
    """Checks a + b on samples of which one cancels, against a source that is off by what is given for each sample."""
    chain = Chain()
    a, b = chain.input((1, 1), "a"), chain.input((1, 1), "b")
    graph = chain.graph(chain.op("ADD", a, b, fusedActivationFunction="NONE"))
    rows = [(1.0, 0.5), (1.0, -0.99999994), (-0.75, 0.25)]
    samples = [{"a": np.full((1, 1), x, np.float32), "b": np.full((1, 1), y, np.float32)} for x, y in rows]
    converted = as_source(graph)

    def source(sample: Sample) -> Mapping[str, Array]:
        k = next(k for k, other in enumerate(samples) if other is sample)
        return {name: value + np.float32(errors.get(k, 0.0)) for name, value in converted.run_source(sample).items()}

    check_parity(replace(converted, run_source=source), graph, samples)


def test_terms_that_cancel_on_one_sample_are_no_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where inputs move alike, the sum of this sample moves by nothing: 6e-8 is what its terms of 1 are rounded by."""
    monkeypatch.setattr("edgeqwt.verify.rounding._directions", lambda seed, shape: np.ones(shape, np.int8))
    _sum_of_two({1: 1.2e-7})
    with pytest.raises(ParityError, match="on sample 1"):
        _sum_of_two({1: 1e-4})
    with pytest.raises(ParityError, match="on sample 0"):
        _sum_of_two({0: 1e-5})


def test_a_tie_may_go_either_way() -> None:
    graph = _arg_max(1 + 2**-23)
    samples = [{"x": np.array([[0.3, 0.7, 0.9, 0.1]], np.float32)}]
    opposite = replace(as_source(graph), run_source=lambda s: {"class": 1 - as_source(graph).run_source(s)["class"]})
    (output,) = check_parity(opposite, graph, samples).outputs
    assert (output.ties, output.max_abs) == (1, 1.0)


def test_another_class_is_no_tie() -> None:
    graph = _arg_max(1.01)
    samples = [{"x": np.array([[0.3, 0.7, 0.9, 0.1]], np.float32)}]
    model = as_source(graph)
    opposite = replace(model, run_source=lambda s: {"class": 1 - model.run_source(s)["class"]}, trace_source=None)
    with pytest.raises(ParityError, match="output 'class' by 1 where rounding explains none of it"):
        check_parity(opposite, graph, samples)


# -- conversions ----------------------------------------------------------------------


@pytest.mark.requires("torch", "onnx2tf")
@pytest.mark.parametrize(("name", "right"), [("SmallCnn", True), ("Residual", False)])
def test_a_real_conversion(tmp_path: Path, name: str, right: bool) -> None:
    """onnx2tf converts `Residual` wrongly: its layouts are ambiguous."""
    from edgeqwt.calibration.arrays import from_arrays
    from edgeqwt.converters.convert import convert
    from tests import models

    shape, key = ((4, 3, 16, 16), "image") if right else ((4, 8, 8, 8), "x")
    samples: Samples = from_arrays({key: np.random.default_rng(0).normal(size=shape).astype(np.float32)})
    converted = convert(models.seeded(getattr(models, name)), samples, tmp_path)
    if right:
        assert 0 < check_parity(converted, converted.graph, samples).outputs[0].used < 1
        return
    with pytest.raises(ParityError, match=r"ADD #\d+ .*is the first op whose output diverges"):
        check_parity(converted, converted.graph, samples)
