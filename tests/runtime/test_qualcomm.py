from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.converters.tools import find
from edgeqwt.errors import InputError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Quantization
from edgeqwt.runtime.htp import Job, simulate
from edgeqwt.runtime.qualcomm import LPAI, Toolchain, compile_model, empty_library, located
from edgeqwt.runtime.vendors import VENDORS, sdk_of
from edgeqwt.target.plugin import outputs_of
from tests.chain import NONE, Chain, noise
from tests.one_op import lowered
from tests.one_op_specs import case

SOC = "SM8650"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return located(find("qualcomm").python)


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="an ELF library for x86-64 Linux")
def test_the_loader_takes_the_empty_library(tmp_path: Path) -> None:
    (tmp_path / LPAI).write_bytes(empty_library(LPAI))
    library = ctypes.CDLL(str(tmp_path / LPAI))
    with pytest.raises(AttributeError, match="undefined symbol"):
        _ = library.QnnInterface_getProviders


def test_an_environment_without_the_packages_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        located(sys.executable)
    assert "onnxruntime-qnn" in caught.value.hint


def test_an_sdk_is_found_below_the_folder_that_a_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = VENDORS["Qualcomm"]
    assert sdk_of(vendor) is None
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with pytest.raises(InputError, match=r"QNN_SDK_ROOT: .* has no libQnnHtp\.so") as caught:
        sdk_of(vendor)
    assert "lib/x86_64-linux-clang" in caught.value.hint
    (tmp_path / "lib" / "x86_64-linux-clang").mkdir(parents=True)
    (tmp_path / "lib" / "x86_64-linux-clang" / "libQnnHtp.so").touch()
    assert sdk_of(vendor) == (tmp_path / "lib" / "x86_64-linux-clang", "QNN_SDK_ROOT")


def integer(name: str) -> Graph:
    return lowered(case(name).graph, case(name).samples).graph


@pytest.mark.tool("qualcomm")
def test_a_taken_op_becomes_a_partition(toolchain: Toolchain) -> None:
    graph = integer("CONV_2D/3x3-RELU")
    found = compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", SOC, toolchain)
    assert (found.ops, found.partitions, found.left) == (1, 1, ())
    assert SOC.encode() in found.log.encode()
    assert b"DISPATCH_OP" in found.model


@pytest.mark.tool("qualcomm")
def test_the_users_own_sdk_compiles_alike_and_simulates_nothing(toolchain: Toolchain, tmp_path: Path) -> None:
    for folder in toolchain.libraries:
        for path in folder.glob("*.so*"):
            (tmp_path / path.name).symlink_to(path)
    own = replace(located(toolchain.python, tmp_path), simulation=())
    assert own.libraries == (tmp_path,)
    graph = integer("CONV_2D/3x3-RELU")
    packaged, found = (
        compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", SOC, where)
        for where in (toolchain, own)
    )
    assert found.model == packaged.model
    with pytest.raises(ToolError) as caught:
        simulate([], SOC, own)
    assert "edgeqwt tools install qualcomm" in caught.value.hint


@pytest.mark.tool("qualcomm")
def test_a_refused_op_is_named(toolchain: Toolchain) -> None:
    graph = integer("LOG_SOFTMAX/plain")
    found = compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", SOC, toolchain)
    assert (found.model, found.partitions) == (b"", 0)
    assert [(left.op, left.kind) for left in found.left] == [(0, "LOG_SOFTMAX")]
    assert "Failed to validate" in found.reasons[0]


@pytest.mark.tool("qualcomm")
def test_an_unknown_chip_is_an_error(toolchain: Toolchain) -> None:
    graph = integer("CONV_2D/1x1")
    with pytest.raises(ToolError):
        compile_model(flatbuffer.to_bytes(graph), outputs_of(graph), "Qualcomm", "SM1", toolchain)


@pytest.mark.tool("qualcomm")
@pytest.mark.requires("onnx")
def test_the_simulation_tells_what_it_refuses_and_runs_the_rest(toolchain: Toolchain) -> None:
    from edgeqwt.onnx_qdq.emitters import to_onnx

    low = lowered(case("GELU/image").graph, case("GELU/image").samples)
    feeds = [{low.graph.tensors[t].name: values[t] for t in low.graph.inputs} for values in low.inputs]
    first, second = simulate([Job(to_onnx(low.graph), feeds), Job(b"nothing", feeds)], SOC, toolchain)
    assert first.refused == ""
    assert [len(outs) for outs in first.outputs] == [1] * len(feeds)
    assert second.refused


@pytest.mark.tool("qualcomm")
@pytest.mark.requires("onnx")
def test_equal_constants_of_one_element_may_mean_other_things(toolchain: Toolchain) -> None:
    """A bias of zero and an index of zero: made one by onnxruntime, they would have a scale, and none."""
    from edgeqwt.onnx_qdq.emitters import to_onnx

    chain = Chain()
    numbers, x = chain.input((1, 4), dtype="int32"), chain.input((4, 8))
    smaller = chain.op("ADD", numbers, chain.constant(np.zeros(1, np.int32)), shape=(1, 4), dtype="int32", **NONE)
    weights, bias = chain.constant(noise(1, 8)), chain.constant(np.zeros(1))
    y = chain.op("FULLY_CONNECTED", x, weights, bias, shape=(4, 1), keepNumDims=False, **NONE)
    samples = [{numbers: np.full((1, 4), k, np.int32), x: noise(4, 8, seed=k)} for k in range(4)]
    low = lowered(chain.graph(smaller, y), samples)
    scales = {t: low.graph.tensors[t].quantization for t in low.graph.ops[-1].inputs[1:]}
    one = {t: replace(low.graph.tensors[t], quantization=per_tensor(q)) for t, q in scales.items() if q is not None}
    graph = low.graph.with_tensors(one)
    feeds = [{graph.tensors[t].name: values[t] for t in graph.inputs} for values in low.inputs]
    [found] = simulate([Job(to_onnx(graph), feeds)], SOC, toolchain)
    assert found.refused == ""


def per_tensor(q: Quantization) -> Quantization:
    return Quantization.per_tensor(float(q.scale[0]), 0)
