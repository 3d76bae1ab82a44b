"""Torch's run of each op against LiteRT's float kernels, its gradients against differences, and a whole network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import xnnpack
from tests.one_op_specs import SPECS, case

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")

from edgeqwt.autograd.evaluate import Program, as_tensor, evaluate  # noqa: E402
from edgeqwt.autograd.kernels import KERNELS, missing, stops  # noqa: E402
from edgeqwt.autograd.output_sensitivity import output_sensitivity  # noqa: E402

# The file of SLICE/middle names a wrong shape for its output, and LiteRT keeps to it; SLICE/rank5 does not.
RUN = [name for name, spec in SPECS.items() if spec.kind in KERNELS and name != "SLICE/middle"]
# Their gradients are zero, or jump, or there is nothing real to differentiate.
SMOOTH = [
    *("CONV_2D/3x3-NONE", "CONV_2D/valid-stride2", "CONV_2D/dilated", "CONV_2D/groups", "DEPTHWISE_CONV_2D/stride2"),
    *("DEPTHWISE_CONV_2D/multiplier2", "TRANSPOSE_CONV/same", "FULLY_CONNECTED/rank3", "BATCH_MATMUL/adjoint-left"),
    *("MUL/broadcast-both", "SQUARED_DIFFERENCE/same-shape", "MEAN/spatial", "AVERAGE_POOL_2D/same", "ELU/image"),
    *("SOFTMAX/rank3", "L2_NORMALIZATION/plain", "HARD_SWISH/image", "GELU/image", "RESIZE_BILINEAR/half-pixel-7"),
    *("STRIDED_SLICE/steps", "MIRROR_PAD/REFLECT", "LEAKY_RELU/0.1", "PRELU/channels", "RSQRT/image"),
]


@pytest.mark.parametrize("name", RUN)
def test_an_op_gives_what_litert_gives(name: str) -> None:
    graph, samples = case(name).graph, case(name).samples
    assert missing(graph) == ()
    # LiteRT's float kernels do not load an absent bias or the like as it is; `prepare` writes it as they want it.
    loadable = graph if SPECS[name].shape is None else prepare(graph).graph
    runner, program = xnnpack(loadable), Program(graph, graph.outputs)
    many = program.many({t: as_tensor(np.stack([s[t] for s in samples])) for t in graph.inputs})
    for i, sample in enumerate(samples):
        values = runner.run({a: sample[b] for a, b in zip(loadable.inputs, graph.inputs, strict=True)})
        found = evaluate(graph, sample, graph.outputs)
        for t, loaded in zip(graph.outputs, loadable.outputs, strict=True):
            wanted = values[loaded]
            assert found[t].shape == wanted.shape
            assert found[t].dtype == wanted.dtype
            # Sums of at most 54 float32 products and XNNPACK's approximations of exp and the like (a few
            # 1e-6 of the result, more absolutely where a large bias or divisor sets the size).
            np.testing.assert_allclose(found[t], wanted, rtol=2e-5, atol=2e-5)
            np.testing.assert_allclose(many[t][i].numpy(), found[t], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_the_function(name: str) -> None:
    graph, sample = case(name).graph, case(name).samples[0]
    program = Program(graph, graph.outputs, double=True)
    (out,), x = graph.outputs, {t: as_tensor(sample[t], double=True).requires_grad_() for t in graph.inputs}
    weights = {t: c.requires_grad_() for t, c in program.constants.items() if c.is_floating_point()}
    free = (*x.values(), *weights.values())

    def run(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip((*x, *weights), values, strict=True))
        return program.one({t: given[t] for t in x}, {t: given[t] for t in weights})[out]

    assert torch.autograd.gradcheck(run, free, fast_mode=True)


def test_a_part_runs_from_what_is_given() -> None:
    tensors = [Tensor(name, (2,), "float32") for name in ("x", "a", "b", "c")]
    ops = [Op("RELU", (0,), (1,)), Op("NEG", (1,), (2,)), Op("ABS", (2,), (3,))]
    graph = Graph(tuple(tensors), tuple(ops), (0,), (3,))
    program = Program(graph, [3, 1], [1])
    assert (program.ops, program.given) == ((1, 2), (1,))
    found = program.one({1: torch.tensor([-1.0, 2.0])}, hook=lambda t, v: v + 1 if t == 2 else v)
    # |-(-1) + 1|, |-2 + 1|
    assert {t: v.tolist() for t, v in found.items()} == {3: [2.0, 1.0], 1: [-1.0, 2.0]}
    with pytest.raises(InvariantError, match="'x' is needed"):
        Program(graph, [3], [])


LITERT = [name for name, spec in SPECS.items() if spec.shape is None and name not in ("SHAPE/plain", "SLICE/middle")]


@pytest.mark.parametrize("name", LITERT[::6])
def test_what_litert_runs_is_the_same_and_stops_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also many samples at a time, in double precision, and with several outputs."""
    graph, samples = case(name).graph, case(name).samples
    monkeypatch.setattr("edgeqwt.autograd.kernels.KERNELS", {})
    program = Program(graph, graph.outputs)
    values = {t: as_tensor(np.stack([s[t] for s in samples])) for t in graph.inputs}
    many = program.many(values)
    for i, sample in enumerate(samples):
        wanted = xnnpack(graph).run(sample)
        for t in graph.outputs:
            np.testing.assert_array_equal(many[t][i].numpy(), wanted[t])
    real = {t: v[0].requires_grad_() if v.is_floating_point() else v[0] for t, v in values.items()}
    assert not any(v.requires_grad for v in program.one(real).values())
    assert set(stops(graph, graph.outputs)) <= {0}


def test_gradients_go_round_an_op_that_stops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """x + f(a x), f without a kernel: the sensitivity of x is that of the sum alone; a x has none."""
    tensors = [Tensor(name, (1, 4), "float32") for name in ("x", "ax", "f", "y")]
    tensors.append(Tensor("a", (), "float32", np.array(2, np.float32)))
    none = {"fusedActivationFunction": "NONE"}
    ops = [Op("MUL", (0, 4), (1,), none), Op("ELU", (1,), (2,)), Op("ADD", (0, 2), (3,), none)]
    graph = Graph(tuple(tensors), tuple(ops), (0,), (3,))
    monkeypatch.setattr("edgeqwt.autograd.kernels.KERNELS", {k: v for k, v in KERNELS.items() if k != "ELU"})
    found = output_sensitivity(graph, [{0: np.ones((1, 4), np.float32)}], [3])
    assert {t: v.tolist() for t, v in found.items()} == {
        **{t: [[1.0] * 4] for t in (0, 2, 3)},
        1: [[0.0] * 4],
    }
    assert stops(graph, [3]) == {1: 1}


def test_what_has_no_kernel_is_named_with_how_it_is_used() -> None:
    assert missing(case("QUANTIZE/to-int8").graph) == ("QUANTIZE",)
    graph = case("MEAN/spatial").graph
    (op,) = graph.ops
    tensors = list(graph.tensors)
    tensors[op.inputs[1]] = Tensor("axes", (2,), "int32")
    free = Graph(tuple(tensors), graph.ops, (*graph.inputs, op.inputs[1]), graph.outputs)
    assert missing(free) == ("MEAN",)


def test_a_whole_network_gives_litert_s_outputs(mlperf_tiny: Path) -> None:
    graph = flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")
    images = np.random.default_rng(3).uniform(0, 255, (3, *graph.tensors[graph.inputs[0]].shape)).astype(np.float32)
    taps = [t for op in graph.ops for t in op.outputs]
    runner, found = xnnpack(graph, taps), Program(graph, taps).many({graph.inputs[0]: as_tensor(images)})
    for i, image in enumerate(images):
        wanted = runner.run({graph.inputs[0]: image})
        for t in taps:
            # float32 through 16 layers: errors of 1e-6 of the largest activation each.
            limit = 2e-5 * np.abs(wanted[t]).max()
            np.testing.assert_allclose(found[t][i].numpy(), wanted[t], rtol=0, atol=limit)
