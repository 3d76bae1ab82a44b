"""Every fix: the finding that named it is gone, and the real interpreters compute what they computed before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.lowering.int4 import with_packed_weights
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.profile import TargetProfile
from edgeqwt.runtime.runners import InterpreterError, TFLiteMicro, reference, xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.target.check import check
from edgeqwt.target.fix import FIXES, fix
from edgeqwt.target.load import load, names
from tests.chain import samples
from tests.one_op import lowered
from tests.one_op_specs import case
from tests.runtime.test_misread import WRONG, convolution, integer
from tests.runtime.test_overwritten import shortcut
from tests.targets.placement import integer_cases, placed

BARE = TargetProfile("bare", "nothing but what a test gives it", ("reference",))


def limited(**limits: Any) -> TargetProfile:
    """A profile with some limits."""
    return replace(BARE, limits=limits)


def named(graph: Graph, profile: TargetProfile) -> set[str]:
    """The fixes that findings name."""
    return {finding.fix for finding in check(graph, profile)} - {""}


def inputs(graph: Graph, count: int = 4) -> list[dict[int, Array]]:
    """Random integers for a graph's int8 inputs."""
    rng = np.random.default_rng(5)
    return [
        {t: rng.integers(-128, 128, graph.tensors[t].shape).astype(np.int8) for t in graph.inputs} for _ in range(count)
    ]


def difference(before: Graph, after: Graph, factory: Any = reference, other: Any = None) -> int:
    """The largest difference of any output, in steps."""
    assert [before.tensors[t].name for t in before.outputs] == [after.tensors[t].name for t in after.outputs]
    first, second, worst = factory(before), (other or factory)(after), 0
    for feed in inputs(before):
        moved = dict(zip(after.inputs, feed.values(), strict=True))
        ours, theirs = first.run(feed), second.run(moved)
        for a, b in zip(before.outputs, after.outputs, strict=True):
            worst = max(worst, int(np.abs(ours[a].astype(int) - theirs[b].astype(int)).max(initial=0)))
    return worst


def fixed(graph: Graph, profile: TargetProfile, name: str) -> Graph:
    """The graph after `fix`, which must have applied one fix by that name and left none of its findings."""
    assert name in named(graph, profile)
    after, message = fix(graph, profile)
    assert any(sentence.startswith(FIXES[name].sentence) for sentence in message)
    assert name not in named(after, profile)
    return after


@pytest.mark.parametrize("kind", ["CONV_2D/3x3-RELU", "DEPTHWISE_CONV_2D/stride2"])
@pytest.mark.parametrize("target", ["ethos-u55-128", "edgetpu", "tflite"])
def test_int4_weights_are_unpacked(kind: str, target: str) -> None:
    four = lowered(case(kind).graph, case(kind).samples, precision=Precision(weight_bits=4)).graph
    packed = with_packed_weights(four)
    after = fixed(packed, load(target), "unpack-int4")
    assert {t.dtype for t in after.tensors}.isdisjoint({"int4"})
    assert difference(packed, after) == 0


def test_int4_weights_that_tflite_micro_refuses_are_unpacked() -> None:
    graph = integer_cases(8)["FULLY_CONNECTED/NONE"]
    t = graph.ops[0].inputs[1]
    small = replace(graph.tensors[t], dtype="int4", data=(graph.tensors[t].data // 32).astype(np.int8))  # type: ignore[operator]
    packed = graph.with_tensors({t: small})
    with pytest.raises(InterpreterError):
        TFLiteMicro(packed)
    after = fixed(packed, load("tflm"), "unpack-int4")
    assert difference(packed, after) == 0
    assert difference(after, after, reference, TFLiteMicro) <= 1  # the row's `micro`


@pytest.mark.parametrize("variant", ["image", "rank1", "scalar", "approximate"])
def test_gelu_becomes_a_table_for_tflite_micro(variant: str) -> None:
    graph = integer_cases(8)[f"GELU/{variant}"]
    after = fixed(graph, load("tflm"), "lookup-table")
    assert [op.kind for op in after.ops] == ["CAST", "ADD", "GATHER"]
    # The op errs by 0.51 steps, the table by 0.5: they differ by one at most.
    assert difference(graph, after) <= 1
    assert difference(after, after, reference, TFLiteMicro) == 0
    assert check(after, load("tflm")) == ()


@pytest.mark.parametrize(
    ("kind", "runs"), [("GELU", True), ("EXP", True), ("LOG", True), ("RSQRT", True), ("ELU", False)]
)
def test_a_table_becomes_the_npus_own_op(kind: str, runs: bool) -> None:
    float_graph, samples = case(f"{kind}/image").graph, case(f"{kind}/image").samples
    graph = lowered(float_graph, samples, missing={kind}).graph
    profile = load("ethos-u55-128")
    after = fixed(graph, profile, "native-op")
    assert [op.kind for op in after.ops] == [kind]
    assert check(after, profile) == ()
    assert placed(after, profile) == set()
    # Both round once: one step. LiteRT's reference kernels have no ELU; its built-in ones do.
    assert difference(graph, after, reference, reference if runs else xnnpack) <= 1


def test_a_table_of_something_else_stays() -> None:
    graph = integer_cases(8)["SIN/image"]
    assert "native-op" not in named(graph, load("ethos-u55-128"))
    assert fix(graph, load("ethos-u55-128"))[1] == ()


def test_the_average_of_whole_maps_becomes_a_mean() -> None:
    graph = integer_cases(8)["MEAN/spatial-keep"]
    x = graph.tensors[graph.inputs[0]]
    q = x.quantization
    size = {"filterHeight": x.shape[1], "filterWidth": x.shape[2], "strideH": 1, "strideW": 1}
    options = {**size, "padding": "VALID", "fusedActivationFunction": "NONE"}
    shape = (x.shape[0], 1, 1, x.shape[3])
    op = Op("AVERAGE_POOL_2D", (0,), (1,), options, 2, extra={"optionsType": "Pool2DOptions"})
    pool = Graph((x, Tensor("y", shape, "int8", None, q)), (op,), (0,), (1,))
    after = fixed(pool, load("tflite"), "pool-as-mean")
    assert [op.kind for op in after.ops] == ["MEAN"]
    assert difference(pool, after) <= 1  # both round the same quotient once, exact ties apart
    assert check(after, load("tflite")) == ()


@pytest.mark.parametrize("name", ["MEAN/last", "MEAN/last-keep", "SUM/last"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_mean_that_the_npu_lacks_works_on_another_shape(name: str, bits: int) -> None:
    graph, profile = integer_cases(bits)[name], load("ethos-u55-128")
    after = fixed(graph, profile, "mean-reshaped")
    assert check(after, profile) == ()
    assert placed(after, profile) == set()
    if bits == 8:
        assert difference(graph, after) == 0
        assert difference(graph, after, TFLiteMicro) == 0


def test_a_mean_with_a_batch_works_on_another_shape() -> None:
    q = Quantization.per_tensor(0.05, -3)
    tensors = (
        Tensor("x", (3, 4, 5, 8), "int8", None, q),
        Tensor("axes", (2,), "int32", np.array([1, 2], np.int32)),
        Tensor("y", (3, 8), "int8", None, Quantization.per_tensor(0.02, 4)),
    )
    op = Op("MEAN", (0, 1), (2,), {"keepDims": False}, 2, extra={"optionsType": "ReducerOptions"})
    graph, profile = Graph(tensors, (op,), (0,), (2,)), load("ethos-u85-256")
    after = fixed(graph, profile, "mean-reshaped")
    assert placed(after, profile) == set()
    assert difference(graph, after) == 0


@pytest.mark.parametrize("multiples", [(1, 2, 1, 3), (1, 1, 1, 1), (2, 1, 12, 1), (1, 1, 1, 11)])
def test_tile_becomes_concatenation(multiples: tuple[int, ...]) -> None:
    q, x = Quantization.per_tensor(0.05, -3), (1, 2, 3, 4)
    shape = tuple(a * b for a, b in zip(x, multiples, strict=True))
    tensors = (
        Tensor("x", x, "int8", None, q),
        Tensor("multiples", (4,), "int32", np.array(multiples, np.int32)),
        Tensor("y", shape, "int8", None, q),
    )
    graph = Graph(tensors, (Op("TILE", (0, 1), (2,), extra={"optionsType": "NONE"}),), (0,), (2,))
    after = fixed(graph, load("tflm"), "tile-as-concatenation")
    assert difference(graph, after) == 0
    if max(multiples) != 11:  # a prime above ten: more inputs than TFLite Micro's CONCATENATION takes
        assert difference(after, after, reference, TFLiteMicro) == 0


def test_tile_is_rewritten_in_float_graphs_too() -> None:
    graph = case("TILE/channels").graph
    after = fixed(graph, load("tflm"), "tile-as-concatenation")
    feed = dict(case("TILE/channels").samples[0])
    ours, theirs = xnnpack(graph).run(feed), xnnpack(after).run(dict(zip(after.inputs, feed.values(), strict=True)))
    assert np.array_equal(ours[graph.outputs[0]], theirs[after.outputs[0]])


def test_slices_get_their_sizes_written_out() -> None:
    graph = integer_cases(8)["SLICE/middle"]
    after = fixed(graph, load("tflite"), "slice-sizes")
    assert difference(graph, after) == 0
    assert check(after, load("tflite")) == ()


def test_what_litert_would_overwrite_is_copied() -> None:
    graph = shortcut()
    graph = lower(graph, observe(graph, samples(graph))[0], MinMax(), Precision())
    (found,) = check(graph, load("tflite"))
    assert (found.rule, found.severity, found.fix) == ("overwritten", "error", "copied-input")
    after = fixed(graph, load("tflite"), "copied-input")
    assert check(after, load("tflite")) == ()
    assert difference(graph, after, TFLiteMicro, reference) == 0


def test_dense_weights_get_one_scale_and_keep_the_bias() -> None:
    graph = integer_cases(8)["FULLY_CONNECTED/NONE"]
    op = graph.ops[0]
    after = fixed(graph, load("edgetpu"), "per-tensor")
    weight, bias = (after.tensors[t] for t in after.ops[0].inputs[1:])
    assert weight.quantization is not None
    assert weight.quantization.axis is None
    x, y = graph.tensors[op.inputs[0]].quantization, graph.tensors[op.outputs[0]].quantization
    assert x is not None
    assert y is not None
    # Every weight moves by half a step at most, the bias by half of its own; then each result rounds once.
    step = float(weight.quantization.scale[0]) * float(x.scale[0]) / float(y.scale[0])
    largest = 128 + abs(int(x.zero_point[0]))
    assert difference(graph, after) <= 0.5 * step * (largest * weight.shape[1] + 1) + 1
    old, new = graph.tensors[op.inputs[2]], bias
    assert old.quantization is not None
    assert new.quantization is not None
    assert old.data is not None
    assert new.data is not None
    before, now = old.data * old.quantization.scale.astype(float), new.data * float(new.quantization.scale[0])
    assert np.abs(before - now).max() <= 0.51 * float(new.quantization.scale[0])


def test_a_concatenation_of_many_becomes_a_tree() -> None:
    q = Quantization.per_tensor(0.1, 3)
    tensors = [*(Tensor(f"x{i}", (1, 2), "int8", None, q) for i in range(11)), Tensor("y", (11, 2), "int8", None, q)]
    options = {"axis": 0, "fusedActivationFunction": "NONE"}
    graph = Graph(tuple(tensors), (Op("CONCATENATION", tuple(range(11)), (11,), options, 2),), tuple(range(11)), (11,))
    with pytest.raises(InterpreterError, match="kMaxInputNum"):
        TFLiteMicro(graph)
    after = fixed(graph, load("tflm"), "joined-in-tree")
    assert difference(graph, after, reference, TFLiteMicro) == 0


def test_every_fix_is_tested_and_says_how_exact_it_is() -> None:
    text = Path(__file__).read_text() + Path(__file__).with_name("test_plugin.py").read_text()
    assert all(f'"{name}"' in text for name in FIXES)
    assert all(fixing.bound and fixing.sentence for fixing in FIXES.values())


def test_nothing_to_fix_leaves_the_graph_as_it_is() -> None:
    graph = integer_cases(8)["CONV_2D/1x1"]
    for name in names():
        after, message = fix(graph, load(name))
        assert message == ()
        assert after is graph


def test_a_profile_with_a_limit_of_its_own_is_fixed_too() -> None:
    graph = integer_cases(8)["FULLY_CONNECTED/RELU"]
    assert named(graph, limited(per_tensor_dense=True)) == {"per-tensor"}
    found: Mapping[str, Any] = limited(per_tensor_dense=True).limits
    assert fix(graph, limited(**found))[1] != ()


@pytest.mark.parametrize("name", ["both axes", "height"])
def test_padding_that_xnnpack_misreads_is_written_out(name: str) -> None:
    graph = integer(convolution("CONV_2D", *WRONG[name]))
    (found,) = check(graph, load("tflite"))
    assert (found.rule, found.severity, found.fix) == ("misread", "error", "same-written-out")
    after = fixed(graph, load("tflite"), "same-written-out")
    assert check(after, load("tflite")) == ()
    assert difference(graph, after) == 0
